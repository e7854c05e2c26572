"""Tensors: what goes in comes out, where it lies, and who may write it."""

from __future__ import annotations

import gc
import math
import sys
import tracemalloc
from typing import Any, List, Tuple

import pytest

import plasma_store
from conftest import put
from plasma_store import ObjectID, PlasmaClient, Store
from plasma_store.dlpack import Source, _exports
from plasma_store.dtypes import DTYPES

np = pytest.importorskip("numpy")
NUMPY = tuple(int(part) for part in np.__version__.split(".")[:2])


def address(array: Any) -> int:
    """Where an array's first element lies."""
    start: int = array.__array_interface__["data"][0]
    return start


def layouts() -> List[Any]:
    """Arrays of every kind of layout."""
    cube = np.arange(24, dtype="float32").reshape(2, 3, 4)
    return [
        cube,
        np.asfortranarray(cube),
        cube[:, ::2, ::-1],
        cube.transpose(1, 0, 2),
        np.broadcast_to(np.arange(3, dtype="int16"), (4, 3)),
        np.array(7.5),
        np.empty((0, 3), dtype="uint8"),
        np.ones((1,) * 32, dtype="int8"),
    ]


@pytest.mark.parametrize("dtype", [name for name, dtype in DTYPES.items() if dtype.typestr])
def test_every_dtype_of_numpy(client: PlasmaClient, dtype: str) -> None:
    array = np.arange(-3, 9).astype(dtype).reshape(3, 4)
    tensor = client.get_tensor(client.put_tensor(array))
    assert (tensor.dtype, tensor.itemsize, tensor.nbytes) == (dtype, array.itemsize, array.nbytes)
    for read in (np.asarray(tensor), np.from_dlpack(tensor), tensor.numpy()):
        assert read.dtype == array.dtype
        np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize("threads", [0, 3])
def test_large_arrays_are_copied_once_by_as_many_threads_as_are_wished(any_store: Store, threads: int) -> None:
    size = (17 << 20) + 3
    wide = np.arange(2 * size, dtype="uint32").astype("uint8")
    contiguous, rows = wide[:size], wide[: 340 * 100_003].reshape(340, 100_003)[:, 7:60_000]
    with plasma_store.connect(any_store.socket_path, copy_threads=threads) as client:
        tracemalloc.start()
        ids = [client.put_tensor(contiguous), client.put_tensor(rows)]
        bytes_id = client.put_raw_buffer(contiguous)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1 << 20, "numpy tells of its memory"
        for object_id, array in zip(ids, (contiguous, rows)):
            np.testing.assert_array_equal(client.get_tensor(object_id).numpy(), array)
        np.testing.assert_array_equal(np.frombuffer(client.get_buffers([bytes_id])[0], dtype="uint8"), contiguous)
        client.delete([*ids, bytes_id])


@pytest.mark.parametrize("threads", [0, 3])
def test_a_large_array_in_a_value_is_copied_once(any_store: Store, threads: int) -> None:
    array = np.arange(17 << 20, dtype="uint32").astype("uint8")
    with plasma_store.connect(any_store.socket_path, copy_threads=threads) as client:
        tracemalloc.start()
        object_id = client.put([array, "and more"])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1 << 20, "numpy tells of its memory"
        got, more = client.get(object_id)
        np.testing.assert_array_equal(got, array)
        assert more == "and more"
        del got
        client.delete([object_id])


@pytest.mark.parametrize("array", layouts(), ids=lambda array: f"{array.shape}-{array.strides}")
def test_every_layout(client: PlasmaClient, array: Any) -> None:
    tensor = client.get_tensor(client.put_tensor(array))
    assert tensor.shape == array.shape
    np.testing.assert_array_equal(np.asarray(tensor), array)
    np.testing.assert_array_equal(np.from_dlpack(tensor), array)
    if array.flags.f_contiguous and not array.flags.c_contiguous:
        assert tensor.strides == array.strides, "column-major stays column-major"
    elif array.size:
        assert tensor.strides == array.copy(order="C").strides


def test_nothing_is_copied(client: PlasmaClient) -> None:
    object_id = client.put_tensor(np.arange(1000.0))
    tensor = client.get_tensor(object_id)
    start = address(tensor)
    assert start % 64 == 0
    assert np.asarray(tensor).ctypes.data == start
    assert np.from_dlpack(tensor).ctypes.data == start
    assert address(np.frombuffer(tensor.data, np.uint8)) == start
    [message] = client.get_buffers([object_id])
    assert message is not None
    lies_at = address(np.frombuffer(memoryview(message).cast("B"), np.uint8))
    assert lies_at <= start < lies_at + len(message), "the tensor lies inside the object's own bytes"


def test_a_got_tensor_cannot_be_written(client: PlasmaClient) -> None:
    tensor = client.get_tensor(client.put_tensor(np.arange(3)))
    assert tensor.readonly
    assert "state='sealed'" in repr(tensor)
    for array in (np.asarray(tensor), np.from_dlpack(tensor)):
        assert not array.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    with pytest.raises(TypeError, match="read-only"):
        tensor.data[0] = 1


def test_a_private_tensor_is_written_in_this_process_alone(client: PlasmaClient) -> None:
    object_id = client.put_tensor(np.arange(5000))
    mine = client.get_tensor(object_id, private=True)
    assert not mine.readonly
    np.asarray(mine)[7:9] = -1, -2
    assert np.asarray(mine)[6:10].tolist() == [6, -1, -2, 9]
    others = client.get_tensor(object_id)
    assert np.asarray(others)[6:10].tolist() == [6, 7, 8, 9]
    again = client.get_tensor(object_id, private=True)
    assert np.asarray(again)[7] == 7


@pytest.mark.parametrize("dtype", ["float32", np.float32, np.dtype("float32")], ids=str)
def test_a_tensor_written_in_place(client: PlasmaClient, object_id: ObjectID, dtype: Any) -> None:
    tensor = client.create_tensor(object_id, (2, 3), dtype, metadata=b"meta")
    assert (tensor.shape, tensor.dtype, tensor.strides, tensor.readonly) == ((2, 3), "float32", (12, 4), False)
    np.asarray(tensor)[:] = [[1], [2]]
    tensor.data.cast("f")[0] = 9
    client.seal(object_id)
    assert tensor.readonly
    assert np.asarray(client.get_tensor(object_id)).tolist() == [[9, 1, 1], [2, 2, 2]]
    [metadata] = client.get_metadata([object_id])
    assert metadata is not None
    assert bytes(memoryview(metadata)) == b"meta"


@pytest.mark.parametrize(("shape", "size"), [((), 1), ((0,), 0), ((3, 0, 2), 0)])
def test_created_tensors_of_one_and_of_no_element(
    client: PlasmaClient, object_id: ObjectID, shape: Tuple[int, ...], size: int
) -> None:
    tensor = client.create_tensor(object_id, shape, "int64")
    assert math.prod(shape) == size
    assert (tensor.shape, tensor.nbytes) == (shape, 8 * size)
    client.seal(object_id)
    assert np.asarray(client.get_tensor(object_id)).shape == shape


def test_the_metadata_of_a_tensor_is_the_users(client: PlasmaClient) -> None:
    object_id = client.put_tensor(np.arange(3), metadata=b"mine")
    [(metadata, _)] = client.get_buffers([object_id], with_meta=True)
    assert metadata == b"mine"


def test_an_id_can_be_given(client: PlasmaClient, object_id: ObjectID) -> None:
    assert client.put_tensor(np.arange(3), object_id) == object_id
    with pytest.raises(plasma_store.PlasmaObjectExists, match=object_id.hex()):
        client.put_tensor(np.arange(3), object_id)


def test_one_that_is_not_there(client: PlasmaClient, object_id: ObjectID) -> None:
    with pytest.raises(plasma_store.PlasmaTimeout, match=f"{object_id.hex()} .* 10 ms") as late:
        client.get_tensor(object_id, timeout_ms=10)
    assert isinstance(late.value, TimeoutError)


def test_an_object_that_is_no_tensor(client: PlasmaClient) -> None:
    for data in (b"", b"12", bytes(1000), b"\xff" * 1000):
        with pytest.raises(plasma_store.PlasmaCorrupt):
            client.get_tensor(put(client, data))


@pytest.mark.parametrize(
    "array",
    [
        np.ones(3, dtype=np.longdouble),
        np.ones(3, dtype=np.clongdouble),
        np.zeros(3, dtype=[("a", "u1")]),
        np.array(["a"]),
        np.array(["2020"], "datetime64[s]"),
        np.ones(3, ">f4"),
    ],
    ids=lambda array: array.dtype.str,
)
def test_dtypes_that_cannot_be_stored(client: PlasmaClient, array: Any) -> None:
    with pytest.raises((TypeError, BufferError)):
        client.put_tensor(array)
    assert client.list() == {}


def test_wrong_arguments_are_named(client: PlasmaClient, object_id: ObjectID) -> None:
    with pytest.raises(TypeError, match="list has neither"):
        client.put_tensor([1, 2])
    with pytest.raises(TypeError, match="float128"):
        client.create_tensor(object_id, (1,), "float128")
    with pytest.raises(ValueError, match="-5"):
        client.create_tensor(object_id, (2, -5), "int8")
    with pytest.raises(ValueError, match=str(1 << 63)):
        client.create_tensor(object_id, (1 << 63,), "int8")
    with pytest.raises((ValueError, plasma_store.PlasmaStoreFull)):
        client.create_tensor(object_id, (1 << 40, 1 << 40), "int8")
    with pytest.raises(ValueError, match="33"):
        client.create_tensor(object_id, (1,) * 33, "int8")
    assert client.list() == {}


class Foreign:
    """An array of another library, with the answers a test wants."""

    def __init__(self, array: Any, **answers: Any) -> None:
        self.array = array
        self.answers = answers

    def __dlpack__(self, **arguments: Any) -> Any:
        if self.answers.get("old") and arguments:
            raise TypeError("unexpected argument")
        if "capsule" in self.answers:
            return self.answers["capsule"]
        return self.array.__dlpack__(**arguments)

    def __dlpack_device__(self) -> Tuple[int, int]:
        device: Tuple[int, int] = self.answers.get("device", (1, 0))
        return device


def test_read_only_arrays_can_be_put(client: PlasmaClient) -> None:
    array = np.arange(6.0).reshape(2, 3)[:, ::2]
    array.flags.writeable = False
    np.testing.assert_array_equal(np.asarray(client.get_tensor(client.put_tensor(array))), array)


class Refusing:
    """An array that lends itself by `__array_interface__` only, as a read-only one of numpy before 2.1 does."""

    def __init__(self, array: Any) -> None:
        self.__array_interface__ = array.__array_interface__
        self.array = array

    def __dlpack__(self, **arguments: Any) -> Any:
        raise BufferError("read-only")

    def __dlpack_device__(self) -> Tuple[int, int]:
        return (1, 0)


@pytest.mark.parametrize("array", layouts(), ids=lambda array: f"{array.shape}-{array.strides}")
def test_the_array_interface_serves_as_well(client: PlasmaClient, array: Any) -> None:
    tensor = client.get_tensor(client.put_tensor(Refusing(array)))
    np.testing.assert_array_equal(np.asarray(tensor), array)


def test_strides_that_are_no_whole_elements(client: PlasmaClient) -> None:
    records = np.zeros(4, dtype=[("a", "u1"), ("b", "<f4")])["b"]
    with pytest.raises(BufferError, match="5"):
        client.put_tensor(Refusing(records))


def test_both_kinds_of_capsules_are_read(client: PlasmaClient) -> None:
    array = np.arange(6).reshape(2, 3)
    for old in (False, True):
        object_id = client.put_tensor(Foreign(array, old=old))
        np.testing.assert_array_equal(np.asarray(client.get_tensor(object_id)), array)


def test_a_source_is_borrowed_and_given_back() -> None:
    array = np.arange(1000.0)
    before = sys.getrefcount(array)
    source = Source(array)
    assert sys.getrefcount(array) > before
    assert source.tensor.shape[0] == 1000
    del source
    assert sys.getrefcount(array) == before


def test_other_devices_and_consumed_capsules_are_refused(client: PlasmaClient) -> None:
    with pytest.raises(TypeError, match=r"device \(2, 1\); copy=True"):
        client.put_tensor(Foreign(np.arange(3), device=(2, 1)))
    consumed = np.arange(3).__dlpack__()
    np.from_dlpack(Foreign(None, capsule=consumed))
    with pytest.raises(ValueError, match="PyCapsule"):
        client.put_tensor(Foreign(None, capsule=consumed))


def test_our_tensors_can_be_put_again(client: PlasmaClient) -> None:
    first = client.get_tensor(client.put_tensor(np.arange(10)))
    second = client.get_tensor(client.put_tensor(first))
    np.testing.assert_array_equal(np.asarray(second), np.arange(10))


def test_what_a_consumer_may_ask_for(client: PlasmaClient) -> None:
    tensor = client.get_tensor(client.put_tensor(np.arange(4)))
    assert tensor.__dlpack_device__() == (1, 0)
    assert '"dltensor"' in repr(tensor.__dlpack__())
    assert '"dltensor"' in repr(tensor.__dlpack__(max_version=(0, 8)))
    assert '"dltensor_versioned"' in repr(tensor.__dlpack__(max_version=(1, 0), dl_device=(1, 0), copy=False))
    with pytest.raises(BufferError, match=r"\(2, 0\)"):
        tensor.__dlpack__(dl_device=(2, 0))
    with pytest.raises(ValueError, match="stream"):
        tensor.__dlpack__(stream=1)


def test_a_copy_is_a_copy(client: PlasmaClient) -> None:
    tensor = client.get_tensor(client.put_tensor(np.arange(4)))
    copied = np.from_dlpack(Foreign(None, capsule=tensor.__dlpack__(copy=True)))
    assert address(copied) != address(tensor)
    np.testing.assert_array_equal(copied, np.asarray(tensor))


@pytest.mark.skipif(NUMPY < (2, 1), reason="before 2.1, numpy takes everything from DLPack as read-only")
def test_what_can_be_written_can_be_written_through_dlpack(client: PlasmaClient, object_id: ObjectID) -> None:
    created = client.create_tensor(object_id, (3,), "int8")
    np.from_dlpack(created)[:] = 5
    client.seal(object_id)
    assert not np.from_dlpack(created).flags.writeable
    np.from_dlpack(client.get_tensor(object_id, private=True))[0] = 6
    assert np.asarray(client.get_tensor(object_id)).tolist() == [5, 5, 5]


def references(client: PlasmaClient, object_id: ObjectID) -> int:
    gc.collect()
    return client.list()[object_id]["ref_count"]


def test_a_capsule_that_nobody_consumes_lets_go(client: PlasmaClient) -> None:
    object_id = client.put_tensor(np.arange(4))
    tensor = client.get_tensor(object_id)
    capsules = [tensor.__dlpack__(), tensor.__dlpack__(max_version=(1, 0))]
    del tensor
    assert references(client, object_id) == 1
    read = np.from_dlpack(Foreign(None, capsule=capsules[0]))
    del capsules
    other = client.put_tensor(np.arange(1))
    client.get_tensor(other).__dlpack__()
    assert references(client, object_id) == 1, "the array that consumed the one capsule"
    del read
    assert references(client, object_id) == 0
    del other
    client.get_tensor(object_id)
    assert not _exports


def test_a_capsule_dropped_while_an_exception_passes(client: PlasmaClient) -> None:
    def consume(capsule: object) -> None:
        raise KeyError("the consumer failed")

    object_id = client.put_tensor(np.arange(4))
    for _ in range(10):
        with pytest.raises(KeyError, match="the consumer failed"):
            consume(client.get_tensor(object_id).__dlpack__())
    gc.collect()
    client.get_tensor(object_id)
    assert references(client, object_id) == 0


@pytest.mark.torch
def test_torch(client: PlasmaClient, object_id: ObjectID) -> None:
    torch = pytest.importorskip("torch")
    value = torch.arange(12, dtype=torch.float32).reshape(3, 4).t()
    tensor = client.get_tensor(client.put_tensor(value))
    read = torch.from_dlpack(tensor)
    assert torch.equal(read, value)
    assert read.data_ptr() == address(tensor)
    writable = client.create_tensor(object_id, (3,), torch.int64)
    torch.from_dlpack(writable).copy_(torch.tensor([1, 2, 3]))
    client.seal(object_id)
    assert np.asarray(client.get_tensor(object_id)).tolist() == [1, 2, 3]


def test_jax(client: PlasmaClient) -> None:
    jax = pytest.importorskip("jax")
    value = jax.numpy.arange(12, dtype="float32").reshape(3, 4)
    tensor = client.get_tensor(client.put_tensor(value))
    np.testing.assert_array_equal(np.asarray(jax.dlpack.from_dlpack(tensor)), np.asarray(value))


def test_pyarrow_arrays_can_be_put(client: PlasmaClient) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    array = pyarrow.array([1.5, 2.5])
    assert np.asarray(client.get_tensor(client.put_tensor(array))).tolist() == [1.5, 2.5]
