"""RING, RINGS and FLOW for Python peers, as native/ring.h has them for the native ones. A peer has these methods besides:

    make_rings(options)         before anything else, in the process that the others come from; returns what they inherit
    open_ring(made, options, is_first)    in the process that measures, and then in each of the others: an object with
        write(fill)             waits for a slot, calls fill(array), publishes
        read(look)              waits for a message; what look(array) returns
        put(source), get()      a message copied in, and copied out
        put_many(sources)       several copied in; optional, like
        take_many(out)          several copied out; returns how many
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import sys
import time
from typing import Any, Callable, List

import numpy as np
from measure import Options, Samples, measure_timed, now, report

MANY = 64
THROUGHPUT_MESSAGES = 64
MOST = 8


class Page:
    """What all processes see; each word has a cache line of its own."""

    def __init__(self) -> None:
        self._words = memoryview(mmap.mmap(-1, 4096)).cast("q")

    def __getitem__(self, index: int) -> int:
        return self._words[8 * index]

    def __setitem__(self, index: int, value: int) -> None:
        self._words[8 * index] = value

    def wait(self, index: int, value: int, check: Callable[[], None], pause: float = 0.0) -> None:
        while self[index] < value:
            check()
            time.sleep(pause)


ASKING, DONE, STAMP, THERE, GO, READY = range(MOST, MOST + 6)
# READY is the first of as many words as there are other processes.
_libc = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


class Others:
    """The processes that take part besides the one that measures. The first to end before its time ends the measurement."""

    def __init__(self, peer: Any, options: Options) -> None:
        self.page, self._peer, self._options = Page(), peer, options
        self._pids: List[int] = []
        self._made = peer.make_rings(options)

    def add(self, role: Callable[..., None], *arguments: Any) -> None:
        sys.stdout.flush()
        number, parent = len(self._pids), os.getpid()
        pid = os.fork()
        if pid:
            self._pids.append(pid)
            return
        try:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)
            self.page.wait(THERE, 1, lambda: None, 0.001)
            ring = self.open()
            self.page[READY + number] = 1
            role(ring, self.page, self._options, *arguments)
            sys.stdout.flush()
            os._exit(0)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)

    def open(self, is_first: bool = False) -> Any:
        return self._peer.open_ring(self._made, self._options, is_first)

    def begin(self) -> Any:
        """The ring of the process that measures, which makes it; all have it when this returns."""
        ring = self.open(is_first=True)
        self.page[THERE] = 1
        for number in range(len(self._pids)):
            self.page.wait(READY + number, 1, self.check, 0.001)
        return ring

    def messages(self) -> int:
        return sum(self.page[index] for index in range(MOST))

    def check(self) -> None:
        for pid in self._pids:
            if os.waitpid(pid, os.WNOHANG) != (0, 0):
                sys.exit("the other process has ended")

    def end(self) -> None:
        self.check()
        for pid in self._pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        # What still waits in queues need not come through.
        sys.stdout.flush()
        os._exit(0)


def work_ring_handoff(peer: Any, options: Options) -> None:
    others = Others(peer, options)
    others.add(_await_first_bytes)
    ring, page, source = others.begin(), others.page, np.full(options.size, 7, dtype=np.uint8)

    def fill(array: Any) -> None:
        array[:] = source
        page.wait(ASKING, number, others.check, 0.00005)
        time.sleep(0.0005)  # by then the consumer sleeps
        page[STAMP] = now()

    samples = Samples()
    for number in range(1, options.count + 1):
        ring.write(fill)
        page.wait(DONE, number, others.check, 0.00005)
        if number > options.count // 10:
            samples.add(page[0] - page[STAMP])
    samples.report("handoff")
    others.end()


def _await_first_bytes(ring: Any, page: Page, options: Options) -> None:
    def look(array: Any) -> None:
        byte = array[0]
        page[0] = now()
        assert byte == 7

    for number in range(1, options.count + 1):
        page[ASKING] = number
        ring.read(look)
        page[DONE] = number
    signal.pause()


def work_ring_throughput(peer: Any, options: Options) -> None:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("there is only one core")
    others = Others(peer, options)
    others.add(_sum_up, cores[1])
    os.sched_setaffinity(0, {cores[0]})
    ring, page = others.begin(), others.page

    def timed(_: int) -> int:
        started, turn = now(), page[GO] + 1
        page[GO] = turn
        for index in range(THROUGHPUT_MESSAGES):
            ring.write(lambda array: array.view(np.uint64).fill(turn + index))
        page.wait(DONE, turn, others.check)
        return (now() - started) // THROUGHPUT_MESSAGES

    measure_timed("each message", options, timed)
    others.end()


def _sum_up(ring: Any, page: Page, options: Options, core: int) -> None:
    os.sched_setaffinity(0, {core})
    turn = 0
    while True:
        turn += 1
        page.wait(GO, turn, lambda: None)
        for index in range(THROUGHPUT_MESSAGES):
            total = int(ring.read(lambda array: array.view(np.uint64).sum()))
            assert total == (turn + index) * (options.size // 8), f"message {index} is another"
        page[DONE] = turn


def work_ring_messages(peer: Any, options: Options) -> None:
    others = Others(peer, options)
    for index in range(options.clients):
        others.add(_consume, index)
        others.add(_produce)
    others.begin()
    time.sleep(options.budget_ms / 5000)
    started, before, messages = now(), others.messages(), 0
    while messages == 0:
        time.sleep(options.budget_ms / 1000)
        others.check()
        messages, ns = others.messages() - before, now() - started
    per_second = messages * 1e9 / ns
    report("messages", "/s", per_second, per_second, 1, MANY if options.many else 1)
    others.end()


def _produce(ring: Any, page: Page, options: Options) -> None:
    sources = np.full((MANY, options.size), 7, dtype=np.uint8)
    source = sources[0]
    while True:
        if options.many:
            ring.put_many(sources)
        else:
            ring.put(source)


def _consume(ring: Any, page: Page, options: Options, index: int) -> None:
    out = np.empty((MANY, options.size), dtype=np.uint8)
    count = 0
    while True:
        if options.many:
            count += ring.take_many(out)
        else:
            ring.get()
            count += 1
        page[index] = count


WORKS = {"ring_handoff": work_ring_handoff, "ring_throughput": work_ring_throughput, "ring_messages": work_ring_messages}
