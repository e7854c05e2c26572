"""Bundles are safetensors files: another reader reads ours, we read theirs, and whatever is damaged is refused."""

from __future__ import annotations

import json
import struct
from typing import Any, Dict

import pytest

import plasma_store
from plasma_store import ObjectID, PlasmaClient

np = pytest.importorskip("numpy")
ml_dtypes = pytest.importorskip("ml_dtypes")
safetensors = pytest.importorskip("safetensors")
from safetensors.numpy import load, save  # noqa: E402

# What numpy has and safetensors, too.
DTYPES = "bool uint8 int8 int16 uint16 int32 uint32 int64 uint64 float16 float32 float64 complex64".split()


def model() -> Dict[str, Any]:
    """Tensors that leave gaps, and one of each kind of shape."""
    tensors = {dtype: np.arange(5).astype(dtype) for dtype in DTYPES}
    return {**tensors, "0-d": np.array(7, dtype="float32"), "empty": np.empty((0, 3)), "ü/1": np.arange(24).reshape(2, 3, 4)}


def file_of(header: Any, data: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def bytes_of(client: PlasmaClient, object_id: ObjectID) -> bytes:
    [buffer] = client.get_buffers([object_id])
    return bytes(memoryview(buffer))  # type: ignore[arg-type]


def test_many_tensors_come_back_without_a_copy(client: PlasmaClient) -> None:
    given = model()
    bundle = client.get_tensors(client.put_tensors(given, metadata={"step": "5", "who": "ü\n"}))
    # Those without elements lie where others do.
    assert sorted(bundle) == sorted(given)
    assert bundle.metadata == {"step": "5", "who": "ü\n"}
    for name, array in given.items():
        tensor = bundle[name]
        got = tensor.numpy()
        assert (got.dtype, got.shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(got, array)
        assert got.ctypes.data % 64 == 0 or not got.size
        assert not got.flags.writeable
    assert np.from_dlpack(bundle["float32"]).ctypes.data == bundle["float32"].numpy().ctypes.data
    assert bundle["ü/1"][1, :, ::2].numpy().tolist() == given["ü/1"][1, :, ::2].tolist()


def test_another_reader_reads_ours(client: PlasmaClient) -> None:
    given = model()
    read = load(bytes_of(client, client.put_tensors(given)))
    gaps = [name for name in read if name.startswith("__pad.")]
    assert gaps
    assert sorted(given) == sorted(set(read) - set(gaps))
    for name, array in given.items():
        np.testing.assert_array_equal(read[name], array)
        assert (read[name].dtype, read[name].shape) == (array.dtype, array.shape)
    assert not any(read[name].any() for name in gaps)


def test_we_read_theirs(client: PlasmaClient) -> None:
    given = model()
    bundle = client.get_tensors(client.put_raw_buffer(save(given, metadata={"format": "np"})))
    assert bundle.metadata == {"format": "np"}
    assert sorted(bundle) == sorted(given)
    for name, array in given.items():
        np.testing.assert_array_equal(bundle[name].numpy(), array)


def test_the_tensors_outlive_everything_else(store: plasma_store.Store) -> None:
    with plasma_store.connect(store.socket_path) as client:
        object_id = client.put_tensors({"x": np.arange(1000), "y": np.ones(3)})
        array = client.get_tensors(object_id)["x"].numpy()
        client.delete([object_id])
        assert client.list()[object_id]["ref_count"] == 1
    assert array.sum() == 499500


def test_layouts_become_row_major(client: PlasmaClient) -> None:
    base = np.arange(24.0).reshape(4, 6)
    given = {"column": np.asfortranarray(base), "gaps": base[::2, ::-3], "none": np.broadcast_to(base[0], (3, 6))}
    bundle = client.get_tensors(client.put_tensors(given))
    for name, array in given.items():
        np.testing.assert_array_equal(bundle[name].numpy(), array)
        assert bundle[name].numpy().flags.c_contiguous


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu", "float4_e2m1fn", "float6_e2m3fn"])
def test_types_that_numpy_does_not_have(client: PlasmaClient, dtype: str) -> None:
    array = np.ones((2, 4), dtype=getattr(ml_dtypes, dtype))
    bundle = client.get_tensors(client.put_tensors({"x": array}))
    assert bundle["x"].dtype == dtype
    assert bundle["x"].numpy().tolist() == array.tolist()


def test_what_safetensors_cannot_express_is_refused_by_name(client: PlasmaClient) -> None:
    refused = plasma_store.PlasmaUnsupported
    with pytest.raises(refused, match=r'"w".*complex128'):
        client.put_tensors({"v": np.ones(1), "w": np.ones(1, dtype="complex128")})
    with pytest.raises(refused, match=r"'o'.*dtype"):
        client.put_tensors({"o": np.array([None])})
    with pytest.raises(refused, match="3 elements of float4_e2m1fn"):
        client.put_tensors({"x": np.ones(3, dtype=ml_dtypes.float4_e2m1fn)})
    for name in ("__pad.0", "__metadata__", "a\0b"):
        with pytest.raises(plasma_store.PlasmaInvalidArgument):
            client.put_tensors({name: np.ones(1)})
    assert client.list() == {}


def test_an_odd_file_is_read_and_who_copies_is_as_documented(client: PlasmaClient) -> None:
    """Its elements begin at an odd address: numpy reads them there, DLPack gives a copy."""
    header = {"t": {"dtype": "F64", "shape": [3], "data_offsets": [0, 24]}}
    text = json.dumps(header).encode()
    text += b" " * ((1 - len(text)) % 8)
    wanted = np.arange(3.0)
    object_id = client.put_raw_buffer(file_of(text, wanted.tobytes()))
    tensor = client.get_tensors(object_id)["t"]
    array = tensor.numpy()
    assert array.ctypes.data % 8 == 1
    assert array.tolist() == wanted.tolist()
    copied = np.from_dlpack(tensor)
    assert copied.ctypes.data % 64 == 0
    assert copied.tolist() == wanted.tolist()


@pytest.mark.parametrize(
    ("damaged", "wrong"),
    [
        (b"", "0"),
        (struct.pack("<Q", 1 << 40), "1099511627776"),
        (file_of(b"{", b""), "1 bytes"),
        (file_of({"t": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}, b"1234"), "8 bytes"),
        (file_of({"t": {"dtype": "F32", "shape": [2], "data_offsets": [4, 8]}}, b"12345678"), "4 to 8"),
        (file_of({"t": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}, b"12345678"), "96 bits"),
        (file_of({"t": {"dtype": "what", "shape": [3], "data_offsets": [0, 8]}}, b"12345678"), "what"),
    ],
)
def test_damaged_bundles_are_refused_with_the_number(client: PlasmaClient, damaged: bytes, wrong: str) -> None:
    object_id = client.put_raw_buffer(damaged)
    with pytest.raises(plasma_store.PlasmaCorrupt, match=wrong):
        client.get_tensors(object_id)


def test_a_tensor_is_no_bundle(client: PlasmaClient) -> None:
    with pytest.raises(plasma_store.PlasmaCorrupt):
        client.get_tensors(client.put_tensor(np.arange(100)))


def test_private_tensors_of_a_bundle_can_be_written(client: PlasmaClient) -> None:
    object_id = client.put_tensors({"x": np.zeros(4)})
    mine = client.get_tensors(object_id, private=True)["x"].numpy()
    mine[:] = 1
    assert client.get_tensors(object_id)["x"].numpy().tolist() == [0, 0, 0, 0]
