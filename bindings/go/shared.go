package plasmastore

/*
#include <plasma_store.h>
#include <stdlib.h>

// The struct is made here: Go must not give C a struct of its own that points at more of its own.
static plasma_status create_shared(plasma_client *client, const plasma_object_id *id, DLDataType dtype, int32_t ndim,
                                   int64_t *shape, int64_t *strides, void *data, const tensor_shared_options *options,
                                   tensor_shared **out) {
  DLTensor like = {data, {kDLCPU, 0}, ndim, dtype, shape, strides, 0};
  return tensor_shared_create(client, id, &like, options, out);
}
*/
import "C"

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"unsafe"
)

// SharedTensor is a tensor that all processes which have it open write and read in the same memory, until one of them
// freezes it. Any number of goroutines may use it.
type SharedTensor struct {
	participant
	handle *C.tensor_shared
	dtype  DType
	shape  []int
}

// SharedOptions is how a shared tensor is to be. The zero value is all defaults.
type SharedOptions struct {
	Keep bool   // it lives until it is deleted, also while nobody has it open
	Name string // as in CreateOptions
}

// CreateShared creates a shared tensor of zeros, and opens it.
func (c *Client) CreateShared(id ObjectID, dtype DType, shape []int, options SharedOptions) (*SharedTensor, error) {
	return c.createShared(id, dtype, shape, nil, nil, options)
}

// ShareView creates a shared tensor with a copy of elements of any type and layout, and opens it.
func (c *Client) ShareView(id ObjectID, view TensorView, options SharedOptions) (*SharedTensor, error) {
	_, strides, data, err := view.unpadded()
	if err != nil {
		return nil, err
	}
	return c.createShared(id, view.DType, view.Shape, strides, data, options)
}

func (c *Client) createShared(id ObjectID, dtype DType, shape []int, strides *C.int64_t, data unsafe.Pointer,
	options SharedOptions) (*SharedTensor, error) {
	wanted := C.tensor_shared_options{}
	wanted.struct_size = C.size_t(unsafe.Sizeof(wanted))
	if options.Keep {
		wanted.flags = C.TENSOR_SHARED_KEEP
	}
	if options.Name != "" {
		text, err := cString(options.Name, "name")
		if err != nil {
			return nil, err
		}
		defer C.free(unsafe.Pointer(text))
		wanted.name = text
	}
	lengths, ndim := shapeOf(shape), C.int32_t(len(shape))
	var handle *C.tensor_shared
	err := c.use(func() C.plasma_status {
		return C.create_shared(c.handle, id.c(), dtype.c(), ndim, &lengths[0], strides, data, &wanted, &handle)
	})
	return c.newShared(handle, err)
}

// OpenShared opens a shared tensor that is there, or will be before the context is done.
func (c *Client) OpenShared(ctx context.Context, id ObjectID) (*SharedTensor, error) {
	var handle *C.tensor_shared
	err := c.wait(ctx, func() C.plasma_status { return C.tensor_shared_open(c.handle, id.c(), -1, &handle) })
	return c.newShared(handle, err)
}

func (c *Client) newShared(handle *C.tensor_shared, err error) (*SharedTensor, error) {
	if err != nil {
		return nil, err
	}
	shared := &SharedTensor{handle: handle}
	shared.take(c, "shared tensor")
	runtime.SetFinalizer(shared, (*SharedTensor).Close)
	about := C.tensor_description{}
	about.struct_size = C.size_t(unsafe.Sizeof(about))
	if err := shared.use(func() C.plasma_status { return C.tensor_shared_describe(handle, &about) }); err != nil {
		_ = shared.Close()
		return nil, err
	}
	shared.dtype, shared.shape = typeAndShape(&about)
	return shared, nil
}

// Close lets go of the tensor, and ends what waits here. What Tensor gave keeps it open. Unlock it before.
func (s *SharedTensor) Close() error {
	s.leave(func() { C.tensor_shared_close(s.handle) })
	runtime.SetFinalizer(s, nil)
	return nil
}

// ID is the tensor's.
func (s *SharedTensor) ID() (ObjectID, error) {
	var id ObjectID
	err := s.use(func() C.plasma_status { return C.tensor_shared_id(s.handle, id.c()) })
	return id, err
}

// DType is the type of its elements.
func (s *SharedTensor) DType() DType { return s.dtype }

// Shape is the length along each dimension.
func (s *SharedTensor) Shape() []int { return copied(s.shape) }

// Tensor is the tensor in its memory, for writing: see MutableValues. It keeps the tensor open, and from being frozen,
// until it is closed.
func (s *SharedTensor) Tensor() (*Tensor, error) {
	var handle *C.plasma_buffer
	err := s.use(func() C.plasma_status { return C.tensor_shared_buffer(s.handle, &handle) })
	buffer, err := newBuffer(handle, err)
	if err != nil {
		return nil, err
	}
	return tensorOrClose(buffer)
}

// Lock takes the lock, waiting for it until the context is done. Nobody else has it then, in any process. It is this
// goroutine's, which stays on its thread until its Unlock.
//
// OwnerDied tells that who had the lock before died with it, so that the elements may be half written: the lock is
// taken all the same, and the Unlock says that they are in order again.
func (s *SharedTensor) Lock(ctx context.Context) error {
	return s.locked(func() error {
		return s.wait(ctx, -1, func(timeout C.int64_t) C.plasma_status { return C.tensor_shared_lock(s.handle, timeout) })
	})
}

// TryLock is Lock without waiting: Timeout where somebody else has the lock.
func (s *SharedTensor) TryLock() error {
	return s.locked(func() error {
		return s.use(func() C.plasma_status { return C.tensor_shared_lock(s.handle, 0) })
	})
}

// locked keeps the goroutine on its thread where that has the lock: to C it is the thread's.
func (s *SharedTensor) locked(lock func() error) error {
	runtime.LockOSThread()
	err := lock()
	if err != nil && !errors.Is(err, OwnerDied) {
		runtime.UnlockOSThread()
	}
	return err
}

// Unlock gives the lock back, in the goroutine that has it. Do not end one without it: others may then wait for as long
// as the process lives.
func (s *SharedTensor) Unlock() error {
	err := s.use(func() C.plasma_status { return C.tensor_shared_unlock(s.handle) })
	if err == nil {
		runtime.UnlockOSThread()
	}
	return err
}

// Version is how often the lock was taken and given back: odd while somebody has it. Where it is even, and the same
// after something was read, nobody had the lock in between.
func (s *SharedTensor) Version() (uint64, error) {
	var version C.uint64_t
	err := s.use(func() C.plasma_status { return C.tensor_shared_version(s.handle, &version) })
	return uint64(version), err
}

// Views is how many tensors and buffers this process has of it by its client, and that keep it from being frozen.
func (s *SharedTensor) Views() (int, error) {
	var count C.size_t
	err := s.use(func() C.plasma_status { return C.tensor_shared_views(s.handle, &count) })
	return int(count), err
}

// Snapshot is a copy of all elements as they were at one moment when nobody had the lock, or as they are for who has
// it, as they lie in the tensor. Writers are not stopped. Corrupt tells that one died with the lock, and nobody has
// taken it since.
func Snapshot[T Element](ctx context.Context, shared *SharedTensor) ([]T, error) {
	if wanted := DTypeOf[T](); shared.dtype != wanted {
		return nil, invalid("elements are %v, not %v", shared.dtype, wanted)
	}
	count, _ := countOf(shared.shape)
	values := make([]T, count+1)
	err := shared.snapshot(ctx, unsafe.Pointer(&values[0]), count*int(unsafe.Sizeof(values[0])))
	if err != nil {
		return nil, err
	}
	return values[:count], nil
}

// SnapshotBytes is Snapshot for elements of any type.
func (s *SharedTensor) SnapshotBytes(ctx context.Context) ([]byte, error) {
	count, _ := countOf(s.shape)
	size, _ := s.dtype.bytesOf(count)
	values := make([]byte, size+1)
	if err := s.snapshot(ctx, unsafe.Pointer(&values[0]), size); err != nil {
		return nil, err
	}
	return values[:size], nil
}

func (s *SharedTensor) snapshot(ctx context.Context, place unsafe.Pointer, size int) error {
	return s.wait(ctx, -1, func(timeout C.int64_t) C.plasma_status {
		return C.tensor_shared_snapshot(s.handle, place, C.size_t(size), timeout)
	})
}

// Freeze makes it an ordinary sealed object, which nobody can write any more, and waits until the context is done for
// others to close it. Busy names those who can still write it; at once where it is this process, with what Tensor gave.
func (s *SharedTensor) Freeze(ctx context.Context) error {
	err := s.TryFreeze()
	if !errors.Is(err, Busy) {
		return err
	}
	err = s.sleep(ctx, func() C.plasma_status { return C.tensor_shared_freeze(s.handle, -1) })
	if ctx.Err() == nil || !errors.Is(err, ctx.Err()) {
		return err
	}
	last := s.TryFreeze()
	if busy, ok := last.(*Error); ok {
		busy.cause = ctx.Err()
	}
	return last
}

// TryFreeze is Freeze without waiting.
func (s *SharedTensor) TryFreeze() error {
	return s.use(func() C.plasma_status { return C.tensor_shared_freeze(s.handle, 0) })
}

// Holders is who has a shared tensor or a ring open, as the store names them. It is none where it is kept and nobody
// has.
func (c *Client) Holders(id ObjectID) ([]string, error) {
	names, err := text(func(out *C.char, size C.size_t, length *C.size_t) error {
		return c.use(func() C.plasma_status { return C.tensor_shared_holders(c.handle, id.c(), out, size, length) })
	})
	if err != nil || names == "" {
		return nil, err
	}
	return strings.Split(names, "\n"), nil
}
