"""Memory: shared memory as arrays and bytes, made again and again of the same place, and whether anybody still has some of them.

Nothing in Python tells when the last view of memory is gone but the count of references to what they are all views of. That is
looked at when somebody wants the memory back.
"""

from __future__ import annotations

import ctypes
import math
import sys
from typing import Any, Dict, Optional, Tuple

from .buffer import array_type
from .dlpack import row_major
from .dtypes import DType

Layout = Tuple[DType, Tuple[int, ...]]


class Exporter:
    """What numpy makes an array of. It keeps what the memory needs to stay."""

    __slots__ = ("__array_interface__", "_kept")

    def __init__(self, kept: object, interface: Dict[str, Any]) -> None:
        self._kept = kept
        self.__array_interface__ = interface


class Memory:
    """Some bytes of shared memory, kept by `kept`. Whatever is made of them keeps that, too."""

    __slots__ = ("_address", "_elements", "_layout", "_raw", "_readonly", "_typed", "kept", "size")

    def __init__(self, kept: Any, address: Optional[int], size: int, readonly: bool) -> None:
        self.kept, self._address, self._readonly = kept, address or 0, readonly
        self.size = size
        # Of these two everything else is a view, and nobody is given them themselves.
        self._raw: Any = array_type(ctypes.c_ubyte, size).from_address(self._address)
        self._raw.kept = kept
        self._elements: Any = self._bytes() if "numpy" in sys.modules else object()
        # And of the second the last array that was made, for its like.
        self._typed: Any = None
        self._layout: Optional[Layout] = None

    def view(self) -> memoryview:
        """The bytes."""
        view = memoryview(self._raw).cast("B")
        return view.toreadonly() if self._readonly else view

    def array(self, layout: Layout) -> Any:
        """A new `numpy.ndarray` over the first of them; elements that share bytes come as bytes, in one dimension."""
        # Slots are used again and again, and to make it anew takes longer than all the rest.
        if self._layout is not layout:
            self._typed, self._layout = self._of(layout), layout
        return self._typed.view()

    def _of(self, layout: Layout) -> Any:
        element, shape = layout
        if type(self._elements) is object:
            self._elements = self._bytes()
        # Looked up first: types that numpy does not have may be missing.
        dtype = element.numpy() if element.itemsize else None
        used = self._elements[: element.nbytes(math.prod(shape))]
        # Its base is what is counted below, as that of everything that is made of it.
        return used if dtype is None else used.view(dtype).reshape(shape)

    def _bytes(self) -> Any:
        import numpy

        if not self.size:
            # Its address may be none, which older ones do not take.
            return numpy.empty(0, "u1")
        data = (self._address, self._readonly)
        interface = {"version": 3, "shape": (self.size,), "strides": (1,), "typestr": "|u1", "data": data}
        return numpy.asarray(Exporter(self.kept, interface))

    def views(self) -> int:
        """How many arrays and memoryviews there are of it."""
        others = _references(self._raw) + _references(self._elements) - _OURS
        return others if self._layout is None else others - 1


_references = sys.getrefcount
# How many references there are that nobody else has; the number differs between versions of Python.
_OURS = 0
_OURS = Memory(None, None, 0, True).views()
