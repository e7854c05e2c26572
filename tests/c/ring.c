/* Producers and consumers in processes of their own, by a ring: all that was put is taken once, also what one had taken
 * that was killed with it, and with the close everybody comes to an end.
 *
 * usage: ring SOCKET     a store without objects */
#define _GNU_SOURCE
#include "processes.h"

#define PRODUCERS 2
#define CONSUMERS 2
#define EACH 1000
#define SLOTS 4
#define ELEMENTS 100

static plasma_object_id ID;
static int64_t shape[1] = {ELEMENTS};

/* What a consumer has to tell when the ring is drained. */
typedef struct account {
  int64_t messages;
  int64_t sum;
} account;

static tensor_ring *opened(const char *socket, plasma_client **client) {
  tensor_ring *ring = NULL;
  OK(plasma_connect(socket, NULL, client));
  OK(tensor_ring_open(*client, &ID, -1, &ring));
  return ring;
}

static void leave(tensor_ring *ring, plasma_client *client) {
  tensor_ring_leave(ring);
  plasma_client_free(client);
  _Exit(0);
}

/* Fills messages of one number each, in place. */
static void produce(const char *socket, int64_t first) {
  plasma_client *client = NULL;
  tensor_ring *ring = opened(socket, &client);
  tensor_ring_slot slot;
  for (int64_t number = first; number < first + EACH; number++) {
    OK(tensor_ring_acquire(ring, TENSOR_RING_AS_CREATED, &slot));
    for (int i = 0; i < ELEMENTS; i++) {
      ((int64_t *)slot.data)[i] = number;
    }
    OK(tensor_ring_publish(ring, &slot, NULL));
  }
  leave(ring, client);
}

/* Reads messages where they lie until there are no more, and tells how many there were. Begins when it may. */
static void consume(const char *socket, int may, int tells) {
  char byte;
  CHECK(read(may, &byte, 1) == 1);
  plasma_client *client = NULL;
  tensor_ring *ring = opened(socket, &client);
  account mine = {0, 0};
  tensor_ring_slot slot;
  plasma_status status;
  while ((status = tensor_ring_take(ring, -1, &slot)) == PLASMA_OK) {
    const int64_t *elements = slot.data;
    CHECK(slot.size == sizeof(int64_t) * ELEMENTS);
    for (int i = 1; i < ELEMENTS; i++) {
      CHECK(elements[i] == elements[0]);
    }
    mine.messages += 1;
    mine.sum += elements[0];
    OK(tensor_ring_release(ring, &slot));
  }
  EXPECT(PLASMA_CLOSED, status, "");
  CHECK(write(tells, &mine, sizeof mine) == sizeof mine);
  leave(ring, client);
}

/* Takes a message, says so, and keeps it until it is killed. */
static void die(const char *socket, int tells) {
  plasma_client *client = NULL;
  tensor_ring *ring = opened(socket, &client);
  tensor_ring_slot slot;
  OK(tensor_ring_take(ring, -1, &slot));
  CHECK(write(tells, "", 1) == 1);
  pause();
}

static tensor_ring *created(plasma_client *client) {
  DLTensor like = tensor_of(NULL, kDLInt, 64, 1, shape);
  tensor_ring_options options;
  memset(&options, 0, sizeof options);
  options.struct_size = sizeof options;
  options.slots = SLOTS;
  options.flags = TENSOR_RING_HAND_OUT_AGAIN;
  options.like = &like;
  options.acquire_ms = -1;
  tensor_ring *ring = NULL;
  OK(tensor_ring_create(client, &ID, &options, &ring));
  return ring;
}

int main(int argc, char **argv) {
  CHECK(argc == 2);
  ID = id_of(9);
  pid_t producers[PRODUCERS], consumers[CONSUMERS], dying;
  int told[2], may[2], accounts[2];
  char byte;
  account all = {0, 0}, one;
  CHECK(pipe(told) == 0 && pipe(may) == 0 && pipe(accounts) == 0);
  for (int i = 0; i < PRODUCERS; i++) {
    producers[i] = fork_child();
    if (producers[i] == 0) {
      produce(argv[1], (int64_t)i * EACH);
    }
  }
  for (int i = 0; i < CONSUMERS; i++) {
    consumers[i] = fork_child();
    if (consumers[i] == 0) {
      consume(argv[1], may[0], accounts[1]);
    }
  }
  dying = fork_child();
  if (dying == 0) {
    die(argv[1], told[1]);
  }
  /* Alone with its end, so that a read tells when nobody could write any more. */
  close(accounts[1]);
  close(told[1]);

  plasma_client *client = NULL;
  OK(plasma_connect(argv[1], NULL, &client));
  tensor_ring *ring = created(client);
  CHECK(read(told[0], &byte, 1) == 1);
  CHECK(write(may[1], "12", CONSUMERS) == CONSUMERS);
  kill_child(dying);
  for (int i = 0; i < PRODUCERS; i++) {
    wait_for_success(producers[i]);
  }
  OK(tensor_ring_close(ring));
  for (int i = 0; i < CONSUMERS; i++) {
    CHECK(read(accounts[0], &one, sizeof one) == sizeof one);
    all.messages += one.messages;
    all.sum += one.sum;
    wait_for_success(consumers[i]);
  }
  const int64_t count = PRODUCERS * EACH;
  CHECK(all.messages == count && all.sum == count * (count - 1) / 2);

  size_t free_slots = 0, published = 9;
  tensor_ring_slot slot;
  OK(tensor_ring_counts(ring, &free_slots, &published));
  CHECK(free_slots == SLOTS && published == 0);
  EXPECT(PLASMA_CLOSED, tensor_ring_take(ring, -1, &slot), "");
  tensor_ring_leave(ring);
  plasma_object_list *list = NULL;
  OK(plasma_list(client, &list));
  CHECK(plasma_object_list_size(list) == 0);
  plasma_object_list_free(list);
  plasma_client_free(client);
  puts("ring: ok");
  return 0;
}
