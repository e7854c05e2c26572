"""The examples of shared tensors and rings do what they say, however processes are started and whoever dies."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any, Callable, Iterator, List, TextIO

import pytest

from conftest import ROOT, until

np = pytest.importorskip("numpy")

PATIENCE_S = 60
METHODS = pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])


def run(example: str, *arguments: str) -> str:
    """What an example says."""
    command = [sys.executable, str(ROOT / "c-examples" / example), *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


@METHODS
def test_a_child_fills_an_array_and_its_parent_sees_it(method: str) -> None:
    assert run("shared_worker.py", method) == "the last square is 9801, their sum 328350, of 2 workers\n"


class Loader:
    """The program of loaders and processors, which reads streams that a test writes."""

    def __init__(self, directory: Path, method: str, lines: int, streams: int = 2) -> None:
        self.lines = [f"{line * line}\n" for line in range(1, lines + 1)]
        self.paths = [directory / f"stream{number}" for number in range(streams)]
        for path in self.paths:
            os.mkfifo(path)
        command = [sys.executable, str(ROOT / "c-examples" / "loader.py"), method, str(lines), *map(str, self.paths)]
        self.process = subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert self.process.stdout is not None
        self.told = [self.process.stdout.readline().split() for _ in range(2 * streams)]

    def pids(self, work: str) -> List[int]:
        return [int(pid) for told, pid in self.told if told == work]

    def write(self, number: int, lines: List[str]) -> TextIO:
        """Writes lines to a stream, which a loader has to open for that."""
        stream = open(self.paths[number], "w")
        stream.writelines(lines)
        stream.flush()
        return stream

    def end(self) -> str:
        output, _ = self.process.communicate(timeout=PATIENCE_S)
        return output

    @property
    def sum(self) -> str:
        count = len(self.lines)
        return f"the sum of {2 * count} roots is {count * (count + 1):g}\n"


@pytest.fixture
def loader(tmp_path: Path) -> Iterator[Callable[..., Loader]]:
    started: List[Loader] = []

    def start(*arguments: Any) -> Loader:
        started.append(Loader(tmp_path, *arguments))
        return started[0]

    yield start
    started[0].process.kill()
    started[0].process.communicate()


def unread(stream: TextIO) -> int:
    """How many bytes of a stream nobody has read yet."""
    count = ctypes.c_int()
    fcntl.ioctl(stream, termios.FIONREAD, count)
    return count.value


@METHODS
def test_loaders_and_processors(loader: Callable[..., Loader], method: str) -> None:
    program = loader(method, 1050)
    for number in range(2):
        program.write(number, program.lines).close()
    assert program.end() == program.sum
    assert program.process.returncode == 0


@pytest.mark.parametrize("who", ["load", "process"])
@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_one_is_killed_in_the_middle(loader: Callable[..., Loader], method: str, who: str) -> None:
    program = loader(method, 550)
    streams = [program.write(number, program.lines[:330]) for number in range(2)]
    until(lambda: not any(unread(stream) for stream in streams))
    os.kill(program.pids(who)[0], signal.SIGKILL)
    assert program.process.stdout is not None
    assert program.process.stdout.readline().startswith(f"{who} ")
    if who == "load":
        # Whoever comes after it reads from the beginning. It finds somebody who writes at any time.
        streams.append(program.write(0, program.lines))
    else:
        streams[0].writelines(program.lines[330:])
    streams[1].writelines(program.lines[330:])
    for stream in streams:
        stream.close()
    assert program.end() == program.sum


@pytest.mark.parametrize(("line", "reason"), [("four", "could not convert string to float: 'four"), ("-4", "math domain error")])
def test_either_side_ends_it_for_all(loader: Callable[..., Loader], line: str, reason: str) -> None:
    program = loader("spawn", 1050)
    program.lines[500] = f"{line}\n"
    streams = [open(path, "w") for path in program.paths]
    for stream in streams:
        # They need not read all of it.
        with contextlib.suppress(BrokenPipeError), stream:
            stream.writelines(program.lines)
    assert f"stopped: {reason}" in program.end()
    assert program.process.returncode == 1


@pytest.mark.torch
def test_a_data_loader_hands_out_batches_by_ring() -> None:
    pytest.importorskip("torch")
    command = [sys.executable, str(ROOT / "c-examples" / "torch_loader.py")]
    # It may warn of many things.
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert ended.stdout == "the sum is 6048\n", ended.stderr
