/* Everything that can be got wrong with bundles and names: each is a status and a message that names what was wrong, and no object
 * is left behind. The right uses show that it was not the store that refused.
 *
 * usage: bundle_misuse SOCKET     a store without objects and with less than 16 MiB */
#include "check.h"

static float numbers[6] = {0, 1, 2, 3, 4, 5};
static int64_t shape[2] = {2, 3};
static int64_t turned[2] = {1, 2};

static DLTensor good(void) {
  return tensor_of(numbers, kDLFloat, 32, 2, shape);
}

/* A file that somebody else wrote; it says the length of its header if `said` is 0. */
static void put_file(plasma_client *client, const plasma_object_id *id, const char *header, uint64_t said, size_t data) {
  uint8_t file[512] = {0};
  said = said == 0 ? strlen(header) : said;
  memcpy(file, &said, sizeof said);
  memcpy(file + sizeof said, header, strlen(header));
  OK(plasma_put(client, id, file, sizeof said + strlen(header) + data, NULL, 0, NULL));
}

static void null_arguments(plasma_client *client) {
  plasma_object_id id = id_of(1);
  DLTensor tensor = good();
  tensor_bundle_item item = {"x", &tensor, 0};
  tensor_bundle *bundle = NULL;
  plasma_buffer *buffer = NULL;
  DLManagedTensor *legacy = NULL;
  DLManagedTensorVersioned *versioned = NULL;
  const char *text = NULL;
  size_t length = 12345;

  NULL_REFUSED(tensor_bundle_write(NULL, &id, &item, 1, NULL), "client");
  NULL_REFUSED(tensor_bundle_write(client, NULL, &item, 1, NULL), "object_id");
  NULL_REFUSED(tensor_bundle_write(client, &id, NULL, 1, NULL), "items");
  item.name = NULL;
  NULL_REFUSED(tensor_bundle_write(client, &id, &item, 1, NULL), "items[0].name");
  item.name = "x";
  item.tensor = NULL;
  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_bundle_write(client, &id, &item, 1, NULL), "tensor \"x\": tensor is NULL");
  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_bundle_create(client, &id, &item, 1, NULL, &buffer), "tensor \"x\": tensor is NULL");
  NULL_REFUSED(tensor_bundle_create(NULL, &id, &item, 1, NULL, &buffer), "client");
  NULL_REFUSED(tensor_bundle_create(client, NULL, &item, 1, NULL, &buffer), "object_id");
  NULL_REFUSED(tensor_bundle_create(client, &id, NULL, 1, NULL, &buffer), "items");
  NULL_REFUSED(tensor_bundle_create(client, &id, &item, 1, NULL, NULL), "out");
  tensor_bundle_options options = {.struct_size = sizeof options, .metadata_count = 1};
  NULL_REFUSED(tensor_bundle_write(client, &id, NULL, 0, &options), "metadata_keys");
  options.metadata_keys = &text;
  NULL_REFUSED(tensor_bundle_write(client, &id, NULL, 0, &options), "metadata_keys[0]");
  const char *keys[2] = {"k", "k"};
  options.metadata_keys = keys;
  NULL_REFUSED(tensor_bundle_write(client, &id, NULL, 0, &options), "metadata_values");
  options.metadata_values = keys;
  options.metadata_count = 2;
  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_bundle_write(client, &id, NULL, 0, &options), "of 2 metadata_keys, 1");
  NULL_REFUSED(tensor_bundle_read(NULL, &id, 0, 0, &bundle), "client");
  NULL_REFUSED(tensor_bundle_read(client, NULL, 0, 0, &bundle), "object_id");
  NULL_REFUSED(tensor_bundle_read(client, &id, 0, 0, NULL), "out");
  EXPECT(PLASMA_TIMEOUT, tensor_bundle_read(client, &id, 0, 0, &bundle), "0");
  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_bundle_read(client, &id, 0, 128, &bundle), "0x80");
  NULL_REFUSED(tensor_bundle_from_buffer(NULL, &bundle), "buffer");
  NULL_REFUSED(tensor_bundle_name(NULL, 0, &text), "bundle");
  NULL_REFUSED(tensor_bundle_metadata(NULL, 0, &text, &text), "bundle");
  NULL_REFUSED(tensor_bundle_get(NULL, "x", &legacy), "bundle");
  NULL_REFUSED(tensor_bundle_get_versioned(NULL, "x", &versioned), "bundle");
  NULL_REFUSED(tensor_bundle_buffer(NULL, 0, &buffer), "bundle");
  CHECK(tensor_bundle_size(NULL) == 0 && tensor_bundle_metadata_size(NULL) == 0);
  tensor_bundle_free(NULL);
  NULL_REFUSED(plasma_object_name(NULL, &id, NULL, 0, &length), "client");
  NULL_REFUSED(plasma_object_name(client, NULL, NULL, 0, &length), "object_id");
  NULL_REFUSED(plasma_object_name(client, &id, NULL, 0, NULL), "length");
  EXPECT(PLASMA_OBJECT_NOT_FOUND, plasma_object_name(client, &id, NULL, 0, &length), "0101");
  CHECK(length == 12345);
}

/* What cannot be in a bundle is refused with its name. */
static void refused(plasma_client *client, const char *name, DLTensor tensor, plasma_status status, const char *text) {
  plasma_object_id id = id_of(2);
  DLTensor other = good();
  tensor_bundle_item items[2] = {{"other", &other, 0}, {name, &tensor, 0}};
  bool contained = true;
  EXPECT(status, tensor_bundle_write(client, &id, items, 2, NULL), text);
  OK(plasma_contains(client, &id, &contained));
  CHECK(!contained);
}

static void what_cannot_be_stored(plasma_client *client) {
  DLTensor tensor = good();
  refused(client, "other", tensor, PLASMA_INVALID_ARGUMENT, "\"other\" comes twice");
  refused(client, "__metadata__", tensor, PLASMA_INVALID_ARGUMENT, "__metadata__");
  refused(client, "__pad.0", tensor, PLASMA_INVALID_ARGUMENT, "__pad.0");
  refused(client, "\xff", tensor, PLASMA_INVALID_ARGUMENT, "items[1].name is not UTF-8");
  tensor.device.device_type = kDLCUDA;
  refused(client, "on GPU", tensor, PLASMA_UNSUPPORTED, "tensor \"on GPU\": tensor is on device type 2");
  tensor = good();
  tensor.ndim = 33;
  refused(client, "deep", tensor, PLASMA_INVALID_ARGUMENT, "tensor \"deep\": ndim 33");
  tensor = good();
  tensor.dtype.code = kDLComplex;
  tensor.dtype.bits = 128;
  refused(client, "z", tensor, PLASMA_UNSUPPORTED, "tensor \"z\": safetensors has no complex128");
}

static void what_is_no_bundle(plasma_client *client) {
  plasma_object_id id = id_of(3);
  tensor_bundle *bundle = NULL;
  const struct {
    const char *header;
    uint64_t said;
    size_t data;
    const char *text;
  } files[] = {
      {"{}", UINT64_MAX, 0, "18446744073709551615"},
      {"{}", 3, 0, "3 bytes, in an object of 10"},
      {"{}", 1, 0, "1 bytes"},
      {"{}", 2, 5, "0 bytes, and the object has 5"},
      {"{\"t\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,9]}}", 0, 9, "64 bits"},
      {"{\"t\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[1,9]}}", 0, 9, "1 to 9"},
      {"{\"t\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", 0, 8, "-2"},
      {"{\"t\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 0, 7, "8 bytes, and the object has 7"},
  };
  for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
    put_file(client, &id, files[i].header, files[i].said, files[i].data);
    EXPECT(PLASMA_CORRUPT, tensor_bundle_read(client, &id, 0, 0, &bundle), files[i].text);
    CHECK(bundle == NULL);
    OK(plasma_delete(client, &id, 1, NULL));
  }
  put_file(client, &id, "{\"__metadata__\":{\"a\\u0000b\":\"\"}}", 0, 0);
  EXPECT(PLASMA_UNSUPPORTED, tensor_bundle_read(client, &id, 0, 0, &bundle), "NUL");
  OK(plasma_delete(client, &id, 1, NULL));
}

/* Elements that are not aligned to their size come as a copy; a buffer has them where they lie. */
static void a_file_with_an_alignment_of_its_own(plasma_client *client) {
  plasma_object_id id = id_of(4);
  tensor_bundle *bundle = NULL;
  DLManagedTensorVersioned *copied = NULL;
  plasma_buffer *buffer = NULL;
  put_file(client, &id, "{\"t\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 0, 8);
  OK(tensor_bundle_read(client, &id, 0, 0, &bundle));
  OK(tensor_bundle_get_versioned(bundle, "t", &copied));
  CHECK((uintptr_t)copied->dl_tensor.data % 64 == 0 && copied->flags == DLPACK_FLAG_BITMASK_IS_COPIED);
  ((float *)copied->dl_tensor.data)[1] = 5;
  copied->deleter(copied);
  OK(tensor_bundle_buffer(bundle, 0, &buffer));
  CHECK((uintptr_t)plasma_buffer_data(buffer) % 64 == 62 && plasma_buffer_size(buffer) == 8);
  tensor_bundle_free(bundle);
  OK(plasma_delete(client, &id, 1, NULL));
  plasma_buffer_release(buffer);
}

/* A bundle that is filled in place: nobody sees it before it is sealed, and what is no tensor is written already. */
static void created(plasma_client *client) {
  plasma_object_id id = id_of(7);
  DLTensor first = good(), second = good();
  first.data = second.data = NULL;
  int64_t wrong[2] = {2, -3};
  tensor_bundle_item items[2] = {{"first", &first, 0}, {"second", &second, 0}};
  tensor_bundle *bundle = NULL;
  plasma_buffer *whole = NULL, *part = NULL;
  second.shape = wrong;
  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_bundle_create(client, &id, items, 2, NULL, &whole), "tensor \"second\"");
  second.shape = NULL;
  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_bundle_create(client, &id, items, 2, NULL, &whole), "tensor \"second\": shape is NULL");
  second.shape = shape;
  second.dtype.bits = 7;
  EXPECT(PLASMA_UNSUPPORTED, tensor_bundle_create(client, &id, items, 2, NULL, &whole), "tensor \"second\"");
  second.dtype.bits = 32;
  OK(tensor_bundle_create(client, &id, items, 2, NULL, &whole));
  EXPECT(PLASMA_OBJECT_EXISTS, tensor_bundle_create(client, &id, items, 2, NULL, &part), "exists");
  EXPECT(PLASMA_TIMEOUT, tensor_bundle_read(client, &id, 0, 0, &bundle), "0");
  OK(tensor_bundle_from_buffer(whole, &bundle));
  for (size_t i = 0; i < 2; i++) {
    OK(tensor_bundle_buffer(bundle, i, &part));
    CHECK(plasma_buffer_mutable_data(part) != NULL);
    OK(plasma_buffer_write(part, 0, (const uint8_t *)numbers, sizeof numbers));
    EXPECT(PLASMA_INVALID_ARGUMENT, plasma_buffer_write(part, 1, (const uint8_t *)numbers, sizeof numbers), "24");
    plasma_buffer_release(part);
  }
  tensor_bundle_free(bundle);
  plasma_buffer_release(whole);
  OK(plasma_seal(client, &id));
  OK(tensor_bundle_read(client, &id, 0, 0, &bundle));
  DLManagedTensor *tensor = NULL;
  OK(tensor_bundle_get(bundle, "second", &tensor));
  CHECK(memcmp(tensor->dl_tensor.data, numbers, sizeof numbers) == 0 && (uintptr_t)tensor->dl_tensor.data % 64 == 0);
  tensor->deleter(tensor);
  tensor_bundle_free(bundle);
  OK(plasma_delete(client, &id, 1, NULL));
}

static void right(plasma_client *client) {
  plasma_object_id id, got;
  size_t length = 0;
  char name[8];
  OK(plasma_object_id_from_name(NULL, "model/1", &id));
  DLTensor row = good(), column = good();
  column.strides = turned;
  tensor_bundle_item items[2] = {{"row", &row, 0}, {"column", &column, 0}};
  const char *keys[2] = {"who", "when"}, *values[2] = {"we", ""};
  tensor_bundle_options options = {.struct_size = sizeof options,
                                   .metadata_count = 2,
                                   .metadata_keys = keys,
                                   .metadata_values = values,
                                   .name = "model/2"};
  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_bundle_write(client, &id, items, 2, &options), "model/2");
  options.name = "model/1";
  OK(tensor_bundle_write(client, &id, items, 2, &options));
  EXPECT(PLASMA_OBJECT_EXISTS, tensor_bundle_write(client, &id, items, 2, &options), "exists");
  OK(plasma_object_name(client, &id, name, sizeof name, &length));
  CHECK(length == 7 && strcmp(name, "model/1") == 0);
  OK(plasma_object_name(client, &id, name, 4, &length));
  CHECK(length == 7 && strcmp(name, "mod") == 0);
  EXPECT(PLASMA_INVALID_ARGUMENT, plasma_object_name(client, &id, NULL, 1, &length), "out is NULL");

  tensor_bundle *bundle = NULL;
  DLManagedTensor *tensor = NULL;
  DLManagedTensorVersioned *versioned = NULL;
  plasma_buffer *buffer = NULL;
  const char *text = NULL, *value = NULL;
  OK(tensor_bundle_read(client, &id, 0, 0, &bundle));
  CHECK(tensor_bundle_size(bundle) == 2 && tensor_bundle_metadata_size(bundle) == 2);
  OK(tensor_bundle_name(bundle, 1, &text));
  CHECK(strcmp(text, "column") == 0);
  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_bundle_name(bundle, 2, &text), "index is 2, and the bundle has 2");
  NULL_REFUSED(tensor_bundle_name(bundle, 1, NULL), "name");
  OK(tensor_bundle_metadata(bundle, 1, &text, &value));
  CHECK(strcmp(text, "who") == 0 && strcmp(value, "we") == 0);
  NULL_REFUSED(tensor_bundle_metadata(bundle, 1, NULL, &value), "key");
  NULL_REFUSED(tensor_bundle_metadata(bundle, 1, &text, NULL), "value");
  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_bundle_metadata(bundle, 2, &text, &value), "2 keys");
  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_bundle_get(bundle, "missing", &tensor), "\"missing\" is not one of the 2");
  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_bundle_get(bundle, "__pad.0", &tensor), "__pad.0");
  NULL_REFUSED(tensor_bundle_get(bundle, NULL, &tensor), "name");
  NULL_REFUSED(tensor_bundle_get(bundle, "row", NULL), "out");
  NULL_REFUSED(tensor_bundle_get_versioned(bundle, "row", NULL), "out");
  NULL_REFUSED(tensor_bundle_buffer(bundle, 0, NULL), "out");
  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_bundle_buffer(bundle, 2, &buffer), "index is 2");
  OK(tensor_bundle_get(bundle, "row", &tensor));
  OK(tensor_bundle_get_versioned(bundle, "column", &versioned));
  OK(tensor_bundle_buffer(bundle, 1, &buffer));
  tensor_bundle_free(bundle);
  OK(plasma_delete(client, &id, 1, NULL));
  CHECK(memcmp(tensor->dl_tensor.data, numbers, sizeof numbers) == 0 && (uintptr_t)tensor->dl_tensor.data % 64 == 0);
  const float wanted[6] = {0, 2, 4, 1, 3, 5};
  CHECK(memcmp(versioned->dl_tensor.data, wanted, sizeof wanted) == 0 && versioned->dl_tensor.strides[0] == 3);
  CHECK(versioned->flags == DLPACK_FLAG_BITMASK_READ_ONLY && (uintptr_t)versioned->dl_tensor.data % 64 == 0);
  tensor_description description = {.struct_size = sizeof description};
  OK(tensor_describe(buffer, &description));
  CHECK(description.data == versioned->dl_tensor.data && description.ndim == 2 && description.shape[1] == 3);
  CHECK(plasma_buffer_mutable_data(buffer) == NULL);
  OK(plasma_buffer_id(buffer, &got));
  CHECK(memcmp(&got, &id, sizeof id) == 0);
  /* It holds no bundle. */
  EXPECT(PLASMA_CORRUPT, tensor_bundle_from_buffer(buffer, &bundle), "header");
  tensor->deleter(tensor);
  versioned->deleter(versioned);
  plasma_buffer_release(buffer);
}

int main(int argc, char **argv) {
  part *const parts[] = {null_arguments, what_cannot_be_stored, what_is_no_bundle,
                         a_file_with_an_alignment_of_its_own, created, right, NULL};
  return play(argc, argv, "bundle_misuse", parts);
}
