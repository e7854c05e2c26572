/* Bytes in and out of a store: create an object, fill it, seal it; get it back, by its name, where it lies.
 *
 *   put_get                      both, in a store that lives in this process and ends with it
 *   put_get SOCKET put|get       one half, in the store that listens at SOCKET: start the other half in another process,
 *                                in C or with put_get.py, before or after
 */
#include <plasma_store.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char DATA[] = "Seven bytes or seven gigabytes, it is all the same.";
static const char METADATA[] = "text/plain";
static const int64_t PATIENCE_MS = 30000;

/* Says what failed, and why. */
static int failed(const char *call, plasma_status status) {
  fprintf(stderr, "%s: %s: %s\n", call, plasma_status_string(status), plasma_last_error_message());
  return EXIT_FAILURE;
}

static int put(plasma_client *client, const plasma_object_id *id) {
  plasma_buffer *buffer = NULL;
  const size_t size = sizeof DATA - 1, metadata_size = sizeof METADATA - 1;
  int code = EXIT_FAILURE;

  /* What an earlier run left goes first: an id is used once as long as its object lives. */
  plasma_status status = plasma_delete(client, id, 1, NULL);
  if (status != PLASMA_OK) {
    return failed("plasma_delete", status);
  }
  status = plasma_create(client, id, size, (const uint8_t *)METADATA, metadata_size, NULL, &buffer);
  if (status != PLASMA_OK) {
    return failed("plasma_create", status);
  }
  memcpy(plasma_buffer_mutable_data(buffer), DATA, size); /* this is the shared memory itself */

  status = plasma_seal(client, id);
  if (status != PLASMA_OK) {
    failed("plasma_seal", status);
    goto release;
  }
  printf("put %zu bytes, %zu bytes of metadata\n", size, metadata_size);
  code = EXIT_SUCCESS;
release:
  plasma_buffer_release(buffer);
  return code;
}

static int get(plasma_client *client, const plasma_object_id *id) {
  plasma_buffer *buffer = NULL;
  plasma_status status = plasma_get(client, id, 1, PATIENCE_MS, NULL, &buffer);
  if (status != PLASMA_OK) {
    return failed("plasma_get", status);
  }
  printf("got %.*s: %.*s\n", (int)plasma_buffer_metadata_size(buffer), (const char *)plasma_buffer_metadata(buffer),
         (int)plasma_buffer_size(buffer), (const char *)plasma_buffer_data(buffer));
  plasma_buffer_release(buffer);
  return EXIT_SUCCESS;
}

int main(int argc, char **argv) {
  const char *socket = argc == 3 ? argv[1] : NULL;
  const char *half = argc == 3 ? argv[2] : "both";
  const int puts_it = strcmp(half, "get") != 0, gets_it = strcmp(half, "put") != 0;
  if ((argc != 1 && argc != 3) || (argc == 3 && puts_it && gets_it)) {
    fprintf(stderr, "usage: %s [SOCKET put|get]\n", argv[0]);
    return 2;
  }

  plasma_store *store = NULL;
  plasma_client *client = NULL;
  plasma_object_id id;
  int code = EXIT_FAILURE;
  plasma_status status = plasma_object_id_from_name("examples", "put_get", &id);
  if (status != PLASMA_OK) {
    return failed("plasma_object_id_from_name", status);
  }
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
  if (puts_it && put(client, &id) != EXIT_SUCCESS) {
    goto free_client;
  }
  if (gets_it && get(client, &id) != EXIT_SUCCESS) {
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
