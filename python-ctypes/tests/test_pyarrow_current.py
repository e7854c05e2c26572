"""Tensor objects are Arrow IPC tensor messages: those of ours are read by current pyarrow, and the reverse."""

from __future__ import annotations

from typing import Any

import pytest

from plasma_store import ObjectID, PlasmaClient
from plasma_store.dtypes import DTYPES

np = pytest.importorskip("numpy")
pa = pytest.importorskip("pyarrow")


ARROW_HAS = [name for name in DTYPES if name.rstrip("0123456789") in ("int", "uint", "float") and DTYPES[name].typestr]


def arrays() -> Any:
    for dtype in ARROW_HAS:
        yield np.arange(24).astype(dtype).reshape(2, 3, 4)
    yield np.arange(24, dtype="float32").reshape((4, 6), order="F")
    yield np.arange(24, dtype="float32").reshape(4, 6)[::2, ::3]
    yield np.array(7.5)
    yield np.empty((0, 3), dtype="int16")


ARRAYS = pytest.mark.parametrize("array", list(arrays()), ids=lambda array: f"{array.dtype}-{array.shape}-{array.strides}")


def in_pyarrow(array: Any) -> Any:
    return pa.Tensor.from_numpy(array)


@ARRAYS
def test_pyarrow_reads_ours(client: PlasmaClient, array: Any) -> None:
    object_id = client.put_tensor(array)
    [buffer] = client.get_buffers([object_id])
    read = pa.ipc.read_tensor(pa.BufferReader(buffer)).to_numpy()
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)
    if array.size:
        assert read.ctypes.data == np.asarray(client.get_tensor(object_id)).ctypes.data


@ARRAYS
def test_ours_reads_pyarrow(client: PlasmaClient, object_id: ObjectID, array: Any) -> None:
    tensor = in_pyarrow(array)
    buffer = client.create(object_id, pa.ipc.get_tensor_size(tensor))
    pa.ipc.write_tensor(tensor, pa.FixedSizeBufferWriter(buffer))
    client.seal(object_id)
    read = np.asarray(client.get_tensor(object_id))
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)


@ARRAYS
def test_both_write_the_same_number_of_bytes(client: PlasmaClient, array: Any) -> None:
    if array.ndim == 0:
        return  # Its strides are an empty vector as old Arrow wrote it; current Arrow leaves it out.
    [buffer] = client.get_buffers([client.put_tensor(array)])
    assert buffer is not None
    assert len(buffer) == pa.ipc.get_tensor_size(in_pyarrow(array))


def test_there_are_as_many_types_as_arrow_tensors_have() -> None:
    assert len(ARROW_HAS) == 11


@pytest.mark.parametrize("dtype", sorted(set(DTYPES) - set(ARROW_HAS)))
def test_pyarrow_opens_the_carriers_of_other_types(client: PlasmaClient, object_id: ObjectID, dtype: str) -> None:
    tensor = client.create_tensor(object_id, (3, 4), dtype)
    tensor.data[:] = bytes(range(tensor.nbytes))
    client.seal(object_id)
    [buffer] = client.get_buffers([object_id])
    carrier = pa.ipc.read_tensor(pa.BufferReader(buffer))
    assert carrier.to_numpy().tobytes() == bytes(range(tensor.nbytes))
    parts = (2,) if "complex" in dtype else ()
    assert carrier.shape == ((tensor.nbytes,) if DTYPES[dtype].packed else (3, 4, *parts))


def test_names_of_dimensions_are_kept_in_both_directions(client: PlasmaClient, object_id: ObjectID) -> None:
    named = pa.Tensor.from_numpy(np.arange(6.0).reshape(2, 3), dim_names=["row", "größe"])
    ours = client.get_tensor(client.put_tensor(named))
    assert (ours.dim_names, ours.numpy().tolist()) == (("row", "größe"), [[0, 1, 2], [3, 4, 5]])
    assert ours.arrow().dim_names == named.dim_names
    assert ours.arrow().equals(named)
    assert ours.arrow().to_numpy().ctypes.data == ours.numpy().ctypes.data
    [buffer] = client.get_buffers([client.put_tensor(ours)])
    assert pa.ipc.read_tensor(pa.BufferReader(buffer)).dim_names == named.dim_names
    plain = client.get_tensor(client.put_tensor(np.arange(3)))
    assert plain.dim_names == ("",)
    assert plain.arrow().equals(pa.Tensor.from_numpy(np.arange(3)))


def test_names_may_be_given(client: PlasmaClient, object_id: ObjectID) -> None:
    tensor = client.create_tensor(object_id, (2, 3, 4), "complex64", dim_names=["a", None, "c"])
    assert tensor.dim_names == ("a", "", "c")
    assert tensor.transpose(2, 0, 1)[..., None, 0].dim_names == ("c", "a", "")
    with pytest.raises(ValueError, match="2, and the tensor has 1"):
        client.put_tensor(np.arange(3), dim_names=["a", "b"])
    with pytest.raises(TypeError, match="int4"):
        client.create_tensor(ObjectID.from_random(), (2,), "int4", dim_names=["a"])
    with pytest.raises(ValueError, match="NUL at 1"):
        client.put_tensor(np.arange(3), dim_names=["a\0"])


def sparse_tensors() -> Any:
    dense = np.array([[0, 1.5, 0], [2.5, 0, 0]])
    for kind in (pa.SparseCOOTensor, pa.SparseCSRMatrix, pa.SparseCSCMatrix, pa.SparseCSFTensor):
        yield kind.from_dense_numpy(dense, dim_names=["x", "y"])
    yield pa.SparseCSFTensor.from_dense_numpy(np.eye(8).reshape(4, 2, 8))


@pytest.mark.parametrize("sparse", list(sparse_tensors()), ids=lambda sparse: f"{type(sparse).__name__}-{sparse.ndim}")
def test_sparse_tensors_are_values(client: PlasmaClient, sparse: Any) -> None:
    [read, more] = client.get(client.put([sparse, "and more"]))
    assert type(read) is type(sparse)
    assert read.equals(sparse)
    assert (read.shape, read.dim_names, more) == (sparse.shape, sparse.dim_names, "and more")
    assert not read.to_numpy()[0].flags.writeable


def test_dense_tensors_are_values_too(client: PlasmaClient) -> None:
    named = pa.Tensor.from_numpy(np.arange(6.0).reshape(2, 3), dim_names=["row", "column"])
    read = client.get(client.put(named))
    assert read.equals(named)
    assert read.dim_names == named.dim_names


def test_record_batches(client: PlasmaClient, object_id: ObjectID) -> None:
    batch = pa.RecordBatch.from_pydict({"a": [1, 2, 3], "b": ["x", None, "z"]})
    sink = pa.MockOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    with pa.ipc.new_stream(pa.FixedSizeBufferWriter(client.create(object_id, sink.size())), batch.schema) as writer:
        writer.write_batch(batch)
    client.seal(object_id)
    [buffer] = client.get_buffers([object_id])
    assert pa.ipc.open_stream(buffer).read_next_batch().equals(batch)
