"""Names, parameters, exceptions and behaviour of this package, compared with those of the real pyarrow.plasma 11.

Both answer pyarrow11_surface.py in an interpreter with pyarrow 11. What differs on purpose is in the tables here, and nothing
else may; what users would notice of it is in docs/compatibility.md.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Callable, Dict

import pytest

import plasma_store
from conftest import PACKAGE

PYTHON = os.environ.get("PLASMA_TEST_PYARROW11")
SCRIPT = Path(__file__).with_name("pyarrow11_surface.py")

pytestmark = pytest.mark.skipif(not PYTHON, reason="$PLASMA_TEST_PYARROW11 is not set to a Python with pyarrow 11")

ABSTRACT = "a class to ask isinstance with; the buffers are of the class pyarrow.Buffer, which has it"
MISSING = {
    **{
        f"PlasmaBuffer.{name}": ABSTRACT
        for name in ("address", "equals", "hex", "is_cpu", "is_mutable", "parent", "size", "slice", "to_pybytes")
    },
}
OTHER_PARAMETERS = {".connect": "also takes the older (path, manager, delay, retries), and no path for the default socket"}

PINNED = "list also tells whether an object is pinned, and its name"
DEPRECATED = "nothing here is deprecated"
WRONG_TYPE = "a TypeError that names the argument, not an AttributeError"
WRONG_NUMBER = "a ValueError that names the number"
AFTER_DISCONNECT = "after disconnect every call raises the same OSError; there is no store to ask"
OTHER_BEHAVIOUR = {
    'isinstance(c.get_buffers([p(b"x")])[0], plasma.PlasmaBuffer)': "true, as the documentation of pyarrow.plasma said",
    "issubclass(plasma.PlasmaBuffer, pa.Buffer)": ABSTRACT,
    'c.contains("x")': "a text is an object's name, not a TypeError",
    "c.create(r(), 1 << 64)": WRONG_NUMBER,
    'plasma.connect("x" * 200, num_retries=0)': "a ValueError that names the length, not an OSError",
    "len({(random.seed(5), r())[1] for _ in range(2)})": "two that seed Python's random alike must not get the same ids",
    'c.seal(p(b"x"))': "PlasmaObjectAlreadySealed, also when the client holds no buffer of it any more",
    'c.set_client_options(b"name", 1000)': WRONG_TYPE,
    'plasma.connect(b"x", num_retries=0)': WRONG_TYPE,
    "plasma.connect(5, num_retries=0)": WRONG_TYPE,
    '(p(b"x"), sorted(next(iter(c.list().values()))))[1]': PINNED,
    '(p(b"x"), {(key, type(value).__name__) for info in c.list().values() for key, value in info.items()})[1]': PINNED,
    "type(c.to_capsule()).__name__": "there is no C++ client that a capsule could hold",
    "(c.disconnect(), c.store_capacity())[1]": AFTER_DISCONNECT,
    "(c.disconnect(), c.debug_string())[1]": AFTER_DISCONNECT,
    "type(plasma.connect()).__name__": "connects to the default socket",
    'plasma.connect(sys.argv[2], "", 0).contains(r())': "the form from before pyarrow 0.15 still works",
    "plasma.load_plasma_tensorflow_op()": "NotImplementedError, with or without TensorFlow",
    "[str(warning.message) for warning in warned(lambda: r())]": DEPRECATED,
    "[str(warning.message) for warning in warned(lambda: plasma.connect(sys.argv[2]))]": DEPRECATED,
    "[str(warning.message) for warning in warned(lambda: c.put(5, None, 6, pa.lib.SerializationContext()))]": DEPRECATED,
}


def surface(module: str) -> Any:
    """What the script found, at a store of its own."""
    assert PYTHON
    with plasma_store.start_store(64 << 20) as store:
        environment = {**os.environ, "PYTHONPATH": str(PACKAGE), "PLASMA_STORE_SOCKET": store.socket_path}
        command = [PYTHON, "-W", "ignore", str(SCRIPT), module, store.socket_path]
        ran = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return json.loads(ran.stdout)


@pytest.fixture(scope="module")
def theirs() -> Any:
    found = surface("pyarrow.plasma")
    assert found["version"] == "11.0.0"
    return found


@pytest.fixture(scope="module")
def ours() -> Any:
    return surface("plasma_store")


def differences(theirs: Dict[str, Any], ours: Dict[str, Any], differs: Callable[[Any, Any], bool]) -> Dict[str, Any]:
    return {name: (known, ours.get(name)) for name, known in theirs.items() if differs(known, ours.get(name))}


def flat(members: Dict[str, Dict[str, Any]]) -> Dict[str, Any]:
    return {f"{owner}.{name}": what for owner, found in members.items() for name, what in found.items()}


def test_every_name_is_there(theirs: Any, ours: Any) -> None:
    there = flat(ours["members"])
    missing = {name for name in flat(theirs["members"]) if name not in there}
    assert missing == set(MISSING), "a name that is missing, or a line of the table that is not true any more"


def test_every_call_takes_the_same(theirs: Any, ours: Any) -> None:
    there = flat(ours["members"])
    common = {name: what for name, what in flat(theirs["members"]).items() if name in there}

    def differs(known: Any, found: Any) -> bool:
        # New parameters may follow the old ones.
        return (known is None) != (found is None) or (known is not None and found[: len(known)] != known)

    found = differences(common, there, differs)
    assert set(found) == set(OTHER_PARAMETERS), found


def test_every_exception_is_caught_by_the_same_clauses(theirs: Any, ours: Any) -> None:
    assert not differences(theirs["exceptions"], ours["exceptions"], lambda known, found: not set(known) <= set(found))


def test_every_call_behaves_the_same(theirs: Any, ours: Any) -> None:
    def differs(known: Any, found: Any) -> bool:
        if "raises" in known and "raises" in found:
            return not set(known["raises"]) <= set(found["raises"])
        return bool(known != found)

    found = differences(theirs["behaviour"], ours["behaviour"], differs)
    assert set(found) == set(OTHER_BEHAVIOUR), {name: found.get(name) for name in set(found) ^ set(OTHER_BEHAVIOUR)}
