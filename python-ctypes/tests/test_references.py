"""Pickles of clients and tensors: references, which another process gets again, by every way that Python starts one."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Callable, Dict, Tuple

import pytest

import plasma_store
from conftest import in_fork, put, until
from plasma_store import ObjectID, PlasmaClient, Store, Tensor, reference

np = pytest.importorskip("numpy")

METHODS = pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
SHAPE = (3, 4)


def summed(tensor: Tensor) -> Tuple[int, float, bool]:
    """What a worker sees of a tensor."""
    array = tensor.numpy()
    return os.getpid(), float(array.sum()), array.flags.writeable


def doubled(client: PlasmaClient, object_id: ObjectID) -> ObjectID:
    """What a worker does with a client; it ends it, as whoever got it does."""
    with client:
        return client.put_tensor(client.get_tensor(object_id).numpy() * 2)


def pinned(client: PlasmaClient) -> Tensor:
    """A tensor of a worker, which nothing would hold on its way if it were not pinned."""
    tensor = client.get_tensor(client.put_tensor(np.arange(5)))
    client.pin([tensor.object_id])
    return tensor


@pytest.fixture(params=["in-process", "daemon"])
def kept(request: pytest.FixtureRequest) -> Any:
    """A client, its store, and a tensor in it."""
    with plasma_store.start_store(16 << 20, process=request.param == "daemon") as store:
        with plasma_store.connect(store.socket_path) as client:
            with client.get_tensor(client.put_tensor(np.arange(12.0).reshape(SHAPE))) as tensor:
                yield client, tensor


def again(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


@METHODS
def test_workers_of_multiprocessing_get_tensors_and_clients(kept: Any, method: str) -> None:
    client, tensor = kept
    with multiprocessing.get_context(method).Pool(1) as pool:
        pid, total, writeable = pool.apply(summed, (tensor,))
        assert (pid != os.getpid(), total, writeable) == (True, 66.0, False)
        assert pool.apply(summed, (tensor[1:, ::2],))[1] == 28.0
        stored = pool.apply(doubled, (client, tensor.object_id))
        result = pool.apply(pinned, (client,))
    assert client.get_tensor(stored, 0).numpy().sum() == 132
    assert result.numpy().tolist() == [0, 1, 2, 3, 4]


@METHODS
def test_futures_get_tensors(kept: Any, method: str) -> None:
    _, tensor = kept
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
        assert pool.submit(summed, tensor.T).result()[1:] == (66.0, False)


@pytest.mark.parametrize("backend", ["loky", "multiprocessing", "threading"])
def test_joblib_gets_tensors(kept: Any, backend: str) -> None:
    joblib = pytest.importorskip("joblib")
    _, tensor = kept
    results = joblib.Parallel(n_jobs=2, backend=backend)(joblib.delayed(summed)(row) for row in tensor)
    assert [result[1] for result in results] == [6.0, 22.0, 38.0]


def test_a_process_that_is_forked_with_a_tensor_reads_and_pickles_it(kept: Any) -> None:
    client, tensor = kept

    def child() -> None:
        assert tensor.numpy().sum() == 66
        assert again(tensor).numpy().sum() == 66
        with pytest.raises(plasma_store.PlasmaForked):
            client.contains(tensor.object_id)
        with copy.copy(client) as mine:
            assert mine.contains(tensor.object_id)

    assert again(tensor).numpy().sum() == 66
    in_fork(child)
    assert again(tensor).numpy().sum() == 66


def test_nothing_is_copied_and_pickles_are_short(client: PlasmaClient) -> None:
    large = client.get_tensor(client.put_tensor(np.ones((1000, 1000))))
    assert len(pickle.dumps(large)) < 1000
    other = again(large)
    assert other.object_id == large.object_id
    assert client.list()[large.object_id]["ref_count"] == 2, "two connections hold one object"
    assert client.stats()["objects"] == 1
    del other
    assert client.list()[large.object_id]["ref_count"] == 1


def is_over(client: PlasmaClient) -> bool:
    """Whether its store has ended."""
    try:
        client.list()
    except plasma_store.PlasmaDisconnected:
        return True
    return False


VIEWS: Dict[str, Callable[[Tensor], Tensor]] = {
    "rows": lambda tensor: tensor[1:3],
    "one element": lambda tensor: tensor[2, 3],
    "reversed": lambda tensor: tensor[::-1],
    "transposed": lambda tensor: tensor.T,
    "with a new dimension": lambda tensor: tensor[None, 1],
    "empty": lambda tensor: tensor[3:],
    "of a view": lambda tensor: tensor[1:].T[1:, 0],
}


@pytest.mark.parametrize("view", VIEWS)
def test_views_come_back_as_they_were(client: PlasmaClient, view: str) -> None:
    tensor = VIEWS[view](client.get_tensor(client.put_tensor(np.arange(12).reshape(SHAPE), dim_names=["row", "column"])))
    other = again(tensor)
    np.testing.assert_array_equal(other.numpy(), tensor.numpy())
    assert (other.shape, other.strides, other.dim_names) == (tensor.shape, tensor.strides, tensor.dim_names)


def test_members_of_bundles_come_back(client: PlasmaClient, object_id: ObjectID) -> None:
    client.put_tensors({"x": np.arange(12).reshape(SHAPE), "y": np.ones(2)}, object_id)
    bundle = client.get_tensors(object_id)
    assert bundle["x"].object_id == object_id
    other = again(bundle["x"][1:])
    assert other.numpy().tolist() == [[4, 5, 6, 7], [8, 9, 10, 11]]
    assert again(other).shape == (2, 4)
    assert again(dict(bundle))["y"].numpy().tolist() == [1, 1]
    assert again(bundle).keys() == bundle.keys()
    pickled = pickle.dumps(bundle["y"])
    del bundle, other
    client.delete([object_id])
    client.put_tensors({"x": np.ones(2)}, object_id)
    with pytest.raises(plasma_store.PlasmaObjectNotFound, match="has no tensor 'y' any more"):
        pickle.loads(pickled).numpy()


def test_small_elements_come_back(client: PlasmaClient) -> None:
    tensor = client.create_tensor(ObjectID.from_random(), (4, 4), "float4_e2m1fn")
    tensor.data[:] = bytes(range(8))
    client.seal(tensor.object_id)
    assert bytes(again(tensor[2:]).data) == bytes(range(4, 8))


def test_what_is_gone_says_so_when_it_is_used(client: PlasmaClient) -> None:
    object_id = client.put_tensor(np.arange(3))
    pickled = pickle.dumps(client.get_tensor(object_id))
    client.delete([object_id])
    lost = pickle.loads(pickled)
    assert repr(lost) == f"Tensor(state='lost', object_id={object_id!r})"
    uses: Dict[str, Callable[[], Any]] = {
        "numpy": lost.numpy,
        "shape": lambda: lost.shape,
        "asarray": lambda: np.asarray(lost),
        "from_dlpack": lambda: np.from_dlpack(lost),
        "data": lambda: lost.data,
        "pickle": lambda: pickle.dumps(lost),
        "index": lambda: lost[0],
    }
    for name, use in uses.items():
        with pytest.raises(plasma_store.PlasmaObjectNotFound, match=f"{object_id.hex()}.*deleted or evicted on the way"):
            pytest.fail(f"{name} gave {use()}")


@METHODS
def test_a_task_fails_with_the_reason_when_its_tensor_is_gone(client: PlasmaClient, method: str) -> None:
    tensor = client.get_tensor(client.put_tensor(np.arange(3)))
    client.delete([tensor.object_id])
    reference_of_it = Pickled(pickle.dumps(tensor))
    tensor.release()
    with multiprocessing.get_context(method).Pool(1) as pool:
        with pytest.raises(plasma_store.PlasmaObjectNotFound, match="deleted or evicted"):
            pool.apply(summed, (reference_of_it,))
        assert pool.apply(abs, (-1,)) == 1


class Pickled:
    """What was pickled before: it is unpickled where this is."""

    def __init__(self, pickled: bytes) -> None:
        self.pickled = pickled

    def __reduce__(self) -> Tuple[Any, Tuple[bytes]]:
        return pickle.loads, (self.pickled,)


def test_another_object_of_the_same_name_is_not_taken_for_it(client: PlasmaClient, object_id: ObjectID) -> None:
    client.put_tensor(np.arange(3), object_id)
    pickled = pickle.dumps(client.get_tensor(object_id))
    client.delete([object_id])
    client.put_tensor(np.arange(4), object_id)
    with pytest.raises(plasma_store.PlasmaObjectNotFound, match=r"was int64 of shape \(3,\), and now is int64 of shape \(4,\)"):
        pickle.loads(pickled).numpy()
    client.delete([object_id])
    put(client, b"no tensor")
    client.create_and_seal(object_id, b"no tensor")
    with pytest.raises(plasma_store.PlasmaCorrupt):
        pickle.loads(pickled).numpy()


def test_another_store_at_the_same_path_is_told_from_it(tmp_path: Any, object_id: ObjectID) -> None:
    path = str(tmp_path / "socket")
    with plasma_store.start_store(1 << 20, path) as store, plasma_store.connect(store.socket_path) as client:
        client.put_tensor(np.arange(3), object_id)
        pickled = pickle.dumps((client, client.get_tensor(object_id)))
        assert pickle.loads(pickled)[1].numpy().sum() == 3
    with pytest.raises(plasma_store.PlasmaConnectError, match=f"{path} is gone"):
        pickle.loads(pickled)[1].numpy()
    # Until the other store's file differs from that of the first one: file systems count time in steps.
    while True:
        with plasma_store.start_store(1 << 20, path) as store:
            if reference.place_of(path) == pickle.loads(pickled)[1]._place:
                continue
            with plasma_store.connect(store.socket_path) as client:
                client.put_tensor(np.arange(3), object_id)
                other, tensor = pickle.loads(pickled)
                for use in (tensor.numpy, other.list):
                    with pytest.raises(plasma_store.PlasmaConnectError, match="another one"):
                        use()
                assert repr(other) == f"<PlasmaClient of {path}, lost>"
            return


def test_a_store_that_died_and_left_its_socket(tmp_path: Any) -> None:
    path = str(tmp_path / "socket")
    with plasma_store.start_store(1 << 20, path, process=True) as store:
        with plasma_store.connect(path) as client:
            tensor = client.get_tensor(client.put_tensor(np.arange(3)))
            pickled = pickle.dumps(tensor)
            assert pickle.loads(pickled).numpy().sum() == 3
            os.kill(store.pid, 9)
            until(lambda: is_over(client))
            lost = pickle.loads(pickled)
            with pytest.raises((plasma_store.PlasmaConnectError, plasma_store.PlasmaDisconnected)):
                lost.numpy()
            assert tensor.numpy().sum() == 3, "what is held is readable"


def test_what_no_reference_can_say_is_not_pickled(client: PlasmaClient, object_id: ObjectID) -> None:
    created = client.create_tensor(object_id, (2,), "int8")
    with pytest.raises(plasma_store.PlasmaObjectNotSealed, match=object_id.hex()):
        pickle.dumps(created)
    client.seal(object_id)
    assert again(created).shape == (2,)
    with pytest.raises(plasma_store.PlasmaUnsupported, match="changes of this process"):
        pickle.dumps(client.get_tensor(object_id, private=True))
    created.release()
    with pytest.raises(ValueError, match="released"):
        pickle.dumps(created)
    gone = plasma_store.connect(client.store_socket_name)
    gone.disconnect()
    with pytest.raises(plasma_store.PlasmaDisconnected):
        pickle.dumps(gone)


def test_a_pickled_client_connects_as_the_first_one_did(store: Store) -> None:
    with plasma_store.connect(store.socket_path, copy_threads=2, spin_us=1) as client:
        with again(client) as other:
            assert other._options == {"copy_threads": 2, "spin_us": 1}
            assert other.put(1, ObjectID.from_name("x"))
        assert client.get(ObjectID.from_name("x")) == 1, "the first one is not ended by the other"


def test_the_default_socket_is_a_path_for_others(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("PLASMA_STORE_SOCKET", store.socket_path)
    with plasma_store.connect() as client:
        pickled = pickle.dumps(client)
    monkeypatch.setenv("PLASMA_STORE_SOCKET", "/elsewhere")
    with pickle.loads(pickled) as other:
        assert other.store_socket_name == store.socket_path
    monkeypatch.delenv("PLASMA_STORE_SOCKET")
    for directory in (str(tmp_path), ""):
        monkeypatch.setenv("XDG_RUNTIME_DIR", directory)
        with pytest.raises(plasma_store.PlasmaConnectError, match=reference._default_socket()):
            plasma_store.connect(num_retries=0)


def test_a_store_is_pickled_as_where_it_is(store: Store) -> None:
    other = again(store)
    assert other == store
    other.close()
    with plasma_store.connect(store.socket_path) as client:
        assert client.store_capacity() == store.capacity
