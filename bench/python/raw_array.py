"""multiprocessing.RawArray made before the fork, and a queue that says when it is filled: one object, no names."""

import multiprocessing
from multiprocessing.sharedctypes import RawArray

import numpy as np
from measure import Options
from workloads import Peer, main


class Slot(Peer):
    def before_fork(self, options: Options) -> None:
        self._queue = multiprocessing.Queue()
        self._array = np.frombuffer(RawArray("b", options.size), dtype=np.uint8)

    def connect(self, options: Options) -> None:
        if options.work == "put":
            self.before_fork(options)

    def prepare(self, number, source):
        self._array[:] = source

    put = prepare

    def hand_over(self, number):
        self._queue.put(number)

    def await_first_byte(self, number):
        self._queue.get()
        return self._array[0]

    def drop(self, number):
        pass

    def make_rings(self, options):
        free, used = multiprocessing.Queue(), multiprocessing.Queue()
        slots = np.frombuffer(RawArray("b", options.slots * options.size), dtype=np.uint8)
        return free, used, slots.reshape(options.slots, options.size)

    def open_ring(self, made, options, is_first):
        # Not before the others were made, who would have a queue whose thread is not there.
        for index in range(options.slots if is_first else 0):
            made[0].put(index)
        return Ring(*made)


class Ring:
    """What rings.py asks for: indices of slots that go round through two queues."""

    def __init__(self, free, used, slots):
        self._free, self._used, self._slots = free, used, slots

    def write(self, fill):
        index = self._free.get()
        fill(self._slots[index])
        self._used.put(index)

    def read(self, look):
        index = self._used.get()
        result = look(self._slots[index])
        self._free.put(index)
        return result

    def put(self, source):
        index = self._free.get()
        self._slots[index] = source
        self._used.put(index)

    def get(self):
        index = self._used.get()
        result = self._slots[index].copy()
        self._free.put(index)
        return result


main(Slot())
