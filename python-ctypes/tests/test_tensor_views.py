"""Views of tensors: rows without the rest, transposes, strides; as numpy would have them, in every way out."""

from __future__ import annotations

from typing import Any, List

import pytest

from plasma_store import ObjectID, PlasmaClient, Tensor
from plasma_store.dlpack import Source

np = pytest.importorskip("numpy")

KEYS: List[Any] = [
    np.s_[1],
    np.s_[-1],
    np.s_[1:3],
    np.s_[:0],
    np.s_[5:],
    np.s_[::2],
    np.s_[::-1],
    np.s_[3:0:-2],
    np.s_[...],
    np.s_[..., 1],
    np.s_[1, 2, 0],
    np.s_[:, 1:, ::-1],
    np.s_[2, ..., None],
    np.s_[None, :, 1],
    np.s_[0, :, None, 1:1],
]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["float32", "complex128", "bool"])
@pytest.mark.parametrize("key", KEYS, ids=str)
def test_indices_and_slices_are_those_of_numpy(client: PlasmaClient, key: Any, dtype: str, order: str) -> None:
    array = np.asarray(np.arange(24).reshape(4, 3, 2).astype(dtype), order=order)
    tensor = client.get_tensor(client.put_tensor(array))
    view, expected = tensor[key], array[key]
    assert (view.shape, view.nbytes, view.dtype, view.readonly) == (expected.shape, expected.nbytes, dtype, True)
    assert [part.stride for part in view._parts()] == [stride // array.itemsize for stride in view.strides]
    ways: List[Any] = [np.asarray(view), view.numpy(), np.from_dlpack(view)]
    for read in ways:
        np.testing.assert_array_equal(read, expected)
        assert not read.flags.writeable
        if read.size:
            assert np.shares_memory(read, tensor.numpy())
            assert read.strides == view.strides or 1 in read.shape
    np.testing.assert_array_equal(np.from_dlpack(_Copy(view)), expected)
    again = client.get_tensor(client.put_tensor(view))
    np.testing.assert_array_equal(again.numpy(), expected)


class _Copy:
    """A copy of a tensor."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    def __dlpack__(self, **arguments: Any) -> Any:
        return self.tensor.__dlpack__(copy=True)

    def __dlpack_device__(self) -> Any:
        return self.tensor.__dlpack_device__()


def test_views_of_views(client: PlasmaClient) -> None:
    array = np.arange(120).reshape(4, 5, 6)
    tensor = client.get_tensor(client.put_tensor(array))
    view, expected = tensor[1:][:, ::-2].T[::-1, 1], array[1:][:, ::-2].T[::-1, 1]
    np.testing.assert_array_equal(view.numpy(), expected)
    np.testing.assert_array_equal(np.from_dlpack(view), expected)
    assert view.strides == expected.strides


@pytest.mark.parametrize("axes", [(), (0, 1, 2), (2, 0, 1), (-1, 0, 1)])
def test_transposes_are_strided_views(client: PlasmaClient, axes: Any) -> None:
    array = np.arange(24).reshape(4, 3, 2)
    turned, expected = client.get_tensor(client.put_tensor(array)).transpose(*axes), array.transpose(*axes)
    assert (turned.shape, turned.strides) == (expected.shape, expected.strides)
    np.testing.assert_array_equal(np.from_dlpack(turned), expected)


def test_a_transpose_that_is_put_keeps_its_order(client: PlasmaClient) -> None:
    array = np.arange(24).reshape(4, 6)
    again = client.get_tensor(client.put_tensor(client.get_tensor(client.put_tensor(array)).T))
    assert again.strides == array.T.strides


@pytest.mark.parametrize(
    ("key", "error", "text"),
    [
        (4, IndexError, "index 4 .* size 4"),
        (-5, IndexError, "-5"),
        ((0, 0, 0, 0), IndexError, "3 dimensions"),
        ((..., ...), IndexError, "3 dimensions"),
        ("a", TypeError, "'a'"),
        (1.0, TypeError, "1.0"),
    ],
)
def test_wrong_indices_are_named(client: PlasmaClient, key: Any, error: Any, text: str) -> None:
    tensor = client.get_tensor(client.put_tensor(np.zeros((4, 3, 2))))
    with pytest.raises(error, match=text):
        tensor[key]


def test_wrong_axes_are_named(client: PlasmaClient) -> None:
    tensor = client.get_tensor(client.put_tensor(np.zeros((4, 3))))
    with pytest.raises(ValueError, match=r"\(0, 0\)"):
        tensor.transpose(0, 0)
    with pytest.raises(IndexError):
        tensor.transpose(0, 2)


def test_a_tensor_is_a_sequence_of_its_rows(client: PlasmaClient) -> None:
    tensor = client.get_tensor(client.put_tensor(np.arange(6).reshape(3, 2)))
    assert len(tensor) == 3
    assert [row.numpy().tolist() for row in tensor] == [[0, 1], [2, 3], [4, 5]]
    with pytest.raises(TypeError, match="no length"):
        len(tensor[0, 0])


def test_bytes_of_a_view_that_lie_together(client: PlasmaClient) -> None:
    array = np.arange(24, dtype="int16").reshape(4, 3, 2)
    tensor = client.get_tensor(client.put_tensor(array))
    assert bytes(tensor[1:3].data) == array[1:3].tobytes()
    assert bytes(tensor.T.data) == array.tobytes()
    assert bytes(tensor[2:2].data) == b""
    for view in (tensor[:, 1], tensor[::-1], tensor[::2]):
        with pytest.raises(BufferError, match="do not lie together"):
            view.data  # noqa: B018


def test_a_view_is_written_while_its_tensor_is(client: PlasmaClient, object_id: ObjectID) -> None:
    tensor = client.create_tensor(object_id, (3, 2), "int64")
    np.asarray(tensor)[:] = 0
    column = tensor[:, 1]
    np.asarray(column)[:] = [7, 8, 9]
    client.seal(object_id)
    assert column.readonly
    assert client.get_tensor(object_id).numpy().tolist() == [[0, 7], [0, 8], [0, 9]]


def test_a_view_keeps_its_object(client: PlasmaClient) -> None:
    object_id = client.put_tensor(np.arange(1000))
    view = client.get_tensor(object_id)[10:12]
    assert client.list()[object_id]["ref_count"] == 1
    client.delete([object_id])
    assert view.numpy().tolist() == [10, 11]


def test_a_source_takes_a_view_where_it_lies(client: PlasmaClient) -> None:
    tensor = client.get_tensor(client.put_tensor(np.arange(100)))
    source = Source(tensor[40:50:3])
    assert (source.tensor.data - tensor.numpy().ctypes.data, source.tensor.strides[0]) == (320, 3)
