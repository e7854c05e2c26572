/* Everything that can be got wrong in a call about shared tensors: each is a status and a message that names what was wrong, and
 * nothing is left behind. The right uses at the end show that it was not the store that refused.
 *
 * usage: shared_misuse SOCKET     a store without objects and with less than 16 MiB */
#include "check.h"

static double numbers[6] = {1, 2, 3, 4, 5, 6};
static int64_t shape[2] = {2, 3};

static DLTensor good(void) {
  return tensor_of(numbers, kDLFloat, 64, 2, shape);
}

static void null_arguments(plasma_client *client) {
  plasma_object_id id = id_of(1);
  DLTensor tensor = good();
  tensor_shared *shared = NULL;
  DLManagedTensor *legacy = NULL;
  DLManagedTensorVersioned *versioned = NULL;
  plasma_buffer *buffer = NULL;
  tensor_description description;
  memset(&description, 0, sizeof description);
  description.struct_size = sizeof description;
  uint64_t version = 0;
  size_t length = 0;
  char text[10];

  NULL_REFUSED(tensor_shared_create(NULL, &id, &tensor, NULL, &shared), "client");
  NULL_REFUSED(tensor_shared_create(client, NULL, &tensor, NULL, &shared), "object_id");
  NULL_REFUSED(tensor_shared_create(client, &id, NULL, NULL, &shared), "like");
  NULL_REFUSED(tensor_shared_create(client, &id, &tensor, NULL, NULL), "out");
  NULL_REFUSED(tensor_shared_open(NULL, &id, 0, &shared), "client");
  NULL_REFUSED(tensor_shared_open(client, NULL, 0, &shared), "object_id");
  NULL_REFUSED(tensor_shared_open(client, &id, 0, NULL), "out");
  NULL_REFUSED(tensor_shared_export(NULL, &legacy), "shared");
  NULL_REFUSED(tensor_shared_export_versioned(NULL, &versioned), "shared");
  NULL_REFUSED(tensor_shared_buffer(NULL, &buffer), "shared");
  NULL_REFUSED(tensor_shared_describe(NULL, &description), "shared");
  NULL_REFUSED(tensor_shared_lock(NULL, 0), "shared");
  NULL_REFUSED(tensor_shared_unlock(NULL), "shared");
  NULL_REFUSED(tensor_shared_version(NULL, &version), "shared");
  NULL_REFUSED(tensor_shared_views(NULL, &length), "shared");
  NULL_REFUSED(tensor_shared_snapshot(NULL, numbers, sizeof numbers, 0), "shared");
  NULL_REFUSED(tensor_shared_freeze(NULL, 0), "shared");
  NULL_REFUSED(tensor_shared_holders(NULL, &id, text, sizeof text, &length), "client");
  NULL_REFUSED(tensor_shared_holders(client, NULL, text, sizeof text, &length), "object_id");
  NULL_REFUSED(tensor_shared_holders(client, &id, text, sizeof text, NULL), "length");
  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_shared_holders(client, &id, NULL, 5, &length), "size is 5");
  NULL_REFUSED(tensor_shared_id(NULL, &id), "shared");
  tensor_shared_close(NULL);
}

static void what_cannot_be_created(plasma_client *client) {
  plasma_object_id id = id_of(1);
  DLTensor tensor = good();
  tensor_shared *shared = NULL;
  tensor_shared_options options = {sizeof options, 6, NULL};

  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_shared_create(client, &id, &tensor, &options, &shared), "0x6");
  options.struct_size = 1;
  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_shared_create(client, &id, &tensor, &options, &shared), "struct_size");
  tensor_shared_options named = {sizeof named, 0, "not the name of this id"};
  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_shared_create(client, &id, &tensor, &named, &shared), "not the name");
  tensor.dtype.lanes = 2;
  EXPECT(PLASMA_UNSUPPORTED, tensor_shared_create(client, &id, &tensor, NULL, &shared), "lanes");
  tensor.data = NULL;
  EXPECT(PLASMA_UNSUPPORTED, tensor_shared_create(client, &id, &tensor, NULL, &shared), "lanes");
  tensor = good();
  tensor.data = NULL;
  tensor.shape = NULL;
  NULL_REFUSED(tensor_shared_create(client, &id, &tensor, NULL, &shared), "shape");
  int64_t large[2] = {1 << 20, 1 << 10};
  tensor.shape = large;
  EXPECT(PLASMA_STORE_FULL, tensor_shared_create(client, &id, &tensor, NULL, &shared), "8589934");
  EXPECT(PLASMA_OBJECT_NOT_FOUND, tensor_shared_open(client, &id, 0, &shared), "");
  EXPECT(PLASMA_TIMEOUT, tensor_shared_open(client, &id, 5, &shared), "5 ms");
  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_shared_open(client, &id, -7, &shared), "-7");
  put(client, &id, 100, 1);
  EXPECT(PLASMA_OBJECT_ALREADY_SEALED, tensor_shared_open(client, &id, -1, &shared), "");
  tensor = good();
  EXPECT(PLASMA_OBJECT_EXISTS, tensor_shared_create(client, &id, &tensor, NULL, &shared), "");
  CHECK(shared == NULL);
  OK(plasma_delete(client, &id, 1, NULL));
}

/* Every call on a handle, with what cannot be, and with what can. */
static void right(plasma_client *client) {
  plasma_object_id id = id_of(2), told;
  DLTensor tensor = good();
  tensor_shared_options options = {sizeof options, TENSOR_SHARED_KEEP, NULL};
  tensor_shared *shared = NULL, *again = NULL;
  DLManagedTensor *legacy = NULL, *read = NULL;
  DLManagedTensorVersioned *versioned = NULL;
  plasma_buffer *buffer = NULL;
  tensor_description description;
  memset(&description, 0, sizeof description);
  description.struct_size = sizeof description;
  uint64_t version = 99;
  size_t length = 0;
  char text[4];
  double copy[6] = {0};

  OK(tensor_shared_create(client, &id, &tensor, &options, &shared));
  OK(tensor_shared_open(client, &id, 0, &again));
  OK(tensor_shared_id(again, &told));
  CHECK(memcmp(&told, &id, sizeof id) == 0);
  NULL_REFUSED(tensor_shared_id(shared, NULL), "object_id");
  NULL_REFUSED(tensor_shared_export(shared, NULL), "out");
  NULL_REFUSED(tensor_shared_export_versioned(shared, NULL), "out");
  NULL_REFUSED(tensor_shared_buffer(shared, NULL), "out");
  NULL_REFUSED(tensor_shared_describe(shared, NULL), "out");
  NULL_REFUSED(tensor_shared_version(shared, NULL), "version");
  NULL_REFUSED(tensor_shared_views(shared, NULL), "count");
  NULL_REFUSED(tensor_shared_snapshot(shared, NULL, sizeof copy, 0), "out");
  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_shared_snapshot(shared, copy, 47, 0), "size is 47, and the tensor has 48");
  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_shared_snapshot(shared, copy, sizeof copy, -2), "-2");
  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_shared_lock(shared, -2), "-2");
  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_shared_freeze(shared, -2), "-2");
  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_shared_unlock(shared), "does not have the lock");
  OK(tensor_shared_holders(client, &id, text, sizeof text, &length));
  CHECK(length > 4 && strlen(text) == 3);

  OK(tensor_shared_lock(shared, 0));
  EXPECT(PLASMA_BUSY, tensor_shared_lock(again, -1), "already");
  OK(tensor_shared_version(again, &version));
  CHECK(version == 1);
  OK(tensor_shared_export(shared, &legacy));
  OK(tensor_shared_export_versioned(again, &versioned));
  CHECK(versioned->flags == 0 && versioned->dl_tensor.data == legacy->dl_tensor.data);
  ((double *)legacy->dl_tensor.data)[5] = 60;
  OK(tensor_shared_snapshot(again, copy, sizeof copy, 0));
  CHECK(copy[0] == 1 && copy[5] == 60);
  OK(tensor_shared_unlock(again));
  OK(tensor_shared_buffer(shared, &buffer));
  OK(tensor_shared_describe(shared, &description));
  CHECK(description.flags == 0 && description.ndim == 2 && description.shape[1] == 3);
  CHECK(description.data == legacy->dl_tensor.data && plasma_buffer_mutable_data(buffer) != NULL);
  CHECK(!plasma_buffer_is_immutable(buffer) && plasma_buffer_metadata_size(buffer) == 0);

  OK(tensor_shared_views(again, &length));
  CHECK(length == 3);
  EXPECT(PLASMA_BUSY, tensor_shared_freeze(shared, -1), "3 arrays or buffers");
  legacy->deleter(legacy);
  versioned->deleter(versioned);
  plasma_buffer_release(buffer);
  OK(tensor_shared_freeze(shared, 0));
  OK(tensor_shared_views(shared, &length));
  CHECK(length == 0);
  EXPECT(PLASMA_OBJECT_ALREADY_SEALED, tensor_shared_freeze(again, 0), "");
  EXPECT(PLASMA_OBJECT_ALREADY_SEALED, tensor_shared_lock(again, 0), "");
  EXPECT(PLASMA_OBJECT_ALREADY_SEALED, tensor_shared_export(shared, &legacy), "");
  EXPECT(PLASMA_OBJECT_NOT_FOUND, tensor_shared_holders(client, &id, text, sizeof text, &length), "");
  tensor_shared_close(shared);
  tensor_shared_close(again);
  OK(tensor_read(client, &id, -1, &read));
  CHECK(((double *)read->dl_tensor.data)[5] == 60);
  read->deleter(read);
  OK(plasma_delete(client, &id, 1, NULL));

  /* Without elements to be copied they are zero; what was exported outlives the handle. */
  tensor.data = NULL;
  plasma_status gone;
  id = id_of(3);
  OK(tensor_shared_create(client, &id, &tensor, NULL, &shared));
  OK(tensor_shared_export(shared, &legacy));
  tensor_shared_close(shared);
  CHECK(((double *)legacy->dl_tensor.data)[5] == 0);
  OK(plasma_delete(client, &id, 1, &gone));
  CHECK(gone == PLASMA_OBJECT_NOT_SEALED);
  legacy->deleter(legacy);
}

int main(int argc, char **argv) {
  part *const parts[] = {null_arguments, what_cannot_be_created, right, NULL};
  return play(argc, argv, "shared_misuse", parts);
}
