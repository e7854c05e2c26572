"""Tensors in and out of a store: the Python counterpart of tensor.c, with which it shares its objects and its output.

  tensor.py                      both halves, in a store that lives in this process and ends with it
  tensor.py SOCKET write|read    one half, in the store that listens at SOCKET: start the other half in another process,
                                 here or in C, before or after

Needs numpy.
"""

from __future__ import annotations

import sys

import numpy as np

import plasma_store
from plasma_store import ObjectID

PATIENCE_MS = 30000
MATRIX = ObjectID.from_name("matrix", "examples")
COUNTS = ObjectID.from_name("counts", "examples")


def write(client: plasma_store.PlasmaClient) -> None:
    """Puts a matrix whose columns lie one after the other, and a table whose rows do."""
    client.delete([MATRIX, COUNTS])  # what an earlier run left: an id is used once as long as its object lives
    rows, columns = np.meshgrid(np.arange(3), np.arange(4), indexing="ij")
    client.put_tensor(np.asfortranarray(10 * rows + columns + 0.5), MATRIX)
    print("wrote matrix: float64 3 x 4")
    client.put_tensor(np.arange(1, 7, dtype=np.int32).reshape(2, 3), COUNTS)
    print("wrote counts: int32 2 x 3")


def read(client: plasma_store.PlasmaClient) -> None:
    """Reads both where they lie: the arrays are views of shared memory, which cannot be written."""
    matrix = np.asarray(client.get_tensor(MATRIX, PATIENCE_MS))
    print(f"read matrix: {matrix.dtype} {matrix.shape[0]} x {matrix.shape[1]}")
    for row in matrix:
        print("".join(f" {value:5.1f}" for value in row))
    counts = np.asarray(client.get_tensor(COUNTS, PATIENCE_MS))
    access = "writable" if counts.flags.writeable else "read-only"
    print(f"read counts: {counts.dtype} {counts.shape[0]} x {counts.shape[1]}, {access}")
    for row in counts:
        print("".join(f" {value:5d}" for value in row))


def main(arguments: list[str]) -> int:
    if not arguments:
        with plasma_store.start_store() as store:
            client = plasma_store.connect(store.socket_path)
            write(client)
            read(client)
    elif len(arguments) == 2 and arguments[1] == "write":
        write(plasma_store.connect(arguments[0]))
    elif len(arguments) == 2 and arguments[1] == "read":
        read(plasma_store.connect(arguments[0]))
    else:
        print(f"usage: {sys.argv[0]} [SOCKET write|read]", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
