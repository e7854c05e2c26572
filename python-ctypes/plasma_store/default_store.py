"""default_store: the store that this process has for shared tensors and rings whose maker names no client.

It is started when it is first needed, by a thread inside this process, and ends with it. Other processes reach it by the pickles
of what lies in it. A child made by `fork` has none of its parent's: it starts one of its own when it needs one.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from typing import Optional

from .client import PlasmaClient
from .store import Store, start_store

# Only what is used takes memory, and an eighth of it that is made ready.
CAPACITY = 1 << 30


class _Default:
    """The store and its client, once there are any."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.store: Optional[Store] = None
        self.client: Optional[PlasmaClient] = None


_default = _Default()


def default_client() -> PlasmaClient:
    """The client of the default store, which is started if there is none."""
    with _default.lock:
        if _default.client is None:
            _default.store = start_store(CAPACITY)
            _default.client = PlasmaClient(_default.store.socket_path)
            # Nobody called `connect`, so nobody forgot to disconnect.
            _default.client._forgettable = True
            _end_with_process()
        return _default.client


def _forget() -> None:
    """A child made by fork has neither, and its parent may have held the lock."""
    global _default
    _default = _Default()


def _end_with_process() -> None:
    """Has the store end with this process, but after those that multiprocessing has started here and waits for at its end.

    A process that it has forked calls nothing of `atexit` before Python 3.13.
    """
    util = sys.modules.get("multiprocessing.util")
    if util is None:
        # What is registered later is called earlier.
        atexit.register(_end)
    else:
        util.Finalize(None, _end, exitpriority=-1)


def _end() -> None:
    if _default.store is not None:
        _default.store.close()


os.register_at_fork(after_in_child=_forget)
