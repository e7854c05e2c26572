/* Everything that can be got wrong in a call about rings: each is a status and a message that names what was wrong, and
 * nothing is left behind. The right uses at the end show that it was not the store that refused.
 *
 * usage: ring_misuse SOCKET     a store without objects and with less than 16 MiB */
#include "check.h"

#define NOT_ITS "names no slot that the caller has"

static int64_t numbers[6] = {1, 2, 3, 4, 5, 6};
static int64_t shape[2] = {2, 3};

static DLTensor good(void) {
  return tensor_of(numbers, kDLInt, 64, 2, shape);
}

static tensor_ring_options slots_of(uint32_t slots, const DLTensor *like) {
  tensor_ring_options options;
  memset(&options, 0, sizeof options);
  options.struct_size = sizeof options;
  options.slots = slots;
  options.like = like;
  return options;
}

static tensor_description description(void) {
  tensor_description empty;
  memset(&empty, 0, sizeof empty);
  empty.struct_size = sizeof empty;
  return empty;
}

static tensor_ring_info info(void) {
  tensor_ring_info empty;
  memset(&empty, 0xff, sizeof empty);
  empty.struct_size = sizeof empty;
  return empty;
}

static void null_rings(plasma_client *client) {
  plasma_object_id id = id_of(1);
  DLTensor tensor = good();
  tensor_ring_options options = slots_of(2, &tensor);
  tensor_ring *ring = NULL;
  tensor_ring_slot slot = {0, NULL, 0};
  tensor_description about = description();
  tensor_ring_info made = info();
  DLManagedTensor *legacy = NULL;
  DLManagedTensorVersioned *versioned = NULL;
  size_t done = 0, count = 0;
  int32_t fd = 0;

  NULL_REFUSED(tensor_ring_create(NULL, &id, &options, &ring), "client");
  NULL_REFUSED(tensor_ring_create(client, NULL, &options, &ring), "object_id");
  NULL_REFUSED(tensor_ring_create(client, &id, NULL, &ring), "options");
  NULL_REFUSED(tensor_ring_create(client, &id, &options, NULL), "out");
  NULL_REFUSED(tensor_ring_open(NULL, &id, 0, &ring), "client");
  NULL_REFUSED(tensor_ring_open(client, NULL, 0, &ring), "object_id");
  NULL_REFUSED(tensor_ring_open(client, &id, 0, NULL), "out");
  NULL_REFUSED(tensor_ring_get_info(NULL, &made), "ring");
  NULL_REFUSED(tensor_ring_describe(NULL, &about), "ring");
  NULL_REFUSED(tensor_ring_acquire(NULL, 0, &slot), "ring");
  NULL_REFUSED(tensor_ring_publish(NULL, &slot, NULL), "ring");
  NULL_REFUSED(tensor_ring_abandon(NULL, &slot), "ring");
  NULL_REFUSED(tensor_ring_take(NULL, 0, &slot), "ring");
  NULL_REFUSED(tensor_ring_message(NULL, &slot, &about), "ring");
  NULL_REFUSED(tensor_ring_export(NULL, &slot, &legacy), "ring");
  NULL_REFUSED(tensor_ring_export_versioned(NULL, &slot, &versioned), "ring");
  NULL_REFUSED(tensor_ring_release(NULL, &slot), "ring");
  NULL_REFUSED(tensor_ring_put(NULL, &tensor, 0), "ring");
  NULL_REFUSED(tensor_ring_put_many(NULL, numbers, 1, 0, &done), "ring");
  NULL_REFUSED(tensor_ring_take_many(NULL, numbers, 1, 0, &done), "ring");
  NULL_REFUSED(tensor_ring_close(NULL), "ring");
  NULL_REFUSED(tensor_ring_abort(NULL), "ring");
  NULL_REFUSED(tensor_ring_counts(NULL, &count, &done), "ring");
  NULL_REFUSED(tensor_ring_fd(NULL, &fd), "ring");
  NULL_REFUSED(tensor_ring_id(NULL, &id), "ring");
  tensor_ring_leave(NULL);
}

/* On a ring that is there. */
static void null_arguments(tensor_ring *ring) {
  tensor_ring_slot slot = {0, NULL, 0};
  tensor_description about = description();
  DLManagedTensor *legacy = NULL;
  DLManagedTensorVersioned *versioned = NULL;
  size_t done = 0;

  NULL_REFUSED(tensor_ring_get_info(ring, NULL), "out");
  NULL_REFUSED(tensor_ring_describe(ring, NULL), "out");
  NULL_REFUSED(tensor_ring_acquire(ring, 0, NULL), "out");
  NULL_REFUSED(tensor_ring_publish(ring, NULL, NULL), "slot");
  NULL_REFUSED(tensor_ring_abandon(ring, NULL), "slot");
  NULL_REFUSED(tensor_ring_take(ring, 0, NULL), "out");
  NULL_REFUSED(tensor_ring_message(ring, NULL, &about), "slot");
  NULL_REFUSED(tensor_ring_message(ring, &slot, NULL), "out");
  NULL_REFUSED(tensor_ring_export(ring, NULL, &legacy), "slot");
  NULL_REFUSED(tensor_ring_export(ring, &slot, NULL), "out");
  NULL_REFUSED(tensor_ring_export_versioned(ring, NULL, &versioned), "slot");
  NULL_REFUSED(tensor_ring_export_versioned(ring, &slot, NULL), "out");
  NULL_REFUSED(tensor_ring_release(ring, NULL), "slot");
  NULL_REFUSED(tensor_ring_put(ring, NULL, 0), "tensor");
  NULL_REFUSED(tensor_ring_put_many(ring, NULL, 1, 0, &done), "data");
  NULL_REFUSED(tensor_ring_put_many(ring, numbers, 1, 0, NULL), "done");
  NULL_REFUSED(tensor_ring_take_many(ring, NULL, 1, 0, &done), "out");
  NULL_REFUSED(tensor_ring_take_many(ring, numbers, 1, 0, NULL), "done");
  NULL_REFUSED(tensor_ring_counts(ring, NULL, &done), "free");
  NULL_REFUSED(tensor_ring_counts(ring, &done, NULL), "published");
  NULL_REFUSED(tensor_ring_fd(ring, NULL), "out");
  NULL_REFUSED(tensor_ring_id(ring, NULL), "out");
}

static void options_that_cannot_be(plasma_client *client) {
  plasma_object_id id = id_of(1);
  DLTensor tensor = good();
  tensor_ring *ring = NULL;
  tensor_ring_options options = slots_of(0, &tensor);
#define REFUSED(status, text) EXPECT(status, tensor_ring_create(client, &id, &options, &ring), text)
  REFUSED(PLASMA_INVALID_ARGUMENT, "1 to 65535 slots, not 0");
  options.slots = 65536;
  REFUSED(PLASMA_INVALID_ARGUMENT, "not 65536");
  options = slots_of(2, &tensor);
  options.struct_size = 3;
  REFUSED(PLASMA_INVALID_ARGUMENT, "struct_size");
  options = slots_of(2, &tensor);
  options.flags = 32 | TENSOR_RING_KEEP;
  REFUSED(PLASMA_INVALID_ARGUMENT, "0x20");
  options.flags = TENSOR_RING_BROADCAST | TENSOR_RING_HAND_OUT_AGAIN;
  REFUSED(PLASMA_INVALID_ARGUMENT, "not handed out again");
  options.flags = TENSOR_RING_BROADCAST | TENSOR_RING_GUARD;
  REFUSED(PLASMA_UNSUPPORTED, "guarded");
  options = slots_of(2, &tensor);
  options.slot_bytes = 47;
  REFUSED(PLASMA_INVALID_ARGUMENT, "48 bytes in slots of 47");
  options = slots_of(2, NULL);
  REFUSED(PLASMA_INVALID_ARGUMENT, "slot_bytes");
  options.slot_bytes = UINT64_MAX;
  REFUSED(PLASMA_INVALID_ARGUMENT, "18446744073709551615");
  options.slot_bytes = 1 << 24;
  REFUSED(PLASMA_STORE_FULL, "3355");
  options = slots_of(2, &tensor);
  options.acquire_ms = -2;
  REFUSED(PLASMA_INVALID_ARGUMENT, "acquire_ms is -2");
  options.acquire_ms = 0;
  options.name = "not the name of this id";
  REFUSED(PLASMA_INVALID_ARGUMENT, "not the name");
  options.name = NULL;
  tensor.ndim = 33;
  REFUSED(PLASMA_INVALID_ARGUMENT, "ndim 33");
  tensor.ndim = -1;
  REFUSED(PLASMA_INVALID_ARGUMENT, "ndim -1");
  tensor = good();
  tensor.shape = NULL;
  REFUSED(PLASMA_INVALID_ARGUMENT, "shape is NULL");
  tensor = good();
  tensor.dtype.bits = 0;
  REFUSED(PLASMA_UNSUPPORTED, "0");
#undef REFUSED
  CHECK(ring == NULL);
}

/* What is no ring, and a ring that is taken for something else. */
static void taken_for_another(plasma_client *client) {
  plasma_object_id id = id_of(1);
  DLTensor tensor = good();
  tensor_ring_options options = slots_of(2, &tensor);
  tensor_ring *ring = NULL;
  tensor_shared *shared = NULL;
  plasma_buffer *buffer = NULL;

  EXPECT(PLASMA_OBJECT_NOT_FOUND, tensor_ring_open(client, &id, 0, &ring), "");
  EXPECT(PLASMA_TIMEOUT, tensor_ring_open(client, &id, 5, &ring), "5 ms");
  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_ring_open(client, &id, -7, &ring), "-7");
  put(client, &id, 100, 1);
  EXPECT(PLASMA_OBJECT_ALREADY_SEALED, tensor_ring_open(client, &id, -1, &ring), "");
  EXPECT(PLASMA_OBJECT_EXISTS, tensor_ring_create(client, &id, &options, &ring), "");
  OK(plasma_delete(client, &id, 1, NULL));

  OK(tensor_shared_create(client, &id, &tensor, NULL, &shared));
  EXPECT(PLASMA_CORRUPT, tensor_ring_open(client, &id, 0, &ring), "ring");
  tensor_shared_close(shared);
  int64_t large[2] = {64, 64};
  tensor.shape = large;
  tensor.data = NULL;
  OK(tensor_shared_create(client, &id, &tensor, NULL, &shared));
  EXPECT(PLASMA_CORRUPT, tensor_ring_open(client, &id, 0, &ring), "no ring");
  tensor_shared_close(shared);
  CHECK(ring == NULL);

  shared = NULL;
  tensor = good();
  OK(tensor_ring_create(client, &id, &options, &ring));
  EXPECT(PLASMA_CORRUPT, tensor_shared_open(client, &id, 0, &shared), "is a ring");
  EXPECT(PLASMA_TIMEOUT, plasma_get(client, &id, 1, 0, NULL, &buffer), "");
  tensor_ring_leave(ring);
  options = slots_of(2, NULL);
  options.slot_bytes = 100;
  OK(tensor_ring_create(client, &id, &options, &ring));
  EXPECT(PLASMA_CORRUPT, tensor_shared_open(client, &id, 0, &shared), "is a ring");
  tensor_ring_leave(ring);
  CHECK(shared == NULL && buffer == NULL);
}

/* A slot that the caller does not have, not for this, or not any more. */
static void stale_tokens(tensor_ring *ring) {
  tensor_ring_slot none = {UINT64_MAX, NULL, 0}, slot, taken;
  tensor_description about = description();
  DLManagedTensor *legacy = NULL;
  DLManagedTensorVersioned *versioned = NULL;
#define STALE(call) EXPECT(PLASMA_INVALID_ARGUMENT, call, NOT_ITS)
  STALE(tensor_ring_publish(ring, &none, NULL));
  STALE(tensor_ring_abandon(ring, &none));
  STALE(tensor_ring_release(ring, &none));
  STALE(tensor_ring_message(ring, &none, &about));
  STALE(tensor_ring_export(ring, &none, &legacy));
  STALE(tensor_ring_export_versioned(ring, &none, &versioned));
  none.token = 0;
  STALE(tensor_ring_publish(ring, &none, NULL));

  OK(tensor_ring_acquire(ring, 0, &slot));
  STALE(tensor_ring_release(ring, &slot));
  memcpy(slot.data, numbers, sizeof numbers);
  OK(tensor_ring_publish(ring, &slot, NULL));
  STALE(tensor_ring_publish(ring, &slot, NULL));
  STALE(tensor_ring_abandon(ring, &slot));
  STALE(tensor_ring_message(ring, &slot, &about));
  OK(tensor_ring_take(ring, 0, &taken));
  STALE(tensor_ring_publish(ring, &taken, NULL));
  STALE(tensor_ring_abandon(ring, &taken));
  OK(tensor_ring_release(ring, &taken));
  STALE(tensor_ring_release(ring, &taken));
  STALE(tensor_ring_message(ring, &taken, &about));
  STALE(tensor_ring_export(ring, &taken, &legacy));
  STALE(tensor_ring_export_versioned(ring, &taken, &versioned));
#undef STALE
  CHECK(legacy == NULL && versioned == NULL);
}

/* Nothing is given back while a DLPack tensor of it is out. */
static void busy_slots(tensor_ring *ring) {
  tensor_ring_slot slot;
  DLManagedTensor *legacy = NULL;
  DLManagedTensorVersioned *versioned = NULL;

  OK(tensor_ring_acquire(ring, 0, &slot));
  OK(tensor_ring_export(ring, &slot, &legacy));
  OK(tensor_ring_export_versioned(ring, &slot, &versioned));
  CHECK(versioned->flags == 0 && legacy->dl_tensor.data == slot.data && legacy->dl_tensor.shape[1] == 3);
  memcpy(legacy->dl_tensor.data, numbers, sizeof numbers);
  EXPECT(PLASMA_BUSY, tensor_ring_publish(ring, &slot, NULL), "2 views");
  legacy->deleter(legacy);
  EXPECT(PLASMA_BUSY, tensor_ring_abandon(ring, &slot), "1 views");
  versioned->deleter(versioned);
  OK(tensor_ring_publish(ring, &slot, NULL));

  OK(tensor_ring_take(ring, 0, &slot));
  OK(tensor_ring_export_versioned(ring, &slot, &versioned));
  CHECK(versioned->flags == DLPACK_FLAG_BITMASK_READ_ONLY && versioned->dl_tensor.data == slot.data);
  CHECK(memcmp(versioned->dl_tensor.data, numbers, sizeof numbers) == 0);
  EXPECT(PLASMA_BUSY, tensor_ring_release(ring, &slot), "1 views");
  versioned->deleter(versioned);
  OK(tensor_ring_release(ring, &slot));
}

/* Messages that a ring of 2 x 3 numbers does not take. */
static void messages_that_do_not_fit(tensor_ring *ring) {
  tensor_ring_slot slot;
  DLTensor tensor = good();
  int64_t flat[1] = {6};
  size_t done = 9, free_slots = 0, published = 9;

  tensor.ndim = 1;
  tensor.shape = flat;
  OK(tensor_ring_acquire(ring, TENSOR_RING_AS_CREATED, &slot));
  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_ring_publish(ring, &slot, &tensor), "in a ring for int64 [2, 3]");
  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_ring_put(ring, &tensor, 0), "int64 [6]");
  tensor = good();
  tensor.dtype.code = kDLFloat;
  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_ring_publish(ring, &slot, &tensor), "float64 [2, 3]");
  tensor.shape = NULL;
  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_ring_publish(ring, &slot, &tensor), "shape is NULL");
  OK(tensor_ring_abandon(ring, &slot));
  tensor = good();
  tensor.device.device_type = kDLCUDA;
  EXPECT(PLASMA_UNSUPPORTED, tensor_ring_put(ring, &tensor, 0), "device");
  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_ring_put_many(ring, numbers, SIZE_MAX, 0, &done), "messages of 48 bytes");
  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_ring_take_many(ring, numbers, SIZE_MAX, 0, &done), "");
  OK(tensor_ring_put_many(ring, NULL, 0, 0, &done));
  CHECK(done == 0);
  OK(tensor_ring_take_many(ring, NULL, 0, 0, &done));
  OK(tensor_ring_counts(ring, &free_slots, &published));
  CHECK(free_slots == 2 && published == 0);
}

/* Waiting for what cannot come, with times that cannot be. */
static void waiting(tensor_ring *ring) {
  tensor_ring_slot first, second, third;
  DLTensor tensor = good();
  int64_t copy[6];
  size_t done = 9;
  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_ring_take(ring, -2, &first), "-2");
  EXPECT(PLASMA_TIMEOUT, tensor_ring_take(ring, 0, &first), "");
  EXPECT(PLASMA_TIMEOUT, tensor_ring_take(ring, 5, &first), "5 ms");
  EXPECT(PLASMA_TIMEOUT, tensor_ring_take_many(ring, copy, 1, 0, &done), "");
  OK(tensor_ring_acquire(ring, 0, &first));
  OK(tensor_ring_acquire(ring, 0, &second));
  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_ring_acquire(ring, -3, &third), "-3");
  EXPECT(PLASMA_BUSY, tensor_ring_acquire(ring, -1, &third), "all 2 slots");
  EXPECT(PLASMA_BUSY, tensor_ring_put(ring, &tensor, -1), "all 2 slots");
  EXPECT(PLASMA_BUSY, tensor_ring_put_many(ring, numbers, 1, -1, &done), "all 2 slots");
  CHECK(done == 0);
  OK(tensor_ring_abandon(ring, &first));
  OK(tensor_ring_abandon(ring, &second));
  OK(tensor_ring_put(ring, &tensor, 0));
  OK(tensor_ring_put(ring, &tensor, 0));
  EXPECT(PLASMA_TIMEOUT, tensor_ring_acquire(ring, TENSOR_RING_AS_CREATED, &third), "");
  OK(tensor_ring_take_many(ring, copy, 1, 0, &done));
  CHECK(done == 1 && memcmp(copy, numbers, sizeof copy) == 0);
  OK(tensor_ring_take_many(ring, copy, 1, 0, &done));
}

/* What was chosen is told to whoever opens the ring; nothing is written behind a struct that is shorter. */
static void how_it_was_made(plasma_client *client) {
  plasma_object_id id = id_of(4);
  DLTensor tensor = good();
  tensor_ring_options options = slots_of(3, &tensor);
  tensor_ring *ring = NULL, *again = NULL;
  tensor_ring_info made = info();
  options.flags = TENSOR_RING_HAND_OUT_AGAIN | TENSOR_RING_DROP_OLDEST | TENSOR_RING_GUARD;
  options.acquire_ms = 1500;
  OK(tensor_ring_create(client, &id, &options, &ring));
  OK(tensor_ring_open(client, &id, 0, &again));
  OK(tensor_ring_get_info(again, &made));
  CHECK(made.struct_size == sizeof made && made.slots == 3 && made.flags == options.flags);
  CHECK(made.slot_bytes == 48 && made.acquire_ms == 1500);
  made = info();
  made.struct_size = offsetof(tensor_ring_info, slot_bytes);
  OK(tensor_ring_get_info(ring, &made));
  CHECK(made.slots == 3 && made.slot_bytes == UINT64_MAX && made.acquire_ms == -1);
  made.struct_size = 0;
  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_ring_get_info(ring, &made), "struct_size is 0");
  tensor_ring_leave(ring);
  tensor_ring_leave(again);
  options = slots_of(2, NULL);
  options.slot_bytes = 100;
  options.flags = TENSOR_RING_BROADCAST;
  options.acquire_ms = -1;
  OK(tensor_ring_create(client, &id, &options, &ring));
  made = info();
  OK(tensor_ring_get_info(ring, &made));
  CHECK(made.flags == TENSOR_RING_BROADCAST && made.slot_bytes == 100 && made.acquire_ms == -1);
  tensor_ring_leave(ring);
}

/* Everything on a ring of one type and shape. */
static void fixed(plasma_client *client) {
  plasma_object_id id = id_of(2), told;
  DLTensor tensor = good();
  tensor_ring_options options = slots_of(2, &tensor);
  tensor_ring *ring = NULL, *again = NULL;
  tensor_ring_slot slot;
  tensor_description about = description();
  size_t done = 9;
  int32_t fd = -1;

  OK(tensor_ring_create(client, &id, &options, &ring));
  OK(tensor_ring_open(client, &id, 0, &again));
  OK(tensor_ring_id(again, &told));
  CHECK(memcmp(&told, &id, sizeof id) == 0);
  OK(tensor_ring_describe(again, &about));
  CHECK(about.data == NULL && about.ndim == 2 && about.shape[1] == 3 && about.dtype.code == kDLInt);
  null_arguments(ring);
  stale_tokens(ring);
  busy_slots(ring);
  messages_that_do_not_fit(ring);
  waiting(ring);
  OK(tensor_ring_fd(ring, &fd));
  CHECK(fd >= 0);

  /* The slot is this handle's, and not that of the other, which has the same client. */
  OK(tensor_ring_acquire(ring, 0, &slot));
  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_ring_abandon(again, &slot), NOT_ITS);
  OK(tensor_ring_close(again));
  EXPECT(PLASMA_CLOSED, tensor_ring_publish(ring, &slot, NULL), "");
  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_ring_abandon(ring, &slot), NOT_ITS);
  OK(tensor_ring_close(again));
  EXPECT(PLASMA_CLOSED, tensor_ring_acquire(ring, -1, &slot), "");
  EXPECT(PLASMA_CLOSED, tensor_ring_take(ring, -1, &slot), "");
  EXPECT(PLASMA_CLOSED, tensor_ring_put(ring, &tensor, -1), "");
  EXPECT(PLASMA_CLOSED, tensor_ring_put_many(ring, numbers, 1, -1, &done), "");
  EXPECT(PLASMA_CLOSED, tensor_ring_take_many(ring, numbers, 1, -1, &done), "");
  OK(tensor_ring_abort(ring));
  EXPECT(PLASMA_ABORTED, tensor_ring_take(again, -1, &slot), "");
  EXPECT(PLASMA_ABORTED, tensor_ring_acquire(again, -1, &slot), "");
  tensor_ring_leave(ring);
  tensor_ring_leave(again);
}

/* Each message has a type and a shape of its own, and memory that is guarded while nobody has it. */
static void each_its_own(plasma_client *client) {
  plasma_object_id id = id_of(3);
  DLTensor tensor = good();
  int64_t wide[1] = {100};
  tensor_ring_options options = slots_of(2, NULL);
  options.slot_bytes = 100;
  options.flags = TENSOR_RING_GUARD | TENSOR_RING_KEEP;
  tensor_ring *ring = NULL;
  tensor_ring_slot slot;
  tensor_description about = description();
  DLManagedTensor *tensor_out = NULL;
  size_t done = 9;

  OK(tensor_ring_create(client, &id, &options, &ring));
  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_ring_describe(ring, &about), "of its own");
  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_ring_put_many(ring, numbers, 1, 0, &done), "of its own");
  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_ring_take_many(ring, numbers, 1, 0, &done), "of its own");
  OK(tensor_ring_acquire(ring, 0, &slot));
  CHECK(slot.size == 100 && (uintptr_t)slot.data % 64 == 0);
  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_ring_publish(ring, &slot, NULL), "of its own");
  tensor.ndim = 1;
  tensor.shape = wide;
  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_ring_publish(ring, &slot, &tensor), "800");
  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_ring_put(ring, &tensor, 0), "800");
  tensor = good();
  memcpy(slot.data, numbers, sizeof numbers);
  OK(tensor_ring_publish(ring, &slot, &tensor));
  OK(tensor_ring_take(ring, 0, &slot));
  OK(tensor_ring_message(ring, &slot, &about));
  CHECK(slot.size == 48 && about.data == slot.data && about.shape[0] == 2 && about.ndim == 2);
  CHECK(about.flags == DLPACK_FLAG_BITMASK_READ_ONLY);

  /* What was exported outlives the handle, and holds the slot as long. */
  OK(tensor_ring_export(ring, &slot, &tensor_out));
  tensor_ring_leave(ring);
  CHECK(memcmp(tensor_out->dl_tensor.data, numbers, sizeof numbers) == 0);
  OK(tensor_ring_open(client, &id, 0, &ring));
  size_t free_slots = 0, published = 9;
  OK(tensor_ring_counts(ring, &free_slots, &published));
  CHECK(free_slots == 1 && published == 0);
  tensor_out->deleter(tensor_out);
  OK(tensor_ring_counts(ring, &free_slots, &published));
  CHECK(free_slots == 2 && published == 0);
  tensor_ring_leave(ring);
  OK(plasma_delete(client, &id, 1, NULL));
}

int main(int argc, char **argv) {
  part *const parts[] = {null_rings, options_that_cannot_be, taken_for_another, how_it_was_made, fixed,
                         each_its_own, NULL};
  return play(argc, argv, "ring_misuse", parts);
}
