/* Eviction while others are connected. */
#ifndef BENCH_EVICT_H_
#define BENCH_EVICT_H_

#include "bench.h"

/* Eviction of one object with `clients` other connections, each of which has got, and holds, another object.
 * Many are evicted in one call, so that the trip to the store hardly counts. */
#ifdef PEER_CAN_EVICT
#define EVICTED 500

static void hold_one_each(const options *o, parent p, void *context) {
  (void)context;
  peer **clients = (peer **)allocate(o->clients, sizeof(peer *));
  held *holds = (held *)allocate(o->clients, sizeof(held));
  bench b = new_bench(o, 1);
  for (uint64_t i = 0; i < o->clients; i++) {
    const uint64_t number = ((uint64_t)1 << 40) + i;
    const object_id id = id_of(number);
    put_and_release(&b, number);
    clients[i] = peer_connect(o);
    peer_get(clients[i], &id, 1, &holds[i]);
  }
  send_word(p.to_parent, 1);
  wait_for_end(p);
}

static void work_evict(const options *o) {
  child others = spawn(hold_one_each, o, NULL);
  receive_word(others.from_child);
  bench b = new_bench(o, 1);
  samples s = new_samples();
  s.batch = EVICTED;
  for (uint64_t round = 0; round <= o->count; round++) {
    for (int i = 0; i < EVICTED; i++) put_and_release(&b, b.next++);
    const uint64_t begin = now_ns();
    const uint64_t bytes = peer_evict(b.client, EVICTED * o->size);
    const uint64_t ns = now_ns() - begin;
    if (bytes < EVICTED * o->size) die("%" PRIu64 " bytes were evicted, not %" PRIu64, bytes, EVICTED * o->size);
    if (round > 0) add_sample(&s, ns, bytes / o->size);
  }
  print_samples("evict", &s);
  peer_disconnect(b.client);
  join(others);
}
#endif

#endif
