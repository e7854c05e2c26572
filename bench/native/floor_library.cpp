// The floor as a C library, for the Python program that calls it by ctypes.
#include "floor.hpp"

using floor_store::Slot;
using floor_store::Store;

extern "C" {

Store* floor_open(const char* path, std::uint64_t capacity, std::uint64_t objects) {
  return new Store(path, capacity, objects);
}

void floor_put(Store* store, const std::uint8_t* id, const std::uint8_t* data, std::uint64_t size) {
  Slot* slot = store->create(id, size);
  Store::copy(store->data(slot), data, size);
  store->seal(slot);
  store->release(slot);
}

// Gets an object: its address, and in `hold` what floor_release wants.
std::uint8_t* floor_get(Store* store, const std::uint8_t* id, Slot** hold) {
  *hold = store->get(id);
  return store->data(*hold);
}

void floor_release(Store* store, Slot* hold) { store->release(hold); }

void floor_delete(Store* store, const std::uint8_t* id) { store->remove(id); }
}
