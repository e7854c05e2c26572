"""What is held stays readable: after disconnect, delete, the end of the store; and it goes with its last view."""

from __future__ import annotations

import gc
import subprocess
import sys
from typing import Any, Callable, Dict, List

import pytest

import plasma_store
from conftest import put
from plasma_store import PlasmaClient, Store

KINDS = pytest.mark.parametrize("process", [False, True], ids=["in-process", "daemon"])


@KINDS
def test_buffers_outlive_object_client_and_store(process: bool) -> None:
    with plasma_store.start_store(16 << 20, process=process) as store:
        client = plasma_store.connect(store.socket_path)
        object_id = put(client, b"hello" * 1000, b"meta")
        [(metadata, data)] = client.get_buffers([object_id], with_meta=True)
        [held_metadata] = client.get_metadata([object_id])
        client.delete([object_id])
        client.disconnect()
        del client
    gc.collect()
    assert data is not None
    assert held_metadata is not None
    assert bytes(memoryview(data)) == b"hello" * 1000
    assert (metadata, bytes(memoryview(held_metadata))) == (b"meta", b"meta")


@KINDS
def test_arrays_outlive_everything(process: bool) -> None:
    np = pytest.importorskip("numpy")
    with plasma_store.start_store(16 << 20, process=process) as store, plasma_store.connect(store.socket_path) as client:
        object_id = client.put_tensor(np.arange(1000))
        arrays = [np.asarray(client.get_tensor(object_id)), np.from_dlpack(client.get_tensor(object_id))]
        data = client.get_tensor(object_id).data
        mine = np.asarray(client.get_tensor(object_id, private=True))
        created = client.create_tensor(plasma_store.ObjectID.from_random(), (10,), "int8")
        client.delete([object_id])
    gc.collect()
    for array in arrays:
        np.testing.assert_array_equal(array, np.arange(1000))
    assert data.cast("q")[999] == 999
    mine[0] = 5
    created.data[9] = 3
    assert (mine[0], created.data[9]) == (5, 3)


def test_the_last_view_releases(client: PlasmaClient) -> None:
    object_id = put(client, b"hello")

    def references() -> int:
        return client.list()[object_id]["ref_count"]

    [buffer] = client.get_buffers([object_id])
    assert buffer is not None
    view = memoryview(buffer)
    part = view[1:3]
    del buffer, view
    assert references() == 1
    assert bytes(part) == b"el"
    del part
    assert references() == 0


def test_each_of_several_arrays_holds(client: PlasmaClient) -> None:
    np = pytest.importorskip("numpy")
    object_id = client.put_tensor(np.arange(3))
    views: Dict[str, Any] = {"tensor": client.get_tensor(object_id)}
    views["asarray"] = np.asarray(views["tensor"])[1:]
    views["dlpack"] = np.from_dlpack(views["tensor"])
    views["numpy"] = views["tensor"].numpy()
    views["data"] = views["tensor"].data
    while views:
        assert client.list()[object_id]["ref_count"] == 1, f"held by {list(views)}"
        del views[next(iter(views))]
    assert client.list()[object_id]["ref_count"] == 0


def test_a_buffer_of_create_stays_valid_after_the_seal(client: PlasmaClient, object_id: plasma_store.ObjectID) -> None:
    buffer = client.create(object_id, 5)
    view = memoryview(buffer).cast("B")
    view[:] = b"hello"
    client.seal(object_id)
    assert bytes(view) == b"hello"
    assert client.list()[object_id]["ref_count"] == 1
    del buffer, view
    assert client.list()[object_id]["ref_count"] == 0


def test_calls_after_the_store_ended_say_so(object_id: plasma_store.ObjectID) -> None:
    with plasma_store.start_store(1 << 20) as store:
        client = plasma_store.connect(store.socket_path)
    with pytest.raises(plasma_store.PlasmaDisconnected):
        client.contains(object_id)
    with pytest.raises(ConnectionError):
        client.get_buffers([object_id])


LEFT_OVER = """
import builtins, sys
import plasma_store
store = plasma_store.start_store(1 << 20)
client = plasma_store.connect(store.__enter__().socket_path)
object_id = plasma_store.ObjectID.from_random()
tensor = client.create_tensor(object_id, (3,), "int8")
client.seal(object_id)
builtins.left = [client.get_tensor(object_id), client.get_buffers([object_id]), client, store, tensor.__dlpack__()]
sys.left = tensor.__dlpack__(max_version=(1, 0))
cycle = [tensor.data, client.get_tensor(object_id).__dlpack__()]
cycle.append(cycle)
print("reached the end")
"""


def test_what_is_left_at_the_end_of_the_interpreter_does_no_harm(child: Callable[..., subprocess.Popen[str]]) -> None:
    process = child(LEFT_OVER)
    output, _ = process.communicate(timeout=60)
    assert (process.returncode, output) == (0, "reached the end\n")


def test_what_ctrl_c_kept_from_being_made_lets_go_of_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """KeyboardInterrupt may come before the first line of any `__init__`; `__del__` is called all the same."""
    from plasma_store import buffer, connection, forgotten, notifications

    ignored: List[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", ignored.append)
    modules = (buffer, connection, forgotten, notifications)
    owners = {kind for module in modules for kind in vars(module).values() if "__del__" in getattr(kind, "__dict__", {})}
    assert len(owners) == 6
    for owner in owners:
        owner.__new__(owner)
    gc.collect()
    assert ignored == []


def test_with_and_without_pyarrow(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from plasma_store import buffer

    with plasma_store.connect(store.socket_path) as client:
        object_id = put(client, b"hello")
        monkeypatch.setattr(buffer, "pyarrow_or_none", lambda: None)
        plain: Any
        [plain] = client.get_buffers([object_id])
        created = client.create(plasma_store.ObjectID.from_random(), 3)
        assert (type(plain), type(created)) == (memoryview, memoryview)
        assert (memoryview(plain).readonly, memoryview(created).readonly) == (True, False)
        monkeypatch.undo()
        pyarrow = pytest.importorskip("pyarrow")
        wrapped: Any
        [wrapped] = client.get_buffers([object_id])
        mutable: Any = client.create(plasma_store.ObjectID.from_random(), 3)
        assert (type(wrapped), type(mutable)) == (pyarrow.Buffer, pyarrow.Buffer)
        assert (wrapped.is_mutable, mutable.is_mutable) == (False, True)
        assert wrapped.to_pybytes() == b"hello"
