"""ObjectID: what an object is called."""

from __future__ import annotations

import operator
from typing import Any, Iterable, List, Tuple, Type, Union

from . import _abi
from ._lib import lib
from .errors import PlasmaInvalidArgument, check

OBJECT_ID_SIZE = 20


class ObjectID:
    """The name of an object: exactly 20 bytes. Immutable, hashable, can be pickled; shown as 40 hex digits.

    Raises ValueError for anything but 20 `bytes`.
    """

    __slots__ = ("__weakref__", "_bytes")

    _bytes: bytes

    def __init__(self, object_id: bytes) -> None:
        if not isinstance(object_id, bytes) or len(object_id) != OBJECT_ID_SIZE:
            given = f"{len(object_id)} bytes" if isinstance(object_id, bytes) else repr(object_id)
            raise PlasmaInvalidArgument(f"an object id is {OBJECT_ID_SIZE} bytes, not {given}")
        self._bytes = object_id

    @classmethod
    def from_random(cls) -> ObjectID:
        """An id that nobody else will make."""
        out = _abi.plasma_object_id()
        check(lib.plasma_object_id_random(out))
        return cls(bytes(out))

    @classmethod
    def from_name(cls, name: str, namespace: str = "") -> ObjectID:
        """The id of a name: the first 20 bytes of SHA-256(namespace, one zero byte, name), the same in every language.

            >>> plasma_store.ObjectID.from_name("images", "training")
            ObjectID(216da7253a6510d0a6ec153e54d8c212b1ebf1bb)
        """
        out = _abi.plasma_object_id()
        check(lib.plasma_object_id_from_name(c_text(namespace, "namespace"), c_text(name, "name"), out))
        return cls(bytes(out))

    @classmethod
    def from_hex(cls, digits: str) -> ObjectID:
        """The id that `hex()` wrote as these 40 digits.

            >>> plasma_store.ObjectID.from_hex("00" * 19 + "ff").binary()[-1]
            255
        """
        out = _abi.plasma_object_id()
        check(lib.plasma_object_id_from_hex(c_text(digits, "digits"), out))
        return cls(bytes(out))

    def binary(self) -> bytes:
        """The 20 bytes."""
        return self._bytes

    def hex(self) -> str:
        """40 lower-case hex digits."""
        return self._bytes.hex()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObjectID) and other._bytes == self._bytes

    def __hash__(self) -> int:
        return hash(self._bytes)

    def __repr__(self) -> str:
        return f"ObjectID({self.hex()})"

    def __reduce__(self) -> Tuple[Type[ObjectID], Tuple[bytes]]:
        return ObjectID, (self._bytes,)


def c_text(text: str, name: str) -> bytes:
    """Text as C takes it. A NUL would end it early and so give the id, or the path, of another text."""
    if "\0" in text:
        raise PlasmaInvalidArgument(f"{name} has a NUL at {text.index(chr(0))}: {text!r}")
    return text.encode()


def whole(number: Any, name: str) -> int:
    """A number as C takes it. As pyarrow.plasma did, this takes 1e6 as well as 1000000, and cuts a fraction off."""
    try:
        return operator.index(number)
    except TypeError:
        if not hasattr(number, "__int__"):
            raise TypeError(f"{name} is {number!r}, which is no number") from None
        return int(number)


def unsigned(given: Any, name: str = "data_size") -> int:
    """A number of bytes as C takes it: of -1, ctypes would make 2^64 - 1."""
    size = whole(given, name)
    if not 0 <= size < 1 << 64:
        raise PlasmaInvalidArgument(f"{name} is {size}, which no object can have")
    return size


# An object's id, or its name.
AnyID = Union[ObjectID, str]
# Those of several objects, or the name of one.
AnyIDs = Union[str, Iterable[AnyID]]


def id_of(given: AnyID) -> ObjectID:
    """The id that is given, or that of a name. Whatever takes an id takes it through this."""
    if isinstance(given, ObjectID):
        return given
    if isinstance(given, str):
        return ObjectID.from_name(given)
    raise TypeError(f"an ObjectID or a name is needed, not {given!r}")


def ids_of(given: AnyIDs) -> List[ObjectID]:
    """The same for several. A text by itself is one name, and not one for each letter."""
    return [id_of(each) for each in ([given] if isinstance(given, str) else given)]


def called(given: AnyID) -> str:
    """How an error calls an object: by what it was asked for."""
    return f"{given!r} ({id_of(given).hex()})" if isinstance(given, str) else given.hex()


def c_id(object_id: AnyID) -> _abi.plasma_object_id:
    """An id as C takes it."""
    return _abi.plasma_object_id.from_buffer_copy(id_of(object_id)._bytes)


def c_ids(object_ids: AnyIDs) -> Tuple[Any, int]:
    """An array of ids as C takes it, and its length."""
    ids = ids_of(object_ids)
    return (_abi.plasma_object_id * len(ids)).from_buffer_copy(packed(ids)), len(ids)


def packed(object_ids: Iterable[ObjectID]) -> bytes:
    """Ids one behind the other, as C takes an array of them."""
    return b"".join([object_id._bytes for object_id in object_ids])
