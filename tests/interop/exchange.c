/* What C writes and reads in the interop matrix. Commands come on stdin, one a line; answers go to stdout, one a line.
 *
 * usage: exchange SOCKET
 *   W ID CODE BITS LANES PADDED NDIM SHAPE... STRIDES... BYTES    stores a tensor; strides in elements, bytes in hex
 *   R ID                                                          CODE BITS LANES SAME NDIM SHAPE... STRIDES... BYTES
 *   B and G                                                       the same as W and R, for a bundle whose tensor is "x"
 *   P ID ROW COLUMN ROW COLUMN ...                                the values there, of a uint8 tensor of two dimensions
 * or the last error, after a "!". SAME says whether the tensor lies in the object that plasma_get gives. */
#include <plasma_store.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static plasma_client *client;

static void fail(const char *what) {
  fprintf(stderr, "%s: %s\n", what, plasma_last_error_message());
  exit(1);
}

static int64_t number(void) {
  char *word = strtok(NULL, " \n");
  return word ? strtoll(word, NULL, 10) : 0;
}

static plasma_object_id id(void) {
  plasma_object_id found;
  char *word = strtok(NULL, " \n");
  if (!word || plasma_object_id_from_hex(word, &found) != PLASMA_OK) {
    fail("id");
  }
  return found;
}

static uint8_t *bytes_of(const char *hex) {
  size_t length = hex ? strlen(hex) / 2 : 0;
  uint8_t *bytes = malloc(length + 1);
  for (size_t i = 0; bytes && i < length; i++) {
    unsigned byte = 0;
    sscanf(hex + 2 * i, "%2x", &byte);
    bytes[i] = (uint8_t)byte;
  }
  return bytes;
}

static void write_tensor(bool bundled) {
  plasma_object_id object = id();
  DLManagedTensorVersioned tensor;
  int64_t shape[32], strides[32];
  memset(&tensor, 0, sizeof tensor);
  tensor.version.major = DLPACK_MAJOR_VERSION;
  DLTensor *dl = &tensor.dl_tensor;
  dl->dtype.code = (uint8_t)number(), dl->dtype.bits = (uint8_t)number(), dl->dtype.lanes = (uint16_t)number();
  tensor.flags = number() ? DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED : 0;
  dl->device.device_type = kDLCPU, dl->ndim = (int32_t)number(), dl->shape = shape, dl->strides = strides;
  for (int32_t i = 0; i < dl->ndim; i++) {
    shape[i] = number();
  }
  for (int32_t i = 0; i < dl->ndim; i++) {
    strides[i] = number();
  }
  uint8_t *bytes = bytes_of(strtok(NULL, " \n"));
  dl->data = bytes;
  tensor_bundle_item item = {"x", dl, tensor.flags};
  if ((bundled ? tensor_bundle_write(client, &object, &item, 1, NULL)
               : tensor_write_versioned(client, &object, &tensor, NULL)) == PLASMA_OK) {
    puts("ok");
  } else {
    printf("!%s\n", plasma_last_error_message());
  }
  free(bytes);
}

static void print_tensor(const DLTensor *tensor, bool same) {
  uint64_t bits = (uint64_t)tensor->dtype.bits * tensor->dtype.lanes;
  printf("%d %d %d %d %d", tensor->dtype.code, tensor->dtype.bits, tensor->dtype.lanes, same, tensor->ndim);
  for (int32_t i = 0; i < tensor->ndim; i++) {
    printf(" %" PRId64, tensor->shape[i]);
    bits *= (uint64_t)tensor->shape[i];
  }
  for (int32_t i = 0; i < tensor->ndim; i++) {
    printf(" %" PRId64, tensor->strides[i]);
  }
  putchar(' ');
  for (uint64_t i = 0; i < (bits + 7) / 8; i++) {
    printf("%02x", ((const uint8_t *)tensor->data)[i]);
  }
  putchar('\n');
}

static plasma_status read_bundled(const plasma_object_id *object, DLManagedTensorVersioned **out) {
  tensor_bundle *bundle = NULL;
  plasma_status status = tensor_bundle_read(client, object, 0, 0, &bundle);
  if (status == PLASMA_OK) {
    status = tensor_bundle_get_versioned(bundle, "x", out);
    tensor_bundle_free(bundle);
  }
  return status;
}

static void read_tensor(bool bundled) {
  plasma_object_id object = id();
  DLManagedTensorVersioned *tensor = NULL;
  plasma_buffer *buffer = NULL;
  if ((bundled ? read_bundled(&object, &tensor) : tensor_read_versioned(client, &object, 0, 0, &tensor)) != PLASMA_OK) {
    printf("!%s\n", plasma_last_error_message());
    return;
  }
  if (plasma_get(client, &object, 1, 0, NULL, &buffer) != PLASMA_OK) {
    fail("get");
  }
  const uint8_t *first = plasma_buffer_data(buffer), *data = tensor->dl_tensor.data;
  print_tensor(&tensor->dl_tensor, first <= data && data <= first + plasma_buffer_size(buffer));
  plasma_buffer_release(buffer);
  tensor->deleter(tensor);
}

static void look(void) {
  plasma_object_id object = id();
  DLManagedTensor *tensor = NULL;
  if (tensor_read(client, &object, 0, &tensor) != PLASMA_OK) {
    printf("!%s\n", plasma_last_error_message());
    return;
  }
  const uint8_t *data = tensor->dl_tensor.data;
  const int64_t *strides = tensor->dl_tensor.strides;
  for (const char *word; (word = strtok(NULL, " \n")) != NULL;) {
    int64_t row = strtoll(word, NULL, 10), column = number();
    printf("%d ", data[row * strides[0] + column * strides[1]]);
  }
  putchar('\n');
  tensor->deleter(tensor);
}

int main(int argc, char **argv) {
  static char line[1 << 16];
  if (argc != 2 || plasma_connect(argv[1], NULL, &client) != PLASMA_OK) {
    fail("connect");
  }
  while (fgets(line, sizeof line, stdin)) {
    char *command = strtok(line, " \n");
    if (command && (*command == 'W' || *command == 'B')) {
      write_tensor(*command == 'B');
    } else if (command && (*command == 'R' || *command == 'G')) {
      read_tensor(*command == 'G');
    } else if (command && *command == 'P') {
      look();
    }
    fflush(stdout);
  }
  plasma_client_free(client);
  return 0;
}
