"""The C ABI of plasma_store.h as data: constants, structs, and the signature of every function.

Nothing is loaded here. Names are the C names, so that a C reader finds them; tests/test_header.py compares all of it with
include/plasma_store.h, and the DLPack structs with include/plasma_store_dlpack.h.
"""

from __future__ import annotations

from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    c_bool,
    c_char_p,
    c_int,
    c_int32,
    c_int64,
    c_size_t,
    c_uint8,
    c_uint16,
    c_uint32,
    c_uint64,
    c_void_p,
)
from typing import Any, Dict, List, Tuple

PLASMA_VERSION = "0.1.0"
PLASMA_ABI_VERSION = 1

PLASMA_OK = 0
PLASMA_OBJECT_EXISTS = 1
PLASMA_OBJECT_NOT_FOUND = 2
PLASMA_STORE_FULL = 3
PLASMA_OBJECT_NOT_SEALED = 4
PLASMA_OBJECT_IN_USE = 5
PLASMA_OBJECT_ALREADY_SEALED = 6
PLASMA_TIMEOUT = 7
PLASMA_INTERRUPTED = 8
PLASMA_BUSY = 9
PLASMA_INVALID_ARGUMENT = 10
PLASMA_DISCONNECTED = 11
PLASMA_CONNECT_FAILED = 12
PLASMA_UNSUPPORTED_PEER = 13
PLASMA_PROTOCOL_ERROR = 14
PLASMA_UNSUPPORTED = 15
PLASMA_CORRUPT = 16
PLASMA_FORKED = 17
PLASMA_OUT_OF_MEMORY = 18
PLASMA_IO_ERROR = 19
PLASMA_ADDRESS_IN_USE = 20
PLASMA_PANIC = 21
PLASMA_OWNER_DIED = 22
PLASMA_CLOSED = 23
PLASMA_ABORTED = 24

PLASMA_CONNECT_RETURN_ON_SIGNAL = 1
PLASMA_CREATE_NO_EVICT = 1
PLASMA_CREATE_IMMUTABLE = 2
PLASMA_GET_PRIVATE = 1
PLASMA_GET_NO_ASK = 2
PLASMA_VIEW_COPY = 1
TENSOR_SHARED_KEEP = 1
TENSOR_RING_BROADCAST = 1
TENSOR_RING_DROP_OLDEST = 2
TENSOR_RING_HAND_OUT_AGAIN = 4
TENSOR_RING_KEEP = 8
TENSOR_RING_GUARD = 16
TENSOR_RING_AS_CREATED = -2
PLASMA_STATE_CREATED = 1
PLASMA_STATE_SEALED = 2
PLASMA_SUBSCRIBE_SKIP_EXISTING = 1
PLASMA_EVENT_SEALED = 1
PLASMA_EVENT_DELETED = 2

plasma_status = c_int32


class plasma_object_id(Structure):
    """The name of an object."""

    _fields_ = [("bytes", c_uint8 * 20)]


class plasma_client(Structure):
    """Opaque: a connection."""


class plasma_buffer(Structure):
    """Opaque: an object's memory and the hold on it."""


class plasma_object_list(Structure):
    """Opaque: what `plasma_list` found."""


class tensor_ring(Structure):
    """Opaque: slots of memory that go round between processes."""


class tensor_shared(Structure):
    """A tensor that several processes write. Opaque."""


class tensor_bundle(Structure):
    """Opaque: named tensors in one object."""


class plasma_subscription(Structure):
    """Opaque: a stream of events."""


class plasma_store(Structure):
    """Opaque: a store inside this process."""


class plasma_connect_options(Structure):
    """How to connect."""

    _fields_ = [
        ("struct_size", c_size_t),
        ("timeout_ms", c_int64),
        ("flags", c_uint32),
        ("spin_us", c_uint32),
        ("copy_threads", c_size_t),
    ]


class plasma_create_options(Structure):
    """How to create."""

    _fields_ = [
        ("struct_size", c_size_t),
        ("flags", c_uint32),
        ("ttl_ms", c_int64),
        ("wait_ms", c_int64),
        ("name", c_char_p),
    ]


class plasma_get_options(Structure):
    """How to get."""

    _fields_ = [("struct_size", c_size_t), ("flags", c_uint32)]


class tensor_write_options(Structure):
    """How to store a tensor. `metadata` keeps the bytes assigned to it alive."""

    _fields_ = [
        ("struct_size", c_size_t),
        ("flags", c_uint32),
        ("metadata", c_char_p),
        ("metadata_size", c_uint64),
        ("ttl_ms", c_int64),
        ("wait_ms", c_int64),
        ("dimension_names", POINTER(c_char_p)),
        ("name", c_char_p),
    ]


class tensor_bundle_options(Structure):
    """How to store a bundle."""

    _fields_ = [
        ("struct_size", c_size_t),
        ("flags", c_uint32),
        ("ttl_ms", c_int64),
        ("wait_ms", c_int64),
        ("metadata_count", c_size_t),
        ("metadata_keys", POINTER(c_char_p)),
        ("metadata_values", POINTER(c_char_p)),
        ("name", c_char_p),
    ]


class tensor_view_options(Structure):
    """Which view of a tensor."""

    _fields_ = [
        ("struct_size", c_size_t),
        ("flags", c_uint32),
        ("ndim", c_int32),
        ("shape", POINTER(c_int64)),
        ("strides", POINTER(c_int64)),
        ("offset", c_int64),
    ]


class plasma_store_options(Structure):
    """What a store is to be."""

    _fields_ = [("struct_size", c_size_t), ("socket_path", c_char_p), ("capacity", c_uint64)]


class plasma_object_info(Structure):
    """What is known of one object."""

    _fields_ = [
        ("struct_size", c_size_t),
        ("id", plasma_object_id),
        ("state", c_uint32),
        ("data_size", c_uint64),
        ("metadata_size", c_uint64),
        ("create_time", c_int64),
        ("construct_duration", c_int64),
        ("ref_count", c_uint32),
        ("pinned", c_bool),
    ]


class plasma_put_item(Structure):
    """An object of a batch. `data`, `metadata` and `name` keep the bytes assigned to them alive."""

    _fields_ = [
        ("id", plasma_object_id),
        ("data", c_char_p),
        ("data_size", c_uint64),
        ("metadata", c_char_p),
        ("metadata_size", c_uint64),
        ("name", c_char_p),
    ]


class plasma_store_stats(Structure):
    """What a store counts."""

    _fields_ = [
        ("struct_size", c_size_t),
        ("capacity", c_uint64),
        ("used_bytes", c_uint64),
        ("held_bytes", c_uint64),
        ("allocated_bytes", c_uint64),
        ("largest_free_extent", c_uint64),
        ("objects", c_uint64),
        ("sealed_objects", c_uint64),
        ("held_objects", c_uint64),
        ("clients", c_uint64),
        ("subscriptions", c_uint64),
        ("waiting_gets", c_uint64),
        ("creates", c_uint64),
        ("gets", c_uint64),
        ("hits", c_uint64),
        ("misses", c_uint64),
        ("evictions", c_uint64),
        ("evicted_bytes", c_uint64),
        ("pinned_bytes", c_uint64),
        ("waiting_creates", c_uint64),
        ("segments", c_uint64),
        ("retired_bytes", c_uint64),
        ("copied_bytes", c_uint64),
        ("pool_bytes", c_uint64),
    ]


class plasma_subscribe_options(Structure):
    """How to subscribe."""

    _fields_ = [("struct_size", c_size_t), ("flags", c_uint32)]


class plasma_event(Structure):
    """What happened to an object."""

    _fields_ = [
        ("struct_size", c_size_t),
        ("kind", c_uint32),
        ("id", plasma_object_id),
        ("data_size", c_uint64),
        ("metadata_size", c_uint64),
    ]


# DLPack. Managed tensors point to themselves, so their fields follow their classes.

DLPACK_MAJOR_VERSION = 1
DLPACK_MINOR_VERSION = 3
DLPACK_FLAG_BITMASK_READ_ONLY = 1
DLPACK_FLAG_BITMASK_IS_COPIED = 2
DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED = 4
kDLCPU = 1
kDLInt = 0
kDLUInt = 1
kDLFloat = 2
kDLBfloat = 4
kDLComplex = 5
kDLBool = 6
kDLFloat8_e3m4 = 7
kDLFloat8_e4m3 = 8
kDLFloat8_e4m3b11fnuz = 9
kDLFloat8_e4m3fn = 10
kDLFloat8_e4m3fnuz = 11
kDLFloat8_e5m2 = 12
kDLFloat8_e5m2fnuz = 13
kDLFloat8_e8m0fnu = 14
kDLFloat6_e2m3fn = 15
kDLFloat6_e3m2fn = 16
kDLFloat4_e2m1fn = 17
kDLBcomplex = 18


class DLPackVersion(Structure):
    """What a versioned tensor was made for."""

    _fields_ = [("major", c_uint32), ("minor", c_uint32)]


class DLDevice(Structure):
    """Where memory is."""

    _fields_ = [("device_type", c_int32), ("device_id", c_int32)]


class DLDataType(Structure):
    """The type of one element."""

    _fields_ = [("code", c_uint8), ("bits", c_uint8), ("lanes", c_uint16)]


class DLTensor(Structure):
    """A tensor that owns nothing. Strides count elements, not bytes."""

    _fields_ = [
        ("data", c_void_p),
        ("device", DLDevice),
        ("ndim", c_int32),
        ("dtype", DLDataType),
        ("shape", POINTER(c_int64)),
        ("strides", POINTER(c_int64)),
        ("byte_offset", c_uint64),
    ]


class DLManagedTensor(Structure):
    """A tensor and the duty to call its deleter."""


class DLManagedTensorVersioned(Structure):
    """The same since DLPack 1.0, with a version and flags."""


class tensor_shared_options(Structure):
    """How to create a shared tensor."""

    _fields_ = [("struct_size", c_size_t), ("flags", c_uint32), ("name", c_char_p)]


class tensor_description(Structure):
    """What an object's bytes say of the tensor in them."""

    _fields_ = [
        ("struct_size", c_size_t),
        ("data", c_void_p),
        ("flags", c_uint32),
        ("dtype", DLDataType),
        ("ndim", c_int32),
        ("shape", c_int64 * 32),
        ("byte_strides", c_int64 * 32),
    ]


class tensor_ring_options(Structure):
    """How a ring is to be."""

    _fields_ = [
        ("struct_size", c_size_t),
        ("slots", c_uint32),
        ("flags", c_uint32),
        ("slot_bytes", c_uint64),
        ("like", POINTER(DLTensor)),
        ("acquire_ms", c_int64),
        ("name", c_char_p),
    ]


class tensor_ring_info(Structure):
    """How a ring was made."""

    _fields_ = [
        ("struct_size", c_size_t),
        ("slots", c_uint32),
        ("flags", c_uint32),
        ("slot_bytes", c_uint64),
        ("acquire_ms", c_int64),
    ]


class tensor_ring_slot(Structure):
    """A slot that the caller has."""

    _fields_ = [("token", c_uint64), ("data", c_void_p), ("size", c_uint64)]


class tensor_bundle_item(Structure):
    """A tensor that is to be stored in a bundle."""

    _fields_ = [("name", c_char_p), ("tensor", POINTER(DLTensor)), ("flags", c_uint64)]


DLManagedTensor._fields_ = [
    ("dl_tensor", DLTensor),
    ("manager_ctx", c_void_p),
    ("deleter", CFUNCTYPE(None, POINTER(DLManagedTensor))),
]
DLManagedTensorVersioned._fields_ = [
    ("version", DLPackVersion),
    ("manager_ctx", c_void_p),
    ("deleter", CFUNCTYPE(None, POINTER(DLManagedTensorVersioned))),
    ("flags", c_uint64),
    ("dl_tensor", DLTensor),
]

_client = POINTER(plasma_client)
_buffer = POINTER(plasma_buffer)
_list = POINTER(plasma_object_list)
_subscription = POINTER(plasma_subscription)
_bundle = POINTER(tensor_bundle)
_shared = POINTER(tensor_shared)
_ring = POINTER(tensor_ring)
_slot = POINTER(tensor_ring_slot)
_store = POINTER(plasma_store)
_id = POINTER(plasma_object_id)
_write_options = POINTER(tensor_write_options)
_managed = POINTER(POINTER(DLManagedTensor))
_managed_versioned = POINTER(POINTER(DLManagedTensorVersioned))

# Name -> (what it returns, what it takes). Bytes that go in are c_char_p, which takes a `bytes` as it is; bytes that come
# out are c_void_p, an address.
FUNCTIONS: Dict[str, Tuple[Any, List[Any]]] = {
    "plasma_status_string": (c_char_p, [plasma_status]),
    "plasma_last_error_message": (c_char_p, []),
    "plasma_version": (c_char_p, []),
    "plasma_abi_version": (c_uint32, []),
    "plasma_object_id_random": (plasma_status, [_id]),
    "plasma_object_id_from_bytes": (plasma_status, [c_char_p, c_size_t, _id]),
    "plasma_object_id_from_hex": (plasma_status, [c_char_p, _id]),
    "plasma_object_id_to_hex": (plasma_status, [_id, c_char_p]),
    "plasma_object_id_from_name": (plasma_status, [c_char_p, c_char_p, _id]),
    "plasma_connect": (plasma_status, [c_char_p, POINTER(plasma_connect_options), POINTER(_client)]),
    "plasma_client_free": (None, [_client]),
    "plasma_interrupt": (None, [_client]),
    "plasma_set_wake_fd": (plasma_status, [c_int]),
    "plasma_client_capacity": (plasma_status, [_client, POINTER(c_uint64)]),
    "plasma_create": (
        plasma_status,
        [_client, _id, c_uint64, c_char_p, c_uint64, POINTER(plasma_create_options), POINTER(_buffer)],
    ),
    "plasma_put": (
        plasma_status,
        [_client, _id, c_char_p, c_uint64, c_char_p, c_uint64, POINTER(plasma_create_options)],
    ),
    "plasma_seal": (plasma_status, [_client, _id]),
    "plasma_abort": (plasma_status, [_client, _id]),
    "plasma_get": (
        plasma_status,
        [_client, _id, c_size_t, c_int64, POINTER(plasma_get_options), POINTER(_buffer)],
    ),
    "plasma_contains": (plasma_status, [_client, _id, POINTER(c_bool)]),
    "plasma_delete": (plasma_status, [_client, _id, c_size_t, POINTER(plasma_status)]),
    "plasma_object_name": (plasma_status, [_client, _id, c_char_p, c_size_t, POINTER(c_size_t)]),
    "plasma_list": (plasma_status, [_client, POINTER(_list)]),
    "plasma_evict": (plasma_status, [_client, c_uint64, POINTER(c_uint64)]),
    "plasma_pin": (plasma_status, [_client, _id, c_size_t]),
    "plasma_unpin": (plasma_status, [_client, _id, c_size_t]),
    "plasma_refresh": (plasma_status, [_client, _id, c_size_t]),
    "plasma_hash": (plasma_status, [_client, _id, c_void_p]),
    "plasma_set_options": (plasma_status, [_client, c_char_p, c_int64]),
    "plasma_debug_string": (plasma_status, [_client, c_char_p, c_size_t, POINTER(c_size_t)]),
    "plasma_put_batch": (
        plasma_status,
        [_client, POINTER(plasma_put_item), c_size_t, POINTER(plasma_create_options)],
    ),
    "plasma_put_async": (
        plasma_status,
        [_client, _id, c_char_p, c_uint64, c_char_p, c_uint64, POINTER(plasma_create_options)],
    ),
    "plasma_seal_async": (plasma_status, [_client, _id]),
    "plasma_flush": (plasma_status, [_client, _id, POINTER(plasma_status), c_size_t, POINTER(c_size_t)]),
    "plasma_stats": (plasma_status, [_client, POINTER(plasma_store_stats)]),
    "plasma_subscribe": (
        plasma_status,
        [_client, POINTER(plasma_subscribe_options), POINTER(_subscription)],
    ),
    "plasma_subscription_next": (plasma_status, [_subscription, c_int64, POINTER(plasma_event)]),
    "plasma_subscription_fd": (c_int, [_subscription]),
    "plasma_subscription_free": (None, [_subscription]),
    "plasma_decode_events": (
        plasma_status,
        [c_char_p, c_uint64, POINTER(plasma_event), c_size_t, POINTER(c_size_t)],
    ),
    "plasma_watch": (plasma_status, [_client, _id, c_size_t]),
    "plasma_unwatch": (plasma_status, [_client, _id, c_size_t]),
    "plasma_watch_fd": (c_int, [_client]),
    "plasma_watch_take": (plasma_status, [_client, _id, c_size_t, POINTER(c_size_t)]),
    "plasma_buffer_data": (c_void_p, [_buffer]),
    "plasma_buffer_mutable_data": (c_void_p, [_buffer]),
    "plasma_buffer_write": (plasma_status, [_buffer, c_uint64, c_char_p, c_uint64]),
    "plasma_buffer_size": (c_uint64, [_buffer]),
    "plasma_buffer_is_immutable": (c_bool, [_buffer]),
    "plasma_buffer_metadata": (c_void_p, [_buffer]),
    "plasma_buffer_metadata_size": (c_uint64, [_buffer]),
    "plasma_buffer_id": (plasma_status, [_buffer, _id]),
    "plasma_buffer_release": (None, [_buffer]),
    "plasma_object_list_size": (c_size_t, [_list]),
    "plasma_object_list_get": (plasma_status, [_list, c_size_t, POINTER(plasma_object_info)]),
    "plasma_object_list_free": (None, [_list]),
    "tensor_size": (plasma_status, [POINTER(DLTensor), POINTER(c_uint64)]),
    "tensor_write": (plasma_status, [_client, _id, POINTER(DLTensor), _write_options]),
    "tensor_write_versioned": (plasma_status, [_client, _id, POINTER(DLManagedTensorVersioned), _write_options]),
    "tensor_create": (
        plasma_status,
        [_client, _id, DLDataType, c_int32, POINTER(c_int64), _write_options, _managed],
    ),
    "tensor_create_buffer": (
        plasma_status,
        [_client, _id, DLDataType, c_int32, POINTER(c_int64), _write_options, POINTER(_buffer)],
    ),
    "tensor_read": (plasma_status, [_client, _id, c_int64, _managed]),
    "tensor_read_versioned": (plasma_status, [_client, _id, c_int64, c_uint32, _managed_versioned]),
    "tensor_from_buffer": (plasma_status, [_buffer, _managed]),
    "tensor_from_buffer_versioned": (plasma_status, [_buffer, _managed_versioned]),
    "tensor_describe": (plasma_status, [_buffer, POINTER(tensor_description)]),
    "tensor_rows": (plasma_status, [_buffer, c_uint64, c_uint64, _managed]),
    "tensor_rows_versioned": (plasma_status, [_buffer, c_uint64, c_uint64, _managed_versioned]),
    "tensor_view": (plasma_status, [_buffer, POINTER(tensor_view_options), _managed]),
    "tensor_view_versioned": (plasma_status, [_buffer, POINTER(tensor_view_options), _managed_versioned]),
    "tensor_dimension_name": (plasma_status, [_buffer, c_int32, c_char_p, c_size_t, POINTER(c_size_t)]),
    "tensor_shared_create": (
        plasma_status,
        [_client, _id, POINTER(DLTensor), POINTER(tensor_shared_options), POINTER(_shared)],
    ),
    "tensor_shared_open": (plasma_status, [_client, _id, c_int64, POINTER(_shared)]),
    "tensor_shared_export": (plasma_status, [_shared, _managed]),
    "tensor_shared_export_versioned": (plasma_status, [_shared, _managed_versioned]),
    "tensor_shared_buffer": (plasma_status, [_shared, POINTER(_buffer)]),
    "tensor_shared_describe": (plasma_status, [_shared, POINTER(tensor_description)]),
    "tensor_shared_lock": (plasma_status, [_shared, c_int64]),
    "tensor_shared_unlock": (plasma_status, [_shared]),
    "tensor_shared_version": (plasma_status, [_shared, POINTER(c_uint64)]),
    "tensor_shared_views": (plasma_status, [_shared, POINTER(c_size_t)]),
    "tensor_shared_snapshot": (plasma_status, [_shared, c_void_p, c_size_t, c_int64]),
    "tensor_shared_freeze": (plasma_status, [_shared, c_int64]),
    "tensor_shared_holders": (plasma_status, [_client, _id, c_char_p, c_size_t, POINTER(c_size_t)]),
    "tensor_shared_id": (plasma_status, [_shared, _id]),
    "tensor_shared_close": (None, [_shared]),
    "tensor_bundle_write": (
        plasma_status,
        [_client, _id, POINTER(tensor_bundle_item), c_size_t, POINTER(tensor_bundle_options)],
    ),
    "tensor_bundle_create": (
        plasma_status,
        [_client, _id, POINTER(tensor_bundle_item), c_size_t, POINTER(tensor_bundle_options), POINTER(_buffer)],
    ),
    "tensor_bundle_read": (plasma_status, [_client, _id, c_int64, c_uint32, POINTER(_bundle)]),
    "tensor_bundle_from_buffer": (plasma_status, [_buffer, POINTER(_bundle)]),
    "tensor_bundle_size": (c_size_t, [_bundle]),
    "tensor_bundle_metadata_size": (c_size_t, [_bundle]),
    "tensor_bundle_name": (plasma_status, [_bundle, c_size_t, POINTER(c_char_p)]),
    "tensor_bundle_metadata": (plasma_status, [_bundle, c_size_t, POINTER(c_char_p), POINTER(c_char_p)]),
    "tensor_bundle_get": (plasma_status, [_bundle, c_char_p, _managed]),
    "tensor_bundle_get_versioned": (plasma_status, [_bundle, c_char_p, _managed_versioned]),
    "tensor_bundle_buffer": (plasma_status, [_bundle, c_size_t, POINTER(_buffer)]),
    "tensor_bundle_free": (None, [_bundle]),
    "tensor_ring_create": (plasma_status, [_client, _id, POINTER(tensor_ring_options), POINTER(_ring)]),
    "tensor_ring_open": (plasma_status, [_client, _id, c_int64, POINTER(_ring)]),
    "tensor_ring_get_info": (plasma_status, [_ring, POINTER(tensor_ring_info)]),
    "tensor_ring_describe": (plasma_status, [_ring, POINTER(tensor_description)]),
    "tensor_ring_acquire": (plasma_status, [_ring, c_int64, _slot]),
    "tensor_ring_publish": (plasma_status, [_ring, _slot, POINTER(DLTensor)]),
    "tensor_ring_abandon": (plasma_status, [_ring, _slot]),
    "tensor_ring_take": (plasma_status, [_ring, c_int64, _slot]),
    "tensor_ring_message": (plasma_status, [_ring, _slot, POINTER(tensor_description)]),
    "tensor_ring_export": (plasma_status, [_ring, _slot, _managed]),
    "tensor_ring_export_versioned": (plasma_status, [_ring, _slot, _managed_versioned]),
    "tensor_ring_release": (plasma_status, [_ring, _slot]),
    "tensor_ring_put": (plasma_status, [_ring, POINTER(DLTensor), c_int64]),
    "tensor_ring_put_many": (plasma_status, [_ring, c_void_p, c_size_t, c_int64, POINTER(c_size_t)]),
    "tensor_ring_take_many": (plasma_status, [_ring, c_void_p, c_size_t, c_int64, POINTER(c_size_t)]),
    "tensor_ring_close": (plasma_status, [_ring]),
    "tensor_ring_abort": (plasma_status, [_ring]),
    "tensor_ring_counts": (plasma_status, [_ring, POINTER(c_size_t), POINTER(c_size_t)]),
    "tensor_ring_fd": (plasma_status, [_ring, POINTER(c_int)]),
    "tensor_ring_id": (plasma_status, [_ring, _id]),
    "tensor_ring_leave": (None, [_ring]),
    "plasma_store_start": (plasma_status, [POINTER(plasma_store_options), POINTER(_store)]),
    "plasma_store_socket": (c_char_p, [_store]),
    "plasma_store_stop": (plasma_status, [_store]),
}
