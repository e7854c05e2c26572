/* Processes that write one tensor: they add under the lock, one is killed with the lock, the tensor is frozen.
 *
 * usage: shared SOCKET     a store without objects */
#define _GNU_SOURCE
#include "processes.h"

#define CHILDREN 3
#define ROUNDS 300
#define ELEMENTS 1000

static plasma_object_id ID;

static tensor_shared *opened(const char *socket, plasma_client **client) {
  tensor_shared *shared = NULL;
  OK(plasma_connect(socket, NULL, client));
  OK(tensor_shared_open(*client, &ID, -1, &shared));
  return shared;
}

/* Opens the tensor when it is there, and adds 1 to all elements, again and again. */
static void add(const char *socket) {
  plasma_client *client = NULL;
  DLManagedTensor *tensor = NULL;
  tensor_shared *shared = opened(socket, &client);
  OK(tensor_shared_export(shared, &tensor));
  int64_t *elements = tensor->dl_tensor.data;
  for (int round = 0; round < ROUNDS; round++) {
    OK(tensor_shared_lock(shared, -1));
    for (int i = 0; i < ELEMENTS; i++) {
      elements[i] += 1;
    }
    OK(tensor_shared_unlock(shared));
  }
  tensor->deleter(tensor);
  tensor_shared_close(shared);
  plasma_client_free(client);
  _Exit(0);
}

/* Takes the lock, writes half of what it was to write, and is killed. */
static void die(const char *socket, int tells) {
  plasma_client *client = NULL;
  tensor_description description;
  memset(&description, 0, sizeof description);
  description.struct_size = sizeof description;
  tensor_shared *shared = opened(socket, &client);
  OK(tensor_shared_describe(shared, &description));
  OK(tensor_shared_lock(shared, -1));
  memset(description.data, 0xff, ELEMENTS * sizeof(int64_t) / 2);
  CHECK(write(tells, "", 1) == 1);
  pause();
}

int main(int argc, char **argv) {
  CHECK(argc == 2);
  ID = id_of(7);
  pid_t adders[CHILDREN], dying;
  int told[2];
  char byte;
  CHECK(pipe(told) == 0);
  for (int i = 0; i < CHILDREN; i++) {
    adders[i] = fork_child();
    if (adders[i] == 0) {
      add(argv[1]);
    }
  }
  plasma_client *client = NULL;
  tensor_shared *shared = NULL;
  tensor_shared_options options = {sizeof options, TENSOR_SHARED_KEEP, NULL};
  int64_t shape[1] = {ELEMENTS}, copy[ELEMENTS];
  DLTensor like = tensor_of(NULL, kDLInt, 64, 1, shape);
  OK(plasma_connect(argv[1], NULL, &client));
  OK(tensor_shared_create(client, &ID, &like, &options, &shared));
  do {
    OK(tensor_shared_snapshot(shared, copy, sizeof copy, -1));
    for (int i = 1; i < ELEMENTS; i++) {
      CHECK(copy[i] == copy[0]);
    }
  } while (copy[0] < CHILDREN * ROUNDS);
  for (int i = 0; i < CHILDREN; i++) {
    wait_for_success(adders[i]);
  }
  tensor_shared_close(shared);
  plasma_client_free(client);

  dying = fork_child();
  if (dying == 0) {
    die(argv[1], told[1]);
  }
  shared = opened(argv[1], &client);
  CHECK(read(told[0], &byte, 1) == 1);
  EXPECT(PLASMA_TIMEOUT, tensor_shared_lock(shared, 1), "1 ms");
  EXPECT(PLASMA_BUSY, tensor_shared_freeze(shared, 0), "not sealed");
  kill_child(dying);
  EXPECT(PLASMA_OWNER_DIED, tensor_shared_lock(shared, -1), "died");
  OK(tensor_shared_snapshot(shared, copy, sizeof copy, 0));
  CHECK(copy[0] == -1 && copy[ELEMENTS - 1] == CHILDREN * ROUNDS);
  OK(tensor_shared_unlock(shared));
  OK(tensor_shared_lock(shared, 0));
  OK(tensor_shared_unlock(shared));
  OK(tensor_shared_freeze(shared, -1));
  tensor_shared_close(shared);
  DLManagedTensor *read_only = NULL;
  OK(tensor_read(client, &ID, 0, &read_only));
  CHECK(((int64_t *)read_only->dl_tensor.data)[ELEMENTS - 1] == CHILDREN * ROUNDS);
  read_only->deleter(read_only);
  plasma_client_free(client);
  puts("shared: ok");
  return 0;
}
