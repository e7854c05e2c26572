"""Elements: how other libraries take over what lies in shared memory, from shared tensors and from slots of rings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional, Tuple

from . import _abi
from .dlpack import CPU, LEGACY, VERSIONED, export

if TYPE_CHECKING:
    from typing_extensions import CapsuleType


class Elements:
    """What `SharedTensor` and the slots of a `TensorRing` are to numpy, torch and others."""

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

    def __array__(self, dtype: Any = None, copy: Optional[bool] = None) -> Any:
        array = self.array
        wanted = array.dtype if dtype is None else dtype
        if copy is False and wanted != array.dtype:
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
        """A capsule for one consumer, over the shared memory itself unless `copy` is true."""
        if stream is not None:
            raise ValueError(f"memory of the CPU has no streams, so stream must be None, not {stream!r}")
        if dl_device is not None and tuple(dl_device) != CPU:
            raise BufferError(f"the elements are on device {CPU} and cannot be exported to {tuple(dl_device)}")
        versioned = max_version is not None and max_version[0] >= _abi.DLPACK_MAJOR_VERSION
        if copy:
            copied: CapsuleType = self._copied().__dlpack__(**({"max_version": max_version} if versioned else {}))
            return copied
        return export(self._exported(versioned), VERSIONED if versioned else LEGACY)
