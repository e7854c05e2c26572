"""What is measured: peers, work items with their cases, and the marks that the project has set itself."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Dict, List, Optional, Set, Tuple

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


@dataclass(frozen=True)
class Peer:
    """A program that can be measured."""

    label: str
    program: str
    """A key of programs.PROGRAMS."""
    daemon: Optional[str] = None
    """Whose daemon it talks to: "ours", "plasma11" or nobody's."""
    python: bool = False
    """Python rows are compared with Python rows, native ones with native ones."""
    instead: Tuple[str, str] = ("", "")
    """The second work is asked for where others are asked for the first."""
    options: Dict[str, int] = field(default_factory=dict)
    """What its program is told besides."""


AWAKE_US = 50
"""How long those peers stay awake, and their daemon, that are said to be awake."""


PEERS: Dict[str, Peer] = {
    "ours-c": Peer("ours, C", "ours-c", "ours"),
    "ours-c-put": Peer("ours, C, `plasma_put`", "ours-c", "ours", instead=("put", "put_in_one_call")),
    "ours-c-awake": Peer("ours, C, awake", "ours-c", "ours-awake", options={"spin_us": AWAKE_US}),
    "ours-c-put-awake": Peer("ours, C, `plasma_put`, awake", "ours-c", "ours-awake", instead=("put", "put_in_one_call"),
                             options={"spin_us": AWAKE_US}),
    "ours-c-many": Peer("ours, C, many in a call", "ours-c", "ours", options={"many": 1}),
    "ours-cpp": Peer("ours, C++", "ours-cpp", "ours"),
    "ours-python": Peer("ours, Python", "ours-python", "ours", python=True),
    "ours-python-many": Peer("ours, Python, many in a call", "ours-python", "ours", python=True, options={"many": 1}),
    "plasma11-cpp": Peer("Plasma 11, C++", "plasma11-cpp", "plasma11"),
    "plasma11-python": Peer("Plasma 11, Python", "plasma11-python", "plasma11", python=True),
    "plasma11-cpp-on-ours": Peer("Plasma 11's C++ client, our daemon", "plasma11-cpp", "ours"),
    "plasma11-python-on-ours": Peer("Plasma 11's Python client, our daemon", "plasma11-python", "ours", python=True),
    "shared-memory": Peer("Python shared_memory", "shared-memory", python=True),
    "raw-array": Peer("Python RawArray and Queue", "raw-array", python=True),
    "np-load": Peer("numpy.load(mmap) on tmpfs", "np-load", python=True),
    "iceoryx2": Peer("iceoryx2, Rust", "iceoryx2"),
    "floor": Peer("*floor*, C++", "floor"),
    "floor-python": Peer("*floor*, Python", "floor-python", python=True),
    "machine": Peer("this machine", "limits"),
}
PLASMA = {False: "plasma11-cpp", True: "plasma11-python"}
"""The peer that others are compared with, by whether they are Python."""
FLOOR = {False: "floor", True: "floor-python"}


@dataclass(frozen=True)
class Case:
    """One column: a work item with one set of options."""

    name: str
    work: str
    """What the program is asked for."""
    options: Dict[str, int] = field(default_factory=dict)
    quick: bool = False
    """Whether the quick run has it."""
    only: Tuple[str, ...] = ()
    """The peers that it makes sense for, if not all of the item."""
    limit: Optional[int] = None
    """Bytes of our store, where it has to be large for its index to name all objects; it takes no more memory for that."""


@dataclass(frozen=True)
class Work:
    """One table."""

    key: str
    title: str
    peers: Tuple[str, ...]
    cases: Tuple[Case, ...]


NATIVE = ("ours-c", "ours-cpp", "plasma11-cpp", "floor")
PYTHON = ("ours-python", "plasma11-python", "shared-memory", "np-load", "floor-python")
ALL = ("ours-c", "ours-cpp", "ours-python", "plasma11-cpp", "plasma11-python", "shared-memory", "np-load", "floor",
       "floor-python")
OURS = ("ours-c", "ours-cpp", "ours-python")
RINGS = ("ours-c", "ours-c-many", "ours-python", "ours-python-many", "raw-array")
RANDOM = ("ours-c", "plasma11-cpp", "floor")

WORKS: List[Work] = [
    Work("W1", "put: create, copy and seal; the memory was written before", (
        "ours-c", "ours-c-awake", "ours-c-put", "ours-c-put-awake", "ours-cpp", "ours-python", "plasma11-cpp", "plasma11-python",
        "shared-memory", "raw-array", "np-load", "iceoryx2", "floor", "floor-python"), (
        Case("64 B", "put", {"size": 64}, quick=True),
        Case("4 KiB", "put", {"size": 4 * KIB}),
        Case("1 MiB", "put", {"size": MIB}, quick=True),
        Case("64 MiB", "put", {"size": 64 * MIB}),
        Case("1 GiB", "put", {"size": GIB}, only=("ours-c-put",), limit=6 << 30),
        Case("1 MiB into a ring of 256", "put_ring", {"size": MIB, "count": 256}, only=NATIVE))),
    Work("NEW", "put of 64 MiB, a second after the store was started", ("ours-c", "plasma11-cpp"), (
        Case("the first", "put_first", {"size": 64 * MIB}, limit=6 << 30),
        # Plasma 11 runs with a store as large as all have, and has no room for that.
        Case("4 GiB back to back", "put_new", {"size": 64 * MIB, "count": 64}, only=("ours-c",), limit=6 << 30))),
    Work("W2", "get, first byte, release; another process put it", (*ALL, "iceoryx2"), (
        Case("64 B", "get", {"size": 64}, quick=True),
        Case("64 MiB", "get", {"size": 64 * MIB}, only=ALL),
        Case("at random, 10^5", "get_random", {"count": 100_000, "objects": 100_000}, only=RANDOM, limit=2 << 30),
        # Plasma takes two minutes to fill.
        Case("at random, 10^6", "get_random", {"count": 1_000_000, "objects": 1_000_000}, only=("ours-c", "floor"),
             limit=16 << 30))),
    Work("W3", "handoff: seal to first byte in a consumer that sleeps", (
        "ours-c", "ours-c-awake", "ours-cpp", "ours-python", "plasma11-cpp", "plasma11-python", "shared-memory", "raw-array",
        "iceoryx2", "floor"), (
        Case("64 B", "handoff", {"size": 64}, quick=True),
        Case("1 MiB", "handoff", {"size": MIB}),
        Case("64 MiB", "handoff", {"size": 64 * MIB, "count": 50}, only=(*NATIVE, "ours-c-awake")),
        Case("64 B, two cores", "handoff", {"size": 64, "cross": 1}, only=(*NATIVE, "ours-c-awake")))),
    Work("W4", "get and release of 1000 objects of 64 B, as a batch where there is one", ALL, (
        Case("1000 objects", "batch", {"size": 64}, quick=True),)),
    Work("STREAM", "puts of 64 B that nobody waits for, with a flush after each 1000", ("ours-c", "ours-c-awake"), (
        Case("1 client", "stream", {"size": 64, "clients": 1}, quick=True, limit=16 << 30),
        Case("4 clients", "stream", {"size": 64, "clients": 4}, limit=16 << 30))),
    Work("W5", "lives of 64 B: create, write, seal, release, get, read, release, delete", (
        "ours-c", "ours-c-awake", *ALL[1:], "iceoryx2"), (
        Case("1 client", "cycles", {"size": 64, "clients": 1}, quick=True),
        Case("4 clients", "cycles", {"size": 64, "clients": 4}))),
    Work("W6", "64 MiB in a fresh process that is connected", ALL, (
        Case("64 MiB", "first_read", {"size": 64 * MIB}, quick=True),
        Case("once gathered", "first_read", {"size": 64 * MIB, "gathered": 1}, quick=True, only=OURS))),
    Work("W7", "float32 tensor to numpy array: get, view, first element, release", PYTHON, (
        Case("1000", "tensor", {"size": 4_000}),
        Case("1 M", "tensor", {"size": 4_000_000}, quick=True),
        Case("64 M", "tensor", {"size": 256_000_000}))),
    Work("EVICT", "evicting one object, of 500 in a call", ("ours-c", "plasma11-cpp"), (
        Case("nobody else connected", "evict", {"clients": 0}),
        Case("64 others connected", "evict", {"clients": 64}, quick=True))),
    Work("OLD", "get by clients of Plasma 11: its own daemon and ours", (
        "plasma11-cpp", "plasma11-cpp-on-ours", "plasma11-python", "plasma11-python-on-ours"), (
        Case("64 B", "get", {"size": 64}, quick=True),
        Case("64 MiB", "get", {"size": 64 * MIB}))),
    Work("RING", "handoff through a ring: publish to first byte in a consumer", (
        "ours-c", "ours-c-awake", "ours-python", "raw-array", "iceoryx2", "floor"), (
        Case("64 B, asleep", "ring_handoff", {"size": 64}, quick=True),
        Case("64 B, asleep, two cores", "ring_handoff", {"size": 64, "cross": 1}, only=("ours-c", "ours-c-awake", "floor")),
        Case("64 B, both spinning", "ring_spin", {"size": 64}, quick=True, only=("ours-c", "ours-c-awake", "iceoryx2", "floor")))),
    Work("RINGS", "messages of 64 B through a ring a second, producers and consumers", RINGS, (
        Case("1 and 1, 16 slots", "ring_messages", {"size": 64, "clients": 1, "slots": 16}, quick=True),
        Case("1 and 1, 256 slots", "ring_messages", {"size": 64, "clients": 1, "slots": 256}, quick=True),
        Case("2 and 2, 16 slots", "ring_messages", {"size": 64, "clients": 2, "slots": 16}, quick=True),
        Case("2 and 2, 256 slots", "ring_messages", {"size": 64, "clients": 2, "slots": 256}, quick=True))),
    Work("FLOW", "1 MiB through a ring of 8, filled by one core while another sums it up", (
        "ours-c", "ours-c-awake", "ours-python", "raw-array", "floor"), (
        Case("1 MiB", "ring_throughput", {"size": MIB, "slots": 8}, quick=True),)),
    Work("SHARED", "an element of a shared array: write to read in another process, both spinning", ("ours-c", "floor"), (
        Case("64 B", "shared_element", {"size": 64}, quick=True),)),
    Work("LIMITS", "the machine", ("machine",), (
        Case("4 KiB", "copy", {"size": 4 * KIB}),
        Case("1 MiB", "copy", {"size": MIB}, quick=True),
        Case("64 MiB", "copy", {"size": 64 * MIB}),
        Case("1 GiB", "copy", {"size": GIB}),
        Case("each 4 KiB", "faults", {"size": 64 * MIB}, quick=True),
        Case("two cores", "round_trips", {"cross": 1}, quick=True),
        Case("one core", "round_trips", {"cross": 0}),
        Case("one core, nobody else", "atomics", {}, quick=True))),
]

NOT_QUICK = ("ours-c-put", "ours-c-put-awake", "ours-cpp", "raw-array", "iceoryx2")
ALSO_QUICK = ("RING", "RINGS", "FLOW")
"""Items whose marks are set by those peers."""

Cell = Tuple[str, str, str, str]
"""Work item, case, peer, metric."""


@dataclass(frozen=True)
class Mark:
    """What a figure is to be: so many nanoseconds or times another one at most, or so many a second or times another one at least."""

    name: str
    cell: Cell
    ns: Optional[float] = None
    per_second: Optional[float] = None
    times: Optional[float] = None
    times_at_least: Optional[float] = None
    of: Optional[Cell] = None


RING_CASES = tuple(case.name for work in WORKS if work.key == "RINGS" for case in work.cases)


def ring_marks(case: str) -> List[Mark]:
    """Of messages a second with so many participants and slots."""
    queues = ("RINGS", case, "raw-array", "messages")
    return [
        Mark(f"messages in C, {case}", ("RINGS", case, "ours-c", "messages"), per_second=2e6),
        Mark(f"one by one in Python, {case}", ("RINGS", case, "ours-python", "messages"), times_at_least=3.0, of=queues),
        Mark(f"many in a call in Python, {case}", ("RINGS", case, "ours-python-many", "messages"), times_at_least=10.0, of=queues),
    ]


MARKS: List[Mark] = [
    Mark("get, first byte, release in C", ("W2", "64 B", "ours-c", "get"), ns=60),
    Mark("the same at random over 10^6 objects", ("W2", "at random, 10^6", "ours-c", "get"), times=1.4,
         of=("W2", "at random, 10^6", "floor", "get")),
    Mark("tensor of 1 M elements to numpy", ("W7", "1 M", "ours-python", "tensor"), ns=4_000),
    Mark("the same against the floor", ("W7", "1 M", "ours-python", "tensor"), times=1.5,
         of=("W7", "1 M", "floor-python", "tensor")),
    Mark("get and release of 1000 in C", ("W4", "1000 objects", "ours-c", "get and release"), ns=60_000),
    Mark("first byte of 64 MiB in a fresh process, once gathered", ("W6", "once gathered", "ours-c", "first byte"), ns=60_000),
    Mark("sum of 64 MiB in a fresh process, once gathered", ("W6", "once gathered", "ours-c", "sum"), ns=4_000_000),
    Mark("evicting one, 64 others connected", ("EVICT", "64 others connected", "ours-c", "evict"), ns=2_000),
    Mark("put of 64 B, awake", ("W1", "64 B", "ours-c-put-awake", "put"), ns=6_000),
    Mark("puts of 64 B streamed by 1 client, awake", ("STREAM", "1 client", "ours-c-awake", "stream"), per_second=1.5e6),
    Mark("the same by 4 clients", ("STREAM", "4 clients", "ours-c-awake", "stream"), per_second=3e6),
    Mark("lives of 64 B, awake", ("W5", "1 client", "ours-c-awake", "cycles"), per_second=300_000),
    Mark("the same with 4 clients", ("W5", "4 clients", "ours-c-awake", "cycles"), per_second=500_000),
    Mark("put of 1 MiB, awake", ("W1", "1 MiB", "ours-c-put-awake", "put"), times=1.3, of=("LIMITS", "1 MiB", "machine", "memcpy")),
    Mark("put of 64 MiB", ("W1", "64 MiB", "ours-c-put", "put"), times=1.2, of=("LIMITS", "64 MiB", "machine", "non-temporal copy")),
    Mark("put of 1 GiB", ("W1", "1 GiB", "ours-c-put", "put"), times=1.25, of=("LIMITS", "1 GiB", "machine", "non-temporal copy")),
    Mark("put of 64 MiB from Python", ("W1", "64 MiB", "ours-python", "put"), times=1.3,
         of=("LIMITS", "64 MiB", "machine", "non-temporal copy")),
    Mark("handoff of 64 B, awake", ("W3", "64 B", "ours-c-awake", "handoff"), times=1.3, of=("W3", "64 B", "floor", "handoff")),
    Mark("handoff of 64 MiB in place", ("W3", "64 MiB", "ours-c", "handoff"), times=1.3, of=("W3", "64 MiB", "floor", "handoff")),
    Mark("first put of 64 MiB, a second after the start", ("NEW", "the first", "ours-c", "first put"), times=2.5,
         of=("LIMITS", "64 MiB", "machine", "non-temporal copy")),
    Mark("4 GiB put back to back, against bare population", ("NEW", "4 GiB back to back", "ours-c", "new memory put, each 4 KiB"),
         times=1 / 0.9, of=("LIMITS", "each 4 KiB", "machine", "fault, fresh page")),
    Mark("get by Plasma 11's C++ client", ("OLD", "64 B", "plasma11-cpp-on-ours", "get"), times=1.0,
         of=("OLD", "64 B", "plasma11-cpp", "get")),
    Mark("get by Plasma 11's Python client", ("OLD", "64 B", "plasma11-python-on-ours", "get"), times=1.0,
         of=("OLD", "64 B", "plasma11-python", "get")),
    Mark("handoff through a ring to a consumer that sleeps", ("RING", "64 B, asleep", "ours-c", "handoff"), times=1.0,
         of=("RING", "64 B, asleep", "iceoryx2", "handoff")),
    Mark("the same, both spinning", ("RING", "64 B, both spinning", "ours-c", "handoff"), times=1.0,
         of=("RING", "64 B, both spinning", "iceoryx2", "handoff")),
    Mark("1 MiB through a ring", ("FLOW", "1 MiB", "ours-c", "each message"), times=1 / 0.95,
         of=("FLOW", "1 MiB", "floor", "each message")),
    *(mark for case in RING_CASES for mark in ring_marks(case)),
    Mark("an element of a shared array, seen by another process", ("SHARED", "64 B", "ours-c", "seen"), times=1.1,
         of=("SHARED", "64 B", "floor", "seen")),
]


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    repetitions: int
    budget_ms: int
    rounds: int
    """Of what is counted and not timed: handoffs, fresh processes (a tenth), evictions (a tenth)."""
    capacity: int = 1 << 30
    """Bytes of the stores, where a quarter of the memory is as much."""
    quick: bool = False
    """Only the quick cases, without the peers that add least."""


SIZES = {
    "full": Size(repetitions=5, budget_ms=400, rounds=300),
    "quick": Size(repetitions=2, budget_ms=100, rounds=50, quick=True),
    "tiny": Size(repetitions=1, budget_ms=2, rounds=10, capacity=1 << 27, quick=True),
}


def with_repetitions(size: Size, repetitions: int) -> Size:
    return replace(size, repetitions=repetitions)


def count_of(case: Case, size: Size) -> int:
    """The option `count` of a case that does not name it."""
    return max(3, size.rounds // 10) if case.work in ("first_read", "evict") else size.rounds


@dataclass(frozen=True)
class Measurement:
    """One process to run, once in every repetition."""

    work: Work
    case: Case
    peer: str


def measurements(size: Size, works: List[str], peers: List[str]) -> List[List[Measurement]]:
    """What is to be run: for every case the peers that are measured side by side."""
    plan = []
    for work in WORKS:
        for case in work.cases:
            if work.key not in works or (size.quick and not case.quick):
                continue
            skipped = NOT_QUICK if size.quick and work.key not in ALSO_QUICK else ()
            chosen = [peer for peer in case.only or work.peers if peer in peers and peer not in skipped]
            if chosen:
                plan.append([Measurement(work, case, peer) for peer in chosen])
    return plan


def programs_of(groups: List[List[Measurement]]) -> Set[str]:
    """The programs and daemons that these need, and the one that looks at the machine."""
    peers = [PEERS[one.peer] for group in groups for one in group]
    return {"limits"} | {peer.program for peer in peers} | {f"daemon {peer.daemon}" for peer in peers if peer.daemon}
