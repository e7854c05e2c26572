"""Objects by their names: in every call that takes an id, in the metadata, in lists."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any, Callable, Dict, Tuple

import pytest

import plasma_store
from plasma_store import ObjectID, PlasmaClient

np = pytest.importorskip("numpy")


def test_a_client_is_indexed_by_names(client: PlasmaClient) -> None:
    client["features/train"] = {"a": [1, 2]}
    assert client["features/train"] == {"a": [1, 2]}
    assert client.get(ObjectID.from_name("features/train")) == {"a": [1, 2]}
    assert "features/train" in client
    assert ObjectID.from_name("features/train") in client
    with pytest.raises(plasma_store.PlasmaObjectExists):
        client["features/train"] = 5
    del client["features/train"]
    assert "features/train" not in client
    with pytest.raises(KeyError, match="features/train"):
        client["features/train"]
    with pytest.raises(KeyError, match="features/train"):
        del client["features/train"]


def test_whatever_is_put_by_a_name_is_got_and_listed_by_it(client: PlasmaClient) -> None:
    client.put([1], "value")
    client.put_tensor(np.arange(3, dtype="complex64"), "tensor", b"user", dim_names=["x"])
    client.put_tensors({"x": np.arange(3)}, "bündel")
    client.create_tensor("created", [2], "int8")
    unnamed = client.put_tensor(np.arange(2, dtype="bool"))
    listed = client.list()
    names = {info["name"]: object_id for object_id, info in listed.items() if object_id != unnamed}
    # What is not sealed is not looked into.
    assert names == {name: ObjectID.from_name(name) for name in ("value", "tensor", "bündel")} | {
        None: ObjectID.from_name("created")
    }
    assert listed[unnamed]["name"] is None
    client.seal(ObjectID.from_name("created"))
    assert client.list()[ObjectID.from_name("created")]["name"] == "created"
    assert client.get("value") == [1]
    assert client["tensor"].numpy().tolist() == [0, 1, 2]
    assert client.get_tensor("tensor").dim_names == ("x",)
    assert [*map(bytes, map(memoryview, client.get_metadata([ObjectID.from_name("tensor")])))] == [b"user"]  # type: ignore[arg-type]
    assert client.get_tensors("bündel")["x"].numpy().tolist() == [0, 1, 2]
    client.delete("value")
    assert not client.contains("value")


def test_large_objects_have_names_too(client: PlasmaClient) -> None:
    client.put(np.ones(1 << 17), "large")
    client.put_tensor(np.ones(1 << 17), "large/tensor")
    assert {info["name"] for info in client.list().values()} == {"large", "large/tensor"}


def test_a_name_that_is_not_its_own_is_not_believed(client: PlasmaClient) -> None:
    """Metadata are bytes of whoever wrote them: a name counts where the object has its id."""
    entry = b"\3\0" + (3).to_bytes(4, "little") + b"lie"
    trailer = entry + len(entry).to_bytes(4, "little") + b"PLSMETA1"
    object_id = client.put_raw_buffer(b"x", metadata=trailer)
    assert client.list()[object_id]["name"] is None


def test_names_that_cannot_be_are_refused(client: PlasmaClient) -> None:
    with pytest.raises(plasma_store.PlasmaInvalidArgument, match="NUL"):
        client["a\0b"] = 1
    with pytest.raises(plasma_store.PlasmaInvalidArgument, match="the limit is 65536"):
        client["x" * 70000] = 1
    client["x" * 60000] = 1
    assert [info["name"] for info in client.list().values()] == ["x" * 60000]


def test_a_batch_has_names_among_its_ids(client: PlasmaClient) -> None:
    unnamed = ObjectID.from_random()
    client.put_batch([("a", b"1"), (unnamed, b"2"), ("b\u00fc", b"3", b"meta")])
    assert {info["name"] for info in client.list().values()} == {"a", None, "b\u00fc"}
    got = client.get_buffers(["b\u00fc", unnamed, "a"], with_meta=True)
    assert [(meta, bytes(memoryview(data))) for meta, data in got] == [(b"meta", b"3"), (b"", b"2"), (b"", b"1")]  # type: ignore[arg-type]
    with pytest.raises(plasma_store.PlasmaObjectExists):
        client.put_batch([("c", b"1"), (ObjectID.from_name("a"), b"2")])
    assert "c" not in client
    with pytest.raises(plasma_store.PlasmaInvalidArgument, match="the limit is 65536"):
        client.put_batch([("x" * 70000, b"")])


def test_what_nobody_waits_for_has_a_name(client: PlasmaClient) -> None:
    assert client.put_nowait([1], "value") == ObjectID.from_name("value")
    client.put_nowait(b"x" * 100_000, "large")
    client.put_raw_buffer_nowait(b"raw", "raw", b"meta")
    memoryview(client.create("created", 3)).cast("B")[:] = b"abc"
    client.seal_nowait("created")
    client.flush()
    assert {info["name"] for info in client.list().values()} == {"value", "large", "raw", "created"}
    assert client.get(["value", "large"]) == [[1], b"x" * 100_000]
    client.put_nowait("again", "value")
    with pytest.raises(plasma_store.PlasmaNotStored) as told:
        client.flush()
    assert [object_id for object_id, _ in told.value.failed] == [ObjectID.from_name("value")]


def test_an_error_tells_the_name(client: PlasmaClient) -> None:
    digits = ObjectID.from_name("none").hex()
    with pytest.raises(plasma_store.PlasmaTimeout, match=f"object 'none' \\({digits}\\) did not come within 0 ms"):
        client.get_tensor("none", 0)
    with pytest.raises(plasma_store.PlasmaObjectNotFound, match=f"object 'none' \\({digits}\\) is not there"):
        client.is_immutable("none")


def _created(client: PlasmaClient, name: str) -> None:
    client.create(name, 3)


def _put(client: PlasmaClient, name: str) -> None:
    client.put("value", name)


def _tensor(client: PlasmaClient, name: str) -> None:
    client.put_tensor(np.arange(3), name)


def _nothing(client: PlasmaClient, name: str) -> None:
    """It makes the object itself."""


Prepare = Callable[[PlasmaClient, str], Any]
Call = Callable[[PlasmaClient, Any], Any]
# Whatever takes an id: what has to be there before, and a call of it.
CALLS: Dict[str, Tuple[Prepare, Call]] = {
    "abort": (_created, lambda client, given: client.abort(given)),
    "contains": (_put, lambda client, given: client.contains(given)),
    "create": (_nothing, lambda client, given: len(client.create(given, 3))),
    "create_and_seal": (_nothing, lambda client, given: client.create_and_seal(given, b"x")),
    "create_tensor": (_nothing, lambda client, given: client.create_tensor(given, (2,), "int8").shape),
    "delete": (_put, lambda client, given: client.delete([given])),
    "get": (_put, lambda client, given: client.get([given, given], 0)),
    "get_arrow": (
        lambda client, name: client.put_arrow(pytest.importorskip("pyarrow").table({"x": [1]}), name),
        lambda client, given: client.get_arrow(given, 0).to_pydict(),
    ),
    "get_async": (_put, lambda client, given: asyncio.run(client.get_async([given, given], 100))),
    "get_buffers": (_put, lambda client, given: [*map(bytes, map(memoryview, client.get_buffers([given], 0)))]),  # type: ignore[arg-type]
    "get_buffers_async": (_put, lambda client, given: asyncio.run(client.get_buffers_async([given], 100))[0] is None),
    "get_metadata": (_put, lambda client, given: client.get_metadata([given], 0)[0] is None),
    "get_tensor": (_tensor, lambda client, given: client.get_tensor(given, 0).numpy().tolist()),
    "get_tensor_async": (_tensor, lambda client, given: asyncio.run(client.get_tensor_async(given, 100)).shape),
    "get_tensors": (
        lambda client, name: client.put_tensors({"x": np.ones(2)}, name),
        lambda client, given: client.get_tensors(given, 0)["x"].numpy().tolist(),
    ),
    "hash": (_put, lambda client, given: client.hash(given)),
    "is_immutable": (_put, lambda client, given: client.is_immutable(given)),
    "pin": (_put, lambda client, given: client.pin([given])),
    "put": (_nothing, lambda client, given: client.put("value", given)),
    "put_arrow": (_nothing, lambda client, given: client.put_arrow(pytest.importorskip("pyarrow").table({"x": [1]}), given)),
    "put_nowait": (_nothing, lambda client, given: client.put_nowait("value", given)),
    "put_raw_buffer": (_nothing, lambda client, given: client.put_raw_buffer(b"x", given)),
    "put_raw_buffer_nowait": (_nothing, lambda client, given: client.put_raw_buffer_nowait(b"x", given)),
    "put_tensor": (_nothing, lambda client, given: client.put_tensor(np.ones(2), given)),
    "put_tensors": (_nothing, lambda client, given: client.put_tensors({"x": np.ones(2)}, given)),
    "refresh": (_put, lambda client, given: client.refresh([given])),
    "seal": (_created, lambda client, given: client.seal(given)),
    "seal_nowait": (_created, lambda client, given: client.seal_nowait(given)),
    "unpin": (_put, lambda client, given: client.unpin([given])),
}


def _states(client: PlasmaClient) -> Any:
    client.flush()
    return {object_id: (info["state"], info["pinned"], info["data_size"]) for object_id, info in client.list().items()}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_does_the_same_by_the_name_as_by_the_id(client: PlasmaClient, name: str) -> None:
    prepare, call = CALLS[name]
    did = []
    for given in ("its name", ObjectID.from_name("its name")):
        prepare(client, "its name")
        did.append((call(client, given), _states(client)))
        client.flush()
        if [info["state"] for info in client.list().values()] == ["created"]:
            client.abort("its name")
        client.delete("its name")
    assert did[0] == did[1]


def test_no_call_that_takes_an_id_is_left_out() -> None:
    members = inspect.getmembers(PlasmaClient, inspect.isfunction)
    public = {name: inspect.signature(member).parameters for name, member in members if not name.startswith("_")}
    assert set(CALLS) == {name for name, taken in public.items() if {"object_id", "object_ids"} & set(taken)}


def test_where_several_are_taken_a_text_is_one_name(client: PlasmaClient) -> None:
    client.put("value", "ab")
    client.pin("ab")
    assert client.evict(1000) == 0
    client.unpin("ab")
    client.refresh("ab")
    assert len(client.get_buffers("ab", 0)) == len(client.get_metadata("ab", 0)) == 1
    assert len(asyncio.run(client.get_buffers_async("ab", 100))) == 1
    assert client.get("ab") == asyncio.run(client.get_async("ab")) == "value"
    client.delete("ab")
    assert "ab" not in client
