// The floor of rings: two counters and slots in shared memory, for one producer and one consumer. Nobody is found dead, nothing
// is checked, and with `waits` off nobody even looks whether the other has been there: then it is memory that two share.
#pragma once

#include <emmintrin.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <climits>
#include <cstdint>
#include <stdexcept>
#include <string>

namespace floor_store {

class Ring {
 public:
  // Opens the file, or makes it. Everyone must name the same numbers.
  Ring(const std::string& path, std::uint64_t slots, std::uint64_t size, bool waits)
      : slots_(slots), stride_((size + 63) / 64 * 64), waits_(waits) {
    const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) throw std::runtime_error("cannot open the floor's ring");
    const std::uint64_t bytes = sizeof(Counters) + slots_ * stride_;
    const bool sized = ftruncate(fd, static_cast<off_t>(bytes)) == 0;
    void* memory = sized ? mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0) : MAP_FAILED;
    close(fd);
    if (memory == MAP_FAILED) throw std::runtime_error("cannot map the floor's ring");
    counters_ = static_cast<Counters*>(memory);
    data_ = reinterpret_cast<std::uint8_t*>(counters_ + 1);
  }
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  // Begins with another slot than the first.
  void skip(std::uint64_t slots) { mine_ += slots; }

  std::uint8_t* acquire() {
    for (int looks = 1; waits_ && mine_ - seen_ == slots_; looks++) {
      seen_ = counters_->released.load(std::memory_order_acquire);
      rest(looks);
    }
    return data_ + mine_ % slots_ * stride_;
  }

  void publish() {
    counters_->published.store(++mine_, std::memory_order_seq_cst);
    if (counters_->sleepers.load(std::memory_order_seq_cst) != 0) futex(FUTEX_WAKE, INT_MAX);
  }

  // Null while there is nothing.
  const std::uint8_t* try_take() {
    if (waits_ && mine_ == seen_) seen_ = counters_->published.load(std::memory_order_acquire);
    return waits_ && mine_ == seen_ ? nullptr : data_ + mine_ % slots_ * stride_;
  }

  const std::uint8_t* take() {
    for (int looks = 1;; looks++) {
      if (const std::uint8_t* found = try_take()) return found;
      if (looks % kLooks != 0) {
        _mm_pause();
        continue;
      }
      counters_->sleepers.fetch_add(1, std::memory_order_seq_cst);
      if (counters_->published.load(std::memory_order_seq_cst) == mine_) futex(FUTEX_WAIT, static_cast<std::uint32_t>(mine_));
      counters_->sleepers.fetch_sub(1, std::memory_order_relaxed);
    }
  }

  void release() { counters_->released.store(++mine_, std::memory_order_release); }

 private:
  struct Counters {
    alignas(64) std::atomic<std::uint64_t> published;  // its low half, which comes first, is the word to sleep on
    alignas(64) std::atomic<std::uint64_t> released;
    alignas(64) std::atomic<std::uint32_t> sleepers;
  };
  static constexpr int kLooks = 100;

  // Where two have one core, the other must come to run.
  static void rest(int looks) { looks % kLooks == 0 ? static_cast<void>(sched_yield()) : _mm_pause(); }

  void futex(int call, std::uint32_t value) { syscall(SYS_futex, &counters_->published, call, value, nullptr, nullptr, 0); }

  std::uint64_t slots_, stride_;
  bool waits_;
  Counters* counters_ = nullptr;
  std::uint8_t* data_ = nullptr;
  std::uint64_t mine_ = 0, seen_ = 0;  // how many this end has done, and the other when it was last looked at
};

}  // namespace floor_store
