// Plasma 11: the C++ client in the wheel of pyarrow 11. It talks to Plasma's daemon or to ours, as `where` says.
#include <plasma/client.h>

#include <cstdint>
#include <cstring>

#include "measure.h"

namespace {

using peer = plasma::PlasmaClient;
using held = plasma::ObjectBuffer;

void check(const arrow::Status& status, const char* call) {
  if (!status.ok()) die("%s: %s", call, status.ToString().c_str());
}

plasma::ObjectID theirs(const object_id& id) {
  plasma::ObjectID out;
  std::memcpy(out.mutable_data(), id.bytes, sizeof id.bytes);
  return out;
}

peer* peer_connect(const options* o) {
  auto* client = new peer;
  check(client->Connect(o->where, "", 0, 10), "Connect");
  return client;
}

void peer_disconnect(peer* client) {
  check(client->Disconnect(), "Disconnect");
  delete client;
}

std::uint8_t* peer_create(peer* client, const object_id* id, std::uint64_t size, held* out) {
  check(client->Create(theirs(*id), static_cast<std::int64_t>(size), nullptr, 0, &out->data), "Create");
  return out->data->mutable_data();
}

void peer_copy(held*, std::uint8_t* to, const std::uint8_t* from, std::uint64_t size) { std::memcpy(to, from, size); }

void peer_seal(peer* client, const object_id* id, held*) { check(client->Seal(theirs(*id)), "Seal"); }

// The variant that takes an array does not release by itself; without a release the next get would be a look into a map.
void peer_get(peer* client, const object_id* ids, std::size_t count, held* out) {
  static_assert(sizeof(object_id) == sizeof(plasma::ObjectID));
  const auto* objects = reinterpret_cast<const plasma::ObjectID*>(ids);
  check(client->Get(objects, static_cast<std::int64_t>(count), -1, out), "Get");
}

const std::uint8_t* peer_data(const held* hold) { return hold->data->data(); }

void peer_release(peer* client, const object_id* id, held* hold) {
  *hold = held();
  check(client->Release(theirs(*id)), "Release");
}

void peer_delete(peer* client, const object_id* id) { check(client->Delete(theirs(*id)), "Delete"); }

#define PEER_CAN_EVICT
std::uint64_t peer_evict(peer* client, std::uint64_t bytes) {
  std::int64_t evicted = 0;
  check(client->Evict(static_cast<std::int64_t>(bytes), evicted), "Evict");
  return static_cast<std::uint64_t>(evicted);
}

}  // namespace

#include "workloads.h"
