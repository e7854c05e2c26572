"""numpy.save to a file on tmpfs and numpy.load(mmap_mode): a file for each object. `scratch` begins the paths."""

import os

import numpy as np
from measure import Options
from workloads import Peer, main


class Files(Peer):
    def connect(self, options: Options) -> None:
        self._prefix = f"/dev/shm/{options.scratch}"

    def put(self, number, source):
        np.save(f"{self._prefix}{number}.npy", source)

    put_tensor = put

    def drop(self, number):
        os.unlink(f"{self._prefix}{number}.npy")

    def view(self, number):
        return np.load(f"{self._prefix}{number}.npy", mmap_mode="r")

    def read(self, number):
        return self.view(number)[0]

    first_element = read

    def read_batch(self, numbers):
        return sum(int(self.read(number)) for number in numbers)


main(Files())
