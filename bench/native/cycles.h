/* W5: whole lives of small objects. */
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

static void cycle_for_a_while(const options *o, parent p, void *context) {
  bench b = new_bench(o, 1);
  b.next = (uint64_t)(uintptr_t)context << 40; /* nobody else's numbers */
  for (int i = 0; i < 20; i++) cycle(&b);
  send_word(p.to_parent, 1);
  receive_word(p.from_parent);
  uint64_t count = 0;
  const uint64_t begin = now_ns();
  uint64_t ns = 0;
  while (ns < o->budget_ns) {
    for (int i = 0; i < 20; i++) cycle(&b);
    count += 20;
    ns = now_ns() - begin;
  }
  keep(b.touched);
  send_word(p.to_parent, (uint64_t)((double)count * 1e9 / (double)ns));
  peer_disconnect(b.client);
}

static void work_cycles(const options *o) {
  child *clients = (child *)allocate(o->clients, sizeof(child));
  for (uint64_t i = 0; i < o->clients; i++) clients[i] = spawn(cycle_for_a_while, o, (void *)(uintptr_t)(i + 1));
  for (uint64_t i = 0; i < o->clients; i++) receive_word(clients[i].from_child);
  for (uint64_t i = 0; i < o->clients; i++) send_word(clients[i].to_child, 1);
  double per_second = 0;
  samples s = {NULL, 1, 20, 0};
  for (uint64_t i = 0; i < o->clients; i++) per_second += (double)receive_word(clients[i].from_child);
  for (uint64_t i = 0; i < o->clients; i++) join(clients[i]);
  print_result("cycles", "/s", per_second, per_second, &s);
}

#endif
