"""An array that a child fills and its parent sees: nothing is sent back, and nothing is copied.

By hand this is a RawArray, or a SharedMemory that somebody has to close and somebody to unlink, and numpy around it in every process.
"""

import multiprocessing
import sys

from plasma_store import SharedTensor


def work(squares: SharedTensor, first: int, last: int) -> None:
    """Fills its part, and adds to what all have done, under the lock."""
    for number in range(first, last):
        squares.array[0, number] = number * number
    with squares.lock():
        squares.array[1] += 1


def main(method: str) -> None:
    """Has two workers fill an array of a hundred numbers."""
    context = multiprocessing.get_context(method)
    with SharedTensor.zeros((2, 100), "int64") as squares:
        workers = [context.Process(target=work, args=(squares, first, first + 50)) for first in (0, 50)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        numbers, done = squares.array
        print(f"the last square is {numbers[99]}, their sum {numbers.sum()}, of {done[0]} workers")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "spawn")
