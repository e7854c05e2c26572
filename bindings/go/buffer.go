package plasmastore

/*
#include <plasma_store.h>
*/
import "C"

import (
	"runtime"
	"sync"
	"unsafe"
)

// Buffer is the memory of one object. It stays readable until it is closed, whatever becomes of client, object and
// store.
type Buffer struct {
	mutex  sync.RWMutex
	handle *C.plasma_buffer
}

// newBuffer takes over what a call gave that came to err.
func newBuffer(handle *C.plasma_buffer, err error) (*Buffer, error) {
	if err != nil {
		return nil, err
	}
	buffer := &Buffer{handle: handle}
	runtime.SetFinalizer(buffer, (*Buffer).Close)
	return buffer, nil
}

func newBuffers(handles []*C.plasma_buffer) ([]*Buffer, error) {
	buffers := make([]*Buffer, len(handles))
	for i, handle := range handles {
		if handle != nil {
			buffers[i], _ = newBuffer(handle, nil)
		}
	}
	return buffers, nil
}

// release gives back what a call held that has failed.
func release(handles []*C.plasma_buffer) {
	for i, handle := range handles {
		C.plasma_buffer_release(handle)
		handles[i] = nil
	}
}

// Close releases the memory. Slices of it must not be used any more.
func (b *Buffer) Close() error {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	C.plasma_buffer_release(b.handle)
	b.handle = nil
	runtime.SetFinalizer(b, nil)
	return nil
}

// bytes makes a slice of memory that C knows; nil where there is none.
func bytes(first *C.uint8_t, size C.uint64_t) []byte {
	if first == nil {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(first)), int(size))
}

// Data is the object's bytes, not to be written; nil when the buffer is closed.
func (b *Buffer) Data() []byte {
	b.mutex.RLock()
	defer b.mutex.RUnlock()
	return bytes(C.plasma_buffer_data(b.handle), C.plasma_buffer_size(b.handle))
}

// Mutable is the same for writing: of an object that is being created, until it is sealed, or one got with Private;
// else nil.
func (b *Buffer) Mutable() []byte {
	b.mutex.RLock()
	defer b.mutex.RUnlock()
	return bytes(C.plasma_buffer_mutable_data(b.handle), C.plasma_buffer_size(b.handle))
}

// Metadata is the user's, not to be written.
func (b *Buffer) Metadata() []byte {
	b.mutex.RLock()
	defer b.mutex.RUnlock()
	return bytes(C.plasma_buffer_metadata(b.handle), C.plasma_buffer_metadata_size(b.handle))
}

// IsImmutable tells whether the kernel keeps everybody from changing the object, its producer included.
func (b *Buffer) IsImmutable() bool {
	b.mutex.RLock()
	defer b.mutex.RUnlock()
	return bool(C.plasma_buffer_is_immutable(b.handle))
}

// ID is that of the object.
func (b *Buffer) ID() (ObjectID, error) {
	var id ObjectID
	err := b.use(func() C.plasma_status { return C.plasma_buffer_id(b.handle, id.c()) })
	return id, err
}

// WriteAt copies bytes to an offset of an object that is being created, faster than copy does.
func (b *Buffer) WriteAt(data []byte, offset int64) (int, error) {
	if offset < 0 {
		return 0, invalid("an offset of %d", offset)
	}
	err := b.use(func() C.plasma_status {
		return C.plasma_buffer_write(b.handle, C.uint64_t(offset), firstByte(data), C.uint64_t(len(data)))
	})
	if err != nil {
		return 0, err
	}
	return len(data), nil
}

func (b *Buffer) use(function func() C.plasma_status) error {
	b.mutex.RLock()
	defer b.mutex.RUnlock()
	if b.handle == nil {
		return closed("buffer")
	}
	return call(function)
}
