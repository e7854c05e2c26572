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


main(Slot())
