// What the machine itself can do: copies, page faults, wakes, atomics; and `probe`, the state that it is in now.
// Two threads or processes run on the first two cores that this program may use, where two are needed.
#include <emmintrin.h>
#include <linux/futex.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <atomic>
#include <functional>
#include <string>

#include "processes.h"

namespace {

// Measures an operation.
template <class Operation>
void time_of(const char* metric, const options* o, const Operation& operation) {
  const auto loop = [](void* context, std::uint64_t times) {
    const auto& one = *static_cast<const Operation*>(context);
    const std::uint64_t begin = now_ns();
    for (std::uint64_t i = 0; i < times; i++) one();
    return now_ns() - begin;
  };
  measure(metric, o, loop, const_cast<Operation*>(&operation), 10000);
}

std::uint8_t* map_shared(std::uint64_t size, int fd) {
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | (fd < 0 ? MAP_ANONYMOUS : 0), fd, 0);
  if (memory == MAP_FAILED) die("cannot map %" PRIu64 " bytes", size);
  return static_cast<std::uint8_t*>(memory);
}

void stream(std::uint8_t* to, const std::uint8_t* from, std::uint64_t size) {
  auto* target = reinterpret_cast<__m128i*>(to);
  const auto* source = reinterpret_cast<const __m128i*>(from);
  for (std::uint64_t i = 0; i < size / 16; i++) _mm_stream_si128(target + i, _mm_load_si128(source + i));
  _mm_sfence();
}

// Copies by one core into shared memory whose pages were written before.
void work_copy(const options* o) {
  std::uint8_t* from = map_shared(o->size, -1);
  std::uint8_t* to = map_shared(o->size, -1);
  memset(from, 1, o->size);
  memset(to, 2, o->size);
  time_of("memcpy", o, [&] { memcpy(to, from, o->size), keep(to[o->size - 1]); });
  time_of("non-temporal copy", o, [&] { stream(to, from, o->size), keep(to[o->size - 1]); });
}

void touch(std::uint8_t* memory, std::uint64_t size, bool write) {
  for (std::uint64_t i = 0; i < size; i += 4096) {
    if (write) memory[i] = 1;
    else keep(*static_cast<volatile std::uint8_t*>(memory + i));
  }
}

// Per page of 4 KiB: fresh shared memory that is written, and memory that is there but new to this process's tables.
void work_faults(const options* o) {
  samples fresh = new_samples(), existing = new_samples();
  fresh.batch = existing.batch = o->size / 4096;
  const std::uint64_t end = now_ns() + o->budget_ns;
  while (fresh.count < 5 || now_ns() < end) {
    const int fd = memfd_create("limits", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, static_cast<off_t>(o->size)) != 0) die("no memory file");
    std::uint8_t* memory = map_shared(o->size, fd);
    std::uint64_t begin = now_ns();
    touch(memory, o->size, true);
    add_sample(&fresh, now_ns() - begin, fresh.batch);
    munmap(memory, o->size);
    memory = map_shared(o->size, fd);
    begin = now_ns();
    touch(memory, o->size, false);
    add_sample(&existing, now_ns() - begin, existing.batch);
    munmap(memory, o->size);
    close(fd);
  }
  print_samples("fault, fresh page", &fresh);
  print_samples("fault, existing page", &existing);
}

struct Words {
  alignas(64) std::atomic<std::uint32_t> ping;
  alignas(64) std::atomic<std::uint32_t> pong;
};

long futex(std::atomic<std::uint32_t>* word, int call, std::uint32_t value) {
  return syscall(SYS_futex, word, call, value, nullptr, nullptr, 0);
}

void tell(std::atomic<std::uint32_t>& word, std::uint32_t round) {
  word.store(round);
  futex(&word, FUTEX_WAKE, 1);
}

void sleep_until(std::atomic<std::uint32_t>& word, std::uint32_t round) {
  for (std::uint32_t seen; (seen = word.load()) < round;) futex(&word, FUTEX_WAIT, seen);
}

void spin_until(std::atomic<std::uint32_t>& word, std::uint32_t round) {
  while (word.load(std::memory_order_acquire) < round) {
  }
}

// Plays rounds with an echo in another process; the echo has the same kind of descriptor or word.
struct Pair {
  const char* metric;
  std::function<void(std::uint32_t)> ping, echo;
};

void print_round_trip(const options* o, const Pair& pair, int first, int second) {
  const auto role = [](const options* all, parent, void* context) {
    const auto& echo = *static_cast<const std::function<void(std::uint32_t)>*>(context);
    for (std::uint32_t round = 1; round <= all->count; round++) echo(round);
  };
  pin(second);  // the echo keeps what it was started with
  const child other = spawn(role, o, const_cast<std::function<void(std::uint32_t)>*>(&pair.echo));
  pin(first);
  samples s = new_samples();
  for (std::uint32_t round = 1; round <= o->count; round++) {
    const std::uint64_t begin = now_ns();
    pair.ping(round);
    if (round > o->count / 10) add_sample(&s, now_ns() - begin, 1);
  }
  join(other);
  print_samples(pair.metric, &s);
}

void exchange(int to, int from, std::size_t size, bool first) {
  std::uint8_t message[64] = {};
  const std::uint64_t one = 1;
  memcpy(message, &one, sizeof one);
  if (first && write(to, message, size) != static_cast<ssize_t>(size)) die("cannot write");
  if (read(from, message, size) != static_cast<ssize_t>(size)) die("cannot read");
  if (!first && write(to, message, size) != static_cast<ssize_t>(size)) die("cannot write");
}

void work_round_trips(const options* o) {
  auto* words = static_cast<Words*>(shared_page());
  int sockets[2];
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) != 0) die("no sockets");
  const int there = eventfd(0, 0), back = eventfd(0, 0);
  const int first = allowed_core(0), second = o->cross ? allowed_core(1) : first;
  if (second < 0) die("there is only one core");
  print_round_trip(o, {"round trip by futex", [=](std::uint32_t r) { tell(words->ping, r), sleep_until(words->pong, r); },
                       [=](std::uint32_t r) { sleep_until(words->ping, r), tell(words->pong, r); }}, first, second);
  print_round_trip(o, {"round trip by eventfd", [=](std::uint32_t) { exchange(there, back, 8, true); },
                       [=](std::uint32_t) { exchange(back, there, 8, false); }}, first, second);
  print_round_trip(o, {"round trip by socket, 64 bytes", [=](std::uint32_t) { exchange(sockets[0], sockets[0], 64, true); },
                       [=](std::uint32_t) { exchange(sockets[1], sockets[1], 64, false); }}, first, second);
}

void work_atomics(const options* o) {
  std::atomic<std::uint64_t> word{0};
  volatile std::uint64_t plain = 0;
  time_of("atomic add", o, [&] { word.fetch_add(1, std::memory_order_relaxed); });
  time_of("atomic compare and swap", o, [&] {
    std::uint64_t seen = word.load(std::memory_order_relaxed);
    word.compare_exchange_strong(seen, seen + 1);
  });
  time_of("plain load and store", o, [&] { plain = plain + 1; });
  time_of("clock_gettime", o, [&] { keep(now_ns()); });
  time_of("system call", o, [&] { syscall(SYS_getppid); });
  std::atomic<std::uint32_t> nobody{0};
  time_of("futex wake, nobody waits", o, [&] { futex(&nobody, FUTEX_WAKE, 1); });
}

// The state of the machine: how long a cache line takes to the other core and back, while both spin, for 100 ms at most.
void work_probe(const options*) {
  const int first = allowed_core(0), second = allowed_core(1);
  if (second < 0) die("there is only one core");
  auto* words = static_cast<Words*>(shared_page());
  constexpr std::uint32_t kRounds = 3000;
  const auto echo = [](const options*, parent, void* context) {
    auto* w = static_cast<Words*>(context);
    for (std::uint32_t round = 1; round <= kRounds; round++) spin_until(w->ping, round), w->pong.store(round);
  };
  pin(second);
  const child other = spawn(echo, nullptr, words);
  pin(first);
  samples s = new_samples();
  const std::uint64_t end = now_ns() + 100000000;
  std::uint32_t round = 1;
  for (; round <= kRounds && now_ns() < end; round++) {
    const std::uint64_t begin = now_ns();
    words->ping.store(round);
    spin_until(words->pong, round);
    add_sample(&s, now_ns() - begin, 1);
  }
  words->ping.store(kRounds);  // where time ran out, the echo runs through
  join(other);
  print_samples("cache line", &s);
}

}  // namespace

int main(int count, char** words) {
  const options o = read_options(count, words);
  const std::string work = o.work;
  if (work == "copy") work_copy(&o);
  else if (work == "faults") work_faults(&o);
  else if (work == "round_trips") work_round_trips(&o);
  else if (work == "atomics") work_atomics(&o);
  else if (work == "probe") work_probe(&o);
  else die("no such work: %s", o.work);
  return 0;
}
