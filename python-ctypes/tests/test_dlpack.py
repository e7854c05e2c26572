"""The DLPack protocol as the Array API has it: what a consumer may ask for, and that whatever it does with a capsule is right."""

from __future__ import annotations

import ctypes
import gc
import subprocess
import threading
from typing import Any, Callable, Tuple

import pytest

import plasma_store
from conftest import until
from plasma_store import ObjectID, PlasmaClient, Store, Tensor, _abi
from plasma_store._lib import capsule_is_valid, capsule_pointer
from plasma_store.dlpack import LEGACY, VERSIONED, Source

np = pytest.importorskip("numpy")
NUMPY = tuple(int(part) for part in np.__version__.split(".")[:2])
READ_ONLY, COPIED = _abi.DLPACK_FLAG_BITMASK_READ_ONLY, _abi.DLPACK_FLAG_BITMASK_IS_COPIED

set_name = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_SetName", ctypes.pythonapi))
# A capsule does not copy its name.
USED = {LEGACY: b"used_dltensor", VERSIONED: b"used_dltensor_versioned"}


def inside(capsule: Any) -> Any:
    """The managed tensor in a capsule."""
    name, kind = next(
        (name, kind)
        for name, kind in ((VERSIONED, _abi.DLManagedTensorVersioned), (LEGACY, _abi.DLManagedTensor))
        if capsule_is_valid(capsule, name)
    )
    return ctypes.cast(capsule_pointer(capsule, name), ctypes.POINTER(kind))


def consume(capsule: Any) -> Any:
    """Takes the tensor over, as a consumer in C does: whoever has it calls its deleter."""
    managed = inside(capsule)
    name = VERSIONED if capsule_is_valid(capsule, VERSIONED) else LEGACY
    set_name(capsule, USED[name])
    return managed


def references(client: PlasmaClient, object_id: ObjectID) -> int:
    gc.collect()
    return client.list()[object_id]["ref_count"]


@pytest.fixture
def tensor(client: PlasmaClient) -> Tensor:
    """A sealed tensor."""
    return client.get_tensor(client.put_tensor(np.arange(12.0).reshape(3, 4)))


@pytest.mark.parametrize("version", [(1, 0), (1, 3), (2, 0), [1, 1]])
def test_a_versioned_capsule_says_that_it_is_read_only(tensor: Tensor, version: Any) -> None:
    managed = inside(tensor.__dlpack__(max_version=version)).contents
    assert (managed.version.major, managed.flags) == (1, READ_ONLY)
    assert managed.dl_tensor.data == tensor.numpy().ctypes.data


@pytest.mark.parametrize("version", [None, (0, 8)])
def test_a_legacy_capsule_is_given_of_read_only_data_too(tensor: Tensor, version: Any) -> None:
    capsule = tensor.__dlpack__(max_version=version)
    assert capsule_is_valid(capsule, LEGACY)
    assert inside(capsule).contents.dl_tensor.data == tensor.numpy().ctypes.data


@pytest.mark.parametrize("version", [None, (1, 0)])
@pytest.mark.parametrize("view", [False, True])
def test_a_copy_is_writable_and_flagged(client: PlasmaClient, version: Any, view: bool) -> None:
    object_id = client.put_tensor(np.arange(12.0).reshape(3, 4))
    tensor = client.get_tensor(object_id)
    tensor, expected = (tensor[1:, ::-2], [[7, 5], [11, 9]]) if view else (tensor, np.arange(12.0).reshape(3, 4).tolist())
    managed = consume(tensor.__dlpack__(max_version=version, copy=True))
    if version:
        assert managed.contents.flags == COPIED
    shape = managed.contents.dl_tensor.shape[:2]
    values = (ctypes.c_double * (shape[0] * shape[1])).from_address(managed.contents.dl_tensor.data)
    assert np.frombuffer(values).reshape(shape).tolist() == expected
    values[0] = -1
    assert tensor.numpy().tolist() == expected
    del tensor
    assert references(client, object_id) == 0, "a copy holds nothing"
    managed.contents.deleter(managed)


def test_a_copy_of_any_layout_and_type(client: PlasmaClient) -> None:
    for array in (np.asfortranarray(np.ones((2, 3), "complex128")), np.empty((0, 3), "int8"), np.array(True)):
        tensor = client.get_tensor(client.put_tensor(array))
        copied = client.get_tensor(client.put_tensor(Given(tensor.__dlpack__(copy=True))))
        np.testing.assert_array_equal(copied.numpy(), array)
        assert copied.strides == tensor.strides


@pytest.mark.parametrize("copy", [None, False, True])
def test_another_device_is_a_buffer_error(tensor: Tensor, copy: Any) -> None:
    with pytest.raises(BufferError, match=r"\(2, 1\)"):
        tensor.__dlpack__(dl_device=(2, 1), copy=copy)


@pytest.mark.parametrize("copy", [None, False])
def test_where_it_lies_no_copy_is_needed(tensor: Tensor, copy: Any) -> None:
    capsule = tensor.__dlpack__(max_version=(1, 0), dl_device=(1, 0), copy=copy)
    assert inside(capsule).contents.dl_tensor.data == tensor.numpy().ctypes.data
    assert inside(capsule).contents.flags == READ_ONLY


def test_the_protocol_takes_keywords_only(tensor: Tensor) -> None:
    with pytest.raises(TypeError):
        tensor.__dlpack__(None)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="stream"):
        tensor.__dlpack__(stream=-1)
    assert tensor.__dlpack_device__() == (1, 0)


@pytest.mark.skipif(NUMPY < (2, 1), reason="numpy asks for copies since 2.1")
def test_numpy_is_given_what_it_asks_for(tensor: Tensor) -> None:
    copied = np.from_dlpack(tensor, copy=True)
    assert copied.ctypes.data != tensor.numpy().ctypes.data
    shared = np.from_dlpack(tensor, copy=False)
    assert shared.ctypes.data == tensor.numpy().ctypes.data
    assert not shared.flags.writeable
    np.testing.assert_array_equal(copied, shared)
    if NUMPY >= (2, 3):
        copied[0] = -1


@pytest.mark.parametrize("version", [None, (1, 0)])
def test_a_deleter_may_run_in_any_thread(client: PlasmaClient, version: Any) -> None:
    object_id = client.put_tensor(np.arange(4))
    all_managed = [consume(client.get_tensor(object_id)[1:].__dlpack__(max_version=version)) for _ in range(40)]
    assert references(client, object_id) > 0

    def let_go(some: Any) -> None:
        for managed in some:
            managed.contents.deleter(managed)

    threads = [threading.Thread(target=let_go, args=(all_managed[first::4],)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert references(client, object_id) == 0


def test_many_threads_export_and_drop_at_once(client: PlasmaClient) -> None:
    object_id = client.put_tensor(np.arange(4))
    wrong, finished = [], []

    def work(number: int) -> None:
        tensor = client.get_tensor(object_id)
        for turn in range(50):
            capsule = tensor.__dlpack__(max_version=(1, 0) if turn % 2 else None, copy=turn % 3 == 0)
            if turn % 5 == number % 5 and (NUMPY >= (2, 1) or turn % 2 == 0):
                array = np.from_dlpack(Given(capsule))
                if array.tolist() != [0, 1, 2, 3]:
                    wrong.append(array)
        finished.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (wrong, len(finished)) == ([], 8)
    client.get_tensor(client.put_tensor(np.arange(1)))
    assert references(client, object_id) == 0


class Given:
    """Lends one capsule, whatever is asked."""

    def __init__(self, capsule: Any) -> None:
        self.capsule = capsule

    def __dlpack__(self, **arguments: Any) -> Any:
        return self.capsule

    def __dlpack_device__(self) -> Tuple[int, int]:
        return (1, 0)


def test_a_capsule_outlives_its_store(store: Store) -> None:
    with plasma_store.start_store(1 << 20) as own, plasma_store.connect(own.socket_path) as client:
        capsule = client.get_tensor(client.put_tensor(np.arange(5)))[1:].__dlpack__()
    assert np.from_dlpack(Given(capsule)).tolist() == [1, 2, 3, 4]


ENDS = {
    "unconsumed": "kept.append(tensor.__dlpack__(max_version=(1, 0)))",
    "unconsumed copy": "kept.append(tensor.__dlpack__(copy=True))",
    "consumed": "kept.append(np.from_dlpack(tensor))",
    "consumed view": "kept.append(np.from_dlpack(tensor.T[1:]))",
    "in a cycle": "cycle = [tensor.__dlpack__(), np.from_dlpack(tensor)]; cycle.append(cycle); del cycle",
    "by a module": "np.kept = [tensor, tensor.__dlpack__(), np.from_dlpack(tensor)]",
    "at exit": "import atexit; atexit.register(lambda: kept.append(tensor.__dlpack__()))",
    "by a daemon thread": """
import threading
begun = threading.Event()
def work():
    while True:
        kept[:] = [tensor.__dlpack__(), np.from_dlpack(tensor[::2])]
        begun.set()
threading.Thread(target=work, daemon=True).start()
begun.wait()""",
}


@pytest.mark.parametrize("case", ENDS)
def test_the_interpreter_ends_in_peace_whatever_is_left(
    client: PlasmaClient, child: Callable[..., subprocess.Popen[str]], case: str
) -> None:
    object_id = client.put_tensor(np.arange(12).reshape(3, 4))
    script = f"""
import sys
import numpy as np
import plasma_store
kept = []
client = plasma_store.connect(sys.argv[1])
tensor = client.get_tensor(plasma_store.ObjectID(bytes.fromhex(sys.argv[2])))
{ENDS[case]}
print("done")
"""
    process = child(script, client.store_socket_name, object_id.hex())
    assert process.stdout is not None
    assert (process.stdout.read(), process.wait()) == ("done\n", 0)
    until(lambda: references(client, object_id) == 0)
