"""ObjectID: 20 bytes, immutable words."""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
import weakref

import pytest

from conftest import ROOT
from plasma_store import ObjectID

VECTORS = ROOT / "tests" / "fixtures" / "object_names.json"


def test_bytes_hex_and_repr() -> None:
    object_id = ObjectID(b"abcdefghijklmnopqrst")
    assert object_id.binary() == b"abcdefghijklmnopqrst"
    assert object_id.hex() == "6162636465666768696a6b6c6d6e6f7071727374"
    assert repr(object_id) == "ObjectID(6162636465666768696a6b6c6d6e6f7071727374)"
    assert ObjectID.from_hex(object_id.hex().upper()) == object_id


def test_equality_and_hash_are_those_of_the_bytes() -> None:
    one, same, other = ObjectID(b"1" * 20), ObjectID(b"1" * 20), ObjectID(b"2" * 20)
    assert one == same
    assert hash(one) == hash(same)
    assert one != other
    assert one != b"1" * 20
    assert {one: "x"}[same] == "x"


def test_a_weak_reference() -> None:
    object_id = ObjectID.from_random()
    assert weakref.ref(object_id)() is object_id


def test_random_ids_differ() -> None:
    assert len({ObjectID.from_random() for _ in range(100)}) == 100


def test_pickle_and_copy() -> None:
    object_id = ObjectID.from_random()
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(object_id, protocol)) == object_id
    assert copy.deepcopy(object_id) == object_id


@pytest.mark.parametrize(
    ("wrong", "named"),
    [(b"", "0 bytes"), (b"1" * 19, "19 bytes"), (b"1" * 21, "21 bytes"), ("1" * 20, "'1111"), (None, "None")],
)
def test_anything_but_20_bytes_is_a_value_error(wrong: object, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        ObjectID(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", ["", "abc", "g" * 40, "0" * 41, "é" * 20])
def test_wrong_hex_is_a_value_error_that_shows_it(wrong: str) -> None:
    with pytest.raises(ValueError, match="40 hex digits"):
        ObjectID.from_hex(wrong)


def test_names() -> None:
    for namespace, name in [("", "x"), ("a", "bc"), ("ab", "c"), ("", ""), ("größe", "日本")]:
        expected = hashlib.sha256(namespace.encode() + b"\0" + name.encode()).digest()[:20]
        assert ObjectID.from_name(name, namespace).binary() == expected
    assert ObjectID.from_name("x") == ObjectID.from_name("x", namespace="")
    with pytest.raises(ValueError, match="name has a NUL at 1"):
        ObjectID.from_name("a\0b")


@pytest.mark.skipif(not VECTORS.exists(), reason=f"no {VECTORS.relative_to(ROOT)}")
def test_name_vectors() -> None:
    vectors = json.loads(VECTORS.read_text())
    assert vectors
    for vector in vectors:
        assert ObjectID.from_name(vector["name"], vector["namespace"]).hex() == vector["id"]
