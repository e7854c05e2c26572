/* Fork: what a child may do with what its parent held, and what it must not have.
 *
 * usage: fork DIRECTORY     an empty directory with a short path, for sockets */
#define _GNU_SOURCE
#include <dirent.h>
#include <limits.h>
#include <poll.h>

#include "processes.h"

#define SIZE 10000

/* What the parent has when it forks. */
typedef struct {
  plasma_store *store;
  plasma_client *client;
  plasma_buffer *sealed, *private_copy, *unsealed;
  plasma_object_list *list;
  plasma_subscription *subscription;
  plasma_object_id sealed_id, unsealed_id;
  char socket[PATH_MAX];
} Held;

static Held hold(const char *directory) {
  Held held;
  memset(&held, 0, sizeof held);
  held.sealed_id = id_of(1);
  held.unsealed_id = id_of(2);
  snprintf(held.socket, sizeof held.socket, "%s/parent.sock", directory);
  plasma_store_options options = {sizeof options, held.socket, 1 << 20};
  plasma_get_options private_copy = {sizeof private_copy, PLASMA_GET_PRIVATE};
  OK(plasma_store_start(&options, &held.store));
  OK(plasma_connect(held.socket, NULL, &held.client));
  put(held.client, &held.sealed_id, SIZE, 1);
  OK(plasma_get(held.client, &held.sealed_id, 1, 0, NULL, &held.sealed));
  OK(plasma_get(held.client, &held.sealed_id, 1, 0, &private_copy, &held.private_copy));
  OK(plasma_create(held.client, &held.unsealed_id, SIZE, NULL, 0, NULL, &held.unsealed));
  OK(plasma_list(held.client, &held.list));
  OK(plasma_subscribe(held.client, NULL, &held.subscription));
  OK(plasma_watch(held.client, &held.unsealed_id, 1));
  return held;
}

static void let_go(Held *held) {
  plasma_buffer_release(held->sealed);
  plasma_buffer_release(held->private_copy);
  plasma_buffer_release(held->unsealed);
  plasma_object_list_free(held->list);
  plasma_subscription_free(held->subscription);
  plasma_client_free(held->client);
}

/* Descriptors of this process, without those of valgrind, which have high numbers and do not follow into a child. */
static int open_descriptors(void) {
  int count = 0;
  DIR *directory = opendir("/proc/self/fd");
  CHECK(directory != NULL);
  for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
    count += atoi(entry->d_name) < 10000;
  }
  closedir(directory);
  return count;
}

/* What the store of the parent has must end with the parent: a child gets none of its descriptors. */
static void child_has_no_descriptor_of_the_store(void) {
  int before = open_descriptors();
  plasma_store *store = NULL;
  plasma_client *elsewhere = NULL;
  OK(plasma_store_start(NULL, &store));
  CHECK(open_descriptors() > before);
  pid_t pid = fork_child();
  if (pid == 0) {
    CHECK(open_descriptors() == before);
    OK(plasma_connect(plasma_store_socket(store), NULL, &elsewhere));
    plasma_client_free(elsewhere);
    _Exit(0);
  }
  wait_for_success(pid);
  OK(plasma_store_stop(store));
  CHECK(open_descriptors() == before);
}

static void calls_are_refused(const Held *held) {
  plasma_client *client = held->client;
  plasma_object_id id = id_of(3);
  plasma_buffer *buffer = NULL;
  plasma_object_list *list = NULL;
  bool contained;
  uint8_t digest[8];
  uint64_t number;
  size_t length;
  float value = 1;
  DLTensor scalar;
  DLManagedTensor *tensor = NULL;
  DLManagedTensorVersioned *versioned = NULL;
  memset(&scalar, 0, sizeof scalar);
  scalar.data = &value, scalar.device.device_type = kDLCPU;
  scalar.dtype.code = kDLFloat, scalar.dtype.bits = 32, scalar.dtype.lanes = 1;

  EXPECT(PLASMA_FORKED, plasma_create(client, &id, 1, NULL, 0, NULL, &buffer), "fork");
  EXPECT(PLASMA_FORKED, plasma_seal(client, &held->unsealed_id), "fork");
  EXPECT(PLASMA_FORKED, plasma_abort(client, &held->unsealed_id), "");
  EXPECT(PLASMA_FORKED, plasma_get(client, &held->sealed_id, 1, 0, NULL, &buffer), "fork");
  EXPECT(PLASMA_FORKED, plasma_get(client, &id, 1, -1, NULL, &buffer), "fork");
  EXPECT(PLASMA_FORKED, plasma_contains(client, &held->sealed_id, &contained), "fork");
  EXPECT(PLASMA_FORKED, plasma_delete(client, &held->sealed_id, 1, NULL), "fork");
  EXPECT(PLASMA_FORKED, plasma_list(client, &list), "fork");
  EXPECT(PLASMA_FORKED, plasma_put(client, &id, digest, 0, NULL, 0, NULL), "fork");
  EXPECT(PLASMA_FORKED, plasma_client_capacity(client, &number), "fork");
  EXPECT(PLASMA_FORKED, plasma_evict(client, 1, &number), "fork");
  EXPECT(PLASMA_FORKED, plasma_refresh(client, &held->sealed_id, 1), "fork");
  EXPECT(PLASMA_FORKED, plasma_hash(client, &held->sealed_id, digest), "fork");
  EXPECT(PLASMA_FORKED, plasma_set_options(client, "child", 1), "fork");
  EXPECT(PLASMA_FORKED, plasma_debug_string(client, NULL, 0, &length), "fork");
  plasma_store_stats stats = {.struct_size = sizeof stats};
  plasma_put_item item = {id, digest, 8, NULL, 0, NULL};
  plasma_event event = {.struct_size = sizeof event};
  size_t watched = 0;
  plasma_subscription *subscription = NULL;
  EXPECT(PLASMA_FORKED, plasma_stats(client, &stats), "fork");
  EXPECT(PLASMA_FORKED, plasma_put_batch(client, &item, 1, NULL), "fork");
  EXPECT(PLASMA_FORKED, plasma_put_async(client, &id, digest, 8, NULL, 0, NULL), "fork");
  EXPECT(PLASMA_FORKED, plasma_seal_async(client, &id), "fork");
  EXPECT(PLASMA_FORKED, plasma_flush(client, NULL, NULL, 0, NULL), "fork");
  EXPECT(PLASMA_FORKED, plasma_watch(client, &id, 1), "fork");
  EXPECT(PLASMA_FORKED, plasma_unwatch(client, &held->sealed_id, 1), "fork");
  EXPECT(PLASMA_FORKED, plasma_watch_take(client, &id, 1, &watched), "fork");
  CHECK(plasma_watch_fd(client) == -1);
  EXPECT(PLASMA_FORKED, plasma_subscribe(client, NULL, &subscription), "fork");
  EXPECT(PLASMA_FORKED, plasma_subscription_next(held->subscription, -1, &event), "fork");
  CHECK(subscription == NULL && plasma_subscription_fd(held->subscription) == -1);
  EXPECT(PLASMA_FORKED, tensor_write(client, &id, &scalar, NULL), "fork");
  EXPECT(PLASMA_FORKED, tensor_create(client, &id, scalar.dtype, 0, NULL, NULL, &tensor), "fork");
  EXPECT(PLASMA_FORKED, tensor_create_buffer(client, &id, scalar.dtype, 0, NULL, NULL, &buffer), "fork");
  EXPECT(PLASMA_FORKED, tensor_read(client, &held->sealed_id, -1, &tensor), "fork");
  EXPECT(PLASMA_FORKED, tensor_read_versioned(client, &held->sealed_id, -1, 0, &versioned), "fork");
  plasma_interrupt(client);
  CHECK(buffer == NULL && list == NULL && tensor == NULL && versioned == NULL);
}

static void connects_anew(const char *socket) {
  plasma_object_id parents = id_of(1), own = id_of(4);
  plasma_client *client = NULL;
  plasma_buffer *buffer = NULL;
  OK(plasma_connect(socket, NULL, &client));
  OK(plasma_get(client, &parents, 1, 0, NULL, &buffer));
  CHECK(holds(buffer, SIZE, 1));
  plasma_buffer_release(buffer);
  put(client, &own, SIZE, 4);
  plasma_client_free(client);
}

static void child(Held *held) {
  CHECK(holds(held->sealed, SIZE, 1) && holds(held->private_copy, SIZE, 1));
  CHECK(plasma_object_list_size(held->list) == 2);
  calls_are_refused(held);
  connects_anew(held->socket);
  let_go(held);
  EXPECT(PLASMA_FORKED, plasma_store_stop(held->store), "fork");
  CHECK(access(held->socket, F_OK) == 0);
}

/* Whatever the child did and freed, the parent's connection, holds and store are as before. */
static void parent_is_unharmed(Held *held) {
  plasma_object_id childs = id_of(4);
  plasma_buffer *buffer = NULL;
  plasma_status result = -1;
  OK(plasma_get(held->client, &childs, 1, 0, NULL, &buffer));
  CHECK(holds(buffer, SIZE, 4));
  plasma_buffer_release(buffer);
  CHECK(holds(held->sealed, SIZE, 1));
  OK(plasma_delete(held->client, &held->sealed_id, 1, &result));
  CHECK(result == PLASMA_OBJECT_IN_USE);
  memset(plasma_buffer_mutable_data(held->unsealed), 2, SIZE);
  OK(plasma_seal(held->client, &held->unsealed_id));
}

/* The child could not watch, and what its parent watches is told. */
static void watches_go_on(Held *held) {
  plasma_object_id told[2];
  size_t count = 0;
  struct pollfd polled = {plasma_watch_fd(held->client), POLLIN, 0};
  CHECK(poll(&polled, 1, 60000) == 1);
  OK(plasma_watch_take(held->client, told, 2, &count));
  CHECK(count == 1 && memcmp(told, &held->unsealed_id, sizeof *told) == 0);
}

/* The child has freed the subscription, and the parent still gets all its events. */
static void events_go_on(Held *held) {
  plasma_event event = {.struct_size = sizeof event};
  int expected[3] = {1, 4, 2};
  for (int i = 0; i < 3; i++) {
    plasma_object_id id = id_of(expected[i]);
    OK(plasma_subscription_next(held->subscription, -1, &event));
    CHECK(event.kind == PLASMA_EVENT_SEALED && memcmp(&event.id, &id, sizeof id) == 0);
  }
}

/* A child that lives on has a copy of the descriptor. The store forgets the subscription all the same. */
static void freed_while_a_child_has_a_copy(Held *held) {
  plasma_store_stats stats = {.struct_size = sizeof stats};
  plasma_subscription *other = NULL;
  OK(plasma_subscribe(held->client, NULL, &other));
  pid_t sleeper = fork_child();
  if (sleeper == 0) {
    pause();
  }
  plasma_subscription_free(other);
  do {
    OK(plasma_stats(held->client, &stats));
  } while (stats.subscriptions != 1);
  kill_child(sleeper);
}

static void parent_and_child(const char *directory) {
  Held held = hold(directory);
  pid_t pid = fork_child();
  if (pid == 0) {
    child(&held);
    _Exit(0);
  }
  wait_for_success(pid);
  parent_is_unharmed(&held);
  events_go_on(&held);
  watches_go_on(&held);
  freed_while_a_child_has_a_copy(&held);
  let_go(&held);
  OK(plasma_store_stop(held.store));
}

/* A process with a store in it, and a child of that which sleeps and has not called exec. Sends the child's pid. */
static void host(const char *socket, int pids) {
  plasma_store *store = NULL;
  plasma_store_options options = {sizeof options, socket, 1 << 20};
  OK(plasma_store_start(&options, &store));
  pid_t sleeper = fork();
  if (sleeper == 0) {
    alarm(30);
    pause();
  }
  CHECK(write(pids, &sleeper, sizeof sleeper) == sizeof sleeper);
  pause();
}

static void kill_after(pid_t pid, unsigned int ms) {
  usleep(ms * 1000);
  CHECK(kill(pid, SIGKILL) == 0);
}

/* Clients see the end of a killed host although its child has copies of all its descriptors that fork could copy. */
static void killed_host(const char *directory) {
  char socket[PATH_MAX];
  int pids[2];
  pid_t hosting, sleeper = 0, killing;
  snprintf(socket, sizeof socket, "%s/host.sock", directory);
  CHECK(pipe(pids) == 0);
  if ((hosting = fork_child()) == 0) {
    host(socket, pids[1]);
  }
  CHECK(read(pids[0], &sleeper, sizeof sleeper) == sizeof sleeper);

  plasma_client *client = NULL;
  plasma_buffer *buffer = NULL, *none = NULL;
  plasma_object_id id = id_of(1), never = id_of(2);
  OK(plasma_connect(socket, NULL, &client));
  put(client, &id, SIZE, 1);
  OK(plasma_get(client, &id, 1, 0, NULL, &buffer));
  if ((killing = fork_child()) == 0) {
    kill_after(hosting, 100);
    _Exit(0);
  }
  EXPECT(PLASMA_DISCONNECTED, plasma_get(client, &never, 1, -1, NULL, &none), "");
  CHECK(kill(sleeper, 0) == 0);
  CHECK(holds(buffer, SIZE, 1));
  plasma_buffer_release(buffer);
  plasma_client_free(client);
  wait_for_success(killing);
  CHECK(waitpid(hosting, NULL, 0) == hosting);

  /* Now that the host is gone altogether, the path is free again: the sleeper does not listen there. */
  plasma_store *store = NULL;
  plasma_store_options options = {sizeof options, socket, 0};
  OK(plasma_store_start(&options, &store));
  OK(plasma_store_stop(store));
  CHECK(kill(sleeper, SIGKILL) == 0);
}

int main(int argc, char **argv) {
  CHECK(argc == 2);
  killed_host(argv[1]);
  child_has_no_descriptor_of_the_store();
  parent_and_child(argv[1]);
  puts("fork: ok");
  return 0;
}
