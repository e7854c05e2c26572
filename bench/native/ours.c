/* The C face of plasma_store. */
#include <plasma_store.h>

#include "measure.h"

typedef plasma_client peer;
typedef plasma_buffer *held;

static void check(plasma_status status, const char *call) {
  if (status != PLASMA_OK) die("%s: %s (%s)", call, plasma_last_error_message(), plasma_status_string(status));
}

static plasma_object_id ours(const object_id *id) {
  plasma_object_id out;
  memcpy(out.bytes, id->bytes, sizeof out.bytes);
  return out;
}

#include "ours_ring.h"

static peer *peer_connect(const options *o) {
  peer *client = NULL;
  plasma_connect_options how = {.struct_size = sizeof how, .spin_us = (uint32_t)o->spin_us};
  ring_options = o;
  check(plasma_connect(o->where, &how, &client), "plasma_connect");
  return client;
}

static void peer_disconnect(peer *client) { plasma_client_free(client); }

static uint8_t *peer_create(peer *client, const object_id *id, uint64_t size, held *out) {
  const plasma_object_id object = ours(id);
  check(plasma_create(client, &object, size, NULL, 0, NULL, out), "plasma_create");
  return plasma_buffer_mutable_data(*out);
}

static void peer_copy(held *hold, uint8_t *to, const uint8_t *from, uint64_t size) {
  (void)to;
  check(plasma_buffer_write(*hold, 0, from, size), "plasma_buffer_write");
}

static void peer_seal(peer *client, const object_id *id, held *hold) {
  (void)hold;
  const plasma_object_id object = ours(id);
  check(plasma_seal(client, &object), "plasma_seal");
}

/* Both are 20 bytes and nothing else, so an array of one is an array of the other. */
_Static_assert(sizeof(object_id) == sizeof(plasma_object_id), "an id is 20 bytes");

static void peer_get(peer *client, const object_id *ids, size_t count, held *out) {
  check(plasma_get(client, (const plasma_object_id *)ids, count, -1, NULL, out), "plasma_get");
}

static const uint8_t *peer_data(const held *hold) { return plasma_buffer_data(*hold); }

static void peer_release(peer *client, const object_id *id, held *hold) {
  (void)client, (void)id;
  plasma_buffer_release(*hold);
}

static void peer_delete(peer *client, const object_id *id) {
  const plasma_object_id object = ours(id);
  check(plasma_delete(client, &object, 1, NULL), "plasma_delete");
}

#define PEER_CAN_PUT
static void peer_put(peer *client, const object_id *id, const uint8_t *data, uint64_t size) {
  const plasma_object_id object = ours(id);
  check(plasma_put(client, &object, data, size, NULL, 0, NULL), "plasma_put");
}

#define PEER_CAN_STREAM
static void peer_stream(peer *client, const object_id *id, const uint8_t *data, uint64_t size) {
  const plasma_object_id object = ours(id);
  check(plasma_put_async(client, &object, data, size, NULL, 0, NULL), "plasma_put_async");
}

static void peer_flush(peer *client) { check(plasma_flush(client, NULL, NULL, 0, NULL), "plasma_flush"); }

#define PEER_CAN_EVICT
static uint64_t peer_evict(peer *client, uint64_t bytes) {
  uint64_t evicted = 0;
  check(plasma_evict(client, bytes, &evicted), "plasma_evict");
  return evicted;
}

#include "workloads.h"
