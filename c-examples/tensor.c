/* Tensors in and out of a store, without a library for arrays: any memory that a DLTensor can describe goes in, and what
 * comes out is a DLPack tensor over shared memory.
 *
 *   tensor                       both, in a store that lives in this process and ends with it
 *   tensor SOCKET write|read     one half, in the store that listens at SOCKET: start the other half in another process,
 *                                in C or with tensor.py, before or after
 */
#include <plasma_store.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const int64_t PATIENCE_MS = 30000;

/* Says what failed, and why. */
static int failed(const char *call, plasma_status status) {
  fprintf(stderr, "%s: %s: %s\n", call, plasma_status_string(status), plasma_last_error_message());
  return EXIT_FAILURE;
}

/* The ids of the two tensors: `matrix` is copied into the store, `counts` is written where it will lie. */
static int name(plasma_object_id ids[2]) {
  plasma_status status = plasma_object_id_from_name("examples", "matrix", &ids[0]);
  if (status == PLASMA_OK) {
    status = plasma_object_id_from_name("examples", "counts", &ids[1]);
  }
  return status == PLASMA_OK ? EXIT_SUCCESS : failed("plasma_object_id_from_name", status);
}

/* Copies a 3 x 4 matrix whose columns lie one after the other. */
static int write_matrix(plasma_client *client, const plasma_object_id *id) {
  double columns[4][3];
  int64_t shape[2] = {3, 4}, strides[2] = {1, 3};
  for (int row = 0; row < 3; row++) {
    for (int column = 0; column < 4; column++) {
      columns[column][row] = 10 * row + column + 0.5;
    }
  }
  DLTensor tensor = {columns, {kDLCPU, 0}, 2, {kDLFloat, 64, 1}, shape, strides, 0};
  plasma_status status = tensor_write(client, id, &tensor, NULL);
  if (status != PLASMA_OK) {
    return failed("tensor_write", status);
  }
  printf("wrote matrix: float64 3 x 4\n");
  return EXIT_SUCCESS;
}

/* Fills a 2 x 3 tensor in the shared memory itself: no copy at all. */
static int write_counts(plasma_client *client, const plasma_object_id *id) {
  const int64_t shape[2] = {2, 3};
  const DLDataType int32 = {kDLInt, 32, 1};
  DLManagedTensor *tensor = NULL;
  int code = EXIT_FAILURE;
  plasma_status status = tensor_create(client, id, int32, 2, shape, NULL, &tensor);
  if (status != PLASMA_OK) {
    return failed("tensor_create", status);
  }
  int32_t *counts = (int32_t *)tensor->dl_tensor.data;
  for (int i = 0; i < 6; i++) {
    counts[i] = i + 1;
  }
  status = plasma_seal(client, id);
  if (status != PLASMA_OK) {
    failed("plasma_seal", status);
    goto delete_tensor;
  }
  printf("wrote counts: int32 2 x 3\n");
  code = EXIT_SUCCESS;
delete_tensor:
  tensor->deleter(tensor);
  return code;
}

static int write_both(plasma_client *client, const plasma_object_id ids[2]) {
  /* What an earlier run left goes first: an id is used once as long as its object lives. */
  plasma_status status = plasma_delete(client, ids, 2, NULL);
  if (status != PLASMA_OK) {
    return failed("plasma_delete", status);
  }
  if (write_matrix(client, &ids[0]) != EXIT_SUCCESS) {
    return EXIT_FAILURE;
  }
  return write_counts(client, &ids[1]);
}

/* Where element (row, column) is: strides count elements, and no order of rows and columns may be taken for granted. */
static const void *element(const DLTensor *tensor, int64_t row, int64_t column) {
  const char *first = (const char *)tensor->data + tensor->byte_offset;
  return first + (row * tensor->strides[0] + column * tensor->strides[1]) * (tensor->dtype.bits / 8);
}

static int has_type(const DLTensor *tensor, uint8_t code, uint8_t bits) {
  if (tensor->ndim == 2 && tensor->dtype.code == code && tensor->dtype.bits == bits) {
    return 1;
  }
  fprintf(stderr, "a tensor of %d dimensions, type code %d, %d bits\n", (int)tensor->ndim, tensor->dtype.code,
          tensor->dtype.bits);
  return 0;
}

static int read_matrix(plasma_client *client, const plasma_object_id *id) {
  DLManagedTensor *tensor = NULL;
  int code = EXIT_FAILURE;
  plasma_status status = tensor_read(client, id, PATIENCE_MS, &tensor);
  if (status != PLASMA_OK) {
    return failed("tensor_read", status);
  }
  const DLTensor *matrix = &tensor->dl_tensor;
  if (!has_type(matrix, kDLFloat, 64)) {
    goto delete_tensor;
  }
  printf("read matrix: float64 %d x %d\n", (int)matrix->shape[0], (int)matrix->shape[1]);
  for (int64_t row = 0; row < matrix->shape[0]; row++) {
    for (int64_t column = 0; column < matrix->shape[1]; column++) {
      printf(" %5.1f", *(const double *)element(matrix, row, column));
    }
    printf("\n");
  }
  code = EXIT_SUCCESS;
delete_tensor:
  tensor->deleter(tensor);
  return code;
}

/* The same with DLPack 1.x, whose struct can say that the memory is read-only. */
static int read_counts(plasma_client *client, const plasma_object_id *id) {
  DLManagedTensorVersioned *tensor = NULL;
  int code = EXIT_FAILURE;
  plasma_status status = tensor_read_versioned(client, id, PATIENCE_MS, 0, &tensor);
  if (status != PLASMA_OK) {
    return failed("tensor_read_versioned", status);
  }
  const DLTensor *counts = &tensor->dl_tensor;
  if (!has_type(counts, kDLInt, 32)) {
    goto delete_tensor;
  }
  const char *access = tensor->flags & DLPACK_FLAG_BITMASK_READ_ONLY ? "read-only" : "writable";
  printf("read counts: int32 %d x %d, %s\n", (int)counts->shape[0], (int)counts->shape[1], access);
  for (int64_t row = 0; row < counts->shape[0]; row++) {
    for (int64_t column = 0; column < counts->shape[1]; column++) {
      printf(" %5d", (int)*(const int32_t *)element(counts, row, column));
    }
    printf("\n");
  }
  code = EXIT_SUCCESS;
delete_tensor:
  tensor->deleter(tensor);
  return code;
}

int main(int argc, char **argv) {
  const char *socket = argc == 3 ? argv[1] : NULL;
  const char *half = argc == 3 ? argv[2] : "both";
  const int writes = strcmp(half, "read") != 0, reads = strcmp(half, "write") != 0;
  if ((argc != 1 && argc != 3) || (argc == 3 && writes && reads)) {
    fprintf(stderr, "usage: %s [SOCKET write|read]\n", argv[0]);
    return 2;
  }

  plasma_store *store = NULL;
  plasma_client *client = NULL;
  plasma_object_id ids[2];
  int code = EXIT_FAILURE;
  if (name(ids) != EXIT_SUCCESS) {
    return EXIT_FAILURE;
  }
  plasma_status status;
  if (socket == NULL) {
    status = plasma_store_start(NULL, &store);
    if (status != PLASMA_OK) {
      return failed("plasma_store_start", status);
    }
    socket = plasma_store_socket(store);
  }
  status = plasma_connect(socket, NULL, &client);
  if (status != PLASMA_OK) {
    failed("plasma_connect", status);
    goto stop;
  }
  if (writes && write_both(client, ids) != EXIT_SUCCESS) {
    goto free_client;
  }
  if (reads && (read_matrix(client, &ids[0]) != EXIT_SUCCESS || read_counts(client, &ids[1]) != EXIT_SUCCESS)) {
    goto free_client;
  }
  code = EXIT_SUCCESS;
free_client:
  plasma_client_free(client);
stop:
  status = plasma_store_stop(store); /* NULL, when the store is not ours: nothing to stop */
  if (status != PLASMA_OK) {
    code = failed("plasma_store_stop", status);
  }
  return code;
}
