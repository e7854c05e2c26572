"""The daemon from Python: started for a `with` block, as pyarrow.plasma did, and as the command `plasma_store`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from typing import Iterator, List, NoReturn, Optional, Tuple

from . import _find
from .client import connect
from .errors import PlasmaConnectError, PlasmaInvalidArgument

# How long a daemon may take to answer, or to end, on a machine that is very busy.
PATIENCE_S = 30.0
_VALGRIND = [
    "valgrind",
    "--track-origins=yes",
    "--leak-check=full",
    "--show-leak-kinds=all",
    "--leak-check-heuristics=stdstring",
    "--error-exitcode=1",
]
_PROFILER = ["valgrind", "--tool=callgrind"]


@contextmanager
def start_plasma_store(
    plasma_store_memory: int,
    use_valgrind: bool = False,
    use_profiler: bool = False,
    plasma_directory: Optional[str] = None,
    use_hugepages: bool = False,
    external_store: Optional[str] = None,
) -> Iterator[Tuple[str, subprocess.Popen[bytes]]]:
    """Runs the daemon until the end of the `with` block: gives the path of its socket, and its process.

    `plasma_store_memory` is in bytes. With `use_valgrind` or `use_profiler` it runs in valgrind or callgrind. The others are
    the daemon's `-d`, `-h` and `-e`. When the block begins, clients can connect. Raises RuntimeError when the daemon ends
    instead; its stderr says why. `start_store` is the simpler way for new programs.
    """
    if use_valgrind and use_profiler:
        raise PlasmaInvalidArgument("use_valgrind and use_profiler exclude each other")
    command = [*(_VALGRIND if use_valgrind else _PROFILER if use_profiler else []), _find.server()]
    with socket_directory() as directory:
        path = os.path.join(directory, "plasma.sock")
        options = ["-d", os.fspath(plasma_directory)] if plasma_directory else []
        options += ["-h"] if use_hugepages else []
        options += [] if external_store is None else ["-e", external_store]
        with running([*command, "-s", path, "-m", str(plasma_store_memory), *options], path) as daemon:
            yield path, daemon


@contextmanager
def socket_directory() -> Iterator[str]:
    """A fresh directory that only this user can enter, removed with the block."""
    directory, owner = tempfile.mkdtemp(prefix="plasma-store-"), os.getpid()
    try:
        yield directory
    finally:
        # A forked child that leaves the block leaves what is its parent's alone; so below.
        if os.getpid() == owner:
            shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def running(command: List[str], path: str) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon that answers at `path`, ended with the block."""
    daemon, owner = subprocess.Popen(command), os.getpid()
    try:
        _wait_until_it_answers(daemon, path)
        yield daemon
    finally:
        if os.getpid() == owner:
            _end(daemon)


def main() -> NoReturn:
    """The command `plasma_store`: becomes the daemon, with the same arguments."""
    try:
        program = _find.server()
        os.execv(program, [program, *sys.argv[1:]])
    except OSError as error:
        sys.exit(f"plasma_store: {error}")


def _wait_until_it_answers(daemon: subprocess.Popen[bytes], path: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return connect(path, num_retries=0).disconnect()
        except PlasmaConnectError:
            if daemon.poll() is not None:
                raise RuntimeError(f"the store ended with status {daemon.returncode}; its log says why") from None
            if time.monotonic() > deadline:
                raise
        time.sleep(0.01)


def _end(daemon: subprocess.Popen[bytes]) -> None:
    daemon.terminate()
    try:
        daemon.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()
