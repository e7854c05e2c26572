"""DLPack capsules: made of our tensors, and read from others' arrays."""

from __future__ import annotations

import ctypes
import operator
import sys
from collections import deque
from typing import TYPE_CHECKING, Any, Deque, Iterable, List, NamedTuple, Optional, Sequence, SupportsIndex, Tuple, Union

from . import _abi
from ._lib import capsule_is_valid, capsule_new, capsule_pointer, lib
from .buffer import Hold
from .dtypes import DType, dtype_of_interface
from .errors import PlasmaInvalidArgument, PlasmaUnsupported, check

if TYPE_CHECKING:
    from typing_extensions import CapsuleType

# As numpy takes it: a number by itself is one dimension.
Shape = Union[SupportsIndex, Iterable[SupportsIndex]]
CPU = (_abi.kDLCPU, 0)
LEGACY = b"dltensor"
VERSIONED = b"dltensor_versioned"
# A capsule keeps a pointer to its name and not the name, so the names must outlive every capsule, also at the end of the
# interpreter: these references are never given back.
for _name in (LEGACY, VERSIONED):
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(_name))

def managed_of(hold: Hold, versioned: bool, view: Optional[_abi.tensor_view_options] = None) -> Any:
    """A new `DLManagedTensorVersioned *` over the memory of a hold, with a hold of its own, or a `DLManagedTensor *`, which cannot say
    that the memory is read-only. Its deleter must be called."""
    if versioned:
        new = ctypes.POINTER(_abi.DLManagedTensorVersioned)()
        check(lib.tensor_view_versioned(hold, view, new) if view else lib.tensor_from_buffer_versioned(hold, new))
        return new
    old = ctypes.POINTER(_abi.DLManagedTensor)()
    check(lib.tensor_view(hold, view, old) if view else lib.tensor_from_buffer(hold, old))
    return old


def delete(managed: Any) -> None:
    """Lets go of a managed tensor of either kind. The deleter is C and may run in any thread."""
    managed.contents.deleter(managed)


class _Export(NamedTuple):
    """A capsule that was handed out, and the managed tensor in it."""

    capsule: object
    name: bytes
    managed: Any


# A consumer renames the capsule and takes the tensor over. For one that nobody consumed, a destructor would have to call the
# deleter; but a destructor in Python runs while an exception is set (the consumer failed, most likely) and loses it. So each
# capsule is remembered here, without a destructor, and looked at when the next one is made. Entries are taken out and put
# back one by one, which is atomic: threads never see the same one.
_exports: Deque[_Export] = deque()


def export(managed: Any, versioned: bool) -> CapsuleType:
    """A capsule over a new managed tensor, for one consumer."""
    collect_unconsumed()
    name = VERSIONED if versioned else LEGACY
    capsule: CapsuleType = capsule_new(ctypes.cast(managed, ctypes.c_void_p), name, None)
    _exports.append(_Export(capsule, name, managed))
    return capsule


def collect_unconsumed() -> None:
    """Deletes the tensors in capsules that nobody has any more and nobody consumed."""
    for _ in range(len(_exports)):
        try:
            entry = _exports.popleft()
        except IndexError:
            return
        if not capsule_is_valid(entry.capsule, entry.name):
            continue
        if _references(entry) > _OURS:
            _exports.append(entry)
        else:
            delete(entry.managed)


def _references(entry: _Export) -> int:
    return sys.getrefcount(entry.capsule)


# How many references there are to a capsule that only its entry has; the number differs between versions of Python.
_OURS = _references(_Export(object(), LEGACY, None))


class Source:
    """Another library's array, as a DLTensor to be read from. What lends it stays borrowed while this lives.

    A capsule is not consumed: it dies with this, and its own destructor gives the tensor back to whom it belongs. With `copy` an
    array of another device is copied to the host by the library that it is of.
    """

    tensor: _abi.DLTensor
    padded: bool
    """Whether elements that are smaller than a byte have one each."""

    def __init__(self, value: Any, copy: bool = False) -> None:
        self._kept: List[Any] = []
        self.padded = False
        _refuse_nulls(value)
        value = _pyarrows(value)
        if not hasattr(value, "__dlpack__"):
            self.tensor = self._from_interface(value)
            return
        try:
            capsule = _capsule_of(value, copy)
        except (BufferError, RuntimeError):
            # numpy lends no array this way whose type DLPack or numpy does not have, and before 2.1 no read-only one.
            if not hasattr(value, "__array_interface__") and not hasattr(value, "__array__"):
                raise
            self.tensor = self._from_interface(value)
        else:
            self.tensor = self._from_capsule(capsule)

    def managed(self) -> _abi.DLManagedTensorVersioned:
        """The same with flags, to be read from only: it has no deleter."""
        flags = _abi.DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED if self.padded else 0
        version = _abi.DLPackVersion(_abi.DLPACK_MAJOR_VERSION, _abi.DLPACK_MINOR_VERSION)
        return _abi.DLManagedTensorVersioned(version=version, flags=flags, dl_tensor=self.tensor)

    def _from_capsule(self, capsule: object) -> _abi.DLTensor:
        self._kept.append(capsule)
        managed: Any
        if capsule_is_valid(capsule, VERSIONED):
            versioned = ctypes.POINTER(_abi.DLManagedTensorVersioned)
            managed = ctypes.cast(capsule_pointer(capsule, VERSIONED), versioned).contents
            if managed.version.major != _abi.DLPACK_MAJOR_VERSION:
                raise BufferError(f"a DLPack tensor of version {managed.version.major} cannot be read")
            self.padded = managed.flags & _abi.DLPACK_FLAG_BITMASK_IS_SUBBYTE_TYPE_PADDED != 0
        else:
            # Raises ValueError for a capsule that was consumed, or is none of DLPack's.
            managed = ctypes.cast(capsule_pointer(capsule, LEGACY), ctypes.POINTER(_abi.DLManagedTensor)).contents
        tensor: _abi.DLTensor = managed.dl_tensor
        return tensor

    def _from_interface(self, value: Any) -> _abi.DLTensor:
        if not hasattr(value, "__array_interface__") and hasattr(value, "__array__"):
            import numpy

            value = numpy.asarray(value)
        if not hasattr(value, "__array_interface__"):
            raise TypeError(f"a {type(value).__name__} has neither __dlpack__ nor __array_interface__")
        interface = value.__array_interface__
        dtype = dtype_of_interface(interface["typestr"], getattr(getattr(value, "dtype", None), "name", None))
        self.padded, itemsize = dtype.packed, dtype.itemsize or 1
        shape = tuple(interface["shape"])
        address, _ = interface["data"]
        strides = interface.get("strides") or row_major(shape, itemsize)
        if any(stride % itemsize for stride in strides):
            raise BufferError(f"strides of {strides} bytes are not whole elements of {itemsize} bytes")
        entries = ctypes.c_int64 * len(shape)
        tensor = _abi.DLTensor(data=address, ndim=len(shape), dtype=_abi.DLDataType(dtype.code, dtype.bits, dtype.lanes))
        tensor.device.device_type = _abi.kDLCPU
        tensor.shape = entries(*shape)
        tensor.strides = entries(*(stride // itemsize for stride in strides))
        self._kept += [value, interface]
        return tensor


def row_major(shape: Tuple[int, ...], itemsize: int) -> Tuple[int, ...]:
    """Strides in bytes of an array that lies row by row without gaps."""
    strides = [itemsize] * len(shape)
    for axis in range(len(shape) - 1, 0, -1):
        strides[axis - 1] = strides[axis] * shape[axis]
    return tuple(strides)


def sizes_of(shape: Shape) -> Tuple[int, ...]:
    """Elements along each dimension."""
    try:
        return tuple(map(operator.index, shape)) if isinstance(shape, Iterable) else (operator.index(shape),)
    except TypeError:
        raise TypeError(f"shape is {shape!r}, which is neither a whole number nor some of them") from None


def described(shape: Shape, element: DType) -> _abi.DLTensor:
    """A shape and an element type as C takes them, without data."""
    sizes = sizes_of(shape)
    if any(size < 0 or size >= 1 << 63 for size in sizes):
        raise PlasmaInvalidArgument(f"shape {sizes} has a dimension that is negative or over 2^63 - 1")
    kind = _abi.DLDataType(element.code, element.bits, element.lanes)
    tensor = _abi.DLTensor(ndim=len(sizes), dtype=kind, shape=(ctypes.c_int64 * len(sizes))(*sizes))
    tensor.device.device_type = _abi.kDLCPU
    return tensor


_VERSION = (_abi.DLPACK_MAJOR_VERSION, _abi.DLPACK_MINOR_VERSION)


def _capsule_of(value: Any, copy: bool) -> object:
    device_type, device_id = value.__dlpack_device__()
    if device_type != _abi.kDLCPU:
        return _copied_to_host(value, (int(device_type), int(device_id)), copy)
    try:
        return value.__dlpack__(max_version=_VERSION)
    except TypeError as error:
        if "argument" not in str(error):
            raise
        # From before DLPack 1.0, which had no such argument.
        return value.__dlpack__()


def _copied_to_host(value: Any, device: Tuple[int, int], copy: bool) -> object:
    """A capsule over a copy that the owner of a tensor makes of it, on the host."""
    only = f"only tensors of the CPU, device {CPU}, can be stored, not of device {device}"
    if not copy:
        raise PlasmaUnsupported(f"{only}; copy=True has its owner copy it to the host")
    try:
        return value.__dlpack__(max_version=_VERSION, dl_device=CPU, copy=True)
    except (TypeError, BufferError, ValueError, RuntimeError) as error:
        # It is from before these arguments, or does not copy between devices by them.
        if not callable(getattr(value, "cpu", None)):
            raise PlasmaUnsupported(f"{only}, and its owner does not copy it to the host: {error}") from error
    return _capsule_of(value.cpu(), False)


def _refuse_nulls(value: Any) -> None:
    """Arrays of Arrow may have them, and tensors may not."""
    nulls = getattr(value, "null_count", 0)
    if isinstance(nulls, int) and nulls > 0:
        raise PlasmaInvalidArgument(f"the array has {nulls} null{'s' if nulls > 1 else ''}, which a tensor cannot hold")


def _pyarrows(value: Any) -> Any:
    """An array of pyarrow as one of numpy, where it has no DLPack yet."""
    if hasattr(value, "__dlpack__") or not type(value).__module__.startswith("pyarrow.") or not hasattr(value, "to_numpy"):
        return value
    return value.to_numpy()
