/* How the C test programs check: the first thing that is not as expected ends the program and says where and what. */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plasma_store.h"

/* `condition` holds. */
#define CHECK(condition) check((condition) ? 1 : 0, #condition, __FILE__, __LINE__)

/* `call` returns `status`, and the message that goes with it contains `text`. */
#define EXPECT(status, call, text) expect(status, call, text, #call, __FILE__, __LINE__)

/* `call` works. */
#define OK(call) EXPECT(PLASMA_OK, call, "")

/* `call`, in which the argument `name` is NULL, is refused with its name. */
#define NULL_REFUSED(call, name) EXPECT(PLASMA_INVALID_ARGUMENT, call, name " is NULL")

static inline void check(int holds, const char *condition, const char *file, int line) {
  if (!holds) {
    fprintf(stderr, "%s:%d: not so: %s\n  last message: %s\n", file, line, condition, plasma_last_error_message());
    _Exit(1);
  }
}

static inline void expect(plasma_status wanted, plasma_status got, const char *text, const char *call, const char *file,
                          int line) {
  /* After a success the message may still be that of an older failure. */
  const char *message = got == PLASMA_OK ? "" : plasma_last_error_message();
  if (got != wanted || (got != PLASMA_OK && strstr(message, text) == NULL)) {
    fprintf(stderr, "%s:%d: %s\n  wanted: %s, with \"%s\"\n  got:    %s: %s\n", file, line, call,
            plasma_status_string(wanted), text, plasma_status_string(got), message);
    _Exit(1);
  }
}

/* The id of twenty times this byte. */
static inline plasma_object_id id_of(int byte) {
  plasma_object_id id;
  memset(id.bytes, byte, sizeof id.bytes);
  return id;
}

/* Puts a sealed object of `size` bytes, all of them `fill`. */
static inline void put(plasma_client *client, const plasma_object_id *id, uint64_t size, int fill) {
  plasma_buffer *buffer = NULL;
  OK(plasma_create(client, id, size, NULL, 0, NULL, &buffer));
  memset(plasma_buffer_mutable_data(buffer), fill, size);
  OK(plasma_seal(client, id));
  plasma_buffer_release(buffer);
}

/* Whether a buffer holds `size` bytes, all of them `fill`. */
static inline int holds(const plasma_buffer *buffer, uint64_t size, int fill) {
  const uint8_t *data = plasma_buffer_data(buffer);
  if (plasma_buffer_size(buffer) != size) {
    return 0;
  }
  for (uint64_t i = 0; i < size; i++) {
    if (data[i] != (uint8_t)fill) {
      return 0;
    }
  }
  return 1;
}

/* Row-major elements of `bits` bits at `data`, which may be NULL for what only says what is wanted. */
static inline DLTensor tensor_of(void *data, DLDataTypeCode code, int bits, int32_t ndim, int64_t *shape) {
  DLTensor tensor;
  memset(&tensor, 0, sizeof tensor);
  tensor.data = data;
  tensor.device.device_type = kDLCPU;
  tensor.ndim = ndim;
  tensor.dtype.code = (uint8_t)code;
  tensor.dtype.bits = (uint8_t)bits;
  tensor.dtype.lanes = 1;
  tensor.shape = shape;
  return tensor;
}

/* What a program of misuse is made of. */
typedef void part(plasma_client *client);

/* The program `name`, which is called with the socket of a store: plays parts up to a NULL, after which no object may be left. */
static inline int play(int argc, char **argv, const char *name, part *const *parts) {
  plasma_client *client = NULL;
  plasma_object_list *list = NULL;
  CHECK(argc == 2);
  OK(plasma_connect(argv[1], NULL, &client));
  while (*parts != NULL) {
    (*parts++)(client);
  }
  OK(plasma_list(client, &list));
  CHECK(plasma_object_list_size(list) == 0);
  plasma_object_list_free(list);
  plasma_client_free(client);
  printf("%s: ok\n", name);
  return 0;
}

#endif
