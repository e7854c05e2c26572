"""Tables and record batches: they lie in the store as Arrow IPC streams."""

from __future__ import annotations

import subprocess
import sys

import pytest

import plasma_store
from plasma_store import PlasmaClient, Store

pa = pytest.importorskip("pyarrow")


def table() -> object:
    schema = pa.schema([pa.field("x", pa.int64(), metadata={"unit": "m"}), ("words", pa.string())], metadata={"who": "us"})
    return pa.table({"x": [1, None, 3] * 100, "words": ["a", "bb", None] * 100}, schema=schema)


def test_a_table_comes_back_where_it_lies(client: PlasmaClient) -> None:
    given = table()
    object_id = client.put_arrow(given)
    before = pa.total_allocated_bytes()
    got = client.get_arrow(object_id)
    assert pa.total_allocated_bytes() == before
    assert got.equals(given)
    assert got.schema.equals(given.schema, check_metadata=True)  # type: ignore[attr-defined]
    [buffer] = client.get_buffers([object_id])
    begin = buffer.address  # type: ignore[union-attr]
    values = got.column("x").chunk(0).buffers()[1]
    assert begin <= values.address < begin + len(buffer)  # type: ignore[arg-type]
    assert not values.is_mutable


def test_a_batch_and_a_table_of_many(client: PlasmaClient) -> None:
    batch = pa.record_batch([pa.array([1, 2])], names=["x"])
    assert client.get_arrow(client.put_arrow(batch, "batch")).to_batches() == [batch]
    assert client.get_arrow("batch").num_rows == 2
    many = pa.Table.from_batches([batch] * 3)
    assert client.get_arrow(client.put_arrow(many)).to_batches() == [batch] * 3
    empty = pa.schema([("x", pa.int8())]).empty_table()
    assert client.get_arrow(client.put_arrow(empty)).equals(empty)


def test_the_stream_of_another_writer(client: PlasmaClient) -> None:
    given, sink = table(), pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, given.schema) as writer:  # type: ignore[attr-defined]
        writer.write_table(given)
    assert client.get_arrow(client.put_raw_buffer(sink.getvalue())).equals(given)


def test_a_table_outlives_the_client_and_the_object(store: Store) -> None:
    with plasma_store.connect(store.socket_path) as client:
        object_id = client.put_arrow(table())
        got = client.get_arrow(object_id)
        client.delete([object_id])
    assert got.equals(table())


def test_what_is_no_table_is_refused(client: PlasmaClient) -> None:
    with pytest.raises(TypeError, match=r"pyarrow.Table or RecordBatch is needed, not \[1\]"):
        client.put_arrow([1])
    object_id = client.put_raw_buffer(b"no stream at all")
    with pytest.raises(plasma_store.PlasmaCorrupt, match="16 bytes is not an Arrow IPC stream"):
        client.get_arrow(object_id)
    with pytest.raises(plasma_store.PlasmaTimeout):
        client.get_arrow("nothing", timeout_ms=0)


def test_without_pyarrow_it_is_said(store: Store) -> None:
    script = """
import sys
sys.modules["pyarrow"] = None
import plasma_store
client = plasma_store.connect(sys.argv[1])
for call in (lambda: client.put_arrow(5), lambda: client.get_arrow(client.put_raw_buffer(b"x"))):
    try:
        call()
    except plasma_store.PlasmaUnsupported as error:
        assert "pyarrow" in str(error), error
    else:
        raise AssertionError("it was not refused")
"""
    subprocess.run([sys.executable, "-c", script, store.socket_path], check=True)
