"""Puts that take long tell how far they are, those who asked and nobody else, and can be ended."""

from __future__ import annotations

import io
import sys
from typing import Any, Callable, Dict, List, Tuple

import pytest

import plasma_store
from plasma_store import ObjectID, PlasmaClient, Store, progress

np = pytest.importorskip("numpy")

Told = List[Tuple[int, int]]
PART = 1 << 16
SIZE = 5 * PART + 100
DATA = np.random.default_rng(1).integers(0, 255, SIZE, dtype="uint8")


@pytest.fixture(autouse=True)
def _small_and_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if each part were large and took long."""
    monkeypatch.setattr(progress, "PART", PART)
    monkeypatch.setattr(progress, "AFTER_S", 0)
    monkeypatch.setattr(progress, "EVERY_S", 0)


PUTS: Dict[str, Tuple[Callable[..., Any], Callable[..., Any]]] = {
    "put_raw_buffer": (
        lambda client, object_id, **options: client.put_raw_buffer(DATA, object_id, b"meta", **options),
        lambda client, object_id: client.get_buffers([object_id])[0],
    ),
    "put": (lambda client, object_id, **options: client.put(DATA, object_id, **options), PlasmaClient.get),
    "put_tensor": (
        lambda client, object_id, **options: client.put_tensor(DATA, object_id, b"meta", dim_names=["x"], **options),
        lambda client, object_id: client.get_tensor(object_id).data,
    ),
    "put_tensors": (
        lambda client, object_id, **options: client.put_tensors({"x": DATA[:PART], "none": DATA[:0], "y": DATA[PART:]}, object_id, **options),
        lambda client, object_id: b"".join(client.get_tensors(object_id)[name].data for name in ("x", "none", "y")),
    ),
    "put_arrow": (
        lambda client, object_id, **options: client.put_arrow(table(), object_id, **options),
        lambda client, object_id: client.get_arrow(object_id).column("x").combine_chunks().buffers()[1],
    ),
}
# Those that take metadata of the user's.
TAKES_METADATA = ("put_raw_buffer", "put_tensor")


def table() -> Any:
    pyarrow = pytest.importorskip("pyarrow")
    return pyarrow.table({"x": pyarrow.array(DATA)})


EACH = pytest.mark.parametrize("kind", PUTS)


@EACH
@pytest.mark.parametrize("immutable", [False, True])
def test_each_part_is_told(store: Store, object_id: ObjectID, kind: str, immutable: bool) -> None:
    told: Told = []
    put, read = PUTS[kind]
    with plasma_store.connect(store.socket_path, progress=lambda done, total: told.append((done, total))) as client:
        put(client, object_id, immutable=immutable)
        assert bytes(read(client, object_id)) == DATA.tobytes()
        assert client.is_immutable(object_id) == immutable
        metadata = bytes(client.get_metadata([object_id])[0] or b"")
        assert metadata.startswith(b"meta" if kind in TAKES_METADATA else b"")
    # pyarrow writes its messages in several pieces.
    assert len(told) > 6 if kind == "put_arrow" else len(told) == 6
    assert max(after[0] - before[0] for before, after in zip(told, told[1:])) <= PART
    assert sorted(told) == told
    [total] = {total for _, total in told}
    assert SIZE <= total <= SIZE + 1000
    assert told[-1] == (total, total)


@EACH
def test_what_the_function_raises_ends_the_put(store: Store, object_id: ObjectID, kind: str) -> None:
    told: Told = []

    def enough(done: int, total: int) -> None:
        told.append((done, total))
        if done > total // 2:
            raise ZeroDivisionError(f"{done} of {total}")

    put = PUTS[kind][0]
    with plasma_store.connect(store.socket_path, progress=enough) as client:
        with pytest.raises(ZeroDivisionError, match=r"^(19|2\d)\d{4} of 32\d{4}$"):
            put(client, object_id)
        assert client.list() == {}
        # Nobody is told any more.
        assert [done for done, total in told if done > total // 2] == [told[-1][0]]
        client.progress = None
        put(client, object_id)


def test_the_dimensions_keep_their_names(client: PlasmaClient) -> None:
    client.progress = lambda done, total: None
    array = DATA[: 4 * PART].view("float16").reshape(2, -1)
    tensor = client.get_tensor(client.put_tensor(array, dim_names=["a", "b"]))
    assert (tensor.shape, tensor.dtype, tensor.dim_names) == (array.shape, "float16", ("a", "b"))
    np.testing.assert_array_equal(tensor.numpy().view("uint8"), array.view("uint8"))


def test_other_layouts_are_stored_in_one_go(client: PlasmaClient) -> None:
    told: Told = []
    client.progress = lambda done, total: told.append((done, total))
    array = DATA[: 4 * PART].reshape(4, -1)
    for other in (np.asfortranarray(array), array[:, ::2], array.T):
        assert (client.get_tensor(client.put_tensor(other)).numpy() == other).all()
        bundle = client.get_tensors(client.put_tensors({"rows": array, "other": other}))
        assert (bundle["rows"].numpy() == array).all()
        assert (bundle["other"].numpy() == other).all()
    assert told == []


def test_a_bundle_is_the_same_whether_it_is_told_or_not(client: PlasmaClient) -> None:
    tensors = {"a": DATA[:3], "none": DATA[:0], "b": DATA[: 4 * PART].view("float32"), "scalar": np.array(7, "int16")}
    plain = client.get_buffers([client.put_tensors(tensors, metadata={"step": "5"})])
    client.progress = lambda done, total: None
    told = client.get_buffers([client.put_tensors(tensors, "told", {"step": "5"})])
    assert bytes(memoryview(plain[0])) == bytes(memoryview(told[0]))  # type: ignore[arg-type]
    assert [info["name"] for info in client.list().values() if info["name"]] == ["told"]
    for refused in ({"__pad.0": DATA}, {"x": DATA[: 4 * PART].view("complex128")}):
        with pytest.raises((plasma_store.PlasmaInvalidArgument, plasma_store.PlasmaUnsupported), match="__pad.0|\"x\""):
            client.put_tensors(refused)
    assert len(client.list()) == 2


def test_nothing_is_told_of_what_is_small_or_fast(client: PlasmaClient, monkeypatch: pytest.MonkeyPatch) -> None:
    told: Told = []
    client.progress = lambda done, total: told.append((done, total))
    client.put_raw_buffer(bytes(PART))
    assert told == []
    monkeypatch.setattr(progress, "AFTER_S", 1e9)
    client.put_raw_buffer(bytes(SIZE))
    assert told == []


class Terminal(io.StringIO):
    """A stderr that is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def quiet_or_not(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    def written(client: PlasmaClient, stream: Any) -> Any:
        monkeypatch.setattr(sys, "stderr", stream)
        client.put_raw_buffer(DATA)
        return stream and stream.getvalue()

    return written


def test_a_line_is_written_only_to_a_terminal_and_only_when_it_is_asked_for(client: PlasmaClient, quiet_or_not: Any) -> None:
    assert quiet_or_not(client, Terminal()) == ""
    client.progress = True
    assert quiet_or_not(client, io.StringIO()) == ""
    assert quiet_or_not(client, None) is None
    line = quiet_or_not(client, Terminal())
    assert line.startswith("\rplasma_store: 0.0 of 0.0 GiB stored\r")
    assert (line.count("\r"), line.count("\n"), line[-1]) == (6, 1, "\n")
    client.progress = False
    assert quiet_or_not(client, Terminal()) == ""
