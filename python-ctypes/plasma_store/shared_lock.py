"""The lock of a shared tensor."""

from __future__ import annotations

import os
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Optional, Type

from . import _abi
from ._lib import lib
from .errors import PlasmaError, PlasmaInvalidArgument, check
from .participant import Participant
from .waiting import from_seconds

if TYPE_CHECKING:
    from .shared_tensor import SharedTensor


class SharedLock:
    """The lock of a shared tensor, between processes and threads, for a `with` block. Made by `SharedTensor.lock`."""

    __slots__ = ("_joined", "_shared", "_timeout_ms", "owner_died")

    owner_died: bool
    """Whether who had the lock before died with it: what it was about to write may be half written."""

    def __init__(self, shared: SharedTensor, timeout: Optional[float]) -> None:
        self._shared, self._timeout_ms = shared, from_seconds(timeout)
        self._joined: Optional[Participant] = None
        self.owner_died = False

    def acquire(self) -> None:
        """Waits for the lock and takes it. Raises PlasmaTimeout; PlasmaBusy when this thread has it already."""
        joined, mine = self._shared._live(), threading.get_ident()
        had = self._shared._owner == mine
        try:
            status = joined.wait(lambda left_ms: lib.tensor_shared_lock(joined.pointer, left_ms), self._timeout_ms)
            if status != _abi.PLASMA_OWNER_DIED:
                check(status)
            self.owner_died, self._joined = status == _abi.PLASMA_OWNER_DIED, joined
            self._shared._owner = mine
        except PlasmaError:
            raise
        except BaseException:
            # Ctrl-C may have come when the lock was taken already. The library knows whether this thread has it.
            if not had:
                self._undo(joined, mine)
            raise

    def _undo(self, joined: Participant, mine: int) -> None:
        self._joined = None
        if self._shared._owner == mine:
            self._shared._owner = 0
        lib.tensor_shared_unlock(joined.pointer)

    def release(self) -> None:
        """Gives the lock back. A forked child has none of its parent's to give."""
        joined, self._joined = self._joined, None
        if joined is None:
            raise PlasmaInvalidArgument(f"the lock of {self._shared._called()} was not taken by this")
        if joined.process == os.getpid():
            self._shared._owner = 0
            check(lib.tensor_shared_unlock(joined.pointer))

    def __enter__(self) -> SharedLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.release()
