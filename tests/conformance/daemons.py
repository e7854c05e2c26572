"""A store for one script: the old daemon or ours, told apart by nothing but the path of the program."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Optional, Type

START_LIMIT_S = 30


class Daemon:
    """A daemon that runs within a `with`, with a socket of its own."""

    def __init__(self, program: str, memory: int) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="conformance-")
        self.socket = str(Path(self._directory.name) / "store")
        self._process = subprocess.Popen([program, "-s", self.socket, "-m", str(memory)], stdin=subprocess.DEVNULL,
                                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def __enter__(self) -> Daemon:
        """Returns when it takes connections."""
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline and self.alive():
            with socket.socket(socket.AF_UNIX) as probe:
                if probe.connect_ex(self.socket) == 0:
                    return self
            time.sleep(0.001)
        self.end()
        raise RuntimeError(f"{self._process.args!r} does not start; it ended with {self._process.returncode}")

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                 traceback: Optional[TracebackType]) -> None:
        self.end()

    def alive(self) -> bool:
        return self._process.poll() is None

    def end(self) -> None:
        """Without ceremony: nothing that a store leaves behind matters here."""
        self._process.kill()
        self._process.wait()
        self._directory.cleanup()


def old_program() -> str:
    """The daemon that lies beside the pyarrow 11 that runs this."""
    import pyarrow

    return os.path.join(os.path.dirname(pyarrow.__file__), "plasma-store-server")
