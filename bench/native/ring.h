/* RING and RINGS: slots that go from producers to consumers, and back. */
#ifndef BENCH_RING_H_
#define BENCH_RING_H_

#include "handoff.h"

#ifdef PEER_HAS_RINGS

enum { RING_LOOKS = 100, RING_MANY = 64, RING_MOST = 8, THROUGHPUT_MESSAGES = 64 };

/* What all processes of a measurement see. Each consumer counts in a line of its own. */
typedef struct {
  handoff words;
  uint64_t padding[4];
  struct { uint64_t messages, padding[7]; } counts[RING_MOST];
  struct { uint64_t value, padding[7]; } go, done;
} ring_page;

/* A line at a time: where a compiler puts a loop of three instructions decides whether it takes one cycle or two. */
enum { RING_LINE = 8 };

static void fill(uint8_t *data, uint64_t size, uint64_t value) {
  uint64_t *words = (uint64_t *)(void *)data;
  for (uint64_t i = 0; i < size / 8; i += RING_LINE)
    for (int j = 0; j < RING_LINE; j++) words[i + (uint64_t)j] = value;
}

static uint64_t sum(const uint8_t *data, uint64_t size) {
  const uint64_t *words = (const uint64_t *)(const void *)data;
  uint64_t totals[RING_LINE] = {0}, total = 0;
  for (uint64_t i = 0; i < size / 8; i += RING_LINE)
    for (int j = 0; j < RING_LINE; j++) totals[j] += words[i + (uint64_t)j];
  for (int j = 0; j < RING_LINE; j++) total += totals[j];
  return total;
}

static peer_ring *ring_in_child(const options *o, parent p, peer **client, uint64_t number) {
  receive_word(p.from_parent); /* it is there */
  *client = peer_connect(o);
  peer_ring *ring = peer_ring_open(*client, number);
  send_word(p.to_parent, 1);
  return ring;
}

static void let_in(child c) {
  send_word(c.to_child, 1);
  receive_word(c.from_child);
}

/* Handoff: from just before the publish, with the message in place, to its first byte in a consumer that sleeps in its take. */
static void ring_consume(const options *o, parent p, void *context) {
  handoff *shared = &((ring_page *)context)->words;
  if (o->cross) pin(allowed_core(1));
  peer *client;
  peer_ring *ring = ring_in_child(o, p, &client, 0);
  samples s = new_samples();
  for (uint64_t round = 1; round <= o->count; round++) {
    __atomic_store_n(&shared->asking, round, __ATOMIC_RELEASE);
    keep(*peer_ring_take(ring));
    const uint64_t now = now_ns();
    if (round > o->count / 10) add_sample(&s, now - __atomic_load_n(&shared->stamp, __ATOMIC_ACQUIRE), 1);
    peer_ring_release(ring);
    __atomic_store_n(&shared->done, round, __ATOMIC_RELEASE);
  }
  print_samples("handoff", &s);
}

static void work_ring_handoff(const options *o) {
  handoff *shared = &((ring_page *)shared_page())->words;
  if (o->cross && allowed_core(1) < 0) die("there is only one core");
  child consumer = spawn(ring_consume, o, shared);
  if (o->cross) pin(allowed_core(0));
  peer_ring *ring = peer_ring_make(peer_connect(o), 0);
  let_in(consumer);
  for (uint64_t round = 1; round <= o->count; round++) {
    memset(peer_ring_acquire(ring), (int)round, o->size);
    wait_until(&shared->asking, round, consumer.pid);
    usleep(500); /* by then the consumer sleeps */
    __atomic_store_n(&shared->stamp, now_ns(), __ATOMIC_RELEASE);
    peer_ring_publish(ring);
    wait_until(&shared->done, round, round < o->count ? consumer.pid : 0);
  }
  join(consumer);
}

/* The same where both spin: one ring there and one back, and half of the time. */
static uint64_t ring_step(peer_ring *ring, const options *o, uint64_t value) {
  memset(peer_ring_acquire(ring), (int)value, o->size);
  peer_ring_publish(ring);
  return value;
}

static void ring_await(peer_ring *ring) {
  keep(*peer_ring_take_awake(ring));
  peer_ring_release(ring);
}

static void ring_echo(const options *o, parent p, void *context) {
  (void)context;
  pin(allowed_core(1));
  peer *client;
  peer_ring *there = ring_in_child(o, p, &client, 0), *back = peer_ring_open(client, 1);
  for (uint64_t round = 0;; round++) {
    ring_await(there);
    ring_step(back, o, round);
  }
}

typedef struct { const options *o; peer_ring *there, *back; } ring_pair;

static uint64_t timed_exchange(void *context, uint64_t times) {
  const ring_pair *pair = (const ring_pair *)context;
  const uint64_t begin = now_ns();
  for (uint64_t i = 0; i < times; i++) {
    ring_step(pair->there, pair->o, i);
    ring_await(pair->back);
  }
  return (now_ns() - begin) / 2;
}

/* Ends a child that goes on for ever. That it has not ended before is a part of the measurement. */
static void end(child c) {
  if (waitpid(c.pid, NULL, WNOHANG) != 0) die("the other process has ended");
  kill(c.pid, SIGKILL);
  waitpid(c.pid, NULL, 0);
}

static void work_ring_spin(const options *o) {
  if (allowed_core(1) < 0) die("there is only one core");
  child other = spawn(ring_echo, o, NULL);
  pin(allowed_core(0));
  peer *client = peer_connect(o);
  ring_pair pair = {o, peer_ring_make(client, 0), NULL};
  pair.back = peer_ring_make(client, 1);
  let_in(other);
  measure("handoff", o, timed_exchange, &pair, 1000);
  end(other);
}

/* Throughput: the time of each of several messages that one core fills while another sums them up. */
static void ring_sum(const options *o, parent p, void *context) {
  ring_page *page = (ring_page *)context;
  pin(allowed_core(1));
  peer *client;
  peer_ring *ring = ring_in_child(o, p, &client, 0);
  for (uint64_t turn = 1;; turn++) {
    while (__atomic_load_n(&page->go.value, __ATOMIC_ACQUIRE) < turn) sched_yield();
    for (uint64_t i = 0; i < THROUGHPUT_MESSAGES; i++) {
      const uint64_t total = sum(peer_ring_take(ring), o->size);
      if (peer_ring_is_synchronised(ring) && total != (turn + i) * (o->size / 8)) die("message %" PRIu64 " is another", i);
      keep(total);
      peer_ring_release(ring);
    }
    __atomic_store_n(&page->done.value, turn, __ATOMIC_RELEASE);
  }
}

typedef struct { const options *o; peer_ring *ring; ring_page *page; pid_t other; } ring_flow;

static uint64_t timed_flow(void *context, uint64_t times) {
  ring_flow *flow = (ring_flow *)context;
  const uint64_t turn = flow->page->go.value + times, begin = now_ns();
  __atomic_store_n(&flow->page->go.value, turn, __ATOMIC_RELEASE);
  for (uint64_t i = 0; i < THROUGHPUT_MESSAGES; i++) {
    fill(peer_ring_acquire(flow->ring), flow->o->size, turn + i);
    peer_ring_publish(flow->ring);
  }
  while (__atomic_load_n(&flow->page->done.value, __ATOMIC_ACQUIRE) < turn)
    if (sched_yield() != 0 || waitpid(flow->other, NULL, WNOHANG) != 0) die("the consumer has ended");
  return (now_ns() - begin) / THROUGHPUT_MESSAGES;
}

static void work_ring_throughput(const options *o) {
  if (allowed_core(1) < 0) die("there is only one core");
  ring_flow flow = {o, NULL, (ring_page *)shared_page(), 0};
  child other = spawn(ring_sum, o, flow.page);
  pin(allowed_core(0));
  flow.ring = peer_ring_make(peer_connect(o), 0);
  flow.other = other.pid;
  let_in(other);
  measure("each message", o, timed_flow, &flow, 1);
  end(other);
}

/* How many messages a second come through, from as many producers to as many consumers. */
static void ring_produce_ever(const options *o, parent p, void *context) {
  (void)context;
  peer *client;
  peer_ring *ring = ring_in_child(o, p, &client, 0);
  uint8_t *source = (uint8_t *)allocate(RING_MANY, o->size);
  for (uint64_t i = 0;; i++) {
    if (o->many) peer_ring_put_many(ring, source, RING_MANY);
    else ring_step(ring, o, i);
  }
}

static void ring_consume_ever(const options *o, parent p, void *context) {
  uint64_t *count = (uint64_t *)context;
  peer *client;
  peer_ring *ring = ring_in_child(o, p, &client, 0);
  uint8_t *out = (uint8_t *)allocate(RING_MANY, o->size);
  for (;;) {
    uint64_t some = 1;
    if (o->many) some = peer_ring_take_many(ring, out, RING_MANY);
    else keep(*peer_ring_take(ring)), peer_ring_release(ring);
    __atomic_store_n(count, *count + some, __ATOMIC_RELAXED);
  }
}

static uint64_t messages_of(const ring_page *page) {
  uint64_t total = 0;
  for (int i = 0; i < RING_MOST; i++) total += __atomic_load_n(&page->counts[i].messages, __ATOMIC_RELAXED);
  return total;
}

static void work_ring_messages(const options *o) {
  ring_page *page = (ring_page *)shared_page();
  child others[2 * RING_MOST];
  if (o->clients > RING_MOST) die("more than %d producers", RING_MOST);
  for (uint64_t i = 0; i < o->clients; i++) {
    others[2 * i] = spawn(ring_consume_ever, o, &page->counts[i].messages);
    others[2 * i + 1] = spawn(ring_produce_ever, o, NULL);
  }
  peer_ring_make(peer_connect(o), 0);
  for (uint64_t i = 0; i < 2 * o->clients; i++) let_in(others[i]);
  usleep((useconds_t)(o->budget_ns / 5000));
  const uint64_t before = messages_of(page), begin = now_ns();
  uint64_t messages = 0, ns = 0;
  while (messages == 0) {
    usleep((useconds_t)(o->budget_ns / 1000));
    messages = messages_of(page) - before, ns = now_ns() - begin;
    for (uint64_t i = 0; i < 2 * o->clients; i++)
      if (waitpid(others[i].pid, NULL, WNOHANG) != 0) die("the other process has ended");
  }
  for (uint64_t i = 0; i < 2 * o->clients; i++) end(others[i]);
  const double per_second = (double)messages * 1e9 / (double)ns;
  samples s = {NULL, 1, (uint64_t)(o->many ? RING_MANY : 1), 0};
  print_result("messages", "/s", per_second, per_second, &s);
}

static int work_of_rings(const options *o) {
  if (strcmp(o->work, "ring_handoff") == 0) work_ring_handoff(o);
  else if (strcmp(o->work, "ring_spin") == 0) work_ring_spin(o);
  else if (strcmp(o->work, "ring_throughput") == 0) work_ring_throughput(o);
  else if (strcmp(o->work, "ring_messages") == 0) work_ring_messages(o);
  else return 0;
  return 1;
}

#endif
#endif
