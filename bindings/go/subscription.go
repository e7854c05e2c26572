package plasmastore

/*
#include <plasma_store.h>
*/
import "C"

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"unsafe"
)

// EventKind is what happened. There may be others one day: leave alone what you do not know.
type EventKind uint32

// The kinds.
const (
	Sealed  EventKind = C.PLASMA_EVENT_SEALED
	Deleted EventKind = C.PLASMA_EVENT_DELETED
)

// Event is what happened to an object; the sizes are those of a sealed one, else 0.
type Event struct {
	Kind         EventKind
	ID           ObjectID
	DataSize     uint64
	MetadataSize uint64
}

// Subscription is a stream of events. Each is given to one of the goroutines that ask.
type Subscription struct {
	mutex   sync.RWMutex
	handle  *C.plasma_subscription
	once    sync.Once
	closing chan struct{}
}

// Subscribe begins a stream of events, with one for each object that is there unless skipExisting.
func (c *Client) Subscribe(skipExisting bool) (*Subscription, error) {
	options := C.plasma_subscribe_options{}
	options.struct_size = C.size_t(unsafe.Sizeof(options))
	if skipExisting {
		options.flags = C.PLASMA_SUBSCRIBE_SKIP_EXISTING
	}
	var handle *C.plasma_subscription
	if err := c.use(func() C.plasma_status { return C.plasma_subscribe(c.handle, &options, &handle) }); err != nil {
		return nil, err
	}
	subscription := &Subscription{handle: handle, closing: make(chan struct{})}
	runtime.SetFinalizer(subscription, (*Subscription).Close)
	return subscription, nil
}

// Close ends the stream, and what waits for it.
func (s *Subscription) Close() error {
	s.once.Do(func() { close(s.closing) })
	s.mutex.Lock()
	defer s.mutex.Unlock()
	C.plasma_subscription_free(s.handle)
	s.handle = nil
	runtime.SetFinalizer(s, nil)
	return nil
}

// Next takes the next event, waiting for it. After the store's end it is Disconnected.
func (s *Subscription) Next(ctx context.Context) (Event, error) {
	s.mutex.RLock()
	defer s.mutex.RUnlock()
	if s.handle == nil {
		return Event{}, closed("subscription")
	}
	event := C.plasma_event{}
	event.struct_size = C.size_t(unsafe.Sizeof(event))
	next := func(timeout C.int64_t) func() C.plasma_status {
		return func() C.plasma_status { return C.plasma_subscription_next(s.handle, timeout, &event) }
	}
	err := call(next(0))
	if errors.Is(err, Timeout) {
		err = wait(ctx, ends{s.closing}, next(-1))
	}
	if err != nil {
		return Event{}, err
	}
	id := *(*ObjectID)(unsafe.Pointer(&event.id))
	return Event{EventKind(event.kind), id, uint64(event.data_size), uint64(event.metadata_size)}, nil
}
