package plasmastore

/*
#include <plasma_store.h>

static plasma_status put_message(tensor_ring *ring, DLDataType dtype, int32_t ndim, int64_t *shape, int64_t *strides,
                                 void *data, int64_t timeout_ms) {
  DLTensor message = {data, {kDLCPU, 0}, ndim, dtype, shape, strides, 0};
  return tensor_ring_put(ring, &message, timeout_ms);
}
*/
import "C"

import (
	"context"
	"unsafe"
)

// Put publishes a copy of elements of any type and layout, as a row-major message. It waits as Acquire does.
func (r *Ring) Put(ctx context.Context, view TensorView) error {
	lengths, strides, data, err := view.unpadded()
	if err != nil {
		return err
	}
	ndim := C.int32_t(len(view.Shape))
	return r.wait(ctx, asCreated, func(timeout C.int64_t) C.plasma_status {
		return C.put_message(r.handle, view.DType.c(), ndim, &lengths[0], strides, data, timeout)
	})
}

// PutMany publishes copies of messages that lie one behind the other, of a ring whose messages have one type and shape,
// and tells how many: fewer than all with the error that ended it. It waits as Acquire does, each time.
func PutMany[T Element](ctx context.Context, ring *Ring, values []T) (int, error) {
	each, count, err := messagesIn(ring, values)
	put := 0
	for err == nil && put < count {
		var done C.size_t
		err = ring.wait(ctx, asCreated, func(timeout C.int64_t) C.plasma_status {
			first, left := unsafe.Pointer(&values[put*each]), C.size_t(count-put)
			status := C.tensor_ring_put_many(ring.handle, first, left, timeout, &done)
			put += int(done)
			if status == C.PLASMA_TIMEOUT && done > 0 {
				return C.PLASMA_OK // the wait for the next one is another
			}
			return status
		})
	}
	return put, err
}

// TakeMany takes copies of as many messages as there is room for, of a ring whose messages have one type and shape, and
// tells how many: it waits for the first as Take does, and takes with it what is there.
func TakeMany[T Element](ctx context.Context, ring *Ring, into []T) (int, error) {
	_, count, err := messagesIn(ring, into)
	if err != nil || count == 0 {
		return 0, err
	}
	var done C.size_t
	err = ring.wait(ctx, -1, func(timeout C.int64_t) C.plasma_status {
		return C.tensor_ring_take_many(ring.handle, unsafe.Pointer(&into[0]), C.size_t(count), timeout, &done)
	})
	return int(done), err
}

// messagesIn is how many elements a message has, and how many messages so many elements are.
func messagesIn[T Element](ring *Ring, values []T) (each, count int, err error) {
	if ring.shape == nil {
		return 0, 0, invalid("each message of this ring has a type and a shape of its own")
	}
	if wanted := DTypeOf[T](); ring.dtype != wanted {
		return 0, 0, invalid("messages are of %v, not %v", ring.dtype, wanted)
	}
	each, _ = countOf(ring.shape)
	if each == 0 || len(values)%each != 0 {
		return 0, 0, invalid("%d elements for messages of %d", len(values), each)
	}
	return each, len(values) / each, nil
}
