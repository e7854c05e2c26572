/* W6: the first read of a process. */
#ifndef BENCH_FIRST_READ_H_
#define BENCH_FIRST_READ_H_

#include "get.h"

/* W6: a fresh process for each sample, connected and nothing more: its first byte of a large object, then the sum of it. The
 * object was sealed just before, or a while ago, and the store has gathered it in huge pages.
 */

#define GATHER_S 10

/* Bytes of this machine's shared memory that lie in huge pages. */
static uint64_t in_huge_pages(void) {
  char line[128];
  unsigned long long kib = 0;
  FILE *file = fopen("/proc/meminfo", "r");
  while (file != NULL && fgets(line, sizeof line, file) != NULL)
    if (sscanf(line, "ShmemHugePages: %llu", &kib) == 1) break;
  if (file != NULL) fclose(file);
  return (uint64_t)kib * 1024;
}

/* Waits until an object that was put since has come to lie in huge pages, but for its two ends. */
static void wait_until_gathered(uint64_t before, uint64_t size) {
  const uint64_t pieces = size - (4u << 20), end = now_ns() + GATHER_S * 1000000000u;
  while (in_huge_pages() < before + pieces) {
    if (now_ns() > end) die("the object was not gathered in huge pages within %d s", GATHER_S);
    usleep(10000);
  }
}

/* Puts the objects that the parent names. */
static void produce_named(const options *o, parent p, void *context) {
  (void)context;
  bench b = new_bench(o, 1);
  uint64_t number;
  while (read(p.from_parent, &number, sizeof number) == (ssize_t)sizeof number) {
    put_and_release(&b, number);
    send_word(p.to_parent, 1);
  }
  peer_disconnect(b.client);
}

static void put_named(child producer, uint64_t number) {
  send_word(producer.to_child, number);
  receive_word(producer.from_child);
}

static uint64_t sum_of(const uint8_t *data, uint64_t size) {
  uint64_t sum = 0;
  const uint64_t *words = (const uint64_t *)(const void *)data;
  for (uint64_t i = 0; i < size / 8; i++) sum += words[i];
  return sum;
}

static void read_first(const options *o, parent p, void *number) {
  const uint64_t begin = now_ns();
  bench b;
  memset((void *)&b, 0, sizeof b);
  b.client = peer_connect(o);
  const uint64_t connected = now_ns();
  const object_id id = id_of(*(const uint64_t *)number);
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
  /* What is sealed just before each sample is new: memory that was used before may lie in huge pages already. */
  const uint64_t room = o->capacity / o->size - 1, objects = o->gathered ? 1 : room < o->count ? room : o->count;
  child producer = spawn(produce_named, o, NULL);
  const uint64_t huge_before = in_huge_pages();
  samples connected = new_samples(), first = new_samples(), sum = new_samples();
  for (uint64_t i = 0; i < (o->gathered ? o->count : objects); i++) {
    uint64_t number = i % objects;
    if (i < objects) put_named(producer, number);
    if (i == 0 && o->gathered) wait_until_gathered(huge_before, o->size);
    child reader = spawn(read_first, o, &number);
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
