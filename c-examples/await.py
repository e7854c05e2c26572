"""Awaits objects on an event loop: any number of them, and no thread that waits.

Start a store with `plasma-store-server -s /tmp/plasma.sock -m 1000000000`, and pass its socket; without one, a store is started here.
"""

import asyncio
import sys
from contextlib import ExitStack

import plasma_store
from plasma_store import ObjectID, PlasmaClient


async def square(client: PlasmaClient, name: ObjectID, result: ObjectID) -> None:
    """Awaits a number and stores its square, which somebody awaits."""
    number = await client.get_async(name)
    client.put_nowait(number * number, result)


async def run(client: PlasmaClient) -> None:
    """Asks for five squares before there are any numbers."""
    numbers = [ObjectID.from_random() for _ in range(5)]
    squares = [ObjectID.from_random() for _ in range(5)]
    workers = [asyncio.create_task(square(client, *names)) for names in zip(numbers, squares)]
    for number, name in enumerate(numbers):
        client.put_nowait(number, name)
    print("squares:", await client.get_async(squares, timeout_ms=10_000))
    await asyncio.gather(*workers)
    # Raises if anything could not be stored.
    client.flush()


with ExitStack() as stack:
    path = sys.argv[1] if len(sys.argv) > 1 else stack.enter_context(plasma_store.start_store()).socket_path
    asyncio.run(run(stack.enter_context(plasma_store.connect(path))))
