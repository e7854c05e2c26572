"""Gets that wait: other threads go on, Ctrl-C and interrupt end them, other signals do not."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Callable, List

import pytest

import plasma_store
from conftest import put
from plasma_store import ObjectID, PlasmaClient, Store

Child = Callable[..., "subprocess.Popen[str]"]
PATIENCE_S = 60


class Waiter(threading.Thread):
    """Gets one object in a thread of its own."""

    def __init__(self, client: PlasmaClient, object_id: ObjectID, timeout_ms: int = -1) -> None:
        super().__init__(daemon=True)
        self.client, self.object_id, self.timeout_ms = client, object_id, timeout_ms
        self.outcome: List[object] = []
        self.start()

    def run(self) -> None:
        try:
            [buffer] = self.client.get_buffers([self.object_id], self.timeout_ms)
            self.outcome.append(buffer and bytes(memoryview(buffer)))
        except Exception as error:
            self.outcome.append(error)

    def result(self) -> object:
        self.join(PATIENCE_S)
        assert self.outcome, "the get has not ended"
        return self.outcome[0]


def test_a_waiting_get_keeps_no_other_thread_waiting(any_store: Store) -> None:
    with plasma_store.connect(any_store.socket_path) as client:
        late = ObjectID.from_random()
        waiters = [Waiter(client, late) for _ in range(3)]
        with ThreadPoolExecutor(4) as pool:
            done = pool.map(lambda i: client.get_buffers([put(client, b"%d" % i)]), range(200))
            assert [bytes(memoryview(buffer)) for [buffer] in done if buffer] == [b"%d" % i for i in range(200)]
        assert all(waiter.is_alive() for waiter in waiters)
        buffer = client.create(late, 4)
        memoryview(buffer).cast("B")[:] = b"late"
        client.seal(late)
        assert [waiter.result() for waiter in waiters] == [b"late"] * 3


def test_what_is_there_is_got_without_preparing_a_wait(any_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with plasma_store.connect(any_store.socket_path) as client:
        ids = [put(client, b"first"), put(client, b"second")]

        def prepare(*_: object, **__: object) -> int:
            raise AssertionError("a wait was prepared")

        monkeypatch.setattr(signal, "set_wakeup_fd", prepare)
        assert [bytes(memoryview(buffer)) for buffer in client.get_buffers(ids) if buffer] == [b"first", b"second"]
        assert [bytes(memoryview(buffer)) for buffer in client.get_buffers(ids[:1]) if buffer] == [b"first"]
        with pytest.raises(AssertionError, match="a wait was prepared"):
            client.get_buffers([ObjectID.from_random()])


def test_what_is_there_is_held_while_others_are_waited_for(any_store: Store) -> None:
    with plasma_store.connect(any_store.socket_path) as client, plasma_store.connect(any_store.socket_path) as other:
        here, late = put(other, b"here"), ObjectID.from_random()
        got: List[object] = []
        wanted = [late, here, late, here]
        waiter = threading.Thread(target=lambda: got.extend(client.get_buffers(wanted)), daemon=True)
        waiter.start()
        deadline = time.monotonic() + PATIENCE_S
        while other.stats()["waiting_gets"] == 0:
            assert waiter.is_alive() and time.monotonic() < deadline
            time.sleep(0.001)
        # It goes when nobody holds it any more.
        other.delete([here])
        other.create_and_seal(late, b"late")
        waiter.join(PATIENCE_S)
        assert [bytes(memoryview(buffer)) for buffer in got] == [b"late", b"here", b"late", b"here"]  # type: ignore[arg-type]
        got.clear()
        assert not other.contains(here)


def test_what_came_in_time_is_given_and_the_rest_is_missing(any_store: Store) -> None:
    with plasma_store.connect(any_store.socket_path) as client:
        here, late, missing = put(client, b"here"), ObjectID.from_random(), ObjectID.from_random()
        for timeout_ms in (0, 30):
            found = client.get_buffers([missing, here, late, here], timeout_ms)
            assert [buffer and bytes(memoryview(buffer)) for buffer in found] == [None, b"here", None, b"here"]
        with pytest.raises(plasma_store.PlasmaInvalidArgument, match="-2"):
            client.get_buffers([here], -2)
        with pytest.raises(TypeError, match="ObjectID"):
            client.get_buffers([here, b"x" * 20])  # type: ignore[list-item]
        with pytest.raises(TypeError, match="ObjectID"):
            client.get_buffers([b"x" * 20])  # type: ignore[list-item]


def test_many_threads_and_one_client(any_store: Store) -> None:
    np = pytest.importorskip("numpy")
    with plasma_store.connect(any_store.socket_path) as client:

        def work(seed: int) -> int:
            total = 0
            for i in range(25):
                object_id = client.put_tensor(np.full(100, seed * 1000 + i))
                array = np.from_dlpack(client.get_tensor(object_id))
                total += int((array == seed * 1000 + i).all())
                client.delete([object_id])
            return total

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(work, range(8))) == 8 * 25


def test_interrupt_ends_all_gets_and_the_client_goes_on(client: PlasmaClient) -> None:
    waiters = [Waiter(client, ObjectID.from_random()) for _ in range(3)]
    while any(waiter.is_alive() for waiter in waiters):
        # More than once, for one of the threads may not have begun.
        client.interrupt()
        time.sleep(0.05)
    assert [type(waiter.result()) for waiter in waiters] == [plasma_store.PlasmaInterrupted] * 3
    assert client.get_buffers([put(client, b"x")])[0] is not None


def test_disconnect_ends_gets(store: Store) -> None:
    client = plasma_store.connect(store.socket_path)
    waiter = Waiter(client, ObjectID.from_random())
    time.sleep(0.2)
    client.disconnect()
    assert isinstance(waiter.result(), (plasma_store.PlasmaInterrupted, plasma_store.PlasmaDisconnected))


def test_the_end_of_the_store_ends_gets() -> None:
    with plasma_store.start_store(1 << 20) as store:
        client = plasma_store.connect(store.socket_path)
        waiter = Waiter(client, ObjectID.from_random())
        time.sleep(0.2)
    assert isinstance(waiter.result(), plasma_store.PlasmaDisconnected)


@pytest.mark.parametrize("call", ["get_buffers([object_id])", "get_tensor(object_id)", "get_metadata([object_id], 600000)"])
def test_ctrl_c_ends_a_get(store: Store, child: Child, call: str) -> None:
    script = f"""
import sys, plasma_store
client = plasma_store.connect(sys.argv[1])
object_id = plasma_store.ObjectID.from_random()
print("waiting", flush=True)
try:
    client.{call}
except KeyboardInterrupt:
    print("KeyboardInterrupt", client.contains(object_id), flush=True)
"""
    process = child(script, store.socket_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    until_asleep_in(process.pid)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, output) == (0, "KeyboardInterrupt False\n")


def test_one_ctrl_c_is_enough_while_other_threads_use_the_client(store: Store, child: Child) -> None:
    script = """
import sys, threading, plasma_store
client = plasma_store.connect(sys.argv[1])
missing, rounds = plasma_store.ObjectID.from_random(), int(sys.argv[2])
def ask():
    while rounds:
        client.contains(missing)
threads = [threading.Thread(target=ask) for _ in range(4)]
for thread in threads:
    thread.start()
while rounds:
    try:
        print("waiting", flush=True)
        client.get_buffers([missing])
    except KeyboardInterrupt:
        rounds -= 1
        print("KeyboardInterrupt", flush=True)
"""
    rounds = 20
    process = child(script, store.socket_path, str(rounds))
    assert process.stdout is not None
    for round in range(rounds):
        assert process.stdout.readline() == "waiting\n"
        # At some moment of its answering the others.
        time.sleep(0.01 * (round % 4))
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "KeyboardInterrupt\n"
    assert process.wait(PATIENCE_S) == 0


def test_other_users_of_the_wakeup_descriptor_get_what_is_theirs(client: PlasmaClient, object_id: ObjectID) -> None:
    """asyncio is one."""
    theirs, writable = os.pipe2(os.O_NONBLOCK)
    handler = signal.signal(signal.SIGUSR1, lambda number, frame: None)
    before = signal.set_wakeup_fd(writable)
    try:
        kicker = kick(2, signal.SIGUSR1)
        assert client.get_buffers([object_id], timeout_ms=500) == [None]
        kicker.join()
        assert os.read(theirs, 100) == bytes([signal.SIGUSR1] * 2)
        assert signal.set_wakeup_fd(before) == writable
    finally:
        signal.set_wakeup_fd(before)
        signal.signal(signal.SIGUSR1, handler)
        os.close(theirs)
        os.close(writable)


def test_a_forked_child_has_a_wake_pipe_of_its_own(store: Store, child: Child) -> None:
    script = """
import os, signal, sys, plasma_store
def wait(client):
    try:
        client.get_buffers([plasma_store.ObjectID.from_random()])
    except KeyboardInterrupt:
        return True
def kick():
    signal.setitimer(signal.ITIMER_REAL, 0.05)
def handler(number, frame):
    raise KeyboardInterrupt
signal.signal(signal.SIGALRM, handler)
client = plasma_store.connect(sys.argv[1])
kick()
assert wait(client)
descriptors = len(os.listdir("/proc/self/fd"))
pid = os.fork()
if pid == 0:
    assert len(os.listdir("/proc/self/fd")) == descriptors - 2
    client = plasma_store.connect(sys.argv[1])
    kick()
    os._exit(0 if wait(client) else 1)
assert os.waitpid(pid, 0)[1] == 0
kick()
assert wait(client)
"""
    process = child(script, store.socket_path)
    assert process.wait(PATIENCE_S) == 0


def test_without_signals_there_is_no_wake_pipe(client: PlasmaClient, object_id: ObjectID, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a subinterpreter."""

    def refuse(*arguments: object, **options: object) -> int:
        raise ValueError("set_wakeup_fd only works in main thread of the main interpreter")

    monkeypatch.setattr(signal, "set_wakeup_fd", refuse)
    assert client.get_buffers([object_id], timeout_ms=50) == [None]


def until_asleep_in(pid: int) -> None:
    """Waits until the main thread of another process sleeps, and goes on sleeping."""
    asleep = 0
    while asleep < 10:
        with open(f"/proc/{pid}/stat") as stat:
            asleep = asleep + 1 if stat.read().rpartition(")")[2].split()[0] == "S" else 0
        time.sleep(0.01)


def test_ctrl_c_ends_connecting(child: Child) -> None:
    script = """
import plasma_store
print("waiting", flush=True)
try:
    plasma_store.connect("/nonexistent/socket", num_retries=100000)
except KeyboardInterrupt:
    print("KeyboardInterrupt")
"""
    process = child(script)
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    until_asleep_in(process.pid)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, output) == (0, "KeyboardInterrupt\n")


def kick(times: int, number: int) -> threading.Thread:
    """Sends a signal to the main thread some times, a while apart, from another thread."""
    main = threading.main_thread().ident
    assert main is not None

    def run() -> None:
        for _ in range(times):
            time.sleep(0.1)
            signal.pthread_kill(main, number)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_a_signal_whose_handler_raises_nothing_ends_nothing(client: PlasmaClient, object_id: ObjectID) -> None:
    handled: List[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: handled.append(number))
    try:
        start = time.monotonic()
        kicker = kick(3, signal.SIGUSR1)
        assert client.get_buffers([object_id], timeout_ms=600) == [None]
        assert time.monotonic() - start >= 0.6, "the time that was asked for, all signals included"
        kicker.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert len(handled) == 3


def test_interrupt_from_a_signal_handler(client: PlasmaClient, object_id: ObjectID) -> None:
    before = signal.signal(signal.SIGUSR1, lambda number, frame: client.interrupt())
    try:
        kicker = kick(1, signal.SIGUSR1)
        with pytest.raises(plasma_store.PlasmaInterrupted):
            client.get_buffers([object_id])
        kicker.join()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_an_exception_of_a_signal_handler_comes_through(client: PlasmaClient, object_id: ObjectID) -> None:
    def handler(number: int, frame: object) -> None:
        raise LookupError("from the handler")

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        kicker = kick(1, signal.SIGUSR1)
        with pytest.raises(LookupError, match="from the handler"):
            client.get_tensor(object_id)
        kicker.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert client.list() == {}, "and the client goes on"
