"""Tensors of others: whatever has `__dlpack__` goes in, and what cannot is refused with the reason."""

from __future__ import annotations

from typing import Any, Tuple

import pytest

import plasma_store
from plasma_store import PlasmaClient

np = pytest.importorskip("numpy")


class OnDevice:
    """A tensor on a GPU, as its owner would lend it."""

    def __init__(self, array: Any, copies: bool = True, device: Tuple[int, int] = (2, 0)) -> None:
        self.array, self.copies, self.device = array, copies, device
        self.asked: Any = None

    def __dlpack_device__(self) -> Tuple[int, int]:
        return self.device

    def __dlpack__(self, **arguments: Any) -> Any:
        self.asked = arguments
        if not self.copies or arguments.get("dl_device") != (1, 0) or arguments.get("copy") is not True:
            raise BufferError("this would be memory of a GPU")
        return self.array.__dlpack__()


class WithCpu(OnDevice):
    """One that has another way to be copied."""

    def cpu(self) -> Any:
        return self.array


class BeforeDevices(WithCpu):
    """One from before DLPack 1.0."""

    def __dlpack__(self, **arguments: Any) -> Any:
        if arguments:
            raise TypeError(f"unexpected arguments {arguments}")
        raise BufferError("this would be memory of a GPU")


@pytest.mark.parametrize("device", [(2, 0), (2, 3), (8, 0), (10, 1), (14, 0)])
def test_a_device_is_named_and_nothing_is_exported(client: PlasmaClient, device: Tuple[int, int]) -> None:
    given = OnDevice(np.arange(3), device=device)
    for copy in (None, False):
        with pytest.raises(plasma_store.PlasmaUnsupported, match=rf"device \({device[0]}, {device[1]}\); copy=True"):
            client.put_tensor(given, copy=copy)
    assert given.asked is None
    assert client.list() == {}


@pytest.mark.parametrize("kind", [OnDevice, WithCpu, BeforeDevices])
def test_its_owner_copies_it_to_the_host_when_asked(client: PlasmaClient, kind: Any) -> None:
    tensor = client.get_tensor(client.put_tensor(kind(np.arange(3)), copy=True))
    assert tensor.numpy().tolist() == [0, 1, 2]


def test_one_whose_owner_does_not_copy_it(client: PlasmaClient) -> None:
    with pytest.raises(plasma_store.PlasmaUnsupported, match=r"device \(2, 0\).*memory of a GPU"):
        client.put_tensor(OnDevice(np.arange(3), copies=False), copy=True)
    tensor = client.get_tensor(client.put_tensor(WithCpu(np.arange(3), copies=False), copy=True))
    assert tensor.numpy().tolist() == [0, 1, 2]


def test_on_the_host_a_copy_may_be_asked_for_too(client: PlasmaClient) -> None:
    assert client.get_tensor(client.put_tensor(np.arange(3), copy=True)).numpy().tolist() == [0, 1, 2]


def test_arrays_of_pyarrow(client: PlasmaClient) -> None:
    pa = pytest.importorskip("pyarrow")
    for array in (pa.array([1, 2, 3]), pa.array([1.5, 2.5]), pa.array([], "int8"), pa.array([1, 2, 3], "uint16")[1:]):
        read = client.get_tensor(client.put_tensor(array)).numpy()
        np.testing.assert_array_equal(read, array.to_numpy())
        assert read.dtype == array.to_numpy().dtype


def test_nulls_are_counted(client: PlasmaClient) -> None:
    pa = pytest.importorskip("pyarrow")
    with pytest.raises(ValueError, match="2 nulls"):
        client.put_tensor(pa.array([1, None, None]))
    with pytest.raises(ValueError, match="1 null,"):
        client.put_tensor(pa.array([None, True]))
    assert client.list() == {}


def test_what_pyarrow_does_not_lend(client: PlasmaClient) -> None:
    pa = pytest.importorskip("pyarrow")
    for array in (pa.array([True]), pa.array(["a"])):
        with pytest.raises((TypeError, ValueError, BufferError)):
            client.put_tensor(array)


@pytest.mark.parametrize("dtype", ["bool", "complex64", "bfloat16", "float8_e4m3fn", "float8_e8m0fnu", "float4_e2m1fn", "int4"])
def test_arrays_of_jax(client: PlasmaClient, dtype: str) -> None:
    jax = pytest.importorskip("jax")
    ml_dtypes = pytest.importorskip("ml_dtypes")
    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    values = np.array([[1, 2, 3], [4, 2, 1], [2, 1, 4]], "u1").astype(kind)
    try:
        array = jax.numpy.asarray(values)
    except TypeError as error:
        pytest.skip(f"JAX {jax.__version__} has no {dtype}: {error}")
    tensor = client.get_tensor(client.put_tensor(array))
    assert (tensor.dtype, tensor.shape) == (dtype, (3, 3))
    assert tensor.numpy().tobytes() == values.tobytes()
    if tensor.itemsize:
        try:
            read = jax.dlpack.from_dlpack(tensor)
        except RuntimeError as error:
            if "DLPack type code" not in str(error):
                raise
            pytest.skip(f"JAX {jax.__version__} reads no {dtype}: {error}")
        assert read.dtype == kind
        assert np.asarray(read).tobytes() == values.tobytes()
        assert read.unsafe_buffer_pointer() == tensor._address


def test_jax_asks_for_a_legacy_capsule_and_gets_it(client: PlasmaClient) -> None:
    jax = pytest.importorskip("jax")
    tensor = client.get_tensor(client.put_tensor(np.arange(6, dtype="float32").reshape(2, 3)))
    for view in (tensor, tensor[1:]):
        read = jax.dlpack.from_dlpack(view)
        np.testing.assert_array_equal(np.asarray(read), view.numpy())
    if not _reads_transposed(jax):
        pytest.skip(f"JAX {jax.__version__} reads transposed arrays of numpy wrong, too")
    np.testing.assert_array_equal(np.asarray(jax.dlpack.from_dlpack(tensor.T)), tensor.T.numpy())


def _reads_transposed(jax: Any) -> bool:
    """Whether it takes an array by columns for one: JAX 0.6.2 takes it for one by rows, if it begins at a multiple of 64 bytes."""
    memory = np.arange(32, dtype="float32")
    begin = -memory.ctypes.data % 64 // 4
    array = memory[begin : begin + 6].reshape(2, 3).T
    return bool((np.asarray(jax.dlpack.from_dlpack(array)) == array).all())


@pytest.mark.torch
def test_types_of_torch(client: PlasmaClient) -> None:
    torch = pytest.importorskip("torch")
    names = ["bool", "complex32", "complex64", "bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu", "float4_e2m1fn_x2"]
    for name in names:
        raw = torch.tensor([0, 1] * 8, dtype=torch.uint8)
        value = raw.view(getattr(torch, name))
        tensor = client.get_tensor(client.put_tensor(value))
        assert tensor.dtype == name
        read = torch.from_dlpack(tensor)
        assert read.dtype == value.dtype
        assert torch.equal(read.view(torch.uint8), raw)
        assert read.data_ptr() == tensor._address
        written = client.create_tensor(plasma_store.ObjectID.from_random(), (2,), getattr(torch, name))
        assert written.dtype == name


@pytest.mark.torch
def test_torch_gets_a_copy_that_it_may_write(client: PlasmaClient) -> None:
    torch = pytest.importorskip("torch")
    tensor = client.get_tensor(client.put_tensor(np.arange(4)))
    copied = torch.from_dlpack(tensor, copy=True)
    copied[0] = 7
    assert tensor.numpy().tolist() == [0, 1, 2, 3]
    assert torch.from_dlpack(tensor[1:3]).tolist() == [1, 2]
    assert torch.from_dlpack(tensor[None].T).shape == (4, 1)
