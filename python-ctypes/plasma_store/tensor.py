"""Tensor: an array in an object's memory, for numpy, torch and every other library that speaks DLPack."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Dict, Optional, Tuple

from . import _abi
from ._lib import lib
from .buffer import Hold
from .dlpack import (
    LEGACY,
    NAMES,
    VERSIONED,
    collect_unconsumed,
    delete,
    export,
    managed_legacy,
    managed_versioned,
)
from .errors import PlasmaUnsupported

if TYPE_CHECKING:
    from typing_extensions import CapsuleType

CPU = (_abi.kDLCPU, 0)
_KINDS = {_abi.kDLInt: "i", _abi.kDLUInt: "u", _abi.kDLFloat: "f"}


class Tensor:
    """An array that lies in a store's shared memory. Made by `PlasmaClient.get_tensor` and `create_tensor`.

    `np.asarray(tensor)`, `np.from_dlpack(tensor)`, `torch.from_dlpack(tensor)` do not copy. The memory is kept for as long as
    this, or any array made of it, lives: after the client was disconnected, the object deleted, the store ended.
    """

    __slots__ = ("__weakref__", "_address", "_hold", "_typestr", "dtype", "itemsize", "shape", "strides")

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
        managed = managed_versioned(hold)
        tensor = managed.contents.dl_tensor
        code, bits = tensor.dtype.code, tensor.dtype.bits
        self._hold = hold
        self._address: int = (tensor.data or 0) + tensor.byte_offset
        self.itemsize = bits // 8
        self.shape = tuple(tensor.shape[: tensor.ndim])
        self.strides = tuple(stride * self.itemsize for stride in tensor.strides[: tensor.ndim])
        known = (code, bits) in NAMES and tensor.dtype.lanes == 1
        lanes = tensor.dtype.lanes
        delete(managed)
        if not known:
            raise PlasmaUnsupported(f"elements of DLPack type {code} with {bits} bits in {lanes} lanes have no name here")
        self.dtype = NAMES[code, bits]
        self._typestr = f"{'|' if bits == 8 else '<'}{_KINDS[code]}{self.itemsize}"

    # An array made of a capsule that its consumer dropped on the way is let go of here at the latest.
    def __del__(self, collect: Any = collect_unconsumed) -> None:
        collect()

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return math.prod(self.shape) * self.itemsize

    @property
    def readonly(self) -> bool:
        """Whether it must not be written. One made by `create_tensor` becomes read-only when it is sealed."""
        return not lib.plasma_buffer_mutable_data(self._hold.pointer)

    @property
    def data(self) -> memoryview:
        """All bytes in the order in which they lie in memory, without a copy; read-only if the tensor is."""
        return self._hold.view(self._address, self.nbytes, self.readonly)

    def numpy(self) -> Any:
        """A `numpy.ndarray` over the same memory; read-only if the tensor is."""
        import numpy

        return numpy.asarray(self)

    @property
    def __array_interface__(self) -> Dict[str, Any]:
        return {
            "version": 3,
            "shape": self.shape,
            "strides": self.strides,
            "typestr": self._typestr,
            "data": (self._address, self.readonly),
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
