"""start_store: a store for a program, a test or a notebook, inside this process or as a daemon of its own."""

from __future__ import annotations

import ctypes
import os
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Callable, Literal, Optional, Tuple, Type

from . import _abi, _find
from ._lib import lib
from .daemon import running, socket_directory
from .errors import PlasmaInvalidArgument, check
from .forgotten import Ending
from .object_id import c_text

DEFAULT_CAPACITY = 256 << 20


@dataclass(frozen=True)
class Store:
    """A store that runs, until the end of the `with` block or until `close`.

    One that is forgotten ends when this is collected, with a ResourceWarning. A pickle of it, or a forked child, knows where it
    is, and ends nothing.
    """

    socket_path: str
    """Where clients connect."""
    capacity: int
    """Bytes of data and metadata that it holds at most."""
    pid: int
    """The process that it runs in: this one, or the daemon's."""
    _ending: Optional[Ending] = field(default=None, compare=False)

    def close(self) -> None:
        """Ends it. May be repeated. What clients hold stays readable."""
        if self._ending is not None:
            self._ending.now()

    @property
    def state(self) -> Literal["running", "closed", "another's"]:
        """Whether it is "running" or "closed"; "another's" of one that was unpickled, which cannot tell."""
        if self._ending is None:
            return "another's"
        return "closed" if self._ending.is_over else "running"

    def __repr__(self) -> str:
        known = f"socket_path={self.socket_path!r}, capacity={self.capacity}, pid={self.pid}"
        return f"Store({known}, state={self.state!r})"

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()

    def __reduce__(self) -> Tuple[Type[Store], Tuple[str, int, int]]:
        return Store, (self.socket_path, self.capacity, self.pid)


def start_store(capacity: int = DEFAULT_CAPACITY, socket_path: Optional[str] = None, process: bool = False) -> Store:
    """Starts a store, to be used in a `with` block, or closed by `close`. Clients can connect then, also from other processes.

    By default it is a thread inside this process and ends with it; with `process` it is the daemon plasma-store-server,
    found by $PLASMA_STORE_SERVER, then beside this package, then on PATH. Without `socket_path` it listens in a fresh
    directory that only this user can enter. What clients hold stays readable when it has ended.

        >>> import plasma_store
        >>> with plasma_store.start_store(1 << 20) as store, plasma_store.connect(store.socket_path) as client:
        ...     client.get(client.put("hello"))
        'hello'
    """
    if not 0 < capacity < 1 << 63:
        raise PlasmaInvalidArgument(f"capacity is {capacity}; it must be positive and below 2^63")
    path = None if socket_path is None else os.fspath(socket_path)
    return _daemon(capacity, path) if process else _embedded(capacity, path)


def _running(path: str, capacity: int, pid: int, stop: Callable[[], None]) -> Store:
    return Store(path, capacity, pid, Ending(stop, f"store at {path}", "close it, or use it in a `with` block"))


def _embedded(capacity: int, socket_path: Optional[str]) -> Store:
    path = None if socket_path is None else c_text(socket_path, "socket_path")
    options = _abi.plasma_store_options(socket_path=path, capacity=capacity)
    options.struct_size = ctypes.sizeof(options)
    out = ctypes.POINTER(_abi.plasma_store)()
    check(lib.plasma_store_start(options, out))
    path_given = os.fsdecode(lib.plasma_store_socket(out))
    return _running(path_given, capacity, os.getpid(), lambda: check(lib.plasma_store_stop(out)))


def _daemon(capacity: int, socket_path: Optional[str]) -> Store:
    program = _find.server()
    with ExitStack() as stack:
        path = socket_path
        if path is None:
            path = os.path.join(stack.enter_context(socket_directory()), "plasma.sock")
        daemon = stack.enter_context(running([program, "-s", path, "-m", str(capacity)], path))
        return _running(path, capacity, daemon.pid, stack.pop_all().close)
