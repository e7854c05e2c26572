"""The tutorial of Apache Arrow Plasma: the Python counterpart of tutorial.cpp, with which it shares its object and output.

  tutorial.py                    puts and gets it, in a store that lives in this process and ends with it
  tutorial.py SOCKET put|get     one half, in the store that listens at SOCKET
  tutorial.py --in-process       hosts a store, puts the tensor into it and says where it listens, until Enter is pressed
                                 or the input ends; meanwhile run `tutorial SOCKET get` in another terminal

The tensor is 1000 float32, all 2.0, under the id of twenty '1' bytes. Needs numpy.
"""

from __future__ import annotations

import sys

import numpy as np

import plasma_store
from plasma_store import ObjectID

PATIENCE_MS = 30000
TUTORIAL = ObjectID(b"1" * 20)


def put(client: plasma_store.PlasmaClient) -> None:
    """Copies the tensor into the store."""
    client.delete([TUTORIAL])  # what an earlier run left
    values = np.full(1000, 2.0, dtype=np.float32)
    client.put_tensor(values, TUTORIAL)
    print(f"put {len(values)} {values.dtype} of value {values[0]:g}")


def get(client: plasma_store.PlasmaClient) -> None:
    """Reads the tensor where it lies."""
    values = np.asarray(client.get_tensor(TUTORIAL, PATIENCE_MS))
    print(f"got {len(values)} {values.dtype} from {values.min():g} to {values.max():g}, sum {values.sum():g}")


def host() -> None:
    """Keeps a store until its input ends."""
    with plasma_store.start_store() as store:
        put(plasma_store.connect(store.socket_path))
        print(f"socket {store.socket_path}\npress Enter to end the store", flush=True)
        sys.stdin.readline()


def put_and_get() -> None:
    with plasma_store.start_store() as store:
        client = plasma_store.connect(store.socket_path)
        put(client)
        get(client)


def main(arguments: list[str]) -> int:
    if not arguments:
        put_and_get()
    elif arguments == ["--in-process"]:
        host()
    elif len(arguments) == 2 and arguments[1] == "put":
        put(plasma_store.connect(arguments[0]))
    elif len(arguments) == 2 and arguments[1] == "get":
        get(plasma_store.connect(arguments[0]))
    else:
        print(f"usage: {sys.argv[0]} [--in-process | SOCKET put|get]", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
