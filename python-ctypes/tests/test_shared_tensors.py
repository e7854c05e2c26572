"""Shared tensors: what is written is seen, by every way a process is started; the lock and its dead owners; the seal; the end."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import subprocess
import threading
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Callable, List

import pytest

import plasma_store
from conftest import in_fork, until
from plasma_store import ObjectID, PlasmaClient, SharedTensor, Store, default_store
from plasma_store.shared_lock import SharedLock
from test_forgotten import warned

np = pytest.importorskip("numpy")

Child = Callable[..., "subprocess.Popen[str]"]
METHODS = pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
PATIENCE_S = 60


def again(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


def add(shared: SharedTensor, row: int) -> int:
    """What a worker does: it adds to a row, under the lock."""
    with shared.lock(PATIENCE_S):
        shared.array[row] += row + 1
    return os.getpid()


def add_from(queue: Any) -> None:
    """The same with a shared tensor from a queue."""
    add(*queue.get(timeout=PATIENCE_S))


def shape_of(shared: SharedTensor) -> Any:
    return shared.shape


def killed_with_the_lock(shared: SharedTensor) -> None:
    """A process that dies in the middle of writing."""

    def body() -> None:
        shared.lock(PATIENCE_S).acquire()
        shared.array[0] = 1
        os.kill(os.getpid(), signal.SIGKILL)

    pid = os.fork()
    if pid == 0:
        body()
        os._exit(1)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL


@pytest.fixture
def shared(client: PlasmaClient) -> Any:
    with SharedTensor.zeros((3, 4), client=client) as shared:
        yield shared


@pytest.fixture
def other(store: Store) -> Any:
    """A client as another process has one."""
    with plasma_store.connect(store.socket_path) as other:
        yield other


def test_all_that_makes_one(client: PlasmaClient) -> None:
    array = np.arange(6, dtype="int16").reshape(2, 3)
    made = [
        (SharedTensor.zeros((2, 3), "int16", client=client), np.zeros((2, 3), "int16")),
        (SharedTensor.empty((2, 3), np.int16, client=client), np.zeros((2, 3), "int16")),
        (SharedTensor.full((2, 3), 7, "int16", client=client), np.full((2, 3), 7, "int16")),
        (SharedTensor.full((), 2.5, client=client), np.array(2.5)),
        (SharedTensor.zeros(3, float, client=client), np.zeros(3)),
        (SharedTensor.empty(np.int64(3), "i2", client=client), np.zeros(3, "i2")),
        (SharedTensor.full(3, 1, complex, client=client), np.ones(3, complex)),
        (SharedTensor.like(array, client=client), np.zeros((2, 3), "int16")),
        (SharedTensor.from_array(array, client=client), array),
        (SharedTensor.from_array(array[::-1, 1:], client=client), array[::-1, 1:]),
        (SharedTensor.from_array(np.asfortranarray(array), client=client), array),
        (SharedTensor.zeros((0, 3), client=client), np.zeros((0, 3))),
    ]
    for shared, expected in made:
        with shared:
            for seen in (shared.array, np.asarray(shared), np.from_dlpack(shared), shared.snapshot(), again(shared).array):
                np.testing.assert_array_equal(seen, expected)
                assert seen.dtype == expected.dtype
            assert (shared.shape, shared.dtype, shared.nbytes) == (expected.shape, str(expected.dtype), expected.nbytes)
    del seen
    assert client.list() == {}


def test_elements_of_any_type(client: PlasmaClient) -> None:
    pytest.importorskip("ml_dtypes")
    for dtype in ("bool", "float16", "complex64", "complex128", "bfloat16", "float8_e4m3fn"):
        with SharedTensor.full((2, 2), 1, dtype, client=client) as shared:
            assert shared.array.tolist() == again(shared).array.tolist() == np.ones((2, 2)).tolist()
            shared.array[0] = 0
            assert shared.snapshot()[0].tolist() == [0, 0]
    with SharedTensor.zeros((3,), "float4_e2m1fn", client=client) as packed:
        packed.array[:] = [0x21, 0x03]
        assert (bytes(packed.data), packed.snapshot().tolist(), packed.nbytes) == (b"\x21\x03", [0x21, 3], 2)


def test_writes_are_seen_by_all_who_have_it(client: PlasmaClient, other: PlasmaClient) -> None:
    with SharedTensor.zeros((2, 2), "int32", name="counts", client=client) as shared:
        with SharedTensor.open("counts", client=other) as second, SharedTensor.open(shared.id, client=other) as third:
            shared.array[0, 0] = 5
            np.from_dlpack(second)[0, 1] = 6
            third.data[8:12] = (7).to_bytes(4, "little")
            assert shared.array.tolist() == second.array.tolist() == third.array.tolist() == [[5, 6], [7, 0]]
            assert (second.name, third.name) == ("counts", None)
            assert np.from_dlpack(shared).flags.writeable
            copy = np.from_dlpack(shared, copy=True)
            copy[:] = 0
            assert shared.array[0, 0] == 5


def test_it_is_waited_for_by_name(client: PlasmaClient, other: PlasmaClient) -> None:
    with pytest.raises(plasma_store.PlasmaObjectNotFound, match=r"shared tensor 'late' \(\w{40}\): object"):
        SharedTensor.open("late", client=other, timeout=0)
    with pytest.raises(TimeoutError, match="shared tensor 'late'"):
        SharedTensor.open("late", client=other, timeout=0.01)
    with pytest.raises(TypeError, match="timeout is 'soon', which is no number"):
        SharedTensor.open("late", client=other, timeout="soon")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="timeout is None, 0 or so many seconds, not -1"):
        SharedTensor.open("late", client=other, timeout=-1)
    opened: List[SharedTensor] = []
    waiter = threading.Thread(target=lambda: opened.append(SharedTensor.open("late", client=other)))
    waiter.start()
    with SharedTensor.full((2,), 3, name="late", client=client):
        waiter.join(PATIENCE_S)
        with opened[0]:
            assert opened[0].array.tolist() == [3, 3]
    with SharedTensor.zeros((1,), name="late", client=client), pytest.raises(plasma_store.PlasmaObjectExists):
        SharedTensor.zeros((1,), name="late", client=client)


def test_what_cannot_be_shared_says_why(client: PlasmaClient) -> None:
    with pytest.raises(ValueError, match=r"\(2, -1\) has a dimension that is negative"):
        SharedTensor.zeros((2, -1), client=client)
    with pytest.raises(TypeError, match="dtype 'text' cannot be stored"):
        SharedTensor.zeros((2,), "text", client=client)
    with pytest.raises(plasma_store.PlasmaStoreFull):
        SharedTensor.zeros((1 << 30,), client=client)
    assert client.list() == {}


@METHODS
def test_workers_of_multiprocessing_write(shared: SharedTensor, method: str) -> None:
    context: Any = multiprocessing.get_context(method)
    with context.Pool(2) as pool:
        pids = pool.starmap(add, [(shared, row) for row in range(3)])
        # It comes back as what it is.
        assert pool.apply(again, (shared,)).array[2, 3] == 3
    assert os.getpid() not in pids
    worker = context.Process(target=add, args=(shared, 0))
    worker.start()
    worker.join(PATIENCE_S)
    assert shared.array[:, 0].tolist() == [2, 2, 3]
    assert shared.version == 8


@METHODS
def test_queues_and_futures_hand_it_on(shared: SharedTensor, method: str) -> None:
    context: Any = multiprocessing.get_context(method)
    queue: Any = context.Queue()
    worker = context.Process(target=add_from, args=(queue,))
    worker.start()
    queue.put((shared, 1))
    worker.join(PATIENCE_S)
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        assert pool.submit(add, shared, 2).result() != os.getpid()
    assert shared.array[:, 0].tolist() == [0, 2, 3]


@pytest.mark.parametrize("backend", ["loky", "multiprocessing", "threading"])
def test_joblib_hands_it_on(shared: SharedTensor, backend: str) -> None:
    joblib = pytest.importorskip("joblib")
    joblib.Parallel(n_jobs=2, backend=backend)(joblib.delayed(add)(shared, row) for row in range(3))
    assert shared.array[:, 0].tolist() == [1, 2, 3]


def test_a_pickle_is_short_and_copies_nothing(client: PlasmaClient) -> None:
    with SharedTensor.zeros((1000, 1000), client=client, name="large") as shared:
        assert len(pickle.dumps(shared)) < 500
        other = again(shared)
        other.array[999, 999] = 1
        assert (shared.array[999, 999], other.name, client.stats()["objects"]) == (1, "large", 1)


def test_what_is_gone_says_so_when_it_is_used(client: PlasmaClient) -> None:
    with SharedTensor.zeros((2,), name="gone", client=client) as shared:
        pickled = pickle.dumps(shared)
    lost = pickle.loads(pickled)
    assert repr(lost) == f"SharedTensor(state='lost', name='gone', object_id={shared.id!r})"
    uses: List[Callable[[], Any]] = [
        lambda: lost.array, lambda: lost.shape, lambda: lost.version, lost.snapshot, lost.freeze, lost.holders,
        lambda: lost.lock().acquire(), lambda: pickle.dumps(lost), lambda: np.asarray(lost), lambda: np.from_dlpack(lost),
    ]  # fmt: skip
    for use in uses:
        with pytest.raises(plasma_store.PlasmaObjectNotFound, match=shared.id.hex()):
            use()
    with SharedTensor.zeros((3,), name="gone", client=client):
        with pytest.raises(ValueError, match=r"was float64 of shape \(2,\), and now is float64 of shape \(3,\)"):
            shape_of(pickle.loads(pickled))


def test_the_lock_is_for_one_at_a_time(shared: SharedTensor) -> None:
    def count() -> None:
        for _ in range(50):
            with shared.lock(PATIENCE_S):
                before = shared.array[0, 0]
                shared.array[0, 0] = before + 1

    threads = [threading.Thread(target=count) for _ in range(4)]
    pid = os.fork()
    if pid == 0:
        count()
        os._exit(0)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert os.waitpid(pid, 0)[1] == 0
    assert (shared.array[0, 0], shared.version) == (250, 500)


def test_who_waits_for_the_lock_gives_up(shared: SharedTensor, other: PlasmaClient) -> None:
    with shared.lock() as lock:
        assert not lock.owner_died
        assert shared.version == 1
        with pytest.raises(plasma_store.PlasmaBusy):
            shared.lock(0).acquire()
        second = SharedTensor.open(shared.id, client=other)
        with second, ThreadOfOne() as elsewhere:
            for timeout in (0, 0.02):
                with pytest.raises(plasma_store.PlasmaTimeout):
                    elsewhere.run(second.lock(timeout).acquire)
                with pytest.raises(plasma_store.PlasmaTimeout):
                    elsewhere.run(lambda: second.snapshot(0))
    assert shared.version == 2
    with pytest.raises(ValueError, match="was not taken by this"):
        lock.release()
    with shared.lock(0):
        pass


class ThreadOfOne:
    """Another thread, for what is asked of it."""

    def __enter__(self) -> ThreadOfOne:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def run(self, body: Callable[[], Any]) -> None:
        raised: List[BaseException] = []

        def caught() -> None:
            try:
                body()
            except BaseException as error:
                raised.append(error)

        thread = threading.Thread(target=caught)
        thread.start()
        thread.join()
        if raised:
            raise raised[0]


def test_interrupts_end_a_wait_for_the_lock(shared: SharedTensor, other: PlasmaClient) -> None:
    with SharedTensor.open(shared.id, client=other) as second, shared.lock():
        timer = threading.Timer(0.05, other.interrupt)
        timer.start()
        with pytest.raises(plasma_store.PlasmaInterrupted), second.lock():
            pytest.fail("two have the lock")
        timer.join()


WAITS_FOR_THE_LOCK = """
import sys, pickle, plasma_store
shared = pickle.loads(bytes.fromhex(sys.argv[1]))
try:
    print("waits", flush=True)
    shared.lock().acquire()
except KeyboardInterrupt:
    print("interrupted", shared.version)
"""


def test_ctrl_c_ends_a_wait_for_the_lock(shared: SharedTensor, child: Child) -> None:
    with shared.lock():
        process = child(WAITS_FOR_THE_LOCK, pickle.dumps(shared).hex())
        assert process.stdout is not None
        assert process.stdout.readline() == "waits\n"
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, output) == (0, "interrupted 1\n")


def test_ctrl_c_leaves_no_lock_behind(shared: SharedTensor, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(SharedLock):
        @property
        def owner_died(self) -> bool:
            return False

        @owner_died.setter
        def owner_died(self, _: bool) -> None:
            if shared.version % 2:
                raise KeyboardInterrupt

    lock = Interrupted(shared, None)
    with pytest.raises(KeyboardInterrupt):
        lock.acquire()
    assert shared.version == 2
    with shared.lock(0):
        with pytest.raises(plasma_store.PlasmaBusy):
            lock.acquire()
        assert shared.version == 3, "who was refused gives nothing back"


def test_who_comes_after_a_dead_owner_is_told(shared: SharedTensor, other: PlasmaClient) -> None:
    killed_with_the_lock(shared)
    assert shared.array[0, 0] == 1
    with pytest.raises(plasma_store.PlasmaCorrupt):
        shared.snapshot()
    with shared.lock(PATIENCE_S) as lock:
        assert lock.owner_died
        assert shared.version % 2 == 1
        shared.array[:] = 0
    with shared.lock(PATIENCE_S) as lock:
        assert not lock.owner_died
    assert shared.snapshot().sum() == 0


def test_an_error_in_the_block_gives_the_lock_back(shared: SharedTensor) -> None:
    with pytest.raises(ZeroDivisionError), shared.lock():
        raise ZeroDivisionError
    with shared.lock(0):
        pass


def test_a_snapshot_is_no_mixture(shared: SharedTensor) -> None:
    end = threading.Event()

    def write() -> None:
        number = 0.0
        while not end.is_set():
            number += 1
            with shared.lock():
                shared.array[:] = number

    writer = threading.Thread(target=write)
    writer.start()
    for _ in range(50):
        assert len(np.unique(shared.snapshot())) == 1
    end.set()
    writer.join()
    with shared.lock():
        shared.array[0] = -1
        assert shared.snapshot()[0, 0] == -1, "who has the lock copies what he has written"


def test_a_frozen_one_is_an_object_like_others(client: PlasmaClient, other: PlasmaClient) -> None:
    with SharedTensor.full((2,), 4, name="model", client=client) as shared:
        assert other.list()[shared.id]["state"] == "created"
        assert shared.freeze() == ObjectID.from_name("model")
        assert shared.state == "frozen"
        for use in (lambda: shared.array, shared.freeze, lambda: pickle.dumps(shared), shared.lock().acquire):
            with pytest.raises(ValueError, match="shared tensor 'model' was frozen"):
                use()
    tensor = other.get_tensor("model", timeout_ms=0)
    assert tensor.numpy().tolist() == [4, 4]
    assert not tensor.numpy().flags.writeable
    assert other.is_immutable(shared.id)
    with pytest.raises(plasma_store.PlasmaObjectAlreadySealed):
        SharedTensor.open("model", client=other, timeout=0)


def test_views_of_ones_own_keep_it_from_being_frozen(shared: SharedTensor) -> None:
    views: List[Callable[[], Any]] = [
        lambda: shared.array,
        lambda: shared.array[1:, 0],
        lambda: shared.data[3:4],
        lambda: np.asarray(shared).T,
        lambda: memoryview(shared.array),
        lambda: np.from_dlpack(shared),
        shared.__dlpack__,
    ]
    for make in views:
        view = make()
        with pytest.raises(BufferError):
            shared.freeze()
        shared.array[0, 0] += 1
        del view
    shared.freeze()


def test_others_keep_it_from_being_frozen_and_are_named(shared: SharedTensor, other: PlasmaClient) -> None:
    second = SharedTensor.open(shared.id, client=other)
    for timeout in (0, 0.02):
        with pytest.raises(plasma_store.PlasmaBusy, match=f"process {os.getpid()} ") as caught:
            shared.freeze(timeout)
        assert not isinstance(caught.value, BufferError)
    timer = threading.Timer(0.05, second.close)
    timer.start()
    shared.freeze(timeout=None)
    timer.join()


LARGE = (1 << 31) + 4096
WRITES_LAST = """
import sys, pickle
shared = pickle.loads(bytes.fromhex(sys.argv[1]))
assert shared.array[-1] == 7 and len(shared.array) > 1 << 31
with shared.lock(60):
    shared.array[-1] = 8
"""


def test_more_than_two_gibibytes(child: Child) -> None:
    with plasma_store.start_store(LARGE + (1 << 20)) as store, plasma_store.connect(store.socket_path) as client:
        shared = SharedTensor.zeros((LARGE,), "uint8", client=client)
        shared.array[-1] = 7
        process = child(WRITES_LAST, pickle.dumps(shared).hex())
        output, _ = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, output
        assert (shared.array[-1], shared.array[1 << 31], shared.nbytes) == (8, 0, LARGE)
        shared.freeze(timeout=PATIENCE_S)
        assert client.get_tensor(shared.id, 0).data[LARGE - 1] == 8


def test_a_copy_is_frozen_while_all_goes_on(shared: SharedTensor, client: PlasmaClient) -> None:
    array = shared.array
    array[:] = 2
    copy = shared.freeze(copy=True)
    array[:] = 3
    assert client.get_tensor(copy, 0).numpy().tolist() == np.full((3, 4), 2.0).tolist()
    with SharedTensor.from_array(np.asfortranarray(array), client=client) as columns:
        assert client.get_tensor(columns.freeze(copy=True), 0).numpy().sum() == 36
    with shared.lock(), ThreadOfOne() as elsewhere, pytest.raises(plasma_store.PlasmaTimeout):
        elsewhere.run(lambda: shared.freeze(copy=True))


def test_it_lives_as_long_as_somebody_has_it(client: PlasmaClient, other: PlasmaClient) -> None:
    with SharedTensor.zeros((2,), name="held", client=client) as shared:
        second = SharedTensor.open("held", client=other)
        assert len(shared.holders()) == 2
        assert all(f"process {os.getpid()}" in holder for holder in shared.holders())
    assert len(second.holders()) == 1
    array = second.array
    second.close()
    second.close()
    with pytest.raises(ValueError, match="was closed"):
        second.holders()
    array[:] = 1
    assert client.list() != {}, "an array keeps it"
    del array
    assert client.list() == {}


def test_a_kept_one_lives_until_it_is_deleted(client: PlasmaClient, other: PlasmaClient) -> None:
    SharedTensor.full((2,), 9, name="kept", client=client, keep=True).close()
    with SharedTensor.open("kept", client=other, timeout=0) as shared:
        assert shared.array.tolist() == [9, 9]
        shared.unlink()
        shared.array[0] = 8
        with pytest.raises(plasma_store.PlasmaObjectNotFound):
            SharedTensor.open("kept", client=client, timeout=0)
    assert client.list() == {}


def test_killed_holders_are_none(shared: SharedTensor) -> None:
    started, die = multiprocessing.Pipe(), multiprocessing.Pipe()
    pid = os.fork()
    if pid == 0:
        shared.array[0] = 1
        started[1].send(None)
        die[0].recv()
        os._exit(1)
    started[0].recv()
    assert len(shared.holders()) == 2
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    until(lambda: len(shared.holders()) == 1)
    shared.freeze(PATIENCE_S)


def test_a_forked_child_joins_by_itself(shared: SharedTensor) -> None:
    array = shared.array

    def child() -> None:
        array[0] = 1
        assert len(shared.holders()) == 2
        with shared.lock(PATIENCE_S):
            shared.array[1] = 2
        assert again(shared).array[:, 0].tolist() == [1, 2, 0]
        shared.close()

    in_fork(child)
    assert shared.array[:, 0].tolist() == [1, 2, 0]
    with shared.lock():
        in_fork(lambda: None)
        assert shared.version == 3, "the end of a child gives no lock of its parent's back"


def test_a_child_that_leaves_its_parents_block_unlocks_nothing(shared: SharedTensor) -> None:
    def child() -> None:
        lock.__exit__(None, None, None)

    with shared.lock() as lock:
        in_fork(child)
        assert shared.version == 1


def test_it_outlives_its_client(store: Store) -> None:
    with plasma_store.connect(store.socket_path) as client:
        shared = SharedTensor.zeros((2,), client=client)
    with shared, shared.lock(0):
        shared.array[:] = 1
        assert len(shared.holders()) == 1
        assert again(shared).array.tolist() == [1, 1]


def test_what_is_forgotten_says_so(client: PlasmaClient) -> None:
    def forgets() -> None:
        SharedTensor.zeros((2,), name="forgotten", client=client)

    def ends() -> None:
        with SharedTensor.zeros((2,), client=client) as shared:
            again(shared)
        SharedTensor.zeros((2,), client=client).freeze()

    [text] = warned(forgets)
    assert text.startswith("forgotten: SharedTensor(shape=(2,), dtype='float64', state='open', name='forgotten'")
    assert text.endswith("close it, or use it in a `with` block")
    assert warned(ends) == []


def test_without_a_client_there_is_a_store_of_this_process() -> None:
    with SharedTensor.zeros((2,), name="mine") as shared, SharedTensor.open("mine", timeout=0) as second:
        second.array[:] = 1
        assert shared.array.tolist() == [1, 1]
        client = default_store.default_client()
        assert client is default_store.default_client()
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            pool.apply(add, (shared, 1))
        assert shared.array.tolist() == [1, 3]

        def child() -> None:
            shared.array[0] = 5
            with pytest.raises(plasma_store.PlasmaObjectNotFound):
                SharedTensor.open("mine", timeout=0)
            default_store._end()

        in_fork(child)
        assert shared.array.tolist() == [5, 3]


ENDS = """
import os, plasma_store
from plasma_store import SharedTensor, default_store
shared = SharedTensor.zeros((2,))
shared.array[:] = 1
print(default_store.default_client().store_socket_name)
"""


def test_the_store_of_a_process_ends_with_it(child: Child) -> None:
    process = child(ENDS)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, output
    assert "Traceback" not in output
    assert not os.path.exists(output.splitlines()[0])


def makes_one(pipe: Any) -> None:
    """A worker that has a store of its own."""
    shared = SharedTensor.zeros((2,))
    shared.array[:] = 1
    pipe.send(default_store.default_client().store_socket_name)


@METHODS
def test_the_store_of_a_worker_ends_with_it(method: str) -> None:
    context: Any = multiprocessing.get_context(method)
    ours, workers = context.Pipe()
    worker = context.Process(target=makes_one, args=(workers,))
    worker.start()
    socket = ours.recv()
    worker.join(PATIENCE_S)
    assert not os.path.exists(socket)


LEAVES_A_CHILD = """
import {first}, {second}
import atexit, multiprocessing, time, plasma_store
from plasma_store import SharedTensor
def work(shared, pipe):
    pipe.recv()
    time.sleep(0.2)
    print("holders", len(shared.holders()), flush=True)
if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    shared = SharedTensor.zeros((2,))
    ours, its = context.Pipe()
    context.Process(target=work, args=(shared, its)).start()
    atexit.register(ours.send, None)
"""


@pytest.mark.parametrize("modules", [("multiprocessing.util", "plasma_store"), ("plasma_store", "multiprocessing.util")])
def test_the_store_of_a_process_outlives_its_children(child: Child, modules: Any) -> None:
    process = child(LEAVES_A_CHILD.format(first=modules[0], second=modules[1]))
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, output) == (0, "holders 2\n")


def test_the_end_of_the_store_is_told(client: PlasmaClient, store: Store) -> None:
    with SharedTensor.zeros((2,), client=client) as shared:
        store.close()
        shared.array[:] = 1
        with shared.lock(0):
            pass
        with pytest.raises(ConnectionError):
            shared.freeze()
