/* Gets, releases and questions in a thread that the kernel kills at the first system call other than read, write and exit.
 *
 * usage: no_syscall SOCKET [ROUNDS]     a store that nobody else uses */
#define _GNU_SOURCE
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "check.h"

#define OBJECTS 16
#define SIZE 100

static plasma_object_id ids[OBJECTS], missing;

/* One of everything that must not need the kernel. Returns what it read, so that it is read. */
static uint64_t use(plasma_client *client, int round) {
  const plasma_object_id *id = &ids[round % OBJECTS];
  plasma_buffer *one = NULL, *all[OBJECTS];
  bool here = false, not_here = true;
  uint64_t sum = 0;
  OK(plasma_get(client, id, 1, -1, NULL, &one));
  sum += plasma_buffer_data(one)[SIZE - 1];
  plasma_buffer_release(one);
  OK(plasma_contains(client, id, &here));
  OK(plasma_contains(client, &missing, &not_here));
  CHECK(here && !not_here);
  if (round % OBJECTS == 0) {
    OK(plasma_get(client, ids, OBJECTS, 0, NULL, all));
    for (int i = 0; i < OBJECTS; i++) {
      sum += plasma_buffer_data(all[i])[0];
      plasma_buffer_release(all[i]);
    }
  }
  return sum;
}

static plasma_client *client;
static int rounds = 1000000;
static uint64_t sum;

/* Only this thread is in strict mode: another one of the library's may be waiting for the store. */
static void *use_strictly(void *unused) {
  (void)unused;
  for (int round = 0; round < 1000; round++) {
    /* The C library gets memory from the kernel now, and not later. */
    sum += use(client, round);
  }
  CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == 0);
  for (int round = 0; round < rounds; round++) {
    sum += use(client, round);
  }
  const char *verdict = sum > 0 ? "no_syscall: ok\n" : "no_syscall: nothing was read\n";
  syscall(SYS_write, STDOUT_FILENO, verdict, strlen(verdict));
  /* What pthread_exit does makes other calls. */
  syscall(SYS_exit, 0);
  return NULL;
}

int main(int argc, char **argv) {
  CHECK(argc == 2 || argc == 3);
  rounds = argc == 3 ? atoi(argv[2]) : rounds;
  OK(plasma_connect(argv[1], NULL, &client));
  missing = id_of(200);
  for (int i = 0; i < OBJECTS; i++) {
    ids[i] = id_of(i);
    put(client, &ids[i], SIZE, i);
  }
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, use_strictly, NULL) == 0);
  CHECK(pthread_join(thread, NULL) == 0);
  return 0;
}
