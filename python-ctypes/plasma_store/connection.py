"""Connection: what a client needs to talk to its store at all: the handle, waiting, interruption, the end."""

from __future__ import annotations

import ctypes
import os
from types import TracebackType
from typing import Any, Callable, List, Optional, Tuple, Type, TypeVar

from . import _abi
from ._lib import bare, lib
from .buffer import Hold, new_holds
from .errors import PlasmaDisconnected, PlasmaError, PlasmaInvalidArgument, check
from .forgotten import forgotten
from .object_id import OBJECT_ID_SIZE, AnyID, AnyIDs, c_text, id_of, ids_of, packed, whole
from .reference import Place, client_again, place_of
from .waiting import milliseconds, until_done

RETRY_MS = 100
DEFAULT_RETRIES = 80
_get = bare("plasma_get")
_ONE, AT_ONCE = ctypes.c_size_t(1), ctypes.c_int64(0)
# Only read, by any number of threads.
SHARED = None
PRIVATE = ctypes.byref(
    _abi.plasma_get_options(struct_size=ctypes.sizeof(_abi.plasma_get_options), flags=_abi.PLASMA_GET_PRIVATE)
)
Self = TypeVar("Self", bound="Connection")


class Handle:
    """The `plasma_client`. Every call keeps a reference to it, so it is freed when it was dropped and no call is in it."""

    __slots__ = ("pointer",)

    def __init__(self) -> None:
        self.pointer: Any = ctypes.POINTER(_abi.plasma_client)()

    def __del__(self, free: Any = lib.plasma_client_free) -> None:
        # Not so when Ctrl-C came before `__init__` did anything.
        if hasattr(self, "pointer"):
            pointer, self.pointer = self.pointer, type(self.pointer)()
            # An await that is collected together with this may end later, and must find nothing.
            free(pointer)


class Connection:
    """The part of `PlasmaClient` that every call needs."""

    _handle: Optional[Handle] = None
    _place: Place
    _process: int
    _forgettable = False
    """Whether nobody need disconnect it: nobody called `connect`."""
    _why: Optional[PlasmaError] = None
    """Why it could not be connected again."""

    def __init__(
        self, store_socket_name: Optional[str] = None, num_retries: int = -1, *, copy_threads: int = 0, spin_us: int = 0
    ) -> None:
        self._socket = None if store_socket_name is None else os.fspath(store_socket_name)
        self._interrupts = 0
        self._options = {"copy_threads": copy_threads, "spin_us": spin_us}
        path = None if self._socket is None else c_text(self._socket, "store_socket_name")
        # ctypes would take -1 for the highest number that there is.
        handle, threads, spin = Handle(), whole(copy_threads, "copy_threads"), whole(spin_us, "spin_us")
        if not 0 <= threads < 1 << 64:
            raise PlasmaInvalidArgument(f"copy_threads is {threads}, and so many threads cannot copy")
        if not 0 <= spin < 1 << 32:
            raise PlasmaInvalidArgument(f"spin_us is {spin}; it must be 0 or positive and below 2^32")

        def call(timeout_ms: int) -> int:
            options = _abi.plasma_connect_options(flags=_abi.PLASMA_CONNECT_RETURN_ON_SIGNAL, timeout_ms=timeout_ms)
            options.copy_threads, options.spin_us = threads, spin
            options.struct_size = ctypes.sizeof(options)
            status: int = lib.plasma_connect(path, options, handle.pointer)
            return status

        retries = DEFAULT_RETRIES if num_retries < 0 else num_retries
        check(until_done(call, retries * RETRY_MS, lambda: False))
        self._place, self._process = place_of(self._socket), os.getpid()
        self._handle = handle

    @property
    def store_socket_name(self) -> Optional[str]:
        """The socket that was given; None stands for the default."""
        return self._socket

    def interrupt(self) -> None:
        """Makes every call that waits on this client, in any thread, raise PlasmaInterrupted. Fine in a signal handler."""
        handle = self._handle
        if handle is not None:
            # Counted first: the call that wakes up looks whether it was this or a signal that woke it.
            self._interrupts += 1
            lib.plasma_interrupt(handle.pointer)

    def disconnect(self) -> None:
        """Closes the connection; a call that waits raises PlasmaInterrupted. May be repeated.

        Objects created here and not sealed are aborted, those with a live buffer when that goes. Buffers and tensors stay
        readable.
        """
        self.interrupt()
        self._handle = None

    def _live(self) -> Handle:
        handle = self._handle
        if handle is None:
            if self._why is not None:
                raise type(self._why)(str(self._why))
            raise PlasmaDisconnected(f"this client of {self._name()} was disconnected")
        return handle

    def _lose(self, place: Place, error: PlasmaError) -> None:
        """Makes it one that was unpickled and cannot be connected; whatever needs the store raises `error`."""
        self._socket, self._interrupts, self._why = place.socket, 0, error

    def __reduce__(self) -> Tuple[Any, ...]:
        self._live()
        return client_again, (type(self), self._place, self._options)

    # Bound as a default because globals may be gone when the interpreter ends. A forked child leaves its parent's client alone.
    def __del__(self, forgotten: Any = forgotten) -> None:
        if self._handle is not None and not self._forgettable:
            forgotten(self, self._process, "disconnect it, or use it in a `with` block")

    def _get(self, object_ids: AnyIDs, timeout_ms: int, private: bool = False) -> List[Hold]:
        """Holds in the order of the ids, false where the object did not come in time."""
        wanted = ids_of(object_ids)
        if len(wanted) == 1:
            return [self._get_one(wanted[0], timeout_ms, private)]
        ids, count = packed(wanted), len(wanted)
        patience = milliseconds(timeout_ms)
        handle, interrupts = self._live(), self._interrupts
        out, holds = new_holds(count)
        # What is there is got without a system call, so nothing is prepared for a wait.
        status = _get(handle.pointer, ids, ctypes.c_size_t(count), AT_ONCE, PRIVATE if private else SHARED, out)
        if patience == 0 or status not in (_abi.PLASMA_TIMEOUT, _abi.PLASMA_INTERRUPTED):
            return those_here(status, holds)
        late = [index for index, hold in enumerate(holds) if not hold]
        missing = b"".join([ids[index * OBJECT_ID_SIZE : (index + 1) * OBJECT_ID_SIZE] for index in late])
        for index, hold in zip(late, self._wait_for(missing, patience, private, interrupts)):
            holds[index] = hold
        return holds

    def _get_one(self, object_id: AnyID, timeout_ms: int, private: bool = False) -> Hold:
        """The same for one object."""
        wanted = id_of(object_id)._bytes
        patience = -1 if timeout_ms == -1 else milliseconds(timeout_ms)
        handle, interrupts, hold = self._live(), self._interrupts, Hold()
        status = _get(handle.pointer, wanted, _ONE, AT_ONCE, PRIVATE if private else SHARED, ctypes.byref(hold))
        if not status:
            return hold
        if patience == 0 or status not in (_abi.PLASMA_TIMEOUT, _abi.PLASMA_INTERRUPTED):
            return those_here(status, [hold])[0]
        return self._wait_for(wanted, patience, private, interrupts)[0]

    def _wait_for(self, ids: bytes, timeout_ms: int, private: bool, interrupts: int) -> List[Hold]:
        """Gets objects that were not there just now; an `interrupt` since so many were counted ends it."""
        count = ctypes.c_size_t(len(ids) // OBJECT_ID_SIZE)
        out, holds = new_holds(count.value)

        def call(handle: Handle, left_ms: int) -> int:
            left = ctypes.c_int64(left_ms)
            status: int = _get(handle.pointer, ids, count, left, PRIVATE if private else SHARED, out)
            return status

        return those_here(self._call(call, timeout_ms, interrupts), holds)

    def _call(self, call: Callable[[Handle, int], int], time_ms: int, interrupts: Optional[int] = None) -> int:
        """Makes a call that waits at most so long, and returns its status; `interrupt` ends it."""
        handle, before = self._live(), self._interrupts if interrupts is None else interrupts
        return until_done(lambda left_ms: call(handle, left_ms), time_ms, lambda: self._interrupts != before)

    def _name(self) -> str:
        return "the default socket" if self._socket is None else self._socket

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.disconnect()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {', '.join([self._name(), *self._told()])}>"

    def _told(self) -> List[str]:
        """What a reader of its `repr` should know."""
        if self._handle is None:
            return ["disconnected" if self._why is None else "lost"]
        return [] if self._process == os.getpid() else [f"of process {self._process}"]


def those_here(status: int, holds: List[Hold]) -> List[Hold]:
    """The holds of a get, if nothing went wrong but that some objects are missing."""
    if status != _abi.PLASMA_TIMEOUT:
        check(status)
    return holds
