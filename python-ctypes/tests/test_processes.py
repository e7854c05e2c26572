"""Several processes: what one writes others read where it lies; forked children; producers and readers that are killed."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
from typing import Any, Callable, List

import pytest

import plasma_store
from conftest import in_fork, put, until
from plasma_store import ObjectID, PlasmaClient, Store

PATIENCE_S = 60


def read_and_add(socket_path: str, object_id: ObjectID) -> Any:
    """In another process: reads a tensor, puts its sum."""
    import numpy as np

    with plasma_store.connect(socket_path) as client:
        array = np.from_dlpack(client.get_tensor(object_id))
        return os.getpid(), float(array.sum()), client.put_tensor(array + 1)


def test_spawned_processes_read_what_one_wrote_and_the_reverse(any_store: Store) -> None:
    np = pytest.importorskip("numpy")
    with plasma_store.connect(any_store.socket_path) as client:
        object_id = client.put_tensor(np.arange(1000.0))
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            results = pool.starmap(read_and_add, [(any_store.socket_path, object_id)] * 2)
        for pid, total, theirs in results:
            assert pid != os.getpid()
            assert total == 499500.0
            np.testing.assert_array_equal(np.asarray(client.get_tensor(theirs)), np.arange(1000.0) + 1)


def test_a_forked_child_reads_on_but_must_connect_anew(client: PlasmaClient, store: Store) -> None:
    np = pytest.importorskip("numpy")
    object_id = client.put_tensor(np.arange(1000))
    held: List[Any] = [client.get_tensor(object_id), client.get_buffers([object_id]), client]
    held.append(np.asarray(held[0]))

    def child() -> None:
        assert held[3].sum() == 499500
        np.testing.assert_array_equal(np.from_dlpack(held[0]), np.arange(1000))
        with pytest.raises(plasma_store.PlasmaForked, match="connect again"):
            client.contains(object_id)
        with pytest.raises(RuntimeError):
            client.get_buffers([object_id])
        with plasma_store.connect(store.socket_path) as own:
            np.testing.assert_array_equal(np.asarray(own.get_tensor(object_id)), np.arange(1000))
        # What the child drops, it must not release in the parent's name.
        client.disconnect()
        held.clear()

    in_fork(child)
    assert client.list()[object_id]["ref_count"] == 1
    assert client.contains(object_id)
    held.clear()
    assert client.list()[object_id]["ref_count"] == 0


@pytest.mark.parametrize("process", [False, True], ids=["in-process", "daemon"])
def test_a_forked_child_may_leave_the_block_of_its_parents_store(process: bool) -> None:
    def child() -> None:
        context.__exit__(None, None, None)

    context = plasma_store.start_store(1 << 20, process=process)
    with context as store, plasma_store.connect(store.socket_path) as client:
        in_fork(child)
        assert os.path.exists(store.socket_path)
        assert client.get_buffers([put(client, b"x")])[0] is not None


def test_a_process_that_is_killed_leaves_nothing_behind(
    client: PlasmaClient, store: Store, child: Callable[..., subprocess.Popen[str]]
) -> None:
    sealed = put(client, b"sealed")
    script = """
import sys, time, plasma_store
client = plasma_store.connect(sys.argv[1])
held = client.get_buffers([plasma_store.ObjectID.from_hex(sys.argv[2])])
buffer = client.create(plasma_store.ObjectID.from_random(), 1000)
print("ready", flush=True)
time.sleep(600)
"""
    process = child(script, store.socket_path, sealed.hex())
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    assert {info["state"] for info in client.list().values()} == {"created", "sealed"}
    assert client.list()[sealed]["ref_count"] == 1
    process.kill()
    process.wait()
    until(lambda: set(client.list()) == {sealed} and client.list()[sealed]["ref_count"] == 0)


def test_no_descriptor_reaches_a_child_program(client: PlasmaClient) -> None:
    put(client, b"x")
    listing = subprocess.run(
        ["ls", "-l", "/proc/self/fd"], close_fds=False, capture_output=True, text=True, check=True, timeout=PATIENCE_S
    ).stdout
    assert "memfd" not in listing
    assert "socket" not in listing
