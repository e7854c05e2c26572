/* What one process that measures has: a connection, a source to copy from, ids and holds. The peer was defined before. */
#ifndef BENCH_BENCH_H_
#define BENCH_BENCH_H_

#include "processes.h"

typedef struct {
  peer *client;
  const options *o;
  uint64_t next;     /* number of the next object that is put */
  uint64_t touched;  /* sum of what was read */
  uint8_t *source;
  object_id *ids;
  held *holds;
} bench;

static void *allocate(size_t count, size_t size) {
  void *memory = calloc(count ? count : 1, size);
  if (memory == NULL) die("no memory for %zu entries", count);
  return memory;
}

/* Makes holds that hold nothing. */
static void clear_holds(held *holds, uint64_t count) {
#ifdef __cplusplus
  for (uint64_t i = 0; i < count; i++) holds[i] = held();
#else
  memset(holds, 0, count * sizeof(held));
#endif
}

static bench new_bench(const options *o, uint64_t holds) {
  bench b;
  memset((void *)&b, 0, sizeof b);
  b.client = peer_connect(o);
  b.o = o;
  b.next = 1;
  b.source = (uint8_t *)allocate(o->size, 1);
  memset(b.source, 7, o->size); /* untouched zero pages would be read from cache */
  b.ids = (object_id *)allocate(holds, sizeof(object_id));
  b.holds = (held *)allocate(holds, sizeof(held));
  return b;
}

static void put_one(bench *b, const object_id *id, held *hold) {
  uint8_t *data = peer_create(b->client, id, b->o->size, hold);
  peer_copy(hold, data, b->source, b->o->size);
  peer_seal(b->client, id, hold);
}

/* Puts the object with this number and lets go of it. */
static void put_and_release(bench *b, uint64_t number) {
  held hold;
  clear_holds(&hold, 1);
  const object_id id = id_of(number);
  put_one(b, &id, &hold);
  peer_release(b->client, &id, &hold);
}

#endif
