"""Awaits on a tensor ring: messages by its descriptor, free slots by a thread that waits for them."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from typing import TYPE_CHECKING, Optional

from .errors import PlasmaTimeout

if TYPE_CHECKING:
    from .ring_slot import RingSlot
    from .tensor_ring import TensorRing

# How long the thread of an await that was cancelled may still wait.
_SLICE_S = 0.1


class Readable:
    """Awaits that a descriptor can be read, again and again until a time is over."""

    def __init__(self, descriptor: int, timeout_ms: int) -> None:
        self._descriptor = descriptor
        self._deadline = None if timeout_ms < 0 else time.monotonic() + timeout_ms / 1000

    async def again(self) -> bool:
        """Whether it can be read before the time is over."""
        left = None if self._deadline is None else self._deadline - time.monotonic()
        if left is not None and left <= 0:
            return False
        loop = asyncio.get_running_loop()
        # A loop has one callback for a descriptor, and there may be several awaits.
        own, heard = os.dup(self._descriptor), loop.create_future()
        loop.add_reader(own, _hear, heard)
        try:
            await asyncio.wait({heard}, timeout=left)
        finally:
            loop.remove_reader(own)
            os.close(own)
        return True


def _hear(heard: asyncio.Future[None]) -> None:
    if not heard.done():
        heard.set_result(None)


class AcquiresLater:
    """A slot that a thread waits for, while an event loop does something else."""

    def __init__(self, ring: TensorRing, patience_ms: int) -> None:
        self._ring, self._patience_ms = ring, patience_ms
        self._unwanted = threading.Event()

    async def result(self) -> RingSlot:
        """The slot. When this is cancelled the thread waits a tenth of a second longer at most, and gives back what it got."""
        waiting = asyncio.get_running_loop().run_in_executor(None, self._wait)
        try:
            slot = await asyncio.shield(waiting)
        except asyncio.CancelledError:
            self._unwanted.set()
            # A slot that nobody has any more gives itself back.
            waiting.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise
        assert slot is not None
        return slot

    def _wait(self) -> Optional[RingSlot]:
        patience = self._patience_ms
        deadline = None if patience < 0 else time.monotonic() + patience / 1000
        while not self._unwanted.is_set():
            left = _SLICE_S if deadline is None else min(_SLICE_S, max(0.0, deadline - time.monotonic()))
            try:
                return self._ring.acquire(left)
            except PlasmaTimeout:
                if deadline is not None and time.monotonic() >= deadline:
                    raise
        return None
