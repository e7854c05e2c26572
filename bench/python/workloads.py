"""The work items for any Python peer, as native/*.h has them for the native ones. A peer is a Peer with these methods; one
that lacks the method that a work item needs cannot be measured in it.

    connect(options)            before anything else, in every process
    put(number, source)         create, copy and seal; returns what `drop` needs to undo it
    put_tensor(number, array)   the same for an array
    drop(number)                the object is gone afterwards
    read(number)                get, first byte, release: returns the byte
    read_batch(numbers)         the same for many in one call, if there is one
    view(number)                get: an object that can be read like bytes, until it is dropped
    first_element(number)       get a tensor, view it as a numpy array, read its first element, release
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
import time
from typing import Any, Callable, Dict, List, Optional

import numpy as np
import rings
from measure import Options, Samples, measure, measure_timed, now, report

BATCH_IDS = 1000
GATHER_S = 10


class Peer:
    """What most peers need not do."""

    def before_fork(self, options: Options) -> None:
        """Makes what a process can only inherit."""

    def disconnect(self) -> None:
        """At the end of every process that has connected."""


class Child:
    """A child process, made before the parent has connected, and pipes to and from it."""

    def __init__(self, role: Callable[..., None], *arguments: Any) -> None:
        (self._from_child, up), (down, self._to_child) = os.pipe(), os.pipe()
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid:
            os.close(up)
            os.close(down)
            return
        status = 1
        try:
            os.close(self._from_child)
            os.close(self._to_child)
            role(Pipe(down, up), *arguments)
            status = 0
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        finally:
            sys.stdout.flush()
            os._exit(status)

    def receive(self) -> int:
        return _receive(self._from_child)

    def send(self, word: int) -> None:
        os.write(self._to_child, struct.pack("q", word))

    def join(self) -> None:
        os.close(self._to_child)
        _, status = os.waitpid(self.pid, 0)
        if status:
            sys.exit(f"a child ended with status {status}")


class Pipe:
    """What a child has to talk to its parent."""

    def __init__(self, from_parent: int, to_parent: int) -> None:
        self._from_parent, self._to_parent = from_parent, to_parent

    def send(self, word: int) -> None:
        os.write(self._to_parent, struct.pack("q", word))

    def receive(self) -> int:
        return _receive(self._from_parent)

    def receive_if_any(self) -> Optional[int]:
        """None when the parent has nothing more to say."""
        data = os.read(self._from_parent, 8)
        return struct.unpack("q", data)[0] if data else None

    def wait_for_end(self) -> None:
        os.read(self._from_parent, 8)


def _receive(descriptor: int) -> int:
    data = os.read(descriptor, 8)
    if len(data) != 8:
        sys.exit("the other process has ended")
    word: int = struct.unpack("q", data)[0]
    return word


def source_of(size: int) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    return np.full(size, 7, dtype=np.uint8)  # written: pages of zeros would be read from cache


def work_put(peer: Any, options: Options) -> None:
    peer.connect(options)
    source, numbers = source_of(options.size), iter(range(1, 1 << 62))

    def timed(_: int) -> int:
        number = next(numbers)
        begin = now()
        peer.put(number, source)
        ns = now() - begin
        peer.drop(number)
        return ns

    measure_timed("put", options, timed)
    peer.disconnect()


def _produce(pipe: Pipe, peer: Any, options: Options, numbers: List[int], tensor: bool = False) -> None:
    peer.connect(options)
    for number in numbers:
        if tensor:
            peer.put_tensor(number, np.ones(options.size // 4, dtype=np.float32))
        else:
            peer.put(number, source_of(options.size))
    pipe.send(1)
    pipe.wait_for_end()
    for number in numbers:
        peer.drop(number)
    peer.disconnect()


def _measure_reads(metric: str, peer: Any, options: Options, numbers: List[int], read: Callable[[], Any], tensor: bool) -> None:
    producer = Child(_produce, peer, options, numbers, tensor)
    producer.receive()
    peer.connect(options)
    measure(metric, options, read)
    peer.disconnect()
    producer.join()


def work_get(peer: Any, options: Options) -> None:
    _measure_reads("get", peer, options, [0], lambda: peer.read(0), False)


def work_tensor(peer: Any, options: Options) -> None:
    _measure_reads("tensor", peer, options, [0], lambda: peer.first_element(0), True)


def work_batch(peer: Any, options: Options) -> None:
    numbers = list(range(BATCH_IDS))
    _measure_reads("get and release", peer, options, numbers, lambda: peer.read_batch(numbers), False)


def work_first_read(peer: Any, options: Options) -> None:
    """A forked process for each sample: Python and its modules are loaded in it, and nothing of the peer is."""
    # What is sealed just before each sample is new: memory that was used before may lie in huge pages already.
    objects = 1 if options.gathered else min(options.count, options.capacity // options.size - 1)
    producer = Child(_produce_named, peer, options)
    huge_before = _in_huge_pages()
    figures = [Samples(), Samples(), Samples()]
    for index in range(options.count if options.gathered else objects):
        if index < objects:
            producer.send(index)
            producer.receive()
        if index == 0 and options.gathered:
            _wait_until_gathered(huge_before, options.size)
        reader = Child(_read_first, peer, options, index % objects)
        for samples in figures:
            samples.add(reader.receive())
        reader.join()
    for samples, metric in zip(figures, ("connect", "first byte", "sum")):
        samples.report(metric)
    producer.join()


def _in_huge_pages() -> int:
    """Bytes of this machine's shared memory that lie in huge pages."""
    with open("/proc/meminfo", encoding="ascii") as lines:
        return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("ShmemHugePages:"))


def _wait_until_gathered(before: int, size: int) -> None:
    """Waits until an object that was put since has come to lie in huge pages, but for its two ends."""
    end = time.monotonic() + GATHER_S
    while _in_huge_pages() < before + size - (4 << 20):
        if time.monotonic() > end:
            sys.exit(f"the object was not gathered in huge pages within {GATHER_S} s")
        time.sleep(0.01)


def _produce_named(pipe: Pipe, peer: Any, options: Options) -> None:
    """Puts the objects that the parent names."""
    peer.connect(options)
    numbers = []
    while (number := pipe.receive_if_any()) is not None:
        numbers.append(number)
        peer.put(number, source_of(options.size))
        pipe.send(1)
    for number in numbers:
        peer.drop(number)
    peer.disconnect()


def _read_first(pipe: Pipe, peer: Any, options: Options, number: int) -> None:
    begin = now()
    peer.connect(options)
    connected = now()
    view = peer.view(number)
    first_byte = np.frombuffer(view, dtype=np.uint8, count=1)[0]
    first = now()
    total = np.frombuffer(view, dtype=np.uint64, count=options.size // 8).sum()
    end = now()
    assert first_byte == 7 and total == sum(7 << 8 * i for i in range(8)) * (options.size // 8) % (1 << 64)
    del view
    for figure in (connected - begin, first - connected, end - connected):
        pipe.send(figure)
    peer.disconnect()


def work_cycles(peer: Any, options: Options) -> None:
    clients = [Child(_cycle, peer, options, index << 40) for index in range(1, options.clients + 1)]
    for client in clients:
        client.receive()
    for client in clients:
        client.send(1)
    per_second = sum(client.receive() for client in clients)
    for client in clients:
        client.join()
    report("cycles", "/s", per_second, per_second, 1, 10)


def _cycle(pipe: Pipe, peer: Any, options: Options, number: int) -> None:
    peer.connect(options)
    source, count, begin = source_of(options.size), -20, 0
    while count < 0 or now() - begin < options.budget_ns:
        for _ in range(10):
            number += 1
            peer.put(number, source)
            peer.read(number)
            peer.drop(number)
        count += 10
        if count == 0:
            pipe.send(1)
            pipe.receive()
            begin = now()
    pipe.send(int(count * 1e9 / (now() - begin)))
    peer.disconnect()


class Handoff:
    """What producer and consumer of a handoff both see."""

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, 4096)
        self._words = memoryview(self._page).cast("q")

    asking = property(lambda self: self._words[0], lambda self, value: self._words.__setitem__(0, value))
    done = property(lambda self: self._words[8], lambda self, value: self._words.__setitem__(8, value))
    stamp = property(lambda self: self._words[16], lambda self, value: self._words.__setitem__(16, value))


def work_handoff(peer: Any, options: Options) -> None:
    """For peers with `prepare(number, source)`, `hand_over(number)` and `await_first_byte(number)`: all but seal, seal, get."""
    shared = Handoff()
    peer.before_fork(options)
    consumer = Child(_consume, peer, options, shared)
    peer.connect(options)
    source = source_of(options.size)
    for number in range(1, options.count + 1):
        peer.prepare(number, source)
        _wait_until(lambda: shared.asking >= number, consumer.pid)
        time.sleep(0.0005)  # by then the consumer sleeps
        shared.stamp = now()
        peer.hand_over(number)
        _wait_until(lambda: shared.done >= number, consumer.pid if number < options.count else 0)
        peer.drop(number)
    consumer.join()
    peer.disconnect()


def _wait_until(condition: Callable[[], bool], other: int) -> None:
    while not condition():
        if other and os.waitpid(other, os.WNOHANG) != (0, 0):
            sys.exit("the consumer has ended")
        time.sleep(0.00005)


def _consume(pipe: Pipe, peer: Any, options: Options, shared: Handoff) -> None:
    peer.connect(options)
    samples = Samples()
    for number in range(1, options.count + 1):
        shared.asking = number
        byte = peer.await_first_byte(number)
        ns = now() - shared.stamp
        assert byte == 7
        if number > options.count // 10:
            samples.add(ns)
        shared.done = number
    samples.report("handoff")
    peer.disconnect()


WORKS: Dict[str, Callable[[Any, Options], None]] = {
    "put": work_put, "get": work_get, "batch": work_batch, "tensor": work_tensor, "first_read": work_first_read,
    "cycles": work_cycles, "handoff": work_handoff, **rings.WORKS,
}


def main(peer: Any) -> None:
    options = Options(sys.argv[1:])
    if options.work not in WORKS:
        sys.exit(f"no such work: {options.work}")
    WORKS[options.work](peer, options)
