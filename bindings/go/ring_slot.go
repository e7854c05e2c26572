package plasmastore

/*
#include <plasma_store.h>

static plasma_status publish_slot(tensor_ring *ring, const tensor_ring_slot *slot, DLDataType dtype, int32_t ndim,
                                  int64_t *shape) {
  DLTensor message = {NULL, {kDLCPU, 0}, ndim, dtype, shape, NULL, 0};
  return tensor_ring_publish(ring, slot, shape == NULL ? NULL : &message);
}
*/
import "C"

import (
	"context"
	"errors"
	"unsafe"
)

// asCreated has an acquire wait for as long as was said when the ring was made.
const asCreated = C.TENSOR_RING_AS_CREATED

// Slot is a slot to fill: SlotValues or Bytes, and then Publish, PublishAs or Abandon.
type Slot struct {
	ring *Ring
	slot C.tensor_ring_slot
}

// Acquire finds a free slot, waiting for it for as long as the context and the ring's AcquireWait let it. Busy tells
// that this thread got all slots itself.
func (r *Ring) Acquire(ctx context.Context) (*Slot, error) {
	slot := &Slot{ring: r}
	err := r.wait(ctx, asCreated, slot.acquire)
	return slotOr(slot, err)
}

// TryAcquire finds a slot that is free now, else Timeout.
func (r *Ring) TryAcquire() (*Slot, error) {
	slot := &Slot{ring: r}
	err := r.use(func() C.plasma_status { return slot.acquire(0) })
	return slotOr(slot, err)
}

func slotOr(slot *Slot, err error) (*Slot, error) {
	if err != nil {
		return nil, err
	}
	return slot, nil
}

func (s *Slot) acquire(timeout C.int64_t) C.plasma_status {
	return C.tensor_ring_acquire(s.ring.handle, timeout, &s.slot)
}

// Bytes is the slot's memory; nil when it was given back.
func (s *Slot) Bytes() []byte { return bytes((*C.uint8_t)(s.slot.data), C.uint64_t(s.slot.size)) }

// SlotValues is the elements to be written: of a ring whose messages have one type and shape as many as a message has,
// of any other as many as there is room for. They are good until the slot is given back.
func SlotValues[T Element](slot *Slot) ([]T, error) {
	if slot.ring.shape == nil {
		var value T
		return elementsAt[T](slot.slot.data, int(slot.slot.size)/int(unsafe.Sizeof(value))), nil
	}
	count, _ := countOf(slot.ring.shape)
	return ofType[T](slot.slot.data, slot.ring.dtype, count)
}

func elementsAt[T Element](place unsafe.Pointer, count int) []T {
	if place == nil {
		return nil
	}
	return unsafe.Slice((*T)(place), count)
}

func ofType[T Element](place unsafe.Pointer, dtype DType, count int) ([]T, error) {
	if wanted := DTypeOf[T](); dtype != wanted {
		return nil, invalid("elements are %v, not %v", dtype, wanted)
	}
	return elementsAt[T](place, count), nil
}

// Publish gives the message to who reads, of a ring whose messages have one type and shape.
func (s *Slot) Publish() error { return s.PublishAs(DType{}, nil) }

// PublishAs is Publish with a type and a shape of its own.
func (s *Slot) PublishAs(dtype DType, shape []int) error {
	lengths, ndim := shapeOrNone(shape), C.int32_t(len(shape))
	err := s.ring.use(func() C.plasma_status {
		return C.publish_slot(s.ring.handle, &s.slot, dtype.c(), ndim, lengths)
	})
	if err == nil || errors.Is(err, Closed) || errors.Is(err, Aborted) || errors.Is(err, Corrupt) {
		s.slot.data = nil
	}
	return err
}

// Abandon gives the slot up.
func (s *Slot) Abandon() error {
	err := s.ring.use(func() C.plasma_status { return C.tensor_ring_abandon(s.ring.handle, &s.slot) })
	if err == nil {
		s.slot.data = nil
	}
	return err
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
	return message.describedOr(r.wait(ctx, -1, message.take))
}

// TryTake takes a message that is there now, else Timeout.
func (r *Ring) TryTake() (*Message, error) {
	message := &Message{ring: r}
	return message.describedOr(r.use(func() C.plasma_status { return message.take(0) }))
}

func (m *Message) take(timeout C.int64_t) C.plasma_status {
	return C.tensor_ring_take(m.ring.handle, timeout, &m.slot)
}

func (m *Message) describedOr(err error) (*Message, error) {
	if err != nil {
		return nil, err
	}
	about := C.tensor_description{}
	about.struct_size = C.size_t(unsafe.Sizeof(about))
	err = m.ring.use(func() C.plasma_status { return C.tensor_ring_message(m.ring.handle, &m.slot, &about) })
	if err != nil {
		_ = m.Release()
		return nil, err
	}
	m.dtype, m.shape = typeAndShape(&about)
	return m, nil
}

// Bytes is those of all elements, row-major, not to be written; nil when the message was released.
func (m *Message) Bytes() []byte { return bytes((*C.uint8_t)(m.slot.data), C.uint64_t(m.slot.size)) }

// MessageValues is all elements of a message, row-major, not to be written; good until Release.
func MessageValues[T Element](message *Message) ([]T, error) {
	count, _ := countOf(message.shape)
	return ofType[T](message.slot.data, message.dtype, count)
}

// DType is the type of its elements.
func (m *Message) DType() DType { return m.dtype }

// Shape is the length along each dimension.
func (m *Message) Shape() []int { return copied(m.shape) }

// Release gives the slot back.
func (m *Message) Release() error {
	err := m.ring.use(func() C.plasma_status { return C.tensor_ring_release(m.ring.handle, &m.slot) })
	if err == nil {
		m.slot.data = nil
	}
	return err
}
