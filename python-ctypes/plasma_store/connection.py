"""Connection: what a client needs to talk to its store at all: the handle, waiting, interruption, the end."""

from __future__ import annotations

import ctypes
import os
from types import TracebackType
from typing import Any, Callable, Iterable, List, Optional, Type, TypeVar

from . import _abi
from ._lib import lib
from .buffer import Hold, Pointer
from .errors import PlasmaDisconnected, check
from .object_id import ObjectID, c_ids, c_text
from .waiting import milliseconds, until_done

RETRY_MS = 100
DEFAULT_RETRIES = 80
Self = TypeVar("Self", bound="Connection")


class _Handle:
    """The `plasma_client`. Every call keeps a reference to it, so it is freed when it was dropped and no call is in it."""

    __slots__ = ("pointer",)

    def __init__(self) -> None:
        self.pointer = ctypes.POINTER(_abi.plasma_client)()

    def __del__(self, free: Any = lib.plasma_client_free) -> None:
        # Not so when Ctrl-C came before `__init__` did anything.
        if hasattr(self, "pointer"):
            free(self.pointer)


class Connection:
    """The part of `PlasmaClient` that every call needs."""

    def __init__(self, store_socket_name: Optional[str] = None, num_retries: int = -1) -> None:
        self._socket = None if store_socket_name is None else os.fspath(store_socket_name)
        self._interrupts = 0
        self._handle: Optional[_Handle] = None
        path = None if self._socket is None else c_text(self._socket, "store_socket_name")
        handle = _Handle()

        def call(timeout_ms: int) -> int:
            options = _abi.plasma_connect_options(flags=_abi.PLASMA_CONNECT_RETURN_ON_SIGNAL, timeout_ms=timeout_ms)
            options.struct_size = ctypes.sizeof(options)
            status: int = lib.plasma_connect(path, options, handle.pointer)
            return status

        retries = DEFAULT_RETRIES if num_retries < 0 else num_retries
        check(until_done(call, retries * RETRY_MS, lambda: False))
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

    def _live(self) -> _Handle:
        handle = self._handle
        if handle is None:
            raise PlasmaDisconnected(f"this client of {self._name()} was disconnected")
        return handle

    def _get(self, object_ids: Iterable[ObjectID], timeout_ms: int, flags: int = 0) -> List[Hold]:
        """Holds in the order of the ids; false pointers where the object did not come in time."""
        ids, count = c_ids(object_ids)
        timeout_ms = milliseconds(timeout_ms)
        options = _abi.plasma_get_options(struct_size=ctypes.sizeof(_abi.plasma_get_options), flags=flags)
        out = (Pointer * count)()
        holds = [Hold(out, index) for index in range(count)]

        def call(handle: _Handle, left_ms: int) -> int:
            status: int = lib.plasma_get(handle.pointer, ids, count, left_ms, options, out)
            return status

        status = self._call(call, timeout_ms)
        if status != _abi.PLASMA_TIMEOUT:
            check(status)
        return holds

    def _call(self, call: Callable[[_Handle, int], int], time_ms: int) -> int:
        """Makes a call that waits at most so long, and returns its status; `interrupt` ends it."""
        handle, interrupts = self._live(), self._interrupts
        return until_done(lambda left_ms: call(handle, left_ms), time_ms, lambda: self._interrupts != interrupts)

    def _name(self) -> str:
        return "the default socket" if self._socket is None else self._socket

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.disconnect()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._name()}{'' if self._handle else ', disconnected'}>"
