"""What is the same in pyarrow.plasma and in plasma_store, which has its names: all but tensors."""

from __future__ import annotations

from typing import Any, List

import numpy as np
from measure import Options, object_id
from workloads import Peer


class PlasmaLike(Peer):
    def __init__(self, module: Any) -> None:
        self._module = module
        self._ids = {number: module.ObjectID(object_id(number)) for number in range(1000)}

    def connect(self, options: Options) -> None:
        self.client = self._module.connect(options.where, num_retries=10)

    def disconnect(self) -> None:
        self.client.disconnect()

    def id(self, number: int) -> Any:
        return self._ids.get(number) or self._module.ObjectID(object_id(number))

    def prepare(self, number: int, source: Any) -> None:
        np.frombuffer(self.client.create(self.id(number), source.nbytes), dtype=np.uint8)[:] = source

    def hand_over(self, number: int) -> None:
        self.client.seal(self.id(number))

    def put(self, number: int, source: Any) -> None:
        self.prepare(number, source)
        self.hand_over(number)

    def drop(self, number: int) -> None:
        self.client.delete([self.id(number)])

    def view(self, number: int) -> memoryview:
        return memoryview(self.client.get_buffers([self.id(number)])[0])

    def read(self, number: int) -> int:
        return self.view(number)[0]

    await_first_byte = read

    def read_batch(self, numbers: List[int]) -> int:
        buffers = self.client.get_buffers([self._ids[number] for number in numbers])
        return sum(memoryview(buffer)[0] for buffer in buffers)
