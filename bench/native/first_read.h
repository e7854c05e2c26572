/* W6: the first read of a process. */
#ifndef BENCH_FIRST_READ_H_
#define BENCH_FIRST_READ_H_

#include "get.h"

/* W6: a fresh process for each sample, connected and nothing more: its first byte of a large object, then the sum of it. */

static uint64_t sum_of(const uint8_t *data, uint64_t size) {
  uint64_t sum = 0;
  const uint64_t *words = (const uint64_t *)(const void *)data;
  for (uint64_t i = 0; i < size / 8; i++) sum += words[i];
  return sum;
}

static void read_first(const options *o, parent p, void *context) {
  (void)context;
  const uint64_t begin = now_ns();
  bench b;
  memset((void *)&b, 0, sizeof b);
  b.client = peer_connect(o);
  const uint64_t connected = now_ns();
  const object_id id = id_of(0);
  held hold;
  clear_holds(&hold, 1);
  peer_get(b.client, &id, 1, &hold);
  keep(*peer_data(&hold));
  const uint64_t first = now_ns();
  keep(sum_of(peer_data(&hold), o->size));
  const uint64_t all = now_ns();
  peer_release(b.client, &id, &hold);
  send_word(p.to_parent, connected - begin);
  send_word(p.to_parent, first - connected);
  send_word(p.to_parent, all - connected);
  peer_disconnect(b.client);
}

static void work_first_read(const options *o) {
  options one = *o;
  one.count = 1;
  child producer = spawn(produce, &one, NULL);
  receive_word(producer.from_child);
  samples connected = new_samples(), first = new_samples(), sum = new_samples();
  for (uint64_t i = 0; i < o->count; i++) {
    child reader = spawn(read_first, o, NULL);
    add_sample(&connected, receive_word(reader.from_child), 1);
    add_sample(&first, receive_word(reader.from_child), 1);
    add_sample(&sum, receive_word(reader.from_child), 1);
    join(reader);
  }
  print_samples("connect", &connected);
  print_samples("first byte", &first);
  print_samples("sum", &sum);
  join(producer);
}

#endif
