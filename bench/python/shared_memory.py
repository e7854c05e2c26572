"""multiprocessing.shared_memory: a segment for each object, opened by its name. `scratch` begins the names."""

import multiprocessing
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory

import numpy as np
from measure import Options
from workloads import Peer, main

# One tracker for all processes; each would start its own, and mourn what another has removed.
resource_tracker.ensure_running()


class Segments(Peer):
    def before_fork(self, options: Options) -> None:
        self._queue = multiprocessing.Queue()

    def connect(self, options: Options) -> None:
        self._prefix, self._size = options.scratch, options.size

    def prepare(self, number, source):
        segment = SharedMemory(f"{self._prefix}{number}", create=True, size=source.nbytes)
        segment.buf[: source.nbytes] = source.data
        segment.close()

    put = prepare

    def put_tensor(self, number, array):
        self.prepare(number, array.view(np.uint8))

    def hand_over(self, number):
        self._queue.put(number)

    def await_first_byte(self, number):
        return self.read(self._queue.get())

    def drop(self, number):
        segment = SharedMemory(f"{self._prefix}{number}")
        segment.close()
        segment.unlink()

    def read(self, number):
        segment = SharedMemory(f"{self._prefix}{number}")
        byte = segment.buf[0]
        segment.close()
        return byte

    def read_batch(self, numbers):
        return sum(self.read(number) for number in numbers)

    def view(self, number):
        self._viewed = SharedMemory(f"{self._prefix}{number}")
        return self._viewed.buf

    def first_element(self, number):
        segment = SharedMemory(f"{self._prefix}{number}")
        array = np.ndarray((self._size // 4,), dtype=np.float32, buffer=segment.buf)
        element = array[0]
        del array
        segment.close()
        return element


main(Segments())
