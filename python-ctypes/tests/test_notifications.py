"""Notifications, figures and batches: what pyarrow.plasma had no tests for, or not at all.

That the calls of pyarrow.plasma give what they gave is compared in test_pyarrow11_surface.py and test_pyarrow11_suite.py.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import struct
import subprocess
import threading
from typing import Any, Callable, Iterator, List

import pytest

import plasma_store
from conftest import put, until
from plasma_store import ObjectID, PlasmaClient, Store
from test_waiting import PATIENCE_S, until_asleep_in

Child = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def maker(store: Store) -> Iterator[PlasmaClient]:
    """Another client of the fresh store."""
    with plasma_store.connect(store.socket_path) as maker:
        yield maker


def read_frame(stream: Any) -> bytes:
    (length,) = struct.unpack("=q", stream.recv(8, 0x100))
    frame: bytes = stream.recv(length, 0x100)
    return frame


def test_what_is_there_then_what_happens(client: PlasmaClient, maker: PlasmaClient) -> None:
    there = put(maker, b"there")
    client.subscribe()
    assert client.get_next_notification() == (there, 5, 0)
    new = put(maker, b"x", b"meta")
    maker.delete([there])
    maker.evict(1)
    batch = [ObjectID.from_random() for _ in range(3)]
    maker.put_batch([(object_id, b"xy") for object_id in batch])
    assert client.get_next_notification() == (new, 1, 4)
    assert client.get_next_notification() == (there, -1, -1)
    assert client.get_next_notification() == (new, -1, -1)
    assert [client.get_next_notification() for _ in batch] == [(object_id, 2, 0) for object_id in batch]


def test_a_second_subscription_begins_anew(client: PlasmaClient, maker: PlasmaClient) -> None:
    client.subscribe()
    first = client.get_notification_socket()
    there = put(maker, b"there")
    client.subscribe()
    assert client.get_next_notification() == (there, 5, 0)
    assert client.decode_notifications(read_frame(first)) == ([there], [5], [0])
    assert first.recv(1) == b"", "the first one has ended"
    first.close()
    until(lambda: client.stats()["subscriptions"] == 1)
    put(maker, b"")
    assert client.get_next_notification()[1:] == (0, 0)


def test_the_socket_and_the_calls_take_turns(client: PlasmaClient, maker: PlasmaClient) -> None:
    client.subscribe()
    with client.get_notification_socket() as stream:
        ids = [put(maker, b"x" * size) for size in range(20)]
        for size, object_id in enumerate(ids):
            assert select.select([stream], [], [], PATIENCE_S)[0] == [stream]
            if size % 2:
                assert client.decode_notifications(read_frame(stream)) == ([object_id], [size], [0])
            else:
                assert client.get_next_notification() == (object_id, size, 0)
        assert select.select([stream], [], [], 0)[0] == []


def test_asyncio_reads_the_stream(client: PlasmaClient, maker: PlasmaClient) -> None:
    client.subscribe()
    ids = [ObjectID.from_random() for _ in range(200)]

    async def read_all() -> List[Any]:
        reader, writer = await asyncio.open_unix_connection(sock=client.get_notification_socket())
        found: List[Any] = []
        while len(found) < len(ids):
            (length,) = struct.unpack("=q", await reader.readexactly(8))
            found.append(client.decode_notifications(await reader.readexactly(length)))
        writer.close()
        return found

    making = threading.Thread(target=maker.put_batch, args=[[(object_id, b"x") for object_id in ids]])
    making.start()
    assert asyncio.run(read_all()) == [([object_id], [1], [0]) for object_id in ids]
    making.join()
    until(lambda: client.stats()["subscriptions"] == 0)
    with pytest.raises(plasma_store.PlasmaDisconnected):
        client.get_next_notification()


def test_closing_the_socket_makes_the_store_forget(client: PlasmaClient) -> None:
    client.subscribe()
    stream = client.get_notification_socket()
    copy = stream.dup()
    copy.close()
    stream.detach()
    assert client.stats()["subscriptions"] == 1, "neither was the stream that the client gave"
    with client.get_notification_socket():
        assert client.stats()["subscriptions"] == 1
    until(lambda: client.stats()["subscriptions"] == 0)
    with pytest.raises(plasma_store.PlasmaDisconnected, match="this subscription has"):
        client.get_next_notification()


def test_before_subscribe_there_is_nothing(client: PlasmaClient) -> None:
    with pytest.raises(plasma_store.PlasmaDisconnected, match="has not subscribed"):
        client.get_next_notification()
    with pytest.raises(plasma_store.PlasmaInvalidArgument, match="has not subscribed"):
        client.get_notification_socket()


@pytest.mark.parametrize("buf", [b"", b"\0" * 7, b"\xff" * 100, b"\0" * 100], ids=["empty", "short", "ones", "zeros"])
def test_bytes_that_are_no_notification(client: PlasmaClient, buf: bytes) -> None:
    with pytest.raises(plasma_store.PlasmaProtocolError):
        client.decode_notifications(buf)


def test_ctrl_c_ends_the_wait(store: Store, child: Child) -> None:
    script = """
import sys, plasma_store
client = plasma_store.connect(sys.argv[1])
client.subscribe()
print("waiting", flush=True)
try:
    client.get_next_notification()
except KeyboardInterrupt:
    object_id = client.put_raw_buffer(b"x")
    print("KeyboardInterrupt", client.get_next_notification() == (object_id, 1, 0), flush=True)
"""
    process = child(script, store.socket_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    until_asleep_in(process.pid)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, output) == (0, "KeyboardInterrupt True\n")


class Waiter(threading.Thread):
    """Waits for one notification in a thread of its own."""

    def __init__(self, client: PlasmaClient) -> None:
        super().__init__(daemon=True)
        self.client = client
        self.outcome: type = type(None)
        self.start()

    def run(self) -> None:
        try:
            self.client.get_next_notification()
        except Exception as error:
            # The exception itself would keep the calls that it came through, and with them the connection.
            self.outcome = type(error)


def test_interrupt_ends_all_waits(client: PlasmaClient, maker: PlasmaClient) -> None:
    client.subscribe()
    waiters = [Waiter(client) for _ in range(3)]
    while any(waiter.is_alive() for waiter in waiters):
        # More than once, for one of the threads may not have begun.
        client.interrupt()
        waiters[0].join(0.01)
    assert [waiter.outcome for waiter in waiters] == [plasma_store.PlasmaInterrupted] * 3
    object_id = put(maker, b"x")
    assert client.get_next_notification() == (object_id, 1, 0)


def test_disconnect_ends_the_wait_and_the_stream(store: Store, maker: PlasmaClient) -> None:
    client = plasma_store.connect(store.socket_path)
    client.subscribe()
    stream = client.get_notification_socket()
    waiter = Waiter(client)
    client.disconnect()
    assert stream.recv(1) == b""
    waiter.join(PATIENCE_S)
    assert waiter.outcome in (plasma_store.PlasmaInterrupted, plasma_store.PlasmaDisconnected)
    until(lambda: maker.stats()["clients"] == 1)
    stream.close()


def test_a_forked_child_ends_nothing(client: PlasmaClient, maker: PlasmaClient) -> None:
    client.subscribe()
    stream = client.get_notification_socket()
    pid = os.fork()
    if pid == 0:
        try:
            stream.close()
            client.get_next_notification()
        except plasma_store.PlasmaForked:
            client.disconnect()
            os._exit(0)
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    object_id = put(maker, b"x")
    assert client.get_next_notification() == (object_id, 1, 0)
    put(maker, b"y")
    assert client.decode_notifications(read_frame(stream))[1:] == ([1], [0])
    stream.close()


def test_figures(client: PlasmaClient, maker: PlasmaClient) -> None:
    object_id = put(client, b"x" * 1000)
    [held, _] = client.get_buffers([object_id, ObjectID.from_random()], timeout_ms=0)
    stats = maker.stats()
    assert (stats["capacity"], stats["used_bytes"], stats["held_bytes"]) == (16 << 20, 1000, 1000)
    assert (stats["objects"], stats["clients"], stats["creates"]) == (1, 2, 1)
    # What is in the index, or seen not to be there, nobody asked for.
    assert (stats["gets"], stats["hits"], stats["misses"]) == (0, 0, 0)
    assert "struct_size" not in stats and len(stats) == 23
    del held


def test_a_batch(client: PlasmaClient) -> None:
    ids = [ObjectID.from_random() for _ in range(4)]
    contents = [(b"", b""), (b"data", b"meta"), (bytearray(b"x" * 1000), b""), (memoryview(b"view"), bytearray(b"m"))]
    client.put_batch([(ids[0], b""), (ids[2], contents[2][0])])
    client.put_batch((object_id, *content) for object_id, content in zip(ids[1::2], contents[1::2]))
    client.put_batch([])
    found = client.get_buffers(ids, with_meta=True)
    assert [(bytes(memoryview(data)), meta) for meta, data in found if data is not None] == [
        (bytes(data), bytes(meta)) for data, meta in contents
    ]
    with pytest.raises(plasma_store.PlasmaObjectExists, match=ids[1].hex()):
        client.put_batch([(ObjectID.from_random(), b"x"), (ids[1], b"x")])
    assert len(client.list()) == 4, "all of them, or none"
    with pytest.raises(plasma_store.PlasmaInvalidArgument, match="67108864"):
        client.put_batch([(ObjectID.from_random(), bytes(33 << 20)) for _ in range(2)])
    with pytest.raises(TypeError):
        client.put_batch([(b"x" * 20, b"x")])
