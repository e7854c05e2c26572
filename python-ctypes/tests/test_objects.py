"""Objects as bytes: create, seal, get, and what a user can get wrong."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import plasma_store
from conftest import put, until
from plasma_store import ObjectID, PlasmaClient, Store


def test_bytes_and_metadata_come_back(any_store: Store) -> None:
    with plasma_store.connect(any_store.socket_path) as writer, plasma_store.connect(any_store.socket_path) as reader:
        object_id = put(writer, b"hello world", b"about it")
        [(metadata, data)] = reader.get_buffers([object_id], with_meta=True)
        assert metadata == b"about it"
        assert data is not None
        assert bytes(memoryview(data)) == b"hello world"
        [only_metadata] = reader.get_metadata([object_id])
        assert only_metadata is not None
        assert bytes(memoryview(only_metadata)) == b"about it"


def test_order_duplicates_and_missing_ones(client: PlasmaClient) -> None:
    a, b, missing = put(client, b"a"), put(client, b"bb"), ObjectID.from_random()
    got = client.get_buffers([b, missing, a, b], timeout_ms=0)
    assert [entry and len(entry) for entry in got] == [2, None, 1, 2]
    assert client.get_buffers([missing], 0, True) == [(None, None)]
    assert client.get_metadata([missing], 0) == [None]
    assert client.get_buffers([]) == []


def test_an_object_is_invisible_until_it_is_sealed(client: PlasmaClient, object_id: ObjectID) -> None:
    buffer = client.create(object_id, 3)
    assert not client.contains(object_id)
    assert client.get_buffers([object_id], 0) == [None]
    assert client.list()[object_id]["state"] == "created"
    client.seal(object_id)
    assert client.contains(object_id)
    assert len(buffer) == 3


@pytest.mark.parametrize("metadata", [b"", b"m"])
def test_zero_sized_objects(client: PlasmaClient, metadata: bytes) -> None:
    object_id = put(client, b"", metadata)
    [(got, data)] = client.get_buffers([object_id], with_meta=True)
    assert (got, data is not None and len(data)) == (metadata, 0)


def test_a_timeout_takes_at_least_its_time(client: PlasmaClient, object_id: ObjectID) -> None:
    start = time.monotonic()
    assert client.get_buffers([object_id], timeout_ms=150) == [None]
    assert time.monotonic() - start >= 0.15


def test_got_buffers_cannot_be_written(client: PlasmaClient) -> None:
    object_id = put(client, b"hello", b"meta")
    [data] = client.get_buffers([object_id])
    [metadata] = client.get_metadata([object_id])
    for buffer in (data, metadata):
        assert buffer is not None
        view = memoryview(buffer)
        assert view.readonly
        with pytest.raises(TypeError, match="read-only"):
            view[0] = 1


def test_list(client: PlasmaClient) -> None:
    before = int(time.time())
    object_id = put(client, b"x" * 100, b"yy")
    info = client.list()[object_id]
    assert (info["data_size"], info["metadata_size"], info["state"]) == (100, 2, "sealed")
    assert info["construct_duration"] >= 0
    assert info["create_time"] >= before - 1
    [held] = client.get_buffers([object_id])
    assert client.list()[object_id]["ref_count"] == 1
    assert held is not None


def test_delete(client: PlasmaClient) -> None:
    free, held = put(client, b"free"), put(client, b"held")
    [buffer] = client.get_buffers([held])
    assert client.delete([free, held, ObjectID.from_random()]) is None  # type: ignore[func-returns-value]
    assert not client.contains(free)
    assert buffer is not None
    assert bytes(memoryview(buffer)) == b"held"
    del buffer
    assert not client.contains(held)


def test_abort(client: PlasmaClient, object_id: ObjectID) -> None:
    buffer = client.create(object_id, 10)
    with pytest.raises(plasma_store.PlasmaBusy, match=object_id.hex()):
        client.abort(object_id)
    del buffer
    client.abort(object_id)
    assert object_id not in client.list()
    with pytest.raises(plasma_store.PlasmaObjectNotFound):
        client.abort(object_id)


def test_ids_that_exist_or_do_not(client: PlasmaClient, object_id: ObjectID) -> None:
    existing = put(client, b"x")
    with pytest.raises(plasma_store.PlasmaObjectExists, match=existing.hex()):
        client.create(existing, 1)
    with pytest.raises(plasma_store.PlasmaObjectNotFound, match=object_id.hex()):
        client.seal(object_id)
    with pytest.raises(plasma_store.PlasmaObjectAlreadySealed, match=existing.hex()) as sealed_twice:
        client.seal(existing)
    assert isinstance(sealed_twice.value, TypeError)


def test_what_does_not_fit(client: PlasmaClient, object_id: ObjectID) -> None:
    too_much = client.store_capacity() + 1
    with pytest.raises(plasma_store.PlasmaStoreFull, match=str(too_much)):
        client.create(object_id, too_much)
    for size in (-1, 1 << 64):
        with pytest.raises(ValueError, match=str(size)):
            client.create(object_id, size)
    with pytest.raises(plasma_store.PlasmaStoreFull):
        client.create(object_id, (1 << 64) - 1)
    assert client.list() == {}


def test_the_oldest_unused_objects_make_room(client: PlasmaClient) -> None:
    ids = [put(client, bytes(4 << 20)) for _ in range(3)]
    [held] = client.get_buffers(ids[:1])
    ids += [put(client, bytes(4 << 20)) for _ in range(2)]
    present = [client.contains(object_id) for object_id in ids]
    assert present[0], "one that is held stays"
    assert not present[1], "the oldest that nobody holds goes"
    assert present[4]
    assert held is not None


def test_wrong_types_are_type_errors(client: PlasmaClient, object_id: ObjectID) -> None:
    with pytest.raises(TypeError, match="ObjectID or a name is needed, not b'x'"):
        client.get_buffers([b"x"])  # type: ignore[list-item]
    with pytest.raises(TypeError):
        client.delete(object_id)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="data_size is '1'"):
        client.create(object_id, "1")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        client.create(object_id, 1, "text")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="timeout_ms is None"):
        client.get_buffers([object_id], None)  # type: ignore[call-overload]


@pytest.mark.parametrize("timeout_ms", [-2, 1 << 63])
def test_an_impossible_timeout_is_named(client: PlasmaClient, object_id: ObjectID, timeout_ms: int) -> None:
    with pytest.raises(ValueError, match=str(timeout_ms)):
        client.get_buffers([object_id], timeout_ms)


def test_connecting_to_nothing(tmp_path: Path) -> None:
    path = str(tmp_path / "nobody")
    start = time.monotonic()
    with pytest.raises(plasma_store.PlasmaConnectError, match=path) as failed:
        plasma_store.connect(path, num_retries=2)
    assert time.monotonic() - start >= 0.2
    assert isinstance(failed.value, OSError)
    with pytest.raises(ValueError, match="120"):
        plasma_store.connect("/" + "x" * 119, num_retries=0)
    with pytest.raises(ValueError, match="NUL at 2"):
        plasma_store.connect("/x\0y")


@pytest.mark.parametrize("threads", [-1, 257, 1 << 64])
def test_impossible_threads_are_named(store: Store, threads: int) -> None:
    with pytest.raises(ValueError, match=f"copy_threads .* {threads}"):
        plasma_store.connect(store.socket_path, copy_threads=threads)
    with pytest.raises(TypeError, match="copy_threads is '2'"):
        plasma_store.connect(store.socket_path, copy_threads="2")  # type: ignore[call-overload]


def test_the_default_socket(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLASMA_STORE_SOCKET", store.socket_path)
    with plasma_store.connect() as client:
        assert client.store_socket_name is None
        assert client.store_capacity() == 16 << 20


def test_a_disconnected_client_says_so(client: PlasmaClient, object_id: ObjectID) -> None:
    assert repr(client).startswith(f"<PlasmaClient of {client.store_socket_name}")
    client.disconnect()
    client.disconnect()
    client.interrupt()
    assert "disconnected" in repr(client)
    with pytest.raises(plasma_store.PlasmaDisconnected, match="disconnected") as failed:
        client.contains(object_id)
    assert isinstance(failed.value, OSError)


def test_disconnecting_aborts_what_was_not_sealed(store: Store, client: PlasmaClient, object_id: ObjectID) -> None:
    with plasma_store.connect(store.socket_path) as creator:
        buffer = creator.create(object_id, 10)
    assert len(buffer) == 10
    assert object_id in client.list(), "its memory is still writable through the buffer"
    del buffer
    until(lambda: object_id not in client.list())
