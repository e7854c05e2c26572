"""Tensor objects are Arrow IPC tensor messages: those of ours are read by current pyarrow, and the reverse."""

from __future__ import annotations

from typing import Any

import pytest

from plasma_store import ObjectID, PlasmaClient
from plasma_store.dlpack import DTYPES

np = pytest.importorskip("numpy")
pa = pytest.importorskip("pyarrow")


def arrays() -> Any:
    for dtype in sorted(DTYPES):
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
