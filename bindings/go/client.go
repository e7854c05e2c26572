package plasmastore

/*
#include <plasma_store.h>
#include <stdlib.h>
*/
import "C"

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"time"
	"unsafe"
)

// Client is a connection to a store. Any number of goroutines may use it at the same time.
type Client struct {
	mutex   sync.RWMutex // held for reading during calls, for writing by Close
	handle  *C.plasma_client
	once    sync.Once
	closing chan struct{} // closed when waits are to end
}

// ConnectOptions is how to connect.
type ConnectOptions struct {
	Spin        time.Duration // how long who waits stays awake
	CopyThreads int           // threads that copy into an object from 16 MiB on
}

// Connect connects to the store at a socket, "" for the default one, with one attempt.
func Connect(socket string) (*Client, error) {
	return connect(socket, ConnectOptions{}, 0, call)
}

// ConnectContext tries to connect until a store is there or the context is done.
func ConnectContext(ctx context.Context, socket string, options ConnectOptions) (*Client, error) {
	return connect(socket, options, -1, func(function func() C.plasma_status) error { return wait(ctx, ends{}, function) })
}

// attempt makes a C call in one way or another: waiting or not.
type attempt func(function func() C.plasma_status) error

func connect(socket string, options ConnectOptions, timeout int, try attempt) (*Client, error) {
	wanted := C.plasma_connect_options{timeout_ms: C.int64_t(timeout)}
	wanted.struct_size = C.size_t(unsafe.Sizeof(wanted))
	if options.Spin < 0 || options.Spin.Microseconds() > 1<<32-1 || options.CopyThreads < 0 {
		return nil, invalid("Spin is %v and CopyThreads %d", options.Spin, options.CopyThreads)
	}
	wanted.spin_us = C.uint32_t(options.Spin.Microseconds())
	wanted.copy_threads = C.size_t(options.CopyThreads)
	var path *C.char
	if socket != "" {
		text, err := cString(socket, "socket's path")
		if err != nil {
			return nil, err
		}
		defer C.free(unsafe.Pointer(text))
		path = text
	}
	var handle *C.plasma_client
	if err := try(func() C.plasma_status { return C.plasma_connect(path, &wanted, &handle) }); err != nil {
		return nil, err
	}
	client := &Client{handle: handle, closing: make(chan struct{})}
	runtime.SetFinalizer(client, (*Client).Close)
	return client, nil
}

// Close ends the connection, and what waits on it. Objects that it created and did not seal are given up; buffers and
// tensors that it got stay.
func (c *Client) Close() error {
	c.once.Do(func() { close(c.closing) })
	c.mutex.Lock()
	defer c.mutex.Unlock()
	C.plasma_client_free(c.handle)
	c.handle = nil
	runtime.SetFinalizer(c, nil)
	return nil
}

// use makes a call that does not wait.
func (c *Client) use(function func() C.plasma_status) error {
	c.mutex.RLock()
	defer c.mutex.RUnlock()
	if c.handle == nil {
		return closed("client")
	}
	return call(function)
}

// wait makes a call that may wait.
func (c *Client) wait(ctx context.Context, function func() C.plasma_status) error {
	return c.waitOr(ctx, nil, function)
}

// waitOr is wait, which one more channel ends when it is closed.
func (c *Client) waitOr(ctx context.Context, closing <-chan struct{}, function func() C.plasma_status) error {
	c.mutex.RLock()
	defer c.mutex.RUnlock()
	if c.handle == nil {
		return closed("client")
	}
	err := wait(ctx, ends{c.closing, closing}, function)
	select {
	case <-c.closing:
		if errors.Is(err, Interrupted) {
			return closed("client")
		}
	default:
	}
	return err
}

// Interrupt ends all calls that wait on this client, in any goroutine, with Interrupted.
func (c *Client) Interrupt() {
	c.mutex.RLock()
	defer c.mutex.RUnlock()
	C.plasma_interrupt(c.handle)
}

// CreateOptions is how to create, put or write. The zero value is all defaults.
type CreateOptions struct {
	Metadata []byte // the user's
	NoEvict  bool   // do not evict others to make room
	// Immutable has the kernel refuse every write once the object is sealed, also the creator's: close its Buffer or
	// Tensor before the Seal.
	Immutable bool
	TTL       time.Duration // how long the object lives after its seal; 0 is no limit
	Wait      time.Duration // how long to wait for room; less than 0 is for ever
	// DimensionNames is, of a tensor, a name for each dimension, where "" is none. What is no tensor has none.
	DimensionNames []string
	// Name is what the id was made from (NamedID, without a name space), to be kept with the object; "" for none.
	Name string
}

// c is the same for C, and what frees it.
func (o CreateOptions) c() (C.plasma_create_options, func(), error) {
	made := C.plasma_create_options{ttl_ms: milliseconds(o.TTL), wait_ms: milliseconds(o.Wait)}
	made.struct_size = C.size_t(unsafe.Sizeof(made))
	if o.NoEvict {
		made.flags |= C.PLASMA_CREATE_NO_EVICT
	}
	if o.Immutable {
		made.flags |= C.PLASMA_CREATE_IMMUTABLE
	}
	if o.Name == "" {
		return made, func() {}, nil
	}
	name, err := cString(o.Name, "name")
	made.name = name
	return made, func() { C.free(unsafe.Pointer(name)) }, err
}

// milliseconds counts them; part of one is a whole one, less than 0 is -1.
func milliseconds(duration time.Duration) C.int64_t {
	if duration < 0 {
		return -1
	}
	whole := duration / time.Millisecond
	if duration%time.Millisecond != 0 {
		whole++
	}
	return C.int64_t(whole)
}

// create makes a call that may wait for room.
func (c *Client) create(options CreateOptions, function func(*C.plasma_create_options) C.plasma_status) error {
	wanted, free, err := options.c()
	if err != nil {
		return err
	}
	defer free()
	with := func() C.plasma_status { return function(&wanted) }
	if options.Wait == 0 {
		return c.use(with)
	}
	return c.wait(context.Background(), with)
}

// Create creates an object with room for size bytes: fill Mutable, then Seal.
func (c *Client) Create(id ObjectID, size int, options CreateOptions) (*Buffer, error) {
	if size < 0 {
		return nil, invalid("a size of %d bytes", size)
	}
	var handle *C.plasma_buffer
	err := c.create(options, func(wanted *C.plasma_create_options) C.plasma_status {
		metadata, length := firstByte(options.Metadata), C.uint64_t(len(options.Metadata))
		return C.plasma_create(c.handle, id.c(), C.uint64_t(size), metadata, length, wanted, &handle)
	})
	return newBuffer(handle, err)
}

// Seal makes an object that this client created immutable, and gives it to everybody. Do not write it any more.
func (c *Client) Seal(id ObjectID) error {
	return c.use(func() C.plasma_status { return C.plasma_seal(c.handle, id.c()) })
}

// Abort gives up an object that this client created and has not sealed. Close its Buffer first.
func (c *Client) Abort(id ObjectID) error {
	return c.use(func() C.plasma_status { return C.plasma_abort(c.handle, id.c()) })
}

// Put stores a copy of data as a sealed object.
func (c *Client) Put(id ObjectID, data []byte, options CreateOptions) error {
	return c.create(options, func(wanted *C.plasma_create_options) C.plasma_status {
		metadata, length := firstByte(options.Metadata), C.uint64_t(len(options.Metadata))
		return C.plasma_put(c.handle, id.c(), firstByte(data), C.uint64_t(len(data)), metadata, length, wanted)
	})
}

// PutAsync is Put, soon: Flush waits for it. data may be changed again when this returns.
func (c *Client) PutAsync(id ObjectID, data []byte, options CreateOptions) error {
	return c.create(options, func(wanted *C.plasma_create_options) C.plasma_status {
		metadata, length := firstByte(options.Metadata), C.uint64_t(len(options.Metadata))
		return C.plasma_put_async(c.handle, id.c(), firstByte(data), C.uint64_t(len(data)), metadata, length, wanted)
	})
}

// SealAsync is Seal, soon: Flush waits for it.
func (c *Client) SealAsync(id ObjectID) error {
	return c.use(func() C.plasma_status { return C.plasma_seal_async(c.handle, id.c()) })
}

// Flush waits until all is done that was put or sealed without waiting; its error is that of the first that could not
// be.
func (c *Client) Flush() error {
	return c.use(func() C.plasma_status { return C.plasma_flush(c.handle, nil, nil, 0, nil) })
}

// GetFlag is how to get.
type GetFlag uint32

const (
	// Private maps the object copy-on-write: what is written stays in this process.
	Private GetFlag = C.PLASMA_GET_PRIVATE
	// NoAsk asks the store for nothing: what is not seen in shared memory is not there.
	NoAsk GetFlag = C.PLASMA_GET_NO_ASK
)

func getOptions(flags []GetFlag) C.plasma_get_options {
	made := C.plasma_get_options{}
	made.struct_size = C.size_t(unsafe.Sizeof(made))
	for _, flag := range flags {
		made.flags |= C.uint32_t(flag)
	}
	return made
}

// Get gets one object, waiting for it.
func (c *Client) Get(ctx context.Context, id ObjectID, flags ...GetFlag) (*Buffer, error) {
	buffers, err := c.GetAll(ctx, []ObjectID{id}, flags...)
	if err != nil {
		return nil, err
	}
	return buffers[0], nil
}

// GetAll gets several objects, waiting for all of them.
func (c *Client) GetAll(ctx context.Context, ids []ObjectID, flags ...GetFlag) ([]*Buffer, error) {
	if err := ctx.Err(); err != nil {
		return nil, ended(ctx)
	}
	handles, options := make([]*C.plasma_buffer, len(ids)+1), getOptions(flags)
	get := func(timeout C.int64_t) func() C.plasma_status {
		return func() C.plasma_status {
			return C.plasma_get(c.handle, firstID(ids), C.size_t(len(ids)), timeout, &options, &handles[0])
		}
	}
	err := c.use(get(0))
	if errors.Is(err, Timeout) && options.flags&C.PLASMA_GET_NO_ASK == 0 {
		release(handles)
		err = c.wait(ctx, get(-1))
	}
	if err != nil {
		release(handles)
		return nil, err
	}
	return newBuffers(handles[:len(ids)])
}

// GetAvailable gets those of several objects that are there, and nil for each other one. It does not wait.
func (c *Client) GetAvailable(ids []ObjectID, flags ...GetFlag) ([]*Buffer, error) {
	handles, options := make([]*C.plasma_buffer, len(ids)+1), getOptions(flags)
	err := c.use(func() C.plasma_status {
		return C.plasma_get(c.handle, firstID(ids), C.size_t(len(ids)), 0, &options, &handles[0])
	})
	if err != nil && !errors.Is(err, Timeout) {
		return nil, err
	}
	return newBuffers(handles[:len(ids)])
}

// Contains tells whether a sealed object of this id is there.
func (c *Client) Contains(id ObjectID) (bool, error) {
	var found C.bool
	err := c.use(func() C.plasma_status { return C.plasma_contains(c.handle, id.c(), &found) })
	return bool(found), err
}

// Delete deletes objects; those in use go later. What became of each: nil, ObjectNotFound, ObjectInUse or
// ObjectNotSealed.
func (c *Client) Delete(ids ...ObjectID) ([]error, error) {
	results := make([]C.plasma_status, len(ids)+1)
	err := c.use(func() C.plasma_status {
		return C.plasma_delete(c.handle, firstID(ids), C.size_t(len(ids)), &results[0])
	})
	if err != nil {
		return nil, err
	}
	became := make([]error, len(ids))
	for i := range became {
		if results[i] != C.PLASMA_OK {
			became[i] = Status(results[i])
		}
	}
	return became, nil
}
