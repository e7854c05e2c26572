"""What all tests share: the library under test, stores of both kinds, a watchdog, children that run a script."""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, Iterator

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "python-ctypes"
# Without variables, what `cargo build` left behind is tested. Set before the package is imported, and for child processes.
os.environ.setdefault("PLASMA_STORE_LIBRARY", str(ROOT / "target" / "debug" / "libplasma_store.so"))
os.environ.setdefault("PLASMA_STORE_SERVER", str(ROOT / "target" / "debug" / "plasma-store-server"))
sys.path.insert(0, str(PACKAGE))

# What a shell starts in the background ignores SIGINT, and so would all that is started here.
signal.signal(signal.SIGINT, signal.default_int_handler)

import plasma_store  # noqa: E402
from plasma_store import ObjectID, PlasmaClient, Store  # noqa: E402

# A test that takes as long as this hangs: no test waits on purpose for more than a second or two.
WATCHDOG_S = 120


@pytest.fixture(autouse=True)
def _watchdog() -> Iterator[None]:
    """Ends the whole run, with the stacks of all threads, when a test is stuck."""
    faulthandler.dump_traceback_later(WATCHDOG_S, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture(scope="session", params=["in-process", "daemon"])
def any_store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """A store of 64 MiB: first one in this process, then the daemon."""
    with plasma_store.start_store(64 << 20, process=request.param == "daemon") as store:
        yield store


@pytest.fixture
def store() -> Iterator[Store]:
    """A fresh store of 16 MiB in this process."""
    with plasma_store.start_store(16 << 20) as store:
        yield store


@pytest.fixture
def client(store: Store) -> Iterator[PlasmaClient]:
    """A client of the fresh store."""
    with plasma_store.connect(store.socket_path) as client:
        yield client


@pytest.fixture
def object_id() -> ObjectID:
    """An id that no other test has."""
    return ObjectID.from_random()


def put(client: PlasmaClient, data: bytes, metadata: bytes = b"") -> ObjectID:
    """A sealed object with these bytes."""
    object_id = ObjectID.from_random()
    buffer = client.create(object_id, len(data), metadata)
    memoryview(buffer).cast("B")[:] = data
    client.seal(object_id)
    return object_id


def until(condition: Callable[[], bool]) -> None:
    """Waits for what another connection or process does in its own time. The watchdog ends a wait without hope."""
    while not condition():
        time.sleep(0.01)


def in_fork(body: Callable[[], None]) -> None:
    """Runs `body` in a forked child, which ends as a Python process does, with all finalisers of what it drops."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            body()
            gc.collect()
            status = 0
        except BaseException as error:
            os.write(2, f"in the child: {error!r}\n".encode())
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    assert status == 0


@pytest.fixture
def child() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `python -c script arguments...` with this package on its path; what still runs at the end is killed."""
    children = []
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE)}

    def start(script: str, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", script, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        children.append(process)
        return process

    yield start
    for process in children:
        process.kill()
        process.communicate()
