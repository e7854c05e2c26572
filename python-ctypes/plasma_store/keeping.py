"""Keeping: what is in the store, who keeps it there, and what the store says of itself."""

from __future__ import annotations

import ctypes
from typing import Any, Dict, Literal, Optional, Set, Tuple, TypedDict

from . import _abi
from ._lib import lib
from .asynchronous import Asynchronous
from .errors import PlasmaInvalidArgument, PlasmaObjectNotFound, check
from .object_id import AnyID, AnyIDs, ObjectID, c_id, c_ids, c_text, called, ids_of, unsigned, whole

DIGEST_SIZE = 8
# What the library writes beside a name.
_LEAST_NAMED = 12 + 6
# The longest name, and a NUL: a trailer has no more.
_MOST_NAMED = 1 << 16
_STATES: Dict[int, Literal["created", "sealed"]] = {
    _abi.PLASMA_STATE_CREATED: "created",
    _abi.PLASMA_STATE_SEALED: "sealed",
}


class ObjectInfo(TypedDict):
    """What `PlasmaClient.list` says of one object."""

    data_size: int
    """Bytes of data."""
    metadata_size: int
    """Bytes of metadata, with what the library appends for tensors."""
    ref_count: int
    """Connections that hold it."""
    create_time: int
    """When it was created, in seconds since 1970."""
    construct_duration: int
    """Seconds from create to seal, -1 while it is not sealed."""
    state: Literal["created", "sealed"]
    """Whether it is sealed."""
    pinned: bool
    """Whether it is pinned."""
    name: Optional[str]
    """The name it was put by, if it is sealed and in memory; None for none."""


class Keeping(Asynchronous):
    """The part of `PlasmaClient` that looks after objects that are there."""

    _unsealed: Set[ObjectID]
    """What this client created and has not sealed."""

    def contains(self, object_id: AnyID) -> bool:
        """Whether a sealed object of this id is in the store.

            >>> client.contains(client.put("hello"))
            True
        """
        out = ctypes.c_bool()
        handle = self._live()
        check(lib.plasma_contains(handle.pointer, c_id(object_id), out))
        return out.value

    def is_immutable(self, object_id: AnyID) -> bool:
        """Whether the kernel keeps everybody from changing a sealed object, its producer included.

        True of what was created with `immutable`: so who does not trust producers can tell. Raises PlasmaObjectNotFound.

            >>> client.is_immutable(client.put("hello", immutable=True))
            True
        """
        hold = self._get_one(object_id, 0)
        if not hold:
            raise PlasmaObjectNotFound(f"object {called(object_id)} is not there")
        return bool(lib.plasma_buffer_is_immutable(hold))

    def delete(self, object_ids: AnyIDs) -> None:
        """Deletes objects. One in use, or not sealed, goes when its last holder lets go.

        One that is not there is fine.

            >>> object_id = client.put("hello")
            >>> client.delete([object_id])
            >>> client.contains(object_id)
            False
        """
        wanted = ids_of(object_ids)
        ids, count = c_ids(wanted)
        handle = self._live()
        check(lib.plasma_delete(handle.pointer, ids, count, None))
        self._unsealed.difference_update(wanted)

    def evict(self, num_bytes: int) -> int:
        """Evicts objects that nobody holds, least recently used first, until `num_bytes` are freed or none are left.

        Returns the bytes freed.

            >>> object_id = client.put_raw_buffer(bytes(1000))
            >>> client.evict(1)
            1000
        """
        size, out = unsigned(num_bytes, "num_bytes"), ctypes.c_uint64()
        handle = self._live()
        check(lib.plasma_evict(handle.pointer, size, out))
        return out.value

    def pin(self, object_ids: AnyIDs) -> None:
        """Pins sealed objects, all of them or none: nothing evicts them until somebody unpins them.

        That may be any client of the store; the pin outlives this one. It is a flag: pinning twice is pinning once. `delete`
        and the end of `ttl_ms` count more. Raises PlasmaObjectNotFound, PlasmaObjectNotSealed.

            >>> object_id = client.put("hello")
            >>> client.pin([object_id])
            >>> client.evict(1000)
            0
        """
        ids, count = c_ids(object_ids)
        handle = self._live()
        check(lib.plasma_pin(handle.pointer, ids, count))

    def unpin(self, object_ids: AnyIDs) -> None:
        """Lets sealed objects be evicted again, whoever pinned them; all of them or none. Raises as `pin` does."""
        ids, count = c_ids(object_ids)
        handle = self._live()
        check(lib.plasma_unpin(handle.pointer, ids, count))

    def refresh(self, object_ids: AnyIDs) -> None:
        """Marks objects as just used: of those that may be evicted, they go last."""
        ids, count = c_ids(object_ids)
        handle = self._live()
        check(lib.plasma_refresh(handle.pointer, ids, count))

    def hash(self, object_id: AnyID) -> bytes:
        """8 bytes that tell sealed objects with other data or metadata apart, as those of pyarrow.plasma did.

        No protection against somebody who wants two objects to have the same. Raises PlasmaObjectNotFound.

            >>> client.hash(client.put_raw_buffer(b"hello")) == client.hash(client.put_raw_buffer(b"hello"))
            True
        """
        out = ctypes.create_string_buffer(DIGEST_SIZE)
        handle = self._live()
        check(lib.plasma_hash(handle.pointer, c_id(object_id), out))
        return out.raw

    def list(self) -> Dict[ObjectID, ObjectInfo]:
        """All objects of the store, also those that are not sealed.

            >>> object_id = client.put_raw_buffer(b"hello", metadata=b"of mine")
            >>> client.list()[object_id]["data_size"], client.list()[object_id]["state"]
            (5, 'sealed')
        """
        out = ctypes.POINTER(_abi.plasma_object_list)()
        handle = self._live()
        check(lib.plasma_list(handle.pointer, out))
        try:
            infos = dict(_info(out, index) for index in range(lib.plasma_object_list_size(out)))
        finally:
            lib.plasma_object_list_free(out)
        for object_id, info in infos.items():
            if info["state"] == "sealed" and info["metadata_size"] > _LEAST_NAMED:
                info["name"] = self._name_of(object_id)
        return infos

    def _name_of(self, object_id: ObjectID) -> Optional[str]:
        """The name that an object was put by, read in shared memory."""
        handle, wanted, length = self._live(), c_id(object_id), ctypes.c_size_t()
        out = ctypes.create_string_buffer(_MOST_NAMED)
        status = lib.plasma_object_name(handle.pointer, wanted, out, len(out), length)
        if status == _abi.PLASMA_OBJECT_NOT_FOUND:
            return None
        check(status)
        return out.raw[: length.value].decode() or None

    def set_client_options(self, client_name: str, limit_output_memory: int) -> None:
        """Names this client in the store's figures, and reserves bytes for what it creates from now on; once only.

        Nobody else's create evicts objects in this quota; what does not fit it evicts the client's own oldest. Raises
        PlasmaStoreFull when the quota is refused.
        """
        name, quota = c_text(client_name, "client_name"), whole(limit_output_memory, "limit_output_memory")
        if not -1 << 63 <= quota < 1 << 63:
            raise PlasmaInvalidArgument(f"limit_output_memory is {quota}, which no store has")
        handle = self._live()
        check(lib.plasma_set_options(handle.pointer, name, quota))

    def debug_string(self) -> str:
        """The store's figures, one `key: value` a line."""
        handle, length, size = self._live(), ctypes.c_size_t(), 1 << 12
        while True:
            out = ctypes.create_string_buffer(size)
            check(lib.plasma_debug_string(handle.pointer, out, size, length))
            if length.value < size:
                return out.value.decode("utf-8", "replace")
            size = length.value + 1

    def stats(self) -> Dict[str, int]:
        """The store's figures, by the names of `plasma_store_stats` in plasma_store.h, where they are explained.

            >>> object_id = client.put_raw_buffer(bytes(1000))
            >>> client.stats()["used_bytes"]
            1000
        """
        out = _abi.plasma_store_stats(struct_size=ctypes.sizeof(_abi.plasma_store_stats))
        handle = self._live()
        check(lib.plasma_stats(handle.pointer, out))
        return {field[0]: getattr(out, field[0]) for field in out._fields_[1:]}

    def store_capacity(self) -> int:
        """Bytes of data and metadata that the store holds at most."""
        out = ctypes.c_uint64()
        handle = self._live()
        check(lib.plasma_client_capacity(handle.pointer, out))
        return out.value


def _info(objects: Any, index: int) -> Tuple[ObjectID, ObjectInfo]:
    info = _abi.plasma_object_info(struct_size=ctypes.sizeof(_abi.plasma_object_info))
    check(lib.plasma_object_list_get(objects, index, info))
    known: ObjectInfo = {
        "data_size": info.data_size,
        "metadata_size": info.metadata_size,
        "ref_count": info.ref_count,
        "create_time": info.create_time,
        "construct_duration": info.construct_duration,
        "state": _STATES[info.state],
        "pinned": info.pinned,
        "name": None,
    }
    return ObjectID(bytes(info.id)), known
