"""One framework of the interop matrix, in a process of its own: writes all cases it can, or reads what others wrote.

A case is a tensor in an object of its own, or one that a bundle has by the name "x".

Usage: peer.py FRAMEWORK write|read SOCKET [EXCHANGE]     cases come as JSON on stdin, results go as JSON to stdout

A result is "" for a case that was written, or `{"dtype", "shape", "elements", "same"}` of one that was read; where that cannot be,
it is the reason, after a "!". `elements` are the bytes of all elements with the last index running fastest, where those smaller
than a byte have a byte each; `same` says whether they were read where they lie in the store.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import math
import subprocess
import sys
from typing import Any, ClassVar


class Absent(Exception):
    """The framework has no such type or layout."""


def array_of(case: dict[str, Any], dtype: Any) -> Any:
    """The case as an array of numpy."""
    import numpy

    memory = bytearray.fromhex(case["memory"])
    strides = [stride * dtype.itemsize for stride in case["strides"]]
    return numpy.ndarray(case["shape"], dtype, memory if memory else bytearray(64), 0, strides)


def native(case: dict[str, Any]) -> Any:
    """The numpy dtype of a type that numpy itself has."""
    import numpy

    if not case["numpy"]:
        raise Absent(f"numpy has no {case['dtype']}")
    return numpy.dtype(case["numpy"])


def elements(array: Any) -> str:
    return str(array.tobytes().hex())


def apart(data: bytes, bits: int, count: int) -> bytes:
    """Elements of less than a byte, in a byte each."""
    whole = int.from_bytes(data, "little")
    return bytes(whole >> bits * place & ((1 << bits) - 1) for place in range(count))


class Ours:
    """A framework that reads and writes through the Python package."""

    def __init__(self, socket: str) -> None:
        import plasma_store

        self.package = plasma_store
        self.client = plasma_store.connect(socket)

    def id_of(self, case: dict[str, Any]) -> Any:
        return self.package.ObjectID(bytes.fromhex(case["id"]))

    def write(self, case: dict[str, Any]) -> None:
        self.client.put_tensor(self.made(case), self.id_of(case))
        lent = self.client.get_tensor(self.id_of(case), 0).dtype
        if lent != case["dtype"]:
            self.client.delete([self.id_of(case)])
            raise Absent(f"it lends elements of {case['dtype']} as {lent}")

    def made(self, case: dict[str, Any]) -> Any:
        raise NotImplementedError

    def read(self, case: dict[str, Any]) -> dict[str, Any]:
        return self.taken(self.client.get_tensor(self.id_of(case), 0))

    def write_bundle(self, case: dict[str, Any]) -> None:
        self.client.put_tensors({"x": self.made(case)}, self.id_of(case))
        lent = self.client.get_tensors(self.id_of(case), 0)["x"].dtype
        if lent != case["dtype"]:
            self.client.delete([self.id_of(case)])
            raise Absent(f"it lends elements of {case['dtype']} as {lent}")

    def read_bundle(self, case: dict[str, Any]) -> dict[str, Any]:
        return self.taken(self.client.get_tensors(self.id_of(case), 0)["x"])

    def taken(self, tensor: Any) -> dict[str, Any]:
        raise NotImplementedError


class Python(Ours):
    """The package alone, without any framework."""

    def write(self, case: dict[str, Any]) -> None:
        self.create(self.id_of(case), case)

    def made(self, case: dict[str, Any]) -> Any:
        """Another tensor of the store's."""
        object_id = self.package.ObjectID.from_random()
        self.create(object_id, case)
        return self.client.get_tensor(object_id, 0)

    def create(self, object_id: Any, case: dict[str, Any]) -> None:
        if case["layout"] in ("column-major", "strided"):
            raise Absent("what is created is row-major")
        tensor = self.client.create_tensor(object_id, case["shape"], case["dtype"])
        tensor.data[:] = bytes.fromhex(case["packed"])
        self.client.seal(object_id)

    def taken(self, tensor: Any) -> dict[str, Any]:
        data, size = bytes(tensor.data), tensor.itemsize
        if not size:
            bits = self.package.dtypes.DTYPES[tensor.dtype].bits
            found = apart(data, bits, math.prod(tensor.shape))
        else:
            places = itertools.product(*(range(length) for length in tensor.shape))
            offsets = (sum(index * stride for index, stride in zip(place, tensor.strides)) for place in places)
            found = b"".join(data[offset : offset + size] for offset in offsets) if data else b""
        return {"dtype": tensor.dtype, "shape": tensor.shape, "elements": found.hex(), "same": True}


class Numpy(Ours):
    """numpy, with ml_dtypes where that is installed."""

    def made(self, case: dict[str, Any]) -> Any:
        from plasma_store.dtypes import DTYPES

        return array_of(case, DTYPES[case["dtype"]].numpy())

    def taken(self, tensor: Any) -> dict[str, Any]:
        import numpy

        array = numpy.from_dlpack(tensor) if tensor._typestr else tensor.numpy()
        same = array.ctypes.data == tensor._address or bool(tensor.itemsize and not array.size)
        return {"dtype": array.dtype.name, "shape": array.shape, "elements": elements(array), "same": same}


class Torch(Ours):
    """torch, by `torch.from_dlpack`."""

    def made(self, case: dict[str, Any]) -> Any:
        import torch

        dtype = getattr(torch, case["dtype"], None)
        # Its integers of less than a byte are names without elements.
        if dtype is None or case["padded"]:
            raise Absent(f"torch has no {case['dtype']}")
        memory = bytearray.fromhex(case["memory"])
        flat = torch.frombuffer(memory, dtype=dtype) if memory else torch.empty(0, dtype=dtype)
        return torch.as_strided(flat, case["shape"], case["strides"])

    def taken(self, tensor: Any) -> dict[str, Any]:
        import numpy
        import torch

        got = torch.from_dlpack(tensor)
        size, name = got.element_size(), str(got.dtype).rpartition(".")[2]
        memory = (ctypes.c_ubyte * (got.numel() * size)).from_address(got.data_ptr()) if got.numel() else bytearray(64)
        array = numpy.ndarray(tuple(got.shape), f"V{size}", memory, 0, [stride * size for stride in got.stride()])
        same = got.data_ptr() == tensor._address or not got.numel()
        return {"dtype": name, "shape": tuple(got.shape), "elements": elements(array), "same": same}


class Jax(Ours):
    """JAX on the CPU, with types of 64 bits switched on."""

    def made(self, case: dict[str, Any]) -> Any:
        import jax
        from plasma_store.dtypes import DTYPES

        if case["layout"] in ("column-major", "strided"):
            raise Absent("arrays of JAX have no strides")
        return jax.numpy.asarray(array_of(case, DTYPES[case["dtype"]].numpy()))

    def taken(self, tensor: Any) -> dict[str, Any]:
        import jax
        import numpy

        got = jax.dlpack.from_dlpack(tensor)
        array = numpy.asarray(got)
        same = not array.size or got.unsafe_buffer_pointer() == tensor._address
        return {"dtype": array.dtype.name, "shape": array.shape, "elements": elements(array), "same": same}


class Pyarrow(Ours):
    """Current pyarrow, which reads and writes the bytes of objects as tensor messages."""

    def write(self, case: dict[str, Any]) -> None:
        import pyarrow

        tensor = pyarrow.Tensor.from_numpy(array_of(case, arrows(case)))
        buffer = self.client.create(self.id_of(case), pyarrow.ipc.get_tensor_size(tensor))
        pyarrow.ipc.write_tensor(tensor, pyarrow.FixedSizeBufferWriter(buffer))
        self.client.seal(self.id_of(case))

    def read(self, case: dict[str, Any]) -> dict[str, Any]:
        [buffer] = self.client.get_buffers([self.id_of(case)], 0)
        return of_message(buffer)

    def made(self, case: dict[str, Any]) -> Any:
        import pyarrow

        return pyarrow.Tensor.from_numpy(array_of(case, arrows(case)))

    def taken(self, tensor: Any) -> dict[str, Any]:
        array = tensor.arrow().to_numpy()
        same = array.ctypes.data == tensor._address or not array.size
        return {"dtype": array.dtype.name, "shape": array.shape, "elements": elements(array), "same": same}


class Safetensors(Ours):
    """The package safetensors: its bytes are put as they are, and it is given the bytes of objects."""

    # As it takes them, where that is not what we call them.
    NAMES: ClassVar[dict[str, str]] = {"float4_e2m1fn": "float4_e2m1fn_x2"}
    # As its files have them.
    KINDS: ClassVar[dict[str, str]] = {
        "BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16", "U32": "uint32", "I32": "int32",
        "U64": "uint64", "I64": "int64", "F16": "float16", "F32": "float32", "F64": "float64", "BF16": "bfloat16", "C64": "complex64",
        "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu", "F8_E4M3FNUZ": "float8_e4m3fnuz",
        "F8_E5M2FNUZ": "float8_e5m2fnuz", "F4": "float4_e2m1fn", "F6_E2M3": "float6_e2m3fn", "F6_E3M2": "float6_e3m2fn",
    }

    def write_bundle(self, case: dict[str, Any]) -> None:
        """`safetensors.numpy.save`, or what that calls, where numpy has no such elements."""
        import safetensors.numpy

        if case["layout"] in ("column-major", "strided"):
            raise Absent("it takes contiguous arrays")
        if case["numpy"]:
            file = safetensors.numpy.save({"x": array_of(case, native(case))})
        else:
            data = bytearray.fromhex(case["packed"]) or bytearray(1)
            place = ctypes.addressof((ctypes.c_ubyte * len(data)).from_buffer(data))
            spec = safetensors.TensorSpec(data_ptr=place, data_len=len(case["packed"]) // 2, **self.spec(case))
            file = safetensors.serialize({"x": spec})
        self.client.put_raw_buffer(moved(file, case["alignment"]), self.id_of(case))

    def spec(self, case: dict[str, Any]) -> dict[str, Any]:
        dtype, shape = case["dtype"], case["shape"]
        if dtype == "float4_e2m1fn_x2":
            raise Absent("its files have float4_e2m1fn, twice as many")
        if dtype in self.NAMES:
            if not shape or shape[-1] % 2:
                raise Absent("it takes two in a byte")
            return {"dtype": self.NAMES[dtype], "shape": [*shape[:-1], shape[-1] // 2]}
        return {"dtype": dtype, "shape": shape}

    def read_bundle(self, case: dict[str, Any]) -> dict[str, Any]:
        import safetensors.numpy

        [buffer] = self.client.get_buffers([self.id_of(case)], 0)
        file = bytes(memoryview(buffer))
        [(name, said)] = safetensors.deserialize(file)
        assert name == "x", name
        if case["numpy"]:
            array = safetensors.numpy.load(file)["x"]
            return {"dtype": array.dtype.name, "shape": array.shape, "elements": elements(array), "same": False}
        found = bytes(said["data"])
        if case["padded"]:
            found = apart(found, case["element"][1], math.prod(said["shape"]))
        kind = self.KINDS.get(said["dtype"], said["dtype"])
        return {"dtype": kind, "shape": said["shape"], "elements": found.hex(), "same": False}


def moved(file: bytes, alignment: int) -> bytes:
    """A file whose header has more spaces, so that data begin at a multiple of this and of nothing larger; 0 leaves it as it is."""
    if not alignment:
        return file
    length = int.from_bytes(file[:8], "little")
    header = file[8 : 8 + length].rstrip()
    while (8 + len(header)) % (2 * alignment) != alignment:
        header += b" "
    return len(header).to_bytes(8, "little") + header + file[8 + length :]


class Pyarrow11:
    """pyarrow 11 with its own Plasma client."""

    def __init__(self, socket: str) -> None:
        import pyarrow
        import pyarrow.plasma

        self.pyarrow, self.client = pyarrow, pyarrow.plasma.connect(socket)

    def write(self, case: dict[str, Any]) -> None:
        tensor = self.pyarrow.Tensor.from_numpy(array_of(case, arrows(case)))
        object_id = self.pyarrow.plasma.ObjectID(bytes.fromhex(case["id"]))
        buffer = self.client.create(object_id, self.pyarrow.ipc.get_tensor_size(tensor))
        self.pyarrow.ipc.write_tensor(tensor, self.pyarrow.FixedSizeBufferWriter(buffer))
        self.client.seal(object_id)

    def read(self, case: dict[str, Any]) -> dict[str, Any]:
        object_id = self.pyarrow.plasma.ObjectID(bytes.fromhex(case["id"]))
        [buffer] = self.client.get_buffers([object_id], 0)
        return of_message(buffer)


def arrows(case: dict[str, Any]) -> Any:
    dtype = native(case)
    if dtype.kind not in "iuf":
        raise Absent(f"Arrow tensors have no {case['dtype']}")
    return dtype


def of_message(buffer: Any) -> dict[str, Any]:
    """A tensor message in a buffer of pyarrow. Of a type that Arrow does not have, it is the carrier."""
    import pyarrow

    array = pyarrow.ipc.read_tensor(pyarrow.BufferReader(buffer)).to_numpy()
    inside = buffer.address <= array.ctypes.data <= buffer.address + buffer.size
    return {"dtype": array.dtype.name, "shape": array.shape, "elements": elements(array), "same": inside or not array.size}


class Program:
    """A program that is not Python: exchange.c, exchange.cpp or go/exchange.go."""

    def __init__(self, socket: str) -> None:
        self.process = subprocess.Popen([sys.argv[4], socket], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, *words: Any) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(*words, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline().rstrip("\n")
        if not answer or answer.startswith("!"):
            raise RuntimeError(answer[1:] or "exchange ended")
        return answer

    def write(self, case: dict[str, Any], command: str = "W") -> None:
        shape, strides = case["shape"], case["strides"]
        self.ask(command, case["id"], *case["element"], int(case["padded"]), len(shape), *shape, *strides, case["memory"])

    def write_bundle(self, case: dict[str, Any]) -> None:
        self.write(case, "B")

    def read_bundle(self, case: dict[str, Any]) -> dict[str, Any]:
        return self.read(case, "G")

    def read(self, case: dict[str, Any], command: str = "R") -> dict[str, Any]:
        code, bits, lanes, same, ndim, *rest = self.ask(command, case["id"]).split(" ")
        shape = [int(word) for word in rest[: int(ndim)]]
        strides = [int(word) for word in rest[int(ndim) : 2 * int(ndim)]]
        data, size = bytes.fromhex(rest[-1]), int(bits) * int(lanes) // 8
        places = list(itertools.product(*(range(length) for length in shape)))
        offsets = [sum(index * stride for index, stride in zip(place, strides)) for place in places]
        if size:
            found = b"".join(data[offset * size : offset * size + size] for offset in offsets)
        else:
            whole = int.from_bytes(data, "little")
            found = bytes(whole >> int(bits) * offset & ((1 << int(bits)) - 1) for offset in offsets)
        element = [int(code), int(bits), int(lanes)]
        name = case["dtype"] if element == case["element"] else str(element)
        return {"dtype": name, "shape": shape, "elements": found.hex(), "same": same == "1"}


FRAMEWORKS = {"numpy": Numpy, "numpy 1": Numpy, "torch": Torch, "JAX": Jax, "pyarrow": Pyarrow, "pyarrow 11": Pyarrow11,
              "C": Program, "C++": Program, "Go": Program, "Python": Python, "safetensors": Safetensors}


def main() -> None:
    framework = FRAMEWORKS[sys.argv[1]](sys.argv[3])
    results = []
    for case in json.load(sys.stdin):
        step = getattr(framework, f"{sys.argv[2]}_bundle" if case["form"] == "bundle" else sys.argv[2])
        try:
            results.append(step(case) or "")
        except Exception as error:
            results.append(f"!{type(error).__name__}: {str(error)[:200]}")
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
