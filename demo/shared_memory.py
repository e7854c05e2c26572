"""Where the memory behind an address comes from, as the kernel tells it, and what a read costs."""

from __future__ import annotations

import statistics
import time
from typing import Callable

import numpy as np


def backing(array: np.ndarray) -> str:
    """The file and the byte in it that the array's first element is: `INODE at byte OFFSET (NAME)`.

    Two processes with the same answer look at the same physical memory: an inode is one file, and a shared mapping
    of a file shows the file's own pages.
    """
    address = array.__array_interface__["data"][0]
    with open("/proc/self/maps", encoding="utf-8") as maps:
        for line in maps:
            span, mode, offset, _device, inode, *name = line.split(maxsplit=5)
            first, end = (int(number, 16) for number in span.split("-"))
            if first <= address < end:
                if not mode.endswith("s"):
                    raise ValueError(f"address {address:#x} is private memory: {line.strip()}")
                return f"{inode} at byte {int(offset, 16) + address - first} ({''.join(name).split()[0]})"
    raise ValueError(f"address {address:#x} is not mapped")


def median_us(call: Callable[[], object], rounds: int = 300) -> float:
    """Median time of one call in microseconds; what it returns is dropped between the rounds."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter_ns()
        result = call()
        times.append(time.perf_counter_ns() - start)
        del result
    return statistics.median(times) / 1000
