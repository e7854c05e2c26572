"""Old programs: the client of pyarrow.plasma 11 and ours, through one store of ours, in this process and as a daemon.

$PLASMA_TEST_PYARROW11 is a Python that has pyarrow 11 and numpy before 2; without it these tests are skipped.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
from pathlib import Path
from typing import Any, Iterator, List

import pytest

import plasma_store
from conftest import PACKAGE, put
from plasma_store import ObjectID, PlasmaClient, Store

PYTHON = os.environ.get("PLASMA_TEST_PYARROW11")
PEER = Path(__file__).with_name("pyarrow11_peer.py")

pytestmark = pytest.mark.skipif(not PYTHON, reason="$PLASMA_TEST_PYARROW11 is not set to a Python with pyarrow 11")
np = pytest.importorskip("numpy")


class Peer:
    """A process with the old client."""

    def __init__(self, socket_path: str, *module: str) -> None:
        """`module` is what it imports as `plasma`, if not pyarrow's."""
        assert PYTHON
        # Our package must not be seen by the old program.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        if module:
            environment["PYTHONPATH"] = str(PACKAGE)
        self.process = subprocess.Popen(
            [PYTHON, "-W", "ignore", str(PEER), socket_path, *module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self.answer() == "11.0.0"

    def answer(self) -> Any:
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line, f"the old client ended with status {self.process.wait()}"
        return json.loads(line)

    def __call__(self, command: str, *arguments: Any) -> Any:
        hexed = [argument.hex() if isinstance(argument, (ObjectID, bytes)) else argument for argument in arguments]
        assert self.process.stdin
        self.process.stdin.write(json.dumps([command, *hexed]) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def end(self) -> None:
        """Ends as a program does that is through."""
        self.process.communicate()
        assert self.process.returncode == 0


@pytest.fixture(scope="module")
def shared_old(any_store: Store) -> Iterator[Peer]:
    peer = Peer(any_store.socket_path)
    yield peer
    peer.end()


@pytest.fixture
def old(shared_old: Peer) -> Peer:
    """The old client, at either kind of store."""
    return shared_old


@pytest.fixture
def ours(any_store: Store) -> Iterator[PlasmaClient]:
    """Our client at the same store."""
    with plasma_store.connect(any_store.socket_path) as client:
        yield client


BYTES = [b"", b"x", b"hello world", bytes(range(256)) * 5000]


@pytest.mark.parametrize("metadata", [b"", b"about it"])
@pytest.mark.parametrize("data", BYTES, ids=len)
def test_old_puts_and_ours_gets(old: Peer, ours: PlasmaClient, object_id: ObjectID, data: bytes, metadata: bytes) -> None:
    old("put", object_id, data, metadata)
    [(got_metadata, got)] = ours.get_buffers([object_id], with_meta=True)
    assert got is not None
    assert (bytes(memoryview(got)), got_metadata) == (data, metadata)


@pytest.mark.parametrize("metadata", [b"", b"about it"])
@pytest.mark.parametrize("data", BYTES, ids=len)
def test_ours_puts_and_old_gets(old: Peer, ours: PlasmaClient, data: bytes, metadata: bytes) -> None:
    object_id = put(ours, data, metadata)
    assert old("get", object_id) == [data.hex(), metadata.hex()]


@pytest.fixture(scope="module")
def moved(any_store: Store) -> Iterator[Peer]:
    """The same old program, with the same old pyarrow, after its import was changed to this package."""
    peer = Peer(any_store.socket_path, "plasma_store")
    yield peer
    peer.end()


VALUES = [None, 5, 2.5, "text", [1, [2, "x"], {"a": None}], {"key": [1.5, "y"]}]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_go_both_ways_in_a_mixed_fleet(old: Peer, moved: Peer, value: Any) -> None:
    one, other = ObjectID.from_random(), ObjectID.from_random()
    old("put_python", one, value)
    moved("put_python", other, value)
    assert moved("get_python", one) == value
    assert old("get_python", other) == value
    assert moved("hash", one) == moved("hash", other), "the bytes are the same"


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32", "float64"])
def test_arrays_go_both_ways_without_a_copy(old: Peer, moved: Peer, dtype: str) -> None:
    one, other = ObjectID.from_random(), ObjectID.from_random()
    old("put_array", one, dtype, 1000)
    moved("put_array", other, dtype, 1000)
    expected = [dtype, np.arange(1000).astype(dtype).tolist(), False, True]
    for peer in (old, moved):
        assert peer("get_array", one) == peer("get_array", other) == expected


def test_what_is_not_there_is_not_available(old: Peer, moved: Peer, ours: PlasmaClient, object_id: ObjectID) -> None:
    empty = put(ours, b"")
    for peer in (old, moved):
        assert not peer("is_available", object_id)
        assert not peer("is_available", empty), "as it was"


def test_a_pickled_value_is_read_where_pyarrow_is_old(moved: Peer, ours: PlasmaClient) -> None:
    pytest.importorskip("pyarrow", minversion="14")
    assert moved("get_python", ours.put([1, "x", None])) == [1, "x", None]


def test_the_old_serialization_needs_an_old_pyarrow(old: Peer, ours: PlasmaClient, object_id: ObjectID) -> None:
    pyarrow = pytest.importorskip("pyarrow", minversion="14")
    for value in VALUES:
        name = ObjectID.from_random()
        old("put_python", name, value)
        expected = f"{name.hex()} is in the old serialization.*needs a pyarrow before version 14; {pyarrow.__version__} is"
        with pytest.raises(plasma_store.PlasmaUnsupported, match=expected):
            ours.get(name)
    old("put_array", object_id, "int8", 5)
    with pytest.raises(plasma_store.PlasmaUnsupported, match="old serialization"):
        ours.get([object_id])


@pytest.mark.parametrize("metadata", [b"", b"about it"])
@pytest.mark.parametrize("data", BYTES, ids=len)
def test_raw_puts_and_digests_are_the_same(
    old: Peer, ours: PlasmaClient, object_id: ObjectID, data: bytes, metadata: bytes
) -> None:
    old("put_raw_buffer", object_id, data, metadata)
    made = ours.put_raw_buffer(data, metadata=metadata)
    assert old("get", made) == [data.hex(), metadata.hex()]
    assert ours.hash(object_id) == ours.hash(made)
    assert old("hash", object_id) == old("hash", made) == ours.hash(made).hex()


def test_a_quota_of_an_old_client_holds_against_ours(store: Store, client: PlasmaClient) -> None:
    old = Peer(store.socket_path)
    old("set_client_options", "careful", 4 << 20)
    assert "careful" in client.debug_string()
    kept = ObjectID.from_random()
    old("put", kept, bytes(1 << 16), b"")
    for _ in range(40):
        client.put_raw_buffer(bytes(1 << 20))
    assert client.contains(kept)
    old.end()


@pytest.mark.parametrize("column_major", [False, True])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64", "uint64", "float16", "float32", "float64"])
def test_a_tensor_of_the_old_tutorial_is_read_by_ours(
    old: Peer, ours: PlasmaClient, object_id: ObjectID, dtype: str, column_major: bool
) -> None:
    old("put_tensor", object_id, dtype, [3, 4, 5], column_major)
    expected = np.arange(60).astype(dtype).reshape((3, 4, 5), order="F" if column_major else "C")
    tensor = ours.get_tensor(object_id)
    assert (tensor.dtype, tensor.strides) == (dtype, expected.strides)
    np.testing.assert_array_equal(np.asarray(tensor), expected)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64", "uint64", "float16", "float32", "float64"])
def test_a_tensor_of_ours_is_read_by_the_old_tutorial(old: Peer, ours: PlasmaClient, dtype: str, order: Any) -> None:
    array = np.arange(60).astype(dtype).reshape((3, 4, 5), order=order)
    got_dtype, values, strides, inside = old("get_tensor", ours.put_tensor(array))
    assert (got_dtype, values, strides) == (dtype, array.tolist(), list(array.strides))
    assert inside, "the old client does not copy it either"


def test_the_old_tutorials_id_and_tensor(old: Peer, ours: PlasmaClient) -> None:
    object_id = ObjectID(b"1" * 20)
    tensor = ours.create_tensor(object_id, (1000,), "float32")
    np.asarray(tensor)[:] = 2.0
    ours.seal(object_id)
    assert old("get_tensor", object_id)[:2] == ["float32", [2.0] * 1000]
    del tensor
    old("delete", object_id)


def test_frames_and_python_values_pass_through(old: Peer, ours: PlasmaClient, any_store: Store) -> None:
    columns = {"a": [1, 2, 3], "b": ["x", None, "z"]}
    frame, value = ObjectID.from_random(), ObjectID.from_random()
    old("put_frame", frame, columns)
    old("put_python", value, ["hello", 1.5, None])
    other = Peer(any_store.socket_path)
    assert other("get_frame", frame) == columns
    assert other("get_python", value) == ["hello", 1.5, None]
    other.end()
    pyarrow = pytest.importorskip("pyarrow")
    [buffer] = ours.get_buffers([frame])
    assert pyarrow.ipc.open_stream(buffer).read_all().to_pydict() == columns


def test_each_sees_what_the_other_did(old: Peer, ours: PlasmaClient, object_id: ObjectID) -> None:
    buffer = ours.create(object_id, 100, b"mm")
    assert not old("contains", object_id)
    assert old("get", object_id, 0) is None
    assert old("list")[object_id.hex()]["state"] == "created"
    ours.seal(object_id)
    assert old("contains", object_id)
    info = old("list")[object_id.hex()]
    assert (info["state"], info["data_size"], info["metadata_size"]) == ("sealed", 100, 2)
    assert {**info, "pinned": False, "name": None} == ours.list()[object_id]
    assert old("get_twice_and_missing", object_id, ObjectID.from_random()) == [True, False]
    del buffer
    old("delete", object_id)
    assert not ours.contains(object_id)


def test_deletes_wait_for_the_other_side(old: Peer, ours: PlasmaClient, object_id: ObjectID) -> None:
    old("put", object_id, b"x", b"")
    held: List[Any] = ours.get_buffers([object_id])
    old("delete", object_id)
    assert bytes(memoryview(held[0])) == b"x"
    held.clear()
    # Nobody waits for a release; but what the same client asks next comes after it.
    assert not ours.contains(object_id)
    assert not old("contains", object_id)


def test_refusals_are_those_of_old(old: Peer, ours: PlasmaClient, any_store: Store) -> None:
    object_id = put(ours, b"x")
    assert old("create_fails_with", object_id, 1) == "PlasmaObjectExists"
    assert old("store_capacity") == any_store.capacity
    assert old("create_fails_with", ObjectID.from_random(), any_store.capacity + 1) == "PlasmaStoreFull"


def test_a_waiting_old_client_is_woken_by_ours(old: Peer, ours: PlasmaClient, object_id: ObjectID) -> None:
    assert old.process.stdin
    old.process.stdin.write(json.dumps(["get", object_id.hex(), 60_000]) + "\n")
    old.process.stdin.flush()
    memoryview(ours.create(object_id, 4)).cast("B")[:] = b"late"
    ours.seal(object_id)
    assert old.answer() == [b"late".hex(), ""]


@pytest.mark.parametrize("process", [False, True], ids=["in-process", "daemon"])
def test_the_least_recently_used_go_first(process: bool) -> None:
    with plasma_store.start_store(1_000_000, process=process) as store, plasma_store.connect(store.socket_path) as ours:
        old = Peer(store.socket_path)
        ids = [ObjectID.from_random() for _ in range(11)]
        for object_id in ids[:10]:
            old("put", object_id, bytes(99_000), b"")
        ours.get_buffers([ids[0]])
        assert ours.contains(ids[0]), "and so its release has come"
        old("put", ids[10], bytes(99_000), b"")
        # Old Plasma makes room of a fifth of the store at once, and what was used last stays longest.
        gone = [object_id for object_id in ids if not ours.contains(object_id)]
        assert gone == ids[1:4]
        assert old("evict", 1) == 99_000
        assert not ours.contains(ids[4])
        old.end()


def test_an_old_daemon_is_refused(tmp_path: Path) -> None:
    assert PYTHON
    script = "import pyarrow, os; print(os.path.join(os.path.dirname(pyarrow.__file__), 'plasma-store-server'))"
    server = subprocess.run([PYTHON, "-c", script], capture_output=True, text=True, check=True).stdout.strip()
    path = str(tmp_path / "old.sock")
    daemon = subprocess.Popen([server, "-s", path, "-m", "10000000"], stderr=subprocess.DEVNULL)
    try:
        with pytest.raises(plasma_store.PlasmaUnsupportedPeer, match="old Plasma daemon"):
            plasma_store.connect(path)
        assert daemon.poll() is None
    finally:
        daemon.kill()
        daemon.wait()


def trailer(*entries: bytes) -> bytes:
    """Metadata as this library writes them, by somebody else."""
    packed = b"".join(struct.pack("<HI", key, len(value)) + value for key, value in enumerate(entries, 1))
    return packed + struct.pack("<I", len(packed)) + b"PLSMETA1"


BOOL, FLOAT4 = struct.pack("<BBH", 6, 8, 1), struct.pack("<BBH", 17, 4, 1)


@pytest.mark.parametrize(
    ("metadata", "error", "text"),
    [
        (trailer(BOOL, struct.pack("<q", 5)), plasma_store.PlasmaCorrupt, r"shape \[5\]"),
        (trailer(BOOL, struct.pack("<q", -4)), plasma_store.PlasmaCorrupt, r"shape \[-4\]"),
        (trailer(FLOAT4, struct.pack("<2q", 1 << 62, 1 << 62)), plasma_store.PlasmaCorrupt, "4611686018427387904"),
        (trailer(FLOAT4, struct.pack("<q", 9)), plasma_store.PlasmaCorrupt, r"shape \[9\]"),
        (trailer(struct.pack("<BBH", 4, 16, 1), struct.pack("<q", 4)), plasma_store.PlasmaCorrupt, "bfloat16"),
        (trailer(BOOL), plasma_store.PlasmaCorrupt, "without a shape"),
        (trailer(BOOL, bytes(7)), plasma_store.PlasmaCorrupt, "7 bytes"),
        (trailer(BOOL, bytes(8 * 33)), plasma_store.PlasmaCorrupt, "264 bytes"),
        (trailer(b"abc"), plasma_store.PlasmaCorrupt, "3 bytes"),
        (trailer(struct.pack("<BBH", 99, 8, 1), struct.pack("<q", 4)), plasma_store.PlasmaUnsupported, "code 99"),
    ],
)
def test_metadata_that_lie_of_a_tensor(old: Peer, ours: PlasmaClient, metadata: bytes, error: Any, text: str) -> None:
    [buffer] = ours.get_buffers([ours.put_tensor(np.array([1, 0, 1, 1], "uint8"))])
    assert buffer is not None
    message, right, lying = bytes(memoryview(buffer).cast("B")), ObjectID.from_random(), ObjectID.from_random()
    old("put", right, message, trailer(BOOL, struct.pack("<q", 4)))
    assert ours.get_tensor(right).numpy().tolist() == [True, False, True, True]
    old("put", lying, message, metadata)
    with pytest.raises(error, match=text):
        ours.get_tensor(lying)
