// The floor under the same measurements as the stores. `where` is a file on tmpfs.
#include "floor.hpp"

#include "measure.h"

namespace {

using peer = floor_store::Store;
struct held {
  floor_store::Slot* slot;
  const std::uint8_t* data;
};

peer* peer_connect(const options* o) { return new peer(o->where, o->capacity, o->objects); }

void peer_disconnect(peer* store) { delete store; }

std::uint8_t* peer_create(peer* store, const object_id* id, std::uint64_t size, held* out) {
  out->slot = store->create(id->bytes, size);
  return store->data(out->slot);
}

void peer_copy(held*, std::uint8_t* to, const std::uint8_t* from, std::uint64_t size) { peer::copy(to, from, size); }

void peer_seal(peer* store, const object_id*, held* hold) { store->seal(hold->slot); }

inline void peer_get(peer* store, const object_id* ids, std::size_t count, held* out) {
  for (std::size_t i = 0; i < count; i++) {
    out[i].slot = store->get(ids[i].bytes);
    out[i].data = store->data(out[i].slot);
  }
}

const std::uint8_t* peer_data(const held* hold) { return hold->data; }

void peer_release(peer* store, const object_id*, held* hold) { store->release(hold->slot); }

void peer_delete(peer* store, const object_id* id) { store->remove(id->bytes); }

}  // namespace

#include "workloads.h"
