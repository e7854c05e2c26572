"""Elements: how other libraries take over what lies in shared memory, from tensors, shared tensors and slots of rings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional, Tuple

from . import _abi
from .dlpack import CPU, export

if TYPE_CHECKING:
    from typing_extensions import CapsuleType


class Elements:
    """What `Tensor`, `SharedTensor` and the slots of a `TensorRing` are to numpy, torch and others."""

    __slots__ = ()

    def _array(self) -> Tuple[Any, bool]:
        """A `numpy.ndarray` of the elements, and whether that is a copy."""
        raise NotImplementedError

    def _capsule(self, versioned: bool, copy: bool) -> CapsuleType:
        """A new capsule of DLPack, over the memory or over a copy."""
        raise NotImplementedError

    def __array__(self, dtype: Any = None, copy: Optional[bool] = None) -> Any:
        array, is_copy = self._array()
        wanted = array.dtype if dtype is None else dtype
        if copy is False and (is_copy or wanted != array.dtype):
            raise ValueError(f"elements of {array.dtype} cannot be an array of {wanted} without a copy")
        return array.astype(wanted) if copy or wanted != array.dtype else array

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

        `copy=True` gives a copy in memory of its own, which can be written. Raises BufferError for another device than the CPU.
        """
        if stream is not None:
            raise ValueError(f"memory of the CPU has no streams, so stream must be None, not {stream!r}")
        if dl_device is not None and tuple(dl_device) != CPU:
            wish = " without a copy" if copy is False else ""
            raise BufferError(f"the elements are on device {CPU} and cannot be exported to {tuple(dl_device)}{wish}")
        versioned = max_version is not None and max_version[0] >= _abi.DLPACK_MAJOR_VERSION
        return self._capsule(versioned, bool(copy))


class SharedElements(Elements):
    """Those of `SharedTensor` and of the slots of a `TensorRing`, which are arrays of numpy in the first place."""

    __slots__ = ()

    @property
    def array(self) -> Any:
        """A `numpy.ndarray` over the memory."""
        raise NotImplementedError

    def _exported(self, versioned: bool) -> Any:
        """A new managed tensor of DLPack over the memory."""
        raise NotImplementedError

    def _copied(self) -> Any:
        """A `numpy.ndarray` in memory of its own."""
        return self.array.copy()

    def _array(self) -> Tuple[Any, bool]:
        return self.array, False

    def _capsule(self, versioned: bool, copy: bool) -> CapsuleType:
        if copy:
            wanted = {"max_version": (_abi.DLPACK_MAJOR_VERSION, 0)} if versioned else {}
            copied: CapsuleType = self._copied().__dlpack__(**wanted)
            return copied
        return export(self._exported(versioned), versioned)
