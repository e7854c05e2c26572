"""ObjectID: what an object is called."""

from __future__ import annotations

import operator
from typing import Any, Iterable, Sequence, Tuple, Type, Union

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


def id_of(given: Union[ObjectID, str]) -> ObjectID:
    """The id that is given, or that of a name."""
    return ObjectID.from_name(given) if isinstance(given, str) else given


def c_id(object_id: ObjectID) -> _abi.plasma_object_id:
    """An id as C takes it."""
    if not isinstance(object_id, ObjectID):
        raise not_an_id(object_id)
    return _abi.plasma_object_id.from_buffer_copy(object_id.binary())


def c_ids(object_ids: Iterable[ObjectID]) -> Tuple[Any, int]:
    """An array of ids as C takes it, and its length."""
    ids = [c_id(object_id) for object_id in object_ids]
    return (_abi.plasma_object_id * len(ids))(*ids), len(ids)


def not_an_id(given: Any) -> TypeError:
    """What to raise for something else in the place of an ObjectID."""
    return TypeError(f"an ObjectID is needed, not {given!r}")


def packed(object_ids: Sequence[ObjectID]) -> bytes:
    """Ids one behind the other, as C takes an array of them."""
    for object_id in object_ids:
        if not isinstance(object_id, ObjectID):
            raise not_an_id(object_id)
    return b"".join([object_id.binary() for object_id in object_ids])
