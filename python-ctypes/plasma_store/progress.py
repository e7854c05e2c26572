"""progress: how far a put is that takes longer than a second, for whoever asked to be told."""

from __future__ import annotations

import ctypes
import math
import sys
import time
from typing import TYPE_CHECKING, Any, Callable, Optional, Tuple, Union

from ._lib import lib
from .buffer import Hold, Source
from .dlpack import Source as TensorSource
from .dlpack import row_major
from .dtypes import BY_ELEMENT, DType
from .errors import check

if TYPE_CHECKING:
    from .tensor import Tensor

Callback = Callable[[int, int], Any]
Progress = Union[bool, Callback, None]
# What is not larger is copied by one call, and nobody is told.
PART = 32 << 20
# When somebody is first told, and how long nothing is told then.
AFTER_S, EVERY_S = 1.0, 0.1
_GIB = 1 << 30


class Copier:
    """Copies into one object, by one call or, where somebody wants to be told how far it is, in parts."""

    def __init__(self, total: int, progress: Progress) -> None:
        self._tell = _teller(progress)
        self.is_told = is_told(progress, total)
        """Whether somebody may be told, so that it has to be in parts."""
        self._total, self._done, self._told = total, 0, False
        self._next = time.monotonic() + AFTER_S

    def write(self, hold: Hold, offset: int, address: Optional[int], size: int) -> None:
        """Copies so many bytes from an address to an offset of the object's data."""
        part = size if self._tell is None else PART
        for begin in range(0, size, max(part, 1)):
            length = min(part, size - begin)
            start = ctypes.c_char_p((address or 0) + begin)
            check(lib.plasma_buffer_write(hold, offset + begin, start, length))
            self.count(length)
            self._report()

    def count(self, size: int) -> None:
        """Counts bytes that somebody else wrote."""
        self._done += size

    def _report(self) -> None:
        if self._tell is None:
            return
        now, is_end = time.monotonic(), self._done >= self._total
        if now >= self._next or (is_end and self._told):
            self._told, self._next = True, now + EVERY_S
            self._tell(self._done, self._total)


class Bytes:
    """Bytes to be put in parts, as `values` has other things to be put."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.size: int = len(source)

    def write(self, hold: Hold, copier: Copier) -> None:
        """Fills an object."""
        copier.write(hold, 0, self._source.address, self.size)

    def to_bytes(self) -> Any:
        """Never asked for: they are too many."""
        raise NotImplementedError(f"{self.size} bytes are put in parts")


class Elements:
    """An array that lies row by row, to be put in parts."""

    def __init__(self, source: TensorSource, dtype: DType, shape: Tuple[int, ...]) -> None:
        self._source = source
        self.dtype: str = dtype.name
        self.shape: Tuple[int, ...] = shape
        self.size: int = dtype.nbytes(math.prod(shape))

    def write(self, tensor: Tensor, copier: Copier) -> None:
        """Fills a tensor that is being created."""
        hold, start = tensor._hold, self._source.tensor
        offset = tensor._address - lib.plasma_buffer_mutable_data(hold)
        copier.write(hold, offset, (start.data or 0) + start.byte_offset, self.size)


def elements_of(source: TensorSource) -> Optional[Elements]:
    """An array as one that can be put in parts; None for one that cannot."""
    given = source.tensor
    element = given.dtype
    dtype = BY_ELEMENT.get(element.code | element.bits << 8 | element.lanes << 16)
    shape = tuple(given.shape[: given.ndim])
    strides = tuple(given.strides[: given.ndim]) if given.strides else row_major(shape, 1)
    if dtype is None or source.padded or strides != row_major(shape, 1):
        return None
    return Elements(source, dtype, shape)


def is_told(progress: Progress, size: int) -> bool:
    """Whether a put of so many bytes is one that somebody may be told of."""
    return size > PART and _teller(progress) is not None


def _teller(progress: Progress) -> Optional[Callback]:
    if not isinstance(progress, bool):
        return progress
    return _on_terminal if progress and sys.stderr is not None and sys.stderr.isatty() else None


def _on_terminal(done: int, total: int) -> None:
    end = "\n" if done >= total else ""
    print(f"\rplasma_store: {done / _GIB:.1f} of {total / _GIB:.1f} GiB stored", end=end, file=sys.stderr, flush=True)
