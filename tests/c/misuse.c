/* Everything that can be got wrong in a call about ids, connections, objects and stores, one after the other in one
 * process: each is a status and a message that names what was wrong, and nothing else happens.
 *
 * usage: misuse DIRECTORY     an empty directory with a short path, for sockets */
#define _GNU_SOURCE
#include <limits.h>
#include <poll.h>
#include <stddef.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"

#define CAPACITY (1 << 20)

static void versions_and_texts(void) {
  CHECK(strcmp(plasma_version(), PLASMA_VERSION) == 0);
  CHECK(plasma_abi_version() == PLASMA_ABI_VERSION);
  CHECK(strcmp(plasma_last_error_message(), "") == 0);
  for (plasma_status status = PLASMA_OK; status <= PLASMA_PANIC; status++) {
    CHECK(strcmp(plasma_status_string(status), plasma_status_string(-1)) != 0);
  }
  CHECK(strcmp(plasma_status_string(INT32_MIN), plasma_status_string(INT32_MAX)) == 0);
}

static void ids(void) {
  plasma_object_id id = id_of(7), other = id_of(8);
  char hex[41];
  char overlong[] = "0123456789012345678901234567890123456789x";

  NULL_REFUSED(plasma_object_id_random(NULL), "out");
  NULL_REFUSED(plasma_object_id_from_bytes(NULL, 20, &other), "bytes");
  NULL_REFUSED(plasma_object_id_from_bytes(id.bytes, 20, NULL), "out");
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_object_id_from_bytes(id.bytes, 19, &other), "19");
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_object_id_from_bytes(id.bytes, 0, &other), "0");
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_object_id_from_bytes(id.bytes, SIZE_MAX, &other), "bytes");
  NULL_REFUSED(plasma_object_id_from_hex(NULL, &other), "hex");
  NULL_REFUSED(plasma_object_id_from_hex(overlong, NULL), "out");
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_object_id_from_hex("", &other), "40");
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_object_id_from_hex(overlong, &other), overlong);
  overlong[39] = 'x', overlong[40] = '\0';
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_object_id_from_hex(overlong, &other), overlong);
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_object_id_from_hex("\xff\xfe", &other), "hex is not UTF-8");
  NULL_REFUSED(plasma_object_id_to_hex(NULL, hex), "object_id");
  NULL_REFUSED(plasma_object_id_to_hex(&id, NULL), "out");
  NULL_REFUSED(plasma_object_id_from_name("space", NULL, &other), "name");
  NULL_REFUSED(plasma_object_id_from_name("space", "name", NULL), "out");
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_object_id_from_name("\xff", "name", &other), "name_space is not UTF-8");
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_object_id_from_name("space", "\xff", &other), "name is not UTF-8");

  plasma_object_id untouched = id_of(8);
  CHECK(memcmp(&other, &untouched, sizeof other) == 0);
  OK(plasma_object_id_to_hex(&id, hex));
  OK(plasma_object_id_from_hex(hex, &other));
  CHECK(memcmp(&other, &id, sizeof id) == 0);
}

static void connecting(const char *directory, const char *socket) {
  plasma_client *client = NULL;
  char nowhere[PATH_MAX], overlong[109];
  snprintf(nowhere, sizeof nowhere, "%s/nobody.sock", directory);
  memset(overlong, 'x', sizeof overlong - 1);
  overlong[0] = '/', overlong[sizeof overlong - 1] = '\0';

  NULL_REFUSED(plasma_connect(socket, NULL, NULL), "out");
  EXPECT(PLASMA_CONNECT_FAILED, plasma_connect(nowhere, NULL, &client), nowhere);
  setenv("PLASMA_STORE_SOCKET", nowhere, 1);
  EXPECT(PLASMA_CONNECT_FAILED, plasma_connect(NULL, NULL, &client), nowhere);
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_connect(overlong, NULL, &client), "108");
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_connect("\xff", NULL, &client), "socket_path is not UTF-8");
  EXPECT(PLASMA_CONNECT_FAILED, plasma_connect(directory, NULL, &client), directory);

  plasma_connect_options options = {.struct_size = sizeof options};
  options.struct_size = 0;
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_connect(socket, &options, &client), "struct_size is 0");
  options.struct_size = 1 << 20;
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_connect(socket, &options, &client), "struct_size is 1048576");
  options.struct_size = sizeof options;
  options.timeout_ms = -2;
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_connect(socket, &options, &client), "-2");
  options.timeout_ms = 0, options.flags = 0x80;
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_connect(socket, &options, &client), "0x80");
  options.flags = 0, options.copy_threads = 257;
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_connect(socket, &options, &client), "copy_threads is at most 256, not 257");
  options.timeout_ms = 30, options.copy_threads = 256;
  EXPECT(PLASMA_CONNECT_FAILED, plasma_connect(nowhere, &options, &client), nowhere);
  CHECK(client == NULL);
}

/* Structs of older and of newer programs than the library. */
static void sizes_of_options(const char *socket) {
  plasma_client *client = NULL;
  struct {
    plasma_connect_options known;
    uint64_t unknown;
  } newer = {{.struct_size = sizeof newer}, 0};
  OK(plasma_connect(socket, &newer.known, &client));
  plasma_client_free(client);
  newer.unknown = 1;
  EXPECT(PLASMA_UNSUPPORTED, plasma_connect(socket, &newer.known, &client), "struct_size");

  /* The fields behind the given size are not the library's to read: were they, -2 would be refused. */
  plasma_connect_options older = {sizeof(size_t), -2, 0xffffffff, 0, 257};
  OK(plasma_connect(socket, &older, &client));
  plasma_client_free(client);
}

static void null_arguments(plasma_client *client) {
  plasma_object_id id = id_of(1);
  plasma_buffer *buffer = NULL;
  plasma_object_list *list = NULL;
  plasma_object_info info = {0};
  uint64_t capacity;
  bool contained;

  NULL_REFUSED(plasma_client_capacity(NULL, &capacity), "client");
  NULL_REFUSED(plasma_client_capacity(client, NULL), "out");
  NULL_REFUSED(plasma_create(NULL, &id, 1, NULL, 0, NULL, &buffer), "client");
  NULL_REFUSED(plasma_create(client, NULL, 1, NULL, 0, NULL, &buffer), "object_id");
  NULL_REFUSED(plasma_create(client, &id, 1, NULL, 5, NULL, &buffer), "metadata");
  NULL_REFUSED(plasma_create(client, &id, 1, NULL, 0, NULL, NULL), "out");
  NULL_REFUSED(plasma_seal(NULL, &id), "client");
  NULL_REFUSED(plasma_seal(client, NULL), "object_id");
  NULL_REFUSED(plasma_abort(NULL, &id), "client");
  NULL_REFUSED(plasma_abort(client, NULL), "object_id");
  NULL_REFUSED(plasma_get(NULL, &id, 1, 0, NULL, &buffer), "client");
  NULL_REFUSED(plasma_get(client, NULL, 1, 0, NULL, &buffer), "object_ids");
  NULL_REFUSED(plasma_get(client, &id, 1, 0, NULL, NULL), "out");
  NULL_REFUSED(plasma_contains(NULL, &id, &contained), "client");
  NULL_REFUSED(plasma_contains(client, NULL, &contained), "object_id");
  NULL_REFUSED(plasma_contains(client, &id, NULL), "out");
  NULL_REFUSED(plasma_delete(NULL, &id, 1, NULL), "client");
  NULL_REFUSED(plasma_delete(client, NULL, 1, NULL), "object_ids");
  NULL_REFUSED(plasma_list(NULL, &list), "client");
  NULL_REFUSED(plasma_list(client, NULL), "out");
  NULL_REFUSED(plasma_object_list_get(NULL, 0, &info), "list");
  NULL_REFUSED(plasma_buffer_id(NULL, &id), "buffer");

  CHECK(plasma_buffer_data(NULL) == NULL && plasma_buffer_mutable_data(NULL) == NULL);
  CHECK(plasma_buffer_metadata(NULL) == NULL && plasma_buffer_metadata_size(NULL) == 0);
  CHECK(plasma_buffer_size(NULL) == 0 && plasma_object_list_size(NULL) == 0);
  plasma_buffer_release(NULL);
  plasma_object_list_free(NULL);
  plasma_client_free(NULL);
  plasma_interrupt(NULL);
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_set_wake_fd(12345), "12345");
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_set_wake_fd(-2), "-2");
  OK(plasma_set_wake_fd(-1));
  CHECK(buffer == NULL && list == NULL);
}

/* Into an object of 8 bytes that is being filled with 2. */
static void writing(plasma_buffer *buffer) {
  const uint8_t twos[9] = {2, 2, 2, 2, 2, 2, 2, 2, 2};
  NULL_REFUSED(plasma_buffer_write(NULL, 0, twos, 1), "buffer");
  NULL_REFUSED(plasma_buffer_write(buffer, 0, NULL, 1), "data");
  OK(plasma_buffer_write(buffer, 8, NULL, 0));
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_buffer_write(buffer, 0, twos, 9), "9 bytes at 0 lie outside an object of 8");
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_buffer_write(buffer, 9, NULL, 0), "0 bytes at 9");
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_buffer_write(buffer, UINT64_MAX, twos, 2), "18446744073709551615");
  memset(plasma_buffer_mutable_data(buffer), 3, 8);
  OK(plasma_buffer_write(buffer, 0, twos, 5));
  OK(plasma_buffer_write(buffer, 5, twos, 3));
}

static void creating(plasma_client *client) {
  plasma_object_id id = id_of(2);
  uint8_t byte = 0;
  plasma_buffer *buffer = NULL;

  EXPECT(PLASMA_STORE_FULL, plasma_create(client, &id, CAPACITY + 1, NULL, 0, NULL, &buffer), "1048577");
  EXPECT(PLASMA_STORE_FULL, plasma_create(client, &id, UINT64_MAX, NULL, 0, NULL, &buffer), "18446744073709551615");
  EXPECT(PLASMA_STORE_FULL, plasma_create(client, &id, INT64_MAX, &byte, 1, NULL, &buffer), "9223372036854775808");
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_create(client, &id, 1, &byte, UINT64_MAX, NULL, &buffer), "metadata");
  plasma_create_options options = {.struct_size = sizeof options, .flags = 0xf0};
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_create(client, &id, 1, NULL, 0, &options, &buffer), "0xf0");
  options.struct_size = 0;
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_create(client, &id, 1, NULL, 0, &options, &buffer), "struct_size is 0");
  options.struct_size = sizeof options, options.flags = 0, options.ttl_ms = -3;
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_create(client, &id, 1, NULL, 0, &options, &buffer), "ttl_ms is 0 or positive, not -3");
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_put(client, &id, &byte, 1, NULL, 0, &options), "not -3");
  options.ttl_ms = 0, options.wait_ms = -2;
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_create(client, &id, 1, NULL, 0, &options, &buffer), "wait_ms is -1, 0 or positive, not -2");
  options.wait_ms = -1;
  EXPECT(PLASMA_STORE_FULL, plasma_create(client, &id, CAPACITY + 1, NULL, 0, &options, &buffer), "1048577");
  CHECK(buffer == NULL);

  EXPECT(PLASMA_OBJECT_NOT_FOUND, plasma_seal(client, &id), "0202");
  EXPECT(PLASMA_OBJECT_NOT_FOUND, plasma_abort(client, &id), "0202");
  OK(plasma_create(client, &id, 8, NULL, 0, NULL, &buffer));
  EXPECT(PLASMA_OBJECT_EXISTS, plasma_create(client, &id, 8, NULL, 0, NULL, &buffer), "0202");
  EXPECT(PLASMA_BUSY, plasma_abort(client, &id), "0202");
  CHECK(plasma_buffer_mutable_data(buffer) != NULL);
  memset(plasma_buffer_mutable_data(buffer), 2, 8);
  writing(buffer);
  OK(plasma_seal(client, &id));
  CHECK(plasma_buffer_mutable_data(buffer) == NULL);
  EXPECT(PLASMA_OBJECT_ALREADY_SEALED, plasma_buffer_write(buffer, 0, &byte, 1), "0202");
  EXPECT(PLASMA_OBJECT_ALREADY_SEALED, plasma_buffer_write(buffer, 9, NULL, 0), "0202");
  CHECK(holds(buffer, 8, 2));
  EXPECT(PLASMA_OBJECT_ALREADY_SEALED, plasma_seal(client, &id), "0202");
  EXPECT(PLASMA_OBJECT_ALREADY_SEALED, plasma_abort(client, &id), "0202");
  EXPECT(PLASMA_OBJECT_EXISTS, plasma_create(client, &id, 8, NULL, 0, NULL, &buffer), "0202");
  NULL_REFUSED(plasma_buffer_id(buffer, NULL), "out");
  plasma_buffer_release(buffer);
  OK(plasma_delete(client, &id, 1, NULL));
}

/* Somebody else's unsealed object is not this client's to seal or to abort. */
static void creating_with_two(plasma_client *client, const char *socket) {
  plasma_object_id id = id_of(3);
  plasma_buffer *buffer = NULL;
  plasma_client *other = NULL;
  OK(plasma_connect(socket, NULL, &other));
  OK(plasma_create(other, &id, 8, NULL, 0, NULL, &buffer));
  EXPECT(PLASMA_OBJECT_NOT_FOUND, plasma_seal(client, &id), "0303");
  EXPECT(PLASMA_OBJECT_NOT_FOUND, plasma_abort(client, &id), "0303");
  EXPECT(PLASMA_OBJECT_EXISTS, plasma_create(client, &id, 8, NULL, 0, NULL, &buffer), "0303");
  plasma_buffer_release(buffer);
  OK(plasma_abort(other, &id));
  plasma_client_free(other);
}

/* The two fields behind `flags` came later: what lies there in an older struct is not the library's to read. */
static void older_options(plasma_client *client) {
  plasma_object_id id = id_of(20), other = id_of(21);
  plasma_create_options create = {offsetof(plasma_create_options, ttl_ms), PLASMA_CREATE_NO_EVICT, -3, -3, NULL};
  tensor_write_options tensor = {offsetof(tensor_write_options, ttl_ms), PLASMA_CREATE_NO_EVICT, NULL, 0, -3, -3, NULL, NULL};
  uint8_t byte = 0;
  float number = 1;
  DLTensor scalar = {&number, {kDLCPU, 0}, 0, {kDLFloat, 32, 1}, NULL, NULL, 0};
  OK(plasma_put(client, &id, &byte, 1, NULL, 0, &create));
  OK(tensor_write(client, &other, &scalar, &tensor));
  OK(plasma_delete(client, &id, 1, NULL));
  OK(plasma_delete(client, &other, 1, NULL));
  tensor.struct_size = sizeof tensor;
  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_write(client, &other, &scalar, &tensor), "wait_ms");
}

static void pinning(plasma_client *client) {
  plasma_object_id ids[2] = {id_of(16), id_of(17)};
  plasma_object_list *list = NULL;
  plasma_object_info info = {.struct_size = sizeof info};
  uint64_t evicted = 1;
  plasma_buffer *buffer = NULL;

  NULL_REFUSED(plasma_pin(NULL, ids, 1), "client");
  NULL_REFUSED(plasma_pin(client, NULL, 1), "object_ids");
  NULL_REFUSED(plasma_unpin(NULL, ids, 1), "client");
  NULL_REFUSED(plasma_unpin(client, NULL, 1), "object_ids");
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_pin(client, ids, SIZE_MAX), "object_ids");
  OK(plasma_pin(client, NULL, 0));
  put(client, &ids[0], 10, 16);
  EXPECT(PLASMA_OBJECT_NOT_FOUND, plasma_pin(client, ids, 2), "1111");
  EXPECT(PLASMA_OBJECT_NOT_FOUND, plasma_unpin(client, ids, 2), "1111");
  OK(plasma_create(client, &ids[1], 1, NULL, 0, NULL, &buffer));
  EXPECT(PLASMA_OBJECT_NOT_SEALED, plasma_pin(client, ids, 2), "1111");
  plasma_buffer_release(buffer);
  OK(plasma_abort(client, &ids[1]));

  OK(plasma_pin(client, ids, 1));
  OK(plasma_list(client, &list));
  OK(plasma_object_list_get(list, 0, &info));
  CHECK(info.pinned);
  plasma_object_list_free(list);
  OK(plasma_evict(client, UINT64_MAX, &evicted));
  CHECK(evicted == 0);
  OK(plasma_unpin(client, ids, 1));
  OK(plasma_evict(client, UINT64_MAX, &evicted));
  CHECK(evicted == 10);
}

/* An object that lives for a millisecond is gone when another one gets its room. */
static void times(plasma_client *client) {
  plasma_object_id id = id_of(18), next = id_of(19);
  plasma_create_options options = {sizeof options, PLASMA_CREATE_NO_EVICT, 1, -1, NULL};
  plasma_buffer *buffer = NULL;
  bool contained = true;
  OK(plasma_create(client, &id, CAPACITY, NULL, 0, &options, &buffer));
  OK(plasma_seal(client, &id));
  plasma_buffer_release(buffer);
  OK(plasma_create(client, &next, CAPACITY, NULL, 0, &options, &buffer));
  OK(plasma_contains(client, &id, &contained));
  CHECK(!contained);
  options.wait_ms = 1;
  EXPECT(PLASMA_STORE_FULL, plasma_create(client, &id, 1, NULL, 0, &options, &buffer), "holds most: 1048576 bytes");
  plasma_buffer_release(buffer);
  OK(plasma_abort(client, &next));
}

/* What is to be immutable cannot be sealed while anything of this process could still write it, and can be when that is gone. */
static void immutable(plasma_client *client) {
  plasma_object_id id = id_of(40), other = id_of(41);
  plasma_create_options options = {sizeof options, PLASMA_CREATE_IMMUTABLE, 0, 0, NULL};
  tensor_write_options written = {sizeof written, PLASMA_CREATE_IMMUTABLE, NULL, 0, 0, 0, NULL, NULL};
  plasma_put_item item = {id, (const uint8_t *)"x", 1, NULL, 0, NULL};
  plasma_buffer *buffer = NULL;
  DLManagedTensor *tensor = NULL;
  const int64_t shape[1] = {1000};
  bool contained = true;
  OK(plasma_create(client, &id, 10000, NULL, 0, &options, &buffer));
  memset(plasma_buffer_mutable_data(buffer), 7, 10000);
  EXPECT(PLASMA_BUSY, plasma_seal(client, &id), "2828");
  EXPECT(PLASMA_BUSY, plasma_seal_async(client, &id), "2828");
  EXPECT(PLASMA_BUSY, plasma_abort(client, &id), "2828");
  OK(plasma_contains(client, &id, &contained));
  CHECK(!contained && plasma_buffer_mutable_data(buffer) != NULL && !plasma_buffer_is_immutable(buffer));
  plasma_buffer_release(buffer);
  OK(plasma_seal(client, &id));
  EXPECT(PLASMA_OBJECT_ALREADY_SEALED, plasma_seal(client, &id), "2828");
  OK(plasma_get(client, &id, 1, 0, NULL, &buffer));
  CHECK(holds(buffer, 10000, 7) && plasma_buffer_is_immutable(buffer) && !plasma_buffer_is_immutable(NULL));
  plasma_buffer_release(buffer);

  /* A tensor of its buffer is a view of it as well. */
  OK(tensor_create_buffer(client, &other, (DLDataType){kDLFloat, 32, 1}, 1, shape, &written, &buffer));
  OK(tensor_from_buffer(buffer, &tensor));
  plasma_buffer_release(buffer);
  memset(tensor->dl_tensor.data, 0, sizeof(float) * 1000);
  EXPECT(PLASMA_BUSY, plasma_seal(client, &other), "2929");
  tensor->deleter(tensor);
  OK(plasma_seal(client, &other));
  OK(tensor_read(client, &other, 0, &tensor));
  CHECK(((float *)tensor->dl_tensor.data)[999] == 0);
  tensor->deleter(tensor);
  OK(plasma_delete(client, &id, 1, NULL));
  OK(plasma_delete(client, &other, 1, NULL));

  OK(tensor_create_buffer(client, &other, (DLDataType){kDLFloat, 32, 1}, 1, shape, &written, &buffer));
  plasma_buffer_release(buffer);
  OK(plasma_abort(client, &other));
  OK(plasma_put(client, &id, (const uint8_t *)"x", 1, NULL, 0, &options));
  OK(plasma_delete(client, &id, 1, NULL));
  EXPECT(PLASMA_STORE_FULL, plasma_create(client, &id, 2 * CAPACITY, NULL, 0, &options, &buffer), "2097152");
  EXPECT(PLASMA_UNSUPPORTED, plasma_put_batch(client, &item, 1, &options), "immutable");
  options.flags = 4 | PLASMA_CREATE_IMMUTABLE;
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_put(client, &id, (const uint8_t *)"x", 1, NULL, 0, &options), "0x4");
}

static void empty_object(plasma_client *client) {
  plasma_object_id id = id_of(4);
  plasma_buffer *buffer = NULL;
  OK(plasma_create(client, &id, 0, NULL, 0, NULL, &buffer));
  OK(plasma_seal(client, &id));
  plasma_buffer_release(buffer);
  OK(plasma_get(client, &id, 1, 0, NULL, &buffer));
  CHECK(buffer != NULL && plasma_buffer_size(buffer) == 0 && plasma_buffer_metadata_size(buffer) == 0);
  plasma_buffer_release(buffer);
  OK(plasma_delete(client, &id, 1, NULL));
}

static void getting(plasma_client *client) {
  plasma_object_id there[3] = {id_of(5), id_of(6), id_of(5)};
  plasma_buffer *sentinel = (plasma_buffer *)&there, *buffers[3] = {sentinel, sentinel, sentinel};
  bool contained = true;
  put(client, &there[0], 100, 5);

  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_get(client, there, 3, -2, NULL, buffers), "-2");
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_get(client, there, 3, INT64_MIN, NULL, buffers), "-9223372036854775808");
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_get(client, there, SIZE_MAX, 0, NULL, buffers), "object_ids");
  plasma_get_options options = {sizeof options, 4};
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_get(client, there, 3, 0, &options, buffers), "0x4");
  options.struct_size = 4;
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_get(client, there, 3, 0, &options, buffers), "struct_size is 4");
  CHECK(buffers[0] == sentinel && buffers[1] == sentinel && buffers[2] == sentinel);
  OK(plasma_get(client, there, 0, 0, NULL, buffers));
  CHECK(buffers[0] == sentinel);

  EXPECT(PLASMA_TIMEOUT, plasma_get(client, there, 3, 0, NULL, buffers), "0 ms");
  CHECK(holds(buffers[0], 100, 5) && buffers[1] == NULL && holds(buffers[2], 100, 5));
  CHECK(plasma_buffer_mutable_data(buffers[0]) == NULL);
  EXPECT(PLASMA_OBJECT_ALREADY_SEALED, plasma_buffer_write(buffers[0], 0, (const uint8_t *)"x", 1), "");
  plasma_buffer_release(buffers[0]);
  plasma_buffer_release(buffers[2]);
  EXPECT(PLASMA_TIMEOUT, plasma_get(client, &there[1], 1, 20, NULL, buffers), "20 ms");
  OK(plasma_contains(client, &there[1], &contained));
  CHECK(!contained);

  options.struct_size = sizeof options, options.flags = PLASMA_GET_PRIVATE;
  OK(plasma_get(client, there, 1, 0, &options, buffers));
  memset(plasma_buffer_mutable_data(buffers[0]), 9, 99);
  OK(plasma_buffer_write(buffers[0], 99, (const uint8_t *)"\t", 1));
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_buffer_write(buffers[0], 100, (const uint8_t *)"x", 1), "1 bytes at 100");
  OK(plasma_get(client, there, 1, 0, NULL, &buffers[1]));
  CHECK(holds(buffers[0], 100, 9) && holds(buffers[1], 100, 5));
  plasma_buffer_release(buffers[0]);
  plasma_buffer_release(buffers[1]);
  OK(plasma_delete(client, there, 1, NULL));
}

static void deleting(plasma_client *client) {
  plasma_object_id given[3] = {id_of(10), id_of(11), id_of(12)};
  plasma_status results[3] = {-1, -1, -1};
  plasma_buffer *held = NULL, *unsealed = NULL, *again = NULL;
  put(client, &given[0], 1, 10);
  OK(plasma_get(client, given, 1, 0, NULL, &held));
  OK(plasma_create(client, &given[1], 1, NULL, 0, NULL, &unsealed));

  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_delete(client, given, SIZE_MAX, results), "object_ids");
  OK(plasma_delete(client, given, 0, results));
  CHECK(results[0] == -1);
  OK(plasma_delete(client, given, 3, results));
  CHECK(results[0] == PLASMA_OBJECT_IN_USE);
  CHECK(results[1] == PLASMA_OBJECT_NOT_SEALED);
  CHECK(results[2] == PLASMA_OBJECT_NOT_FOUND);
  CHECK(holds(held, 1, 10));
  plasma_buffer_release(held);
  plasma_buffer_release(unsealed);
  EXPECT(PLASMA_TIMEOUT, plasma_get(client, given, 1, 0, NULL, &again), "0 ms");
  OK(plasma_abort(client, &given[1]));
}

static void listing(plasma_client *client) {
  plasma_object_id id = id_of(13);
  plasma_object_list *list = NULL;
  plasma_object_info info = {0};
  put(client, &id, 77, 13);
  OK(plasma_list(client, &list));
  CHECK(plasma_object_list_size(list) == 1);
  NULL_REFUSED(plasma_object_list_get(list, 0, NULL), "out");
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_object_list_get(list, 0, &info), "struct_size is 0");
  info.struct_size = sizeof info;
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_object_list_get(list, 1, &info), "1");
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_object_list_get(list, SIZE_MAX, &info), "18446744073709551615");
  OK(plasma_object_list_get(list, 0, &info));
  CHECK(memcmp(&info.id, &id, sizeof id) == 0 && info.data_size == 77 && info.state == PLASMA_STATE_SEALED);
  plasma_object_list_free(list);
  OK(plasma_delete(client, &id, 1, NULL));
}

/* Put, hash, eviction, figures and quotas: used right, and wrong. */
static void controlling(plasma_client *client) {
  plasma_object_id id = id_of(14), none = id_of(15);
  const uint8_t data[] = "data1", metadata[] = "md";
  /* The digest that old Plasma gives these bytes. */
  const uint8_t expected[8] = {0x31, 0x05, 0x5e, 0x3f, 0x81, 0x3e, 0xbb, 0xce};
  uint8_t digest[8];
  uint64_t evicted = 0;
  size_t length = 0;
  char text[2000], start[8];
  plasma_buffer *buffer = NULL;

  NULL_REFUSED(plasma_put(NULL, &id, data, 5, NULL, 0, NULL), "client");
  NULL_REFUSED(plasma_put(client, NULL, data, 5, NULL, 0, NULL), "object_id");
  NULL_REFUSED(plasma_put(client, &id, NULL, 5, NULL, 0, NULL), "data");
  NULL_REFUSED(plasma_put(client, &id, data, 5, NULL, 2, NULL), "metadata");
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_put(client, &id, data, UINT64_MAX, NULL, 0, NULL), "18446744073709551615");
  OK(plasma_put(client, &id, data, 5, metadata, 2, NULL));
  EXPECT(PLASMA_OBJECT_EXISTS, plasma_put(client, &id, data, 5, NULL, 0, NULL), "0e0e");

  NULL_REFUSED(plasma_hash(NULL, &id, digest), "client");
  NULL_REFUSED(plasma_hash(client, NULL, digest), "object_id");
  NULL_REFUSED(plasma_hash(client, &id, NULL), "out");
  EXPECT(PLASMA_OBJECT_NOT_FOUND, plasma_hash(client, &none, digest), "0f0f");
  OK(plasma_hash(client, &id, digest));
  CHECK(memcmp(digest, expected, sizeof expected) == 0);

  NULL_REFUSED(plasma_debug_string(NULL, text, sizeof text, &length), "client");
  NULL_REFUSED(plasma_debug_string(client, NULL, 1, &length), "out");
  NULL_REFUSED(plasma_debug_string(client, text, sizeof text, NULL), "length");
  OK(plasma_debug_string(client, NULL, 0, &length));
  OK(plasma_debug_string(client, start, sizeof start, &length));
  OK(plasma_debug_string(client, text, sizeof text, &length));
  CHECK(strlen(text) == length && strlen(start) == 7 && strncmp(text, start, 7) == 0);
  CHECK(strstr(text, "allocated bytes: 7\n") != NULL);

  NULL_REFUSED(plasma_refresh(NULL, &id, 1), "client");
  NULL_REFUSED(plasma_refresh(client, NULL, 1), "object_ids");
  OK(plasma_refresh(client, &none, 1));
  OK(plasma_refresh(client, &id, 1));
  NULL_REFUSED(plasma_evict(NULL, 1, &evicted), "client");
  NULL_REFUSED(plasma_evict(client, 1, NULL), "evicted");
  OK(plasma_get(client, &id, 1, 0, NULL, &buffer));
  OK(plasma_evict(client, UINT64_MAX, &evicted));
  CHECK(evicted == 0);
  plasma_buffer_release(buffer);
  OK(plasma_evict(client, UINT64_MAX, &evicted));
  CHECK(evicted == 7);

  NULL_REFUSED(plasma_set_options(NULL, "c", 1), "client");
  NULL_REFUSED(plasma_set_options(client, NULL, 1), "name");
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_set_options(client, "\xff", 1), "name is not UTF-8");
  EXPECT(PLASMA_STORE_FULL, plasma_set_options(client, "c", -1), "-1 bytes");
  EXPECT(PLASMA_STORE_FULL, plasma_set_options(client, "c", CAPACITY), "three tenths");
  OK(plasma_set_options(client, "c", 1000));
  EXPECT(PLASMA_STORE_FULL, plasma_set_options(client, "c", 1000), "once");
  EXPECT(PLASMA_STORE_FULL, plasma_create(client, &id, 1001, NULL, 0, NULL, &buffer), "1001");
}

static void streams(plasma_client *client) {
  const uint8_t data[] = "data";
  plasma_object_id id = id_of(60), ids[3] = {id_of(61), id_of(60), id_of(61)}, failed[2];
  plasma_create_options options = {.struct_size = sizeof options, .flags = 0x10};
  plasma_status statuses[2];
  plasma_buffer *buffer = NULL;
  size_t count = 9;

  NULL_REFUSED(plasma_put_async(NULL, &id, data, 4, NULL, 0, NULL), "client");
  NULL_REFUSED(plasma_put_async(client, NULL, data, 4, NULL, 0, NULL), "object_id");
  NULL_REFUSED(plasma_put_async(client, &id, NULL, 4, NULL, 0, NULL), "data");
  NULL_REFUSED(plasma_put_async(client, &id, data, 4, NULL, 1, NULL), "metadata");
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_put_async(client, &id, data, 4, NULL, 0, &options), "0x10");
  NULL_REFUSED(plasma_seal_async(NULL, &id), "client");
  NULL_REFUSED(plasma_seal_async(client, NULL), "object_id");
  EXPECT(PLASMA_OBJECT_NOT_FOUND, plasma_seal_async(client, &id), "3c3c");
  NULL_REFUSED(plasma_flush(NULL, NULL, NULL, 0, NULL), "client");
  OK(plasma_flush(client, NULL, NULL, 0, &count));
  CHECK(count == 0);

  OK(plasma_create(client, &id, 4, NULL, 0, NULL, &buffer));
  memcpy(plasma_buffer_mutable_data(buffer), data, 4);
  OK(plasma_seal_async(client, &id));
  CHECK(plasma_buffer_mutable_data(buffer) == NULL);
  EXPECT(PLASMA_OBJECT_NOT_FOUND, plasma_seal_async(client, &id), "3c3c");
  plasma_buffer_release(buffer);
  for (int i = 0; i < 3; i++) OK(plasma_put_async(client, &ids[i], data, 4, data, 2, NULL));
  EXPECT(PLASMA_OBJECT_EXISTS, plasma_flush(client, failed, statuses, 1, &count), "3c3c");
  CHECK(count == 2 && memcmp(&failed[0], &ids[1], sizeof id) == 0 && statuses[0] == PLASMA_OBJECT_EXISTS);
  OK(plasma_flush(client, failed, statuses, 2, &count));
  CHECK(count == 0);
  OK(plasma_get(client, ids, 1, 0, NULL, &buffer));
  CHECK(memcmp(plasma_buffer_data(buffer), data, 4) == 0 && plasma_buffer_metadata_size(buffer) == 2);
  plasma_buffer_release(buffer);
  OK(plasma_delete(client, ids, 2, NULL));
}

static void batches(plasma_client *client) {
  const uint8_t data[] = "data";
  plasma_put_item items[3] = {
      {id_of(20), data, 4, data, 2, NULL}, {id_of(21), NULL, 0, NULL, 0, NULL}, {id_of(20), NULL, 0, NULL, 0, NULL}};
  plasma_create_options options = {.struct_size = sizeof options, .flags = 0x10};
  plasma_object_id ids[2] = {id_of(20), id_of(21)};
  plasma_buffer *buffers[2];
  char name[10];
  size_t length = 0;

  NULL_REFUSED(plasma_put_batch(NULL, items, 2, NULL), "client");
  NULL_REFUSED(plasma_put_batch(client, NULL, 2, NULL), "items");
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_put_batch(client, items, SIZE_MAX, NULL), "items");
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_put_batch(client, items, 2, &options), "0x10");
  options.flags = 0, options.ttl_ms = 9;
  EXPECT(PLASMA_UNSUPPORTED, plasma_put_batch(client, items, 2, &options), "9");
  options.ttl_ms = 0, options.name = "all";
  EXPECT(PLASMA_UNSUPPORTED, plasma_put_batch(client, items, 2, &options), "all");
  items[1].name = "another";
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_put_batch(client, items, 2, NULL), "another");
  items[1].name = "\xff";
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_put_batch(client, items, 2, NULL), "items[1].name");
  items[1].name = "second";
  OK(plasma_object_id_from_name(NULL, "second", &items[1].id));
  ids[1] = items[1].id;
  EXPECT(PLASMA_OBJECT_EXISTS, plasma_put_batch(client, items, 3, NULL), "1414");
  items[1].data_size = 5;
  NULL_REFUSED(plasma_put_batch(client, items, 2, NULL), "items[1].data");
  items[1].data_size = UINT64_MAX;
  items[1].data = data;
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_put_batch(client, items, 2, NULL), "items[1].data");
  items[1].data_size = 0, items[1].metadata_size = 1;
  NULL_REFUSED(plasma_put_batch(client, items, 2, NULL), "items[1].metadata");
  items[1].metadata_size = 0;
  EXPECT(PLASMA_TIMEOUT, plasma_get(client, ids, 2, 0, NULL, buffers), "");
  OK(plasma_put_batch(client, items, 0, NULL));
  OK(plasma_put_batch(client, items, 2, NULL));
  OK(plasma_get(client, ids, 2, 0, NULL, buffers));
  CHECK(memcmp(plasma_buffer_data(buffers[0]), data, 4) == 0 && plasma_buffer_metadata_size(buffers[0]) == 2);
  CHECK(plasma_buffer_size(buffers[1]) == 0 && plasma_buffer_metadata_size(buffers[1]) == 0);
  OK(plasma_object_name(client, &ids[1], name, sizeof name, &length));
  CHECK(length == 6 && strcmp(name, "second") == 0);
  OK(plasma_object_name(client, &ids[0], name, sizeof name, &length));
  CHECK(length == 0 && *name == 0);
  plasma_buffer_release(buffers[0]);
  plasma_buffer_release(buffers[1]);
  OK(plasma_delete(client, ids, 2, NULL));
}

/* Structs to be filled, of older and of newer programs than the library. */
static void figures(plasma_client *client) {
  struct {
    plasma_store_stats known;
    uint64_t unknown;
  } newer;
  memset(&newer, 0xff, sizeof newer);
  NULL_REFUSED(plasma_stats(NULL, &newer.known), "client");
  NULL_REFUSED(plasma_stats(client, NULL), "out");
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_stats(client, &newer.known), "struct_size is 18446744073709551615");
  newer.known.struct_size = 7;
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_stats(client, &newer.known), "struct_size is 7");
  newer.known.struct_size = sizeof newer;
  OK(plasma_stats(client, &newer.known));
  CHECK(newer.known.struct_size == sizeof newer && newer.known.capacity == CAPACITY && newer.unknown == 0);

  plasma_store_stats older;
  memset(&older, 0xff, sizeof older);
  older.struct_size = offsetof(plasma_store_stats, used_bytes);
  OK(plasma_stats(client, &older));
  CHECK(older.capacity == CAPACITY && older.used_bytes == UINT64_MAX);
}

static void subscribing(plasma_client *client) {
  plasma_subscription *subscription = NULL;
  plasma_subscribe_options options = {sizeof options, 0x20};
  plasma_event event = {0};
  plasma_object_id id = id_of(22);

  NULL_REFUSED(plasma_subscribe(NULL, NULL, &subscription), "client");
  NULL_REFUSED(plasma_subscribe(client, NULL, NULL), "out");
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_subscribe(client, &options, &subscription), "0x20");
  options.struct_size = 1;
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_subscribe(client, &options, &subscription), "struct_size is 1");
  NULL_REFUSED(plasma_subscription_next(NULL, 0, &event), "subscription");
  CHECK(plasma_subscription_fd(NULL) == -1);
  plasma_subscription_free(NULL);
  CHECK(subscription == NULL);

  OK(plasma_put(client, &id, NULL, 0, NULL, 0, NULL));
  options.struct_size = sizeof options, options.flags = PLASMA_SUBSCRIBE_SKIP_EXISTING;
  OK(plasma_subscribe(client, &options, &subscription));
  CHECK(plasma_subscription_fd(subscription) >= 0);
  NULL_REFUSED(plasma_subscription_next(subscription, 0, NULL), "out");
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_subscription_next(subscription, 0, &event), "struct_size is 0");
  event.struct_size = sizeof event;
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_subscription_next(subscription, -2, &event), "-2");
  EXPECT(PLASMA_TIMEOUT, plasma_subscription_next(subscription, 0, &event), "0 ms");
  CHECK(event.kind == 0);
  OK(plasma_delete(client, &id, 1, NULL));
  OK(plasma_subscription_next(subscription, -1, &event));
  CHECK(event.kind == PLASMA_EVENT_DELETED && memcmp(&event.id, &id, sizeof id) == 0 && event.data_size == 0);
  plasma_subscription_free(subscription);
}

static int can_be_read(int fd, int patience_ms) {
  struct pollfd polled = {fd, POLLIN, 0};
  return poll(&polled, 1, patience_ms) == 1;
}

static void watching(plasma_client *client) {
  plasma_object_id ids[2] = {id_of(24), id_of(25)}, told[3];
  plasma_get_options no_ask = {sizeof no_ask, PLASMA_GET_NO_ASK};
  plasma_buffer *buffer = NULL;
  size_t count = 99;
  NULL_REFUSED(plasma_watch(NULL, ids, 2), "client");
  NULL_REFUSED(plasma_watch(client, NULL, 2), "object_ids");
  NULL_REFUSED(plasma_unwatch(NULL, ids, 2), "client");
  NULL_REFUSED(plasma_unwatch(client, NULL, 2), "object_ids");
  NULL_REFUSED(plasma_watch_take(NULL, told, 3, &count), "client");
  NULL_REFUSED(plasma_watch_take(client, NULL, 3, &count), "object_ids");
  NULL_REFUSED(plasma_watch_take(client, told, 3, NULL), "count");
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_watch(client, ids, SIZE_MAX), "object_ids");
  CHECK(plasma_watch_fd(NULL) == -1 && count == 99);
  OK(plasma_watch(client, NULL, 0));
  OK(plasma_unwatch(client, ids, 2));
  OK(plasma_watch_take(client, NULL, 0, &count));
  CHECK(count == 0);

  int fd = plasma_watch_fd(client);
  CHECK(fd >= 0 && fd == plasma_watch_fd(client));
  CHECK(plasma_get(client, ids, 1, -1, &no_ask, &buffer) == PLASMA_TIMEOUT && buffer == NULL);
  OK(plasma_watch(client, ids, 2));
  OK(plasma_watch(client, ids, 2));
  OK(plasma_unwatch(client, ids + 1, 1));
  OK(plasma_put(client, ids + 1, NULL, 0, NULL, 0, NULL));
  CHECK(!can_be_read(fd, 0));
  OK(plasma_put(client, ids, NULL, 0, NULL, 0, NULL));
  CHECK(can_be_read(fd, 60000));
  OK(plasma_watch_take(client, told, 3, &count));
  CHECK(count == 1 && memcmp(told, ids, sizeof *ids) == 0 && !can_be_read(fd, 0));
  OK(plasma_get(client, ids, 1, 0, &no_ask, &buffer));
  plasma_buffer_release(buffer);

  /* What is there already, taken one at a time; the last one is not asked for. */
  OK(plasma_watch(client, ids, 2));
  OK(plasma_delete(client, ids, 2, NULL));
  CHECK(can_be_read(fd, 60000));
  OK(plasma_watch_take(client, told, 1, &count));
  CHECK(count == 1);
  OK(plasma_unwatch(client, ids, 2));
  OK(plasma_watch_take(client, told, 1, &count));
  CHECK(count == 0 && !can_be_read(fd, 0));
  OK(plasma_watch(client, ids, 2));
}

/* One frame of the stream, read by hand; then other bytes. */
static void decoding_events(plasma_client *client) {
  plasma_subscription *subscription = NULL;
  plasma_object_id id = id_of(23);
  int64_t length = 0;
  uint8_t frame[1000];
  size_t count = 99;
  plasma_event events[2] = {{0}, {0}};
  OK(plasma_subscribe(client, NULL, &subscription));
  OK(plasma_put(client, &id, frame, 7, frame, 3, NULL));
  int fd = plasma_subscription_fd(subscription);
  CHECK(read(fd, &length, sizeof length) == sizeof length && length <= (int64_t)sizeof frame);
  CHECK(read(fd, frame, (size_t)length) == length);
  plasma_subscription_free(subscription);

  NULL_REFUSED(plasma_decode_events(NULL, 8, events, 1, &count), "frame");
  NULL_REFUSED(plasma_decode_events(frame, (uint64_t)length, NULL, 1, &count), "out");
  NULL_REFUSED(plasma_decode_events(frame, (uint64_t)length, events, 1, NULL), "count");
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_decode_events(frame, (uint64_t)length, events, 1, &count), "struct_size is 0");
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_decode_events(frame, UINT64_MAX, events, 1, &count), "frame");
  EXPECT(PLASMA_PROTOCOL_ERROR, plasma_decode_events(frame, 0, events, 1, &count), "0 bytes");
  for (int64_t size = 0; size < length; size++) {
    uint8_t *cut = malloc((size_t)size + 1);
    memcpy(cut, frame, (size_t)size);
    CHECK(plasma_decode_events(cut, (uint64_t)size, NULL, 0, &count) != PLASMA_PANIC);
    free(cut);
  }
  count = 99;
  OK(plasma_decode_events(frame, (uint64_t)length, NULL, 0, &count));
  CHECK(count == 1);
  events[0].struct_size = sizeof events[0];
  OK(plasma_decode_events(frame, (uint64_t)length, events, 2, &count));
  CHECK(count == 1 && events[0].kind == PLASMA_EVENT_SEALED && memcmp(&events[0].id, &id, sizeof id) == 0);
  CHECK(events[0].data_size == 7 && events[0].metadata_size == 3 && events[1].struct_size == 0);
  OK(plasma_delete(client, &id, 1, NULL));
}

static void starting_stores(const char *directory, const char *live) {
  plasma_store *store = NULL;
  char file[PATH_MAX], overlong[109];
  snprintf(file, sizeof file, "%s/notes.txt", directory);
  memset(overlong, 'x', sizeof overlong - 1);
  overlong[0] = '/', overlong[sizeof overlong - 1] = '\0';
  FILE *notes = fopen(file, "w");
  CHECK(notes != NULL && fputs("mine", notes) >= 0 && fclose(notes) == 0);

  plasma_store_options options = {sizeof options, live, CAPACITY};
  NULL_REFUSED(plasma_store_start(&options, NULL), "out");
  EXPECT(PLASMA_ADDRESS_IN_USE, plasma_store_start(&options, &store), live);
  options.socket_path = file;
  EXPECT(PLASMA_ADDRESS_IN_USE, plasma_store_start(&options, &store), file);
  options.socket_path = overlong;
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_store_start(&options, &store), "108");
  options.socket_path = "\xff";
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_store_start(&options, &store), "socket_path is not UTF-8");
  options.socket_path = NULL, options.capacity = UINT64_MAX;
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_store_start(&options, &store), "18446744073709551615");
  options.struct_size = 0;
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_store_start(&options, &store), "struct_size is 0");
  CHECK(store == NULL);

  struct stat found;
  CHECK(stat(file, &found) == 0 && found.st_size == 4);
  CHECK(plasma_store_socket(NULL) == NULL);
  OK(plasma_store_stop(NULL));
}

int main(int argc, char **argv) {
  CHECK(argc == 2);
  char socket[PATH_MAX];
  snprintf(socket, sizeof socket, "%s/live.sock", argv[1]);
  versions_and_texts();
  ids();

  plasma_store *store = NULL;
  plasma_client *client = NULL;
  plasma_store_options options = {sizeof options, socket, CAPACITY};
  OK(plasma_store_start(&options, &store));
  connecting(argv[1], socket);
  sizes_of_options(socket);
  OK(plasma_connect(socket, NULL, &client));
  null_arguments(client);
  creating(client);
  creating_with_two(client, socket);
  older_options(client);
  pinning(client);
  times(client);
  immutable(client);
  empty_object(client);
  getting(client);
  deleting(client);
  listing(client);
  figures(client);
  streams(client);
  batches(client);
  subscribing(client);
  decoding_events(client);
  watching(client);
  controlling(client);
  starting_stores(argv[1], socket);
  plasma_client_free(client);
  OK(plasma_store_stop(store));
  puts("misuse: ok");
  return 0;
}
