"""What somebody has to end says so when it is forgotten; what is ended, and what lives by being collected, says nothing."""

from __future__ import annotations

import gc
import linecache
import subprocess
import warnings
from typing import Any, Callable, List

import pytest

import plasma_store
from conftest import in_fork, put
from plasma_store import ObjectID, PlasmaClient, Store

np = pytest.importorskip("numpy")


def warned(body: Callable[[], Any]) -> List[str]:
    """The ResourceWarnings of this package while `body` runs, and of what it leaves to be collected."""
    gc.collect()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        body()
        gc.collect()
    return [str(warning.message) for warning in caught if "forgotten" in str(warning.message)]


def test_a_client(store: Store) -> None:
    def body() -> None:
        plasma_store.connect(store.socket_path)

    assert warned(body) == [
        f"forgotten: <PlasmaClient of {store.socket_path}>; disconnect it, or use it in a `with` block"
    ]


def test_a_client_in_a_cycle(store: Store) -> None:
    def body() -> None:
        client: Any = plasma_store.connect(store.socket_path)
        client.itself = client

    assert len(warned(body)) == 1


def test_a_stream(store: Store) -> None:
    def body() -> None:
        plasma_store.connect(store.socket_path).subscribe()

    [text] = warned(body)
    assert f"<PlasmaClient of {store.socket_path}, subscribed>" in text


@pytest.mark.parametrize("process", [False, True], ids=["in-process", "daemon"])
def test_a_store(process: bool) -> None:
    paths: List[str] = []

    def body() -> None:
        paths.append(plasma_store.start_store(1 << 20, process=process).socket_path)

    assert warned(body) == [f"forgotten: store at {paths[0]}; close it, or use it in a `with` block"]
    with pytest.raises(plasma_store.PlasmaConnectError):
        plasma_store.connect(paths[0], num_retries=0)


def create(client: PlasmaClient, object_id: ObjectID) -> None:
    client.create(object_id, 5)


def create_tensor(client: PlasmaClient, object_id: ObjectID) -> None:
    client.create_tensor(object_id, (5,), "int8")


@pytest.mark.parametrize("make", [create, create_tensor])
def test_what_was_created_and_never_sealed(store: Store, object_id: ObjectID, make: Callable[..., None]) -> None:
    def body() -> None:
        with plasma_store.connect(store.socket_path) as client:
            make(client, object_id)

    [text] = warned(body)
    assert text.startswith("forgotten: 1 objects that <PlasmaClient of ")
    assert text.endswith(f"neither sealed nor aborted, so nobody gets them: {object_id.hex()}")


def test_the_warning_names_some_of_many_and_the_line(store: Store) -> None:
    def body() -> None:
        client = plasma_store.connect(store.socket_path)
        for _ in range(5):
            create(client, ObjectID.from_random())
        client.disconnect()

    def block() -> None:
        with plasma_store.connect(store.socket_path) as client:
            create(client, ObjectID.from_random())

    with pytest.warns(ResourceWarning, match="5 objects .* and 2 more$") as caught:
        body()
    lines = [linecache.getline(warning.filename, warning.lineno).strip() for warning in caught]
    assert lines == ["client.disconnect()"]
    with pytest.warns(ResourceWarning, match="1 objects") as caught:
        block()
    assert [warning.filename for warning in caught] == [__file__]


def test_what_is_ended_says_nothing(store: Store) -> None:
    def body() -> None:
        with plasma_store.start_store(1 << 20) as other, plasma_store.connect(other.socket_path) as client:
            client.subscribe()
            client.put({"a": 1})
            client.put(np.ones(100_000))
            client.put_nowait(np.ones(10_000))
            ids = [ObjectID.from_random() for _ in range(4)]
            for object_id in ids:
                create(client, object_id)
            client.seal(ids[0])
            client.seal_nowait(ids[1])
            client.abort(ids[2])
            client.delete(ids[3:])
            client.flush()
        client.disconnect()
        other.close()

    assert warned(body) == []


def test_what_was_got_says_nothing(client: PlasmaClient) -> None:
    def body() -> None:
        object_id = client.put_tensor(np.arange(3))
        for _ in range(3):
            client.get_tensor(object_id).numpy()
            client.get_buffers([object_id])
        client.create_and_seal(ObjectID.from_random(), b"x")
        put(client, b"x")

    assert warned(body) == []


def test_an_error_in_the_block_is_not_joined_by_a_warning(store: Store, object_id: ObjectID) -> None:
    def body() -> None:
        with pytest.raises(ZeroDivisionError), plasma_store.connect(store.socket_path) as client:
            create(client, object_id)
            raise ZeroDivisionError

    assert warned(body) == []


def test_a_forked_child_forgets_nothing_of_its_parents(store: Store) -> None:
    held: List[Any] = [plasma_store.connect(store.socket_path), plasma_store.start_store(1 << 20)]
    path = held[1].socket_path
    create(held[0], ObjectID.from_random())

    def child() -> None:
        def body() -> None:
            held[0].disconnect()
            held.clear()

        assert warned(body) == []

    in_fork(child)
    plasma_store.connect(path).disconnect()
    held[1].close()
    with pytest.warns(ResourceWarning, match="1 objects"):
        held[0].disconnect()


AT_THE_END = """
import builtins, sys, warnings, plasma_store
warnings.simplefilter("default")
client = plasma_store.connect(sys.argv[1])
builtins.store = plasma_store.start_store(1 << 20)
builtins.client = plasma_store.connect(builtins.store.socket_path)
cycle = [plasma_store.connect(sys.argv[1])]
cycle.append(cycle)
print("reached the end")
"""


def test_the_end_of_the_interpreter_shows_warnings_and_no_errors(
    store: Store, child: Callable[..., subprocess.Popen[str]]
) -> None:
    process = child(AT_THE_END, store.socket_path)
    output, _ = process.communicate(timeout=60)
    assert (process.returncode, output.splitlines()[0]) == (0, "reached the end")
    assert f"ResourceWarning: forgotten: <PlasmaClient of {store.socket_path}>" in output
    assert "Traceback" not in output
    assert "Exception ignored" not in output


def test_released_tensors_let_go_and_say_so(client: PlasmaClient) -> None:
    object_id = client.put_tensor(np.arange(6).reshape(2, 3))
    with client.get_tensor(object_id) as tensor:
        row = tensor[1]
        assert client.list()[object_id]["ref_count"] == 1
    for use in (tensor.numpy, lambda: tensor.data, lambda: tensor[0], lambda: np.asarray(tensor), tensor.__dlpack__):
        with pytest.raises(ValueError, match=f"the tensor of object {object_id.hex()} was released"):
            use()
    assert (tensor.state, tensor.shape, tensor.dtype, tensor.object_id) == ("released", (2, 3), "int64", object_id)
    tensor.release()
    assert client.list()[object_id]["ref_count"] == 1, "the view holds it still"
    array = row.numpy()
    row.release()
    del row
    assert array.tolist() == [3, 4, 5]
    del array, use
    gc.collect()
    assert client.list()[object_id]["ref_count"] == 0


def test_an_immutable_object_is_filled_in_a_block(client: PlasmaClient, object_id: ObjectID) -> None:
    with client.create_tensor(object_id, (3,), "int64", immutable=True) as tensor:
        tensor.numpy()[:] = 7
        with pytest.raises(plasma_store.PlasmaBusy):
            client.seal(object_id)
    client.seal(object_id)
    assert client.get_tensor(object_id, 0).numpy().tolist() == [7, 7, 7]


def test_what_a_repr_tells(store: Store, object_id: ObjectID) -> None:
    client = plasma_store.connect(store.socket_path)
    tensor = client.create_tensor(object_id, (2, 3), "float32")
    rest = f"object_id=ObjectID({object_id.hex()}))"
    assert repr(tensor) == f"Tensor(shape=(2, 3), dtype='float32', state='created', {rest}"
    client.seal(object_id)
    assert repr(tensor) == f"Tensor(shape=(2, 3), dtype='float32', state='sealed', {rest}"
    private = client.get_tensor(object_id, private=True)
    assert repr(private.T) == f"Tensor(shape=(3, 2), dtype='float32', state='private', {rest}"
    private.release()
    assert repr(private) == f"Tensor(shape=(2, 3), dtype='float32', state='released', {rest}"
    assert repr(client) == f"<PlasmaClient of {store.socket_path}>"
    client.subscribe()
    assert repr(client) == f"<PlasmaClient of {store.socket_path}, subscribed>"
    in_fork(lambda: None if f"of process {client._process}" in repr(client) else pytest.fail(repr(client)))
    client.disconnect()
    assert repr(client) == f"<PlasmaClient of {store.socket_path}, disconnected>"
    assert repr(store) == f"Store(socket_path={store.socket_path!r}, capacity={16 << 20}, pid={store.pid}, state='running')"
