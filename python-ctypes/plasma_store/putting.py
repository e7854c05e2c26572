"""Putting: objects are created, filled and sealed, at once or one after the other, with an answer for each or without."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import traceback
from types import TracebackType
from typing import Any, Callable, Iterable, List, Optional, Tuple, Type, Union

from . import _abi, arrow, values
from ._lib import lib
from .buffer import Buffer, Hold, Source, wrap
from .errors import BY_STATUS, PlasmaError, PlasmaInvalidArgument, PlasmaNotStored, check
from .forgotten import unsealed
from .keeping import Keeping
from .object_id import AnyID, ObjectID, c_id, c_text, id_of, unsigned, whole
from .progress import Bytes, Copier, Progress, is_told
from .reference import Place
from .waiting import milliseconds

# Objects that one flush tells, and how many may fail that were not counted before.
MOST_FAILED, MORE_FAILED = 1 << 16, 512


class Putting(Keeping):
    """The part of `PlasmaClient` that makes objects of bytes."""

    def __init__(
        self,
        store_socket_name: Optional[str] = None,
        num_retries: int = -1,
        *,
        copy_threads: int = 0,
        spin_us: int = 0,
        progress: Progress = None,
    ) -> None:
        # What was put and sealed without waiting, and that at the last flush.
        self._submitted, self._flushed = itertools.count(), 0
        self._unsealed = set()
        self.progress = progress
        super().__init__(store_socket_name, num_retries, copy_threads=copy_threads, spin_us=spin_us)

    progress: Progress = None
    """Who is told how far a put is that takes longer than a second: see `connect`. May be set at any time."""

    def disconnect(self) -> None:
        self._end_unsealed()
        super().disconnect()

    disconnect.__doc__ = Keeping.disconnect.__doc__

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if error is not None:
            # Whoever was interrupted by an error forgot nothing.
            self._unsealed.clear()
        self._end_unsealed()
        self.disconnect()

    def _end_unsealed(self) -> None:
        """Warns whoever calls what calls this of objects that go now."""
        if self._handle is not None and self._process == os.getpid():
            unsealed(self, self._unsealed)
        self._unsealed.clear()

    def _lose(self, place: Place, error: PlasmaError) -> None:
        super()._lose(place, error)
        self._submitted, self._flushed, self._unsealed = itertools.count(), 0, set()

    def create(
        self,
        object_id: AnyID,
        data_size: int,
        metadata: bytes = b"",
        *,
        ttl_ms: int = 0,
        wait_ms: int = 0,
        immutable: bool = False,
    ) -> Buffer:
        """Creates an object of `data_size` bytes, to be filled through the buffer and then sealed.

        The memory holds old bytes until it is written. Raises PlasmaObjectExists, PlasmaStoreFull.

            >>> object_id = plasma_store.ObjectID.from_random()
            >>> memoryview(client.create(object_id, 5)).cast("B")[:] = b"hello"
            >>> client.seal(object_id)
            >>> [buffer] = client.get_buffers([object_id])
            >>> bytes(buffer)
            b'hello'
        """
        return wrap(self._create(object_id, data_size, metadata, ttl_ms, wait_ms, immutable).data())

    def _create(
        self, object_id: AnyID, data_size: int, metadata: bytes, ttl_ms: int, wait_ms: int, immutable: bool
    ) -> Hold:
        wanted, size, meta, hold = c_id(object_id), unsigned(data_size), c_bytes(metadata), Hold()

        def call(handle: Any, options: _abi.plasma_create_options) -> Any:
            return lib.plasma_create(handle.pointer, wanted, size, meta, len(meta), options, hold)

        self._call_create(call, named(object_id, _abi.plasma_create_options()), ttl_ms, wait_ms, immutable)
        self._unsealed.add(id_of(object_id))
        return hold

    def _call_create(
        self, create: Callable[[Any, Any], Any], options: Any, ttl_ms: int, wait_ms: int, immutable: bool
    ) -> None:
        """Makes a call that creates an object, with the options as they are but for what all such calls have."""
        ttl = whole(ttl_ms, "ttl_ms")
        if not 0 <= ttl < 1 << 63:
            raise PlasmaInvalidArgument(f"ttl_ms is 0 or positive and below 2^63, not {ttl}")
        options.struct_size, options.ttl_ms = ctypes.sizeof(options), ttl
        options.flags = _abi.PLASMA_CREATE_IMMUTABLE if immutable else 0

        def call(handle: Any, left_ms: int) -> int:
            options.wait_ms = left_ms
            status: int = create(handle, options)
            return status

        check(self._call(call, milliseconds(wait_ms, "wait_ms")))

    def create_and_seal(
        self,
        object_id: AnyID,
        data: Any,
        metadata: bytes = b"",
        *,
        ttl_ms: int = 0,
        wait_ms: int = 0,
        immutable: bool = False,
    ) -> None:
        """Stores a copy of bytes as a sealed object; when it fails there is no object. `data` is anything bytes-like.

        Raises PlasmaObjectExists, PlasmaStoreFull.

            >>> client.create_and_seal(plasma_store.ObjectID.from_name("greeting"), b"hello", b"in English")
            >>> client.get_buffers([plasma_store.ObjectID.from_name("greeting")], with_meta=True)[0][0]
            b'in English'
        """
        wanted, source, meta = c_id(object_id), Source(data), c_bytes(metadata)
        if self.progress and is_told(self.progress, len(source)):
            self._fill(Bytes(source), object_id, self.seal, ttl_ms, wait_ms, immutable, meta)
            return

        def call(handle: Any, options: _abi.plasma_create_options) -> Any:
            return lib.plasma_put(handle.pointer, wanted, source.pointer, len(source), meta, len(meta), options)

        self._call_create(call, named(object_id, _abi.plasma_create_options()), ttl_ms, wait_ms, immutable)

    def put_raw_buffer(
        self,
        value: Any,
        object_id: Optional[AnyID] = None,
        metadata: bytes = b"",
        memcopy_threads: int = 6,
        *,
        ttl_ms: int = 0,
        wait_ms: int = 0,
        immutable: bool = False,
    ) -> ObjectID:
        """Stores a copy of bytes, as `create_and_seal`, and returns the id: a random one if none is given.

        As many threads copy as `connect` was told, whatever `memcopy_threads` says.

            >>> bytes(client.get_buffers([client.put_raw_buffer(b"hello")])[0])
            b'hello'
        """
        object_id = ObjectID.from_random() if object_id is None else object_id
        self.create_and_seal(object_id, value, metadata, ttl_ms=ttl_ms, wait_ms=wait_ms, immutable=immutable)
        return id_of(object_id)

    def put_raw_buffer_nowait(
        self, value: Any, object_id: Optional[AnyID] = None, metadata: bytes = b"", *, ttl_ms: int = 0
    ) -> ObjectID:
        """Stores a copy of bytes as `put_raw_buffer` does, soon; everything else as for `put_nowait`."""
        object_id = ObjectID.from_random() if object_id is None else object_id
        wanted, source, meta = c_id(object_id), Source(value), c_bytes(metadata)

        def call(handle: Any, options: _abi.plasma_create_options) -> Any:
            return lib.plasma_put_async(handle.pointer, wanted, source.pointer, len(source), meta, len(meta), options)

        next(self._submitted)
        self._call_create(call, named(object_id, _abi.plasma_create_options()), ttl_ms, 0, False)
        return id_of(object_id)

    def put_batch(self, objects: Iterable[Tuple[Any, ...]]) -> None:
        """Stores copies of many small objects with one request, as sealed ones: all of them, or none.

        Each is a tuple of an id or a name, of data and, if there are any, of metadata, which are anything bytes-like. Together they
        may have 64 MiB, less some 100 bytes for each. Raises PlasmaObjectExists, also for an id that comes twice; PlasmaStoreFull;
        PlasmaInvalidArgument when they are too many.

            >>> ids = [plasma_store.ObjectID.from_random() for _ in range(2)]
            >>> client.put_batch([(ids[0], b"one"), (ids[1], b"two", b"metadata"), ("third", b"three")])
            >>> [bytes(buffer) for buffer in client.get_buffers([ids[0], ids[1], "third"])]
            [b'one', b'two', b'three']
        """
        contents = [_batched(*given) for given in objects]
        items = (_abi.plasma_put_item * len(contents))()
        for item, (object_id, data, metadata) in zip(items, contents):
            item.id, item.data, item.data_size = c_id(object_id), data.pointer, len(data)
            item.metadata, item.metadata_size = metadata.pointer, len(metadata)
            named(object_id, item)
        handle = self._live()
        check(lib.plasma_put_batch(handle.pointer, items, len(items), None))

    def seal(self, object_id: AnyID) -> None:
        """Seals an object that this client created: it is immutable from now on, and everyone can get it.

        Buffers of it must not be written any more; of one that was created with `immutable` there must be none, else PlasmaBusy. Raises
        PlasmaObjectNotFound, PlasmaObjectAlreadySealed (a TypeError).
        """
        handle = self._live()
        check(lib.plasma_seal(handle.pointer, c_id(object_id)))
        self._unsealed.discard(id_of(object_id))

    def seal_nowait(self, object_id: AnyID) -> None:
        """Seals an object that this client created, soon: `flush` waits for it, and raises if it could not be done.

        Buffers of it must not be written any more. Raises PlasmaObjectNotFound.
        """
        handle, wanted = self._live(), c_id(object_id)
        next(self._submitted)
        check(lib.plasma_seal_async(handle.pointer, wanted))
        self._unsealed.discard(id_of(object_id))

    def flush(self) -> None:
        """Waits until everything is done that was put or sealed without waiting.

        Raises PlasmaNotStored when that could not be done for some objects; its `failed` has each with the reason, and each is
        told once.

            >>> ids = [client.put_nowait(number) for number in range(3)]
            >>> client.flush()
            >>> client.get(ids)
            [0, 1, 2]
        """
        handle, submitted = self._live(), next(self._submitted)
        # What fails while this waits is told as well.
        capacity = min(submitted - self._flushed + MORE_FAILED, MOST_FAILED)
        ids, statuses, count = (_abi.plasma_object_id * capacity)(), (_abi.plasma_status * capacity)(), ctypes.c_size_t()
        status = lib.plasma_flush(handle.pointer, ids, statuses, capacity, count)
        self._flushed = submitted
        if not count.value:
            return check(status)
        failed = [_failure(*told) for told in zip(ids[: count.value], statuses[: count.value])]
        some = "; ".join(str(error) for _, error in failed[:3]) + ("; and so on" if count.value > 3 else "")
        raise PlasmaNotStored(f"{count.value} objects could not be stored: {some}", failed)

    def abort(self, object_id: AnyID) -> None:
        """Gives up an object that this client created and has not sealed; its buffer must be gone, else PlasmaBusy.

            >>> object_id = plasma_store.ObjectID.from_random()
            >>> with client.create_tensor(object_id, (3,), "int8"):
            ...     pass
            >>> client.abort(object_id)
            >>> client.list()
            {}
        """
        handle = self._live()
        check(lib.plasma_abort(handle.pointer, c_id(object_id)))
        self._unsealed.discard(id_of(object_id))

    def _fill(
        self,
        value: Union[values.Serialized, arrow.NewTable],
        object_id: AnyID,
        seal: Callable[[ObjectID], None],
        ttl_ms: int,
        wait_ms: int,
        immutable: bool,
        metadata: bytes = b"",
    ) -> ObjectID:
        copier = Copier(value.size, self.progress)
        held = [self._create(object_id, value.size, metadata, ttl_ms, wait_ms, immutable)]
        return self._finish(object_id, held, lambda hold: value.write(hold, copier), seal)

    def _finish(
        self, object_id: AnyID, held: List[Any], fill: Callable[[Any], None], seal: Callable[[ObjectID], None]
    ) -> ObjectID:
        """Fills what was created and alone is in `held`, and seals it; when that fails there is no object."""
        try:
            try:
                fill(held[0])
            finally:
                # With a live buffer an object cannot be aborted, nor sealed if it is to be immutable.
                held.clear()
            seal(id_of(object_id))
        except BaseException as error:
            # They have it still.
            traceback.clear_frames(error.__traceback__)
            # What went wrong first is what is raised.
            with contextlib.suppress(PlasmaError):
                self.abort(id_of(object_id))
            raise
        return id_of(object_id)


def c_bytes(metadata: bytes) -> bytes:
    return metadata if isinstance(metadata, bytes) else bytes(memoryview(metadata))


def _batched(object_id: AnyID, data: Any, metadata: Any = b"") -> Tuple[AnyID, Source, Source]:
    """An object of a batch, with its bytes kept where they lie."""
    return object_id, Source(data), Source(metadata)


def named(object_id: AnyID, options: Any) -> Any:
    """Options with the name, where the object is called by one."""
    options.name = c_text(object_id, "name") if isinstance(object_id, str) else None
    return options


def _failure(given: _abi.plasma_object_id, status: int) -> Tuple[ObjectID, PlasmaError]:
    """An object that was not stored, and why."""
    object_id, reason = ObjectID(bytes(given)), lib.plasma_status_string(status).decode()
    return object_id, BY_STATUS.get(status, PlasmaError)(f"object {object_id.hex()}: {reason}")
