/* SHARED: a store to one element of an array until another sees it, and its answer in another element of the same cache line. */
#ifndef BENCH_SHARED_H_
#define BENCH_SHARED_H_

#include "ring.h"

#ifdef PEER_HAS_SHARED_ARRAYS

static void await_element(const uint64_t *element, uint64_t value) {
  while (__atomic_load_n(element, __ATOMIC_ACQUIRE) < value) continue;
}

static void echo_elements(uint64_t *elements) {
  pin(allowed_core(1));
  for (uint64_t round = 1;; round++) {
    await_element(&elements[0], round);
    __atomic_store_n(&elements[1], round, __ATOMIC_RELEASE);
  }
}

static uint64_t timed_elements(void *context, uint64_t times) {
  uint64_t *elements = (uint64_t *)context;
  const uint64_t first = elements[0] + 1, begin = now_ns();
  for (uint64_t i = 0; i < times; i++) {
    __atomic_store_n(&elements[0], first + i, __ATOMIC_RELEASE);
    await_element(&elements[1], first + i);
  }
  return (now_ns() - begin) / 2;
}

#ifdef PEER_SHARES_WITH_A_THREAD
static void *echo_in_thread(void *elements) {
  echo_elements((uint64_t *)elements);
  return NULL;
}

/* It ends with the process. */
static void work_shared_element(const options *o) {
  if (allowed_core(1) < 0) die("there is only one core");
  uint64_t *elements = peer_elements_make(peer_connect(o));
  pthread_t other;
  const int core = allowed_core(0);
  if (pthread_create(&other, NULL, echo_in_thread, elements) != 0) die("no thread");
  pin(core);
  measure("seen", o, timed_elements, elements, 1000);
}
#else
static void echo_in_process(const options *o, parent p, void *context) {
  (void)context;
  receive_word(p.from_parent);
  uint64_t *elements = peer_elements_open(peer_connect(o));
  send_word(p.to_parent, 1);
  echo_elements(elements);
}

static void work_shared_element(const options *o) {
  if (allowed_core(1) < 0) die("there is only one core");
  child other = spawn(echo_in_process, o, NULL);
  pin(allowed_core(0));
  uint64_t *elements = peer_elements_make(peer_connect(o));
  let_in(other);
  measure("seen", o, timed_elements, elements, 1000);
  end(other);
}
#endif

#endif
#endif
