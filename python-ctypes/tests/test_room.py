"""Room in the store: pins, times to live, creates that wait, and what a full store says."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from typing import Any, Callable, List

import pytest

import plasma_store
from conftest import put, until
from plasma_store import ObjectID, PlasmaClient, Store
from test_waiting import PATIENCE_S, until_asleep_in

CAPACITY = 16 << 20
Create = Callable[..., object]
CREATES: List[Any] = [
    pytest.param(lambda client, name, **times: client.create(name, 8000, **times), id="create"),
    pytest.param(lambda client, name, **times: client.create_and_seal(name, bytes(8000), **times), id="create_and_seal"),
    pytest.param(lambda client, name, **times: client.put_raw_buffer(bytes(8000), name, **times), id="put_raw_buffer"),
    pytest.param(lambda client, name, **times: client.put(bytes(8000), name, **times), id="put"),
    pytest.param(lambda client, name, **times: client.create_tensor(name, [1000], "float64", **times), id="create_tensor"),
    pytest.param(
        lambda client, name, **times: client.put_tensor(pytest.importorskip("numpy").zeros(1000), name, **times), id="put_tensor"
    ),
]


def fill(client: PlasmaClient) -> ObjectID:
    """Fills the store with an unsealed object."""
    object_id = ObjectID.from_random()
    client.create(object_id, CAPACITY)
    return object_id


def why_full(client: PlasmaClient) -> str:
    with pytest.raises(plasma_store.PlasmaStoreFull) as caught:
        client.create(ObjectID.from_random(), CAPACITY)
    return str(caught.value)


def until_waiting(client: PlasmaClient) -> None:
    """Waits until somebody waits for room."""
    until(lambda: why_full(client).endswith("creates that wait for room: 1"))


def test_pinned_objects_are_not_evicted(store: Store, client: PlasmaClient) -> None:
    pinned, other = put(client, b"pinned"), put(client, b"other")
    with plasma_store.connect(store.socket_path) as short:
        short.pin([pinned, pinned])
    assert client.evict(CAPACITY) == 5
    assert {key: info["pinned"] for key, info in client.list().items()} == {pinned: True}
    with pytest.raises(plasma_store.PlasmaObjectNotFound, match=other.hex()):
        client.unpin([pinned, other])
    client.unpin(iter([pinned]))
    assert client.evict(CAPACITY) == 6


def test_pins_need_sealed_objects(client: PlasmaClient, object_id: ObjectID) -> None:
    client.create(object_id, 1)
    with pytest.raises(plasma_store.PlasmaObjectNotSealed, match=object_id.hex()):
        client.pin([object_id])
    with pytest.raises(TypeError):
        client.pin([b"x" * 20])  # type: ignore[list-item]


@pytest.mark.parametrize("create", CREATES)
def test_whatever_creates_waits_for_room_and_may_end_by_itself(
    store: Store, client: PlasmaClient, object_id: ObjectID, create: Create
) -> None:
    with plasma_store.connect(store.socket_path) as holder:
        blocker = fill(holder)
        with pytest.raises(plasma_store.PlasmaStoreFull):
            create(client, object_id, wait_ms=1)
        waiting = threading.Thread(target=lambda: create(client, object_id, ttl_ms=1, wait_ms=-1))
        waiting.start()
        until_waiting(holder)
        holder.abort(blocker)
        waiting.join(PATIENCE_S)
        if not client.contains(object_id) and object_id in client.list():
            client.seal(object_id)
        until(lambda: client.list() == {})


@pytest.mark.parametrize("create", CREATES)
@pytest.mark.parametrize("name, wrong", [("ttl_ms", -1), ("ttl_ms", 1 << 63), ("wait_ms", -2), ("wait_ms", 1 << 63)])
def test_times_that_cannot_be(client: PlasmaClient, object_id: ObjectID, create: Create, name: str, wrong: int) -> None:
    with pytest.raises(plasma_store.PlasmaInvalidArgument, match=f"{name}.*not {wrong}$"):
        create(client, object_id, **{name: wrong})
    with pytest.raises(TypeError):
        create(client, object_id, **{name: "soon"})
    assert client.list() == {}


def test_times_are_keywords_so_that_old_calls_stay_as_they_are(client: PlasmaClient, object_id: ObjectID) -> None:
    with pytest.raises(TypeError):
        client.create(object_id, 1, b"", 5)  # type: ignore[call-arg]


def test_a_full_store_says_who_has_it(client: PlasmaClient) -> None:
    fill(client)
    text = why_full(client)
    assert f"capacity {CAPACITY}, used {CAPACITY}, of which {CAPACITY} cannot be evicted (0 are pinned)" in text
    assert f"process {os.getpid()} (" in text and text.endswith(f"holds most: {CAPACITY} bytes")


def test_interrupt_and_disconnect_end_creates(store: Store) -> None:
    with plasma_store.connect(store.socket_path) as holder:
        fill(holder)
        for end in (PlasmaClient.interrupt, PlasmaClient.disconnect):
            client = plasma_store.connect(store.socket_path)
            outcome: List[object] = []

            def create(client: PlasmaClient = client, outcome: List[object] = outcome) -> None:
                try:
                    client.create(ObjectID.from_random(), 1, wait_ms=-1)
                except plasma_store.PlasmaInterrupted as error:
                    outcome.append(error)

            waiting = threading.Thread(target=create)
            waiting.start()
            until_waiting(holder)
            end(client)
            waiting.join(PATIENCE_S)
            assert outcome
            until(lambda: "wait for room" not in why_full(holder))


def test_ctrl_c_ends_a_create_that_waits(store: Store, child: Callable[..., "subprocess.Popen[str]"]) -> None:
    script = """
import sys, plasma_store
client = plasma_store.connect(sys.argv[1])
object_id = plasma_store.ObjectID.from_random()
print("waiting", flush=True)
try:
    client.create(object_id, 1, wait_ms=-1)
except KeyboardInterrupt:
    print("KeyboardInterrupt", object_id in client.list(), flush=True)
"""
    with plasma_store.connect(store.socket_path) as holder:
        fill(holder)
        process = child(script, store.socket_path)
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        until_waiting(holder)
        until_asleep_in(process.pid)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, output) == (0, "KeyboardInterrupt False\n")
