"""put and get: Python values by pickle, arrays without a copy, and bytes that nobody should have written."""

from __future__ import annotations

import collections
import datetime
import pickle
import random
import struct
from typing import Any, List, Tuple

import pytest

import plasma_store
from conftest import put
from plasma_store import ObjectID, ObjectNotAvailable, PlasmaClient, Store, values
from plasma_store.buffer import pyarrow_or_none

MAGIC = b"PLS\x89VAL1"


@pytest.fixture(autouse=True)
def _no_old_pyarrow() -> None:
    pyarrow = pyarrow_or_none()
    if pyarrow is not None and hasattr(pyarrow, "serialize"):
        pytest.skip("this pyarrow has the old serialization")


class Buffers:
    """Any class that gives pickle its bytes out of band."""

    def __init__(self, *parts: Any) -> None:
        self.parts: Tuple[Any, ...] = parts

    def __reduce__(self) -> Any:
        return Buffers, tuple(pickle.PickleBuffer(part) for part in self.parts)


class Unpicklable:
    """A value that cannot be put."""

    def __reduce__(self) -> Any:
        raise LookupError("not this one")


VALUES: List[Any] = [
    None,
    True,
    -1,
    2**100,
    2.5,
    1j,
    "text \u00e9",
    b"",
    b"x" * 100_000,
    [],
    [1, [2, (3, {4: {5}})]],
    datetime.date(2020, 2, 29),
    collections.OrderedDict(a=1),
    ObjectID(b"1" * 20),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
def test_values_come_back(client: PlasmaClient, value: Any) -> None:
    got = client.get(client.put(value))
    assert got == value
    assert type(got) is type(value)


def test_one_or_several(client: PlasmaClient, object_id: ObjectID) -> None:
    assert client.put("one", object_id, 4) == object_id
    other = client.put("two")
    assert client.get(object_id) == "one"
    assert client.get([object_id]) == ["one"]
    assert client.get((object_id, other, object_id)) == ["one", "two", "one"]
    assert client.get([]) == []


def test_what_is_missing_is_the_class_itself(client: PlasmaClient, object_id: ObjectID) -> None:
    there = client.put(1)
    assert client.get(object_id, timeout_ms=0) is ObjectNotAvailable
    assert client.get([object_id, there], 10) == [ObjectNotAvailable, 1]
    assert client.get(put(client, b"")) is ObjectNotAvailable


def test_no_metadata_and_one_copy_of_the_data(client: PlasmaClient) -> None:
    client.put(Buffers(bytes(100_000)))
    [info] = client.list().values()
    assert info["metadata_size"] == 0
    assert info["data_size"] < 101_000


def test_an_id_is_used_once(client: PlasmaClient, object_id: ObjectID) -> None:
    client.put(1, object_id)
    with pytest.raises(plasma_store.PlasmaObjectExists):
        client.put(2, object_id)
    assert client.get(object_id) == 1


def test_what_cannot_be_put_leaves_nothing(client: PlasmaClient, object_id: ObjectID) -> None:
    with pytest.raises(LookupError):
        client.put(Unpicklable(), object_id)
    with pytest.raises(plasma_store.PlasmaStoreFull):
        client.put(bytes(client.store_capacity()), object_id)
    with pytest.raises(plasma_store.PlasmaUnsupported, match="serialization_context needs"):
        client.put(1, object_id, serialization_context=object())
    assert not client.list()


def test_a_put_that_is_interrupted_leaves_nothing(
    client: PlasmaClient, object_id: ObjectID, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_self: Any, _object_id: ObjectID) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(PlasmaClient, "seal", interrupted)
    with pytest.raises(KeyboardInterrupt):
        client.put([1, b"x" * 100_000], object_id)
    assert not client.list()


def test_the_format_is_the_documented_one(client: PlasmaClient) -> None:
    parts = [b"a" * 100, b"", b"b" * 64, b"c"]
    object_id = client.put(Buffers(*parts))
    [buffer] = client.get_buffers([object_id])
    data = bytes(memoryview(buffer))  # type: ignore[arg-type]
    assert data[:8] == MAGIC
    length, count = struct.unpack_from("<QQ", data, 8)
    assert count == 4
    ranges = [struct.unpack_from("<QQ", data, 24 + 16 * index) for index in range(count)]
    assert [data[offset : offset + size] for offset, size in ranges] == parts
    assert all(offset % 64 == 0 for offset, _ in ranges)
    assert pickle.loads(data[88 : 88 + length], buffers=parts).parts == tuple(parts)
    end = 88 + length
    for offset, size in ranges:
        assert data[end:offset] == bytes(offset - end)
        end = offset + size
    assert len(data) == end


def test_equal_values_have_equal_digests(client: PlasmaClient) -> None:
    client.delete([client.put(bytes([255]) * 4096)])
    assert client.hash(client.put(Buffers(b"a", b"b"))) == client.hash(client.put(Buffers(b"a", b"b")))


def test_buffers_are_aligned_read_only_and_outlive_everything(store: Store) -> None:
    client = plasma_store.connect(store.socket_path)
    object_id = client.put(Buffers(bytearray(b"abc"), b"", b"d" * 1000))
    parts = client.get(object_id).parts
    client.delete([object_id])
    client.disconnect()
    assert [bytes(part) for part in parts] == [b"abc", b"", b"d" * 1000]
    assert all(memoryview(part).readonly for part in parts)


def test_arrays_are_not_copied(client: PlasmaClient) -> None:
    np = pytest.importorskip("numpy")
    value = {
        "row": np.arange(24, dtype="float32").reshape(4, 6),
        "column": np.arange(24).reshape((4, 6), order="F"),
        "gaps": np.arange(24)[::3],
        "text": np.array(["a", "bcd"]),
        "objects": np.array([None, "x"], dtype=object),
        "empty": np.empty((0, 3)),
        "number": np.array(7.5),
        "times": np.array(["2020-01-01"], dtype="datetime64[D]"),
    }
    object_id = client.put(value)
    got = client.get(object_id)
    for name, array in value.items():
        assert got[name].dtype == array.dtype
        np.testing.assert_array_equal(got[name], array)
    [buffer] = client.get_buffers([object_id])
    start = np.frombuffer(buffer, "uint8").ctypes.data
    for name in ("row", "column"):
        assert start <= got[name].ctypes.data < start + len(buffer)  # type: ignore[arg-type]
        assert got[name].ctypes.data % 64 == 0
        with pytest.raises(ValueError, match="read-only"):
            got[name][...] = 0
    assert got["column"].flags.f_contiguous


def test_arrow_tables(client: PlasmaClient) -> None:
    pa = pytest.importorskip("pyarrow")
    table = pa.table({"a": [1, 2, 3], "b": ["x", None, "z"]})
    assert client.get(client.put(table)).equals(table)


def value_of(pickled: bytes, ranges: List[Tuple[int, int]], total: int, count: Any = None, length: Any = None) -> bytes:
    """An object of `total` bytes whose header says what is given here."""
    head = struct.pack("<QQ", len(pickled) if length is None else length, len(ranges) if count is None else count)
    table = b"".join(struct.pack("<QQ", *pair) for pair in ranges)
    return (MAGIC + head + table + pickled).ljust(total, b"\0")


FINE = pickle.dumps(5)
TWO = pickle.dumps(Buffers(b"a", b"b"), protocol=5, buffer_callback=lambda _: None)
BIG = 2**64 - 1
HOSTILE = [
    (MAGIC, "has 8 bytes; a value has at least 24"),
    (MAGIC + bytes(15), "has 23 bytes"),
    (MAGIC + bytes(16), "pickle of 0 bytes"),
    (value_of(FINE, [], 100, length=77), "pickle of 77 bytes at 24"),
    (value_of(FINE, [], 100, length=BIG), f"pickle of {BIG} bytes"),
    (value_of(FINE, [], 100, count=5), "5 buffers"),
    (value_of(FINE, [], 100, count=BIG), f"{BIG} buffers"),
    (value_of(FINE, [], 100, count=1 << 60), f"{1 << 60} buffers"),
    (value_of(TWO, [(192, 1), (256, 65)], 320), "buffer 1 of 65 bytes at 256"),
    (value_of(TWO, [(192, BIG), (256, 1)], 320), f"buffer 0 of {BIG} bytes at 192"),
    (value_of(TWO, [(192, 1), (2**64 - 64, 64)], 320), f"64 bytes at {2**64 - 64}"),
    (value_of(TWO, [(192, 1), (384, 0)], 320), "0 bytes at 384"),
    (value_of(TWO, [(192, 1), (193, 1)], 320), "1 bytes at 193"),
    (value_of(TWO, [(256, 1), (192, 1)], 320), "1 bytes at 192, after what ends at 257"),
    (value_of(TWO, [(192, 65), (256, 1)], 320), "1 bytes at 256, after what ends at 257"),
    (value_of(TWO, [(0, 1), (256, 1)], 320), "1 bytes at 0"),
    (value_of(TWO, [(192, 1)], 320), "with 1 buffers is damaged"),
    (value_of(b"\x80\x05", [], 26), "is damaged"),
    (b"PLS\x89VAL2" + bytes(56), "not a value that put wrote"),
    (b"x", "of 1 bytes is not a value that put wrote; get_buffers"),
    (bytes(64), "not a value that put wrote"),
    (struct.pack("<4i", 1 << 30, 0, 0, 0) + b"\xff" * 48, "not a value"),
    (struct.pack("<4i", 0, 0, 0, -1) + b"\xff" * 48, "not a value"),
]


@pytest.mark.parametrize(("data", "complaint"), HOSTILE, ids=lambda part: part if isinstance(part, str) else "")
def test_impossible_objects_are_refused_with_their_numbers(client: PlasmaClient, data: bytes, complaint: str) -> None:
    object_id = put(client, data)
    with pytest.raises(plasma_store.PlasmaCorrupt, match=complaint) as raised:
        client.get(object_id)
    assert object_id.hex() in str(raised.value)


def test_the_possible_ones_beside_them_are_read(client: PlasmaClient) -> None:
    assert client.get(put(client, value_of(FINE, [], 100))) == 5
    got = client.get(put(client, value_of(TWO, [(192, 1), (256, 64)], 320)))
    assert [len(part) for part in got.parts] == [1, 64]


def test_a_tensor_is_named_as_such(client: PlasmaClient) -> None:
    np = pytest.importorskip("numpy")
    with pytest.raises(plasma_store.PlasmaCorrupt, match="a tensor: get_tensor reads it"):
        client.get(client.put_tensor(np.arange(3)))


def test_headers_with_random_numbers_never_harm(client: PlasmaClient) -> None:
    generator = random.Random(1)
    good = value_of(TWO, [(192, 1), (256, 64)], 320)
    for _ in range(2000):
        data = bytearray(good)
        # Only numbers: a pickle that is changed may do anything at all.
        at = generator.randrange(1, 7) * 8
        data[at : at + 8] = struct.pack("<Q", generator.choice([generator.getrandbits(64), generator.randrange(400)]))
        object_id = put(client, bytes(data))
        try:
            parts = client.get(object_id).parts
        except plasma_store.PlasmaCorrupt:
            continue
        finally:
            client.delete([object_id])
        assert all(len(part) <= 128 for part in parts)


def test_the_old_serialization_without_any_pyarrow(client: PlasmaClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "pyarrow_or_none", lambda: None)
    object_id = put(client, bytes(16) + b"\xff\xff\xff\xff" + bytes(100))
    with pytest.raises(plasma_store.PlasmaUnsupported, match="pyarrow before version 14; none is installed"):
        client.get(object_id)
    assert client.get(client.put([1])) == [1], "what we write needs none"
