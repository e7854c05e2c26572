package plasmastore

/*
#include <plasma_store.h>
#include <stdlib.h>
*/
import "C"

import (
	"time"
	"unsafe"
)

// ObjectInfo is what is known of one object.
type ObjectInfo struct {
	ID                ObjectID
	Sealed            bool
	DataSize          uint64
	MetadataSize      uint64 // with what the library appends for tensors
	Created           time.Time
	ConstructDuration time.Duration // from create to seal; less than 0 while it is not sealed
	RefCount          uint32        // connections that hold it
	Pinned            bool
}

// List lists all objects of the store, also those not sealed yet.
func (c *Client) List() ([]ObjectInfo, error) {
	var list *C.plasma_object_list
	if err := c.use(func() C.plasma_status { return C.plasma_list(c.handle, &list) }); err != nil {
		return nil, err
	}
	defer C.plasma_object_list_free(list)
	objects := make([]ObjectInfo, C.plasma_object_list_size(list))
	info := C.plasma_object_info{}
	info.struct_size = C.size_t(unsafe.Sizeof(info))
	for i := range objects {
		if err := call(func() C.plasma_status { return C.plasma_object_list_get(list, C.size_t(i), &info) }); err != nil {
			return nil, err
		}
		objects[i] = objectInfo(&info)
	}
	return objects, nil
}

// NameOf is the name that a sealed object was created with, "" for none. Nothing is waited or asked for.
func (c *Client) NameOf(id ObjectID) (string, error) {
	return text(func(out *C.char, size C.size_t, length *C.size_t) error {
		return c.use(func() C.plasma_status { return C.plasma_object_name(c.handle, id.c(), out, size, length) })
	})
}

// text is one of any length that a C call writes.
func text(write func(out *C.char, size C.size_t, length *C.size_t) error) (string, error) {
	for size := 256; ; {
		made, length := make([]byte, size), C.size_t(0)
		if err := write((*C.char)(unsafe.Pointer(&made[0])), C.size_t(size), &length); err != nil {
			return "", err
		}
		if int(length) < size {
			return string(made[:length]), nil
		}
		size = int(length) + 1
	}
}

func objectInfo(info *C.plasma_object_info) ObjectInfo {
	return ObjectInfo{
		ID:                *(*ObjectID)(unsafe.Pointer(&info.id)),
		Sealed:            info.state == C.PLASMA_STATE_SEALED,
		DataSize:          uint64(info.data_size),
		MetadataSize:      uint64(info.metadata_size),
		Created:           time.Unix(int64(info.create_time), 0),
		ConstructDuration: time.Duration(info.construct_duration) * time.Second,
		RefCount:          uint32(info.ref_count),
		Pinned:            bool(info.pinned),
	}
}

// Capacity is how many bytes of data and metadata the store holds at most.
func (c *Client) Capacity() (uint64, error) {
	var bytes C.uint64_t
	err := c.use(func() C.plasma_status { return C.plasma_client_capacity(c.handle, &bytes) })
	return uint64(bytes), err
}

// Evict evicts what nobody holds, oldest first, until so many bytes are freed or nothing is left; it tells how many
// were.
func (c *Client) Evict(bytes uint64) (uint64, error) {
	var evicted C.uint64_t
	err := c.use(func() C.plasma_status { return C.plasma_evict(c.handle, C.uint64_t(bytes), &evicted) })
	return uint64(evicted), err
}

// Refresh marks objects as just used.
func (c *Client) Refresh(ids ...ObjectID) error {
	return c.use(func() C.plasma_status { return C.plasma_refresh(c.handle, firstID(ids), C.size_t(len(ids))) })
}

// Pin keeps objects from eviction until somebody unpins them.
func (c *Client) Pin(ids ...ObjectID) error {
	return c.use(func() C.plasma_status { return C.plasma_pin(c.handle, firstID(ids), C.size_t(len(ids))) })
}

// Unpin ends that, whoever pinned them.
func (c *Client) Unpin(ids ...ObjectID) error {
	return c.use(func() C.plasma_status { return C.plasma_unpin(c.handle, firstID(ids), C.size_t(len(ids))) })
}

// Hash is the digest that old Plasma has of an object.
func (c *Client) Hash(id ObjectID) ([8]byte, error) {
	var digest [8]byte
	err := c.use(func() C.plasma_status { return C.plasma_hash(c.handle, id.c(), firstByte(digest[:])) })
	return digest, err
}

// SetOptions names this client in the store's figures, and reserves memory for what it creates from now on. Once.
func (c *Client) SetOptions(name string, outputMemoryQuota int64) error {
	its, err := cString(name, "name")
	if err != nil {
		return err
	}
	defer C.free(unsafe.Pointer(its))
	return c.use(func() C.plasma_status { return C.plasma_set_options(c.handle, its, C.int64_t(outputMemoryQuota)) })
}

// DebugString is the store's figures as text.
func (c *Client) DebugString() (string, error) {
	return text(func(out *C.char, size C.size_t, length *C.size_t) error {
		return c.use(func() C.plasma_status { return C.plasma_debug_string(c.handle, out, size, length) })
	})
}

// Stats is the store's figures; plasma_store.h says of each what it counts.
type Stats struct {
	Capacity, UsedBytes, HeldBytes, AllocatedBytes, LargestFreeExtent        uint64
	Objects, SealedObjects, HeldObjects, Clients, Subscriptions, WaitingGets uint64
	Creates, Gets, Hits, Misses, Evictions, EvictedBytes, PinnedBytes        uint64
	WaitingCreates, Segments, RetiredBytes, CopiedBytes, PoolBytes           uint64
}

// Stats asks for them.
func (c *Client) Stats() (Stats, error) {
	s := C.plasma_store_stats{}
	s.struct_size = C.size_t(unsafe.Sizeof(s))
	if err := c.use(func() C.plasma_status { return C.plasma_stats(c.handle, &s) }); err != nil {
		return Stats{}, err
	}
	return Stats{
		uint64(s.capacity), uint64(s.used_bytes), uint64(s.held_bytes), uint64(s.allocated_bytes),
		uint64(s.largest_free_extent), uint64(s.objects), uint64(s.sealed_objects), uint64(s.held_objects),
		uint64(s.clients), uint64(s.subscriptions), uint64(s.waiting_gets), uint64(s.creates), uint64(s.gets),
		uint64(s.hits), uint64(s.misses), uint64(s.evictions), uint64(s.evicted_bytes), uint64(s.pinned_bytes),
		uint64(s.waiting_creates), uint64(s.segments), uint64(s.retired_bytes), uint64(s.copied_bytes),
		uint64(s.pool_bytes),
	}, nil
}
