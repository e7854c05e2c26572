/* Everything that can be got wrong in a call about tensors: each is a status and a message that names what was wrong, and
 * no object is left behind. The right uses at the end show that it was not the store that refused.
 *
 * usage: tensor_misuse SOCKET     a store without objects and with less than 16 MiB */
#include <limits.h>

#include "check.h"

static const DLDataType FLOAT32 = {kDLFloat, 32, 1};
static float numbers[24];
static int64_t shape[3] = {2, 3, 4};
static int64_t strides[3] = {12, 4, 1};

static DLTensor good(void) {
  DLTensor tensor = tensor_of(numbers, kDLFloat, 32, 3, shape);
  tensor.strides = strides;
  return tensor;
}

/* What cannot be stored can neither be measured nor written. */
static void refused(plasma_client *client, const DLTensor *tensor, plasma_status status, const char *text) {
  plasma_object_id id = id_of(1);
  uint64_t bytes = 12345;
  bool contained = true;
  EXPECT(status, tensor_size(tensor, &bytes), text);
  EXPECT(status, tensor_write(client, &id, tensor, NULL), text);
  OK(plasma_contains(client, &id, &contained));
  CHECK(bytes == 12345 && !contained);
}

static void null_arguments(plasma_client *client) {
  plasma_object_id id = id_of(1);
  DLTensor tensor = good();
  uint64_t bytes = 0;
  plasma_buffer *buffer = NULL;
  DLManagedTensor *legacy = NULL;
  DLManagedTensorVersioned *versioned = NULL;

  NULL_REFUSED(tensor_size(NULL, &bytes), "tensor");
  NULL_REFUSED(tensor_size(&tensor, NULL), "bytes");
  NULL_REFUSED(tensor_write(NULL, &id, &tensor, NULL), "client");
  NULL_REFUSED(tensor_write(client, NULL, &tensor, NULL), "object_id");
  NULL_REFUSED(tensor_write(client, &id, NULL, NULL), "tensor");
  NULL_REFUSED(tensor_create(NULL, &id, FLOAT32, 3, shape, NULL, &legacy), "client");
  NULL_REFUSED(tensor_create(client, NULL, FLOAT32, 3, shape, NULL, &legacy), "object_id");
  NULL_REFUSED(tensor_create(client, &id, FLOAT32, 3, NULL, NULL, &legacy), "shape");
  NULL_REFUSED(tensor_create(client, &id, FLOAT32, 3, shape, NULL, NULL), "out");
  NULL_REFUSED(tensor_create_buffer(NULL, &id, FLOAT32, 3, shape, NULL, &buffer), "client");
  NULL_REFUSED(tensor_create_buffer(client, NULL, FLOAT32, 3, shape, NULL, &buffer), "object_id");
  NULL_REFUSED(tensor_create_buffer(client, &id, FLOAT32, 3, NULL, NULL, &buffer), "shape");
  NULL_REFUSED(tensor_create_buffer(client, &id, FLOAT32, 3, shape, NULL, NULL), "out");
  NULL_REFUSED(tensor_read(NULL, &id, 0, &legacy), "client");
  NULL_REFUSED(tensor_read(client, NULL, 0, &legacy), "object_id");
  NULL_REFUSED(tensor_read(client, &id, 0, NULL), "out");
  NULL_REFUSED(tensor_read_versioned(NULL, &id, 0, 0, &versioned), "client");
  NULL_REFUSED(tensor_read_versioned(client, NULL, 0, 0, &versioned), "object_id");
  NULL_REFUSED(tensor_read_versioned(client, &id, 0, 0, NULL), "out");
  NULL_REFUSED(tensor_from_buffer(NULL, &legacy), "buffer");
  NULL_REFUSED(tensor_from_buffer_versioned(NULL, &versioned), "buffer");
  tensor_description description = {.struct_size = sizeof description};
  NULL_REFUSED(tensor_describe(NULL, &description), "buffer");
  DLManagedTensorVersioned managed = {.version = {1, 0}, .dl_tensor = tensor};
  size_t length = 12345;
  NULL_REFUSED(tensor_write_versioned(NULL, &id, &managed, NULL), "client");
  NULL_REFUSED(tensor_write_versioned(client, NULL, &managed, NULL), "object_id");
  NULL_REFUSED(tensor_write_versioned(client, &id, NULL, NULL), "tensor");
  NULL_REFUSED(tensor_rows(NULL, 0, 1, &legacy), "buffer");
  NULL_REFUSED(tensor_rows_versioned(NULL, 0, 1, &versioned), "buffer");
  NULL_REFUSED(tensor_view(NULL, NULL, &legacy), "buffer");
  NULL_REFUSED(tensor_view_versioned(NULL, NULL, &versioned), "buffer");
  NULL_REFUSED(tensor_dimension_name(NULL, 0, NULL, 0, &length), "buffer");
  CHECK(length == 12345);
  tensor_write_options options = {.struct_size = sizeof options, .metadata_size = 5};
  NULL_REFUSED(tensor_write(client, &id, &tensor, &options), "metadata");
  options.struct_size = 0;
  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_write(client, &id, &tensor, &options), "struct_size is 0");
  options = (tensor_write_options){.struct_size = sizeof options, .flags = 0x100};
  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_create(client, &id, FLOAT32, 3, shape, &options, &legacy), "0x100");
  CHECK(legacy == NULL && versioned == NULL && buffer == NULL);
}

static void wrong_pointers_devices_and_types(plasma_client *client) {
  DLTensor tensor = good();
  tensor.data = NULL;
  refused(client, &tensor, PLASMA_INVALID_ARGUMENT, "data is NULL");
  tensor = good(), tensor.shape = NULL;
  refused(client, &tensor, PLASMA_INVALID_ARGUMENT, "shape is NULL");
  tensor = good(), tensor.device.device_type = kDLCUDA;
  refused(client, &tensor, PLASMA_UNSUPPORTED, "device type 2");
  tensor = good(), tensor.byte_offset = UINT64_MAX;
  refused(client, &tensor, PLASMA_INVALID_ARGUMENT, "18446744073709551615");

  DLDataType unsupported[] = {{kDLFloat, 32, 4},     {kDLFloat, 32, 0}, {kDLFloat, 24, 1},        {kDLInt, 3, 1},
                              {kDLComplex, 256 - 8, 1}, {kDLBfloat, 8, 1}, {kDLOpaqueHandle, 64, 1}, {200, 8, 1}};
  for (size_t i = 0; i < sizeof unsupported / sizeof *unsupported; i++) {
    char text[64];
    snprintf(text, sizeof text, "code %d, bits %d, lanes %d", unsupported[i].code, unsupported[i].bits,
             unsupported[i].lanes);
    tensor = good(), tensor.dtype = unsupported[i];
    refused(client, &tensor, PLASMA_UNSUPPORTED, text);
    DLManagedTensor *out = NULL;
    plasma_object_id id = id_of(1);
    EXPECT(PLASMA_UNSUPPORTED, tensor_create(client, &id, unsupported[i], 3, shape, NULL, &out), text);
  }
}

static void wrong_dimensions(plasma_client *client) {
  int32_t wrong[] = {-1, INT32_MIN, 33, INT32_MAX};
  plasma_object_id id = id_of(1);
  DLManagedTensor *out = NULL;
  plasma_buffer *buffer = NULL;
  int64_t many[33] = {0};
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    char text[16];
    snprintf(text, sizeof text, "%d", wrong[i]);
    DLTensor tensor = good();
    tensor.ndim = wrong[i], tensor.shape = many, tensor.strides = many;
    refused(client, &tensor, PLASMA_INVALID_ARGUMENT, text);
    EXPECT(PLASMA_INVALID_ARGUMENT, tensor_create(client, &id, FLOAT32, wrong[i], many, NULL, &out), text);
    EXPECT(PLASMA_INVALID_ARGUMENT, tensor_create_buffer(client, &id, FLOAT32, wrong[i], many, NULL, &buffer), text);
  }
  CHECK(out == NULL && buffer == NULL);
}

static void wrong_shapes_and_strides(plasma_client *client) {
  int64_t shapes[][3] = {{2, -3, 4}, {INT64_MIN, 1, 1}, {INT64_MAX, 2, 1}, {1 << 30, 1 << 30, 8}, {INT64_MAX, 1, 1}};
  const char *numbers_in_them[] = {"-3", "-9223372036854775808", "9223372036854775807", "1073741824",
                                   "9223372036854775807"};
  plasma_object_id id = id_of(1);
  DLManagedTensor *out = NULL;
  DLTensor tensor = good();
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
    tensor = good(), tensor.shape = shapes[i];
    refused(client, &tensor, PLASMA_INVALID_ARGUMENT, numbers_in_them[i]);
    tensor.strides = NULL;
    refused(client, &tensor, PLASMA_INVALID_ARGUMENT, numbers_in_them[i]);
    plasma_status status = PLASMA_INVALID_ARGUMENT;
    EXPECT(status, tensor_create(client, &id, FLOAT32, 3, shapes[i], NULL, &out), numbers_in_them[i]);
  }
  int64_t overflowing[][3] = {{INT64_MAX, 4, 1}, {INT64_MIN, 4, 1}, {INT64_MAX / 8, INT64_MAX / 8, INT64_MAX / 8}};
  for (size_t i = 0; i < sizeof overflowing / sizeof *overflowing; i++) {
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)overflowing[i][0]);
    tensor = good(), tensor.strides = overflowing[i];
    refused(client, &tensor, PLASMA_INVALID_ARGUMENT, text);
  }
  /* Possible, and too much for this store. */
  int64_t large[] = {1 << 20, 4, 4};
  EXPECT(PLASMA_STORE_FULL, tensor_create(client, &id, FLOAT32, 3, large, NULL, &out), "671");
  CHECK(out == NULL);
}

static void reading_what_is_no_tensor(plasma_client *client) {
  plasma_object_id id = id_of(2), absent = id_of(3);
  DLManagedTensor *legacy = NULL;
  DLManagedTensorVersioned *versioned = NULL;
  plasma_buffer *buffer = NULL;
  EXPECT(PLASMA_TIMEOUT, tensor_read(client, &absent, 0, &legacy), "0 ms");
  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_read(client, &absent, -2, &legacy), "-2");
  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_read_versioned(client, &absent, 0, 12, &versioned), "0xc");
  for (uint64_t size = 0; size <= 1024; size = size * 2 + 1) {
    put(client, &id, size, 255);
    OK(plasma_get(client, &id, 1, 0, NULL, &buffer));
    EXPECT(PLASMA_CORRUPT, tensor_read(client, &id, 0, &legacy), "");
    EXPECT(PLASMA_CORRUPT, tensor_read_versioned(client, &id, 0, 0, &versioned), "");
    EXPECT(PLASMA_CORRUPT, tensor_from_buffer(buffer, &legacy), "");
    EXPECT(PLASMA_CORRUPT, tensor_from_buffer_versioned(buffer, &versioned), "");
    NULL_REFUSED(tensor_from_buffer(buffer, NULL), "out");
    NULL_REFUSED(tensor_from_buffer_versioned(buffer, NULL), "out");
    tensor_description description = {.struct_size = sizeof description, .ndim = 77};
    EXPECT(PLASMA_CORRUPT, tensor_describe(buffer, &description), "");
    CHECK(description.ndim == 77);
    plasma_buffer_release(buffer);
    /* Nothing is held by the refused reads: the object goes at once. */
    plasma_status result = -1;
    OK(plasma_delete(client, &id, 1, &result));
    CHECK(result == PLASMA_OK);
  }
  CHECK(legacy == NULL && versioned == NULL);
}

/* A reversed view, a 0-d and an empty tensor look odd and are right. */
static void odd_and_right(plasma_client *client) {
  plasma_object_id ids[3] = {id_of(4), id_of(5), id_of(6)};
  int64_t backwards[3] = {12, 4, -1}, empty[3] = {2, 0, 4};
  DLManagedTensor *out = NULL;
  DLTensor tensor = good();
  tensor.strides = backwards, tensor.byte_offset = 3 * sizeof(float);
  OK(tensor_write(client, &ids[0], &tensor, NULL));
  EXPECT(PLASMA_OBJECT_EXISTS, tensor_write(client, &ids[0], &tensor, NULL), "0404");
  OK(tensor_read(client, &ids[0], 0, &out));
  CHECK(((float *)out->dl_tensor.data)[0] == 3 && ((float *)out->dl_tensor.data)[23] == 20);
  out->deleter(out);

  tensor = good(), tensor.ndim = 0, tensor.shape = NULL, tensor.strides = NULL;
  OK(tensor_write(client, &ids[1], &tensor, NULL));
  OK(tensor_read(client, &ids[1], 0, &out));
  CHECK(out->dl_tensor.ndim == 0 && ((float *)out->dl_tensor.data)[0] == 0);
  out->deleter(out);

  tensor = good(), tensor.shape = empty, tensor.data = NULL;
  OK(tensor_write(client, &ids[2], &tensor, NULL));
  OK(tensor_read(client, &ids[2], 0, &out));
  CHECK(out->dl_tensor.ndim == 3 && out->dl_tensor.shape[1] == 0 && out->dl_tensor.strides != NULL);
  out->deleter(out);
  OK(plasma_delete(client, ids, 3, NULL));
}

/* Views reach no further than their tensor, rows and dimensions are those that it has. */
static void wrong_views(plasma_client *client) {
  plasma_object_id id = id_of(9);
  DLTensor tensor = good();
  plasma_buffer *buffer = NULL;
  DLManagedTensor *legacy = NULL;
  DLManagedTensorVersioned *versioned = NULL;
  size_t length = 12345;
  OK(tensor_write(client, &id, &tensor, NULL));
  OK(plasma_get(client, &id, 1, 0, NULL, &buffer));

  NULL_REFUSED(tensor_rows(buffer, 0, 1, NULL), "out");
  NULL_REFUSED(tensor_rows_versioned(buffer, 0, 1, NULL), "out");
  NULL_REFUSED(tensor_view(buffer, NULL, NULL), "out");
  NULL_REFUSED(tensor_view_versioned(buffer, NULL, NULL), "out");
  uint64_t rows[][2] = {{0, 3}, {3, 0}, {2, 1}, {1, UINT64_MAX}, {UINT64_MAX, 1}};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    EXPECT(PLASMA_INVALID_ARGUMENT, tensor_rows(buffer, rows[i][0], rows[i][1], &legacy), "2 rows");
    EXPECT(PLASMA_INVALID_ARGUMENT, tensor_rows_versioned(buffer, rows[i][0], rows[i][1], &versioned), "2 rows");
  }
  tensor_view_options options = {.struct_size = sizeof options, .ndim = 3, .shape = shape, .offset = 1};
  int64_t offsets[] = {1, -1, 24, INT64_MAX, INT64_MIN};
  for (size_t i = 0; i < sizeof offsets / sizeof *offsets; i++) {
    options.offset = offsets[i];
    EXPECT(PLASMA_INVALID_ARGUMENT, tensor_view(buffer, &options, &legacy), "0..96");
    EXPECT(PLASMA_INVALID_ARGUMENT, tensor_view_versioned(buffer, &options, &versioned), "0..96");
  }
  options.offset = 0, options.ndim = 33;
  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_view(buffer, &options, &legacy), "33");
  options.ndim = -1;
  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_view(buffer, &options, &legacy), "-1");
  int64_t negative[3] = {2, -3, 4}, far[3] = {INT64_MAX, 1, 1};
  options.ndim = 3, options.shape = negative;
  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_view(buffer, &options, &legacy), "-3");
  options.shape = shape, options.strides = far;
  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_view(buffer, &options, &legacy), "9223372036854775807");
  options.strides = NULL, options.flags = 6;
  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_view(buffer, &options, &legacy), "0x6");
  options.struct_size = 3;
  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_view(buffer, &options, &legacy), "struct_size is 3");

  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_dimension_name(buffer, 3, NULL, 0, &length), "3");
  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_dimension_name(buffer, -1, NULL, 0, &length), "-1");
  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_dimension_name(buffer, 0, NULL, 5, &length), "5");
  NULL_REFUSED(tensor_dimension_name(buffer, 0, NULL, 0, NULL), "length");
  CHECK(legacy == NULL && versioned == NULL && length == 12345);
  plasma_buffer_release(buffer);
  OK(plasma_delete(client, &id, 1, NULL));
}

/* Rows and transposes lie where their tensor does; a copy does not, and outlives the object. */
static void right_views(plasma_client *client) {
  plasma_object_id id = id_of(9);
  DLTensor tensor = good();
  plasma_buffer *buffer = NULL;
  DLManagedTensor *rows = NULL, *turned = NULL, *copy = NULL;
  DLManagedTensorVersioned *flagged = NULL, *flagged_copy = NULL;
  OK(tensor_write(client, &id, &tensor, NULL));
  OK(plasma_get(client, &id, 1, 0, NULL, &buffer));
  tensor_description whole = {.struct_size = sizeof whole};
  OK(tensor_describe(buffer, &whole));

  OK(tensor_rows(buffer, 1, 1, &rows));
  OK(tensor_rows_versioned(buffer, 0, 2, &flagged));
  CHECK((uint8_t *)rows->dl_tensor.data == whole.data + 12 * sizeof(float) && rows->dl_tensor.shape[0] == 1);
  CHECK(rows->dl_tensor.ndim == 3 && rows->dl_tensor.strides[0] == 12 && ((float *)rows->dl_tensor.data)[3] == 15);
  CHECK((uint8_t *)flagged->dl_tensor.data == whole.data && flagged->flags == DLPACK_FLAG_BITMASK_READ_ONLY);
  int64_t turned_shape[2] = {4, 3}, turned_strides[2] = {-1, 4};
  tensor_view_options options = {.struct_size = sizeof options,
                                 .ndim = 2,
                                 .shape = turned_shape,
                                 .strides = turned_strides,
                                 .offset = 12 + 3};
  OK(tensor_view(buffer, &options, &turned));
  CHECK((uint8_t *)turned->dl_tensor.data == whole.data + 15 * sizeof(float));
  CHECK(turned->dl_tensor.ndim == 2 && turned->dl_tensor.strides[0] == -1 && turned->dl_tensor.strides[1] == 4);
  options.flags = PLASMA_VIEW_COPY;
  OK(tensor_view(buffer, &options, &copy));
  OK(tensor_view_versioned(buffer, &options, &flagged_copy));
  plasma_buffer_release(buffer);
  rows->deleter(rows), flagged->deleter(flagged), turned->deleter(turned);
  OK(plasma_delete(client, &id, 1, NULL));

  CHECK(flagged_copy->flags == DLPACK_FLAG_BITMASK_IS_COPIED && copy->dl_tensor.strides[0] == 3);
  float *copied[] = {copy->dl_tensor.data, flagged_copy->dl_tensor.data};
  for (int i = 0; i < 2; i++) {
    CHECK(copied[i][0] == 15 && copied[i][1] == 19 && copied[i][11] == 20);
    copied[i][0] = -1;
  }
  copy->deleter(copy), flagged_copy->deleter(flagged_copy);
}

/* What Arrow has no type for comes back as what it was; elements with a byte each are put together. */
static void every_type(plasma_client *client) {
  DLDataType types[] = {{kDLBool, 8, 1},          {kDLBfloat, 16, 1},          {kDLComplex, 32, 1},
                        {kDLComplex, 64, 1},      {kDLComplex, 128, 1},        {kDLBcomplex, 32, 1},
                        {kDLFloat8_e3m4, 8, 1},   {kDLFloat8_e4m3, 8, 1},      {kDLFloat8_e4m3b11fnuz, 8, 1},
                        {kDLFloat8_e4m3fn, 8, 1}, {kDLFloat8_e4m3fnuz, 8, 1},  {kDLFloat8_e5m2, 8, 1},
                        {kDLFloat8_e5m2fnuz, 8, 1}, {kDLFloat8_e8m0fnu, 8, 1}, {kDLFloat6_e2m3fn, 6, 1},
                        {kDLFloat6_e3m2fn, 6, 1}, {kDLFloat4_e2m1fn, 4, 1},    {kDLFloat4_e2m1fn, 4, 2},
                        {kDLInt, 4, 1},           {kDLUInt, 2, 1},             {kDLUInt, 1, 1}};
  uint8_t bytes[384];
  plasma_object_id id = id_of(10);
  for (size_t i = 0; i < sizeof bytes; i++) {
    bytes[i] = (uint8_t)(i * 7 + 1);
  }
  for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
    DLTensor tensor = good();
    DLManagedTensor *out = NULL, *created = NULL;
    uint64_t size = 0;
    size_t used = ((size_t)types[i].bits * types[i].lanes * 24 + 7) / 8;
    tensor.data = bytes, tensor.dtype = types[i];
    OK(tensor_size(&tensor, &size));
    CHECK(size > used && size <= used + 512);
    OK(tensor_write(client, &id, &tensor, NULL));
    OK(tensor_read(client, &id, 0, &out));
    DLTensor *got = &out->dl_tensor;
    CHECK(memcmp(&got->dtype, &types[i], sizeof *types) == 0 && got->ndim == 3);
    CHECK(memcmp(got->shape, shape, sizeof shape) == 0 && memcmp(got->strides, strides, sizeof strides) == 0);
    CHECK(memcmp(got->data, bytes, used) == 0 && used * 8 == 24u * types[i].bits * types[i].lanes);
    out->deleter(out);
    OK(plasma_delete(client, &id, 1, NULL));
    OK(tensor_create(client, &id, types[i], 3, shape, NULL, &created));
    CHECK(memcmp(&created->dl_tensor.dtype, &types[i], sizeof *types) == 0);
    created->deleter(created);
    OK(plasma_abort(client, &id));
  }
}

static void bytes_that_elements_share(plasma_client *client) {
  uint8_t nibbles[6] = {0x01, 0xf2, 0x03, 0x04, 0x05, 0x06};
  int64_t sizes[2] = {2, 3}, columns[2] = {1, 2};
  plasma_object_id id = id_of(11);
  DLManagedTensorVersioned padded = {.version = {1, 2}, .flags = DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED};
  padded.dl_tensor = good();
  padded.dl_tensor.data = nibbles, padded.dl_tensor.ndim = 2, padded.dl_tensor.shape = sizes;
  padded.dl_tensor.strides = columns, padded.dl_tensor.dtype = (DLDataType){kDLFloat4_e2m1fn, 4, 1};
  OK(tensor_write_versioned(client, &id, &padded, NULL));
  plasma_buffer *buffer = NULL;
  OK(plasma_get(client, &id, 1, 0, NULL, &buffer));
  tensor_description description = {.struct_size = sizeof description};
  OK(tensor_describe(buffer, &description));
  CHECK(description.ndim == 2 && description.byte_strides[0] == 0 && description.dtype.bits == 4);
  CHECK(description.data[0] == 0x31 && description.data[1] == 0x25 && description.data[2] == 0x64);
  DLManagedTensor *row = NULL;
  EXPECT(PLASMA_UNSUPPORTED, tensor_rows(buffer, 1, 1, &row), "element 3");
  plasma_buffer_release(buffer);
  OK(plasma_delete(client, &id, 1, NULL));

  /* Without the flag they lie together, and only row by row. */
  padded.flags = 0;
  EXPECT(PLASMA_UNSUPPORTED, tensor_write_versioned(client, &id, &padded, NULL), "float4_e2m1fn");
  padded.version.major = 2;
  EXPECT(PLASMA_UNSUPPORTED, tensor_write_versioned(client, &id, &padded, NULL), "DLPack 2.2");
}

static void names_of_dimensions(plasma_client *client) {
  const char *names[3] = {"batch", NULL, "gr\xc3\xb6\xc3\x9f" "e"}, *broken[3] = {"a", "b", "\xff"};
  plasma_object_id id = id_of(12);
  DLTensor tensor = good();
  tensor_write_options options = {.struct_size = sizeof options, .dimension_names = broken};
  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_write(client, &id, &tensor, &options), "dimension_names[2]");
  tensor.dtype = (DLDataType){kDLInt, 4, 1}, options.dimension_names = names;
  EXPECT(PLASMA_UNSUPPORTED, tensor_write(client, &id, &tensor, &options), "int4");
  tensor.dtype = FLOAT32;
  OK(tensor_write(client, &id, &tensor, &options));
  plasma_buffer *buffer = NULL;
  OK(plasma_get(client, &id, 1, 0, NULL, &buffer));
  for (int32_t i = 0; i < 3; i++) {
    char name[8] = "", shorter[3] = "";
    const char *expected = names[i] ? names[i] : "";
    size_t length = 0;
    OK(tensor_dimension_name(buffer, i, name, sizeof name, &length));
    CHECK(strcmp(name, expected) == 0 && length == strlen(expected));
    OK(tensor_dimension_name(buffer, i, shorter, sizeof shorter, &length));
    CHECK(strncmp(shorter, expected, 2) == 0 && shorter[2] == 0 && length == strlen(expected));
  }
  plasma_buffer_release(buffer);
  OK(plasma_delete(client, &id, 1, NULL));
}

/* A description says what a tensor would, in as much of the struct as the caller has. */
static void described(plasma_client *client) {
  plasma_object_id id = id_of(8);
  DLTensor tensor = good();
  tensor_description description = {.struct_size = sizeof description};
  plasma_buffer *buffer = NULL;
  OK(tensor_create_buffer(client, &id, FLOAT32, 3, shape, NULL, &buffer));
  OK(tensor_describe(buffer, &description));
  CHECK(description.flags == 0 && description.data != NULL);
  memcpy(description.data, numbers, sizeof numbers);
  OK(plasma_seal(client, &id));
  OK(tensor_describe(buffer, &description));
  CHECK(description.flags == DLPACK_FLAG_BITMASK_READ_ONLY && description.struct_size == sizeof description);
  CHECK(description.ndim == 3 && description.dtype.bits == 32 && description.dtype.code == kDLFloat);
  CHECK(memcmp(description.shape, tensor.shape, sizeof shape) == 0 && description.shape[3] == 0);
  for (int i = 0; i < 3; i++) {
    CHECK(description.byte_strides[i] == strides[i] * (int64_t)sizeof(float));
  }
  CHECK(description.byte_strides[31] == 0);
  CHECK(memcmp(description.data, numbers, sizeof numbers) == 0);
  /* As from a header that knew less. */
  tensor_description shorter = {.struct_size = offsetof(tensor_description, shape), .shape = {77}};
  OK(tensor_describe(buffer, &shorter));
  CHECK(shorter.data == description.data && shorter.ndim == 3 && shorter.shape[0] == 77);
  NULL_REFUSED(tensor_describe(buffer, NULL), "out");
  shorter.struct_size = 7;
  EXPECT(PLASMA_INVALID_ARGUMENT, tensor_describe(buffer, &shorter), "struct_size is 7");
  plasma_buffer_release(buffer);
  OK(plasma_delete(client, &id, 1, NULL));
}

/* Read-only is read-only, and a private tensor is nobody else's. */
static void writing_after_seal(plasma_client *client) {
  plasma_object_id id = id_of(7);
  DLManagedTensor *writable = NULL;
  DLManagedTensorVersioned *shared = NULL, *private_copy = NULL;
  OK(tensor_create(client, &id, FLOAT32, 3, shape, NULL, &writable));
  EXPECT(PLASMA_BUSY, plasma_abort(client, &id), "0707");
  memcpy(writable->dl_tensor.data, numbers, sizeof numbers);
  OK(plasma_seal(client, &id));
  EXPECT(PLASMA_OBJECT_ALREADY_SEALED, plasma_seal(client, &id), "0707");
  writable->deleter(writable);

  OK(tensor_read_versioned(client, &id, 0, 0, &shared));
  OK(tensor_read_versioned(client, &id, 0, PLASMA_GET_PRIVATE, &private_copy));
  CHECK(shared->version.major == 1 && private_copy->version.major == 1);
  CHECK(shared->flags & DLPACK_FLAG_BITMASK_READ_ONLY);
  CHECK(!(private_copy->flags & DLPACK_FLAG_BITMASK_READ_ONLY));
  ((float *)private_copy->dl_tensor.data)[5] = -1;
  CHECK(memcmp(shared->dl_tensor.data, numbers, sizeof numbers) == 0);
  shared->deleter(shared);
  private_copy->deleter(private_copy);
  OK(plasma_delete(client, &id, 1, NULL));
}

int main(int argc, char **argv) {
  for (int i = 0; i < 24; i++) {
    numbers[i] = (float)i;
  }
  part *const parts[] = {null_arguments, wrong_pointers_devices_and_types, wrong_dimensions, wrong_shapes_and_strides,
                         reading_what_is_no_tensor, odd_and_right, wrong_views, right_views, every_type,
                         bytes_that_elements_share, names_of_dimensions, described, writing_after_seal, NULL};
  return play(argc, argv, "tensor_misuse", parts);
}
