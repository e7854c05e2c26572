"""TensorRing: a ring of slots in shared memory, which some processes fill and others read, each message once or each by everybody."""

from __future__ import annotations

import ctypes
import sys
from collections import deque
from types import TracebackType
from typing import Any, AsyncIterator, Deque, Dict, Iterator, List, Literal, Optional, Tuple, Type, Union

from . import _abi
from ._lib import bare, lib
from .client import PlasmaClient
from .connection import AT_ONCE
from .dlpack import Shape, Source, described
from .dtypes import dtype_of, element_of
from .errors import PlasmaClosed, PlasmaError, PlasmaInvalidArgument, PlasmaUnsupported, check
from .memory import Layout, Memory
from .object_id import AnyID, ObjectID, c_id, c_text, id_of, whole
from .participant import Participant, SharedObject, client_or_default
from .reference import Place, reached
from .ring_awaits import AcquiresLater, Readable
from .ring_slot import Left, RingMessage, RingSlot
from .waiting import from_seconds

_acquire, _take = bare("tensor_ring_acquire"), bare("tensor_ring_take")
_AS_CREATED = _abi.TENSOR_RING_AS_CREATED
WhenFull = Union[Literal["wait", "fail", "drop-oldest"], float]


class TensorRing(SharedObject):
    """A ring of `slots` slots for arrays of one `shape` and `dtype`, or of `slot_bytes` bytes for arrays of any kind.

    Any number of processes and threads fill slots in place (`acquire`) and read them in place (`take`), first in, first out. Without a
    `client` it lies in a store that this process starts when it needs one. A pickle of it is a reference: `multiprocessing`, queues
    and joblib hand it on, and a forked child takes part by itself.

    Each message is for one reader, or with `broadcast` for each that was there before it. `when_full` says what `acquire` does where no
    slot is free: "wait", "fail" with PlasmaTimeout, wait so many seconds, or "drop-oldest": take the oldest message that nobody reads.
    What a reader had taken when it died is handed out "again", or with `when_reader_dies="drop"` not. The ring lives as long as somebody
    takes part, with `keep` until it is deleted. With `guard`, for debugging, slots that this process does not have cannot be touched.

    `close` ends it for readers when they have read everything; a `for` loop ends then. `abort` ends it for everybody at once. As a
    context manager it is left at the end of the block, and goes on for the others.

        >>> import numpy as np, plasma_store
        >>> from plasma_store import TensorRing
        >>> with TensorRing(slots=4, shape=(3,), dtype="float64", client=client) as ring:
        ...     for number in range(3):
        ...         with ring.acquire() as slot:
        ...             slot.array[:] = number
        ...     ring.close()
        ...     [float(array.sum()) for array in ring]
        [0.0, 3.0, 6.0]
    """

    __slots__ = ("_acquire_ms", "_dtype", "_layout", "_left", "_readable", "_writable")
    _what, _remedy = "tensor ring", "leave it, or use it in a `with` block"

    def __init__(
        self,
        slots: int,
        shape: Optional[Shape] = None,
        dtype: Any = None,
        *,
        slot_bytes: Optional[int] = None,
        name: Optional[AnyID] = None,
        client: Optional[PlasmaClient] = None,
        broadcast: bool = False,
        when_full: WhenFull = "wait",
        when_reader_dies: Literal["again", "drop"] = "again",
        keep: bool = False,
        guard: bool = False,
    ) -> None:
        if (shape is None) == (slot_bytes is None):
            raise PlasmaInvalidArgument("a ring needs a shape and a dtype, or slot_bytes")
        if slot_bytes is not None and dtype is not None:
            raise PlasmaInvalidArgument(f"dtype is {dtype!r}, but with slot_bytes each message has its own: see RingSlot.layout")
        if when_reader_dies not in ("again", "drop"):
            raise PlasmaInvalidArgument(f'when_reader_dies is "again" or "drop", not {when_reader_dies!r}')
        options = _abi.tensor_ring_options(slots=_count(slots, "slots", 32), slot_bytes=_count(slot_bytes or 0, "slot_bytes", 64))
        options.struct_size, options.acquire_ms = ctypes.sizeof(options), _patience(when_full)
        options.flags = _flags(broadcast, when_full, when_reader_dies, keep, guard)
        options.name = c_text(name, "name") if isinstance(name, str) else None
        if shape is not None:
            options.like = ctypes.pointer(described(shape, dtype_of("float64" if dtype is None else dtype)))
        client, object_id = client_or_default(client), ObjectID.from_random() if name is None else id_of(name)
        joined, handle = _participant(client), client._live()
        check(lib.tensor_ring_create(handle.pointer, c_id(object_id), options, joined.pointer))
        self._enter(joined, object_id, name, client._place)

    @classmethod
    def open(
        cls, name: AnyID, *, client: Optional[PlasmaClient] = None, timeout: Optional[float] = None
    ) -> TensorRing:
        """Takes part in the ring that somebody made by this name or id, waiting for it so many seconds, or as long as it takes.

        Raises PlasmaTimeout, or PlasmaObjectNotFound where nothing was waited for.
        """
        client, ring = client_or_default(client), cls.__new__(cls)
        ring._enter(cls._join_named(client, name, timeout), id_of(name), name, client._place)
        return ring

    def _enter(self, joined: Participant, object_id: ObjectID, name: Optional[AnyID], place: Place) -> None:
        self._begin(joined, object_id, name, place)
        self._acquire_ms, self._layout = _acquire_ms_of(joined), _layout_of(joined)
        self._dtype: Any = None
        self._begin_again()

    def _begin_again(self) -> None:
        # What was let go of while there were views of it.
        self._left: Deque[Left] = deque()
        # By the address of the slot.
        self._writable: Dict[int, Memory] = {}
        self._readable: Dict[int, Memory] = {}

    @classmethod
    def _join(cls, client: PlasmaClient, object_id: ObjectID, timeout_ms: int) -> Participant:
        joined, handle, wanted = _participant(client), client._live(), c_id(object_id)
        check(joined.wait(lambda left: lib.tensor_ring_open(handle.pointer, wanted, left, joined.pointer), timeout_ms))
        return joined

    @property
    def shape(self) -> Optional[Tuple[int, ...]]:
        """The shape of all messages; None where each has its own."""
        self._not_lost()
        return None if self._layout is None else self._layout[1]

    @property
    def dtype(self) -> Optional[str]:
        """Name of the element type of all messages; None where each has its own."""
        self._not_lost()
        return None if self._layout is None else self._layout[0].name

    def acquire(self, timeout: Optional[float] = None) -> RingSlot:
        """A free slot, to be filled in place, for a `with` block at whose end it is published.

        Waits as the ring was made to, or at most so many seconds. Raises PlasmaTimeout; PlasmaClosed, PlasmaAborted; PlasmaBusy when
        this thread got all slots itself and would wait for ever.
        """
        joined, given = self._live(), _abi.tensor_ring_slot()
        try:
            if self._left:
                self._reap()
            status = _acquire(joined.pointer, AT_ONCE, ctypes.byref(given))
            if status == _abi.PLASMA_TIMEOUT:
                patience = _AS_CREATED if timeout is None else from_seconds(timeout)
                status = joined.wait(lambda left_ms: lib.tensor_ring_acquire(joined.pointer, left_ms, given), patience)
            if status:
                check(status)
            return RingSlot(self, given, self._writable.get(given.data) or self._map(joined, given, self._writable))
        except BaseException:
            # Ctrl-C may have come when there was a slot already. Of one that was given back since, the token names nothing.
            if given.token:
                lib.tensor_ring_abandon(joined.pointer, given)
            raise

    def take(self, timeout: Optional[float] = None) -> RingMessage:
        """The oldest message, to be read in place, for a `with` block at whose end its slot is released.

        Waits for as long as it takes, or so many seconds. Raises PlasmaTimeout; PlasmaClosed when the ring is closed and everything
        was read; PlasmaAborted; PlasmaBusy when this thread got all slots and would wait for ever.
        """
        joined, given = self._live(), _abi.tensor_ring_slot()
        try:
            if self._left:
                self._reap()
            status = _take(joined.pointer, AT_ONCE, ctypes.byref(given))
            if status == _abi.PLASMA_TIMEOUT:
                patience = from_seconds(timeout)
                status = joined.wait(lambda left_ms: lib.tensor_ring_take(joined.pointer, left_ms, given), patience)
            if status:
                check(status)
            return self._message(joined, given)
        except BaseException:
            # As in `acquire`.
            if given.token:
                lib.tensor_ring_release(joined.pointer, given)
            raise

    def _message(self, joined: Participant, given: Any) -> RingMessage:
        memory = self._readable.get(given.data)
        if memory is None or memory.size < given.size:
            memory = self._map(joined, given, self._readable)
        return RingMessage(self, given, memory)

    def _map(self, joined: Participant, given: Any, known: Dict[int, Memory]) -> Memory:
        """The memory of a slot, which is at the same place each time."""
        address = given.data or 0
        memory = known[address] = Memory(joined, address, given.size, readonly=known is self._readable)
        return memory

    def _reap(self) -> None:
        """Gives back what was let go of and has no views any more."""
        for _ in range(len(self._left)):
            try:
                # Other threads do the same.
                left = self._left.popleft()
            except IndexError:
                return
            if not left.go():
                self._left.append(left)

    def __iter__(self) -> Iterator[Any]:
        """Arrays in the slots of messages, until the ring is closed and everything was read.

        Each is released when the next one is asked for: copy what is to be kept. While something else than the variable of the loop
        still has a view of it, it is released later; a ring needs a slot more for that.
        """
        while True:
            try:
                message = self.take()
            except PlasmaClosed:
                return
            array = message.array
            yield array
            message._let_go(of_loop=1 if sys.getrefcount(array) <= _IN_A_LOOP else 0)
            # Not while it waits for the next one.
            del array, message

    def put(self, array: Any, timeout: Optional[float] = None) -> None:
        """Publishes a copy of an array of any library; waits and raises as `acquire` does."""
        if self._is_like(array):
            with self.acquire(timeout) as slot:
                slot.array[...] = array
            return
        source, joined = Source(array), self._live()
        if source.padded:
            raise PlasmaUnsupported("elements of less than a byte that have a byte each cannot be put; pack them")
        patience = _AS_CREATED if timeout is None else from_seconds(timeout)
        check(joined.wait(lambda left: lib.tensor_ring_put(joined.pointer, source.tensor, left), patience))

    def get(self, timeout: Optional[float] = None) -> Any:
        """A copy of the oldest message, as a `numpy.ndarray`; waits and raises as `take` does."""
        with self.take(timeout) as message:
            return message.array.copy()

    def publish_many(self, arrays: Any, timeout: Optional[float] = None) -> int:
        """Publishes copies of as many messages as `arrays` has rows, with one call; waits as `acquire` does.

        Returns how many were published: fewer than all when the time ran out or the ring was closed in between.
        """
        import numpy

        element, shape = self._one_layout()
        rows = numpy.ascontiguousarray(arrays)
        if rows.shape[1:] != shape or rows.dtype != element.numpy():
            what = f"{rows.dtype} of shape {rows.shape}"
            raise PlasmaInvalidArgument(f"messages of this ring are {element.name} of shape {shape}, and {what} has no rows of that")
        patience = _AS_CREATED if timeout is None else from_seconds(timeout)
        return self._many(lib.tensor_ring_put_many, rows, len(rows), patience)

    def take_many(self, most: int, out: Any = None, timeout: Optional[float] = None) -> Any:
        """Copies of the oldest messages, at least one and at most so many, as the rows of a `numpy.ndarray`; waits as `take` does.

        They are written to `out` if that is given: an array with as many rows, without gaps.
        """
        import numpy

        element, shape = self._one_layout()
        count = whole(most, "most")
        if count < 1:
            raise PlasmaInvalidArgument(f"most is {count}, and at least one is taken")
        rows = numpy.empty((count, *shape), element.numpy()) if out is None else out
        if not isinstance(rows, numpy.ndarray):
            raise TypeError(f"out is a {type(rows).__name__}, and no numpy.ndarray")
        if rows.shape[1:] != shape or len(rows) < count or rows.dtype != element.numpy() or not rows.flags.c_contiguous:
            raise PlasmaInvalidArgument(f"out is {rows.dtype} of shape {rows.shape}, not {count} rows of {element.name} of {shape}")
        if not rows.flags.writeable:
            raise PlasmaInvalidArgument("out is read-only")
        return rows[: self._many(lib.tensor_ring_take_many, rows, count, from_seconds(timeout))]

    def _many(self, call: Any, rows: Any, count: int, patience: int) -> int:
        """Makes a call for many messages, and again for the rest of them when a signal ended it."""
        joined, done, step = self._live(), ctypes.c_size_t(), rows.strides[0] if len(rows) else 0
        address, total = rows.ctypes.data, 0

        def some(left_ms: int) -> int:
            nonlocal total
            done.value = 0
            status: int = call(joined.pointer, address + total * step, count - total, left_ms, done)
            total += done.value
            # What was taken already is not waited for again.
            return _abi.PLASMA_OK if total and call is lib.tensor_ring_take_many else status

        status = joined.wait(some, patience) if count else _abi.PLASMA_OK
        if status and not total:
            check(status)
        return total

    async def take_async(self, timeout: Optional[float] = None) -> RingMessage:
        """What `take` returns, for an event loop: others run there while this waits, and it takes no thread to wait."""
        until = Readable(self.fileno(), from_seconds(timeout))
        while True:
            joined, given = self._live(), _abi.tensor_ring_slot()
            if self._left:
                self._reap()
            status = _take(joined.pointer, AT_ONCE, ctypes.byref(given))
            if status != _abi.PLASMA_TIMEOUT:
                check(status)
                return self._message(joined, given)
            if not await until.again():
                # Raises what there is to say of that.
                return self.take(0)

    async def acquire_async(self, timeout: Optional[float] = None) -> RingSlot:
        """What `acquire` returns, for an event loop. While no slot is free a thread of the loop's executor waits for one."""
        try:
            return self.acquire(0)
        except TimeoutError:
            patience = self._acquire_ms if timeout is None else from_seconds(timeout)
            return await AcquiresLater(self, patience).result()

    async def __aiter__(self) -> AsyncIterator[Any]:
        """As a `for` loop, with `async for` in an event loop."""
        while True:
            try:
                message = await self.take_async()
            except PlasmaClosed:
                return
            array = message.array
            yield array
            message._let_go(of_loop=1 if sys.getrefcount(array) <= _IN_A_LOOP else 0)
            del array, message

    def fileno(self) -> int:
        """A descriptor that can be read when `take` is worth a try, for `select` and event loops. It is the ring's own."""
        joined, out = self._live(), ctypes.c_int()
        check(lib.tensor_ring_fd(joined.pointer, out))
        return out.value

    def counts(self) -> Tuple[int, int]:
        """How many slots are free, and how many messages are published and not taken."""
        self._reap()
        joined, free, published = self._live(), ctypes.c_size_t(), ctypes.c_size_t()
        check(lib.tensor_ring_counts(joined.pointer, free, published))
        return free.value, published.value

    def close(self) -> None:
        """Ends it for all: nobody publishes any more, readers read what there is, and then get PlasmaClosed. May be repeated."""
        check(lib.tensor_ring_close(self._live().pointer))

    def abort(self) -> None:
        """Ends it for all at once: whatever they do with it from now on, or wait for, raises PlasmaAborted."""
        check(lib.tensor_ring_abort(self._live().pointer))

    def leave(self) -> None:
        """Takes part no more; the ring goes on for the others. What is still read or filled here keeps it so long. May be repeated."""
        if self.state == "open":
            self._end("left")

    def __enter__(self) -> TensorRing:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.leave()

    def __reduce__(self) -> Tuple[Any, ...]:
        self._live()
        return ring_again, (self._place, self._id.binary(), self.name)

    def __repr__(self) -> str:
        known = "" if self.state == "lost" else f"shape={self.shape}, dtype={self.dtype!r}, "
        return f"TensorRing({known}state={self.state!r}, name={self.name!r}, object_id={self._id!r})"

    def _name(self) -> str:
        return self._called()

    def _one_layout(self) -> Layout:
        self._live()
        if self._layout is None:
            raise PlasmaInvalidArgument("each message of this ring has a shape of its own, so they are not handed over together")
        if not self._layout[0].itemsize:
            raise PlasmaUnsupported(f"elements of {self._layout[0].name} share bytes, so numpy has no rows of them; put and get one by one")
        return self._layout

    def _is_like(self, array: Any) -> bool:
        """Whether an array of numpy fits as it is."""
        numpy = sys.modules.get("numpy")
        if numpy is None or type(array) is not numpy.ndarray or self._layout is None:
            return False
        element, shape = self._layout
        if self._dtype is None:
            self._dtype = element.numpy() if element.itemsize else False
        return bool(array.shape == shape and array.dtype == self._dtype)


def ring_again(place: Place, name: bytes, text: Optional[str]) -> TensorRing:
    """The ring that was pickled, in which this process takes part from now on, or one that raises when it is used."""
    object_id = ObjectID(name)
    try:
        joined = reached(place, lambda client: TensorRing._join(client, object_id, 0))
        ring = TensorRing.__new__(TensorRing)
        ring._enter(joined, object_id, text, place)
        ring._forgettable = True
        return ring
    except PlasmaError as error:
        lost: TensorRing = TensorRing._lost(object_id, text, place, error)
        return lost


def _participant(client: PlasmaClient) -> Participant:
    return Participant(client, _abi.tensor_ring, lib.tensor_ring_leave)


def _acquire_ms_of(joined: Participant) -> int:
    """How long an acquire waits that does not say so itself."""
    out = _abi.tensor_ring_info(ctypes.sizeof(_abi.tensor_ring_info))
    check(lib.tensor_ring_get_info(joined.pointer, out))
    return int(out.acquire_ms)


def _layout_of(joined: Participant) -> Optional[Layout]:
    """What all messages are, if they are alike."""
    out = _abi.tensor_description(ctypes.sizeof(_abi.tensor_description))
    status = lib.tensor_ring_describe(joined.pointer, out)
    if status == _abi.PLASMA_INVALID_ARGUMENT:
        return None
    check(status)
    return element_of(out.dtype), tuple(out.shape[: out.ndim])


def _patience(when_full: WhenFull) -> int:
    """What C calls the same."""
    if isinstance(when_full, str):
        if when_full not in ("wait", "fail", "drop-oldest"):
            raise PlasmaInvalidArgument(f'when_full is "wait", "fail", "drop-oldest" or seconds, not {when_full!r}')
        return 0 if when_full == "fail" else -1
    return from_seconds(when_full, "when_full")


def _flags(broadcast: bool, when_full: WhenFull, when_reader_dies: str, keep: bool, guard: bool) -> int:
    flags = _abi.TENSOR_RING_BROADCAST if broadcast else 0
    flags |= _abi.TENSOR_RING_DROP_OLDEST if when_full == "drop-oldest" else 0
    # Of a message for everybody each reader has his own, so there is nothing to hand out again.
    flags |= _abi.TENSOR_RING_HAND_OUT_AGAIN if when_reader_dies == "again" and not broadcast else 0
    return flags | (_abi.TENSOR_RING_KEEP if keep else 0) | (_abi.TENSOR_RING_GUARD if guard else 0)


def _count(given: Any, name: str, bits: int) -> int:
    # ctypes would take -1 for the highest number that there is.
    count = whole(given, name)
    if not 0 <= count < 1 << bits:
        raise PlasmaInvalidArgument(f"{name} is {count}; it must be positive and below 2^{bits}")
    return count


def _loop_references() -> int:
    """References to an array that its loop, this generator and the question itself have; that differs between versions of Python."""

    def once() -> Iterator[object]:
        given = object()
        yield given
        counted.append(sys.getrefcount(given))

    counted: List[int] = []
    for _ in once():
        pass
    return counted[0]


_IN_A_LOOP = _loop_references()
