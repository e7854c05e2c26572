/* W3: from one process to another that waits. */
#ifndef BENCH_HANDOFF_H_
#define BENCH_HANDOFF_H_

#include "bench.h"

/* W3: from just before seal to the first byte in a consumer that sleeps in its get. The payload is there before. */

typedef struct { uint64_t created, asking, done, stamp; } handoff;

/* `other` is the child that will write the word, 0 when it is the parent, with which this process ends anyway. */
static void wait_until(uint64_t *word, uint64_t value, pid_t other) {
  while (__atomic_load_n(word, __ATOMIC_ACQUIRE) < value) {
    if (other != 0 && waitpid(other, NULL, WNOHANG) != 0) die("the consumer has ended");
    usleep(50);
  }
}

static void consume(const options *o, parent p, void *context) {
  (void)p;
  handoff *shared = (handoff *)context;
  if (o->cross) pin(allowed_core(1));
  bench b = new_bench(o, 1);
  samples s = new_samples();
  for (uint64_t round = 1; round <= o->count; round++) {
    const object_id id = id_of(round);
    clear_holds(b.holds, 1);
    wait_until(&shared->created, round, 0);
    __atomic_store_n(&shared->asking, round, __ATOMIC_RELEASE);
    peer_get(b.client, &id, 1, b.holds);
    keep(*peer_data(b.holds));
    const uint64_t now = now_ns();
    if (round > o->count / 10) add_sample(&s, now - __atomic_load_n(&shared->stamp, __ATOMIC_ACQUIRE), 1);
    peer_release(b.client, &id, b.holds);
    __atomic_store_n(&shared->done, round, __ATOMIC_RELEASE);
  }
  print_samples("handoff", &s);
  peer_disconnect(b.client);
}

static void work_handoff(const options *o) {
  handoff *shared = (handoff *)shared_page();
  if (o->cross && allowed_core(1) < 0) die("there is only one core");
  child consumer = spawn(consume, o, shared);
  if (o->cross) pin(allowed_core(0));
  bench b = new_bench(o, 1);
  for (uint64_t round = 1; round <= o->count; round++) {
    const object_id id = id_of(round);
    clear_holds(b.holds, 1);
    memset(peer_create(b.client, &id, o->size, b.holds), (int)round, o->size);
    __atomic_store_n(&shared->created, round, __ATOMIC_RELEASE);
    wait_until(&shared->asking, round, consumer.pid);
    usleep(500); /* by then the consumer sleeps */
    __atomic_store_n(&shared->stamp, now_ns(), __ATOMIC_RELEASE);
    peer_seal(b.client, &id, b.holds);
    wait_until(&shared->done, round, round < o->count ? consumer.pid : 0);
    peer_release(b.client, &id, b.holds);
    peer_delete(b.client, &id);
  }
  peer_disconnect(b.client);
  join(consumer);
}

#endif
