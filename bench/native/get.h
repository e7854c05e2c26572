/* W2 and W4: getting objects that another process put. */
#ifndef BENCH_GET_H_
#define BENCH_GET_H_

#include "bench.h"

/* W2 and W4: the producer is another process, which keeps nothing. */

/* Ends the process when filling the store, `done` objects since `begin`, would take longer than it may. */
static void give_up_if_slow(const options *o, uint64_t begin, uint64_t done) {
  if (done % 1000 != 0) return;
  const double expected_s = (double)(now_ns() - begin) / 1e9 / (double)done * (double)o->count;
  if (expected_s > (double)o->fill_s)
    die("filling the store with %" PRIu64 " objects would take %.0f s; the limit is %" PRIu64, o->count, expected_s, o->fill_s);
}

/* Tells the parent when `count` objects are there. */
static void produce(const options *o, parent p, void *context) {
  (void)context;
  bench b = new_bench(o, 1);
  const uint64_t begin = now_ns();
  for (uint64_t i = 0; i < o->count; i++) {
    put_and_release(&b, i);
    give_up_if_slow(o, begin, i + 1);
  }
  send_word(p.to_parent, 1);
  wait_for_end(p);
  peer_disconnect(b.client);
}

static inline void get_touch_release(bench *b, const object_id *id) {
  held hold;
  clear_holds(&hold, 1);
  peer_get(b->client, id, 1, &hold);
  b->touched += *peer_data(&hold);
  peer_release(b->client, id, &hold);
}

static uint64_t timed_get(void *context, uint64_t times) {
  bench *b = (bench *)context;
  const uint64_t begin = now_ns();
  for (uint64_t i = 0; i < times; i++) get_touch_release(b, &b->ids[0]);
  return now_ns() - begin;
}

static void work_get(const options *o) {
  options one = *o;
  one.count = 1;
  child producer = spawn(produce, &one, NULL);
  receive_word(producer.from_child);
  bench b = new_bench(o, 1);
  b.ids[0] = id_of(0);
  measure("get", o, timed_get, &b, 100000);
  keep(b.touched);
  peer_disconnect(b.client);
  join(producer);
}

/* W2 over many objects: each object holds the id of the next one, so that every load depends on the one before. */
static void produce_chain(const options *o, parent p, void *context) {
  options small = *o;
  small.size = 64;
  bench b = new_bench(&small, 1);
  uint32_t *order = (uint32_t *)allocate(o->count, sizeof(uint32_t));
  uint64_t random = 88172645463325252u;
  for (uint64_t i = 0; i < o->count; i++) order[i] = (uint32_t)i;
  for (uint64_t i = o->count - 1; i > 0; i--) { /* Sattolo's shuffle: one cycle through all */
    random ^= random << 13, random ^= random >> 7, random ^= random << 17;
    const uint64_t j = random % i;
    const uint32_t kept = order[i];
    order[i] = order[j];
    order[j] = kept;
  }
  (void)context;
  const uint64_t begin = now_ns();
  for (uint64_t i = 0; i < o->count; i++) {
    const object_id next = id_of(order[i]);
    memcpy(b.source, next.bytes, sizeof next.bytes);
    put_and_release(&b, i);
    give_up_if_slow(o, begin, i + 1);
  }
  free(order);
  send_word(p.to_parent, 1);
  wait_for_end(p);
  peer_disconnect(b.client);
}

static uint64_t timed_chain(void *context, uint64_t times) {
  bench *b = (bench *)context;
  object_id id = b->ids[0];
  const uint64_t begin = now_ns();
  for (uint64_t i = 0; i < times; i++) {
    held hold;
    clear_holds(&hold, 1);
    const object_id asked = id;
    peer_get(b->client, &asked, 1, &hold);
    memcpy(id.bytes, peer_data(&hold), sizeof id.bytes);
    peer_release(b->client, &asked, &hold);
  }
  const uint64_t ns = now_ns() - begin;
  b->ids[0] = id;
  return ns;
}

static void work_get_random(const options *o) {
  child producer = spawn(produce_chain, o, NULL);
  receive_word(producer.from_child);
  bench b = new_bench(o, 1);
  b.ids[0] = id_of(0);
  /* Once round, so that every page is in this process's tables; where that takes long, faults hardly count. */
  const uint64_t begin = now_ns();
  for (uint64_t i = 0; i < o->count && now_ns() - begin < 3000000000u; i += 100) timed_chain(&b, 100);
  measure("get", o, timed_chain, &b, 1000);
  peer_disconnect(b.client);
  join(producer);
}

#define BATCH_IDS 1000

static uint64_t timed_batch(void *context, uint64_t times) {
  bench *b = (bench *)context;
  const uint64_t begin = now_ns();
  for (uint64_t round = 0; round < times; round++) {
    peer_get(b->client, b->ids, BATCH_IDS, b->holds);
    for (int i = 0; i < BATCH_IDS; i++) b->touched += *peer_data(&b->holds[i]);
    for (int i = 0; i < BATCH_IDS; i++) peer_release(b->client, &b->ids[i], &b->holds[i]);
  }
  return now_ns() - begin;
}

static void work_batch(const options *o) {
  options many = *o;
  many.count = BATCH_IDS;
  child producer = spawn(produce, &many, NULL);
  receive_word(producer.from_child);
  bench b = new_bench(o, BATCH_IDS);
  for (uint64_t i = 0; i < BATCH_IDS; i++) b.ids[i] = id_of(i);
  measure("get and release", o, timed_batch, &b, 100);
  keep(b.touched);
  peer_disconnect(b.client);
  join(producer);
}

#endif
