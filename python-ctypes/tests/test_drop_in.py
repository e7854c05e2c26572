"""What old programs call beyond the tutorial: raw puts, eviction, digests, client options, figures."""

from __future__ import annotations

import array
import importlib
import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import plasma_store
from conftest import put
from plasma_store import ObjectID, PlasmaClient, Store

MIB = 1 << 20


def contents(client: PlasmaClient, object_id: ObjectID) -> Any:
    [(metadata, data)] = client.get_buffers([object_id], timeout_ms=0, with_meta=True)
    return None if data is None else (bytes(memoryview(data)), metadata)


BYTES_LIKE = [
    b"",
    b"hello",
    bytearray(b"hello"),
    memoryview(b"hello")[1:4],
    array.array("i", [1, 2, 3]),
    bytes(range(256)) * 4096,
]


@pytest.mark.parametrize("value", BYTES_LIKE, ids=lambda value: f"{type(value).__name__}-{len(value)}")
def test_raw_bytes_of_every_kind(client: PlasmaClient, object_id: ObjectID, value: Any) -> None:
    assert client.create_and_seal(object_id, value) is None  # type: ignore[func-returns-value]
    assert contents(client, object_id) == (bytes(value), b"")
    made = client.put_raw_buffer(value, metadata=b"mm", memcopy_threads=4)
    assert contents(client, made) == (bytes(value), b"mm")


def test_arrays_are_bytes_too(client: PlasmaClient) -> None:
    np = pytest.importorskip("numpy")
    for order in "CF":
        value = np.arange(12).reshape((3, 4), order=order)
        [buffer] = client.get_buffers([client.put_raw_buffer(value)])
        assert np.frombuffer(buffer, value.dtype).tolist() == value.ravel("K").tolist()
    with pytest.raises(ValueError, match="contiguous"):
        client.put_raw_buffer(np.arange(12)[::2])


@pytest.mark.parametrize("value", ["text", 5, None])
def test_what_has_no_bytes_is_refused(client: PlasmaClient, object_id: ObjectID, value: Any) -> None:
    with pytest.raises(TypeError, match="bytes-like"):
        client.put_raw_buffer(value, object_id)
    assert not client.list()


def test_the_bytes_are_let_go_of(client: PlasmaClient) -> None:
    value = bytearray(b"x" * 1000)
    client.put_raw_buffer(value)
    value.extend(b"y")  # A BufferError while somebody holds its memory.


def test_an_id_is_used_once(client: PlasmaClient, object_id: ObjectID) -> None:
    assert client.put_raw_buffer(b"one", object_id) == object_id
    with pytest.raises(plasma_store.PlasmaObjectExists):
        client.create_and_seal(object_id, b"two")
    assert contents(client, object_id) == (b"one", b"")


def test_what_does_not_fit_leaves_nothing(client: PlasmaClient, object_id: ObjectID) -> None:
    with pytest.raises(plasma_store.PlasmaStoreFull):
        client.create_and_seal(object_id, bytes(client.store_capacity() + 1))
    assert not client.list()


def test_evict_frees_the_oldest_and_says_how_much(client: PlasmaClient) -> None:
    ids = [put(client, bytes(1000)) for _ in range(4)]
    held = client.get_buffers(ids[:1])
    assert client.evict(1) == 1000
    assert [client.contains(object_id) for object_id in ids] == [True, False, True, True]
    client.refresh([ids[2]])
    assert client.evict(1) == 1000
    assert [client.contains(object_id) for object_id in ids] == [True, False, True, False]
    assert client.evict(1 << 63) == 1000, "what somebody holds stays"
    assert client.evict(0) == 0
    del held


@pytest.mark.parametrize("size", [-1, 1 << 64])
def test_an_impossible_size_is_named(client: PlasmaClient, size: int) -> None:
    with pytest.raises(ValueError, match=f"num_bytes is {size}"):
        client.evict(size)
    with pytest.raises(ValueError, match=f"limit_output_memory is {size - 2**63}"):
        client.set_client_options("x", size - 2**63)


def test_refresh_of_what_is_not_there(client: PlasmaClient, object_id: ObjectID) -> None:
    client.refresh([object_id])
    client.refresh([])


def test_hash(client: PlasmaClient, object_id: ObjectID) -> None:
    with pytest.raises(plasma_store.PlasmaObjectNotFound):
        client.hash(object_id)
    one, same, other, meta = (put(client, data, m) for data, m in [(b"a", b""), (b"a", b""), (b"b", b""), (b"a", b"m")])
    assert isinstance(client.hash(one), bytes)
    assert len(client.hash(one)) == 8
    assert client.hash(one) == client.hash(same)
    assert len({client.hash(object_id) for object_id in (one, other, meta)}) == 3


def test_a_quota_keeps_others_out(client: PlasmaClient, store: Store) -> None:
    with plasma_store.connect(store.socket_path) as other:
        other.set_client_options("careful", 4 * MIB)
        kept = other.put_raw_buffer(bytes(MIB))
        for _ in range(40):
            client.put_raw_buffer(bytes(MIB))
        assert other.contains(kept)
        with pytest.raises(plasma_store.PlasmaStoreFull):
            client.set_client_options("greedy", 15 * MIB)


def test_the_figures_know_the_client(client: PlasmaClient) -> None:
    client.set_client_options("somebody", MIB)
    figures = client.debug_string()
    assert "somebody" in figures
    assert all(":" in line for line in figures.splitlines())


def test_long_figures_are_whole(client: PlasmaClient, store: Store) -> None:
    name = "n" * 10_000
    client.set_client_options(name, MIB)
    assert name in client.debug_string()


def test_calls_after_disconnect_say_so(store: Store, object_id: ObjectID) -> None:
    client = plasma_store.connect(store.socket_path)
    client.disconnect()
    for call in (
        lambda: client.create_and_seal(object_id, b""),
        lambda: client.put_raw_buffer(b""),
        lambda: client.evict(1),
        lambda: client.refresh([object_id]),
        lambda: client.hash(object_id),
        lambda: client.set_client_options("x", 1),
        client.debug_string,
    ):
        with pytest.raises(plasma_store.PlasmaDisconnected, match="disconnected"):
            call()


def test_many_threads_put(client: PlasmaClient) -> None:
    ids = [ObjectID.from_random() for _ in range(8)]
    threads = [threading.Thread(target=client.put_raw_buffer, args=(bytes([i]) * 10_000, ids[i])) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [contents(client, object_id) for object_id in ids] == [(bytes([i]) * 10_000, b"") for i in range(8)]


def test_a_fraction_of_a_number_is_cut_off(client: PlasmaClient, object_id: ObjectID) -> None:
    unchecked: Any = client
    assert len(unchecked.create(object_id, 10.7)) == 10
    assert unchecked.get_buffers([object_id], 0.5) == [None]
    assert unchecked.evict(1e6) == 0
    unchecked.set_client_options("x", 1e6)
    with pytest.raises(ValueError, match="NaN"):
        unchecked.create(ObjectID.from_random(), float("nan"))
    with pytest.raises(OverflowError, match="infinity"):
        unchecked.get_buffers([object_id], float("inf"))


def test_the_type_of_buffers(client: PlasmaClient, object_id: ObjectID) -> None:
    assert isinstance(client.create(object_id, 1), plasma_store.PlasmaBuffer)
    assert isinstance(client.get_buffers([put(client, b"x")])[0], plasma_store.PlasmaBuffer)
    assert not isinstance(b"x", plasma_store.PlasmaBuffer)
    with pytest.raises(TypeError, match="made by"):
        plasma_store.PlasmaBuffer()


def test_what_cannot_be_says_why(client: PlasmaClient) -> None:
    with pytest.raises(NotImplementedError, match="libplasma"):
        client.to_capsule()
    with pytest.raises(NotImplementedError, match="libplasma"):
        plasma_store.load_plasma_tensorflow_op()


def test_the_tensorflow_operator_cannot_be_had(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert plasma_store.tf_plasma_op is None
    assert not os.path.exists(plasma_store.TF_PLASMA_OP_PATH)
    monkeypatch.setattr(sys, "path", [])
    plasma_store.build_plasma_tensorflow_op()
    (tmp_path / "tensorflow.py").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    importlib.invalidate_caches()
    with pytest.raises(NotImplementedError, match="libplasma"):
        plasma_store.build_plasma_tensorflow_op()


CLAUSES = """
import pickle, sys
import plasma_store

client = plasma_store.connect(sys.argv[1])
object_id = plasma_store.ObjectID.from_random()

def fails(call, caught):
    try:
        call()
    except caught as error:
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again)) == (type(error), str(error))
        return True

fails(lambda: client.hash(object_id), plasma_store.PlasmaObjectNotFound)
assert "pyarrow" not in sys.modules, "a program that has no use for it does not wait for it"
import pyarrow
assert fails(lambda: client.hash(object_id), pyarrow.lib.ArrowException)
client.create(object_id, 1)
assert fails(lambda: client.create(object_id, 1), pyarrow.ArrowException)
client.seal(object_id)
assert fails(lambda: client.seal(object_id), pyarrow.ArrowException)
assert fails(lambda: client.seal(object_id), pyarrow.lib.ArrowTypeError)
assert fails(lambda: client.create(plasma_store.ObjectID.from_random(), 1 << 40), pyarrow.ArrowException)
for kind in (plasma_store.PlasmaObjectExists, plasma_store.PlasmaObjectNotFound, plasma_store.PlasmaStoreFull):
    assert issubclass(kind, pyarrow.ArrowException) and issubclass(kind, plasma_store.PlasmaError)
client.disconnect()
try:
    client.list()
except pyarrow.ArrowException:
    assert False, "an OSError, as it was"
except OSError:
    print("fine")
"""


def test_old_except_clauses(store: Store, child: Any) -> None:
    pytest.importorskip("pyarrow")
    process = child(CLAUSES, store.socket_path)
    assert process.stdout.read() == "fine\n"
