"""Objects by their names: in every call that takes one, in the metadata, in lists."""

from __future__ import annotations

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
