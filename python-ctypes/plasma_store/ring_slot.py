"""Slots of a tensor ring, as who fills one and as who reads one has them."""

from __future__ import annotations

import ctypes
import math
from types import TracebackType
from typing import TYPE_CHECKING, Any, Optional, Tuple, Type

from . import _abi
from ._lib import bare, lib
from .dlpack import Shape, collect_unconsumed, described, sizes_of
from .dtypes import DTYPES, dtype_of, element_of
from .elements import SharedElements
from .errors import PlasmaExported, PlasmaInvalidArgument, check
from .memory import Layout, Memory

if TYPE_CHECKING:
    from typing_extensions import Self

    from .participant import Participant
    from .tensor_ring import TensorRing

_release, _publish, _abandon = bare("tensor_ring_release"), bare("tensor_ring_publish"), bare("tensor_ring_abandon")
_BYTE = DTYPES["uint8"]


class Slot(SharedElements):
    """A slot of a ring while somebody here has it: what `RingSlot` and `RingMessage` have in common."""

    __slots__ = ("__weakref__", "_given", "_layout", "_memory", "_ring")
    _state = "had"

    def __init__(self, ring: TensorRing, given: Any, memory: Memory) -> None:
        # None once it was given back.
        self._given: Any = given
        self._ring, self._memory = ring, memory
        # Where each message has its own, and it is known.
        self._layout: Optional[Layout] = None

    # Whoever forgets one gives it back.
    def __del__(self) -> None:
        if self._given is not None:
            self._let_go()

    @property
    def array(self) -> Any:
        """A `numpy.ndarray` in the slot, only good while this has it. Elements that share bytes come as bytes, in one dimension."""
        if self._given is None:
            self._live()
        return self._memory.array(self._ring._layout or self._known_layout())

    @property
    def data(self) -> memoryview:
        """The bytes of all elements, in the slot."""
        memory, (element, shape) = self._live(), self._ring._layout or self._known_layout()
        return memory.view()[: element.nbytes(math.prod(shape))]

    @property
    def shape(self) -> Tuple[int, ...]:
        """Elements along each dimension."""
        return (self._ring._layout or self._known_layout())[1]

    @property
    def dtype(self) -> str:
        """Name of the element type, such as "float32"."""
        return (self._ring._layout or self._known_layout())[0].name

    def __repr__(self) -> str:
        if self._given is None:
            return f"{type(self).__name__}(state='given back', ring={self._ring._name()!r})"
        return f"{type(self).__name__}(shape={self.shape}, dtype={self.dtype!r}, state={self._state!r}, ring={self._ring._name()!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        if self._given is None:
            return
        if error is None:
            self._done()
        else:
            # The frames of the exception have their arrays still.
            self._let_go()

    def _done(self) -> None:
        """What a slot is got for."""
        raise NotImplementedError

    def _exported(self, versioned: bool) -> Any:
        self._live()
        if versioned:
            new = ctypes.POINTER(_abi.DLManagedTensorVersioned)()
            check(lib.tensor_ring_export_versioned(self._memory.kept.pointer, self._given, new))
            return new
        old = ctypes.POINTER(_abi.DLManagedTensor)()
        check(lib.tensor_ring_export(self._memory.kept.pointer, self._given, old))
        return old

    def _live(self) -> Memory:
        if self._given is None:
            raise PlasmaInvalidArgument(f"this slot of {self._ring._name()} was given back")
        return self._memory

    def _known_layout(self) -> Layout:
        """Of this message, where each has its own."""
        raise NotImplementedError

    def _end(self, call: Any, *more: Any) -> None:
        """Makes the call that gives the slot back. While there are views it raises PlasmaExported, and all is as it was."""
        given, memory = self._given, self._memory
        if given is None or memory.views():
            views = self._live().views()
            raise PlasmaExported(f"there are {views} views of this slot of {self._ring._name()} still")
        status = call(memory.kept.pointer, ctypes.byref(given), *more)
        if status == _abi.PLASMA_BUSY:
            collect_unconsumed()
            status = call(memory.kept.pointer, ctypes.byref(given), *more)
            if status == _abi.PLASMA_BUSY:
                raise PlasmaExported(f"somebody has a DLPack tensor of this slot of {self._ring._name()} still")
        # A message that cannot be is not published, and the slot still had. What ended otherwise has ended, too.
        if status != _abi.PLASMA_INVALID_ARGUMENT:
            self._given = None
        # A forked child has nothing of its parent's to give back.
        if status and status != _abi.PLASMA_FORKED:
            check(status)

    def _let_go(self, of_loop: int = 0) -> None:
        """Gives the slot back without publishing it: now, or when nobody has a view of it any more but the variable of a loop."""
        given, self._given = self._given, None
        left = Left(given, self._memory, self._give_back)
        if not left.go(of_loop):
            self._ring._left.append(left)

    @staticmethod
    def _give_back(attached: Participant, given: Any) -> int:
        raise NotImplementedError


class Left:
    """A slot that nobody here wants any more, and that is given back when nobody has a view of it."""

    __slots__ = ("_give_back", "_given", "_memory")

    def __init__(self, given: Any, memory: Memory, give_back: Any) -> None:
        self._given, self._memory, self._give_back = given, memory, give_back

    def go(self, of_loop: int = 0) -> bool:
        """Gives it back, if there are not more views than that; whether it did."""
        collect_unconsumed()
        return self._memory.views() <= of_loop and self._give_back(self._memory.kept, self._given) != _abi.PLASMA_BUSY


class RingSlot(Slot):
    """A free slot, to be filled in place and published. Made by `TensorRing.acquire`.

    As a context manager it is published at the end of the block, or abandoned when an exception leaves that.
    """

    __slots__ = ()
    _state = "acquired"

    def layout(self, shape: Shape, dtype: Any) -> None:
        """Says what the message in the slot is, where the ring has messages of any kind: `array` is of that kind from now on.

        Until then it is all bytes of the slot.
        """
        element, sizes = dtype_of(dtype), sizes_of(shape)
        if self._ring._layout is not None and self._ring._layout != (element, sizes):
            known = self._ring._layout
            raise PlasmaInvalidArgument(f"messages of this ring are {known[0].name} of shape {known[1]}, not {dtype} of {sizes}")
        if any(size < 0 for size in sizes) or element.nbytes(math.prod(sizes)) > self._live().size:
            raise PlasmaInvalidArgument(f"a message of {dtype} of shape {sizes} is no part of a slot of {self._memory.size} bytes")
        self._layout = (element, sizes)

    def _exported(self, versioned: bool) -> Any:
        if self._layout is not None and self._ring._layout is None:
            raise BufferError("the library does not know what this message is going to be; export `array`")
        return super()._exported(versioned)

    def publish(self) -> None:
        """Hands the slot on to readers. Raises PlasmaExported, a BufferError, while there are arrays of it; PlasmaClosed."""
        if self._ring._layout is None:
            return self._end(_publish, ctypes.byref(described(self.shape, self._known_layout()[0])))
        self._end(_publish, None)

    _done = publish

    def abandon(self) -> None:
        """Gives the slot back as it was got: it is free again, and nobody reads it."""
        self._end(_abandon)

    def _known_layout(self) -> Layout:
        return self._layout or (_BYTE, (self._live().size,))

    @staticmethod
    def _give_back(attached: Participant, given: Any) -> int:
        status: int = _abandon(attached.pointer, ctypes.byref(given))
        return status


class RingMessage(Slot):
    """A slot that was published, to be read in place and released. Made by `TensorRing.take`.

    As a context manager it is released at the end of the block. Its memory is read-only here.
    """

    __slots__ = ()
    _state = "taken"

    def release(self) -> None:
        """Gives the slot back. Raises PlasmaExported, a BufferError, while there are arrays of it."""
        self._end(_release)

    _done = release

    def _known_layout(self) -> Layout:
        if self._layout is None:
            self._live()
            out = _abi.tensor_description(ctypes.sizeof(_abi.tensor_description))
            check(lib.tensor_ring_message(self._memory.kept.pointer, self._given, out))
            self._layout = (element_of(out.dtype), tuple(out.shape[: out.ndim]))
        return self._layout

    @staticmethod
    def _give_back(attached: Participant, given: Any) -> int:
        status: int = _release(attached.pointer, ctypes.byref(given))
        return status
