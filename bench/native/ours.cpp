// plasma_store from C++17: the same header, with handles that release themselves, as in demo/digits_store.cpp.
#include <plasma_store.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "measure.h"

namespace {

struct Release {
  void operator()(plasma_client* client) const { plasma_client_free(client); }
  void operator()(plasma_buffer* buffer) const { plasma_buffer_release(buffer); }
};
using Client = std::unique_ptr<plasma_client, Release>;
using Buffer = std::unique_ptr<plasma_buffer, Release>;

struct peer {
  Client client;
};
using held = Buffer;

void check(plasma_status status, const char* call) {
  if (status != PLASMA_OK) die("%s: %s (%s)", call, plasma_last_error_message(), plasma_status_string(status));
}

plasma_object_id ours(const object_id& id) {
  plasma_object_id out;
  std::memcpy(out.bytes, id.bytes, sizeof out.bytes);
  return out;
}

peer* peer_connect(const options* o) {
  plasma_client* client = nullptr;
  check(plasma_connect(o->where, nullptr, &client), "plasma_connect");
  return new peer{Client(client)};
}

void peer_disconnect(peer* p) { delete p; }

std::uint8_t* peer_create(peer* p, const object_id* id, std::uint64_t size, held* out) {
  const plasma_object_id object = ours(*id);
  plasma_buffer* buffer = nullptr;
  check(plasma_create(p->client.get(), &object, size, nullptr, 0, nullptr, &buffer), "plasma_create");
  out->reset(buffer);
  return plasma_buffer_mutable_data(buffer);
}

// In place, as a program may fill its objects; the C face has the library's copy.
void peer_copy(held*, std::uint8_t* to, const std::uint8_t* from, std::uint64_t size) { std::memcpy(to, from, size); }

void peer_seal(peer* p, const object_id* id, held*) {
  const plasma_object_id object = ours(*id);
  check(plasma_seal(p->client.get(), &object), "plasma_seal");
}

void peer_get(peer* p, const object_id* ids, std::size_t count, held* out) {
  static_assert(sizeof(object_id) == sizeof(plasma_object_id));
  const auto* objects = reinterpret_cast<const plasma_object_id*>(ids);
  static std::vector<plasma_buffer*> buffers;  // one that grows once, as a program would keep it
  buffers.resize(count);
  check(plasma_get(p->client.get(), objects, count, -1, nullptr, buffers.data()), "plasma_get");
  for (std::size_t i = 0; i < count; i++) out[i].reset(buffers[i]);
}

const std::uint8_t* peer_data(const held* hold) { return plasma_buffer_data(hold->get()); }

void peer_release(peer*, const object_id*, held* hold) { hold->reset(); }

void peer_delete(peer* p, const object_id* id) {
  const plasma_object_id object = ours(*id);
  check(plasma_delete(p->client.get(), &object, 1, nullptr), "plasma_delete");
}

}  // namespace

#include "workloads.h"
