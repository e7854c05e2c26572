"""The other side of test_pyarrow11.py: the client of pyarrow.plasma 11, told by lines of JSON what to do.

Runs in an interpreter of its own with pyarrow 11 and numpy before 2. With a second argument it is a program that was moved
to this project by changing one import; else it knows nothing of it.
"""

import importlib
import json
import sys
import warnings
from typing import Any, Dict, List

import numpy as np
import pyarrow as pa

warnings.simplefilter("ignore")
plasma: Any = importlib.import_module(sys.argv[2] if len(sys.argv) > 2 else "pyarrow.plasma")


class Peer:
    """One connection; each method is a command, its result the answer."""

    def __init__(self, socket_path: str) -> None:
        self.client = plasma.connect(socket_path)

    def put(self, object_id: str, data: str, metadata: str) -> None:
        """The raw flow of the tutorial."""
        buffer = self.client.create(_id(object_id), len(bytes.fromhex(data)), bytes.fromhex(metadata))
        np.frombuffer(buffer, dtype="uint8")[:] = np.frombuffer(bytes.fromhex(data), dtype="uint8")
        self.client.seal(_id(object_id))

    def get(self, object_id: str, timeout_ms: int = -1) -> Any:
        [(metadata, data)] = self.client.get_buffers([_id(object_id)], timeout_ms, True)
        return None if data is None else [data.to_pybytes().hex(), metadata.hex()]

    def get_twice_and_missing(self, object_id: str, missing: str) -> Any:
        buffers = self.client.get_buffers([_id(object_id), _id(missing)], timeout_ms=0)
        return [buffer is not None for buffer in buffers]

    def put_tensor(self, object_id: str, dtype: str, shape: List[int], column_major: bool) -> None:
        """The flow "tensor in" of the tutorial."""
        array = np.arange(np.prod(shape)).astype(dtype).reshape(shape, order="F" if column_major else "C")
        tensor = pa.Tensor.from_numpy(array)
        buffer = self.client.create(_id(object_id), pa.ipc.get_tensor_size(tensor))
        stream = pa.FixedSizeBufferWriter(buffer)
        stream.set_memcopy_threads(4)
        pa.ipc.write_tensor(tensor, stream)
        self.client.seal(_id(object_id))

    def get_tensor(self, object_id: str) -> Any:
        """The flow "tensor out" of the tutorial."""
        [buffer] = self.client.get_buffers([_id(object_id)])
        array = pa.ipc.read_tensor(pa.BufferReader(buffer)).to_numpy()
        inside = buffer.address <= array.ctypes.data <= buffer.address + buffer.size
        return [str(array.dtype), array.tolist(), list(array.strides), inside]

    def put_frame(self, object_id: str, columns: Dict[str, List[Any]]) -> None:
        """The flow "DataFrame in" of the tutorial, from a record batch."""
        batch = pa.RecordBatch.from_pydict(columns)
        sink = pa.MockOutputStream()
        with pa.RecordBatchStreamWriter(sink, batch.schema) as writer:
            writer.write_batch(batch)
        buffer = self.client.create(_id(object_id), sink.size())
        with pa.RecordBatchStreamWriter(pa.FixedSizeBufferWriter(buffer), batch.schema) as writer:
            writer.write_batch(batch)
        self.client.seal(_id(object_id))

    def get_frame(self, object_id: str) -> Any:
        """The flow "DataFrame out"."""
        [buffer] = self.client.get_buffers([_id(object_id)])
        return pa.RecordBatchStreamReader(pa.BufferReader(buffer)).read_next_batch().to_pydict()

    def put_python(self, object_id: str, value: Any) -> None:
        self.client.put(value, _id(object_id))

    def get_python(self, object_id: str) -> Any:
        return self.client.get(_id(object_id))

    def put_array(self, object_id: str, dtype: str, count: int) -> None:
        """An array, as a value: not a tensor object."""
        self.client.put({"array": np.arange(count).astype(dtype)}, _id(object_id))

    def get_array(self, object_id: str) -> Any:
        array = self.client.get(_id(object_id))["array"]
        [buffer] = self.client.get_buffers([_id(object_id)])
        inside = buffer.address <= array.ctypes.data <= buffer.address + buffer.size
        return [str(array.dtype), array.tolist(), array.flags.writeable, inside]

    def is_available(self, object_id: str) -> bool:
        return self.client.get(_id(object_id), timeout_ms=0) is not plasma.ObjectNotAvailable

    def seal_twice(self, object_id: str) -> str:
        try:
            self.client.seal(_id(object_id))
        except Exception as error:
            return type(error).__name__
        return "nothing"

    def create_fails_with(self, object_id: str, size: int) -> str:
        try:
            self.client.create(_id(object_id), size)
        except Exception as error:
            return type(error).__name__
        return "nothing"

    def contains(self, object_id: str) -> Any:
        return self.client.contains(_id(object_id))

    def delete(self, object_id: str) -> None:
        self.client.delete([_id(object_id)])

    def list(self) -> Dict[str, Any]:
        return {object_id.binary().hex(): info for object_id, info in self.client.list().items()}

    def evict(self, size: int) -> Any:
        return self.client.evict(size)

    def hash(self, object_id: str) -> Any:
        return self.client.hash(_id(object_id)).hex()

    def put_raw_buffer(self, object_id: str, data: str, metadata: str) -> None:
        self.client.put_raw_buffer(bytes.fromhex(data), _id(object_id), bytes.fromhex(metadata))

    def set_client_options(self, name: str, quota: int) -> None:
        self.client.set_client_options(name, quota)

    def store_capacity(self) -> Any:
        return self.client.store_capacity()


def _id(digits: str) -> plasma.ObjectID:
    return plasma.ObjectID(bytes.fromhex(digits))


def main() -> None:
    peer = Peer(sys.argv[1])
    print(json.dumps(pa.__version__), flush=True)
    for line in sys.stdin:
        command, *arguments = json.loads(line)
        print(json.dumps(getattr(peer, command)(*arguments)), flush=True)


if __name__ == "__main__":
    main()
