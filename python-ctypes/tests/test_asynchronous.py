"""Awaited gets: what they return, how many there may be, what ends them, and what they leave."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import select
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Awaitable, Callable, Coroutine, Iterator, List, TypeVar

import pytest

import plasma_store
from conftest import ROOT, put, until
from plasma_store import ObjectID, ObjectNotAvailable, PlasmaClient, Store

Child = Callable[..., "subprocess.Popen[str]"]
PATIENCE_S = 60
T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine, for a minute at most."""
    return asyncio.run(asyncio.wait_for(main, PATIENCE_S))


async def so_that(condition: Callable[[], bool]) -> None:
    """Waits for what the store does in its own time; the loop goes on."""
    while not condition():
        await asyncio.sleep(0.005)


def waits(client: PlasmaClient, count: int) -> Callable[[], bool]:
    """Whether the store is waiting for so many objects on behalf of others."""
    return lambda: client.stats()["waiting_gets"] == count


def ids(count: int) -> List[ObjectID]:
    return [ObjectID.from_random() for _ in range(count)]


@pytest.fixture
def other(any_store: Store) -> Iterator[PlasmaClient]:
    with plasma_store.connect(any_store.socket_path) as client:
        yield client


@pytest.fixture
def waiter(any_store: Store, other: PlasmaClient) -> Iterator[PlasmaClient]:
    """A client that awaits; it leaves nothing at the store."""
    with plasma_store.connect(any_store.socket_path) as client:
        yield client
        until(waits(other, 0))
        assert client._watcher is None


def test_what_is_there_is_returned_at_once_by_all_of_them(waiter: PlasmaClient, other: PlasmaClient) -> None:
    np = pytest.importorskip("numpy")
    value, array = other.put({"a": [1, 2]}), other.put_tensor(np.arange(3))

    async def main() -> None:
        assert await waiter.get_async(value) == {"a": [1, 2]}
        assert await waiter.get_async([value, value], 0) == [{"a": [1, 2]}] * 2
        [buffer] = await waiter.get_buffers_async([value])
        assert buffer is not None
        assert bytes(memoryview(buffer)) == bytes(memoryview(other.get_buffers([value])[0] or b""))
        assert (await waiter.get_tensor_async(array)).numpy().tolist() == [0, 1, 2]
        private = (await waiter.get_tensor_async(array, private=True)).numpy()
        private[0] = 7
        assert (await waiter.get_tensor_async(array)).numpy().tolist() == [0, 1, 2]
        assert await waiter.get_async([]) == []

    run(main())


def test_what_comes_later_is_awaited_by_many_while_the_loop_goes_on(waiter: PlasmaClient, other: PlasmaClient) -> None:
    wanted = ids(300)

    async def main() -> None:
        single = [asyncio.ensure_future(waiter.get_async(object_id)) for object_id in wanted]
        again = [asyncio.ensure_future(waiter.get_async(object_id)) for object_id in wanted[:10]]
        whole = asyncio.ensure_future(waiter.get_async([*wanted, wanted[0]]))
        await so_that(waits(other, 300))
        for number, object_id in enumerate(wanted[:-1]):
            other.put(number, object_id)
        assert await asyncio.gather(*single[:-1], *again) == [*range(299), *range(10)]
        assert not whole.done()
        assert not single[-1].done()
        other.put(299, wanted[-1])
        assert await single[-1] == 299
        assert await whole == [*range(300), 0]

    run(main())


def test_a_burst_that_the_loop_sees_late_is_seen_whole(waiter: PlasmaClient, other: PlasmaClient) -> None:
    wanted, unborn = ids(1500), ids(100)

    async def main() -> None:
        awaits = [asyncio.ensure_future(waiter.get_async(object_id)) for object_id in [*wanted, *unborn]]
        await so_that(waits(other, 1600))
        for number, object_id in enumerate(wanted):
            other.put_nowait(number, object_id)
        # All of them are rung before the loop has its turn.
        other.flush()
        assert await asyncio.gather(*awaits[:1500]) == [*range(1500)]
        await so_that(waits(other, 100))
        for awaited in awaits[1500:1550]:
            awaited.cancel()
        await so_that(waits(other, 50))
        for number, object_id in enumerate(unborn):
            other.put(number, object_id)
        assert await asyncio.gather(*awaits[1550:]) == [*range(50, 100)]

    run(main())


def test_times_are_kept_and_what_came_is_returned(waiter: PlasmaClient, other: PlasmaClient) -> None:
    here, late, never = other.put("here"), *ids(2)

    async def main() -> None:
        both = asyncio.ensure_future(waiter.get_async([here, late, never], PATIENCE_S * 1000))
        await so_that(waits(other, 2))
        other.put("late", late)
        await so_that(waits(other, 1))
        assert waiter._watcher is not None
        # As the clock does, but when the other one is here.
        [bell] = waiter._watcher._bells
        bell.end()
        assert await both == ["here", "late", ObjectNotAvailable]
        assert await waiter.get_async(never, 0) is ObjectNotAvailable
        assert await waiter.get_async(never, 1) is ObjectNotAvailable
        assert await waiter.get_buffers_async([never, never], 1) == [None, None]
        with pytest.raises(plasma_store.PlasmaTimeout, match="within 1 ms"):
            await waiter.get_tensor_async(never, 1)
        for wrong in (-2, 1 << 63):
            with pytest.raises(plasma_store.PlasmaInvalidArgument, match=str(wrong)):
                await waiter.get_async(never, wrong)
        with pytest.raises(TypeError, match="ObjectID"):
            await waiter.get_buffers_async([b"x" * 20])  # type: ignore[list-item]

    run(main())


def test_what_was_deleted_before_anybody_looked_is_awaited_again(waiter: PlasmaClient, other: PlasmaClient) -> None:
    [wanted] = ids(1)

    async def main() -> None:
        awaited = asyncio.ensure_future(waiter.get_async(wanted))
        await so_that(waits(other, 1))
        other.put("first", wanted)
        other.delete([wanted])
        await so_that(waits(other, 1))
        assert not awaited.done()
        other.put("second", wanted)
        assert await awaited == "second"

    run(main())


def test_what_is_cancelled_leaves_nothing(waiter: PlasmaClient, other: PlasmaClient) -> None:
    here, *late = other.put("here"), *ids(3)

    async def main() -> None:
        awaits = [asyncio.ensure_future(waiter.get_async([here, *late])) for _ in range(4)]
        await so_that(waits(other, 3))
        for awaited in awaits[1:]:
            awaited.cancel()
        assert [type(end) for end in await asyncio.gather(*awaits[1:], return_exceptions=True)] == [asyncio.CancelledError] * 3
        assert other.stats()["waiting_gets"] == 3
        awaits[0].cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await awaits[0]
        await so_that(waits(other, 0))
        assert other.list()[here]["ref_count"] == 0
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(waiter.get_async(late), 0.05)
        await so_that(waits(other, 0))

    run(main())


@pytest.mark.parametrize("end", ["interrupt", "disconnect"])
def test_interrupt_and_disconnect_end_all_awaits(any_store: Store, other: PlasmaClient, end: str) -> None:
    client, wanted = plasma_store.connect(any_store.socket_path), ids(5)

    async def main(calls_from_a_thread: bool) -> None:
        awaits = [asyncio.ensure_future(client.get_async(object_id)) for object_id in wanted]
        await so_that(waits(other, 5))
        if calls_from_a_thread:
            thread = threading.Thread(target=getattr(client, end))
            thread.start()
            thread.join()
        else:
            getattr(client, end)()
        ended = await asyncio.gather(*awaits, return_exceptions=True)
        assert [type(error) for error in ended] == [plasma_store.PlasmaInterrupted] * 5
        await so_that(waits(other, 0))

    run(main(True))
    if end == "interrupt":
        run(main(False))
        value = other.put(1)
        assert run(client.get_async(value)) == 1
    client.disconnect()
    with pytest.raises(plasma_store.PlasmaDisconnected):
        run(client.get_async(wanted[0]))


@pytest.mark.parametrize("process", [False, True])
def test_the_end_of_the_store_ends_all_awaits(process: bool) -> None:
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(plasma_store.start_store(16 << 20, process=process))
        client = plasma_store.connect(store.socket_path)
        other = plasma_store.connect(store.socket_path)

        async def main() -> None:
            awaits = [asyncio.ensure_future(client.get_async(object_id)) for object_id in ids(5)]
            await so_that(waits(other, 5))
            # In another thread, as it waits for what this one may have to do.
            await asyncio.get_running_loop().run_in_executor(None, stack.close)
            ended = await asyncio.gather(*awaits, return_exceptions=True)
            assert [type(error) for error in ended] == [plasma_store.PlasmaDisconnected] * 5
            with pytest.raises(plasma_store.PlasmaDisconnected):
                await client.get_async(ids(1))

        run(main())
        with pytest.raises(plasma_store.PlasmaDisconnected):
            run(client.get_async(ids(1)))


def test_one_loop_at_a_time_and_then_another(waiter: PlasmaClient, other: PlasmaClient) -> None:
    wanted = ids(2)

    async def first() -> None:
        awaited = asyncio.ensure_future(waiter.get_async(wanted[0]))
        await so_that(waits(other, 1))

        def in_another_loop() -> None:
            with pytest.raises(plasma_store.PlasmaBusy, match="another event loop"):
                asyncio.run(waiter.get_async(wanted[1]))

        await asyncio.get_running_loop().run_in_executor(None, in_another_loop)
        other.put(0, wanted[0])
        assert await awaited == 0

    run(first())
    # A loop that was closed with an await in it keeps no other from working.
    loop = asyncio.new_event_loop()
    unfinished = loop.create_task(waiter.get_async(wanted[1]))
    loop.run_until_complete(so_that(waits(other, 1)))
    loop.close()

    async def later() -> None:
        awaited = asyncio.ensure_future(waiter.get_async(wanted[1]))
        await so_that(lambda: waiter._watcher is not None and not waiter._watcher.loop.is_closed())
        other.put(1, wanted[1])
        assert await awaited == 1

    run(later())
    unfinished._log_destroy_pending = False  # type: ignore[attr-defined]
    del unfinished
    gc.collect()


def awaited_in(store_arguments: List[str], directory: Path, main: Callable[[PlasmaClient], Awaitable[None]]) -> None:
    """Runs something with a client of a daemon that was started with these arguments."""
    path = str(directory / "s.sock")
    daemon = subprocess.Popen([os.environ["PLASMA_STORE_SERVER"], "-s", path, *store_arguments])
    try:
        with plasma_store.connect(path) as client:

            async def bounded() -> None:
                await main(client)

            run(bounded())
    finally:
        daemon.terminate()
        daemon.wait(PATIENCE_S)


def test_objects_beyond_the_index_are_awaited_as_well(tmp_path: Path) -> None:
    async def main(client: PlasmaClient) -> None:
        wanted = ids(8)
        early = [client.put(number, object_id) and number for number, object_id in enumerate(wanted[:4])]
        assert await client.get_async(wanted[:4]) == early
        awaits = [asyncio.ensure_future(client.get_async(object_id)) for object_id in wanted[4:]]
        await so_that(waits(client, 4))
        for number, object_id in enumerate(wanted[4:]):
            client.put(number, object_id)
        assert await asyncio.gather(*awaits) == [0, 1, 2, 3]
        assert await client.get_async(ids(1), 1) == [ObjectNotAvailable]

    awaited_in(["-m", "16777216", "--max-objects", "2"], tmp_path, main)


def test_objects_come_back_from_an_external_store(tmp_path: Path) -> None:
    async def main(client: PlasmaClient) -> None:
        evicted = [client.put(b"x" * 1_000_000) for _ in range(12)]
        client.evict(1 << 40)
        assert await client.get_async(evicted[0]) == b"x" * 1_000_000
        assert await client.get_async(evicted[1], 0) == b"x" * 1_000_000
        found = await asyncio.gather(*[client.get_async(object_id) for object_id in evicted[2:]])
        assert found == [b"x" * 1_000_000] * 10
        [late] = ids(1)
        awaited = asyncio.ensure_future(client.get_async([evicted[3], late]))
        await so_that(waits(client, 1))
        client.put(5, late)
        assert await awaited == [b"x" * 1_000_000, 5]

    awaited_in(["-m", "20000000", "-e", "hashtable://test"], tmp_path, main)


def test_what_cannot_be_brought_back_ends_the_await_as_it_ends_a_get(tmp_path: Path) -> None:
    async def main(client: PlasmaClient) -> None:
        outside = client.put_raw_buffer(b"x" * 9_000_000)
        client.evict(1 << 40)
        held = [client.create(object_id, 9_000_000) for object_id in ids(2)]
        assert client.get_buffers([outside], 100) == [None]
        assert await client.get_buffers_async([outside]) == [None]
        del held

    awaited_in(["-m", "20000000", "-e", "hashtable://test"], tmp_path, main)


def test_a_child_of_fork_cannot_await_and_its_parent_goes_on(waiter: PlasmaClient, other: PlasmaClient, child: Child) -> None:
    script = """
import asyncio, os, sys, warnings, plasma_store
warnings.simplefilter("ignore")  # since 3.12 a fork warns where there are threads
client, wanted = plasma_store.connect(sys.argv[1]), plasma_store.ObjectID(bytes.fromhex(sys.argv[2]))

async def parent():
    awaited = asyncio.ensure_future(client.get_async(wanted))
    await asyncio.sleep(0)
    pid = os.fork()
    if pid == 0:
        try:
            await client.get_async(wanted, 0)
        except plasma_store.PlasmaForked:
            os._exit(17)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 17
    print("forked", flush=True)
    print(await awaited)

asyncio.run(parent())
"""
    wanted = ObjectID.from_random()
    process = child(script, str(other.store_socket_name), wanted.hex())
    assert process.stdout is not None
    assert process.stdout.readline() == "forked\n"
    other.put("later", wanted)
    assert process.stdout.readline() == "later\n"


def test_a_thread_polls_the_descriptor_by_itself(waiter: PlasmaClient, other: PlasmaClient) -> None:
    """What Python's event loops use is for those of other languages too."""
    import ctypes

    from plasma_store import _abi
    from plasma_store._lib import lib
    from plasma_store.object_id import c_ids

    wanted = ids(3)
    handle, (watched, count) = waiter._live(), c_ids(wanted)
    assert lib.plasma_watch(handle.pointer, watched, count) == _abi.PLASMA_OK
    descriptor = lib.plasma_watch_fd(handle.pointer)
    put(other, b"x")
    other.create_and_seal(wanted[1], b"y")
    assert select.select([descriptor], [], [], PATIENCE_S)[0] == [descriptor]
    told, size = (_abi.plasma_object_id * 3)(), ctypes.c_size_t()
    assert lib.plasma_watch_take(handle.pointer, told, 3, size) == _abi.PLASMA_OK
    assert (size.value, bytes(told[0])) == (1, wanted[1].binary())
    assert lib.plasma_unwatch(handle.pointer, watched, count) == _abi.PLASMA_OK


def test_the_example_runs() -> None:
    example = ROOT / "c-examples" / "await.py"
    ended = subprocess.run([sys.executable, str(example)], capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    assert ended.stdout.splitlines()[-1] == "squares: [0, 1, 4, 9, 16]"
