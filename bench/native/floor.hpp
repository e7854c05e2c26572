// The floor: an index and a heap in shared memory, and nothing else. No daemon, no protection, no recovery when somebody
// dies, one lock round create and delete. It does the loads and stores that any store must do, so it is a lower bound for
// a store, and none that anybody should use.
#pragma once

#include <emmintrin.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <climits>
#include <cstdint>
#include <cstring>
#include <stdexcept>

namespace floor_store {

constexpr std::uint64_t kStreamFrom = 8u << 20;  // from this size on a copy does not fill the cache

enum State : std::uint32_t { kEmpty, kGone, kCreated, kSealed };

struct alignas(64) Slot {
  std::uint8_t id[20];
  std::atomic<std::uint32_t> state;  // also the word that waiting consumers sleep on
  std::atomic<std::uint32_t> waiting;
  std::atomic<std::uint32_t> holds;
  std::uint64_t offset, size;
};
static_assert(sizeof(Slot) == 64);

struct alignas(64) Header {
  std::atomic<std::uint32_t> lock;
  std::uint64_t used;         // bytes of the heap that were ever handed out
  std::uint64_t free_of[48];  // by power of two: offset of the first free block, which holds the offset of the next
};

class Store {
 public:
  // Opens the file, or makes it: whoever comes first. Everyone must name the same numbers.
  Store(const char* path, std::uint64_t capacity, std::uint64_t objects) {
    const int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) throw std::runtime_error("cannot open the floor's file");
    while (slot_count_ < 2 * objects) slot_count_ *= 2;
    bytes_ = sizeof(Header) + slot_count_ * sizeof(Slot) + 2 * capacity;
    const bool sized = ftruncate(fd, static_cast<off_t>(bytes_)) == 0;
    void* memory = sized ? mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
    close(fd);
    if (memory == MAP_FAILED) throw std::runtime_error("cannot map the floor's file");
    header_ = static_cast<Header*>(memory);
    slots_ = reinterpret_cast<Slot*>(header_ + 1);
    heap_ = reinterpret_cast<std::uint8_t*>(slots_ + slot_count_);
  }
  ~Store() { munmap(header_, bytes_); }
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  Slot* create(const std::uint8_t* id, std::uint64_t size) {
    const Guard guard(header_->lock);
    Slot* slot = slots_ + hash(id);
    while (slot->state.load(std::memory_order_relaxed) > kGone) slot = next(slot);
    std::memcpy(slot->id, id, sizeof slot->id);
    slot->size = size;
    slot->offset = allocate(size);
    slot->holds.store(1, std::memory_order_relaxed);
    slot->state.store(kCreated, std::memory_order_release);
    return slot;
  }

  void seal(Slot* slot) {
    slot->state.store(kSealed, std::memory_order_seq_cst);
    if (slot->waiting.load(std::memory_order_seq_cst) != 0) futex(slot, FUTEX_WAKE, INT_MAX);
  }

  // The object must have been created. Waits until it is sealed.
  Slot* get(const std::uint8_t* id) {
    Slot* slot = find(id);
    if (slot->state.load(std::memory_order_acquire) != kSealed) wait(slot);
    slot->holds.fetch_add(1, std::memory_order_relaxed);
    return slot;
  }

  void release(Slot* slot) { slot->holds.fetch_sub(1, std::memory_order_release); }

  void remove(const std::uint8_t* id) {
    const Guard guard(header_->lock);
    Slot* slot = find(id);
    free(slot->offset, slot->size);
    const bool last = next(slot)->state.load(std::memory_order_relaxed) == kEmpty;
    slot->state.store(last ? kEmpty : kGone, std::memory_order_relaxed);
  }

  std::uint8_t* data(const Slot* slot) const { return heap_ + slot->offset; }

  static void copy(std::uint8_t* to, const std::uint8_t* from, std::uint64_t size) {
    if (size < kStreamFrom) {
      std::memcpy(to, from, size);
      return;
    }
    const auto* source = reinterpret_cast<const __m128i*>(from);
    auto* target = reinterpret_cast<__m128i*>(to);  // objects begin at multiples of 64
    for (std::uint64_t i = 0; i < size / 16; i++) _mm_stream_si128(target + i, _mm_loadu_si128(source + i));
    _mm_sfence();
    std::memcpy(to + size / 16 * 16, from + size / 16 * 16, size % 16);
  }

 private:
  struct Guard {
    explicit Guard(std::atomic<std::uint32_t>& word) : lock(word) {
      while (lock.exchange(1, std::memory_order_acquire) != 0)
        while (lock.load(std::memory_order_relaxed) != 0) _mm_pause();
    }
    ~Guard() { lock.store(0, std::memory_order_release); }
    std::atomic<std::uint32_t>& lock;
  };

  static long futex(Slot* slot, int call, std::uint32_t value) {
    return syscall(SYS_futex, &slot->state, call, value, nullptr, nullptr, 0);
  }

  static void wait(Slot* slot) {
    slot->waiting.fetch_add(1, std::memory_order_seq_cst);
    while (slot->state.load(std::memory_order_seq_cst) == kCreated) futex(slot, FUTEX_WAIT, kCreated);
    slot->waiting.fetch_sub(1, std::memory_order_relaxed);
  }

  std::uint64_t hash(const std::uint8_t* id) const {
    std::uint64_t word;
    std::memcpy(&word, id, sizeof word);
    return word & (slot_count_ - 1);
  }

  Slot* next(Slot* slot) const { return slot + 1 == slots_ + slot_count_ ? slots_ : slot + 1; }

  Slot* find(const std::uint8_t* id) const {
    Slot* slot = slots_ + hash(id);
    for (;; slot = next(slot)) {
      const std::uint32_t state = slot->state.load(std::memory_order_acquire);
      if (state > kGone && std::memcmp(slot->id, id, sizeof slot->id) == 0) return slot;
      if (state == kEmpty) throw std::runtime_error("the floor has no such object");
    }
  }

  static int power_of(std::uint64_t size) { return size <= 64 ? 6 : 64 - __builtin_clzll(size - 1); }

  std::uint64_t allocate(std::uint64_t size) {
    const int power = power_of(size);
    std::uint64_t& first = header_->free_of[power];
    if (first != 0) {
      const std::uint64_t offset = first;
      std::memcpy(&first, heap_ + offset, sizeof first);
      return offset;
    }
    if (header_->used == 0) header_->used = 64;  // offset 0 ends a list of free blocks
    const std::uint64_t offset = header_->used;
    header_->used += std::uint64_t{1} << power;
    const std::uint8_t* end = reinterpret_cast<std::uint8_t*>(header_) + bytes_;
    if (heap_ + header_->used > end) throw std::runtime_error("the floor is full");
    return offset;
  }

  void free(std::uint64_t offset, std::uint64_t size) {
    std::uint64_t& first = header_->free_of[power_of(size)];
    std::memcpy(heap_ + offset, &first, sizeof first);
    first = offset;
  }

  std::uint64_t slot_count_ = 64;  // a power of two, twice the objects or more
  std::uint64_t bytes_;
  Header* header_;
  Slot* slots_;
  std::uint8_t* heap_;
};

}  // namespace floor_store
