"""Tables and record batches of Arrow, as objects: the bytes are an Arrow IPC stream."""

from __future__ import annotations

from typing import Any

from .buffer import Hold, pyarrow_or_none, wrap
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
        with self._pyarrow.ipc.new_stream(sink, self._value.schema) as writer:
            writer.write(self._value)


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
