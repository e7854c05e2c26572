"""PlasmaClient: a connection to a store. Names, argument order and defaults of the old calls are those of pyarrow.plasma."""

from __future__ import annotations

import ctypes
import operator
from typing import Any, Iterable, List, Literal, Mapping, NoReturn, Optional, Sequence, Tuple, Union, overload

from . import _abi, arrow, values
from ._lib import lib
from .buffer import Buffer, Hold, wrap
from .bundle import Bundle, NewBundle, bundle_options
from .dlpack import Source as TensorSource
from .dtypes import dtype_of
from .errors import PlasmaInvalidArgument, PlasmaTimeout
from .object_id import AnyID, AnyIDs, ObjectID, c_id, c_text, called, id_of, ids_of
from .progress import Copier, Progress, elements_of, is_told
from .putting import Putting, c_bytes, named
from .tensor import Tensor

# What is not larger needs no memory of its own to be put; with room for what the library appends.
MOST_AT_ONCE = (64 << 10) - 256


@overload
def connect(
    store_socket_name: Optional[str] = None,
    num_retries: int = -1,
    *,
    copy_threads: int = 0,
    spin_us: int = 0,
    progress: Progress = None,
) -> PlasmaClient: ...


@overload
def connect(
    store_socket_name: str,
    manager_socket_name: Optional[str],
    release_delay: int = 0,
    num_retries: int = -1,
    *,
    copy_threads: int = 0,
    spin_us: int = 0,
    progress: Progress = None,
) -> PlasmaClient: ...


# pyright would have the names in `older` here again, which takes them by their places.
def connect(  # pyright: ignore[reportInconsistentOverload]
    store_socket_name: Optional[str] = None,
    *older: Any,
    manager_socket_name: Optional[str] = "",
    release_delay: int = 0,
    num_retries: int = -1,
    copy_threads: int = 0,
    spin_us: int = 0,
    progress: Progress = None,
) -> PlasmaClient:
    """Connects to the store at a socket, trying again up to `num_retries` times, 100 ms apart; -1 stands for 80 times.

    None is the default socket: $PLASMA_STORE_SOCKET, else $XDG_RUNTIME_DIR/plasma-store.sock, else
    /tmp/plasma-store-<uid>/plasma.sock. Raises PlasmaConnectError, an OSError, when no store answers.

    So many threads as `copy_threads` says copy what is put from 16 MiB on; 0 and 1 stand for the one that puts. For `spin_us`
    microseconds a thread that waits stays awake before it sleeps, so that nobody has to wake it. That takes a processor meanwhile,
    and is worth it beside a store that does the same (`--spin-us`).

    With `progress`, puts that take longer than a second tell how far they are: a function is called with the bytes that were copied
    and all of them, each tenth of a second from then on and at the end, and may raise to end the put, of which nothing is left
    then. True writes a line to stderr where that is a terminal. That is for bytes, values, tables, and arrays that lie row by row,
    also in bundles, of more than 32 MiB; without it nothing is ever written.

    Programs from before pyarrow 0.15 say `connect(path, "", 0)`. There is no manager any more, so its socket must be empty or
    None; buffers are always released at once, whatever the delay.
    """
    if older and isinstance(older[0], int):
        (num_retries,) = _at_most(older, 1)
    elif older:
        defaults = (manager_socket_name, release_delay, num_retries)
        manager_socket_name, release_delay, num_retries = _at_most(older, 3) + defaults[len(older) :]
    if manager_socket_name:
        raise PlasmaInvalidArgument(f"manager_socket_name is {manager_socket_name!r}, and there is no manager any more")
    return PlasmaClient(store_socket_name, num_retries, copy_threads=copy_threads, spin_us=spin_us, progress=progress)


class PlasmaClient(Putting):
    """A connection to a store. Any number of threads may use one; a get that waits in one keeps no other waiting.

    As a context manager it disconnects at the end. Buffers and tensors outlive it. A child made by `fork` must connect anew:
    calls on its parent's client raise PlasmaForked.

    Whatever takes an ObjectID takes a name as well, a `str`: it stands for `ObjectID.from_name(name)`. What is created by a name keeps
    it, and `list` tells it. Where ids of several objects are taken, a text by itself is one name.

    Whatever creates an object takes two times in milliseconds. `ttl_ms`: so long after its seal it is deleted, as by `delete`;
    0 for never. `wait_ms`: so long it waits where there is no room, -1 for as long as it takes, 0 not at all. Who waits is served
    in the order of asking. Then PlasmaStoreFull, which says who has the room.

    With `immutable` the kernel refuses every write to the object once it is sealed, also by this process, which otherwise could go on
    writing what it created. It costs new memory and some system calls each time, and is meant for large objects. Before the seal
    all buffers and arrays of the object must be gone: else that raises PlasmaBusy, and can be tried again. A forked child has none of them:
    it must not touch those of its parent. Raises PlasmaUnsupported in a store with a directory (`-d`) or huge pages (`-h`).
    """

    def put(
        self,
        value: Any,
        object_id: Optional[AnyID] = None,
        memcopy_threads: int = 6,
        serialization_context: Any = None,
        *,
        ttl_ms: int = 0,
        wait_ms: int = 0,
        immutable: bool = False,
    ) -> ObjectID:
        """Stores a Python value, to be read by `get`, and returns its id: a random one if none is given.

        By pickle, which copies the bytes of arrays without gaps once, straight into the object; or, with a pyarrow before version 14, in the
        serialization of pyarrow.plasma, which programs that still use that can read. The last two arguments are for that one.

            >>> client.get(client.put({"a": [1, 2], "b": np.zeros(3)}))
            {'a': [1, 2], 'b': array([0., 0., 0.])}
        """
        object_id = ObjectID.from_random() if object_id is None else object_id
        serialized = values.serialize(value, memcopy_threads, serialization_context)
        if serialized.size <= MOST_AT_ONCE and not immutable:
            self.create_and_seal(object_id, serialized.to_bytes(), ttl_ms=ttl_ms, wait_ms=wait_ms)
            return id_of(object_id)
        return self._fill(serialized, object_id, self.seal, ttl_ms, wait_ms, immutable)

    def put_nowait(
        self, value: Any, object_id: Optional[AnyID] = None, serialization_context: Any = None, *, ttl_ms: int = 0
    ) -> ObjectID:
        """Stores a Python value as `put` does, soon, and returns its id: `flush` waits for it, and raises if it could not be done.

        What one client puts and seals without waiting is done in this order. Meant for streams of small values: of one over
        64 KiB, or with a `ttl_ms`, only the seal is not waited for, and this raises what `create` raises.
        """
        object_id = ObjectID.from_random() if object_id is None else object_id
        serialized = values.serialize(value, 1, serialization_context)
        if serialized.size <= MOST_AT_ONCE and not ttl_ms:
            return self.put_raw_buffer_nowait(serialized.to_bytes(), object_id)
        return self._fill(serialized, object_id, self.seal_nowait, ttl_ms, 0, False)

    def get(
        self, object_ids: Union[AnyID, Iterable[AnyID]], timeout_ms: int = -1, serialization_context: Any = None
    ) -> Any:
        """The value of one object, or the list of those of several, waiting as `get_buffers` does.

        What did not come in time, or has no bytes, is ObjectNotAvailable: the class. Arrays are read-only and not copied. A
        value may run code of whoever put it: get only from those whom you trust. Raises PlasmaCorrupt for what is not a value,
        PlasmaUnsupported for one of pyarrow.plasma where no pyarrow before version 14 is installed.

            >>> client.get(plasma_store.ObjectID.from_random(), timeout_ms=1)
            <class 'plasma_store.values.ObjectNotAvailable'>
        """
        if isinstance(object_ids, (ObjectID, str)):
            object_id = id_of(object_ids)
            return _value(self._get_one(object_id, timeout_ms), object_id, serialization_context)
        ids = ids_of(object_ids)
        holds = self._get(ids, timeout_ms)
        return [_value(hold, object_id, serialization_context) for hold, object_id in zip(holds, ids)]

    @overload
    def get_buffers(
        self, object_ids: AnyIDs, timeout_ms: int = -1, with_meta: Literal[False] = False
    ) -> List[Optional[Buffer]]: ...

    @overload
    def get_buffers(
        self, object_ids: AnyIDs, timeout_ms: int, with_meta: Literal[True]
    ) -> List[Tuple[Optional[bytes], Optional[Buffer]]]: ...

    @overload
    def get_buffers(
        self, object_ids: AnyIDs, timeout_ms: int = -1, *, with_meta: Literal[True]
    ) -> List[Tuple[Optional[bytes], Optional[Buffer]]]: ...

    def get_buffers(
        self, object_ids: AnyIDs, timeout_ms: int = -1, with_meta: bool = False
    ) -> Union[List[Optional[Buffer]], List[Tuple[Optional[bytes], Optional[Buffer]]]]:
        """Read-only buffers of objects, in the order of the ids, which may repeat; None for what is not there in time.

        Waits until all are sealed: at most `timeout_ms`, -1 for as long as it takes, 0 not at all. With `with_meta` each entry
        is a tuple of the metadata and the buffer.
        """
        holds = self._get(object_ids, timeout_ms)
        if with_meta:
            return [_with_meta(hold) for hold in holds]
        return [wrap(hold.sealed_data()) if hold else None for hold in holds]

    async def get_async(
        self, object_ids: Union[AnyID, Iterable[AnyID]], timeout_ms: int = -1, serialization_context: Any = None
    ) -> Any:
        """What `get` returns, for an event loop: others run there while this waits, and it takes no thread to wait.

        Any number of awaits may be under way at once; an await may be cancelled. `interrupt` and `disconnect` end them with
        PlasmaInterrupted, the end of the store with PlasmaDisconnected. All are of one event loop, else PlasmaBusy. An object that
        has to come from an external store is fetched by a thread of the loop's executor.

            >>> import asyncio
            >>> object_id = client.put("hello")
            >>> asyncio.run(client.get_async(object_id))
            'hello'
        """
        if isinstance(object_ids, (ObjectID, str)):
            [hold] = await self._get_later([object_ids], timeout_ms)
            return _value(hold, id_of(object_ids), serialization_context)
        ids = ids_of(object_ids)
        holds = await self._get_later(ids, timeout_ms)
        return [_value(hold, object_id, serialization_context) for hold, object_id in zip(holds, ids)]

    async def get_buffers_async(self, object_ids: AnyIDs, timeout_ms: int = -1) -> List[Optional[Buffer]]:
        """What `get_buffers` returns, for an event loop; everything else as for `get_async`."""
        holds = await self._get_later(object_ids, timeout_ms)
        return [wrap(hold.sealed_data()) if hold else None for hold in holds]

    async def get_tensor_async(self, object_id: AnyID, timeout_ms: int = -1, private: bool = False) -> Tensor:
        """What `get_tensor` returns, for an event loop; everything else as for `get_async`."""
        [hold] = await self._get_later([object_id], timeout_ms, private)
        return self._tensor(hold, object_id, timeout_ms, private)

    def get_metadata(self, object_ids: AnyIDs, timeout_ms: int = -1) -> List[Optional[Buffer]]:
        """Read-only buffers of the objects' metadata; everything else as in `get_buffers`."""
        holds = self._get(object_ids, timeout_ms)
        return [wrap(hold.metadata()) if hold else None for hold in holds]

    def __contains__(self, object_id: AnyID) -> bool:
        return self.contains(object_id)

    def __setitem__(self, name: AnyID, value: Any) -> None:
        """Stores a Python value, as `put` does, by a name that everybody has the id of (`ObjectID.from_name`).

        Objects do not change: raises PlasmaObjectExists for a name that is taken.
        """
        self.put(value, name)

    def __getitem__(self, name: AnyID) -> Any:
        """What is stored by a name, without waiting: a Tensor, or the value that was put. KeyError where there is none.

            >>> import plasma_store
            >>> with plasma_store.start_store(1 << 20) as store, plasma_store.connect(store.socket_path) as client:
            ...     client["features/train"] = [1, 2, 3]
            ...     print(client["features/train"], "features/test" in client)
            ...     [info["name"] for info in client.list().values()]
            [1, 2, 3] False
            ['features/train']
        """
        object_id = id_of(name)
        hold = self._get_one(object_id, 0)
        if not hold:
            raise KeyError(name)
        return Tensor(hold, object_id, self._place) if values.is_tensor(hold) else _value(hold, object_id, None)

    def __delitem__(self, name: AnyID) -> None:
        """Deletes what is stored by a name. KeyError where there is nothing."""
        if name not in self:
            raise KeyError(name)
        self.delete([name])

    def put_tensor(
        self,
        value: Any,
        object_id: Optional[AnyID] = None,
        metadata: bytes = b"",
        *,
        copy: Optional[bool] = None,
        dim_names: Optional[Sequence[Optional[str]]] = None,
        ttl_ms: int = 0,
        wait_ms: int = 0,
        immutable: bool = False,
    ) -> ObjectID:
        """Stores a copy of an array of the CPU, of any library that has `__dlpack__` or `__array_interface__`.

        Any strides; one that is column-major stays so, others become row-major. All element types of DLPack, those of ml_dtypes
        among them. Returns the id, a random one if none is given.

        An array of another device is refused, unless `copy` is true: then the library that it is of copies it to the host. The
        dimensions get `dim_names`; without, those that a `pyarrow.Tensor` or a tensor of ours has.

        Raises PlasmaUnsupported, a TypeError, for what cannot be stored; PlasmaInvalidArgument for an array of Arrow with nulls.

            >>> import numpy as np, plasma_store
            >>> with plasma_store.start_store(1 << 20) as store, plasma_store.connect(store.socket_path) as client:
            ...     client.get_tensor(client.put_tensor(np.ones((2, 3), dtype="complex64")))  # doctest: +ELLIPSIS
            Tensor(shape=(2, 3), dtype='complex64', state='sealed', object_id=ObjectID(...))
        """
        object_id = ObjectID.from_random() if object_id is None else object_id
        names = getattr(value, "dim_names", None) if dim_names is None else dim_names
        wanted, source = c_id(object_id), TensorSource(value, bool(copy))
        if self.progress and (elements := elements_of(source)) is not None and is_told(self.progress, elements.size):
            copier = Copier(elements.size, self.progress)
            times: Any = {"ttl_ms": ttl_ms, "wait_ms": wait_ms, "immutable": immutable}
            held = [self.create_tensor(object_id, elements.shape, elements.dtype, metadata, dim_names=names, **times)]
            return self._finish(object_id, held, lambda tensor: elements.write(tensor, copier), self.seal)

        def call(handle: Any, options: _abi.tensor_write_options) -> Any:
            if source.padded:
                return lib.tensor_write_versioned(handle.pointer, wanted, source.managed(), options)
            return lib.tensor_write(handle.pointer, wanted, source.tensor, options)

        options = named(object_id, _write_options(metadata, names, source.tensor.ndim))
        self._call_create(call, options, ttl_ms, wait_ms, immutable)
        return id_of(object_id)

    def put_tensors(
        self,
        tensors: Mapping[str, Any],
        object_id: Optional[AnyID] = None,
        metadata: Optional[Mapping[str, str]] = None,
        *,
        copy: Optional[bool] = None,
        ttl_ms: int = 0,
        wait_ms: int = 0,
        immutable: bool = False,
    ) -> ObjectID:
        """Stores copies of many named arrays as one object, byte for byte a safetensors file; `get_tensors` gets all of them.

        Arrays are what `put_tensor` takes. They lie row-major, each at a multiple of 64 bytes. Returns the id, a random one if
        none is given. `metadata` are texts by texts. A safetensors file can also be put as it is, by `put_raw_buffer`.

        Raises PlasmaUnsupported, a TypeError, with the name of an array that cannot be stored, or whose type safetensors does
        not have; PlasmaInvalidArgument for a name that is not for tensors: "__metadata__", or what begins with "__pad.".
        """
        object_id = ObjectID.from_random() if object_id is None else object_id
        wanted, new = c_id(object_id), NewBundle(tensors, bool(copy))
        options = named(object_id, bundle_options(metadata or {}))
        if self.progress and (parts := new.parts()) is not None and is_told(self.progress, parts.size):
            copier = Copier(parts.size, self.progress)
            held = [self._create_bundle(object_id, new, options, ttl_ms, wait_ms, immutable)]
            return self._finish(object_id, held, lambda hold: parts.write(Bundle(hold), copier), self.seal)

        def call(handle: Any, options: _abi.tensor_bundle_options) -> Any:
            return lib.tensor_bundle_write(handle.pointer, wanted, new.items, len(new.items), options)

        self._call_create(call, options, ttl_ms, wait_ms, immutable)
        return id_of(object_id)

    def _create_bundle(
        self, object_id: AnyID, new: NewBundle, options: Any, ttl_ms: int, wait_ms: int, immutable: bool
    ) -> Hold:
        """Creates an object for a bundle, whose tensors are still to be filled."""
        wanted, hold = c_id(object_id), Hold()

        def call(handle: Any, options: _abi.tensor_bundle_options) -> Any:
            return lib.tensor_bundle_create(handle.pointer, wanted, new.items, len(new.items), options, hold)

        self._call_create(call, options, ttl_ms, wait_ms, immutable)
        self._unsealed.add(id_of(object_id))
        return hold

    def get_tensors(self, object_id: AnyID, timeout_ms: int = -1, private: bool = False) -> Bundle:
        """Gets all tensors of a bundle at once, without a copy: a mapping of Tensor by name. Everything else as in `get_tensor`.

        Raises PlasmaCorrupt, with what is wrong, when the object is not a safetensors file.
        """
        hold = _there(self._get_one(object_id, timeout_ms, private), object_id, timeout_ms)
        return Bundle(hold, id_of(object_id), self._place, private)

    def put_arrow(
        self,
        value: Any,
        object_id: Optional[AnyID] = None,
        *,
        ttl_ms: int = 0,
        wait_ms: int = 0,
        immutable: bool = False,
    ) -> ObjectID:
        """Stores a copy of a `pyarrow.Table` or RecordBatch as an Arrow IPC stream, with its schema's metadata. Returns the id.

        Raises PlasmaUnsupported where pyarrow is not installed.
        """
        object_id = ObjectID.from_random() if object_id is None else object_id
        return self._fill(arrow.NewTable(value), object_id, self.seal, ttl_ms, wait_ms, immutable)

    def get_arrow(self, object_id: AnyID, timeout_ms: int = -1) -> Any:
        """Gets a `pyarrow.Table` without a copy, as `put_arrow` or any other writer of an Arrow IPC stream left it.

        Waits as `get_buffers` does; then PlasmaTimeout. A record batch comes as a table with one; `to_batches()` gives it. Raises
        PlasmaCorrupt when the object is no such stream, PlasmaUnsupported where pyarrow is not installed.
        """
        return arrow.table_of(_there(self._get_one(object_id, timeout_ms), object_id, timeout_ms), called(object_id))

    def create_tensor(
        self,
        object_id: AnyID,
        shape: Sequence[int],
        dtype: Any,
        metadata: bytes = b"",
        *,
        dim_names: Optional[Sequence[Optional[str]]] = None,
        ttl_ms: int = 0,
        wait_ms: int = 0,
        immutable: bool = False,
    ) -> Tensor:
        """Creates an object for a row-major tensor, to be filled in place and then sealed with `seal`.

        `dtype` is a name such as "float32" or "bfloat16", or a type of numpy, ml_dtypes, torch or the like.

            >>> object_id = plasma_store.ObjectID.from_random()
            >>> with client.create_tensor(object_id, (2, 3), "float32") as tensor:
            ...     tensor.numpy()[:] = 7
            >>> client.seal(object_id)
            >>> float(client.get_tensor(object_id).numpy().sum())
            42.0
        """
        sizes = [operator.index(size) for size in shape]
        code, bits, lanes = dtype_of(dtype)[1:4]
        if any(size < 0 or size >= 1 << 63 for size in sizes):
            raise PlasmaInvalidArgument(f"shape {tuple(sizes)} has a dimension that is negative or over 2^63 - 1")
        wanted, hold = c_id(object_id), Hold()
        array = (ctypes.c_int64 * len(sizes))(*sizes)
        element = _abi.DLDataType(code, bits, lanes)

        def call(handle: Any, options: _abi.tensor_write_options) -> Any:
            return lib.tensor_create_buffer(handle.pointer, wanted, element, len(sizes), array, options, hold)

        options = named(object_id, _write_options(metadata, dim_names, len(sizes)))
        self._call_create(call, options, ttl_ms, wait_ms, immutable)
        self._unsealed.add(id_of(object_id))
        return Tensor(hold, id_of(object_id), self._place)

    def get_tensor(self, object_id: AnyID, timeout_ms: int = -1, private: bool = False) -> Tensor:
        """Gets a tensor without a copy, waiting for it as `get_buffers` does; then PlasmaTimeout.

        It is read-only. With `private` it can be written, and what is written stays in this process: pages are copied when
        they are first written. Raises PlasmaCorrupt when the object is not a tensor.

            >>> object_id = client.put_tensor(np.arange(3))
            >>> with client.get_tensor(object_id) as tensor:
            ...     print(tensor.shape, tensor.dtype, tensor.state, tensor.numpy().flags.writeable)
            (3,) int64 sealed False
            >>> client.get_tensor(plasma_store.ObjectID(bytes(20)), timeout_ms=1)
            Traceback (most recent call last):
            plasma_store.errors.PlasmaTimeout: object 0000000000000000000000000000000000000000 did not come within 1 ms
        """
        return self._tensor(self._get_one(object_id, timeout_ms, private), object_id, timeout_ms, private)

    def _tensor(self, hold: Hold, object_id: AnyID, timeout_ms: int, private: bool) -> Tensor:
        return Tensor(_there(hold, object_id, timeout_ms), id_of(object_id), self._place, private)

    def to_capsule(self) -> NoReturn:
        """Raises NotImplementedError: the capsule held a C++ object of libplasma, for code that was compiled with that."""
        raise NotImplementedError(
            "to_capsule gave code that is linked with libplasma its C++ client, and there is none here; "
            "such code can connect by itself, to store_socket_name, with plasma_connect of plasma_store.h"
        )


def _at_most(arguments: Tuple[Any, ...], count: int) -> Tuple[Any, ...]:
    if len(arguments) > count:
        raise TypeError(f"connect takes at most {count} arguments after the socket in this form, not {len(arguments)}")
    return arguments


def _write_options(metadata: bytes, names: Optional[Sequence[Optional[str]]], ndim: int) -> _abi.tensor_write_options:
    meta = c_bytes(metadata)
    options = _abi.tensor_write_options(metadata=meta, metadata_size=len(meta))
    if names is not None and any(names):
        if len(names) != ndim:
            raise PlasmaInvalidArgument(f"dim_names are {len(names)}, and the tensor has {ndim} dimensions")
        options.dimension_names = (ctypes.c_char_p * ndim)(*(c_text(name or "", "dim_names") for name in names))
    return options


def _with_meta(hold: Hold) -> Tuple[Optional[bytes], Optional[Buffer]]:
    return (bytes(hold.metadata()), wrap(hold.sealed_data())) if hold else (None, None)


def _there(hold: Hold, object_id: AnyID, timeout_ms: int) -> Hold:
    if not hold:
        raise PlasmaTimeout(f"object {called(object_id)} did not come within {timeout_ms} ms")
    return hold


def _value(hold: Hold, object_id: ObjectID, context: Any) -> Any:
    if not hold or not lib.plasma_buffer_size(hold):
        return values.ObjectNotAvailable
    return values.deserialize(hold, object_id.hex(), context)


