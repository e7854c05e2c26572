/* W1: putting objects. */
#ifndef BENCH_PUT_H_
#define BENCH_PUT_H_

#include "bench.h"

/* W1: the clock stops when seal has returned; release and delete come after it. */

static uint64_t timed_put(void *context, uint64_t times) {
  bench *b = (bench *)context;
  for (uint64_t i = 0; i < times; i++) b->ids[i] = id_of(b->next++);
  clear_holds(b->holds, times);
  const uint64_t begin = now_ns();
  for (uint64_t i = 0; i < times; i++) put_one(b, &b->ids[i], &b->holds[i]);
  const uint64_t ns = now_ns() - begin;
  for (uint64_t i = 0; i < times; i++) {
    peer_release(b->client, &b->ids[i], &b->holds[i]);
    peer_delete(b->client, &b->ids[i]);
  }
  return ns;
}

/* W1 into a ring: `count` objects live, the oldest is deleted for each new one, so the destination is not in the cache. */
static uint64_t timed_ring(void *context, uint64_t times) {
  bench *b = (bench *)context;
  uint64_t ns = 0;
  for (uint64_t i = 0; i < times; i++) {
    held hold;
    clear_holds(&hold, 1);
    const object_id oldest = id_of(b->next - b->o->count), id = id_of(b->next++);
    peer_delete(b->client, &oldest);
    const uint64_t begin = now_ns();
    put_one(b, &id, &hold);
    ns += now_ns() - begin;
    peer_release(b->client, &id, &hold);
  }
  return ns;
}

#ifdef PEER_CAN_PUT
static uint64_t timed_put_in_one_call(void *context, uint64_t times) {
  bench *b = (bench *)context;
  for (uint64_t i = 0; i < times; i++) b->ids[i] = id_of(b->next++);
  const uint64_t begin = now_ns();
  for (uint64_t i = 0; i < times; i++) peer_put(b->client, &b->ids[i], b->source, b->o->size);
  const uint64_t ns = now_ns() - begin;
  for (uint64_t i = 0; i < times; i++) peer_delete(b->client, &b->ids[i]);
  return ns;
}
#endif

static uint64_t put_batch(const options *o) {
  const uint64_t fits = (1u << 20) / (o->size ? o->size : 1); /* a batch of live objects stays in the cache */
  return fits < 1 ? 1 : fits > 64 ? 64 : fits;
}

static void work_put(const options *o) {
  bench b = new_bench(o, 64);
  measure("put", o, timed_put, &b, put_batch(o));
  peer_disconnect(b.client);
}

static void work_put_ring(const options *o) {
  bench b = new_bench(o, 1);
  for (uint64_t i = 0; i < o->count; i++) put_and_release(&b, b.next++);
  for (uint64_t i = 0; i < o->count; i++) timed_ring(&b, 1); /* every page of the ring was written before */
  measure("put", o, timed_ring, &b, 1);
  peer_disconnect(b.client);
}

/* A second after the store began: so many objects that all live, so that their memory is new. Per operation, of which there are so many
 * for each object. */
static void put_new(const options *o, uint64_t objects, uint64_t operations, const char *metric) {
  usleep(1000000);
  bench b = new_bench(o, 1);
  samples s = new_samples();
  const uint64_t begin = now_ns();
  for (uint64_t i = 0; i < objects; i++) put_and_release(&b, b.next++);
  add_sample(&s, now_ns() - begin, objects * operations);
  print_samples(metric, &s);
  peer_disconnect(b.client);
}

static void work_put_first(const options *o) { put_new(o, 1, 1, "first put"); }

/* As the machine's own page faults are given, for each 4 KiB. */
static void work_put_new(const options *o) { put_new(o, o->count, o->size / 4096, "new memory put, each 4 KiB"); }

static void work_put_in_one_call(const options *o) {
#ifdef PEER_CAN_PUT
  bench b = new_bench(o, 64);
  measure("put", o, timed_put_in_one_call, &b, put_batch(o));
  peer_disconnect(b.client);
#else
  die("%s: this peer has no such call", o->work);
#endif
}

#endif
