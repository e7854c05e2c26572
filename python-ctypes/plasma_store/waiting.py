"""waiting: calls that wait, and signals that end them. Nothing polls, and no Ctrl-C is lost.

Python's own handler for a signal runs in whatever thread the kernel picks, and only notes it; the main thread acts on it between
two of its bytecodes. So while the main thread waits in the library, `signal.set_wakeup_fd` has that handler write into a pipe as
well, and the wait watches the pipe's other end (`plasma_set_wake_fd`).
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from typing import Callable, Optional, SupportsFloat

from . import _abi
from ._lib import lib, run_signal_handlers
from .errors import PlasmaInvalidArgument, check
from .object_id import whole

NOWHERE = -1


class _WakePipe:
    """What the main thread's waits watch."""

    def __init__(self) -> None:
        self.readable, self.writable = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        check(lib.plasma_set_wake_fd(self.readable))

    def empty(self, into: int) -> None:
        """Hands what the handler wrote to where it would have written else, to an event loop for example."""
        try:
            numbers = os.read(self.readable, 4096)
            if into != NOWHERE:
                os.write(into, numbers)
        except BlockingIOError:
            pass

    def close(self) -> None:
        lib.plasma_set_wake_fd(NOWHERE)
        os.close(self.readable)
        os.close(self.writable)


_pipe: Optional[_WakePipe] = None


def _forget_pipe() -> None:
    """A child that shared its parent's would take the parent's signals for its own."""
    global _pipe
    if _pipe is not None:
        before = signal.set_wakeup_fd(NOWHERE)
        if before not in (NOWHERE, _pipe.writable):
            signal.set_wakeup_fd(before)
        _pipe.close()
        _pipe = None


os.register_at_fork(after_in_child=_forget_pipe)


def _watched(call: Callable[[int], int], timeout_ms: int) -> int:
    """Makes a call that waits; in the main thread it returns PLASMA_INTERRUPTED when a signal comes."""
    global _pipe
    if threading.current_thread() is not threading.main_thread():
        return call(timeout_ms)
    pipe = _pipe = _pipe or _WakePipe()
    try:
        before = signal.set_wakeup_fd(pipe.writable, warn_on_full_buffer=False)
    except ValueError:
        # The main thread of a subinterpreter, which gets no signals.
        return call(timeout_ms)
    try:
        # A signal that came before its handler knew of the pipe wrote nothing.
        run_signal_handlers()
        return call(timeout_ms)
    finally:
        signal.set_wakeup_fd(before, warn_on_full_buffer=False)
        pipe.empty(before)


def until_done(call: Callable[[int], int], timeout_ms: int, interrupted: Callable[[], bool]) -> int:
    """Makes a call that waits, with the milliseconds left, and again when a signal ended it before its time.

    In between, Python's signal handlers run: that of Ctrl-C raises KeyboardInterrupt here. Returns the last status.
    """
    if timeout_ms == 0:
        return call(0)
    deadline = time.monotonic() + timeout_ms / 1000
    left_ms = timeout_ms
    while True:
        status = _watched(call, left_ms)
        if status != _abi.PLASMA_INTERRUPTED:
            return status
        run_signal_handlers()
        if interrupted():
            return status
        if timeout_ms > 0:
            left_ms = max(0, math.ceil((deadline - time.monotonic()) * 1000))


def milliseconds(time_ms: int, name: str = "timeout_ms") -> int:
    """A time to wait, checked."""
    checked = whole(time_ms, name)
    if not -1 <= checked < 1 << 63:
        raise PlasmaInvalidArgument(f"{name} is -1, 0 or positive and below 2^63, not {checked}")
    return checked


def from_seconds(seconds: Optional[float], name: str = "timeout") -> int:
    """A time to wait as C takes it: milliseconds, or -1 for None, which stands for as long as it takes."""
    if seconds is None:
        return -1
    if not isinstance(seconds, SupportsFloat):
        raise TypeError(f"{name} is {seconds!r}, which is no number")
    if not seconds >= 0:
        raise PlasmaInvalidArgument(f"{name} is None, 0 or so many seconds, not {seconds!r}")
    return milliseconds(math.ceil(seconds * 1000), name) if seconds < 1e15 else -1
