/* A program of somebody who has installed plasma_store: a tensor goes into a store and comes out again. */
#include <plasma_store.h>
#include <stdio.h>
#include <string.h>

int main(void) {
  float numbers[3] = {1, 2, 3};
  int64_t shape[1] = {3}, strides[1] = {1};
  DLTensor tensor = {numbers, {kDLCPU, 0}, 1, {kDLFloat, 32, 1}, shape, strides, 0};
  plasma_store *store = NULL;
  plasma_client *client = NULL;
  plasma_object_id id;
  DLManagedTensor *read = NULL;

  plasma_status status = plasma_store_start(NULL, &store);
  if (status == PLASMA_OK) status = plasma_connect(plasma_store_socket(store), NULL, &client);
  if (status == PLASMA_OK) status = plasma_object_id_random(&id);
  if (status == PLASMA_OK) status = tensor_write(client, &id, &tensor, NULL);
  if (status == PLASMA_OK) status = tensor_read(client, &id, 0, &read);
  if (status != PLASMA_OK) {
    fprintf(stderr, "%s\n", plasma_last_error_message());
    return 1;
  }
  int same = memcmp(read->dl_tensor.data, numbers, sizeof numbers) == 0;
  read->deleter(read);
  plasma_client_free(client);
  plasma_store_stop(store);
  printf("%s\n", plasma_version());
  return same ? 0 : 1;
}
