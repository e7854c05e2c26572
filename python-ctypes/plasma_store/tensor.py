"""Tensor: an array in an object's memory, for numpy, torch and every other library that speaks DLPack."""

from __future__ import annotations

import ctypes
import math
import struct
from types import TracebackType
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Literal, NamedTuple, Optional, Tuple, Type, Union

from . import _abi
from ._lib import bare, lib
from .buffer import Hold
from .dlpack import _exports, collect_unconsumed, export, managed_of, row_major
from .dtypes import BY_ELEMENT, DTYPES
from .elements import Elements
from .errors import PlasmaError, PlasmaInvalidArgument, PlasmaObjectNotSealed, PlasmaUnsupported, check
from .object_id import ObjectID
from .reference import Place, Whole, tensor_again

if TYPE_CHECKING:
    from typing_extensions import CapsuleType

_READ_ONLY = _abi.DLPACK_FLAG_BITMASK_READ_ONLY
# DLPack's code, bits and lanes as they lie in memory -> name, bytes, and what `__array_interface__` writes.
_ELEMENTS = {element: (dtype.name, dtype.itemsize, dtype.typestr) for element, dtype in BY_ELEMENT.items()}
# `tensor_description` with so many dimensions, all at once: its fields one by one take longer than all the rest of a get.
_describe = bare("tensor_describe")
_SIZE = ctypes.sizeof(_abi.tensor_description)
_LAYOUTS = [struct.Struct(f"<QQIIi4x{count}q{256 - 8 * count}x{count}q") for count in range(33)]

# What cannot be looked at any more of a tensor that was released or lost.
_MEMORY = ("_address", "_hold", "_origin")
State = Literal["created", "sealed", "private", "released", "lost"]
_Index = Union[int, slice, "ellipsis", None]  # noqa: F821


class _Exported:
    """What numpy makes an array of: a little faster than the tensor itself, of which it asks the same."""

    __slots__ = ("__array_interface__", "_hold")

    def __init__(self, hold: Hold, interface: Dict[str, Any]) -> None:
        self._hold = hold
        self.__array_interface__ = interface


class _Part(NamedTuple):
    """A dimension of a view: its size, its stride in elements, and which of the stored tensor's it is."""

    size: int
    stride: int
    axis: Optional[int]


class Tensor(Elements):
    """An array that lies in a store's shared memory. Made by `PlasmaClient.get_tensor` and `create_tensor`.

    `np.asarray(tensor)`, `np.from_dlpack(tensor)`, `torch.from_dlpack(tensor)` do not copy. The memory is kept for as long as
    this, or any array made of it, lives: after the client was disconnected, the object deleted, the store ended. As a context
    manager a tensor lets go of it at the end of the block, and not only when it is collected; arrays made of it keep it still.

    A pickle of a tensor is a reference, as short for a large one as for a small one: whoever unpickles it, in any process of the
    machine, gets the object again, without a copy. It must be there still: see README.

    Indices and slices give views, as in numpy; nothing is read for them, so a few rows of a large tensor cost nothing else:

        >>> import numpy as np, plasma_store
        >>> with plasma_store.start_store(1 << 20) as store, plasma_store.connect(store.socket_path) as client:
        ...     tensor = client.get_tensor(client.put_tensor(np.arange(12).reshape(4, 3), dim_names=["row", "column"]))
        >>> tensor[1:3]  # doctest: +ELLIPSIS
        Tensor(shape=(2, 3), dtype='int64', state='sealed', object_id=ObjectID(...))
        >>> tensor[1:3].numpy().tolist()
        [[3, 4, 5], [6, 7, 8]]
        >>> tensor.T[0, ::2].numpy().tolist()
        [0, 6]
        >>> tensor.T.dim_names
        ('column', 'row')
    """

    _gone: Tuple[State, PlasmaError]
    __slots__ = (
        "__weakref__",
        "_address",
        "_axes",
        "_gone",
        "_hold",
        "_id",
        "_member",
        "_origin",
        "_place",
        "_private",
        "_sealed",
        "_typestr",
        "dtype",
        "itemsize",
        "shape",
        "strides",
    )

    dtype: str
    """Name of the element type, such as "float32", as numpy and ml_dtypes write it."""
    itemsize: int
    """Bytes of one element; 0 where elements share bytes, as those of "float4_e2m1fn" do."""
    shape: Tuple[int, ...]
    """Elements along each dimension; () is a single number."""
    strides: Tuple[int, ...]
    """Bytes from one element to the next along each dimension, as numpy counts them; 0 where elements share bytes: such tensors
    are row-major."""

    def __init__(
        self,
        hold: Hold,
        object_id: Optional[ObjectID] = None,
        place: Optional[Place] = None,
        private: bool = False,
        member: Optional[str] = None,
    ) -> None:
        """Reads what the object says of itself. Raises PlasmaCorrupt when it is not a tensor. A bundle has it as its `member`."""
        self._id, self._place, self._private, self._member = object_id, place, private, member
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
        # Where the stored tensor begins, and where this view of it does.
        self._origin = self._address = fields[1]
        # Of a view, which dimensions of the stored tensor it has; None for all of them in their order.
        self._axes: Optional[Tuple[Optional[int], ...]] = None
        # Whatever is read-only now stays so.
        self._sealed = fields[2] & _READ_ONLY != 0
        self._hold = hold

    # An array made of a capsule that its consumer dropped on the way is let go of here at the latest.
    def __del__(self, exports: Any = _exports, collect: Any = collect_unconsumed) -> None:
        if exports:
            collect()

    @classmethod
    def _lost(cls, object_id: ObjectID, place: Place, error: PlasmaError) -> Tensor:
        """One that was unpickled and cannot be got; whatever needs it raises `error`."""
        tensor = cls.__new__(cls)
        tensor._id, tensor._place, tensor._private, tensor._sealed = object_id, place, False, True
        tensor._member = None
        tensor._gone = ("lost", error)
        return tensor

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            # Asked only where there is nothing: of a tensor that was released or lost.
            if name not in Tensor.__slots__ or name in ("__weakref__", "_gone"):
                raise AttributeError(f"a Tensor has no attribute {name!r}")
            error = self._gone[1]
            raise type(error)(str(error))

    def release(self) -> None:
        """Lets go of the object now, and not only when this is collected; arrays made of it keep it still. May be repeated.

        Whatever needs the elements raises PlasmaInvalidArgument, a ValueError, from now on.

            >>> tensor = client.get_tensor(client.put_tensor(np.arange(3)))
            >>> array = tensor.numpy()
            >>> tensor.release()
            >>> array
            array([0, 1, 2])
            >>> tensor.numpy()  # doctest: +ELLIPSIS
            Traceback (most recent call last):
            plasma_store.errors.PlasmaInvalidArgument: the tensor of object ... was released
        """
        if self.state not in ("released", "lost"):
            self._gone = ("released", PlasmaInvalidArgument(f"the tensor of object {self.object_id.hex()} was released"))
            for name in _MEMORY:
                delattr(self, name)

    def __enter__(self) -> Tensor:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.release()

    @property
    def object_id(self) -> ObjectID:
        """The id of the object that it lies in."""
        if self._id is None:
            out = _abi.plasma_object_id()
            check(lib.plasma_buffer_id(self._hold, out))
            self._id = ObjectID(bytes(out))
        return self._id

    @property
    def state(self) -> State:
        """One of "created", which is not sealed yet; "sealed"; "private", with changes of this process; "released"; "lost", when what
        it was pickled from is not there."""
        if hasattr(self, "_gone"):
            return self._gone[0]
        return "sealed" if self.readonly else "private" if self._private else "created"

    @property
    def ndim(self) -> int:
        """How many dimensions there are."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return DTYPES[self.dtype].nbytes(math.prod(self.shape))

    @property
    def readonly(self) -> bool:
        """Whether it must not be written. One made by `create_tensor` becomes read-only when it is sealed."""
        return self._sealed or not lib.plasma_buffer_mutable_data(self._hold)

    @property
    def data(self) -> memoryview:
        """All bytes in the order in which they lie in memory, without a copy; read-only if the tensor is.

        Raises BufferError for a view whose elements do not lie together.
        """
        if self._axes is not None and not self._is_dense():
            raise BufferError(f"elements of shape {self.shape} with strides {self.strides} do not lie together")
        return self._hold.view(self._address, self.nbytes, self.readonly)

    @property
    def dim_names(self) -> Tuple[str, ...]:
        """The names of the dimensions, as Arrow tensors have them; "" for none."""
        axes = range(len(self.shape)) if self._axes is None else self._axes
        return tuple("" if axis is None else self._name(axis) for axis in axes)

    @property
    def T(self) -> Tensor:
        """The tensor with its dimensions in reversed order, without a copy."""
        return self.transpose()

    def transpose(self, *axes: int) -> Tensor:
        """The tensor with its dimensions in another order, without a copy; in the reversed one where none is given."""
        parts = self._parts()
        order = [range(len(parts))[axis] for axis in axes] if axes else [*reversed(range(len(parts)))]
        if sorted(order) != [*range(len(parts))]:
            raise ValueError(f"axes {axes} are not those of a tensor of {len(parts)} dimensions")
        return self._view(0, [parts[axis] for axis in order])

    def __iter__(self) -> Iterator[Tensor]:
        """The rows."""
        return (self[row] for row in range(len(self)))

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a tensor without dimensions has no length")
        return self.shape[0]

    def __getitem__(self, key: Union[_Index, Tuple[_Index, ...]]) -> Tensor:
        """A view of some elements: indices, slices, `...` and None, as for a numpy array. Nothing is read or copied."""
        offset, parts = _indexed(self._parts(), key if isinstance(key, tuple) else (key,))
        return self._view(offset, parts)

    def numpy(self) -> Any:
        """A `numpy.ndarray` over the same memory; read-only if the tensor is.

        Types that numpy does not have are those of the package ml_dtypes. It keeps elements that are smaller than a byte in a
        byte each, so they are copied.
        """
        import numpy

        if self._typestr:
            return numpy.asarray(_Exported(self._hold, self.__array_interface__))
        dtype = DTYPES[self.dtype].numpy()
        return _unpacked(self, dtype) if not self.itemsize else self.bits().view(dtype)

    def bits(self) -> Any:
        """The elements as unsigned integers in a `numpy.ndarray` over the same memory, for types that numpy does not have.

        Where elements share bytes, all of these in one dimension.
        """
        import numpy

        if self.itemsize > 8:
            raise PlasmaUnsupported(f"numpy has no integers of {self.itemsize} bytes, as elements of {self.dtype} are")
        shape = self.shape if self.itemsize else (self.nbytes,)
        strides = self.strides if self.itemsize else (1,)
        return numpy.asarray(_Exported(self._hold, self._interface(f"<u{self.itemsize or 1}", shape, strides)))

    def arrow(self) -> Any:
        """A `pyarrow.Tensor` over the same memory, with the names of the dimensions; of types that Arrow tensors have."""
        import pyarrow

        names = self.dim_names
        return pyarrow.Tensor.from_numpy(self.numpy(), dim_names=names if any(names) else None)

    @property
    def __array_interface__(self) -> Dict[str, Any]:
        if not self._typestr:
            # numpy asks `__array__` then.
            raise AttributeError(f"numpy has no {self.dtype}")
        return self._interface(self._typestr, self.shape, self.strides)

    def _interface(self, typestr: str, shape: Tuple[int, ...], strides: Tuple[int, ...]) -> Dict[str, Any]:
        return {
            "version": 3,
            "shape": shape,
            "strides": strides,
            "typestr": typestr,
            "data": (self._address, self._sealed or self.readonly),
        }

    def _array(self) -> Tuple[Any, bool]:
        return self.numpy(), not self.itemsize

    def _capsule(self, versioned: bool, copy: bool) -> CapsuleType:
        view = self._view_options(_abi.PLASMA_VIEW_COPY if copy else 0)
        return export(managed_of(self._hold, versioned, view), versioned)

    def _view_options(self, flags: int) -> Optional[_abi.tensor_view_options]:
        """What C calls this view; None for the whole tensor where it lies."""
        if self._axes is None and not flags:
            return None
        parts = self._parts()
        entries = ctypes.c_int64 * len(parts)
        options = _abi.tensor_view_options(ctypes.sizeof(_abi.tensor_view_options), flags, len(parts))
        options.shape, options.strides = entries(*self.shape), entries(*(part.stride for part in parts))
        options.offset = self._offset()
        return options

    def _parts(self) -> List[_Part]:
        axes = range(len(self.shape)) if self._axes is None else self._axes
        itemsize = self.itemsize
        strides = [stride // itemsize for stride in self.strides] if itemsize else row_major(self.shape, 1)
        return [_Part(*part) for part in zip(self.shape, strides, axes)]

    def _view(self, offset: int, parts: List[_Part]) -> Tensor:
        """The elements from `offset` on, from the first one counted, that these dimensions reach."""
        view = Tensor.__new__(Tensor)
        view.dtype, view.itemsize, view._typestr = self.dtype, self.itemsize, self._typestr
        view._origin, view._sealed, view._hold = self._origin, self._sealed, self._hold
        view._id, view._place, view._private, view._member = self._id, self._place, self._private, self._member
        view.shape, view._axes = tuple(part.size for part in parts), tuple(part.axis for part in parts)
        view.strides = tuple(part.stride * self.itemsize for part in parts)
        bits = offset * DTYPES[self.dtype].bits * DTYPES[self.dtype].lanes if 0 not in view.shape else 0
        view._address = self._address + bits // 8
        if not self.itemsize and (bits % 8 or not _is_row_major(parts)):
            raise PlasmaUnsupported(
                f"elements of {self.dtype} share bytes, so a view of them is row-major and begins with a byte; "
                f"numpy() gives a copy in which each has its own"
            )
        return view

    def _is_dense(self) -> bool:
        parts = self._parts()
        return 0 in self.shape or _is_row_major(parts) or _is_row_major(parts[::-1])

    def _name(self, axis: int) -> str:
        length = ctypes.c_size_t()
        check(lib.tensor_dimension_name(self._hold, axis, None, 0, length))
        if not length.value:
            return ""
        out = ctypes.create_string_buffer(length.value + 1)
        check(lib.tensor_dimension_name(self._hold, axis, out, len(out), length))
        return out.raw[: length.value].decode("utf-8", "replace")

    def __reduce__(self) -> Tuple[Any, ...]:
        state = self.state
        if state == "created":
            raise PlasmaObjectNotSealed(f"object {self.object_id.hex()} is not sealed, so nobody could get it by a pickle")
        if state == "private" or self._place is None:
            what = "has changes of this process" if state == "private" else "was not got by a client"
            raise PlasmaUnsupported(f"this tensor {what}, so its pickle would not be the same; numpy() gives an array to pickle")
        stored = Tensor(self._hold)
        whole = Whole(stored.dtype, stored.shape, stored.strides)
        view = None if self._axes is None else (self._offset(), self._parts())
        return tensor_again, (self._place, self.object_id.binary(), self._member, whole, view)

    def _offset(self) -> int:
        """How many elements into the stored tensor this view begins."""
        element, begins = DTYPES[self.dtype], 8 * int(self._address - self._origin)
        return begins // (element.bits * element.lanes)

    def __repr__(self) -> str:
        state = self.state
        known = "" if state == "lost" else f"shape={self.shape}, dtype={self.dtype!r}, "
        return f"Tensor({known}state={state!r}, object_id={self.object_id!r})"


def _is_row_major(parts: List[_Part]) -> bool:
    expected = 1
    for part in reversed(parts):
        if part.size != 1 and part.stride != expected:
            return False
        expected *= part.size
    return True


def _indexed(parts: List[_Part], keys: Tuple[Any, ...]) -> Tuple[int, List[_Part]]:
    """What indices and slices leave of dimensions, and how many elements in they begin."""
    given = sum(key is not None and key is not Ellipsis for key in keys)
    if given > len(parts) or keys.count(Ellipsis) > 1:
        raise IndexError(f"{keys} are too many indices for a tensor of {len(parts)} dimensions")
    if Ellipsis not in keys:
        keys += (Ellipsis,)
    at = keys.index(Ellipsis)
    keys = (*keys[:at], *(slice(None),) * (len(parts) - given), *keys[at + 1 :])
    left, result, offset = iter(parts), [], 0
    for key in keys:
        if key is None:
            result.append(_Part(1, 1, None))
            continue
        part = next(left)
        if isinstance(key, slice):
            chosen = range(part.size)[key]
            offset += chosen.start * part.stride if chosen else 0
            result.append(_Part(len(chosen), part.stride * chosen.step, part.axis))
        else:
            offset += _place(key, part) * part.stride
    return offset, result


def _place(key: Any, part: _Part) -> int:
    try:
        place: int = range(part.size)[key]
        return place
    except IndexError:
        raise IndexError(f"index {key} is not in a dimension of size {part.size}") from None
    except TypeError:
        raise TypeError(f"a tensor is indexed by whole numbers, slices, None and ..., not by {key!r}") from None


def _unpacked(tensor: Tensor, dtype: Any) -> Any:
    """Elements that share bytes, each in a byte of its own."""
    import numpy

    element, count = DTYPES[tensor.dtype], math.prod(tensor.shape)
    bits = numpy.unpackbits(tensor.bits(), bitorder="little")[: count * element.bits].reshape(count, element.bits)
    values = numpy.packbits(bits, axis=1, bitorder="little").reshape(count)
    return values.view(dtype).reshape(tensor.shape)
