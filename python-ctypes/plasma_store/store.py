"""start_store: a store for a program, a test or a notebook, inside this process or as a daemon of its own."""

from __future__ import annotations

import ctypes
import os
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Callable, Iterator, Optional, Tuple

from . import _abi, _find
from ._lib import lib
from .daemon import running, socket_directory
from .errors import PlasmaInvalidArgument, check
from .object_id import c_text

DEFAULT_CAPACITY = 256 << 20


@dataclass(frozen=True)
class Store:
    """A store that runs."""

    socket_path: str
    """Where clients connect."""
    capacity: int
    """Bytes of data and metadata that it holds at most."""
    pid: int
    """The process that it runs in: this one, or the daemon's."""


@contextmanager
def start_store(capacity: int = DEFAULT_CAPACITY, socket_path: Optional[str] = None, process: bool = False) -> Iterator[Store]:
    """Runs a store until the end of the `with` block. When it begins, clients can connect, also from other processes.

    By default it is a thread inside this process and ends with it; with `process` it is the daemon plasma-store-server,
    found by $PLASMA_STORE_SERVER, then beside this package, then on PATH. Without `socket_path` it listens in a fresh
    directory that only this user can enter. What clients hold stays readable when it has ended.
    """
    if not 0 < capacity < 1 << 63:
        raise PlasmaInvalidArgument(f"capacity is {capacity}; it must be positive and below 2^63")
    path = None if socket_path is None else os.fspath(socket_path)
    store, stop = _daemon(capacity, path) if process else _embedded(capacity, path)
    owner = os.getpid()
    try:
        yield store
    finally:
        # A forked child that leaves the block leaves its parent's store alone.
        if os.getpid() == owner:
            stop()


def _embedded(capacity: int, socket_path: Optional[str]) -> Tuple[Store, Callable[[], None]]:
    path = None if socket_path is None else c_text(socket_path, "socket_path")
    options = _abi.plasma_store_options(socket_path=path, capacity=capacity)
    options.struct_size = ctypes.sizeof(options)
    out = ctypes.POINTER(_abi.plasma_store)()
    check(lib.plasma_store_start(options, out))
    store = Store(os.fsdecode(lib.plasma_store_socket(out)), capacity, os.getpid())
    return store, lambda: check(lib.plasma_store_stop(out))


def _daemon(capacity: int, socket_path: Optional[str]) -> Tuple[Store, Callable[[], None]]:
    program = _find.server()
    with ExitStack() as stack:
        path = socket_path
        if path is None:
            path = os.path.join(stack.enter_context(socket_directory()), "plasma.sock")
        daemon = stack.enter_context(running([program, "-s", path, "-m", str(capacity)], path))
        return Store(path, capacity, daemon.pid), stack.pop_all().close
