"""Tables and record batches of Arrow, as objects: the bytes are an Arrow IPC stream."""

from __future__ import annotations

from typing import Any

from .buffer import Hold, Source, pyarrow_or_none, wrap
from .errors import PlasmaCorrupt, PlasmaUnsupported
from .progress import Copier


class NewTable:
    """A table or record batch that is ready to be written."""

    size: int
    """Bytes that it takes."""

    def __init__(self, value: Any) -> None:
        """Raises TypeError for what is neither."""
        self._pyarrow = _pyarrow()
        if not isinstance(value, (self._pyarrow.Table, self._pyarrow.RecordBatch)):
            raise TypeError(f"a pyarrow.Table or RecordBatch is needed, not {value!r:.100}")
        self._value = value
        counted = self._pyarrow.MockOutputStream()
        self._write(counted)
        self.size = counted.size()

    def write(self, hold: Hold, copier: Copier) -> None:
        """Fills an object of `size` bytes that is being created. Keeps nothing of it, also when this fails."""
        if copier.is_told:
            sink = self._pyarrow.PythonFile(_Sink(hold, copier), mode="w")
        else:
            sink = self._pyarrow.FixedSizeBufferWriter(wrap(hold.data()))
        try:
            self._write(sink)
        finally:
            # A traceback keeps this frame, and must not keep the object's memory.
            del sink

    def to_bytes(self) -> Any:
        """The same bytes."""
        sink = self._pyarrow.BufferOutputStream()
        self._write(sink)
        return sink.getvalue()

    def _write(self, sink: Any) -> None:
        writer = self._pyarrow.ipc.new_stream(sink, self._value.schema)
        writer.write(self._value)
        # Not where that failed: it would write the end of the stream.
        writer.close()


class _Sink:
    """What pyarrow takes for a file, and gives each of its buffers as it lies."""

    closed = False

    def __init__(self, hold: Hold, copier: Copier) -> None:
        self._hold, self._copier, self._offset = hold, copier, 0

    def write(self, data: Any) -> int:
        """Copies bytes behind those before."""
        source = Source(data)
        self._copier.write(self._hold, self._offset, source.address, len(source))
        self._offset += len(source)
        return len(source)

    def flush(self) -> None:
        """There is nothing between."""


def table_of(hold: Hold, name: str) -> Any:
    """The table in an object, which lies in its memory. `name` is the object's, for errors."""
    pyarrow, data = _pyarrow(), hold.sealed_data()
    try:
        with pyarrow.ipc.open_stream(wrap(data)) as reader:
            return reader.read_all()
    except (pyarrow.ArrowInvalid, pyarrow.ArrowIOError, pyarrow.ArrowNotImplementedError) as error:
        raise PlasmaCorrupt(f"object {name} of {len(data)} bytes is not an Arrow IPC stream: {error}") from error


def _pyarrow() -> Any:
    pyarrow = pyarrow_or_none()
    if pyarrow is None:
        raise PlasmaUnsupported("tables of Arrow need the package pyarrow, which is not installed")
    return pyarrow
