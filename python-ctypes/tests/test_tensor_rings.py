"""Tensor rings: slots that are filled and read in place, ends that come by themselves, who waits, who dies, who comes too late."""

from __future__ import annotations

import asyncio
import faulthandler
import multiprocessing
import os
import pickle
import select
import signal
import subprocess
import threading
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Callable, Coroutine, Iterator, List, TypeVar

import pytest

import plasma_store
from conftest import in_fork, until
from plasma_store import PlasmaClient, Store, TensorRing
from test_forgotten import warned

np = pytest.importorskip("numpy")

Child = Callable[..., "subprocess.Popen[str]"]
METHODS = pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
PATIENCE_S = 60
T = TypeVar("T")


def again(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


def run(main: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine, for a minute at most."""
    return asyncio.run(asyncio.wait_for(main, PATIENCE_S))


def produce(ring: TensorRing, first: int, count: int) -> None:
    """What a worker fills."""
    for number in range(first, first + count):
        with ring.acquire() as slot:
            slot.array[:] = number


def produce_all(ring: TensorRing, count: int) -> None:
    """What a worker does who is the only one."""
    produce(ring, 0, count)
    ring.close()


def consume(ring: TensorRing) -> List[int]:
    """What a worker reads, until the ring is closed."""
    return [int(array[0]) for array in ring]


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL


def forked(body: Callable[[], Any]) -> int:
    """A process that does something, says so, and then waits to be killed."""
    done, says = os.pipe()
    pid = os.fork()
    if pid == 0:
        kept = body()
        os.write(says, b"x")
        signal.pause()
        os._exit(len(str(kept)))
    assert os.read(done, 1) == b"x"
    os.close(done)
    os.close(says)
    return pid


@pytest.fixture
def ring(client: PlasmaClient) -> Iterator[TensorRing]:
    """A ring of four slots of three numbers."""
    with TensorRing(4, (3,), "int64", client=client) as ring:
        yield ring


@pytest.fixture
def other(store: Store) -> Iterator[PlasmaClient]:
    """A client as another process has one."""
    with plasma_store.connect(store.socket_path) as other:
        yield other


def test_messages_come_in_their_order_and_lie_in_the_ring(ring: TensorRing) -> None:
    for number in range(3):
        with ring.acquire() as slot:
            assert (slot.shape, slot.dtype, slot.array.flags.writeable) == ((3,), "int64", True)
            slot.array[:] = number
    assert ring.counts() == (1, 3)
    for number in range(3):
        with ring.take() as message:
            assert (message.shape, message.dtype, message.array.flags.writeable) == ((3,), "int64", False)
            assert message.array.tolist() == np.asarray(message).tolist() == [number] * 3
            assert bytes(message.data) == np.full(3, number, "int64").tobytes()
    assert ring.counts() == (4, 0)


def test_messages_of_any_kind(client: PlasmaClient) -> None:
    with TensorRing(2, slot_bytes=64, client=client) as ring:
        assert (ring.shape, ring.dtype) == (None, None)
        with ring.acquire() as slot:
            assert (slot.shape, slot.dtype) == ((64,), "uint8")
            slot.layout((2, 3), "float32")
            slot.array[:] = 7
        ring.put(np.arange(4, dtype="int16"))
        with ring.take() as message:
            assert (message.shape, message.dtype, message.array.sum()) == ((2, 3), "float32", 42)
        assert ring.get().tolist() == [0, 1, 2, 3]
        slot = ring.acquire()
        with pytest.raises(ValueError, match=r"float64 of shape \(9,\) is no part of a slot of 64 bytes"):
            slot.layout((9,), "float64")
        slot.layout((1,) * 40, "int8")
        with pytest.raises(ValueError, match="ndim 40"):
            slot.publish()
        slot.layout((), "complex128")
        with pytest.raises(BufferError, match="export `array`"):
            np.from_dlpack(slot)
        slot.publish()
        assert ring.take().array.shape == ()
        with pytest.raises(ValueError, match="shape of its own"):
            ring.take_many(1)


def test_what_no_ring_can_be(client: PlasmaClient) -> None:
    wrong: List[Any] = [
        ({"slots": 0, "shape": (1,)}, "slots|0"),
        ({"slots": -1, "shape": (1,)}, "slots is -1"),
        ({"slots": 1 << 16, "shape": (1,)}, "65536"),
        ({"slots": 2}, "a shape and a dtype, or slot_bytes"),
        ({"slots": 2, "shape": (1,), "slot_bytes": 8}, "a shape and a dtype, or slot_bytes"),
        ({"slots": 2, "shape": (-1,)}, "negative"),
        ({"slots": 2, "shape": (1,), "when_full": "panic"}, "'panic'"),
        ({"slots": 2, "shape": (1,), "when_full": -0.5}, "-0.5"),
        ({"slots": 2, "shape": (1,), "when_reader_dies": "weep"}, "'weep'"),
        ({"slots": 2, "slot_bytes": 8, "dtype": "int8"}, "dtype is 'int8', but with slot_bytes each message has its own"),
    ]
    for given, reason in wrong:
        with pytest.raises(ValueError, match=reason):
            TensorRing(**given, client=client)
    strange: List[Any] = [
        ({"slots": "2", "shape": (1,)}, "slots is '2', which is no number"),
        ({"slots": 2, "shape": (1, 2.5)}, r"shape is \(1, 2.5\), which is neither a whole number nor some of them"),
        ({"slots": 2, "shape": (1,), "dtype": "text"}, "dtype 'text' cannot be stored"),
        ({"slots": 2, "shape": (1,), "name": 7}, "an ObjectID or a name is needed, not 7"),
    ]
    for given, reason in strange:
        with pytest.raises(TypeError, match=reason):
            TensorRing(**given, client=client)
    with pytest.raises(TypeError, match="client is 'mine', which is no PlasmaClient"):
        TensorRing(2, 1, client="mine")  # type: ignore[arg-type]
    with pytest.raises(plasma_store.PlasmaStoreFull):
        TensorRing(1000, (1 << 20,), client=client)
    assert client.list() == {}


def test_an_error_in_the_block_abandons_the_slot(ring: TensorRing) -> None:
    with pytest.raises(ZeroDivisionError), ring.acquire() as slot:
        array = slot.array
        array[:] = 1 // 0
    del array
    assert ring.counts()[1] == 0
    with ring.acquire() as slot:
        slot.abandon()
    with ring.acquire(0) as slot:
        slot.publish()
    assert ring.counts() == (3, 1)


def test_use_after_release_is_an_error(ring: TensorRing) -> None:
    slot = ring.acquire()
    assert repr(slot) == f"RingSlot(shape=(3,), dtype='int64', state='acquired', ring='tensor ring {ring.id.hex()}')"
    slot.publish()
    message = ring.take()
    assert "state='taken'" in repr(message)
    message.release()
    assert repr(message).startswith("RingMessage(state='given back', ring='tensor ring ")
    for use in (slot.publish, slot.abandon, lambda: slot.array, message.release, lambda: message.array, message.__dlpack__):
        with pytest.raises(ValueError, match="was given back"):
            use()


def test_views_keep_a_slot_from_being_given_back(ring: TensorRing) -> None:
    views: List[Callable[[Any], Any]] = [
        lambda slot: slot.array,
        lambda slot: slot.array[1:],
        lambda slot: slot.data[1:2],
        lambda slot: memoryview(slot.array),
        lambda slot: np.from_dlpack(slot),
        lambda slot: slot.__dlpack__(),
    ]
    for make in views:
        slot = ring.acquire()
        view = make(slot)
        for end in (slot.publish, slot.abandon):
            with pytest.raises(BufferError):
                end()
        del view
        slot.publish()
        message = ring.take()
        view = make(message)
        with pytest.raises(BufferError):
            message.release()
        with pytest.raises(BufferError), message:
            pass
        del view
        message.release()
    assert ring.counts() == (4, 0)


def test_dlpack_knows_who_may_write(ring: TensorRing) -> None:
    with ring.acquire() as slot:
        np.from_dlpack(slot)[:] = 5
    with ring.take() as message:
        assert not np.from_dlpack(message).flags.writeable
        assert np.from_dlpack(message, copy=True).flags.writeable
        assert np.from_dlpack(message).tolist() == [5, 5, 5]


def test_what_is_forgotten_is_given_back_with_its_last_view(ring: TensorRing) -> None:
    ring.acquire()
    assert ring.counts() == (4, 0)
    ring.put(np.arange(3))
    array = ring.take().array
    assert ring.counts() == (3, 0)
    assert array.tolist() == [0, 1, 2]
    del array
    with pytest.raises(plasma_store.PlasmaTimeout):
        ring.take(0)
    assert ring.counts() == (4, 0)


def test_a_loop_ends_by_itself_and_releases(ring: TensorRing) -> None:
    threads = [threading.Thread(target=produce, args=(ring, first, 50)) for first in (0, 100)]
    for thread in threads:
        thread.start()
    seen = []
    for array in ring:
        seen.append(int(array[0]))
        if len(seen) == 100:
            ring.close()
    for thread in threads:
        thread.join()
    assert sorted(seen) == [*range(50), *range(100, 150)]
    assert [number for number in seen if number < 100] == [*range(50)]
    assert ring.counts()[0] == 4
    assert list(ring) == []


def test_a_loop_keeps_what_somebody_still_looks_at(ring: TensorRing) -> None:
    ring.publish_many(np.arange(12).reshape(4, 3))
    kept: List[Any] = []
    for array in ring:
        kept.append(array)
        assert ring.counts()[0] == 0
        if len(kept) == 4:
            break
    del array
    assert [array.tolist() for array in kept] == np.arange(12).reshape(4, 3).tolist()
    with pytest.raises(plasma_store.PlasmaBusy):
        ring.take()
    kept.clear()
    with pytest.raises(plasma_store.PlasmaTimeout):
        ring.take(0)
    assert ring.counts() == (4, 0)


def test_a_loop_of_a_ring_of_one_slot(client: PlasmaClient, other: PlasmaClient) -> None:
    with TensorRing(1, (3,), "int64", client=client) as ring, TensorRing.open(ring.id, client=other) as second:
        thread = threading.Thread(target=produce_all, args=(second, 20))
        thread.start()
        assert consume(ring) == [*range(20)]
        thread.join()


def test_when_a_ring_is_full(client: PlasmaClient) -> None:
    with TensorRing(2, (1,), "int8", client=client, when_full="fail") as failing:
        for number in range(2):
            failing.put(np.int8([number]))
        with pytest.raises(plasma_store.PlasmaTimeout):
            failing.put(np.int8([2]))
        with pytest.raises(plasma_store.PlasmaTimeout):
            failing.acquire()
    with TensorRing(2, (1,), "int8", client=client, when_full=0.01) as patient:
        assert patient.publish_many(np.zeros((3, 1), "int8")) == 2
        with pytest.raises(plasma_store.PlasmaTimeout):
            patient.acquire()
    with TensorRing(2, (1,), "int8", client=client, when_full="drop-oldest") as dropping:
        for number in range(5):
            dropping.put(np.int8([number]))
        assert [dropping.get(0)[0], dropping.get(0)[0]] == [3, 4]
    with TensorRing(2, (1,), "int8", client=client) as waiting:
        with pytest.raises(plasma_store.PlasmaTimeout):
            waiting.take(0.01)
        waiting.publish_many(np.zeros((2, 1), "int8"))
        with pytest.raises(plasma_store.PlasmaTimeout):
            waiting.acquire(0.01)


def test_who_has_all_slots_does_not_wait_for_ever(ring: TensorRing) -> None:
    slots = [ring.acquire() for _ in range(4)]
    with pytest.raises(plasma_store.PlasmaBusy):
        ring.acquire()
    for slot in slots:
        slot.publish()
    messages = [ring.take() for _ in range(4)]
    with pytest.raises(plasma_store.PlasmaBusy):
        ring.take()
    for message in messages:
        message.release()


def test_puts_of_what_does_not_fit(ring: TensorRing) -> None:
    ring.put(np.array([1, 2, 3]))
    ring.put(np.arange(6)[::2])
    assert [ring.get().tolist() for _ in range(2)] == [[1, 2, 3], [0, 2, 4]]
    for wrong in (np.zeros(4, "int64"), np.zeros(3), np.zeros((3, 1), "int64")):
        with pytest.raises((ValueError, TypeError)):
            ring.put(wrong)
    with pytest.raises(TypeError, match="neither __dlpack__ nor"):
        ring.put("text")
    assert ring.counts() == (4, 0)


def test_many_at_once(ring: TensorRing) -> None:
    rows = np.arange(300).reshape(100, 3)

    def publish() -> None:
        ring.publish_many(rows)
        ring.close()

    thread = threading.Thread(target=publish)
    thread.start()
    taken = [ring.take_many(7)]
    with pytest.raises(plasma_store.PlasmaClosed):
        while True:
            taken.append(ring.take_many(7))
            assert 1 <= len(taken[-1]) <= 7
    thread.join()
    np.testing.assert_array_equal(np.concatenate(taken), rows)
    with pytest.raises(plasma_store.PlasmaClosed):
        ring.publish_many(rows)


def test_many_are_written_where_one_says(ring: TensorRing) -> None:
    out = np.zeros((5, 3), "int64")
    assert ring.publish_many([[1, 2, 3], [4, 5, 6]]) == 2
    assert ring.publish_many(np.zeros((0, 3), "int64")) == 0
    taken = ring.take_many(5, out)
    assert taken.tolist() == out[:2].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert np.shares_memory(taken, out)
    for wrong in (np.zeros((1, 3), "int64"), np.zeros((5, 3)), np.zeros((5, 2), "int64"), np.zeros((10, 3), "int64")[::2]):
        with pytest.raises(ValueError, match="out is"):
            ring.take_many(5, wrong)
    with pytest.raises(TypeError, match="out is a list"):
        ring.take_many(5, [0] * 5)
    with pytest.raises(ValueError, match="most is 0"):
        ring.take_many(0)
    with pytest.raises(ValueError, match="has no rows of that"):
        ring.publish_many(np.zeros((2, 4), "int64"))
    with pytest.raises(plasma_store.PlasmaTimeout):
        ring.take_many(5, timeout=0)


def test_elements_that_share_bytes(client: PlasmaClient) -> None:
    with TensorRing(2, (3,), "uint4", client=client) as ring:
        with ring.acquire() as slot:
            slot.array[:] = [0x21, 0x03]
        assert ring.get().tolist() == [0x21, 0x03]
        for call in (lambda: ring.publish_many(np.zeros((1, 3), "uint8")), lambda: ring.take_many(1)):
            with pytest.raises(TypeError, match="uint4 share bytes"):
                call()


def test_every_reader_sees_every_message(client: PlasmaClient, other: PlasmaClient) -> None:
    with TensorRing(4, (3,), "int64", client=client, broadcast=True, name="all") as ring:
        with TensorRing.open("all", client=other) as second:
            for reader in (ring, second):
                with pytest.raises(plasma_store.PlasmaTimeout):
                    reader.take(0)
            produce(ring, 0, 3)
            ring.close()
            assert consume(ring) == consume(second) == [0, 1, 2]


def tell_all(ring: TensorRing, pipe: Any) -> None:
    """What a worker reads who is there before the first message."""
    with pytest.raises(plasma_store.PlasmaTimeout):
        ring.take(0)
    pipe.send("ready")
    pipe.send(consume(ring))


@METHODS
def test_every_process_sees_every_message(client: PlasmaClient, method: str) -> None:
    context: Any = multiprocessing.get_context(method)
    with TensorRing(4, (3,), "int64", client=client, broadcast=True) as ring:
        pipes = [context.Pipe() for _ in range(2)]
        workers = [context.Process(target=tell_all, args=(ring, its)) for _, its in pipes]
        for worker in workers:
            worker.start()
        for ours, _ in pipes:
            assert ours.recv() == "ready"
        produce_all(ring, 50)
        assert [ours.recv() for ours, _ in pipes] == [[*range(50)]] * 2
        for worker in workers:
            worker.join(PATIENCE_S)


def test_the_end_comes_to_all_who_wait(client: PlasmaClient, other: PlasmaClient) -> None:
    for end, error in (("close", plasma_store.PlasmaClosed), ("abort", plasma_store.PlasmaAborted)):
        with TensorRing(2, (3,), "int64", client=client, name=end) as ring, TensorRing.open(end, client=other) as second:
            raised: List[BaseException] = []

            def ends(call: Callable[[], Any], raised: List[BaseException] = raised) -> None:
                try:
                    call()
                except plasma_store.PlasmaError as caught:
                    raised.append(caught)

            threads = [threading.Thread(target=ends, args=(one.take,)) for one in (ring, second)]
            for thread in threads:
                thread.start()
            getattr(second, end)()
            for thread in threads:
                thread.join(PATIENCE_S)
            assert [type(caught) for caught in raised] == [error, error]
            with pytest.raises(error):
                ring.acquire()
            with pytest.raises(error):
                ring.take()
    assert issubclass(plasma_store.PlasmaClosed, EOFError)


def test_who_waits_for_a_slot_is_woken_by_the_end(ring: TensorRing, other: PlasmaClient) -> None:
    ring.publish_many(np.zeros((4, 3), "int64"))
    with TensorRing.open(ring.id, client=other) as second:
        timer = threading.Timer(0.05, ring.close)
        timer.start()
        with pytest.raises(plasma_store.PlasmaClosed):
            second.acquire()
        timer.join()
        assert len(consume(second)) == 4


@METHODS
def test_processes_of_multiprocessing(client: PlasmaClient, method: str) -> None:
    context: Any = multiprocessing.get_context(method)
    with TensorRing(4, (3,), "int64", client=client) as ring:
        producers = [context.Process(target=produce, args=(ring, first, 30)) for first in (0, 30, 60)]
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            consumers = [pool.submit(consume, ring) for _ in range(2)]
            for producer in producers:
                producer.start()
            for producer in producers:
                producer.join(PATIENCE_S)
            ring.close()
            seen = [consumer.result(PATIENCE_S) for consumer in consumers]
        assert sorted(seen[0] + seen[1]) == [*range(90)]


def test_joblib_hands_it_on(ring: TensorRing) -> None:
    joblib = pytest.importorskip("joblib")
    thread = threading.Thread(target=produce_all, args=(ring, 40))
    thread.start()
    seen = joblib.Parallel(n_jobs=2, backend="loky")(joblib.delayed(consume)(ring) for _ in range(2))
    thread.join()
    assert sorted(seen[0] + seen[1]) == [*range(40)]


def test_a_forked_child_takes_part_by_itself(ring: TensorRing) -> None:
    produce(ring, 0, 2)
    taken, slot = ring.take(), ring.acquire()

    def child() -> None:
        assert len(ring.holders()) == 2
        assert consume(ring) == [1, 7]
        assert again(ring).shape == (3,)
        ring.leave()

    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            child()
            status = 0
        finally:
            os._exit(status)
    produce(ring, 7, 1)
    ring.close()
    assert os.waitpid(pid, 0)[1] == 0
    assert taken.array[0] == 0
    taken.release()
    slot.abandon()
    assert ring.counts()[0] == 4


def test_a_child_gives_nothing_of_its_parents_back(ring: TensorRing) -> None:
    produce(ring, 5, 1)
    held: List[Any] = [ring.take(), ring.acquire()]

    def child() -> None:
        held.clear()
        assert ring.counts() == (2, 0)

    in_fork(child)
    assert ring.counts() == (2, 0)
    assert held[0].array[0] == 5
    in_fork(lambda: held[0].__exit__(None, None, None))
    held[0].release()
    held.clear()
    assert ring.counts() == (4, 0)


TAKES_LAST = """
import sys, pickle
ring = pickle.loads(bytes.fromhex(sys.argv[1]))
print(*[array[-1] for array in ring])
"""


def test_more_than_two_gibibytes(child: Child) -> None:
    slot_bytes = 3 << 28
    with plasma_store.start_store(3 * slot_bytes + (1 << 20)) as store, plasma_store.connect(store.socket_path) as client:
        with TensorRing(3, (slot_bytes,), "uint8", client=client) as ring:
            for number in range(3):
                with ring.acquire() as slot:
                    slot.array[-1] = number
            ring.close()
            process = child(TAKES_LAST, pickle.dumps(ring).hex())
            assert process.communicate(timeout=PATIENCE_S)[0] == "0 1 2\n"


@pytest.mark.parametrize("when", ["again", "drop"])
def test_what_dead_readers_had(client: PlasmaClient, when: Any) -> None:
    with TensorRing(4, (3,), "int64", client=client, when_reader_dies=when) as ring:
        produce(ring, 0, 3)
        kill(forked(ring.take))
        expected = [0, 1, 2] if when == "again" else [1, 2]
        assert sorted(int(ring.get(PATIENCE_S)[0]) for _ in expected) == expected
        until(lambda: is_empty(ring))


def is_empty(ring: TensorRing) -> bool:
    """Whether nobody has any of the slots; there is no message."""
    with pytest.raises(plasma_store.PlasmaTimeout):
        ring.take(0)
    return ring.counts() == (4, 0)


def test_what_dead_writers_had_is_free(ring: TensorRing) -> None:
    pids = [forked(ring.acquire) for _ in range(2)]
    produce(ring, 0, 2)
    for pid in pids:
        kill(pid)
    produce(ring, 2, 2)
    ring.close()
    assert consume(ring) == [0, 1, 2, 3]


def test_a_process_that_dies_while_it_waits_is_missed_by_nobody(ring: TensorRing) -> None:
    pid = os.fork()
    if pid == 0:
        ring.take()
        os._exit(1)
    until(lambda: len(ring.holders()) == 2)
    kill(pid)
    produce(ring, 0, 1)
    assert ring.get(PATIENCE_S)[0] == 0


WAITS = """
import sys, pickle, plasma_store
ring = pickle.loads(bytes.fromhex(sys.argv[1]))
try:
    print("waits", flush=True)
    for array in ring:
        print(array[0], flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_ctrl_c_ends_a_wait(ring: TensorRing, child: Child) -> None:
    process = child(WAITS, pickle.dumps(ring).hex())
    assert process.stdout is not None
    assert process.stdout.readline() == "waits\n"
    produce(ring, 3, 1)
    assert process.stdout.readline() == "3\n"
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, output) == (0, "interrupted\n")
    produce(ring, 0, 4)


def test_ctrl_c_leaves_no_slot_behind(ring: TensorRing, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    produce(ring, 0, 1)
    for kind, call in (("RingSlot", ring.acquire), ("RingMessage", ring.take)):
        monkeypatch.setattr(f"plasma_store.tensor_ring.{kind}", interrupted)
        with pytest.raises(KeyboardInterrupt):
            call()
    monkeypatch.undo()
    assert ring.counts() == (4, 0)


def test_interrupts_end_a_wait(ring: TensorRing, client: PlasmaClient) -> None:
    timer = threading.Timer(0.05, client.interrupt)
    timer.start()
    with pytest.raises(plasma_store.PlasmaInterrupted):
        ring.take()
    timer.join()


def test_other_signals_end_no_wait(ring: TensorRing) -> None:
    caught: List[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: caught.append(number))
    timers = [threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGUSR1)), threading.Timer(0.1, produce, (ring, 1, 1))]
    try:
        for timer in timers:
            timer.start()
        assert ring.get()[0] == 1
        assert caught == [signal.SIGUSR1]
    finally:
        for timer in timers:
            timer.join()
        signal.signal(signal.SIGUSR1, before)


async def read(ring: TensorRing) -> List[int]:
    return [int(array[0]) async for array in ring]


async def read_one(ring: TensorRing) -> int:
    with await ring.take_async() as message:
        return int(message.array[0])


async def write(ring: TensorRing, count: int) -> None:
    for number in range(count):
        with await ring.acquire_async() as slot:
            slot.array[:] = number


def test_messages_are_awaited(ring: TensorRing) -> None:
    async def main() -> None:
        readers = [asyncio.create_task(read(ring)) for _ in range(2)]
        ones = [asyncio.create_task(read_one(ring)) for _ in range(2)]
        await asyncio.sleep(0.01)
        await write(ring, 20)
        seen = [await one for one in ones]
        ring.close()
        for reader in readers:
            seen += await reader
        assert sorted(seen) == [*range(20)]

    run(main())
    assert ring.counts()[0] == 4


def test_awaits_end_by_time_cancellation_and_abort(ring: TensorRing) -> None:
    async def main() -> None:
        with pytest.raises(plasma_store.PlasmaTimeout):
            await ring.take_async(0.01)
        waiting = asyncio.create_task(ring.take_async())
        await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        ring.publish_many(np.zeros((4, 3), "int64"))
        with pytest.raises(plasma_store.PlasmaTimeout):
            await ring.acquire_async(0.01)
        acquiring = asyncio.create_task(ring.acquire_async())
        await asyncio.sleep(0.01)
        acquiring.cancel()
        with pytest.raises(asyncio.CancelledError):
            await acquiring
        assert len(ring.take_many(4)) == 4
        waiting = asyncio.create_task(ring.take_async())
        await asyncio.sleep(0.01)
        ring.abort()
        with pytest.raises(plasma_store.PlasmaAborted):
            await waiting

    run(main())


def test_who_opened_a_ring_awaits_as_it_was_made_to(client: PlasmaClient, other: PlasmaClient) -> None:
    async def full(ring: TensorRing) -> None:
        slots = [await ring.acquire_async() for _ in range(2)]
        with pytest.raises(plasma_store.PlasmaTimeout):
            await ring.acquire_async()
        assert len(slots) == 2

    async def cancelled(ring: TensorRing) -> None:
        slots = [ring.acquire(), ring.acquire()]
        acquiring = asyncio.create_task(ring.acquire_async())
        await asyncio.sleep(0.01)
        acquiring.cancel()
        with pytest.raises(asyncio.CancelledError):
            await acquiring
        assert len(slots) == 2

    # The end of a loop waits for its threads, so one that nothing ends would be noticed.
    for when_full, play in ((0.01, full), ("fail", full), ("wait", cancelled)):
        with TensorRing(2, (3,), client=client, when_full=when_full) as ring:  # type: ignore[arg-type]
            with TensorRing.open(ring.id, client=other) as opened:
                run(play(opened))


def test_the_descriptor_tells_of_messages(ring: TensorRing, other: PlasmaClient) -> None:
    with pytest.raises(plasma_store.PlasmaTimeout):
        ring.take(0)
    assert select.select([ring], [], [], 0)[0] == []
    with TensorRing.open(ring.id, client=other) as second:
        produce(second, 0, 1)
    assert select.select([ring], [], [], PATIENCE_S)[0] == [ring]
    assert ring.get(0)[0] == 0
    ring.close()
    assert select.select([ring], [], [], PATIENCE_S)[0] == [ring]
    with pytest.raises(plasma_store.PlasmaClosed):
        ring.take(0)


def test_it_lives_as_long_as_somebody_takes_part(client: PlasmaClient, other: PlasmaClient) -> None:
    with TensorRing(2, (3,), "int64", name="numbers", client=client) as ring:
        assert client.list()[ring.id]["state"] == "created"
        second = TensorRing.open("numbers", client=other, timeout=0)
        assert (second.name, second.shape, second.dtype) == ("numbers", (3,), "int64")
        ring.put(np.arange(3))
    assert second.get().tolist() == [0, 1, 2]
    second.leave()
    second.leave()
    assert client.list() == {}
    for use in (second.take, second.counts, second.close, lambda: pickle.dumps(second)):
        with pytest.raises(ValueError, match="tensor ring 'numbers' was left"):
            use()
    with pytest.raises(plasma_store.PlasmaObjectNotFound, match="tensor ring 'numbers'"):
        TensorRing.open("numbers", client=client, timeout=0)
    with TensorRing(2, 3, "int64", name="numbers", client=client, keep=True) as kept:
        kept.put(np.arange(3))
    with TensorRing.open("numbers", client=other, timeout=0) as ring:
        assert ring.get(0).tolist() == [0, 1, 2]
        ring.unlink()
    assert client.list() == {}


def test_slots_outlive_the_block_that_has_the_ring(client: PlasmaClient) -> None:
    with TensorRing(2, (3,), "int64", client=client) as ring:
        ring.put(np.arange(3))
        array = ring.take().array
    assert array.tolist() == [0, 1, 2]
    del array
    assert client.list() == {}


def test_what_is_gone_says_so_when_it_is_used(client: PlasmaClient) -> None:
    with TensorRing(2, (3,), "int64", name="gone", client=client) as ring:
        pickled = pickle.dumps(ring)
        assert len(pickled) < 500
        assert repr(ring) == f"TensorRing(shape=(3,), dtype='int64', state='open', name='gone', object_id={ring.id!r})"
    lost = pickle.loads(pickled)
    assert repr(lost) == f"TensorRing(state='lost', name='gone', object_id={ring.id!r})"
    for use in (lost.take, lost.acquire, lost.counts, lambda: lost.shape, lambda: next(iter(lost)), lost.fileno):
        with pytest.raises(plasma_store.PlasmaObjectNotFound):
            use()


def test_what_is_forgotten_says_so(client: PlasmaClient) -> None:
    def forgets() -> None:
        TensorRing(2, (3,), client=client, name="forgotten")

    def ends() -> None:
        with TensorRing(2, (3,), client=client) as ring:
            again(ring)

    [text] = warned(forgets)
    assert text.startswith("forgotten: TensorRing(shape=(3,), dtype='float64', state='open', name='forgotten'")
    assert text.endswith("leave it, or use it in a `with` block")
    assert warned(ends) == []
    assert client.list() == {}


def test_without_a_client_there_is_a_store_of_this_process() -> None:
    with TensorRing(2, (3,), "int64") as ring, multiprocessing.get_context("spawn").Pool(1) as pool:
        reading = pool.apply_async(consume, (ring,))
        produce(ring, 0, 10)
        ring.close()
        assert reading.get(PATIENCE_S) == [*range(10)]


def test_a_guarded_ring_kills_who_touches_what_is_not_his(client: PlasmaClient) -> None:
    with TensorRing(2, (3,), "int64", client=client, guard=True) as ring:
        produce(ring, 4, 1)
        assert ring.get()[0] == 4
        message = None
        produce(ring, 5, 1)
        pid = os.fork()
        if pid == 0:
            faulthandler.disable()
            message = ring.take()
            memory = message._memory
            message.release()
            os._exit(memory.view()[0])
        assert message is None
        assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGSEGV


def test_the_end_of_the_store_is_told(ring: TensorRing, store: Store) -> None:
    timer = threading.Timer(0.05, store.close)
    timer.start()
    with pytest.raises(ConnectionError):
        ring.take()
    timer.join()
