"""Loaders read numbers from text into arrays that lie ready, processors take them from there, and the roots lie in a shared array.

    python loader.py METHOD LINES FILE...

Each FILE has so many LINES with a number each, and a loader of its own. METHOD is how processes are started: spawn, fork or forkserver.
Whoever finds something that is no number, or has no root, ends it for all. Who is killed is started again: a block that a
processor had is handed out again, and one that a loader was filling is nobody's.
"""

import contextlib
import math
import multiprocessing
import sys
from multiprocessing.connection import wait
from typing import Any, Dict, Iterator, Tuple

import numpy as np

from plasma_store import PlasmaAborted, SharedTensor, TensorRing

# Lines in a block, and blocks that there are.
BLOCK, BLOCKS = 100, 8
NOBODYS = -1


@contextlib.contextmanager
def ending_all(ring: TensorRing) -> Iterator[None]:
    """Whatever goes wrong here ends it for all; what went wrong elsewhere ends it here."""
    try:
        yield
    except PlasmaAborted:
        pass
    except ValueError as error:
        ring.abort()
        sys.exit(f"stopped: {error}")


def load(ring: TensorRing, path: str, first: int, last: int) -> None:
    """Fills blocks with the numbers of lines and with what they say."""
    with ending_all(ring), open(path) as lines:
        while first < last:
            with ring.acquire() as slot:
                before, first = first, fill(slot.array, lines, first)
            if first == before:
                raise ValueError(f"{path} ends before line {last}")


def fill(block: Any, lines: Iterator[str], first: int) -> int:
    """Reads a block; returns the number of the line after it."""
    block[:] = NOBODYS
    for row, line in zip(block, lines):
        row[:] = first, float(line)
        first += 1
    return first


def process(ring: TensorRing, roots: SharedTensor) -> None:
    """Takes blocks until there are no more, and writes the roots."""
    with ending_all(ring):
        for block in ring:
            for line, number in block[block[:, 0] != NOBODYS]:
                roots.array[int(line)] = math.sqrt(number)


def run(context: Any, ring: TensorRing, jobs: Any) -> bool:
    """Runs each job in a process, and again if that is killed; closes the ring when nobody loads any more. Whether all went well."""
    running: Dict[int, Tuple[Any, Any, Any]] = {}
    went_well = True

    def start(work: Any, arguments: Any) -> None:
        process = context.Process(target=work, args=(ring, *arguments))
        process.start()
        print(f"{work.__name__} {process.pid}", flush=True)
        running[process.sentinel] = process, work, arguments

    for job in jobs:
        start(*job)
    while running:
        for sentinel in wait([*running]):
            process, work, arguments = running.pop(sentinel)
            process.join()
            went_well = went_well and process.exitcode <= 0
            if process.exitcode < 0:
                start(work, arguments)
        if not any(work is load for _, work, _ in running.values()):
            with contextlib.suppress(PlasmaAborted):
                ring.close()
    return went_well


def main(method: str, lines: int, *paths: str) -> None:
    """Has the roots of all numbers computed, by as many processors as there are files."""
    total = lines * len(paths)
    with TensorRing(BLOCKS, (BLOCK, 2)) as ring, SharedTensor.zeros((total,)) as roots:
        loads = [(load, (path, number * lines, (number + 1) * lines)) for number, path in enumerate(paths)]
        if not run(multiprocessing.get_context(method), ring, loads + [(process, (roots,))] * len(paths)):
            sys.exit(1)
        print(f"the sum of {np.count_nonzero(roots.array)} roots is {roots.array.sum():g}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
