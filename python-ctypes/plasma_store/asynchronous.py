"""asynchronous: objects awaited on an event loop, without a thread for each.

The store knocks at a descriptor of the client when something that is watched was sealed, and the loop polls that while there are
awaits. An object that cannot be seen without asking the store, for it may have to come from an external one first, is got by a
thread of the loop's executor: the loop itself never waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import threading
from typing import Any, Dict, Iterable, Iterator, List, Optional, Set, Tuple

from . import _abi
from ._lib import bare, lib
from .buffer import Hold, new_holds
from .connection import AT_ONCE, PRIVATE, SHARED, Connection, Handle, those_here
from .errors import PlasmaBusy, PlasmaError, PlasmaInterrupted, check
from .notifications import Notifications
from .object_id import AnyIDs, ids_of
from .waiting import milliseconds

_get = bare("plasma_get")
_SIZE = ctypes.sizeof(_abi.plasma_get_options)
_SEEN = ctypes.byref(_abi.plasma_get_options(struct_size=_SIZE, flags=_abi.PLASMA_GET_NO_ASK))
_SEEN_PRIVATE = ctypes.byref(
    _abi.plasma_get_options(struct_size=_SIZE, flags=_abi.PLASMA_GET_NO_ASK | _abi.PLASMA_GET_PRIVATE)
)
# Taken from the library at once.
_TAKEN = 256
# How often an object that is there and cannot be got is tried.
_ATTEMPTS = 3
# For who begins and ends to watch. A coroutine may be collected, and so end, in the middle of either.
_lock = threading.RLock()


class _Bell:
    """One await. It is woken when something that it watches was rung, its time is over, or somebody interrupts."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.watched: Set[bytes] = set()
        self.rung: Set[bytes] = set()
        self.is_over = False
        self._loop = loop
        self._woken = loop.create_future()

    def wake(self) -> None:
        if not self._woken.done():
            self._woken.set_result(None)

    def end(self) -> None:
        self.is_over = True
        self.wake()

    async def wait(self) -> None:
        await self._woken
        self._woken = self._loop.create_future()


class _Watcher:
    """All awaits of one client, in one event loop, which polls the client's descriptor as long as there are any."""

    def __init__(self, handle: Handle, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._handle: Optional[Handle] = handle
        self._bells: Set[_Bell] = set()
        self._waiting: Dict[bytes, Set[_Bell]] = {}
        self._ended: Optional[PlasmaError] = None
        self._descriptor = lib.plasma_watch_fd(handle.pointer)
        if self._descriptor < 0:
            check(lib.plasma_watch(handle.pointer, None, 0))
        loop.add_reader(self._descriptor, self._take)

    def join(self, bell: _Bell) -> None:
        self._bells.add(bell)

    def watch(self, bell: _Bell, names: Iterable[bytes]) -> None:
        """Rings the bell when one of these objects is worth a look. Raises when nothing more will come from the store."""
        new = [name for name in names if name not in self._waiting]
        for name in names:
            self._waiting.setdefault(name, set()).add(bell)
            bell.watched.add(name)
        self.check()
        if new and self._handle is not None:
            check(lib.plasma_watch(self._handle.pointer, _ids(new), len(new)))

    def leave(self, bell: _Bell) -> bool:
        """An await has ended. Returns whether it was the last one."""
        alone = []
        for name in bell.watched:
            bells = self._waiting[name]
            bells.discard(bell)
            if not bells:
                del self._waiting[name]
                alone.append(name)
        if alone and self._handle is not None:
            # Fails only when the store is gone.
            lib.plasma_unwatch(self._handle.pointer, _ids(alone), len(alone))
        self._bells.discard(bell)
        return not self._bells

    def close(self) -> None:
        """Has nobody poll any more. Awaits of a loop that was closed may still be there, and will never go on."""
        if self._handle is not None and self._waiting:
            names = [*self._waiting]
            lib.plasma_unwatch(self._handle.pointer, _ids(names), len(names))
        self._stop_polling()
        # Only now may the descriptor be closed.
        self._handle = None

    def check(self) -> None:
        """Raises why nothing more will come, if that is so."""
        if self._ended is not None:
            raise type(self._ended)(*self._ended.args)

    def wake_all(self) -> None:
        for bell in self._bells:
            bell.wake()

    def wake_soon(self) -> None:
        """The same from any thread."""
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.wake_all)

    def _take(self) -> None:
        """The descriptor can be read."""
        names, count = (_abi.plasma_object_id * _TAKEN)(), ctypes.c_size_t(_TAKEN)
        while self._handle is not None and count.value == _TAKEN:
            try:
                check(lib.plasma_watch_take(self._handle.pointer, names, _TAKEN, count))
            except PlasmaError as error:
                self._ended = error
                self._stop_polling()
                return self.wake_all()
            for name in names[: count.value]:
                self._ring(bytes(name))

    def _ring(self, name: bytes) -> None:
        for bell in self._waiting.pop(name, ()):
            bell.watched.discard(name)
            bell.rung.add(name)
            bell.wake()

    def _stop_polling(self) -> None:
        if not self.loop.is_closed():
            self.loop.remove_reader(self._descriptor)


class Asynchronous(Notifications):
    """The part of `PlasmaClient` that awaits objects."""

    _watcher: Optional[_Watcher] = None

    def interrupt(self) -> None:
        super().interrupt()
        watcher = self._watcher
        if watcher is not None:
            watcher.wake_soon()

    interrupt.__doc__ = Connection.interrupt.__doc__

    async def _get_later(self, object_ids: AnyIDs, timeout_ms: int, private: bool = False) -> List[Hold]:
        """Holds in the order of the ids, false where the object did not come in time. One that is named twice has one hold."""
        wanted = ids_of(object_ids)
        patience = milliseconds(timeout_ms)
        names, handle, interrupts = [object_id.binary() for object_id in wanted], self._live(), self._interrupts
        got: Dict[bytes, Hold] = {}
        missing = _look(handle, dict.fromkeys(names), private, got)
        if missing and patience == 0:
            loop = asyncio.get_running_loop()
            got.update((await loop.run_in_executor(None, self._fetch, handle, missing, private, interrupts))[0])
        elif missing:
            try:
                with self._bell(handle, patience) as (watcher, bell):
                    await self._wait_until_here(handle, watcher, bell, missing, private, interrupts, got)
            except BaseException:
                # Whoever keeps the exception keeps this frame.
                got.clear()
                raise
        return [got.get(name) or Hold() for name in names]

    async def _wait_until_here(
        self,
        handle: Handle,
        watcher: _Watcher,
        bell: _Bell,
        missing: List[bytes],
        private: bool,
        interrupts: int,
        got: Dict[bytes, Hold],
    ) -> None:
        watcher.watch(bell, missing)
        while missing:
            self._check_interrupted(interrupts)
            if not bell.rung:  # some may have been rung while others were asked for
                await bell.wait()
            self._check_interrupted(interrupts)
            watcher.check()
            rung, bell.rung = bell.rung, set()
            unseen, is_lost = _look(handle, missing if bell.is_over else rung, private, got), False
            if unseen and not bell.is_over:
                unseen, is_lost = await self._ask(handle, bell, unseen, private, interrupts, got)
            if bell.is_over or is_lost:
                return
            watcher.watch(bell, unseen)
            missing = [name for name in missing if name not in got]

    async def _ask(
        self, handle: Handle, bell: _Bell, names: List[bytes], private: bool, interrupts: int, got: Dict[bytes, Hold]
    ) -> Tuple[List[bytes], bool]:
        """Gets objects by asking the store, in another thread. Returns those that are not there, and whether one of the others
        is and could not be got all the same."""
        fetched = asyncio.get_running_loop().run_in_executor(None, self._fetch, handle, names, private, interrupts)
        fetched.add_done_callback(lambda _: bell.wake())
        # Should nobody wait any more when it fails.
        fetched.add_done_callback(lambda done: done.cancelled() or done.exception())
        while not (fetched.done() or bell.is_over):
            self._check_interrupted(interrupts)
            await bell.wait()
        if not fetched.done():
            return names, False
        holds, is_lost = fetched.result()
        got.update(holds)
        return [name for name in names if name not in got], is_lost

    def _fetch(
        self, handle: Handle, names: List[bytes], private: bool, interrupts: int
    ) -> Tuple[Dict[bytes, Hold], bool]:
        """Gets objects by asking the store, which may have to bring them back first. Returns them, and whether one is there that
        could not be got: reading it failed, or others hold all memory."""
        got: Dict[bytes, Hold] = {}
        for _ in range(_ATTEMPTS):
            status, holds = _abi.PLASMA_INTERRUPTED, list[Hold]()
            while status == _abi.PLASMA_INTERRUPTED:
                out, holds = new_holds(len(names))
                options = PRIVATE if private else SHARED
                status = _get(handle.pointer, b"".join(names), ctypes.c_size_t(len(names)), AT_ONCE, options, out)
                # A signal may end it as well, and then it is made again.
                self._check_interrupted(interrupts)
            got.update((name, hold) for name, hold in zip(names, those_here(status, holds)) if hold)
            names = [name for name in names if name not in got and _contains(handle, name)]
            if not names:
                return got, False
        return got, True

    @contextlib.contextmanager
    def _bell(self, handle: Handle, timeout_ms: int) -> Iterator[Tuple[_Watcher, _Bell]]:
        """What an await waits by, as long as it does."""
        loop = asyncio.get_running_loop()
        bell = _Bell(loop)
        timer = loop.call_later(timeout_ms / 1000, bell.end) if timeout_ms > 0 else None
        watcher = self._watcher_of(handle, loop, bell)
        try:
            yield watcher, bell
        finally:
            if timer is not None:
                timer.cancel()
            self._leave(watcher, bell)

    def _watcher_of(self, handle: Handle, loop: asyncio.AbstractEventLoop, bell: _Bell) -> _Watcher:
        with _lock:
            watcher = self._watcher
            if watcher is not None and watcher.loop is not loop:
                if not watcher.loop.is_closed():
                    raise PlasmaBusy(f"this client of {self._name()} is awaited in another event loop; connect once for each")
                watcher.close()
                watcher = None
            if watcher is None:
                watcher = self._watcher = _Watcher(handle, loop)
            watcher.join(bell)
            return watcher

    def _leave(self, watcher: _Watcher, bell: _Bell) -> None:
        with _lock:
            if watcher.leave(bell):
                watcher.close()
                if self._watcher is watcher:
                    self._watcher = None

    def _check_interrupted(self, interrupts: int) -> None:
        if self._interrupts != interrupts:
            raise PlasmaInterrupted(f"interrupt or disconnect was called for this client of {self._name()}")


def _look(handle: Handle, names: Iterable[bytes], private: bool, got: Dict[bytes, Hold]) -> List[bytes]:
    """Gets what can be seen without asking the store. Returns the others."""
    wanted = [*names]
    out, holds = new_holds(len(wanted))
    options = _SEEN_PRIVATE if private else _SEEN
    status = _get(handle.pointer, b"".join(wanted), ctypes.c_size_t(len(wanted)), AT_ONCE, options, out)
    got.update((name, hold) for name, hold in zip(wanted, those_here(status, holds)) if hold)
    return [name for name in wanted if name not in got]


def _contains(handle: Handle, name: bytes) -> bool:
    out = ctypes.c_bool()
    check(lib.plasma_contains(handle.pointer, _abi.plasma_object_id.from_buffer_copy(name), out))
    return out.value


def _ids(names: List[bytes]) -> Any:
    """Ids as C takes an array of them."""
    return (_abi.plasma_object_id * len(names)).from_buffer_copy(b"".join(names))
