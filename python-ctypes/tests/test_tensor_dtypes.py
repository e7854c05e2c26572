"""Every element type of DLPack: stored and read as what it is, also those that neither Arrow nor numpy has."""

from __future__ import annotations

import builtins
import re
import struct
import sys
from typing import Any, Tuple

import pytest

import plasma_store
from plasma_store import ObjectID, PlasmaClient
from plasma_store.dtypes import BY_ELEMENT, DTYPES, dtype_of

np = pytest.importorskip("numpy")
FOREIGN = [name for name, dtype in DTYPES.items() if not dtype.typestr]


def filled(client: PlasmaClient, object_id: ObjectID, shape: Tuple[int, ...], dtype: str) -> Any:
    """A sealed tensor with bytes of some kind."""
    tensor = client.create_tensor(object_id, shape, dtype)
    tensor.data[:] = bytes(index * 37 % 256 for index in range(tensor.nbytes))
    left = 8 * tensor.nbytes - int(np.prod(shape)) * DTYPES[dtype].bits * DTYPES[dtype].lanes
    if left:
        # What is left over of the last byte is cleared by whoever copies it.
        tensor.data[-1] = tensor.data[-1] & 0xFF >> left
    client.seal(object_id)
    return client.get_tensor(object_id)


def test_names_and_numbers_are_unique() -> None:
    assert len(BY_ELEMENT) == len(DTYPES) == 35
    assert all(dtype_of(name) is dtype for name, dtype in DTYPES.items())


def test_types_are_taken_as_numpy_takes_them() -> None:
    named = {int: "int64", float: "float64", complex: "complex128", bool: "bool", "f4": "float32", "<i2": "int16", "b1": "bool"}
    for given, name in named.items():
        assert dtype_of(given).name == np.dtype(given).name == name
    for given in (">f4", object, "text", np.dtype("M8[s]")):
        with pytest.raises(plasma_store.PlasmaUnsupported, match=re.escape(f"dtype {given!r} cannot be stored")):
            dtype_of(given)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (5,), (3, 4), (2, 0), (2,) * 8], ids=str)
def test_what_is_created_is_what_is_got(client: PlasmaClient, object_id: ObjectID, dtype: str, shape: Any) -> None:
    tensor = filled(client, object_id, shape, dtype)
    element = DTYPES[dtype]
    assert (tensor.dtype, tensor.shape, tensor.itemsize) == (dtype, shape, element.itemsize)
    assert tensor.nbytes == len(tensor.data) == element.nbytes(int(np.prod(shape)))
    again = client.get_tensor(client.put_tensor(tensor))
    assert (again.dtype, again.shape, bytes(again.data)) == (dtype, shape, bytes(tensor.data))


@pytest.mark.parametrize("dtype", FOREIGN)
def test_bits_are_integers_over_the_same_memory(client: PlasmaClient, object_id: ObjectID, dtype: str) -> None:
    tensor = filled(client, object_id, (3, 4), dtype)
    bits = tensor.bits()
    assert (bits.dtype.kind, bits.tobytes(), bits.flags.writeable) == ("u", bytes(tensor.data), False)
    assert bits.shape == ((tensor.nbytes,) if DTYPES[dtype].packed else (3, 4))
    assert bits.ctypes.data == np.frombuffer(tensor.data, "u1").ctypes.data


def test_elements_of_sixteen_bytes_have_no_integers(client: PlasmaClient) -> None:
    with pytest.raises(TypeError, match="complex128"):
        client.get_tensor(client.put_tensor(np.ones(3, "complex128"))).bits()


@pytest.mark.parametrize("dtype", sorted(set(FOREIGN) - {"float4_e2m1fn_x2"}))
def test_arrays_of_ml_dtypes_go_in_and_out(client: PlasmaClient, dtype: str) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    if not hasattr(ml_dtypes, dtype):
        pytest.skip(f"this ml_dtypes has no {dtype}")
    one = -1 if dtype == "int1" else 1
    array = np.array([[0, one, one], [one, 0, one]], "i1").astype(getattr(ml_dtypes, dtype))
    for given in (array, np.asfortranarray(array), np.repeat(array, 2, axis=1)[:, ::2], array[::-1], array[:, :0], array[0, 0]):
        given = np.asarray(given)
        tensor = client.get_tensor(client.put_tensor(given))
        assert (tensor.dtype, tensor.shape) == (dtype, given.shape)
        assert tensor.nbytes == DTYPES[dtype].nbytes(given.size)
        for read in (tensor.numpy(), np.asarray(tensor), np.asarray(tensor, dtype=given.dtype)):
            assert (read.dtype, read.tobytes()) == (given.dtype, given.tobytes())


@pytest.mark.parametrize(("dtype", "least", "most"), [("int4", -8, 7), ("uint4", 0, 15), ("int2", -2, 1), ("uint2", 0, 3)])
def test_all_values_of_small_integers(client: PlasmaClient, dtype: str, least: int, most: int) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    values = list(range(least, most + 1)) * 3
    array = np.array(values[:-1], "i1").astype(getattr(ml_dtypes, dtype))
    assert client.get_tensor(client.put_tensor(array)).numpy().astype("i1").tolist() == values[:-1]


def test_the_first_element_is_in_the_low_bits(client: PlasmaClient) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    nibbles = np.array([1, 2, 3], "u1").astype(ml_dtypes.uint4)
    assert bytes(client.get_tensor(client.put_tensor(nibbles)).data) == b"\x21\x03"
    sixths = np.array([0x3F, 0, 0x21, 0x1E], "u1").view(ml_dtypes.float6_e2m3fn)
    assert bytes(client.get_tensor(client.put_tensor(sixths)).data) == (0x3F | 0x21 << 12 | 0x1E << 18).to_bytes(3, "little")


@pytest.mark.parametrize("dtype", ["float4_e2m1fn", "float6_e3m2fn", "uint1"])
def test_rows_of_shared_bytes_begin_with_a_byte(client: PlasmaClient, object_id: ObjectID, dtype: str) -> None:
    tensor = filled(client, object_id, (4, 8), dtype)
    assert tensor.strides == (0, 0)
    rows = tensor[1:3]
    assert bytes(rows.data) == bytes(tensor.data)[rows.nbytes // 2 :][: rows.nbytes]
    again = client.get_tensor(client.put_tensor(rows))
    assert bytes(again.data) == bytes(rows.data)
    np.testing.assert_array_equal(tensor[2].bits(), tensor[2:3].bits())
    for key in (np.s_[:, 1:], np.s_[0, 1], np.s_[::2], np.s_[:, :4], np.s_[::-1]):
        with pytest.raises(TypeError, match=f"{dtype} share bytes"):
            tensor[key]
    with pytest.raises(TypeError, match="share bytes"):
        tensor.T  # noqa: B018


def test_what_numpy_and_ml_dtypes_do_not_have_is_named(
    client: PlasmaClient, object_id: ObjectID, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensor = filled(client, object_id, (3,), "float4_e2m1fn_x2")
    for call in (tensor.numpy, lambda: np.asarray(tensor)):
        with pytest.raises(TypeError, match="float4_e2m1fn_x2.*bits"):
            call()
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "ml_dtypes":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.delitem(sys.modules, "ml_dtypes", raising=False)
    other = filled(client, ObjectID.from_random(), (3,), "bfloat16")
    with pytest.raises(TypeError, match="bfloat16.*bits"):
        other.numpy()
    assert other.bits().dtype == "uint16"


def test_arrays_are_converted_as_numpy_asks(client: PlasmaClient, object_id: ObjectID) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    array = np.array([0.5, 1, -2], ml_dtypes.bfloat16)
    tensor = client.get_tensor(client.put_tensor(array))
    assert tensor.__array__("float32").tolist() == [0.5, 1, -2]
    assert np.shares_memory(tensor.__array__(), tensor.bits())
    assert not np.shares_memory(tensor.__array__(copy=True), tensor.bits())
    with pytest.raises(ValueError, match="without a copy"):
        tensor.__array__("float32", copy=False)
    assert not hasattr(tensor, "__array_interface__")
    packed = filled(client, object_id, (4,), "uint4")
    with pytest.raises(ValueError, match="without a copy"):
        packed.__array__(copy=False)


def test_a_trailer_of_the_user_is_the_users(client: PlasmaClient, object_id: ObjectID) -> None:
    """Who writes one through our client has it as metadata, and it says nothing."""
    tensor = filled(client, object_id, (4,), "bool")
    [buffer] = client.get_buffers([object_id])
    assert buffer is not None
    entries = struct.pack("<HIBBH", 1, 4, 6, 8, 1) + struct.pack("<HIq", 2, 8, 4)
    own, other = entries + struct.pack("<I", len(entries)) + b"PLSMETA1", ObjectID.from_random()
    client.create_and_seal(other, bytes(memoryview(buffer).cast("B")), own)
    read = client.get_tensor(other)
    assert (read.dtype, read.shape, bytes(read.data)) == ("uint8", (4,), bytes(tensor.data))


def test_unknown_names_are_refused_with_those_that_are_known(client: PlasmaClient, object_id: ObjectID) -> None:
    with pytest.raises(plasma_store.PlasmaUnsupported, match="float3.*bfloat16.*float8_e4m3fn"):
        client.create_tensor(object_id, (2,), "float3")
