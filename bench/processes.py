"""Runs daemons and programs, each in a session of its own, and leaves nothing behind: no process, no file, no shared memory."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Set

START_LIMIT_S = 60
SHM = Path("/dev/shm")
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


class Failed(Exception):
    """Why a program gave no result."""


class Interrupts:
    """Ctrl-C and its like end what runs at once; `check` tells the rest of the program.

    The handler does not raise, as an exception that comes while Python runs a destructor is printed and forgotten.
    """

    def __init__(self) -> None:
        self._came = False
        self._running: Set[Running] = set()

    def watch(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._handle)

    def check(self) -> None:
        """Raises KeyboardInterrupt if one has come."""
        if self._came:
            raise KeyboardInterrupt

    def add(self, program: Running) -> None:
        self._running.add(program)
        if self._came:
            program.kill()

    def discard(self, program: Running) -> None:
        self._running.discard(program)

    def _handle(self, *_: Any) -> None:
        self._came = True
        for program in tuple(self._running):
            program.kill()


interrupts = Interrupts()
"""Those of this process."""


def _end_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Scratch:
    """Where a run keeps its files: a directory, one on tmpfs, and names in /dev/shm with a prefix of its own."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="plasma-bench-"))
        self.prefix = f"{self.directory.name}-"
        self.tmpfs = SHM / self.directory.name
        self.tmpfs.mkdir(mode=0o700)

    def clear(self) -> None:
        """Removes what programs left, so that the next one finds all memory free."""
        for left in SHM.glob(f"{self.prefix}*"):
            left.unlink(missing_ok=True)
        for directory in (self.directory, self.tmpfs):
            for left in directory.iterdir():
                if left.is_dir():
                    shutil.rmtree(left, ignore_errors=True)
                else:
                    left.unlink(missing_ok=True)

    def remove(self) -> None:
        self.clear()
        self.directory.rmdir()
        self.tmpfs.rmdir()


class Running:
    """A program and whatever it starts, in a group of its own that is ended with the block."""

    def __init__(self, command: List[str], variables: Dict[str, str], log: Path) -> None:
        self.log = log
        self.late = False
        with open(log, "w", encoding="utf-8") as errors:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
                                            env={**os.environ, **variables}, start_new_session=True,
                                            preexec_fn=_end_with_parent, text=True)

    def __enter__(self) -> Running:
        interrupts.add(self)
        return self

    def __exit__(self, *_: Any) -> None:
        self.kill()
        self.process.wait()
        interrupts.discard(self)
        if self.process.stdout:
            self.process.stdout.close()

    def kill(self) -> None:
        """Ends the whole group, at once."""
        if self.process.returncode is None:  # as long as it was not waited for, its number is nobody else's
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def _kill_late(self) -> None:
        self.late = True
        self.kill()

    def output(self, limit_s: float) -> str:
        """What it and its children print until all have ended; at the limit they are ended, and `late` is set."""
        assert self.process.stdout
        timer = threading.Timer(limit_s, self._kill_late)
        timer.start()
        try:
            text = self.process.stdout.read()
            os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)
        finally:
            timer.cancel()
            timer.join()
        self.kill()
        self.process.wait()
        return text

    def reason(self) -> str:
        """The last thing that it said, and how it ended."""
        said = [line.strip() for line in self.log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        # Where a process of several failed, what it said is the reason, and not that the others missed it.
        causes = [line for line in said if not line.endswith("has ended")] or said
        status = self.process.returncode
        ended = f"ended by signal {-status}" if status < 0 else f"ended with status {status}"
        return f"{ended}: {causes[-1][:200]}" if causes else ended


@contextlib.contextmanager
def daemon(command: List[str], capacity: int, scratch: Scratch) -> Iterator[str]:
    """A store that answers; gives the path of its socket."""
    path = str(scratch.directory / "store")
    with Running([*command, "-s", path, "-m", str(capacity)], {}, scratch.directory / "daemon.log") as running:
        deadline = time.monotonic() + START_LIMIT_S
        while not _answers(path):
            if running.process.poll() is not None:
                raise Failed(f"the daemon {running.reason()}")
            if time.monotonic() > deadline:
                raise Failed(f"the daemon did not answer for {START_LIMIT_S} s")
            time.sleep(0.002)
        yield path
        running.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.process.wait(5)


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) == 0


def results_of(command: List[str], variables: Dict[str, str], scratch: Scratch, limit_s: float) -> List[Dict[str, Any]]:
    """The lines that a program printed, one result each. Raises Failed with its last word when it did not end well."""
    with Running(command, variables, scratch.directory / "program.log") as running:
        output = running.output(limit_s)
        if running.late:
            raise Failed(f"took longer than {limit_s:.0f} s")
        if running.process.returncode:
            raise Failed(running.reason())
    try:
        results = [json.loads(line) for line in output.splitlines()]
    except ValueError:
        raise Failed(f"printed something that is no result: {output[:100]!r}") from None
    if not results:
        raise Failed("printed no result")
    return results
