/* W5 and streams: how many small objects a second, with several clients, each a process. */
#ifndef BENCH_CYCLES_H_
#define BENCH_CYCLES_H_

#include "get.h"

/* W5: create, write, seal, release, get, read, release, delete; as many clients as asked for, each a process. */

static void cycle(bench *b) {
  const object_id id = id_of(b->next++);
  held hold;
  clear_holds(&hold, 1);
  put_one(b, &id, &hold);
  peer_release(b->client, &id, &hold);
  get_touch_release(b, &id);
  peer_delete(b->client, &id);
}

/* Something that is done many times; returns how often. */
typedef uint64_t (*rounds)(bench *b);

static uint64_t cycle_some(bench *b) {
  for (int i = 0; i < 20; i++) cycle(b);
  return 20;
}

#ifdef PEER_CAN_STREAM
/* Objects that are put without waiting for each, and stay. */
static uint64_t stream_some(bench *b) {
  for (int i = 0; i < 1000; i++) {
    const object_id id = id_of(b->next++);
    peer_stream(b->client, &id, b->source, b->o->size);
  }
  peer_flush(b->client);
  return 1000;
}
#endif

typedef struct { rounds some; uint64_t number; } turn;

static void for_a_while(const options *o, parent p, void *context) {
  const turn *t = (const turn *)context;
  bench b = new_bench(o, 1);
  b.next = t->number << 40; /* nobody else's numbers */
  t->some(&b);
  send_word(p.to_parent, 1);
  receive_word(p.from_parent);
  uint64_t count = 0;
  const uint64_t begin = now_ns();
  uint64_t ns = 0;
  while (ns < o->budget_ns) {
    count += t->some(&b);
    ns = now_ns() - begin;
  }
  keep(b.touched);
  send_word(p.to_parent, (uint64_t)((double)count * 1e9 / (double)ns));
  peer_disconnect(b.client);
}

static void work_clients(const options *o, const char *metric, rounds some) {
  child *clients = (child *)allocate(o->clients, sizeof(child));
  for (uint64_t i = 0; i < o->clients; i++) {
    turn t = {some, i + 1}; /* a child has its own copy */
    clients[i] = spawn(for_a_while, o, &t);
  }
  for (uint64_t i = 0; i < o->clients; i++) receive_word(clients[i].from_child);
  for (uint64_t i = 0; i < o->clients; i++) send_word(clients[i].to_child, 1);
  double per_second = 0;
  samples s = {NULL, 1, 20, 0};
  for (uint64_t i = 0; i < o->clients; i++) per_second += (double)receive_word(clients[i].from_child);
  for (uint64_t i = 0; i < o->clients; i++) join(clients[i]);
  print_result(metric, "/s", per_second, per_second, &s);
}

#endif
