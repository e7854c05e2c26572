/* What every native program of the benchmark shares: the clock, options, samples, and the lines that it prints.
 *
 * Written in the common part of C11 and C++17, so that each peer is measured by the same code in its own language.
 * A program prints one JSON object a line on standard output; the harness (bench/run.py) reads them.
 */
#ifndef BENCH_MEASURE_H_
#define BENCH_MEASURE_H_

#include <inttypes.h>
#include <sched.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MAX_SAMPLES 100000
/* A sample shorter than this is made of several operations, so that the two calls of the clock are under 1% of it. */
#define SAMPLE_NS 10000

typedef struct { uint8_t bytes[20]; } object_id;

/* The words `name=value` of the command line. */
typedef struct {
  const char *work;    /* which measurement */
  const char *where;   /* the socket or file of the store */
  uint64_t size;       /* bytes of an object */
  uint64_t count;      /* objects, rounds or other peers: what the measurement counts */
  uint64_t clients;    /* processes that measure at the same time */
  uint64_t budget_ns;  /* how long to measure */
  uint64_t capacity;   /* bytes of the store */
  uint64_t objects;    /* in it at one time at most */
  uint64_t fill_s;     /* how long filling the store may take */
  uint64_t spin_us;    /* how long a thread of ours that waits stays awake */
  uint64_t slots;      /* of a ring */
  int many;            /* 1: several messages in one call */
  int cross;           /* 1: two processes on two different cores */
  int gathered;        /* 1: objects are read once the store has gathered them in huge pages */
} options;

static inline uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline void die(const char *format, ...) {
  va_list words;
  va_start(words, format);
  vfprintf(stderr, format, words);
  va_end(words);
  fputc('\n', stderr);
  exit(1);
}

/* The result of a read is used, as far as the compiler can know. */
static inline void keep(uint64_t value) { __asm__ volatile("" : : "r"(value)); }

/* The id of the object with this number: well spread, as ids of 160 random bits are. */
static inline object_id id_of(uint64_t number) {
  object_id id;
  uint64_t word[3];
  for (int i = 0; i < 3; i++) {
    uint64_t x = number * 3 + (uint64_t)i + 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    word[i] = x ^ (x >> 31);
  }
  memcpy(id.bytes, word, sizeof id.bytes);
  return id;
}

static inline void set_option(options *o, const char *word) {
  const char *value = strchr(word, '=');
  if (value == NULL) die("not an option: %s", word);
  value++;
  const uint64_t number = strtoull(value, NULL, 10);
  if (strncmp(word, "where=", 6) == 0) o->where = value;
  else if (strncmp(word, "size=", 5) == 0) o->size = number;
  else if (strncmp(word, "count=", 6) == 0) o->count = number;
  else if (strncmp(word, "clients=", 8) == 0) o->clients = number;
  else if (strncmp(word, "budget_ms=", 10) == 0) o->budget_ns = number * 1000000u;
  else if (strncmp(word, "capacity=", 9) == 0) o->capacity = number;
  else if (strncmp(word, "objects=", 8) == 0) o->objects = number;
  else if (strncmp(word, "fill_s=", 7) == 0) o->fill_s = number;
  else if (strncmp(word, "spin_us=", 8) == 0) o->spin_us = number;
  else if (strncmp(word, "slots=", 6) == 0) o->slots = number;
  else if (strncmp(word, "many=", 5) == 0) o->many = (int)number;
  else if (strncmp(word, "cross=", 6) == 0) o->cross = (int)number;
  else if (strncmp(word, "gathered=", 9) == 0) o->gathered = (int)number;
}

static inline options read_options(int count, char **words) {
  options o = {"", "", 64, 1000, 1, 200000000u, (uint64_t)1 << 30, 4096, 120, 0, 8, 0, 0, 0};
  if (count < 2) die("usage: %s WORK [where=PATH] [size=N] ...", words[0]);
  o.work = words[1];
  for (int i = 2; i < count; i++) set_option(&o, words[i]);
  return o;
}

/* The core with this number among those that the process may use, or -1. */
static inline int allowed_core(int index) {
  cpu_set_t set;
  sched_getaffinity(0, sizeof set, &set);
  for (int core = 0; core < CPU_SETSIZE; core++)
    if (CPU_ISSET(core, &set) && index-- == 0) return core;
  return -1;
}

static inline void pin(int core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core, &set);
  if (sched_setaffinity(0, sizeof set, &set) != 0) die("cannot run on core %d", core);
}

typedef struct {
  uint64_t *ps;    /* of one operation; picoseconds, so that means of batches keep their digits */
  size_t count;
  uint64_t batch;
  uint64_t cores; /* a bit for each core that measured */
} samples;

static inline samples new_samples(void) {
  samples s = {(uint64_t *)malloc(MAX_SAMPLES * sizeof(uint64_t)), 0, 1, 0};
  if (s.ps == NULL) die("no memory for samples");
  memset(s.ps, 1, MAX_SAMPLES * sizeof(uint64_t)); /* its pages are there before anything is measured */
  return s;
}

static inline void add_sample(samples *s, uint64_t elapsed_ns, uint64_t operations) {
  if (s->count == MAX_SAMPLES) return;
  s->ps[s->count++] = elapsed_ns * 1000 / operations;
  s->cores |= (uint64_t)1 << (sched_getcpu() & 63);
}

static inline int compare_samples(const void *a, const void *b) {
  const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return x < y ? -1 : x > y;
}

static inline void print_result(const char *metric, const char *unit, double p50, double p99, const samples *s) {
  printf("{\"metric\": \"%s\", \"unit\": \"%s\", \"p50\": %.3f, \"p99\": %.3f, \"samples\": %zu, \"batch\": %" PRIu64
         ", \"cores\": %" PRIu64 "}\n", metric, unit, p50, p99, s->count, s->batch, s->cores);
  fflush(stdout);
}

static inline void print_samples(const char *metric, samples *s) {
  if (s->count == 0) die("%s: no samples", metric);
  qsort(s->ps, s->count, sizeof(uint64_t), compare_samples);
  const size_t last = s->count - 1;
  print_result(metric, "ns", (double)s->ps[last / 2] / 1e3, (double)s->ps[(last * 99 + 99) / 100] / 1e3, s);
  free(s->ps);
}

/* Does `times` operations and returns the nanoseconds that those took, without what it had to do before and after. */
typedef uint64_t timed(void *context, uint64_t times);

/* Warms up, chooses how many operations make one sample, measures for the budget, and prints. */
static inline void measure(const char *metric, const options *o, timed *operation, void *context, uint64_t most_in_batch) {
  uint64_t shortest = UINT64_MAX;
  const uint64_t begin = now_ns();
  for (int i = 0; i < 3 || (now_ns() - begin < o->budget_ns / 5 && i < 10000); i++) {
    const uint64_t ns = operation(context, 1);
    if (ns < shortest) shortest = ns;
  }
  samples s = new_samples();
  if (shortest < SAMPLE_NS) s.batch = shortest < 10 ? SAMPLE_NS / 10 : SAMPLE_NS / shortest + 1;
  if (s.batch > most_in_batch) s.batch = most_in_batch;
  const uint64_t end = now_ns() + o->budget_ns;
  while (s.count < 5 || (now_ns() < end && s.count < MAX_SAMPLES)) add_sample(&s, operation(context, s.batch), s.batch);
  print_samples(metric, &s);
}

#endif
