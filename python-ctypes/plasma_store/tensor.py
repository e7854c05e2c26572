"""Tensor: an array in an object's memory, for numpy, torch and every other library that speaks DLPack."""

from __future__ import annotations

import ctypes
import math
import struct
from typing import TYPE_CHECKING, Any, Dict, Optional, Tuple

from . import _abi
from ._lib import bare, lib
from .buffer import Hold
from .dlpack import (
    LEGACY,
    NAMES,
    VERSIONED,
    _exports,
    collect_unconsumed,
    export,
    managed_legacy,
    managed_versioned,
)
from .errors import PlasmaUnsupported, check

if TYPE_CHECKING:
    from typing_extensions import CapsuleType

CPU = (_abi.kDLCPU, 0)
_KINDS = {_abi.kDLInt: "i", _abi.kDLUInt: "u", _abi.kDLFloat: "f"}
_READ_ONLY = _abi.DLPACK_FLAG_BITMASK_READ_ONLY
# DLPack's code, bits and lanes as they lie in memory -> name, bytes, and what `__array_interface__` writes.
_ELEMENTS = {
    code | bits << 8 | 1 << 16: (name, bits // 8, f"{'|' if bits == 8 else '<'}{_KINDS[code]}{bits // 8}")
    for (code, bits), name in NAMES.items()
}
# `tensor_description` with so many dimensions, all at once: its fields one by one take longer than all the rest of a get.
_describe = bare("tensor_describe")
_SIZE = ctypes.sizeof(_abi.tensor_description)
_LAYOUTS = [struct.Struct(f"<QQIIi4x{count}q{256 - 8 * count}x{count}q") for count in range(33)]


class _Exported:
    """What numpy makes an array of: a little faster than the tensor itself, of which it asks the same."""

    __slots__ = ("__array_interface__", "_hold")

    def __init__(self, hold: Hold, interface: Dict[str, Any]) -> None:
        self._hold = hold
        self.__array_interface__ = interface


class Tensor:
    """An array that lies in a store's shared memory. Made by `PlasmaClient.get_tensor` and `create_tensor`.

    `np.asarray(tensor)`, `np.from_dlpack(tensor)`, `torch.from_dlpack(tensor)` do not copy. The memory is kept for as long as
    this, or any array made of it, lives: after the client was disconnected, the object deleted, the store ended.
    """

    __slots__ = ("__weakref__", "_address", "_hold", "_sealed", "_typestr", "dtype", "itemsize", "shape", "strides")

    dtype: str
    """Name of the element type, such as "float32"."""
    itemsize: int
    """Bytes of one element."""
    shape: Tuple[int, ...]
    """Elements along each dimension; () is a single number."""
    strides: Tuple[int, ...]
    """Bytes from one element to the next along each dimension, as numpy counts them."""

    def __init__(self, hold: Hold) -> None:
        """Reads what the object says of itself. Raises PlasmaCorrupt when it is not a tensor."""
        out = _abi.tensor_description(_SIZE)
        status = _describe(hold, ctypes.byref(out))
        if status:
            check(status)
        ndim = out.ndim
        fields = _LAYOUTS[ndim].unpack_from(out)
        element = fields[3]
        if element not in _ELEMENTS:
            lanes, bits, code = element >> 16, element >> 8 & 0xFF, element & 0xFF
            raise PlasmaUnsupported(f"elements of DLPack type {code} with {bits} bits in {lanes} lanes have no name here")
        self.dtype, self.itemsize, self._typestr = _ELEMENTS[element]
        self.shape, self.strides = fields[5 : 5 + ndim], fields[5 + ndim :]
        self._address = fields[1]
        # Whatever is read-only now stays so.
        self._sealed = fields[2] & _READ_ONLY != 0
        self._hold = hold

    # An array made of a capsule that its consumer dropped on the way is let go of here at the latest.
    def __del__(self, exports: Any = _exports, collect: Any = collect_unconsumed) -> None:
        if exports:
            collect()

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return math.prod(self.shape) * self.itemsize

    @property
    def readonly(self) -> bool:
        """Whether it must not be written. One made by `create_tensor` becomes read-only when it is sealed."""
        return self._sealed or not lib.plasma_buffer_mutable_data(self._hold)

    @property
    def data(self) -> memoryview:
        """All bytes in the order in which they lie in memory, without a copy; read-only if the tensor is."""
        return self._hold.view(self._address, self.nbytes, self.readonly)

    def numpy(self) -> Any:
        """A `numpy.ndarray` over the same memory; read-only if the tensor is."""
        import numpy

        return numpy.asarray(_Exported(self._hold, self.__array_interface__))

    @property
    def __array_interface__(self) -> Dict[str, Any]:
        return {
            "version": 3,
            "shape": self.shape,
            "strides": self.strides,
            "typestr": self._typestr,
            "data": (self._address, self._sealed or self.readonly),
        }

    def __dlpack_device__(self) -> Tuple[int, int]:
        return CPU

    def __dlpack__(
        self,
        *,
        stream: Optional[Any] = None,
        max_version: Optional[Tuple[int, int]] = None,
        dl_device: Optional[Tuple[int, int]] = None,
        copy: Optional[bool] = None,
    ) -> CapsuleType:
        """A capsule for one consumer. From a consumer that does not know DLPack 1.0, that the memory is read-only is kept back.

        `copy=True` needs numpy.
        """
        if stream is not None:
            raise ValueError(f"memory of the CPU has no streams, so stream must be None, not {stream!r}")
        if dl_device is not None and tuple(dl_device) != CPU:
            raise BufferError(f"the tensor is on device {CPU} and cannot be exported to {tuple(dl_device)}")
        if copy:
            return self._copied()
        if max_version is not None and max_version[0] >= _abi.DLPACK_MAJOR_VERSION:
            return export(managed_versioned(self._hold), VERSIONED)
        return export(managed_legacy(self._hold), LEGACY)

    def _copied(self) -> CapsuleType:
        try:
            import numpy
        except ImportError as error:
            raise BufferError("a copy of the tensor can only be made where numpy is installed") from error
        capsule: CapsuleType = numpy.array(self).__dlpack__()
        return capsule

    def __repr__(self) -> str:
        return f"Tensor(shape={self.shape}, dtype={self.dtype!r}, readonly={self.readonly})"
