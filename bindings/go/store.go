package plasmastore

/*
#include <plasma_store.h>
#include <stdlib.h>
*/
import "C"

import (
	"sync"
	"unsafe"
)

// StoreOptions is what a store is to be.
type StoreOptions struct {
	Socket   string // where it listens; "" for a fresh path in a directory that only this user can enter
	Capacity uint64 // bytes of data and metadata that it holds at most; 0 for 256 MiB
}

// Store is a store in this process. Others connect to it as to the daemon. It lives until Close, or as long as the
// process: no garbage collector ends it, since clients know it by its socket alone.
type Store struct {
	mutex  sync.Mutex
	handle *C.plasma_store
	socket string
}

// StartStore starts one. When it returns, clients can connect.
func StartStore(options StoreOptions) (*Store, error) {
	wanted := C.plasma_store_options{capacity: C.uint64_t(options.Capacity)}
	wanted.struct_size = C.size_t(unsafe.Sizeof(wanted))
	if options.Socket != "" {
		path, err := cString(options.Socket, "socket's path")
		if err != nil {
			return nil, err
		}
		defer C.free(unsafe.Pointer(path))
		wanted.socket_path = path
	}
	var handle *C.plasma_store
	if err := call(func() C.plasma_status { return C.plasma_store_start(&wanted, &handle) }); err != nil {
		return nil, err
	}
	return &Store{handle: handle, socket: C.GoString(C.plasma_store_socket(handle))}, nil
}

// Socket is where it listens.
func (s *Store) Socket() string { return s.socket }

// Close ends the store. What clients hold of it stays readable.
func (s *Store) Close() error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	handle := s.handle
	s.handle = nil
	return call(func() C.plasma_status { return C.plasma_store_stop(handle) })
}
