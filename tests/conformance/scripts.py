"""Seeded scripts: what clients of a Plasma store do, as data that can be printed, kept and cut shorter.

A step is a list: the name of an operation, the number of a client, and what the operation takes. Objects are numbers too;
see `player.py`, which knows what to do with each step, and leaves out those that would end the old daemon or client.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Set, Tuple

Step = List[Any]

CLIENTS = 3
OBJECTS = range(6)
VALUES = range(100, 103)
"""Objects that hold Python values: read as such, they have to be."""
MEMORIES = (10_000, 200_000, 1_000_000, 20_000_000)
"""Bytes the stores are given. The least is what old programs have been seen to give."""

WEIGHTS = {
    "connect": 4, "disconnect": 3, "create": 14, "seal": 14, "drop": 12, "get": 12, "get_metadata": 3, "contains": 4,
    "list": 1, "delete": 7, "evict": 4, "create_and_seal": 9, "hash": 3, "put": 4, "put_raw_buffer": 4, "get_values": 4,
    "set_client_options": 2, "debug_string": 1, "store_capacity": 1, "subscribe": 3, "fill": 2, "wait": 2,
}


@dataclass
class Script:
    """What is played: to a fresh store with that much memory, one step after the other."""

    memory: int
    steps: List[Step] = field(default_factory=list)


class Generator:
    """Draws steps, the likelier the more they do: it remembers what was probably created, and who is probably there."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.memory = self.random.choice(MEMORIES)
        self.unsealed: Set[Tuple[int, int]] = set()
        self.fresh = 1000

    def script(self) -> Script:
        """A script of some twenty steps."""
        clients = self.random.randint(1, CLIENTS)
        steps: List[Step] = [["connect", client] for client in range(clients)]
        names, weights = list(WEIGHTS), list(WEIGHTS.values())
        for _ in range(self.random.randint(15, 24)):
            operation = self.random.choices(names, weights)[0]
            client = self.random.randrange(clients)
            arguments: Callable[[int], Step] = getattr(self, f"_{operation}", lambda client: [client])
            steps.append([operation, *arguments(client)])
        return Script(self.memory, steps)

    def _object(self) -> int:
        return self.random.choice(OBJECTS)

    def _objects(self) -> List[int]:
        """Distinct ones: the old store miscounts duplicates in a get, and can die of it."""
        return self.random.sample([*OBJECTS, *VALUES], self.random.randint(1, 4))

    def _size(self) -> int:
        """From nothing to more than fits. Sums of these meet the limit exactly now and then."""
        parts = [0, 1, 64, 100, self.memory // 10, self.memory // 5, self.memory // 4, self.memory // 2,
                 self.memory, self.memory + 1]
        return self.random.choices(parts, [2, 4, 4, 8, 8, 6, 6, 4, 1, 1])[0]

    def _metadata(self) -> int:
        return self.random.choice([0, 0, 0, 1, 5, 100])

    def _timeout(self) -> int:
        return self.random.choice([0, 0, 0, 1, 5, -7])

    def _create(self, client: int) -> Step:
        number = self._object()
        self.unsealed.add((client, number))
        return [client, number, self._size(), self._metadata()]

    def _seal(self, client: int) -> Step:
        if not self.unsealed or self.random.random() < 0.1:
            return [client, self._object()]
        sealed = self.random.choice(sorted(self.unsealed))
        self.unsealed.discard(sealed)
        return list(sealed)

    def _drop(self, client: int) -> Step:
        return [client, self.random.randrange(8)]

    def _get(self, client: int) -> Step:
        return [client, self._objects(), self._timeout(), self.random.random() < 0.5]

    def _get_metadata(self, client: int) -> Step:
        return [client, self._objects(), self._timeout()]

    def _contains(self, client: int) -> Step:
        return [client, self._object()]

    def _delete(self, client: int) -> Step:
        return [client, self._objects()]

    def _evict(self, client: int) -> Step:
        return [client, self.random.choice([0, 1, self.memory // 10, self.memory // 3, self.memory * 2])]

    def _create_and_seal(self, client: int) -> Step:
        return [client, self._object(), self._size(), self._metadata()]

    def _hash(self, client: int) -> Step:
        return [client, self._object()]

    def _put(self, client: int) -> Step:
        return [client, self.random.choice(VALUES), self.random.randrange(6)]

    def _put_raw_buffer(self, client: int) -> Step:
        return [client, self._object(), self._size(), self._metadata()]

    def _get_values(self, client: int) -> Step:
        return [client, self.random.sample(VALUES, self.random.randint(1, 2)), self._timeout()]

    def _set_client_options(self, client: int) -> Step:
        tenths = self.random.choice([0, 1, 3, 4, 6, 7, 8, 10])
        return [client, f"client {client}", self.memory * tenths // 10]

    def _fill(self, client: int) -> Step:
        """Objects that no other step names, until some have to go."""
        count = self.random.randint(3, 12)
        self.fresh += count
        return [client, self.fresh - count, count, self.memory // self.random.choice([4, 7, 10])]

    def _wait(self, client: int) -> Step:
        return [client, (client + 1) % CLIENTS, self._object(), self.random.choice([0, 10, 100]),
                self.random.random() < 0.5]


def script(seed: int) -> Script:
    """The script that belongs to this number, always the same."""
    return Generator(seed).script()


def as_json(script: Script) -> Dict[str, Any]:
    """A form that `Script(**...)` takes back."""
    return {"memory": script.memory, "steps": script.steps}
