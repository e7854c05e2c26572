"""SharedTensor: an array that several processes write, where each sees at once what the others wrote."""

from __future__ import annotations

import ctypes
import math
from types import TracebackType
from typing import Any, Literal, Optional, Sequence, Tuple, Type

from . import _abi
from ._lib import lib
from .buffer import Hold
from .client import PlasmaClient
from .dlpack import Shape, Source, collect_unconsumed, described, managed_of, row_major, sizes_of
from .dtypes import DType, dtype_of, element_of
from .elements import SharedElements
from .errors import PlasmaBusy, PlasmaError, PlasmaExported, PlasmaInvalidArgument, PlasmaUnsupported, check
from .memory import Memory
from .object_id import AnyID, ObjectID, c_id, c_text, id_of
from .participant import Participant, SharedObject, client_or_default
from .reference import Place, reached
from .shared_lock import SharedLock
from .waiting import from_seconds


class SharedTensor(SharedObject, SharedElements):
    """An array that any number of processes write and read in the same memory, with a lock for those who need one.

    Made by `zeros`, `empty`, `full`, `like` and `from_array`, and by `open` from one that somebody else made. Without a `client` it
    lies in a store that this process starts when it needs one. A pickle of it is a reference: `multiprocessing`, queues and joblib
    hand it on without a copy, and a forked child has it, too.

    It lives as long as somebody has it open or a view of it, killed processes aside; with `keep` until it is deleted. As a context
    manager it is closed at the end of the block. Whoever makes or opens one closes it.

        >>> import numpy as np, plasma_store
        >>> from plasma_store import SharedTensor
        >>> with SharedTensor.zeros((2, 3), "float32", name="weights", client=client) as shared:
        ...     with SharedTensor.open("weights", client=client) as other, other.lock(timeout=1.0):
        ...         other.array[0] = 7
        ...     float(shared.array.sum())
        21.0
    """

    __slots__ = ("_element", "_flat", "_memory", "_order", "_owner", "_shape")
    _what = "shared tensor"

    # As numpy calls row-major and column-major.
    _order: Literal["C", "F"]

    def __init__(self, joined: Participant, object_id: ObjectID, name: Optional[AnyID], place: Place) -> None:
        self._begin(joined, object_id, name, place)
        self._begin_again()
        self._element, self._shape, self._order = _layout_of(_described(joined))
        self._flat = (self._element, (math.prod(self._shape),))

    def _begin_again(self) -> None:
        self._memory: Optional[Memory] = None
        # The thread that has the lock.
        self._owner = 0

    @classmethod
    def zeros(
        cls,
        shape: Shape,
        dtype: Any = "float64",
        *,
        name: Optional[AnyID] = None,
        client: Optional[PlasmaClient] = None,
        keep: bool = False,
    ) -> SharedTensor:
        """One of zeros. `name` is a name or an id by which others `open` it, a random id if none is given.

        With `keep` it lives until somebody deletes it, by `unlink` or `PlasmaClient.delete`, also while nobody has it open. Raises
        PlasmaObjectExists, PlasmaStoreFull.
        """
        return cls._create(described(shape, dtype_of(dtype)), name, client, keep)

    empty = zeros

    @classmethod
    def full(
        cls,
        shape: Shape,
        value: Any,
        dtype: Any = None,
        *,
        name: Optional[AnyID] = None,
        client: Optional[PlasmaClient] = None,
        keep: bool = False,
    ) -> SharedTensor:
        """One with the same value everywhere, of its type if no `dtype` is given."""
        import numpy

        filler = numpy.asarray(value, None if dtype is None else dtype_of(dtype).numpy())
        return cls.from_array(numpy.broadcast_to(filler, sizes_of(shape)), name=name, client=client, keep=keep)

    @classmethod
    def like(
        cls, array: Any, *, name: Optional[AnyID] = None, client: Optional[PlasmaClient] = None, keep: bool = False
    ) -> SharedTensor:
        """One of zeros, with the shape and the type of an array of any library."""
        source = _source(array)
        given = source.tensor
        tensor = _abi.DLTensor(None, given.device, given.ndim, given.dtype, given.shape)
        return cls._create(tensor, name, client, keep)

    @classmethod
    def from_array(
        cls, array: Any, *, name: Optional[AnyID] = None, client: Optional[PlasmaClient] = None, keep: bool = False
    ) -> SharedTensor:
        """A copy of an array of any library, which is there as soon as others can open it."""
        source = _source(array)
        return cls._create(source.tensor, name, client, keep)

    @classmethod
    def open(
        cls, name: AnyID, *, client: Optional[PlasmaClient] = None, timeout: Optional[float] = None
    ) -> SharedTensor:
        """The one that somebody made by this name or id, waiting for it so many seconds: None waits for as long as it takes.

        Raises PlasmaTimeout, or PlasmaObjectNotFound where nothing was waited for; PlasmaObjectAlreadySealed.
        """
        client = client_or_default(client)
        return cls(cls._join_named(client, name, timeout), id_of(name), name, client._place)

    @classmethod
    def _create(
        cls, tensor: _abi.DLTensor, name: Optional[AnyID], client: Optional[PlasmaClient], keep: bool
    ) -> SharedTensor:
        client = client_or_default(client)
        object_id = ObjectID.from_random() if name is None else id_of(name)
        text = name if isinstance(name, str) else None
        options = _abi.tensor_shared_options(flags=_abi.TENSOR_SHARED_KEEP if keep else 0)
        options.struct_size = ctypes.sizeof(options)
        options.name = None if text is None else c_text(text, "name")
        joined, handle = _participant(client), client._live()
        check(lib.tensor_shared_create(handle.pointer, c_id(object_id), tensor, options, joined.pointer))
        return cls(joined, object_id, text, client._place)

    @property
    def shape(self) -> Tuple[int, ...]:
        """Elements along each dimension."""
        self._not_lost()
        return self._shape

    @property
    def dtype(self) -> str:
        """Name of the element type, such as "float32"."""
        self._not_lost()
        return self._element.name

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self._element.nbytes(math.prod(self.shape))

    @property
    def array(self) -> Any:
        """A `numpy.ndarray` over the shared memory, which can be written. It keeps the memory, also when this was closed.

        Elements that share bytes come as bytes, in one dimension.
        """
        flat = self._mapped().array(self._flat)
        return flat.reshape(self._shape, order=self._order) if self._element.itemsize else flat

    @property
    def data(self) -> memoryview:
        """The bytes of all elements in the shared memory, which can be written."""
        return self._mapped().view()

    @property
    def version(self) -> int:
        """How often the lock was taken and given back: odd while somebody has it. Even and the same as before says that nobody wrote
        under the lock in between."""
        joined, out = self._live(), ctypes.c_uint64()
        check(lib.tensor_shared_version(joined.pointer, out))
        return out.value

    def lock(self, timeout: Optional[float] = None) -> SharedLock:
        """The lock, to be taken for a `with` block: for other threads and for all processes, if they ask for it as well.

        Waits so many seconds, then raises PlasmaTimeout; None waits for as long as it takes. When its owner died, whoever comes next
        gets it, and `owner_died` of it is true. A thread that has it already gets PlasmaBusy.
        """
        return SharedLock(self, timeout)

    def snapshot(self, timeout: Optional[float] = None) -> Any:
        """A copy, as a `numpy.ndarray`, of what was there at one moment when nobody had the lock: no mixture.

        That holds for those who write under the lock. Raises PlasmaCorrupt when the last of them died, until somebody locks it again.
        """
        import numpy

        self._not_lost()
        if not self._element.itemsize:
            copy = numpy.empty(self.nbytes, numpy.uint8)
        else:
            copy = numpy.empty(self._shape, self._element.numpy(), order=self._order)
        self._copy_to(copy.ctypes.data, from_seconds(timeout))
        return copy

    def freeze(self, timeout: Optional[float] = 0, copy: bool = False) -> ObjectID:
        """Makes it an ordinary sealed object, which the kernel lets nobody write any more, and returns its id.

        This one is closed by that; `PlasmaClient.get_tensor` reads it. Waits so many seconds until all others have closed it, then
        raises PlasmaBusy, which names them; 0 not at all, None for as long as it takes. Raises PlasmaExported, a BufferError, while
        there are arrays of it here.

        With `copy` everything goes on, and a snapshot is sealed as an object of its own; it is writers then that are waited for.
        """
        joined = self._live()
        if copy:
            return self._frozen_copy(from_seconds(timeout))
        self._unmap()
        status = joined.wait(lambda left_ms: lib.tensor_shared_freeze(joined.pointer, left_ms), from_seconds(timeout))
        try:
            check(status)
        except PlasmaBusy as error:
            raise PlasmaExported(str(error)) if _views_of(joined) else error
        self._end("frozen")
        return self._id

    def close(self) -> None:
        """Lets go of it. Arrays keep the memory, and it open, as long as they live. May be repeated."""
        if self.state == "open":
            self._end("closed")

    def __enter__(self) -> SharedTensor:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()

    def _exported(self, versioned: bool) -> Any:
        return managed_of(_hold(self._live()), versioned)

    def _copied(self) -> Any:
        return self.snapshot()

    def __reduce__(self) -> Tuple[Any, ...]:
        self._live()
        layout = (self._element.name, self._shape, self._order)
        return shared_again, (self._place, self._id.binary(), self.name, layout)

    def __repr__(self) -> str:
        lost = self.state == "lost"
        known = "" if lost else f"shape={self.shape}, dtype={self.dtype!r}, "
        return f"SharedTensor({known}state={self.state!r}, name={self.name!r}, object_id={self._id!r})"

    def _mapped(self) -> Memory:
        joined = self._live()
        memory = self._memory
        if memory is None:
            memory = self._memory = Memory(_hold(joined), _described(joined).data, self.nbytes, readonly=False)
        return memory

    def _unmap(self) -> None:
        """Raises when that would take the memory away from under somebody."""
        collect_unconsumed()
        memory = self._memory
        views = 0 if memory is None else memory.views()
        if views:
            raise PlasmaExported(f"shared tensor {self._id.hex()} cannot be frozen: {views} views of it are still here")
        self._memory = None

    @classmethod
    def _join(cls, client: PlasmaClient, object_id: ObjectID, timeout_ms: int) -> Participant:
        joined, handle, wanted = _participant(client), client._live(), c_id(object_id)
        check(joined.wait(lambda left: lib.tensor_shared_open(handle.pointer, wanted, left, joined.pointer), timeout_ms))
        return joined

    def _copy_to(self, address: int, timeout_ms: int) -> None:
        joined, size = self._live(), self.nbytes
        check(joined.wait(lambda left: lib.tensor_shared_snapshot(joined.pointer, address, size, left), timeout_ms))

    def _frozen_copy(self, timeout_ms: int) -> ObjectID:
        def copied(client: PlasmaClient) -> ObjectID:
            if self._order == "F":
                return client.put_tensor(self.snapshot())
            object_id = ObjectID.from_random()
            held = [client.create_tensor(object_id, self._shape, self.dtype)]
            return client._finish(object_id, held, lambda new: self._copy_to(new._address, timeout_ms), client.seal)

        object_id: ObjectID = self._asked(copied)
        return object_id


def shared_again(place: Place, name: bytes, text: Optional[str], layout: Tuple[str, Tuple[int, ...], str]) -> SharedTensor:
    """The shared tensor that was pickled, or one that raises when it is used."""
    object_id = ObjectID(name)
    try:
        joined = reached(place, lambda client: SharedTensor._join(client, object_id, 0))
        shared = SharedTensor(joined, object_id, text, place)
        # Nobody opened it, so nobody forgot to close it.
        shared._forgettable = True
        found = (shared._element.name, shared._shape, shared._order)
        if found != layout:
            what = f"was {layout[0]} of shape {layout[1]}, and now is {found[0]} of shape {found[1]}: another one"
            raise PlasmaInvalidArgument(f"shared tensor {object_id.hex()} of the pickle {what}")
        return shared
    except PlasmaError as error:
        lost: SharedTensor = SharedTensor._lost(object_id, text, place, error)
        return lost


def _participant(client: PlasmaClient) -> Participant:
    return Participant(client, _abi.tensor_shared, lib.tensor_shared_close)


def _hold(joined: Participant) -> Hold:
    """What keeps the memory, and the tensor from being frozen."""
    hold = Hold()
    check(lib.tensor_shared_buffer(joined.pointer, hold))
    return hold


def _views_of(joined: Participant) -> int:
    """How many DLPack tensors of it there are here, which only the library counts."""
    out = ctypes.c_size_t()
    check(lib.tensor_shared_views(joined.pointer, out))
    return out.value


def _described(joined: Participant) -> _abi.tensor_description:
    out = _abi.tensor_description(ctypes.sizeof(_abi.tensor_description))
    check(lib.tensor_shared_describe(joined.pointer, out))
    return out


def _layout_of(found: _abi.tensor_description) -> Tuple[DType, Tuple[int, ...], Literal["C", "F"]]:
    """Element type, shape, and numpy's letter for row-major or column-major."""
    element, shape = element_of(found.dtype), tuple(found.shape[: found.ndim])
    rows = row_major(shape, element.itemsize)
    is_row_major = 0 in shape or not element.itemsize or _same(shape, found.byte_strides[: found.ndim], rows)
    return element, shape, "C" if is_row_major else "F"


def _same(shape: Tuple[int, ...], strides: Sequence[int], others: Sequence[int]) -> bool:
    return all(size == 1 or stride == other for size, stride, other in zip(shape, strides, others))


def _source(array: Any) -> Source:
    source = Source(array)
    if source.padded:
        raise PlasmaUnsupported("elements of less than a byte that have a byte each cannot be shared; pack them, or share uint8")
    return source
