"""What shared tensors and rings have in common: a process takes part in them, each for itself, and finds them again by a pickle."""

from __future__ import annotations

import ctypes
import os
from typing import Any, Callable, List, Literal, Optional, Tuple, TypeVar

from . import _abi
from ._lib import lib
from .client import PlasmaClient
from .default_store import default_client
from .errors import PlasmaCorrupt, PlasmaError, PlasmaInvalidArgument, PlasmaObjectNotFound, PlasmaTimeout, check
from .forgotten import forgotten
from .object_id import AnyID, ObjectID, c_id, called, id_of
from .reference import Place, reached
from .waiting import from_seconds, until_done

State = Literal["open", "closed", "left", "frozen", "lost"]
Self = TypeVar("Self", bound="SharedObject")


class _This:
    """This process, which to ask the kernel for takes as long as a call of the library."""

    def __init__(self) -> None:
        self.look()

    def look(self) -> None:
        self.process = os.getpid()


this = _This()
os.register_at_fork(after_in_child=this.look)


class Participant:
    """A `tensor_shared` or a `tensor_ring` of one process. Every call and every view keeps it, and with it goes the participant."""

    __slots__ = ("_close", "client", "pointer", "process")

    def __init__(self, client: PlasmaClient, kind: Any, close: Any) -> None:
        self.client, self.process, self._close = client, this.process, close
        self.pointer: Any = ctypes.POINTER(kind)()

    # In a forked child the library tells nobody.
    def __del__(self) -> None:
        if hasattr(self, "pointer"):
            self._close(self.pointer)

    def wait(self, call: Callable[[int], int], timeout_ms: int) -> int:
        """Makes a call that waits, until its time is over or the client is interrupted, and returns its status."""
        before = self.client._interrupts
        return until_done(call, timeout_ms, lambda: self.client._interrupts != before)


class SharedObject:
    """An object that several processes take part in: `SharedTensor` and `TensorRing`."""

    __slots__ = ("__weakref__", "_forgettable", "_gone", "_id", "_joined", "_place", "name")
    _what, _remedy = "shared object", "close it, or use it in a `with` block"

    name: Optional[str]
    """The name that it was made or opened by; None for none."""

    # What follows an error in `__init__` has not begun.
    _joined: Optional[Participant]

    def _begin(self, joined: Optional[Participant], object_id: ObjectID, name: Any, place: Place) -> None:
        self._id, self._place, self.name = object_id, place, name if isinstance(name, str) else None
        self._gone: Tuple[State, Optional[PlasmaError]] = ("open", None)
        # Nobody forgets to close what he did not open.
        self._forgettable = False
        self._joined = joined

    # Bound as a default because globals may be gone when the interpreter ends.
    def __del__(self, forgotten: Any = forgotten) -> None:
        joined = getattr(self, "_joined", None)
        if joined is not None and not self._forgettable:
            forgotten(self, joined.process, self._remedy)

    @classmethod
    def _lost(cls, object_id: ObjectID, name: Optional[str], place: Place, error: PlasmaError) -> Any:
        """One that was unpickled and is not there; whatever needs it raises `error`."""
        lost = cls.__new__(cls)
        lost._begin(None, object_id, name, place)
        lost._begin_again()
        lost._gone = ("lost", error)
        return lost

    @property
    def id(self) -> ObjectID:
        """The id of the object that it lies in."""
        return self._id

    @property
    def state(self) -> State:
        """One of "open", "closed" or "left", "frozen"; "lost" of one that was unpickled and is not there any more."""
        return self._gone[0]

    def unlink(self) -> None:
        """Deletes it: nobody can open it any more, and it goes when its last holder does."""
        self._asked(lambda client: client.delete([self._id]))

    def holders(self) -> List[str]:
        """Who has it open, as the store names its clients."""
        found: List[str] = self._asked(lambda client: _holders(client, self._id))
        return found

    def _asked(self, use: Callable[[PlasmaClient], Any]) -> Any:
        """What the store says: to the client that this was opened with, or to another one where that was disconnected."""
        client = self._live().client
        return use(client) if client._handle is not None else reached(self._place, use)

    def _live(self) -> Participant:
        """What to call the library with. A forked child joins again, as a participant of its own."""
        joined = self._joined
        if joined is None:
            self._not_lost()
            raise PlasmaInvalidArgument(f"{self._called()} was {self.state}")
        if joined.process != this.process:
            self._forgettable, self._joined = True, reached(self._place, lambda client: self._join(client, self._id, 0))
            joined = self._joined
            self._begin_again()
        return joined

    @classmethod
    def _join(cls, client: PlasmaClient, object_id: ObjectID, timeout_ms: int) -> Participant:
        raise NotImplementedError

    @classmethod
    def _join_named(cls, client: PlasmaClient, name: AnyID, timeout: Optional[float]) -> Participant:
        """The same for a user, who is told by the name that he gave what is not there."""
        try:
            return cls._join(client, id_of(name), from_seconds(timeout))
        except (PlasmaObjectNotFound, PlasmaTimeout, PlasmaCorrupt) as error:
            raise type(error)(f"{cls._what} {called(name)}: {error}") from None

    def _begin_again(self) -> None:
        """Forgets what was the parent's."""
        raise NotImplementedError

    def _not_lost(self) -> None:
        state, error = self._gone
        if state == "lost" and error is not None:
            raise type(error)(str(error))

    def _end(self, state: State) -> None:
        self._joined, self._gone = None, (state, None)
        self._begin_again()

    def _called(self) -> str:
        return f"{self._what} {self._id.hex() if self.name is None else repr(self.name)}"


def client_or_default(client: Optional[PlasmaClient]) -> PlasmaClient:
    """The client, or that of the store which this process has for those who name none."""
    if client is None:
        return default_client()
    if not isinstance(client, PlasmaClient):
        raise TypeError(f"client is {client!r}, which is no PlasmaClient")
    return client


def _holders(client: PlasmaClient, object_id: ObjectID) -> List[str]:
    handle, length, size = client._live(), ctypes.c_size_t(), 1 << 12
    while True:
        out = ctypes.create_string_buffer(size)
        check(lib.tensor_shared_holders(handle.pointer, c_id(object_id), out, size, length))
        if length.value < size:
            return out.value.decode("utf-8", "replace").splitlines()
        size = length.value + 1
