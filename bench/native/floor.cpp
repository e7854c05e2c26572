// The floor under the same measurements as the stores. `where` is a file on tmpfs.
#include "floor.hpp"
#include "floor_ring.hpp"

#include <pthread.h>

#include "measure.h"

namespace {

using peer = floor_store::Store;
struct held {
  floor_store::Slot* slot;
  const std::uint8_t* data;
};

const options* told = nullptr;

peer* peer_connect(const options* o) { told = o; return new peer(o->where, o->capacity, o->objects); }

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

// Rings; `ring_throughput` is the floor of those that synchronise nothing.
#define PEER_HAS_RINGS
#define PEER_HAS_SHARED_ARRAYS
#define PEER_SHARES_WITH_A_THREAD
using peer_ring = floor_store::Ring;

bool peer_ring_is_synchronised(const peer_ring*) { return std::strcmp(told->work, "ring_throughput") != 0; }

peer_ring* peer_ring_open(peer*, std::uint64_t number) {
  const std::string path = std::string(told->where) + "-ring-" + std::to_string(number);
  return new peer_ring(path, told->slots, told->size, peer_ring_is_synchronised(nullptr));
}

// Who synchronises nothing is to fill one slot while another is read.
peer_ring* peer_ring_make(peer* store, std::uint64_t number) {
  peer_ring* ring = peer_ring_open(store, number);
  if (!peer_ring_is_synchronised(ring)) ring->skip(told->slots / 2);
  return ring;
}

std::uint8_t* peer_ring_acquire(peer_ring* ring) { return ring->acquire(); }

void peer_ring_publish(peer_ring* ring) { ring->publish(); }

const std::uint8_t* peer_ring_take(peer_ring* ring) { return ring->take(); }

const std::uint8_t* peer_ring_take_awake(peer_ring* ring) {
  const std::uint8_t* found;
  while ((found = ring->try_take()) == nullptr) _mm_pause();
  return found;
}

void peer_ring_release(peer_ring* ring) { ring->release(); }

void peer_ring_put_many(peer_ring* ring, const std::uint8_t* source, std::uint64_t count) {
  for (std::uint64_t i = 0; i < count; i++) std::memcpy(ring->acquire(), source + i * told->size, told->size), ring->publish();
}

std::uint64_t peer_ring_take_many(peer_ring* ring, std::uint8_t* out, std::uint64_t) {
  std::memcpy(out, ring->take(), told->size);
  ring->release();
  return 1;
}

std::uint64_t* peer_elements_make(peer*) {
  alignas(64) static std::uint64_t elements[8];
  return elements;
}

}  // namespace

#include "workloads.h"
