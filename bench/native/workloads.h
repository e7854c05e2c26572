/* The work items W1 to W6, the eviction and rings, for any store. A peer includes this as its last line, after it has defined
 *
 *   peer, held                                          a connection; what a create or a get gave
 *   peer *peer_connect(const options *)                 where=PATH says where
 *   void peer_disconnect(peer *)
 *   uint8_t *peer_create(peer *, const object_id *, uint64_t size, held *)
 *   void peer_copy(held *, uint8_t *to, const uint8_t *from, uint64_t size)     `to` is what the create gave
 *   void peer_seal(peer *, const object_id *, held *)
 *   void peer_get(peer *, const object_id *, size_t count, held *)      waits until all are sealed
 *   const uint8_t *peer_data(const held *)
 *   void peer_release(peer *, const object_id *, held *)
 *   void peer_delete(peer *, const object_id *)
 *   uint64_t peer_evict(peer *, uint64_t bytes)         with PEER_CAN_EVICT
 *   void peer_put(peer *, const object_id *, const uint8_t *, uint64_t size)    with PEER_CAN_PUT: all in one call
 *   void peer_stream(the same), void peer_flush(peer *) with PEER_CAN_STREAM: not waiting for each; for all
 *   peer_ring ...                                       with PEER_HAS_RINGS: as in ours_ring.h
 */
#include "put.h"
#include "get.h"
#include "handoff.h"
#include "cycles.h"
#include "first_read.h"
#include "evict.h"
#include "ring.h"
#include "shared.h"

int main(int count, char **words) {
  const options o = read_options(count, words);
  if (strcmp(o.work, "put") == 0) work_put(&o);
  else if (strcmp(o.work, "put_in_one_call") == 0) work_put_in_one_call(&o);
  else if (strcmp(o.work, "put_first") == 0) work_put_first(&o);
  else if (strcmp(o.work, "put_new") == 0) work_put_new(&o);
  else if (strcmp(o.work, "put_ring") == 0) work_put_ring(&o);
  else if (strcmp(o.work, "get") == 0) work_get(&o);
  else if (strcmp(o.work, "get_random") == 0) work_get_random(&o);
  else if (strcmp(o.work, "batch") == 0) work_batch(&o);
  else if (strcmp(o.work, "handoff") == 0) work_handoff(&o);
  else if (strcmp(o.work, "cycles") == 0) work_clients(&o, "cycles", cycle_some);
  else if (strcmp(o.work, "first_read") == 0) work_first_read(&o);
#ifdef PEER_CAN_STREAM
  else if (strcmp(o.work, "stream") == 0) work_clients(&o, "stream", stream_some);
#endif
#ifdef PEER_CAN_EVICT
  else if (strcmp(o.work, "evict") == 0) work_evict(&o);
#endif
#ifdef PEER_HAS_SHARED_ARRAYS
  else if (strcmp(o.work, "shared_element") == 0) work_shared_element(&o);
#endif
#ifdef PEER_HAS_RINGS
  else if (work_of_rings(&o)) return 0;
#endif
  else die("no such work: %s", o.work);
  return 0;
}
