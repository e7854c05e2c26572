"""What every Python program of the benchmark shares: options, samples, and the lines that it prints, as native/measure.h."""

from __future__ import annotations

import ctypes
import hashlib
import json
import sys
import time
from itertools import repeat
from typing import Any, Callable, Dict, List

SAMPLE_NS = 20_000  # a shorter sample is made of several operations, so that the clock's 70 ns do not count
MAX_SAMPLES = 100_000
now = time.perf_counter_ns  # CLOCK_MONOTONIC on Linux, the same in every process
_libc = ctypes.CDLL(None)


class Options:
    """The words `name=value` of the command line; numbers are numbers."""

    def __init__(self, words: List[str]) -> None:
        self.work = words[0]
        self.where = self.scratch = ""
        self.size, self.count, self.clients, self.capacity, self.objects = 64, 1000, 1, 1 << 30, 4096
        self.budget_ms = 200
        self.gathered = self.many = 0
        self.slots = 8
        for word in words[1:]:
            name, value = word.split("=", 1)
            setattr(self, name, int(value) if value.isdigit() else value)

    @property
    def budget_ns(self) -> int:
        return self.budget_ms * 1_000_000


def object_id(number: int) -> bytes:
    """The 20 bytes of the id with this number."""
    return hashlib.sha256(number.to_bytes(8, "little")).digest()[:20]


class Samples:
    """Nanoseconds of one operation, once for each sample."""

    def __init__(self, batch: int = 1) -> None:
        self._ns: List[float] = []
        self._cores = 0
        self.batch = batch

    def __len__(self) -> int:
        return len(self._ns)

    def add(self, elapsed_ns: int) -> None:
        self._ns.append(elapsed_ns / self.batch)
        self._cores |= 1 << (_libc.sched_getcpu() & 63)

    def report(self, metric: str) -> None:
        ordered = sorted(self._ns)
        last = len(ordered) - 1
        report(metric, "ns", ordered[last // 2], ordered[(last * 99 + 99) // 100], len(ordered), self.batch, self._cores)


def report(metric: str, unit: str, p50: float, p99: float, samples: int, batch: int, cores: int = 0) -> None:
    """One line for the harness."""
    line: Dict[str, Any] = {"metric": metric, "unit": unit, "p50": p50, "p99": p99, "samples": samples, "batch": batch}
    print(json.dumps({**line, "cores": cores}), flush=True)


def time_batch(operation: Callable[[], Any], times: int) -> int:
    """Nanoseconds that so many operations take."""
    begin = now()
    for _ in repeat(None, times):
        operation()
    return now() - begin


def measure(metric: str, options: Options, operation: Callable[[], Any]) -> None:
    """Warms up, chooses how many operations make one sample, measures for the budget, and prints."""
    measure_timed(metric, options, lambda times: time_batch(operation, times), 10_000)


def measure_timed(metric: str, options: Options, timed: Callable[[int], int], most_in_batch: int = 1) -> None:
    """The same for what tells itself how long so many operations took, without what it had to do before and after."""
    shortest, warm = 1 << 62, now() + options.budget_ns // 5
    for index in range(10_000):
        shortest = min(shortest, timed(1))
        if index >= 2 and now() > warm:
            break
    samples = Samples(max(1, min(most_in_batch, SAMPLE_NS // max(shortest, 1) + 1)))
    end = now() + options.budget_ns
    while len(samples) < 5 or (now() < end and len(samples) < MAX_SAMPLES):
        samples.add(timed(samples.batch))
    samples.report(metric)


def fail(reason: str) -> None:
    sys.exit(reason)
