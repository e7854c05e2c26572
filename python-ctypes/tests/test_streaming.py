"""Puts and seals that nobody waits for, and the flush that tells what became of them."""

from __future__ import annotations

import subprocess
from typing import Any, Callable

import pytest

import plasma_store
from conftest import until
from plasma_store import ObjectID, PlasmaClient, PlasmaNotStored, Store

Child = Callable[..., "subprocess.Popen[str]"]
LARGE = 100_000


def bytes_of(client: PlasmaClient, object_id: ObjectID) -> bytes:
    [buffer] = client.get_buffers([object_id])
    assert buffer is not None
    return bytes(memoryview(buffer))


def test_a_stream_of_values_is_there_after_the_flush(any_store: Store) -> None:
    with plasma_store.connect(any_store.socket_path) as client, plasma_store.connect(any_store.socket_path) as other:
        values: Any = [1, "two", {"three": [3]}, b"4" * LARGE, None] * 300
        put = [client.put_nowait(value) for value in values]
        client.flush()
        assert other.get(put, 0) == values
        assert all(info["state"] == "sealed" for info in other.list().values())


def test_arrays_come_back_whole(any_store: Store) -> None:
    np = pytest.importorskip("numpy")
    with plasma_store.connect(any_store.socket_path) as client:
        for size in (0, 1, 1000, 60_000, LARGE):
            value = {"odd": np.arange(size, dtype="uint8")[::-1].copy(), "and": np.ones(size // 8)}
            got = client.get(client.put_nowait(value))
            assert (got["odd"] == value["odd"]).all()
            assert (got["and"] == value["and"]).all()
        client.flush()


def test_small_values_and_tensors_are_put_whole(client: PlasmaClient) -> None:
    np = pytest.importorskip("numpy")
    small: Any = [None, "word", {"row": np.arange(1000)}, b"x" * 60_000]
    names = [client.put(value) for value in small] + [client.put_tensor(np.ones(1000)[::2])]
    got = client.get(names[:-1])
    assert got[:2] == small[:2] and got[3] == small[3] and (got[2]["row"] == np.arange(1000)).all()
    assert (client.get_tensor(names[-1]).numpy() == 1).all()
    # They lie in the store's own segment, and what is larger in one of this client's.
    assert client.stats()["segments"] == 1
    client.put(b"x" * LARGE)
    client.put_tensor(np.ones(LARGE))
    assert client.stats()["segments"] == 2


def test_a_small_value_is_refused_as_any_other(client: PlasmaClient) -> None:
    object_id = client.put("first")
    with pytest.raises(plasma_store.PlasmaObjectExists):
        client.put("second", object_id)
    assert client.get(object_id) == "first"
    mortal = client.put("for a day", ttl_ms=86_400_000, wait_ms=10)
    assert client.get(mortal) == "for a day"


@pytest.mark.parametrize("size", [0, 10, 65536, LARGE])
def test_raw_bytes_may_be_changed_at_once(client: PlasmaClient, object_id: ObjectID, size: int) -> None:
    data = bytearray(b"x" * size)
    assert client.put_raw_buffer_nowait(data, object_id, b"meta") == object_id
    data[:] = b"y" * size
    client.flush()
    assert bytes_of(client, object_id) == b"x" * size
    [meta] = client.get_metadata([object_id])
    assert meta is not None
    assert bytes(memoryview(meta)) == b"meta"


def test_the_flush_tells_each_object_that_is_not_there_once_with_the_reason(client: PlasmaClient) -> None:
    there = [client.put(number) for number in range(5)]
    new = [client.put_nowait("new", object_id) for object_id in [ObjectID.from_random() for _ in range(3)]]
    for object_id in there:
        client.put_nowait("again", object_id)
    with pytest.raises(PlasmaNotStored, match=f"^5 objects could not be stored: object {there[0].hex()}: .*; and so on$") as told:
        client.flush()
    assert isinstance(told.value, plasma_store.PlasmaError)
    assert [object_id for object_id, _ in told.value.failed] == there
    assert {type(error) for _, error in told.value.failed} == {plasma_store.PlasmaObjectExists}
    assert all(object_id.hex() in str(error) for object_id, error in told.value.failed)
    client.flush()
    assert client.get([*there, *new]) == [*range(5), *["new"] * 3]


def test_more_failures_than_are_under_way_at_once_are_all_told(client: PlasmaClient) -> None:
    there = client.put("there")
    for _ in range(3000):
        client.put_nowait("again", there)
    with pytest.raises(PlasmaNotStored, match="^3000 objects") as told:
        client.flush()
    assert len(told.value.failed) == 3000


def test_a_full_store_is_a_reason(client: PlasmaClient) -> None:
    room = client.create(ObjectID.from_random(), client.store_capacity() - 1000)
    put = [client.put_raw_buffer_nowait(b"x" * 2000) for _ in range(4)]
    with pytest.raises(PlasmaNotStored) as told:
        client.flush()
    assert {type(error) for _, error in told.value.failed} == {plasma_store.PlasmaStoreFull}
    assert [object_id for object_id, _ in told.value.failed] == put
    with pytest.raises(plasma_store.PlasmaStoreFull):
        client.put_nowait(b"x" * LARGE)
    del room


def test_what_a_buffer_filled_is_sealed_without_waiting(client: PlasmaClient, object_id: ObjectID) -> None:
    memoryview(client.create(object_id, 3)).cast("B")[:] = b"abc"
    client.seal_nowait(object_id)
    client.flush()
    assert bytes_of(client, object_id) == b"abc"
    with pytest.raises(plasma_store.PlasmaObjectNotFound):
        client.seal_nowait(ObjectID.from_random())


def test_a_time_to_live_is_kept(client: PlasmaClient) -> None:
    put = [client.put_nowait("gone soon", ttl_ms=1), client.put_raw_buffer_nowait(b"as well", ttl_ms=1)]
    client.flush()
    until(lambda: not any(map(client.contains, put)))
    with pytest.raises(plasma_store.PlasmaInvalidArgument, match="-5"):
        client.put_raw_buffer_nowait(b"", ttl_ms=-5)


def test_a_value_that_cannot_be_written_leaves_nothing(client: PlasmaClient, object_id: ObjectID) -> None:
    with pytest.raises(Exception, match="pickle|local object"):
        client.put_nowait(lambda: 5, object_id)
    with pytest.raises(TypeError):
        client.put_nowait(5, b"no id")  # type: ignore[arg-type]
    client.flush()
    assert client.list() == {}


def test_nothing_can_be_flushed_without_a_store() -> None:
    with plasma_store.start_store(1 << 20) as store:
        client = plasma_store.connect(store.socket_path)
        client.put_nowait(1)
        client.flush()
    client.disconnect()
    for call in (client.flush, lambda: client.put_nowait(1), lambda: client.seal_nowait(ObjectID.from_random())):
        with pytest.raises(plasma_store.PlasmaDisconnected):
            call()


def test_what_was_put_before_the_process_ended_is_there(any_store: Store, child: Child) -> None:
    script = """
import os, sys, plasma_store
client = plasma_store.connect(sys.argv[1])
for number in range(200):
    print(client.put_nowait(number).hex(), flush=True)
os._exit(0)
"""
    process = child(script, any_store.socket_path)
    assert process.stdout is not None
    put = [ObjectID(bytes.fromhex(line)) for line in process.stdout.read().split()]
    with plasma_store.connect(any_store.socket_path) as client:
        assert client.get(put) == [*range(200)]


@pytest.mark.parametrize("spin_us", [0, 50])
def test_clients_may_stay_awake(any_store: Store, spin_us: int) -> None:
    with plasma_store.connect(any_store.socket_path, spin_us=spin_us) as client:
        assert client.get(client.put(5)) == 5
        assert client.get_buffers([ObjectID.from_random()], 1) == [None]


@pytest.mark.parametrize("spin_us", [-1, 1 << 32])
def test_other_numbers_are_refused(any_store: Store, spin_us: int) -> None:
    with pytest.raises(plasma_store.PlasmaInvalidArgument, match=f"spin_us is {spin_us}"):
        plasma_store.connect(any_store.socket_path, spin_us=spin_us)
