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

static plasma_status publish_slot(tensor_ring *ring, const tensor_ring_slot *slot, DLDataType dtype, int32_t ndim,
                                  int64_t *shape) {
  DLTensor message = {NULL, {kDLCPU, 0}, ndim, dtype, shape, NULL, 0};
  return tensor_ring_publish(ring, slot, shape == NULL ? NULL : &message);
}
*/
import "C"

import (
	"context"
	"math"
	"runtime"
	"sync"
	"unsafe"
)

// Ring is slots of memory in which messages go from those who fill them to those who read them, first in, first out.
// Any number of goroutines and processes may do either.
type Ring struct {
	mutex  sync.RWMutex
	handle *C.tensor_ring
	client *Client
}

// RingOptions is how a ring is to be. Its messages are of one type and Shape, or without Shape each of its own.
type RingOptions struct {
	Slots        int
	SlotBytes    int // the most bytes of a message; 0 is as many as all have
	DType        DType
	Shape        []int
	Broadcast    bool   // every client sees every message that is published after its first Take
	DropOldest   bool   // who finds no free slot takes the oldest message away that nobody reads
	HandOutAgain bool   // what a process had taken when it ended is taken by another, and not dropped
	Keep         bool   // it lives until it is deleted, also when nobody takes part
	Name         string // as in CreateOptions
}

func (o RingOptions) flags() C.uint32_t {
	var flags C.uint32_t
	for _, flag := range []struct {
		set  bool
		flag C.uint32_t
	}{{o.Broadcast, C.TENSOR_RING_BROADCAST}, {o.DropOldest, C.TENSOR_RING_DROP_OLDEST},
		{o.HandOutAgain, C.TENSOR_RING_HAND_OUT_AGAIN}, {o.Keep, C.TENSOR_RING_KEEP}} {
		if flag.set {
			flags |= flag.flag
		}
	}
	return flags
}

// CreateRing makes a ring and takes part in it.
func (c *Client) CreateRing(id ObjectID, options RingOptions) (*Ring, error) {
	if options.Slots < 0 || options.Slots > math.MaxUint16 || options.SlotBytes < 0 {
		return nil, invalid("Slots is %d and SlotBytes %d", options.Slots, options.SlotBytes)
	}
	wanted := C.tensor_ring_options{slots: C.uint32_t(options.Slots), flags: options.flags(), acquire_ms: -1}
	wanted.struct_size = C.size_t(unsafe.Sizeof(wanted))
	wanted.slot_bytes = C.uint64_t(options.SlotBytes)
	if options.Name != "" {
		text, err := cString(options.Name, "name")
		if err != nil {
			return nil, err
		}
		defer C.free(unsafe.Pointer(text))
		wanted.name = text
	}
	shape, ndim := ringShape(options.Shape), C.int32_t(len(options.Shape))
	var handle *C.tensor_ring
	err := c.use(func() C.plasma_status {
		return C.create_ring(c.handle, id.c(), wanted, options.DType.c(), ndim, shape, &handle)
	})
	return c.newRing(handle, err)
}

// ringShape is nil for none.
func ringShape(shape []int) *C.int64_t {
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
	ring := &Ring{handle: handle, client: c}
	runtime.SetFinalizer(ring, (*Ring).Close)
	return ring, nil
}

// Close leaves the ring, which goes on for others. Slots and messages that it gave must not be used any more. Cancel
// the contexts of calls that wait before.
func (r *Ring) Close() error {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	C.tensor_ring_leave(r.handle)
	r.handle = nil
	runtime.SetFinalizer(r, nil)
	return nil
}

func (r *Ring) use(function func() C.plasma_status) error {
	r.mutex.RLock()
	defer r.mutex.RUnlock()
	if r.handle == nil {
		return closed("ring")
	}
	return call(function)
}

func (r *Ring) wait(ctx context.Context, function func(timeout C.int64_t) C.plasma_status) error {
	r.mutex.RLock()
	defer r.mutex.RUnlock()
	if r.handle == nil {
		return closed("ring")
	}
	err := call(func() C.plasma_status { return function(0) })
	if failed, ok := err.(*Error); !ok || failed.Status != Timeout {
		return err
	}
	return r.client.wait(ctx, func() C.plasma_status { return function(-1) })
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

// Slot is a slot to fill: Bytes, and then Publish, PublishAs or Abandon.
type Slot struct {
	ring *Ring
	slot C.tensor_ring_slot
}

// Acquire finds a free slot, waiting for it.
func (r *Ring) Acquire(ctx context.Context) (*Slot, error) {
	slot := &Slot{ring: r}
	err := r.wait(ctx, func(timeout C.int64_t) C.plasma_status {
		return C.tensor_ring_acquire(r.handle, timeout, &slot.slot)
	})
	if err != nil {
		return nil, err
	}
	return slot, nil
}

// Bytes is the slot's memory, good until it is given back.
func (s *Slot) Bytes() []byte { return bytes((*C.uint8_t)(s.slot.data), C.uint64_t(s.slot.size)) }

// Publish gives the message to who reads, of a ring whose messages have one type and shape.
func (s *Slot) Publish() error { return s.PublishAs(DType{}, nil) }

// PublishAs is Publish with a type and a shape of its own.
func (s *Slot) PublishAs(dtype DType, shape []int) error {
	lengths, ndim := ringShape(shape), C.int32_t(len(shape))
	return s.ring.use(func() C.plasma_status {
		return C.publish_slot(s.ring.handle, &s.slot, dtype.c(), ndim, lengths)
	})
}

// Abandon gives the slot up.
func (s *Slot) Abandon() error {
	return s.ring.use(func() C.plasma_status { return C.tensor_ring_abandon(s.ring.handle, &s.slot) })
}

// Message is a message to read where it lies, and then to Release.
type Message struct {
	ring  *Ring
	slot  C.tensor_ring_slot
	dtype DType
	shape []int
}

// Take takes the next message, waiting for it; Closed when the ring is finished and drained.
func (r *Ring) Take(ctx context.Context) (*Message, error) {
	message := &Message{ring: r}
	err := r.wait(ctx, func(timeout C.int64_t) C.plasma_status {
		return C.tensor_ring_take(r.handle, timeout, &message.slot)
	})
	if err != nil {
		return nil, err
	}
	if err := message.describe(); err != nil {
		_ = message.Release()
		return nil, err
	}
	return message, nil
}

func (m *Message) describe() error {
	about := C.tensor_description{}
	about.struct_size = C.size_t(unsafe.Sizeof(about))
	err := m.ring.use(func() C.plasma_status { return C.tensor_ring_message(m.ring.handle, &m.slot, &about) })
	m.dtype = DType{TypeCode(about.dtype.code), uint8(about.dtype.bits), uint16(about.dtype.lanes)}
	for i := 0; i < int(about.ndim); i++ {
		m.shape = append(m.shape, int(about.shape[i]))
	}
	return err
}

// Bytes is those of all elements, row-major, not to be written; good until Release.
func (m *Message) Bytes() []byte { return bytes((*C.uint8_t)(m.slot.data), C.uint64_t(m.slot.size)) }

// DType is the type of its elements.
func (m *Message) DType() DType { return m.dtype }

// Shape is the length along each dimension.
func (m *Message) Shape() []int { return append([]int(nil), m.shape...) }

// Release gives the slot back.
func (m *Message) Release() error {
	return m.ring.use(func() C.plasma_status { return C.tensor_ring_release(m.ring.handle, &m.slot) })
}
