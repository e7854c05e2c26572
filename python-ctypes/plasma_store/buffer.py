"""Holds on objects, and views of their memory.

A view is a memoryview over a ctypes array that lies on the object's memory and owns the hold. A memoryview keeps its
exporter alive, so the hold ends with the last view, or array or tensor, that was made of it, in whatever order things go:
also after the client was disconnected and after the store ended.
"""

from __future__ import annotations

import ctypes
import functools
from abc import ABC
from typing import TYPE_CHECKING, Any, List, NoReturn, Optional, Protocol, Tuple

from . import _abi
from ._lib import PyBUF_ANY_CONTIGUOUS, PyBuffer, bare, buffer_get, buffer_release, lib

if TYPE_CHECKING:
    _Pointer = ctypes._Pointer[_abi.plasma_buffer]
else:
    _Pointer = ctypes.POINTER(_abi.plasma_buffer)
_data, _size = bare("plasma_buffer_data"), bare("plasma_buffer_size")


class Buffer(Protocol):
    """Bytes of an object: a `pyarrow.Buffer` where pyarrow is installed, else a `memoryview`.

    `memoryview(buffer).cast("B")` is the same of both.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Any: ...

    def __buffer__(self, flags: int, /) -> memoryview: ...


class PlasmaBuffer(ABC):
    """The name by which old programs ask for a buffer's type: `isinstance(buffer, PlasmaBuffer)`.

    True of whatever is a `pyarrow.Buffer`, or without pyarrow a `memoryview`. Only a client makes such buffers.
    """

    def __init__(self) -> NoReturn:
        raise TypeError("a PlasmaBuffer is made by PlasmaClient.create and get_buffers, not by itself")

    @classmethod
    def __subclasshook__(cls, other: type) -> bool:
        pyarrow = pyarrow_or_none()
        return issubclass(other, memoryview if pyarrow is None else pyarrow.Buffer)


class Hold(_Pointer):
    """A `plasma_buffer *`, released when this is collected; false while it is NULL.

    It is made before the call that fills it, whose out-parameter it is. So there is no moment at which an exception, such as that
    of Ctrl-C, could lose a buffer that the library has handed out.
    """

    __slots__ = ()
    _type_ = _abi.plasma_buffer

    # Bound as a default because globals may be gone when the interpreter ends. In a forked child the library does nothing here.
    def __del__(self, release: Any = bare("plasma_buffer_release")) -> None:
        release(self)

    def sealed_data(self) -> memoryview:
        """The data of a sealed object that is not private to this process, read-only."""
        return self.view(_data(self), _size(self), readonly=True)

    def data(self) -> memoryview:
        """The object's data: writable while it is being created and when it is private to this process, else read-only."""
        address = lib.plasma_buffer_mutable_data(self)
        return self.view(address, _size(self), readonly=False) if address else self.sealed_data()

    def metadata(self) -> memoryview:
        """The user's metadata, read-only."""
        return self.view(lib.plasma_buffer_metadata(self), lib.plasma_buffer_metadata_size(self), readonly=True)

    def view(self, address: Optional[int], size: int, readonly: bool) -> memoryview:
        """A view of memory that this hold keeps. A zero-sized object may have no address."""
        array: Any = array_type(ctypes.c_ubyte, size).from_address(address or 0)
        array.hold = self
        view = memoryview(array).cast("B")
        return view.toreadonly() if readonly else view


class Source:
    """The bytes of any bytes-like object and where they lie, for as long as this lives. ctypes alone finds only writable ones.

    Raises TypeError for what has no bytes, BufferError for bytes with gaps.
    """

    __slots__ = ("_view",)

    def __init__(self, value: Any) -> None:
        self._view = PyBuffer()
        buffer_get(value, self._view, PyBUF_ANY_CONTIGUOUS)

    # Nothing was got while `obj` is NULL, and then nothing is released.
    def __del__(self, release: Any = buffer_release) -> None:
        if hasattr(self, "_view"):
            release(self._view)

    def __len__(self) -> int:
        size: int = self._view.len
        return size

    @property
    def address(self) -> Optional[int]:
        """Where they lie; None for no bytes at an address of their own."""
        address: Optional[int] = self._view.buf
        return address

    @property
    def pointer(self) -> ctypes.c_char_p:
        """As C takes it; NULL for no bytes at an address of their own."""
        return ctypes.c_char_p(self._view.buf)


@functools.lru_cache(maxsize=256)
def array_type(kind: Any, count: int) -> Any:
    """The type of an array. ctypes forgets it with the last such array, and to make it again takes longer than a get."""
    return kind * count


def new_holds(count: int) -> Tuple[Any, List[Hold]]:
    """Holds on nothing yet, and the array that they lie in."""
    array = array_type(Hold, count)()
    # Each is taken out once: every object for a place releases what is there.
    return array, [*array]


def wrap(view: memoryview) -> Buffer:
    """The same bytes as a `pyarrow.Buffer`, where pyarrow is installed: mutable if the view is."""
    pyarrow = pyarrow_or_none()
    if pyarrow is None:
        return view
    buffer: Buffer = pyarrow.py_buffer(view)
    return buffer


@functools.cache
def pyarrow_or_none() -> Any:
    """pyarrow, or None. Imported at the first use: it takes longer than all the rest of a short program."""
    try:
        import pyarrow
    except ImportError:
        return None
    return pyarrow
