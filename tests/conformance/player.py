"""Plays one script to one store with the client of pyarrow 11, and writes down every reply in a form that can be compared.

After each step the store is looked at from a connection of its own: every object, every figure, every event that came.
A step that would end the old daemon or the old client whatever ours does is left out, on both sides alike.
"""

from __future__ import annotations

import gc
import hashlib
import os
import select
import threading
import time
import zlib
from typing import Any, Dict, List, Optional, Set, Tuple

import numpy as np
import pyarrow as pa
from pyarrow import plasma

from scripts import Script, Step

Reply = Any
"""JSON."""

NOWHERE = 1_000_000  # an object that nobody creates: who asks for it always asks the store
WAIT_MS = 5000
FULL, ORDER = "a create failed", "several objects became free"
READ_CALLS = ("0", "63")  # the number of `read` on x86-64 and on AArch64

VALUES: List[Any] = [
    np.arange(10), np.zeros((3, 4), dtype="float32"), "text", {"a": [1, 2.5, None]}, [np.ones(100), b"bytes"], None,
]


def object_id(number: int) -> plasma.ObjectID:
    return plasma.ObjectID(hashlib.sha1(b"%d" % number).digest())


def content(number: int, size: int) -> bytes:
    """The bytes that an object is filled with."""
    pattern = hashlib.sha1(b"content %d" % number).digest()
    return (pattern * (size // len(pattern) + 1))[:size]


def shown(buffer: Optional[Any]) -> Reply:
    """A buffer's bytes, short."""
    return None if buffer is None else [len(buffer), zlib.crc32(buffer)]


def shown_value(value: Any) -> Reply:
    if value is plasma.ObjectNotAvailable:
        return "not available"
    return repr(value) if not isinstance(value, np.ndarray) else [str(value.dtype), value.tolist()]


class Client:
    """One connection, with what was taken through it."""

    def __init__(self, path: str) -> None:
        self.plasma = plasma.connect(path)
        self.buffers: List[Tuple[int, Any]] = []  # with the object each belongs to; letting go of one releases it
        self.unsealed: Set[int] = set()
        self.events: Optional[int] = None  # the descriptor of its notification stream
        self.quota = False

    def held(self) -> Set[int]:
        return self.unsealed | {number for number, _ in self.buffers}


class Player:
    """The connections of one script, and a further one that looks at the store."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.watcher = plasma.connect(path)
        self.clients: Dict[int, Client] = {}
        self.doomed: Set[int] = set()  # deleted by others while its creator had not sealed it
        self.names: Dict[bytes, int] = {}
        self.started = time.time()
        self.why_evict = ""  # FULL or ORDER, while a step is done

    def play(self, step: Step) -> Dict[str, Reply]:
        """Does one step and looks what became of it."""
        operation, number, *arguments = step
        self.why_evict = ""
        if operation == "connect":
            reply = self.connect(number)
        elif number in self.clients:
            reply = self.attempt(operation, number, arguments)
        else:
            return {"reply": "left out: not connected"}
        seen = self.look()
        return {"reply": reply, **(self.make_alike(seen) if self.why_evict else seen)}

    def look(self) -> Dict[str, Reply]:
        """The store as it is once it has dealt with all that was sent."""
        self.settle()
        return {"objects": self.objects(), "figures": self.figures(), "events": self.events()}

    def attempt(self, operation: str, number: int, arguments: List[Any]) -> Reply:
        """The reply, or the exception that the client made of it."""
        try:
            return getattr(self, operation)(self.clients[number], *arguments)
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, plasma.PlasmaStoreFull) and operation != "set_client_options":
                self.why_evict = FULL
            return [type(error).__name__, str(error)]

    def make_alike(self, seen: Dict[str, Reply]) -> Dict[str, Reply]:
        """Evicts everything when what is left, or in which order it would go, is known to differ between the stores.

        The old one evicts for creates that fail nevertheless. And where several objects become free at once, at a
        disconnect, their order is that of a hash table. `before` is what was seen; the rest has to be the same again.
        """
        self.watcher.evict(1 << 60)
        after = self.look()
        for number, events in after["events"].items():
            after["events"][number] = sorted(seen["events"][number] + events)
        return {"why evict": self.why_evict, "before": {**seen, "events": None}, **after}

    def settle(self) -> None:
        """Returns when the store has dealt with what was sent without waiting for an answer.

        That is a release, a subscription and its socket, for which the same connection asks, and the end of a connection,
        for which another asks twice: the second time the store has been through all sockets since. What happens in one
        connection at the wish of another, such as an event, has happened before the store answers that other one.
        """
        for client in self.clients.values():
            client.plasma.contains(self.id(NOWHERE))
        for _ in range(2):
            self.watcher.contains(self.id(NOWHERE))

    def id(self, number: int) -> plasma.ObjectID:
        made = object_id(number)
        self.names[made.binary()] = number
        return made

    def name(self, known: plasma.ObjectID) -> Reply:
        return self.names.get(known.binary(), known.binary().hex())

    # What the store is like.

    def objects(self, client: Optional[Any] = None) -> Reply:
        """What List says, times as far as they can be compared."""
        listed = (client or self.watcher).list()
        now = time.time()
        for info in listed.values():
            info["create_time"] = self.started - 2 <= info["create_time"] <= now + 1
            info["construct_duration"] = min(info["construct_duration"], 0)
        return {str(self.name(known)): info for known, info in sorted(listed.items(), key=lambda item: item[0].binary())}

    def figures(self, client: Optional[Any] = None) -> Reply:
        """What the debug string says: its lines in order, but the clients with a quota by name."""
        lines = (client or self.watcher).debug_string().split("\n")
        general = [line for line in lines if not line.startswith("(client")]
        return general + sorted(line for line in lines if line.startswith("(client"))

    def events(self) -> Reply:
        """What has come since the last time, for each that listens."""
        return {str(number): self.events_of(client) for number, client in sorted(self.clients.items())
                if client.events is not None}

    def events_of(self, client: Client) -> Reply:
        """Also here the store is asked before, so what it had to say has come."""
        events = []
        while select.select([client.events], [], [], 0)[0]:
            known, data_size, metadata_size = client.plasma.get_next_notification()
            events.append([self.name(known), data_size, metadata_size])
        return events

    # The operations.

    def connect(self, number: int) -> Reply:
        if number in self.clients:
            return "left out: connected"
        self.clients[number] = Client(self.path)
        return None

    def disconnect(self, client: Client) -> Reply:
        if client.unsealed & self.doomed:
            return "left out: the old store would remember the delete for later objects of that id"
        if len(client.held()) > 1 or client.quota:
            self.why_evict = ORDER
        client.plasma.disconnect()
        if client.events is not None:
            os.close(client.events)
        self.clients = {number: other for number, other in self.clients.items() if other is not client}
        return None

    def create(self, client: Client, number: int, size: int, metadata: int) -> Reply:
        buffer = client.plasma.create(self.id(number), size, content(number, metadata))
        np.frombuffer(buffer, dtype="uint8")[:] = np.frombuffer(content(number, size), dtype="uint8")
        client.buffers.append((number, buffer))
        client.unsealed.add(number)
        return len(buffer)

    def seal(self, client: Client, number: int) -> Reply:
        client.plasma.seal(self.id(number))
        client.unsealed.discard(number)
        self.doomed.discard(number)

    def drop(self, client: Client, place: int) -> Reply:
        if not client.buffers:
            return "left out: it holds nothing"
        number, _ = client.buffers.pop(place % len(client.buffers))
        return number

    def get(self, client: Client, numbers: List[int], timeout_ms: int, with_meta: bool) -> Reply:
        got = client.plasma.get_buffers([self.id(number) for number in numbers], timeout_ms, with_meta)
        reply = []
        for number, entry in zip(numbers, got):
            metadata, data = entry if with_meta else (None, entry)
            reply.append([shown(data), shown(metadata)])
            if data is not None:
                client.buffers.append((number, data))
        return reply

    def get_metadata(self, client: Client, numbers: List[int], timeout_ms: int) -> Reply:
        return [shown(buffer) for buffer in client.plasma.get_metadata([self.id(n) for n in numbers], timeout_ms)]

    def contains(self, client: Client, number: int) -> Reply:
        return client.plasma.contains(self.id(number))

    def list(self, client: Client) -> Reply:
        return self.objects(client.plasma)

    def delete(self, client: Client, numbers: List[int]) -> Reply:
        held = {number for other in self.clients.values() for number in other.held()}
        if held & set(numbers) and any(other.quota for other in self.clients.values()):
            return "left out: the old store would go on counting it in the quota of its maker"
        client.plasma.delete([self.id(number) for number in numbers])
        for other in self.clients.values():
            if other is not client:
                self.doomed |= other.unsealed & set(numbers)

    def evict(self, client: Client, size: int) -> Reply:
        return client.plasma.evict(size)

    def create_and_seal(self, client: Client, number: int, size: int, metadata: int) -> Reply:
        return client.plasma.create_and_seal(self.id(number), content(number, size), content(number, metadata))

    def hash(self, client: Client, number: int) -> Reply:
        return client.plasma.hash(self.id(number)).hex()

    def put(self, client: Client, number: int, value: int) -> Reply:
        return self.name(client.plasma.put(VALUES[value], self.id(number)))

    def put_raw_buffer(self, client: Client, number: int, size: int, metadata: int) -> Reply:
        value = content(number, size)
        return self.name(client.plasma.put_raw_buffer(value, self.id(number), content(number, metadata)))

    def get_values(self, client: Client, numbers: List[int], timeout_ms: int) -> Reply:
        return [shown_value(value) for value in client.plasma.get([self.id(number) for number in numbers], timeout_ms)]

    def set_client_options(self, client: Client, name: str, quota: int) -> Reply:
        client.plasma.set_client_options(name, quota)
        client.quota = True

    def debug_string(self, client: Client) -> Reply:
        return self.figures(client.plasma)

    def store_capacity(self, client: Client) -> Reply:
        return client.plasma.store_capacity()

    def subscribe(self, client: Client) -> Reply:
        if client.events is not None:
            return "left out: a second subscription ends the old store"
        client.plasma.subscribe()
        client.events = client.plasma.get_notification_socket().detach()
        self.settle()
        return sorted(self.events_of(client))

    def fill(self, client: Client, first: int, count: int, size: int) -> Reply:
        for number in range(first, first + count):
            client.plasma.create_and_seal(self.id(number), content(number, size))

    def wait(self, client: Client, other_number: int, number: int, size: int, inline: bool) -> Reply:
        """One client waits for what another then creates."""
        other = self.clients.get(other_number, client)
        if other is client or self.id(number) in self.watcher.list():
            return "left out: there is nothing to wait for"
        waiting = Waiting(client, self.id(number))
        for _ in range(2):  # as in `settle`: the store has read the request
            self.watcher.contains(self.id(NOWHERE))
        if inline:
            made = self.attempt("create_and_seal", other_number, [number, size, 1])
        else:
            made = self.attempt("put_raw_buffer", other_number, [number, size, 1])
        got = waiting.result()
        reply = [made, shown(got)]
        if got is not None:
            client.buffers.append((number, got))
        return reply


class Waiting:
    """A get in a thread of its own. It has been sent when this has been made."""

    def __init__(self, client: Client, wanted: plasma.ObjectID) -> None:
        self._client, self._wanted = client, wanted
        self._got: Any = None
        self._thread = threading.Thread(target=self._get)
        self._thread.start()
        while self._thread.is_alive() and not self._reads():
            time.sleep(0.001)

    def _get(self) -> None:
        [self._got] = self._client.plasma.get_buffers([self._wanted], WAIT_MS)

    def _reads(self) -> bool:
        """The client reads nothing before it has sent its request."""
        try:
            with open(f"/proc/self/task/{self._thread.native_id}/syscall") as call:
                return call.read().split()[0] in READ_CALLS
        except OSError:
            return False  # it has ended meanwhile

    def result(self) -> Any:
        self._thread.join()
        got, self._got = self._got, None
        return got


def play(path: str, script: Script) -> List[Dict[str, Reply]]:
    """Plays it all; one entry for each step."""
    gc.disable()  # a buffer lives until the script lets go of it, and not until the collector happens to come by
    player = Player(path)
    return [player.play(step) for step in script.steps]
