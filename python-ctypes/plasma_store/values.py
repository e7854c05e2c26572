"""What `put` writes and `get` reads: Python values, as docs/formats.md has it under "Values of Python".

Bytes come from whoever put them. Every length is verified before it is used, on a copy of the header, so no object can make
this read outside itself. But then the value is unpickled, and a pickle runs what its writer wants: get values only from
those whom you would let run code here.
"""

from __future__ import annotations

import copyreg
import ctypes
import io
import pickle
import struct
import sys
from typing import Any, Callable, List, Protocol, Sequence, Tuple

from ._lib import lib
from .buffer import Hold, Source, pyarrow_or_none, wrap
from .errors import PlasmaCorrupt, PlasmaUnsupported, check
from .progress import Copier

# As the first i32 of the old serialization, a count, the magic would be negative.
MAGIC = b"PLS\x89VAL1"
ALIGNMENT = 64
_HEADER = struct.Struct("<8sQQ")
_RANGE = struct.Struct("<QQ")
_OLD_COUNTS = struct.Struct("<4i")
_TENSOR_MARKER = b"\xff\xff\xff\xff"


class ObjectNotAvailable:
    """What `PlasmaClient.get` returns, the class itself, for an object that did not come in time or has no bytes."""


class Serialized(Protocol):
    """A value that is ready to be written."""

    size: int
    """Bytes that it takes."""

    def write(self, hold: Hold, copier: Copier) -> None:
        """Fills an object of `size` bytes that is being created. Keeps nothing of it, also when this fails."""

    def to_bytes(self) -> Any:
        """The same bytes, as anything bytes-like."""


def serialize(value: Any, memcopy_threads: int, context: Any) -> Serialized:
    """In the old serialization where pyarrow still has it, so that programs that have nothing else can read it."""
    pyarrow = pyarrow_or_none()
    old = _old_function(pyarrow, "serialize")
    if old is not None:
        return _Old(pyarrow, old(value, context), memcopy_threads)
    _refuse(context)
    return _Pickled(value)


def deserialize(hold: Hold, name: str, context: Any) -> Any:
    """The value of an object, whichever way it was written. `name` is the object's, for errors.

    Arrays are not copied; they are read-only. Raises PlasmaCorrupt, PlasmaUnsupported, and what unpickling raises.
    """
    view = hold.data()
    start = bytes(view[: _HEADER.size])
    if start.startswith(MAGIC):
        return _unpickle(view, start, name)
    if not _looks_old(start, len(view)):
        hint = ", but a tensor: get_tensor reads it" if start.startswith(_TENSOR_MARKER) else "; get_buffers gives its bytes"
        raise PlasmaCorrupt(f"object {name} of {len(view)} bytes is not a value that put wrote{hint}")
    pyarrow = pyarrow_or_none()
    old = _old_function(pyarrow, "deserialize")
    if old is None:
        installed = "none is" if pyarrow is None else f"{pyarrow.__version__} is"
        needed = "which needs a pyarrow before version 14"
        raise PlasmaUnsupported(f"object {name} is in the old serialization of pyarrow.plasma, {needed}; {installed} installed")
    return old(wrap(view), context)


def is_tensor(hold: Hold) -> bool:
    """Whether this looks like a tensor, and not like a value."""
    view = hold.data()
    return bytes(view[: len(_TENSOR_MARKER)]) == _TENSOR_MARKER


class _Pickled:
    """Pickle protocol 5, with the buffers beside the pickle: each is copied once, to where it will lie."""

    def __init__(self, value: Any) -> None:
        sources: List[Source] = []
        pickled = _pickle(value, lambda buffer: sources.append(Source(buffer)))
        end = _HEADER.size + _RANGE.size * len(sources) + len(pickled)
        table: List[bytes] = []
        self._buffers: List[Tuple[int, Source]] = []
        for source in sources:
            offset = end + -end % ALIGNMENT
            table.append(_RANGE.pack(offset, len(source)))
            self._buffers.append((offset, source))
            end = offset + len(source)
        self._head = _HEADER.pack(MAGIC, len(pickled), len(sources)) + b"".join(table) + pickled
        self.size = end

    def write(self, hold: Hold, copier: Copier) -> None:
        base: int = lib.plasma_buffer_mutable_data(hold)
        check(lib.plasma_buffer_write(hold, 0, self._head, len(self._head)))
        end = len(self._head)
        copier.count(end)
        for offset, source in self._buffers:
            # The gaps too, or else what was there before would be in the digest.
            ctypes.memset(base + end, 0, offset - end)
            copier.count(offset - end)
            copier.write(hold, offset, source.address, len(source))
            end = offset + len(source)

    def to_bytes(self) -> Any:
        parts, end = [self._head], len(self._head)
        for offset, source in self._buffers:
            parts += [bytes(offset - end), ctypes.string_at(source.pointer, len(source))]
            end = offset + len(source)
        return b"".join(parts)


def _pickle(value: Any, keep: Callable[[pickle.PickleBuffer], None]) -> bytes:
    # Only who imported pyarrow can have tensors of it, which it does not let be pickled.
    pyarrow = sys.modules.get("pyarrow")
    if pyarrow is None or not hasattr(pyarrow, "SparseCOOTensor"):
        return pickle.dumps(value, protocol=5, buffer_callback=keep)
    out = io.BytesIO()
    pickler = pickle.Pickler(out, protocol=5, buffer_callback=keep)
    pickler.dispatch_table = copyreg.dispatch_table.copy()
    pickler.dispatch_table.update({getattr(pyarrow, name): _reduce_tensor for name in _PYARROW_TENSORS})
    pickler.dump(value)
    return out.getvalue()


# How `to_numpy` of each says what it consists of: so many arrays, or lists of arrays.
_PYARROW_TENSORS = ("Tensor", "SparseCOOTensor", "SparseCSRMatrix", "SparseCSCMatrix", "SparseCSFTensor")


def _reduce_tensor(tensor: Any) -> Tuple[Any, ...]:
    """A tensor of pyarrow as the arrays that it consists of, which pickle keeps beside the pickle."""
    given = (type(tensor).__name__, tensor.to_numpy(), tensor.shape, tensor.dim_names or None)
    if given[0] != "SparseCSFTensor":
        return _tensor_of, given
    # In which order its dimensions are nested it does not say; pyarrow itself nests them by their sizes.
    for order in (None, sorted(range(len(tensor.shape)), key=tensor.shape.__getitem__)):
        if _tensor_of(*given, order).equals(tensor):
            return _tensor_of, (*given, order)
    raise PlasmaUnsupported(f"a SparseCSFTensor of shape {tensor.shape} nests its dimensions in an order that pyarrow does not tell")


def _tensor_of(kind: str, arrays: Any, shape: Tuple[int, ...], names: Any, order: Any = None) -> Any:
    """The reverse."""
    import pyarrow

    make = getattr(pyarrow, kind).from_numpy
    if kind == "Tensor":
        return make(arrays, dim_names=names)
    ordered = {} if order is None else {"axis_order": order}
    return make(*arrays, shape, dim_names=names, **ordered)


def _unpickle(view: memoryview, start: bytes, name: str) -> Any:
    size = len(view)
    if size < _HEADER.size:
        raise PlasmaCorrupt(f"object {name} has {size} bytes; a value has at least {_HEADER.size}")
    _, length, count = _HEADER.unpack(start)
    if count > (size - _HEADER.size) // _RANGE.size:
        raise PlasmaCorrupt(f"object {name} of {size} bytes cannot have the {count} buffers that it says")
    table_end = _HEADER.size + _RANGE.size * count
    if length > size - table_end:
        raise PlasmaCorrupt(f"object {name} of {size} bytes cannot have a pickle of {length} bytes at {table_end}")
    ranges = list(_RANGE.iter_unpack(bytes(view[_HEADER.size : table_end])))
    _verify(ranges, table_end + length, size, name)
    buffers = [view[offset : offset + extent] for offset, extent in ranges]
    # A copy, so that nobody changes the pickle while it is read.
    pickled = bytes(view[table_end : table_end + length])
    try:
        return pickle.loads(pickled, buffers=buffers)
    except (pickle.UnpicklingError, EOFError) as error:
        raise PlasmaCorrupt(f"object {name}: its pickle of {length} bytes with {count} buffers is damaged: {error}") from error


def _verify(ranges: Sequence[Tuple[int, ...]], end: int, size: int, name: str) -> None:
    """Buffers follow the pickle and each other, aligned and within the object."""
    for index, (offset, extent) in enumerate(ranges):
        if offset % ALIGNMENT or not end <= offset <= size or extent > size - offset:
            where = f"{extent} bytes at {offset}, after what ends at {end}"
            raise PlasmaCorrupt(f"object {name} of {size} bytes cannot have buffer {index} of {where}")
        end = offset + extent


class _Old:
    """What `pyarrow.serialize` made."""

    def __init__(self, pyarrow: Any, serialized: Any, memcopy_threads: int) -> None:
        self._pyarrow, self._serialized, self._threads = pyarrow, serialized, memcopy_threads
        self.size: int = serialized.total_bytes

    def write(self, hold: Hold, copier: Copier) -> None:
        stream = self._pyarrow.FixedSizeBufferWriter(wrap(hold.data()))
        try:
            stream.set_memcopy_threads(self._threads)
            self._serialized.write_to(stream)
        finally:
            # A traceback keeps this frame, and must not keep the object's memory.
            del stream

    def to_bytes(self) -> Any:
        return self._serialized.to_buffer()


def _old_function(pyarrow: Any, name: str) -> Any:
    """`pyarrow.serialize` or `deserialize`, in the form that does not warn; None where there is no such thing any more."""
    if not hasattr(pyarrow, name):
        return None
    return getattr(pyarrow.lib, f"_{name}", None) or getattr(pyarrow, name)


def _refuse(context: Any) -> None:
    if context is not None:
        raise PlasmaUnsupported("a serialization_context needs a pyarrow before version 14")


def _looks_old(start: bytes, size: int) -> bool:
    """Whether this may be the old serialization: four counts of blobs that can be there, then an Arrow IPC stream."""
    if len(start) < _OLD_COUNTS.size + 4:
        return False
    counts = _OLD_COUNTS.unpack_from(start)
    message: int = struct.unpack_from("<i", start, _OLD_COUNTS.size)[0]
    # Each blob takes at least 8 bytes. Before Arrow 0.15 a message began with its length, not with -1.
    return min(counts) >= 0 and sum(counts) <= size // 8 and (message == -1 or 0 < message < size)
