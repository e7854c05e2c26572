"""What can go wrong: one exception for each status that a caller may want to tell apart.

All derive from PlasmaError, and from the built-in exception that says the same, where there is one. In a program that uses
pyarrow, those that pyarrow.plasma had derive from its ArrowException as well, from the first that is raised on.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple, Type

from . import _abi
from ._lib import lib

if TYPE_CHECKING:
    from .object_id import ObjectID


class PlasmaError(Exception):
    """A call of the library failed. The text contains the number or name that was wrong."""


class PlasmaObjectExists(PlasmaError):
    """An object with this id exists already."""


class PlasmaObjectNotFound(PlasmaError):
    """There is no such object, or none that this client may act on."""


class PlasmaStoreFull(PlasmaError):
    """There is no room for the object, also after evicting what may be evicted. The text says what takes it, and who."""


class PlasmaNotStored(PlasmaError):
    """Objects that were put or sealed without waiting are not there. The text begins with some of them."""

    failed: List[Tuple[ObjectID, PlasmaError]]
    """Each with the reason; at most some 65000 of them."""

    def __init__(self, text: str, failed: Optional[List[Tuple[ObjectID, PlasmaError]]] = None) -> None:
        super().__init__(text)
        self.failed = failed or []


class PlasmaObjectNotSealed(PlasmaError):
    """The object is not sealed yet."""


class PlasmaObjectInUse(PlasmaError):
    """Somebody holds the object."""


class PlasmaObjectAlreadySealed(PlasmaError, TypeError):
    """The object is sealed already. A TypeError, as it was in pyarrow.plasma."""


class PlasmaTimeout(PlasmaError, TimeoutError):
    """The time ran out."""


class PlasmaInterrupted(PlasmaError):
    """`PlasmaClient.interrupt` or `disconnect` was called while the call waited."""


class PlasmaBusy(PlasmaError):
    """Something of the caller's own is in the way, such as a live buffer of an object to be aborted."""


class PlasmaExported(PlasmaBusy, BufferError):
    """Arrays or other views of this process still lie in memory that is to be given up."""


class PlasmaInvalidArgument(PlasmaError, ValueError):
    """An argument that no call could be made with."""


class PlasmaDisconnected(PlasmaError, ConnectionError):
    """The store ended, or this client was disconnected. Buffers and tensors stay readable."""


class PlasmaConnectError(PlasmaError, ConnectionError):
    """No store answers at that path."""


class PlasmaUnsupportedPeer(PlasmaConnectError):
    """Whoever answers is an old Plasma daemon, or no store at all."""


class PlasmaProtocolError(PlasmaError, ConnectionError):
    """The store sent something that it must not send."""


class PlasmaUnsupported(PlasmaError, TypeError):
    """A dtype, device or layout that cannot be stored, or a value whose form nothing that is installed can read."""


class PlasmaCorrupt(PlasmaError, ValueError):
    """The object is not a valid tensor, or not a value that `put` wrote."""


class PlasmaForked(PlasmaError, RuntimeError):
    """The client was made by the parent process; connect again after fork."""


class PlasmaOutOfMemory(PlasmaError, MemoryError):
    """This process could not map or allocate memory."""


class PlasmaIOError(PlasmaError, OSError):
    """A system call failed."""


class PlasmaAddressInUse(PlasmaError, OSError):
    """A live store, or a file that is not a store's, is at the socket's path."""


class PlasmaPanic(PlasmaError, RuntimeError):
    """A bug in the library. The process is unharmed."""


class PlasmaOwnerDied(PlasmaError):
    """The lock is taken, and who had it before died with it: what it protects may be half done."""


class PlasmaClosed(PlasmaError, EOFError):
    """The ring is closed: it takes no message any more, and has none left."""


class PlasmaAborted(PlasmaError):
    """The ring was ended for everybody."""


BY_STATUS: Dict[int, Type[PlasmaError]] = {
    _abi.PLASMA_OBJECT_EXISTS: PlasmaObjectExists,
    _abi.PLASMA_OBJECT_NOT_FOUND: PlasmaObjectNotFound,
    _abi.PLASMA_STORE_FULL: PlasmaStoreFull,
    _abi.PLASMA_OBJECT_NOT_SEALED: PlasmaObjectNotSealed,
    _abi.PLASMA_OBJECT_IN_USE: PlasmaObjectInUse,
    _abi.PLASMA_OBJECT_ALREADY_SEALED: PlasmaObjectAlreadySealed,
    _abi.PLASMA_TIMEOUT: PlasmaTimeout,
    _abi.PLASMA_INTERRUPTED: PlasmaInterrupted,
    _abi.PLASMA_BUSY: PlasmaBusy,
    _abi.PLASMA_INVALID_ARGUMENT: PlasmaInvalidArgument,
    _abi.PLASMA_DISCONNECTED: PlasmaDisconnected,
    _abi.PLASMA_CONNECT_FAILED: PlasmaConnectError,
    _abi.PLASMA_UNSUPPORTED_PEER: PlasmaUnsupportedPeer,
    _abi.PLASMA_PROTOCOL_ERROR: PlasmaProtocolError,
    _abi.PLASMA_UNSUPPORTED: PlasmaUnsupported,
    _abi.PLASMA_CORRUPT: PlasmaCorrupt,
    _abi.PLASMA_FORKED: PlasmaForked,
    _abi.PLASMA_OUT_OF_MEMORY: PlasmaOutOfMemory,
    _abi.PLASMA_IO_ERROR: PlasmaIOError,
    _abi.PLASMA_ADDRESS_IN_USE: PlasmaAddressInUse,
    _abi.PLASMA_PANIC: PlasmaPanic,
    _abi.PLASMA_OWNER_DIED: PlasmaOwnerDied,
    _abi.PLASMA_CLOSED: PlasmaClosed,
    _abi.PLASMA_ABORTED: PlasmaAborted,
}


def check(status: int) -> None:
    """Raises the exception of a status that this thread's last call returned; PLASMA_OK is nothing.

    A status that a newer library may have added is a plain PlasmaError.
    """
    if status != _abi.PLASMA_OK:
        text = lib.plasma_last_error_message() or lib.plasma_status_string(status)
        _join_arrow(sys.modules.get("pyarrow.lib"))
        raise BY_STATUS.get(status, PlasmaError)(text.decode("utf-8", "replace"))


def _join_arrow(arrow: Any) -> None:
    """Lets `except pyarrow.ArrowException` catch what it caught from pyarrow.plasma.

    Such a clause looks only at an exception's real bases. They are completed here and not when this module is imported, which
    need not wait for pyarrow then: a program that has such a clause has imported pyarrow by the time that the clause matters.
    """
    if hasattr(arrow, "ArrowTypeError") and not issubclass(PlasmaObjectExists, arrow.ArrowException):
        PlasmaObjectAlreadySealed.__bases__ = (PlasmaError, arrow.ArrowTypeError)
        # The one that is asked above comes last: another thread may ask in between.
        for kind in (PlasmaObjectNotFound, PlasmaStoreFull, PlasmaObjectExists):
            kind.__bases__ = (PlasmaError, arrow.ArrowException)
