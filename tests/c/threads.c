/* One client handle and many threads, calls that wait, calls that are interrupted, and what outlives what.
 *
 * usage: threads SOCKET [ROUNDS]     a store that nobody else uses; it keeps what is put, nothing has to fit twice */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

#define THREADS 8
#define SIZE 4096

static plasma_client *shared;
static int rounds = 100;
static atomic_int finished;

static void sleep_ms(long ms) {
  struct timespec time = {ms / 1000, ms % 1000 * 1000000};
  nanosleep(&time, NULL);
}

static int64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static pthread_t start(void *(*body)(void *), void *argument) {
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, body, argument) == 0);
  return thread;
}

/* Waits without limit for the object, and checks it. */
static void *wait_for(void *id) {
  plasma_buffer *buffer = NULL;
  OK(plasma_get(shared, id, 1, -1, NULL, &buffer));
  CHECK(holds(buffer, SIZE, 1));
  plasma_buffer_release(buffer);
  return NULL;
}

/* Puts, gets and deletes objects of its own, and fails on purpose, to see that messages do not cross threads. */
static void *work(void *argument) {
  int number = *(int *)argument;
  for (int round = 0; round < rounds; round++) {
    plasma_object_id id = id_of(100 + number);
    plasma_buffer *buffer = NULL;
    bool contained = false;
    char hex[41];
    OK(plasma_object_id_to_hex(&id, hex));
    put(shared, &id, SIZE, number + round);
    EXPECT(PLASMA_OBJECT_EXISTS, plasma_create(shared, &id, 1, NULL, 0, NULL, &buffer), hex);
    OK(plasma_contains(shared, &id, &contained));
    CHECK(contained);
    OK(plasma_get(shared, &id, 1, -1, NULL, &buffer));
    CHECK(holds(buffer, SIZE, number + round));
    plasma_buffer_release(buffer);
    OK(plasma_delete(shared, &id, 1, NULL));
    EXPECT(PLASMA_OBJECT_NOT_FOUND, plasma_seal(shared, &id), hex);
  }
  return NULL;
}

/* A get that waits keeps no other thread waiting: all the others come to their end before it does. */
static void many_threads_on_one_handle(void) {
  plasma_object_id awaited = id_of(50);
  int numbers[THREADS];
  pthread_t waiting = start(wait_for, &awaited), working[THREADS];
  for (int i = 0; i < THREADS; i++) {
    numbers[i] = i;
    working[i] = start(work, &numbers[i]);
  }
  for (int i = 0; i < THREADS; i++) {
    CHECK(pthread_join(working[i], NULL) == 0);
  }
  put(shared, &awaited, SIZE, 1);
  CHECK(pthread_join(waiting, NULL) == 0);
  OK(plasma_delete(shared, &awaited, 1, NULL));
}

static void *wait_in_vain(void *client) {
  plasma_object_id never = id_of(51);
  plasma_buffer *buffer = NULL;
  EXPECT(PLASMA_INTERRUPTED, plasma_get(client, &never, 1, -1, NULL, &buffer), "");
  CHECK(buffer == NULL);
  finished = 1;
  return NULL;
}

static void interrupt_shared(int signal) {
  (void)signal;
  plasma_interrupt(shared);
}

static void do_nothing(int signal) {
  (void)signal;
}

static void handle(int signal, void (*handler)(int)) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = handler; /* without SA_RESTART: the kernel itself would end the wait */
  CHECK(sigaction(signal, &action, NULL) == 0);
}

/* An interrupt ends what waits when it comes. Nobody can see from outside that a thread waits, so it is sent until it hits. */
static void interrupted_from_a_signal_handler(void) {
  handle(SIGUSR1, interrupt_shared);
  finished = 0;
  pthread_t waiting = start(wait_in_vain, shared);
  while (!finished) {
    sleep_ms(20);
    CHECK(kill(getpid(), SIGUSR1) == 0);
  }
  CHECK(pthread_join(waiting, NULL) == 0);
  bool contained = true;
  plasma_object_id never = id_of(51);
  OK(plasma_contains(shared, &never, &contained));
  CHECK(!contained);
}

/* On a connection made for it, any handler that ran in the waiting thread ends the wait. */
static void ended_by_a_signal(const char *socket) {
  plasma_client *client = NULL;
  plasma_connect_options options = {.struct_size = sizeof options, .flags = PLASMA_CONNECT_RETURN_ON_SIGNAL};
  handle(SIGUSR2, do_nothing);
  OK(plasma_connect(socket, &options, &client));
  finished = 0;
  pthread_t waiting = start(wait_in_vain, client);
  while (!finished) {
    sleep_ms(20);
    CHECK(finished || pthread_kill(waiting, SIGUSR2) == 0);
  }
  CHECK(pthread_join(waiting, NULL) == 0);
  plasma_client_free(client);
}

/* Keeps the thread that waits awake: it hands out the answers to these calls. */
static void *ask(void *id) {
  bool contained = false;
  while (!finished) {
    OK(plasma_contains(shared, id, &contained));
  }
  return NULL;
}

static void *wait_and_watch(void *pipe) {
  OK(plasma_set_wake_fd(*(int *)pipe));
  return wait_in_vain(shared);
}

/* One byte in a pipe ends the wait, whatever the thread does at that moment and although nobody sends it twice. */
static void ended_by_a_byte_in_a_pipe(void) {
  plasma_object_id other = id_of(60);
  for (int i = 0; i < 40; i++) {
    int ends[2];
    CHECK(pipe(ends) == 0);
    finished = 0;
    pthread_t waiting = start(wait_and_watch, &ends[0]);
    pthread_t asking[2] = {start(ask, &other), start(ask, &other)};
    sleep_ms(i % 4 * 2);
    CHECK(write(ends[1], "", 1) == 1);
    CHECK(pthread_join(waiting, NULL) == 0);
    CHECK(pthread_join(asking[0], NULL) == 0 && pthread_join(asking[1], NULL) == 0);
    CHECK(close(ends[0]) == 0 && close(ends[1]) == 0);
  }
}

/* On any other connection, it does not. */
static void not_ended_by_a_signal(void) {
  plasma_object_id awaited = id_of(52);
  handle(SIGUSR2, do_nothing);
  pthread_t waiting = start(wait_for, &awaited);
  for (int i = 0; i < 5; i++) {
    sleep_ms(10);
    CHECK(pthread_kill(waiting, SIGUSR2) == 0);
  }
  put(shared, &awaited, SIZE, 1);
  CHECK(pthread_join(waiting, NULL) == 0);
  OK(plasma_delete(shared, &awaited, 1, NULL));
}

static plasma_subscription *events;

static void *wait_for_an_event_in_vain(void *unused) {
  (void)unused;
  plasma_event event = {.struct_size = sizeof event};
  EXPECT(PLASMA_INTERRUPTED, plasma_subscription_next(events, -1, &event), "");
  finished++;
  return NULL;
}

static void *take_events(void *taken) {
  plasma_event event = {.struct_size = sizeof event};
  while (plasma_subscription_next(events, -1, &event) == PLASMA_OK) {
    ++*(atomic_int *)taken;
  }
  return NULL;
}

/* Several threads wait for events of one subscription: an interrupt ends all waits, and each event is taken once. */
static void events_for_many_threads(void) {
  pthread_t threads[THREADS];
  plasma_event event = {.struct_size = sizeof event};
  OK(plasma_subscribe(shared, NULL, &events));
  finished = 0;
  for (int i = 0; i < THREADS; i++) {
    threads[i] = start(wait_for_an_event_in_vain, NULL);
  }
  while (finished < THREADS) {
    sleep_ms(5);
    CHECK(kill(getpid(), SIGUSR1) == 0);
  }
  for (int i = 0; i < THREADS; i++) {
    CHECK(pthread_join(threads[i], NULL) == 0);
  }
  EXPECT(PLASMA_TIMEOUT, plasma_subscription_next(events, 0, &event), "0 ms");

  atomic_int taken = 0;
  finished = 0;
  for (int i = 0; i < THREADS; i++) {
    threads[i] = start(take_events, &taken);
  }
  plasma_object_id id = id_of(61);
  for (int round = 0; round < rounds; round++) {
    OK(plasma_put(shared, &id, NULL, 0, NULL, 0, NULL));
    OK(plasma_delete(shared, &id, 1, NULL));
  }
  while (taken < 2 * rounds) {
    sleep_ms(1);
  }
  plasma_subscription *others = NULL;
  OK(plasma_subscribe(shared, NULL, &others));
  OK(plasma_put(shared, &id, NULL, 0, NULL, 0, NULL));
  OK(plasma_subscription_next(others, -1, &event));
  while (taken < 2 * rounds + 1) {
    sleep_ms(1);
  }
  for (int i = 0; i < THREADS; i++) {
    while (pthread_tryjoin_np(threads[i], NULL) != 0) {
      plasma_interrupt(shared);
      sleep_ms(1);
    }
  }
  CHECK(taken == 2 * rounds + 1);
  OK(plasma_delete(shared, &id, 1, NULL));
  plasma_subscription_free(others);
  plasma_subscription_free(events);
}

static void timeouts_are_kept(void) {
  plasma_object_id ids[2] = {id_of(53), id_of(54)};
  plasma_buffer *buffers[2] = {NULL, NULL};
  put(shared, &ids[0], SIZE, 3);
  int64_t begin = now_ms();
  EXPECT(PLASMA_TIMEOUT, plasma_get(shared, ids, 2, 150, NULL, buffers), "150 ms");
  CHECK(now_ms() - begin >= 150);
  CHECK(holds(buffers[0], SIZE, 3) && buffers[1] == NULL);
  plasma_buffer_release(buffers[0]);
  OK(plasma_delete(shared, ids, 1, NULL));
}

static void *release(void *buffer) {
  plasma_buffer_release(buffer);
  return NULL;
}

static void *disconnected(void *client) {
  plasma_object_id never = id_of(55);
  plasma_buffer *buffer = NULL;
  EXPECT(PLASMA_DISCONNECTED, plasma_get(client, &never, 1, -1, NULL, &buffer), "");
  return NULL;
}

/* What was got stays readable after the client, the object and the store are gone, and is released by another thread. */
static void buffers_outlive_everything(void) {
  plasma_object_id id = id_of(56);
  plasma_store *store = NULL;
  plasma_client *reader = NULL, *witness = NULL;
  plasma_buffer *first = NULL, *second = NULL, *unsealed = NULL;
  OK(plasma_store_start(NULL, &store));
  OK(plasma_connect(plasma_store_socket(store), NULL, &reader));
  OK(plasma_connect(plasma_store_socket(store), NULL, &witness));
  put(reader, &id, SIZE, 4);
  OK(plasma_get(reader, &id, 1, 0, NULL, &first));
  OK(plasma_get(reader, &id, 1, 0, NULL, &second));
  plasma_object_id other = id_of(57);
  OK(plasma_create(reader, &other, SIZE, NULL, 0, NULL, &unsealed));
  plasma_client_free(reader);
  plasma_status result = -1;
  OK(plasma_delete(witness, &id, 1, &result));
  CHECK(result == PLASMA_OBJECT_IN_USE && holds(first, SIZE, 4));
  memset(plasma_buffer_mutable_data(unsealed), 5, SIZE);

  pthread_t waiting = start(disconnected, witness);
  sleep_ms(20);
  OK(plasma_store_stop(store));
  CHECK(pthread_join(waiting, NULL) == 0);
  bool contained;
  EXPECT(PLASMA_DISCONNECTED, plasma_contains(witness, &id, &contained), "");
  CHECK(holds(first, SIZE, 4) && holds(unsealed, SIZE, 5));
  CHECK(pthread_join(start(release, first), NULL) == 0);
  CHECK(holds(second, SIZE, 4));
  plasma_client_free(witness);
  plasma_buffer_release(second);
  plasma_buffer_release(unsealed);
}

int main(int argc, char **argv) {
  CHECK(argc == 2 || argc == 3);
  rounds = argc == 3 ? atoi(argv[2]) : rounds;
  OK(plasma_connect(argv[1], NULL, &shared));
  many_threads_on_one_handle();
  interrupted_from_a_signal_handler();
  ended_by_a_signal(argv[1]);
  ended_by_a_byte_in_a_pipe();
  not_ended_by_a_signal();
  events_for_many_threads();
  timeouts_are_kept();
  buffers_outlive_everything();
  plasma_client_free(shared);
  puts("threads: ok");
  return 0;
}
