"""reference: what a pickle of a client or a tensor says, and how another process gets the same again.

A tensor is pickled as its store's socket, its object's id and which part of it it is; no byte of it travels. Whoever unpickles
it gets the object by a connection that this module keeps, one for each store and process. Nothing holds the object meanwhile.

What cannot be got again raises when it is used and not when it is unpickled: worker processes unpickle outside of any task, and
an error there would be nobody's; `multiprocessing.Pool` would even wait for ever.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Optional, Tuple, TypeVar

from .errors import PlasmaConnectError, PlasmaDisconnected, PlasmaError, PlasmaObjectNotFound
from .object_id import ObjectID

if TYPE_CHECKING:
    from .client import PlasmaClient
    from .tensor import Tensor

SOCKET_VARIABLE, DIRECTORY_VARIABLE = "PLASMA_STORE_SOCKET", "XDG_RUNTIME_DIR"
# Stores that a process keeps connections to, and how often it tries where nobody answers, 100 ms apart.
MOST_KEPT, RETRIES = 8, 10
Got = TypeVar("Got")


class Place(NamedTuple):
    """Where a store is, as other processes find it."""

    socket: str
    """The absolute path of its socket."""
    made: Optional[Tuple[int, int, int]]
    """Device, number and time of the socket's file, which no other store's has; None where it could not be seen."""


class Whole(NamedTuple):
    """What a tensor looked like in its object. Of another object with the same id it is most likely not true."""

    dtype: str
    shape: Tuple[int, ...]
    strides: Tuple[int, ...]


def place_of(socket: Optional[str]) -> Place:
    """The place of the store that was just connected to by this name."""
    path = os.path.abspath(os.fsdecode(_default_socket() if socket is None else socket))
    return Place(path, _made(path))


def client_again(kind: Any, place: Place, options: Any) -> Any:
    """A new connection of a client that was pickled."""
    try:
        _verify(place)
        client = kind(place.socket, RETRIES, **options)
    except PlasmaError as error:
        client = kind.__new__(kind)
        client._lose(place, error)
    # Nobody called `connect`, so nobody forgot to disconnect.
    client._forgettable = True
    return client


def tensor_again(place: Place, name: bytes, member: Optional[str], whole: Whole, view: Any) -> Tensor:
    """The tensor that was pickled, a member of a bundle or an object of its own, or one that raises when it is used."""
    from .tensor import Tensor

    object_id = ObjectID(name)
    try:
        tensor = _get(place, object_id, member)
        found = Whole(tensor.dtype, tensor.shape, tensor.strides)
        if found != whole:
            other = f"was {_told(whole)}, and now is {_told(found)}: another object"
            raise PlasmaObjectNotFound(f"{_pickled(place, object_id)} {other}")
        return tensor if view is None else tensor._view(*view)
    except PlasmaError as error:
        return Tensor._lost(object_id, place, error)


def _get(place: Place, object_id: ObjectID, member: Optional[str]) -> Tensor:
    hold = reached(place, lambda client: client._get_one(object_id, 0))
    if not hold:
        raise PlasmaObjectNotFound(
            f"{_pickled(place, object_id)} is not there any more: it was deleted or evicted on the way, as nothing held it; "
            f"keep the tensor until whoever gets the pickle has it, or pin the object"
        )
    from .bundle import Bundle
    from .tensor import Tensor

    if member is None:
        return Tensor(hold, object_id, place)
    bundle = Bundle(hold, object_id, place)
    if member not in bundle:
        raise PlasmaObjectNotFound(f"{_pickled(place, object_id)} has no tensor {member!r} any more: another object")
    return bundle[member]


def _pickled(place: Place, object_id: ObjectID) -> str:
    return f"object {object_id.hex()} of the pickled tensor in the store at {place.socket}"


def _told(whole: Whole) -> str:
    return f"{whole.dtype} of shape {whole.shape}"


def _made(path: str) -> Optional[Tuple[int, int, int]]:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns


def _default_socket() -> str:
    """As the library finds it."""
    directory = os.environ.get(DIRECTORY_VARIABLE)
    path = os.path.join(directory, "plasma-store.sock") if directory else f"/tmp/plasma-store-{os.getuid()}/plasma.sock"
    return os.environ.get(SOCKET_VARIABLE) or path


def _verify(place: Place) -> None:
    """Refuses a store that came after the one that was meant, as it has none of its objects."""
    found = _made(place.socket)
    if found is None:
        raise PlasmaConnectError(f"the store at {place.socket} is gone, with all its objects, or cannot be seen from here")
    if place.made is not None and found != place.made:
        raise PlasmaConnectError(f"the store at {place.socket} is another one than that of the pickled object, which is gone")


def reached(place: Place, use: Callable[[PlasmaClient], Got]) -> Got:
    """What a connection to the store gives: the one that this process keeps, or a new one where that has ended."""
    _verify(place)
    try:
        return use(_kept(place))
    except PlasmaDisconnected:
        _forget(place)
        return use(_kept(place))


class _Connections:
    """The connections by which this process gets what others pickled."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.clients: OrderedDict[Place, PlasmaClient] = OrderedDict()


_connections = _Connections()


def _forget_connections() -> None:
    """A child made by fork connects anew, and its parent may have held the lock."""
    global _connections
    _connections = _Connections()


os.register_at_fork(after_in_child=_forget_connections)


def _kept(place: Place) -> PlasmaClient:
    from .client import PlasmaClient

    with _connections.lock:
        client = _connections.clients.pop(place, None)
        if client is None:
            client = PlasmaClient(place.socket, RETRIES)
            client._forgettable = True
        _connections.clients[place] = client
        while len(_connections.clients) > MOST_KEPT:
            _connections.clients.popitem(last=False)
        return client


def _forget(place: Place) -> None:
    with _connections.lock:
        _connections.clients.pop(place, None)
