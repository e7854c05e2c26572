"""Bytes in and out of a store: the Python counterpart of put_get.c, with which it shares its object and its output.

  put_get.py                      both halves, in a store that lives in this process and ends with it
  put_get.py SOCKET put|get       one half, in the store that listens at SOCKET: start the other half in another process,
                                  here or in C, before or after
"""

from __future__ import annotations

import sys

import plasma_store
from plasma_store import ObjectID

DATA = b"Seven bytes or seven gigabytes, it is all the same."
METADATA = b"text/plain"
PATIENCE_MS = 30000
NAME = ObjectID.from_name("put_get", "examples")


def put(client: plasma_store.PlasmaClient) -> None:
    """Creates the object, fills it where it lies, seals it."""
    client.delete([NAME])  # what an earlier run left: an id is used once as long as its object lives
    memory = memoryview(client.create(NAME, len(DATA), METADATA)).cast("B")  # as bytes, whatever pyarrow calls them
    memory[:] = DATA
    client.seal(NAME)
    print(f"put {len(DATA)} bytes, {len(METADATA)} bytes of metadata")


def get(client: plasma_store.PlasmaClient) -> None:
    """Reads the object where it lies; only what is printed is copied."""
    [(metadata, buffer)] = client.get_buffers([NAME], PATIENCE_MS, with_meta=True)
    if buffer is None:
        raise plasma_store.PlasmaObjectNotFound(f"{NAME} did not come within {PATIENCE_MS} ms")
    print(f"got {bytes(metadata).decode()}: {bytes(memoryview(buffer)).decode()}")


def main(arguments: list[str]) -> int:
    if not arguments:
        with plasma_store.start_store() as store:
            client = plasma_store.connect(store.socket_path)
            put(client)
            get(client)
    elif len(arguments) == 2 and arguments[1] == "put":
        put(plasma_store.connect(arguments[0]))
    elif len(arguments) == 2 and arguments[1] == "get":
        get(plasma_store.connect(arguments[0]))
    else:
        print(f"usage: {sys.argv[0]} [SOCKET put|get]", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
