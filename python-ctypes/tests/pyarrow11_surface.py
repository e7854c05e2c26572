"""What a module says of itself and how it behaves, as JSON: the other side of test_pyarrow11_surface.py.

Runs in an interpreter with pyarrow 11, once for pyarrow.plasma and once for plasma_store, each at a store of its own.
"""

import asyncio
import importlib
import inspect
import json
import re
import struct
import sys
from types import ModuleType
from typing import Any, Dict, List, Optional, Tuple

import pyarrow as pa

plasma: Any = importlib.import_module(sys.argv[1])

# What programs do, as expressions: `c` is a client, `r()` a fresh id, `p(data)` the id of an object. Each is done alone; what
# it gives must be the same, or what it raises be caught by the same except clauses.
BEHAVIOUR = """
plasma.ObjectID(b"x" * 20).binary()
repr(plasma.ObjectID(b"x" * 20))
str(plasma.ObjectID(b"x" * 20))
hash(plasma.ObjectID(b"x" * 20)) == hash(b"x" * 20)
plasma.ObjectID(b"x" * 20) == plasma.ObjectID(b"x" * 20)
plasma.ObjectID(b"x" * 20) != b"x" * 20
plasma.ObjectID(object_id=b"x" * 20).binary()
plasma.ObjectID(b"x" * 19)
plasma.ObjectID(bytearray(20))
plasma.ObjectID("x" * 20)
plasma.ObjectID()
r() < r()
sorted([r(), r()])
len(plasma.ObjectID.from_random().binary())
len({r(), r()})
len({(random.seed(5), r())[1] for _ in range(2)})
pickle.loads(pickle.dumps(plasma.ObjectID(b"x" * 20))).binary()
copy.deepcopy(plasma.ObjectID(b"x" * 20)).binary()
weakref.ref(c)() is c
(lambda i: weakref.ref(i)() is i)(r())
setattr(r(), "other", 1)
plasma.ObjectID.size()
plasma.ObjectNotAvailable().__class__ is plasma.ObjectNotAvailable
plasma.PlasmaBuffer()
isinstance(c.create(r(), 10), plasma.PlasmaBuffer)
isinstance(c.get_buffers([p(b"x")])[0], plasma.PlasmaBuffer)
issubclass(plasma.PlasmaBuffer, pa.Buffer)
isinstance(c.create(r(), 10), pa.Buffer)
isinstance(b"x", plasma.PlasmaBuffer)
(lambda b: [b.is_mutable, b.size, len(b), memoryview(b).format, memoryview(b).readonly])(c.create(r(), 10))
(lambda b: [b.is_mutable, b.size, len(b), memoryview(b).format, memoryview(b).readonly])(c.get_buffers([p(b"xy")])[0])
pa.FixedSizeBufferWriter(c.create(r(), 10)).write(b"0123456789")
len(c.create(r(), 0))
len(c.create(r(), 1, b"meta"))
len(c.create(r(), data_size=1, metadata=bytearray(b"meta")))
len(c.create(r(), 10.0))
len(c.create(r(), 10.7))
len(c.create(r(), np.int64(10)))
c.create(r(), "10")
c.create(r(), None)
c.create(r(), 1, "text")
c.create(r(), 1, None)
c.create(b"x" * 20, 1)
c.create(p(b"x"), 1)
c.create(r(), 1 << 40)
c.create(r(), 1 << 64)
c.create_and_seal(r(), b"data")
c.create_and_seal(r(), bytearray(b"data"), bytearray(b"meta"))
c.create_and_seal(r(), "data")
c.create_and_seal(p(b"x"), b"data")
c.create_and_seal(object_id=r(), data=b"", metadata=b"")
c.seal(r())
c.seal(p(b"x"))
(lambda i: [c.create(i, 1), c.seal(i), c.seal(i)])(r())
c.seal(b"x")
c.get_buffers([p(b"x"), r()], 0)[1]
c.get_buffers([p(b"x"), r()], 0, True)[1]
[type(part).__name__ for part in c.get_buffers([p(b"x")], with_meta=True)[0]]
c.get_buffers([p(b"xy")])[0].to_pybytes()
c.get_buffers([])
len(c.get_buffers(iter([p(b"xy")])))
len(c.get_buffers((p(b"xy"),)))
c.get_buffers([r()], 1.5)
c.get_buffers([r()], timeout_ms=0)
c.get_buffers([r()], "1")
c.get_buffers([r()], None)
c.get_buffers(r(), 0)
c.get_buffers([b"x" * 20], 0)
c.get_buffers(None, 0)
c.get_metadata([r()], 0)
c.get_metadata([p(b"x")])[0].to_pybytes()
c.get_metadata([c.put_raw_buffer(b"x", metadata=b"meta")])[0].to_pybytes()
c.get(c.put([1, "x", None]))
c.get([c.put([1, "x", None])])
c.get((c.put(5), c.put(6)))
c.get(object_ids=[], timeout_ms=0)
c.get(r(), 0) is plasma.ObjectNotAvailable
c.get([r()], timeout_ms=0) == [plasma.ObjectNotAvailable]
c.get(p(b""), 0) is plasma.ObjectNotAvailable
c.get(c.put(np.arange(3))).flags.writeable
c.get(c.put({"a": np.arange(3)}))["a"].tolist()
c.put(object())
c.put(5, p(b"x"))
c.put(5, object_id=b"x" * 20)
c.put(5, None, 2).binary() != c.put(5, memcopy_threads=1).binary()
c.get(c.put(5, serialization_context=pa.lib.SerializationContext()), -1, pa.lib.SerializationContext())
c.put_raw_buffer(b"x", None, b"meta", 2).binary() != b""
c.put_raw_buffer("text")
c.put_raw_buffer(b"x", p(b"x"))
c.contains(r())
c.contains(p(b"x"))
c.contains("x")
len(c.hash(p(b"x")))
c.hash(p(b"x")).hex()
c.hash(r())
type(c.evict(1)).__name__
c.evict(0.0)
c.evict("1")
c.delete([])
c.delete([r(), p(b"x")])
c.delete(r())
c.delete([b"x"])
(c.create(r(), 1), type(c.list()).__name__)[1]
(p(b"x"), {type(key).__name__ for key in c.list()} == {"ObjectID"})[1]
(p(b"x"), sorted(next(iter(c.list().values()))))[1]
(p(b"x"), {(key, type(value).__name__) for info in c.list().values() for key, value in info.items()})[1]
(lambda i: [c.list()[i][key] for key in ("data_size", "metadata_size", "state")])(c.put_raw_buffer(b"xy", metadata=b"m"))
(lambda i, b: [c.list()[i][key] for key in ("ref_count", "construct_duration", "state")])(*held())
c.store_capacity()
c.store_socket_name == sys.argv[2]
setattr(c, "store_socket_name", "x")
type(c.debug_string()).__name__
c.set_client_options("name", 1000)
c.set_client_options("name", 1 << 40)
c.set_client_options(client_name="name", limit_output_memory=1000.0)
c.set_client_options(b"name", 1000)
c.set_client_options("name", "1000")
c.subscribe()
(subscribed(), p(b"xy"), c.get_next_notification()[1:])[2]
(subscribed(), c.put_raw_buffer(b"xy", metadata=b"m"), c.get_next_notification()[1:])[2]
[type(part).__name__ for part in (subscribed(), p(b"xy"), c.get_next_notification())[2]]
(lambda i: (subscribed(), c.delete([i]), c.get_next_notification()[1:])[2])(p(b"x"))
(lambda i: (subscribed(), c.delete([i]), c.get_next_notification()[0] == i)[2])(p(b"x"))
(lambda i: (subscribed(), c.create_and_seal(i, b"x"), c.get_next_notification()[0] == i)[2])(r())
(lambda b: (subscribed(), c.seal(b[0]), c.get_next_notification()[1:])[2])(held())
(subscribed(), p(b"xy"), c.decode_notifications(frame(c.get_notification_socket()))[1:])[2]
(lambda i: (subscribed(), c.delete([i]), c.decode_notifications(frame(c.get_notification_socket())))[2] == ([i], [-1], [-1]))(p(b""))
(subscribed(), p(b"xy"), c.decode_notifications(bytearray(frame(c.get_notification_socket())))[1:])[2]
[type(part).__name__ for part in (subscribed(), p(b"xy"), c.decode_notifications(frame(c.get_notification_socket())))[2]]
(lambda s: [isinstance(s, socket.socket), s.family.name, s.type.name, s.gettimeout(), s.getblocking()])(sock())
(lambda s: select.select([s], [], [], 0)[0])(sock())
(lambda s: (p(b"x"), select.select([s], [], [])[0] == [s], c.get_next_notification(), select.select([s], [], [], 0)[0])[1::2])(sock())
(lambda s: (s.setblocking(False), s.recv(8)))(sock())
(lambda s: (s.settimeout(0.01), s.recv(8)))(sock())
(lambda s: (p(b"xy"), len(asyncio.run(received(s)))))(sock())[1] > 0
(lambda s: (s.close(), c.get_next_notification()))(sock())
(lambda s: (c.disconnect(), s.recv(8)))(sock())[1]
(subscribed(), c.disconnect(), c.get_next_notification())
c.get_notification_socket()
c.get_next_notification()
c.decode_notifications("text")
c.decode_notifications(5)
c.decode_notifications()
(c.disconnect(), c.subscribe())
type(c.to_capsule()).__name__
c.other
c.disconnect()
(c.disconnect(), c.disconnect())
(c.disconnect(), c.store_socket_name == sys.argv[2])[1]
(c.disconnect(), c.contains(r()))
(c.disconnect(), c.create(r(), 1))
(c.disconnect(), c.get_buffers([r()], 0))
(c.disconnect(), c.put(1))
(c.disconnect(), c.list())
(c.disconnect(), c.evict(1))
(c.disconnect(), c.store_capacity())[1]
(c.disconnect(), c.debug_string())[1]
(lambda b: (c.disconnect(), b.to_pybytes())[1])(c.get_buffers([p(b"xy")])[0])
type(plasma.PlasmaClient()).__name__
plasma.connect(sys.argv[2], 5).contains(r())
plasma.connect(sys.argv[2], num_retries=5).contains(r())
plasma.connect(store_socket_name=sys.argv[2]).contains(r())
plasma.connect(sys.argv[2], "", 0).contains(r())
plasma.connect("/nonexistent/socket", 0)
plasma.connect("/nonexistent/socket", num_retries=1)
plasma.connect("x" * 200, num_retries=0)
plasma.connect(b"x", num_retries=0)
plasma.connect(5, num_retries=0)
type(plasma.connect()).__name__
type(plasma.start_plasma_store(1000)).__name__
plasma.start_plasma_store()
plasma.start_plasma_store(1000, use_valgrind=True, use_profiler=True).__enter__()
plasma.tf_plasma_op
plasma.build_plasma_tensorflow_op()
os.path.relpath(plasma.TF_PLASMA_OP_PATH, os.path.dirname(plasma.__file__))
os.path.exists(plasma.TF_PLASMA_OP_PATH)
plasma.load_plasma_tensorflow_op()
[str(warning.message) for warning in warned(lambda: r())]
[str(warning.message) for warning in warned(lambda: plasma.connect(sys.argv[2]))]
[str(warning.message) for warning in warned(lambda: c.put(5, None, 6, pa.lib.SerializationContext()))]
""".strip().splitlines()
_IMPORTS = "import asyncio, copy, os, pickle, random, select, socket, sys, warnings, weakref\nimport numpy as np\nimport pyarrow as pa"


def _parameters(function: Any) -> List[Tuple[str, Optional[str]]]:
    """Names and defaults; of a function in Cython, from the first line of its documentation."""
    try:
        known = inspect.signature(function).parameters.values()
    except ValueError:
        text = re.search(r"\((.*)\)", function.__doc__.splitlines()[0])
        assert text, function
        parts = [part.partition("=") for part in text[1].split(", ") if part]
        named = [(name.split()[-1].strip("*"), default or None) for name, _, default in parts]
    else:
        named = [(one.name, None if one.default is one.empty else repr(one.default)) for one in known]
    return [one for one in named if one[0] != "self"]


def _members(owner: Any) -> Dict[str, Any]:
    """The public names, and the parameters of what can be called."""
    found: Dict[str, Any] = {}
    for name in dir(owner):
        member = getattr(owner, name)
        if not name.startswith("_") and not isinstance(member, ModuleType):
            found[name] = _parameters(member) if callable(member) and not isinstance(member, type) else None
    return found


def _outcome(expression: str) -> Dict[str, Any]:
    """What it gives, or every class that an except clause may name to catch what it raises."""
    names: Dict[str, Any] = {"plasma": plasma, "r": plasma.ObjectID.from_random}
    exec(_IMPORTS, names)
    client = names["c"] = plasma.connect(sys.argv[2])

    def put(data: bytes) -> Any:
        return client.put_raw_buffer(data)

    def held() -> Any:
        object_id = plasma.ObjectID.from_random()
        return object_id, client.create(object_id, 1)

    def warned(call: Any) -> Any:
        import warnings

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            call()
        return caught

    def subscribed() -> None:
        """From now on, events are those of what comes."""
        sealed = sum(info["state"] == "sealed" for info in client.list().values())
        client.subscribe()
        for _ in range(sealed):
            client.get_next_notification()

    def sock() -> Any:
        subscribed()
        return client.get_notification_socket()

    def frame(stream: Any) -> Any:
        (length,) = struct.unpack("q", stream.recv(8))
        return stream.recv(length)

    async def received(stream: Any) -> Any:
        stream.setblocking(False)
        return await asyncio.get_running_loop().sock_recv(stream, 8)

    names.update(p=put, held=held, warned=warned, subscribed=subscribed, sock=sock, frame=frame, received=received)
    try:
        value = eval(expression, names)
    except Exception as error:
        return {"raises": [kind.__name__ for kind in type(error).__mro__]}
    finally:
        client.disconnect()
    return {"value": repr(sorted(value) if isinstance(value, set) else value)}


def main() -> None:
    classes = ("PlasmaClient", "ObjectID", "PlasmaBuffer", "ObjectNotAvailable")
    exceptions = ("PlasmaObjectExists", "PlasmaObjectNotFound", "PlasmaStoreFull")
    behaviour = {expression: _outcome(expression) for expression in BEHAVIOUR}
    surface = {
        "version": pa.__version__,
        "members": {"": _members(plasma), **{name: _members(getattr(plasma, name)) for name in classes}},
        "exceptions": {name: [kind.__name__ for kind in getattr(plasma, name).__mro__] for name in exceptions},
        "behaviour": behaviour,
    }
    print(json.dumps(surface))


if __name__ == "__main__":
    main()
