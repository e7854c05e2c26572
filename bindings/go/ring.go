package plasmastore

/*
#include <plasma_store.h>
#include <stdlib.h>

// The struct is made here: Go must not give C a struct of its own that points at more of its own.
static plasma_status create_ring(plasma_client *client, const plasma_object_id *id, tensor_ring_options options,
                                 DLDataType dtype, int32_t ndim, int64_t *shape, tensor_ring **out) {
  DLTensor like = {NULL, {kDLCPU, 0}, ndim, dtype, shape, NULL, 0};
  options.like = shape == NULL ? NULL : &like;
  return tensor_ring_create(client, id, &options, out);
}
*/
import "C"

import (
	"context"
	"errors"
	"math"
	"runtime"
	"time"
	"unsafe"
)

// Ring is slots of memory in which messages go from those who fill them to those who read them, first in, first out.
// Any number of goroutines and processes may do either.
type Ring struct {
	participant
	handle *C.tensor_ring
	dtype  DType // that of all messages
	shape  []int // that of all messages; nil where each has its own
}

// RingOptions is how a ring is to be. Its messages are of one type and Shape, or without Shape each of its own.
type RingOptions struct {
	Slots        int // 1 to 65535
	SlotBytes    int // the most bytes of a message; 0 is as many as all have
	DType        DType
	Shape        []int
	Broadcast    bool // every client sees every message that is published after its first Take
	DropOldest   bool // who finds no free slot takes the oldest message away that nobody reads
	HandOutAgain bool // what a process had taken when it ended is taken by another, and not dropped
	Keep         bool // it lives until it is deleted, also when nobody takes part
	Guard        bool // for debugging: who touches a slot that it does not have is killed; not with Broadcast
	// AcquireWait is how long an Acquire or a Put waits for a free slot at most, in every process: 0 is as long as its
	// context lets, less than 0 not at all.
	AcquireWait time.Duration
	Name        string // as in CreateOptions
}

func (o RingOptions) flags() C.uint32_t {
	var flags C.uint32_t
	for flag, set := range o.byFlag() {
		if *set {
			flags |= flag
		}
	}
	return flags
}

func (o *RingOptions) byFlag() map[C.uint32_t]*bool {
	return map[C.uint32_t]*bool{C.TENSOR_RING_BROADCAST: &o.Broadcast, C.TENSOR_RING_DROP_OLDEST: &o.DropOldest,
		C.TENSOR_RING_HAND_OUT_AGAIN: &o.HandOutAgain, C.TENSOR_RING_KEEP: &o.Keep, C.TENSOR_RING_GUARD: &o.Guard}
}

// acquireMs is AcquireWait as C has it, where 0 is not at all.
func (o RingOptions) acquireMs() C.int64_t {
	if o.AcquireWait < 0 {
		return 0
	} else if o.AcquireWait == 0 {
		return -1
	}
	return milliseconds(o.AcquireWait)
}

// CreateRing makes a ring and takes part in it.
func (c *Client) CreateRing(id ObjectID, options RingOptions) (*Ring, error) {
	if options.Slots < 0 || options.Slots > math.MaxUint16 || options.SlotBytes < 0 {
		return nil, invalid("Slots is %d and SlotBytes %d", options.Slots, options.SlotBytes)
	}
	wanted := C.tensor_ring_options{slots: C.uint32_t(options.Slots), flags: options.flags()}
	wanted.struct_size = C.size_t(unsafe.Sizeof(wanted))
	wanted.slot_bytes, wanted.acquire_ms = C.uint64_t(options.SlotBytes), options.acquireMs()
	if options.Name != "" {
		text, err := cString(options.Name, "name")
		if err != nil {
			return nil, err
		}
		defer C.free(unsafe.Pointer(text))
		wanted.name = text
	}
	shape, ndim := shapeOrNone(options.Shape), C.int32_t(len(options.Shape))
	var handle *C.tensor_ring
	err := c.use(func() C.plasma_status {
		return C.create_ring(c.handle, id.c(), wanted, options.DType.c(), ndim, shape, &handle)
	})
	return c.newRing(handle, err)
}

// shapeOrNone is nil for none.
func shapeOrNone(shape []int) *C.int64_t {
	if shape == nil {
		return nil
	}
	return &shapeOf(shape)[0]
}

// OpenRing takes part in a ring that is there, or will be before the context is done.
func (c *Client) OpenRing(ctx context.Context, id ObjectID) (*Ring, error) {
	var handle *C.tensor_ring
	err := c.wait(ctx, func() C.plasma_status { return C.tensor_ring_open(c.handle, id.c(), -1, &handle) })
	return c.newRing(handle, err)
}

func (c *Client) newRing(handle *C.tensor_ring, err error) (*Ring, error) {
	if err != nil {
		return nil, err
	}
	ring := &Ring{handle: handle}
	ring.take(c, "ring")
	runtime.SetFinalizer(ring, (*Ring).Close)
	about := C.tensor_description{}
	about.struct_size = C.size_t(unsafe.Sizeof(about))
	err = ring.use(func() C.plasma_status { return C.tensor_ring_describe(handle, &about) })
	if err == nil {
		ring.dtype, ring.shape = typeAndShape(&about)
	} else if !errors.Is(err, InvalidArgument) {
		_ = ring.Close()
		return nil, err
	}
	return ring, nil
}

// Close leaves the ring, which goes on for others, and ends what waits here. Slots and messages that it gave must not
// be used any more.
func (r *Ring) Close() error {
	r.leave(func() { C.tensor_ring_leave(r.handle) })
	runtime.SetFinalizer(r, nil)
	return nil
}

// ID is the ring's.
func (r *Ring) ID() (ObjectID, error) {
	var id ObjectID
	err := r.use(func() C.plasma_status { return C.tensor_ring_id(r.handle, id.c()) })
	return id, err
}

// DType is the type of the elements of all messages; the zero DType where each message has its own.
func (r *Ring) DType() DType { return r.dtype }

// Shape is that of all messages; nil where each message has its own.
func (r *Ring) Shape() []int { return copied(r.shape) }

// Options is how the ring was made, also by others, but for its name and Keep.
func (r *Ring) Options() (RingOptions, error) {
	info := C.tensor_ring_info{}
	info.struct_size = C.size_t(unsafe.Sizeof(info))
	if err := r.use(func() C.plasma_status { return C.tensor_ring_get_info(r.handle, &info) }); err != nil {
		return RingOptions{}, err
	}
	options := RingOptions{Slots: int(info.slots), SlotBytes: int(info.slot_bytes), DType: r.dtype, Shape: r.Shape()}
	for flag, set := range options.byFlag() {
		*set = info.flags&flag != 0
	}
	switch {
	case info.acquire_ms == 0:
		options.AcquireWait = -1
	case info.acquire_ms > 0:
		options.AcquireWait = time.Duration(info.acquire_ms) * time.Millisecond
	}
	return options, nil
}

// Finish closes the ring for all: nothing is published from now on, and who reads gets what was published before, and
// then Closed.
func (r *Ring) Finish() error {
	return r.use(func() C.plasma_status { return C.tensor_ring_close(r.handle) })
}

// Abort has everybody stop, with Aborted.
func (r *Ring) Abort() error {
	return r.use(func() C.plasma_status { return C.tensor_ring_abort(r.handle) })
}

// Counts is the slots that are free, and the messages that nobody has taken.
func (r *Ring) Counts() (free, published int, err error) {
	var counts [2]C.size_t
	err = r.use(func() C.plasma_status { return C.tensor_ring_counts(r.handle, &counts[0], &counts[1]) })
	return int(counts[0]), int(counts[1]), err
}

// FD is a descriptor that can be read when a TryTake is worth while, for poll and the like; one that finds nothing
// makes it quiet again. It is the ring's, and not to be read or closed.
func (r *Ring) FD() (int, error) {
	var descriptor C.int32_t
	err := r.use(func() C.plasma_status { return C.tensor_ring_fd(r.handle, &descriptor) })
	return int(descriptor), err
}
