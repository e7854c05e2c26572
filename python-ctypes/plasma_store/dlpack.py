"""DLPack capsules: made of our tensors, and read from others' arrays."""

from __future__ import annotations

import ctypes
import sys
from collections import deque
from typing import TYPE_CHECKING, Any, Deque, List, NamedTuple, Tuple

from . import _abi
from ._lib import capsule_is_valid, capsule_new, capsule_pointer, lib
from .buffer import Hold
from .errors import PlasmaUnsupported, check

if TYPE_CHECKING:
    from typing_extensions import CapsuleType

LEGACY = b"dltensor"
VERSIONED = b"dltensor_versioned"
# A capsule keeps a pointer to its name and not the name, so the names must outlive every capsule, also at the end of the
# interpreter: these references are never given back.
for _name in (LEGACY, VERSIONED):
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(_name))

_DTYPE_CODES = {"int": _abi.kDLInt, "uint": _abi.kDLUInt, "float": _abi.kDLFloat}
_DTYPE_BITS = {"int": (8, 16, 32, 64), "uint": (8, 16, 32, 64), "float": (16, 32, 64)}
# Name -> (code, bits): what an Arrow tensor, and so this store, can hold.
DTYPES = {f"{kind}{bits}": (code, bits) for kind, code in _DTYPE_CODES.items() for bits in _DTYPE_BITS[kind]}
NAMES = {dtype: name for name, dtype in DTYPES.items()}


def dtype_name(dtype: Any) -> str:
    """The name of an element type that may be given as text, or as a type of numpy, torch or the like.

    Raises PlasmaUnsupported, a TypeError, naming what can be stored.
    """
    text = dtype if isinstance(dtype, str) else getattr(dtype, "name", None) or getattr(dtype, "__name__", str(dtype))
    name = str(text).rpartition(".")[2]
    if name not in DTYPES:
        raise PlasmaUnsupported(f"dtype {dtype!r} cannot be stored; these can: {', '.join(DTYPES)}")
    return name


def managed_versioned(hold: Hold) -> Any:
    """A new `DLManagedTensorVersioned *` over the memory of a hold, with a hold of its own. Its deleter must be called."""
    out = ctypes.POINTER(_abi.DLManagedTensorVersioned)()
    check(lib.tensor_from_buffer_versioned(hold, out))
    return out


def managed_legacy(hold: Hold) -> Any:
    """The same as a `DLManagedTensor *`, which cannot say that the memory is read-only."""
    out = ctypes.POINTER(_abi.DLManagedTensor)()
    check(lib.tensor_from_buffer(hold, out))
    return out


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


def export(managed: Any, name: bytes) -> CapsuleType:
    """A capsule over a new managed tensor, for one consumer."""
    collect_unconsumed()
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

    A capsule is not consumed: it dies with this, and its own destructor gives the tensor back to whom it belongs.
    """

    def __init__(self, value: Any) -> None:
        self._kept: List[Any] = []
        if hasattr(value, "__dlpack__"):
            _refuse_devices(value)
            try:
                self.tensor = self._from_capsule(_capsule_of(value))
                return
            except BufferError:
                # numpy before 2.1 lends no read-only array this way, but any array the other way.
                if not hasattr(value, "__array_interface__"):
                    raise
        if not hasattr(value, "__array_interface__"):
            raise TypeError(f"a {type(value).__name__} has neither __dlpack__ nor __array_interface__")
        self.tensor = self._from_interface(value)

    def _from_capsule(self, capsule: object) -> _abi.DLTensor:
        self._kept.append(capsule)
        managed: Any
        if capsule_is_valid(capsule, VERSIONED):
            versioned = ctypes.POINTER(_abi.DLManagedTensorVersioned)
            managed = ctypes.cast(capsule_pointer(capsule, VERSIONED), versioned).contents
            if managed.version.major != _abi.DLPACK_MAJOR_VERSION:
                raise BufferError(f"a DLPack tensor of version {managed.version.major} cannot be read")
        else:
            # Raises ValueError for a capsule that was consumed, or is none of DLPack's.
            managed = ctypes.cast(capsule_pointer(capsule, LEGACY), ctypes.POINTER(_abi.DLManagedTensor)).contents
        tensor: _abi.DLTensor = managed.dl_tensor
        return tensor

    def _from_interface(self, value: Any) -> _abi.DLTensor:
        interface = value.__array_interface__
        dtype = _dtype_of(interface["typestr"])
        shape = tuple(interface["shape"])
        address, _ = interface["data"]
        strides = interface.get("strides") or row_major(shape, dtype.bits // 8)
        if any(stride % (dtype.bits // 8) for stride in strides):
            raise BufferError(f"strides of {strides} bytes are not whole elements of {dtype.bits // 8} bytes")
        entries = ctypes.c_int64 * len(shape)
        tensor = _abi.DLTensor(data=address, ndim=len(shape), dtype=dtype)
        tensor.device.device_type = _abi.kDLCPU
        tensor.shape = entries(*shape)
        tensor.strides = entries(*(stride // (dtype.bits // 8) for stride in strides))
        self._kept += [value, interface]
        return tensor


def row_major(shape: Tuple[int, ...], itemsize: int) -> Tuple[int, ...]:
    """Strides in bytes of an array that lies row by row without gaps."""
    strides = [itemsize] * len(shape)
    for axis in range(len(shape) - 1, 0, -1):
        strides[axis - 1] = strides[axis] * shape[axis]
    return tuple(strides)


def _capsule_of(value: Any) -> object:
    try:
        return value.__dlpack__(max_version=(_abi.DLPACK_MAJOR_VERSION, _abi.DLPACK_MINOR_VERSION))
    except TypeError:
        # From before DLPack 1.0, which had no such argument.
        return value.__dlpack__()


def _refuse_devices(value: Any) -> None:
    """Refuses memory of other devices before its owner takes the trouble to export it."""
    device_type, device_id = value.__dlpack_device__()
    if device_type != _abi.kDLCPU:
        given = f"device ({int(device_type)}, {int(device_id)})"
        raise PlasmaUnsupported(f"only tensors of the CPU, device ({_abi.kDLCPU}, 0), can be stored, not of {given}")


def _dtype_of(typestr: str) -> _abi.DLDataType:
    """The element type that `__array_interface__` writes as "<f4"."""
    order, kind, size = typestr[0], typestr[1], typestr[2:]
    name = {"i": "int", "u": "uint", "f": "float"}.get(kind, kind)
    dtype = DTYPES.get(f"{name}{8 * int(size)}") if size.isdigit() else None
    if dtype is None or order == ">":
        raise PlasmaUnsupported(f"dtype {typestr!r} cannot be stored; these can, little-endian: {', '.join(DTYPES)}")
    return _abi.DLDataType(dtype[0], dtype[1], 1)
