/* Rings and shared arrays by the C face, for ring.h and shared.h. */
#ifndef BENCH_OURS_RING_H_
#define BENCH_OURS_RING_H_

#define PEER_HAS_RINGS
#define PEER_HAS_SHARED_ARRAYS

typedef struct {
  tensor_ring *ring;
  tensor_ring_slot slot; /* which this process has */
  const options *o;
} peer_ring;

static const options *ring_options;

static peer_ring *peer_ring_of(tensor_ring *ring) {
  peer_ring *made = calloc(1, sizeof *made);
  if (made == NULL) die("no memory for a ring");
  made->ring = ring;
  made->o = ring_options;
  return made;
}

static plasma_object_id ring_id(uint64_t number) {
  const object_id id = id_of(number);
  return ours(&id);
}

static peer_ring *peer_ring_make(peer *client, uint64_t number) {
  int64_t shape[1] = {(int64_t)ring_options->size};
  const DLTensor like = {.ndim = 1, .device = {kDLCPU, 0}, .dtype = {kDLUInt, 8, 1}, .shape = shape};
  const tensor_ring_options how = {.struct_size = sizeof how, .slots = (uint32_t)ring_options->slots, .like = &like};
  const plasma_object_id id = ring_id(number);
  tensor_ring *ring = NULL;
  check(tensor_ring_create(client, &id, &how, &ring), "tensor_ring_create");
  return peer_ring_of(ring);
}

static peer_ring *peer_ring_open(peer *client, uint64_t number) {
  const plasma_object_id id = ring_id(number);
  tensor_ring *ring = NULL;
  check(tensor_ring_open(client, &id, -1, &ring), "tensor_ring_open");
  return peer_ring_of(ring);
}

static int peer_ring_is_synchronised(const peer_ring *ring) { return ring != NULL; }

static uint8_t *peer_ring_acquire(peer_ring *ring) {
  check(tensor_ring_acquire(ring->ring, -1, &ring->slot), "tensor_ring_acquire");
  return ring->slot.data;
}

static void peer_ring_publish(peer_ring *ring) {
  check(tensor_ring_publish(ring->ring, &ring->slot, NULL), "tensor_ring_publish");
}

static const uint8_t *peer_ring_take(peer_ring *ring) {
  check(tensor_ring_take(ring->ring, -1, &ring->slot), "tensor_ring_take");
  return ring->slot.data;
}

/* Who was told to stay awake for a while does; others look again and again. */
static const uint8_t *peer_ring_take_awake(peer_ring *ring) {
  if (ring->o->spin_us != 0) return peer_ring_take(ring);
  plasma_status status;
  while ((status = tensor_ring_take(ring->ring, 0, &ring->slot)) == PLASMA_TIMEOUT) continue;
  check(status, "tensor_ring_take");
  return ring->slot.data;
}

static void peer_ring_release(peer_ring *ring) {
  check(tensor_ring_release(ring->ring, &ring->slot), "tensor_ring_release");
}

static void peer_ring_put_many(peer_ring *ring, const uint8_t *source, uint64_t count) {
  size_t done;
  check(tensor_ring_put_many(ring->ring, source, count, -1, &done), "tensor_ring_put_many");
}

static uint64_t peer_ring_take_many(peer_ring *ring, uint8_t *out, uint64_t count) {
  size_t done;
  check(tensor_ring_take_many(ring->ring, out, count, -1, &done), "tensor_ring_take_many");
  return done;
}

static uint64_t *elements_of(tensor_shared *shared) {
  tensor_description description = {.struct_size = sizeof description};
  check(tensor_shared_describe(shared, &description), "tensor_shared_describe");
  return (uint64_t *)description.data;
}

static uint64_t *peer_elements_make(peer *client) {
  int64_t shape[1] = {8};
  const DLTensor like = {.ndim = 1, .device = {kDLCPU, 0}, .dtype = {kDLUInt, 64, 1}, .shape = shape};
  const plasma_object_id id = ring_id(2);
  tensor_shared *shared = NULL;
  check(tensor_shared_create(client, &id, &like, NULL, &shared), "tensor_shared_create");
  return elements_of(shared);
}

static uint64_t *peer_elements_open(peer *client) {
  const plasma_object_id id = ring_id(2);
  tensor_shared *shared = NULL;
  check(tensor_shared_open(client, &id, -1, &shared), "tensor_shared_open");
  return elements_of(shared);
}

#endif
