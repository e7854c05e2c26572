"""docs/shared-and-rings.md tells the truth: its programs run as they stand, and what they are said to differ in is so."""

from __future__ import annotations

import contextlib
import importlib.util
import multiprocessing
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.reduction import ForkingPickler
from multiprocessing.sharedctypes import RawArray
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from queue import Empty
from types import ModuleType
from typing import Any

import pytest
from test_readme import ROOT, commands, environment, installed, run_to_its_end

np = pytest.importorskip("numpy")
sys.path.insert(0, str(ROOT / "python-ctypes"))
plasma_store = pytest.importorskip("plasma_store")

PAGE = (ROOT / "docs" / "shared-and-rings.md").read_text(encoding="utf-8")
NAMES = {"python": ["array_by_hand.py", "shared_array.py", "ring_by_hand.py", "ring.py", "main.py", "worker.py"],
         "cpp": ["worker.cpp"], "c": ["worker.c"], "sh": ["commands.sh"]}
METHODS = pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
LIMIT_S = 60
# Long enough for whoever would come; nobody does, so these waits end by themselves.
IN_VAIN_S = 0.5
FORK = multiprocessing.get_context("fork")


def programs() -> dict[str, str]:
    """The page's programs by name."""
    found = {language: re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE) for language in NAMES}
    return {name: text for language, names in NAMES.items() for name, text in zip(names, found[language], strict=True)}


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A directory with the page's programs."""
    for name, text in programs().items():
        (tmp_path / name).write_text(text)
    return tmp_path


def loaded(directory: Path, name: str) -> ModuleType:
    """A program of the page as a module."""
    spec = importlib.util.spec_from_file_location(name, directory / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def told(directory: Path, program: str, *arguments: Any) -> subprocess.CompletedProcess[str]:
    """What a program says, and how it ends."""
    command = [sys.executable, program, *map(str, arguments)]
    variables = {**os.environ, "PYTHONPATH": str(ROOT / "python-ctypes")}
    return subprocess.run(command, cwd=directory, env=variables, capture_output=True, text=True, timeout=LIMIT_S)


@METHODS
def test_both_arrays_come_to_the_same(written: Path, method: str) -> None:
    for program in ("array_by_hand.py", "shared_array.py"):
        ended = told(written, program, method)
        assert (ended.stdout, ended.stderr) == ("sum 328350 of 2 workers\n", ""), program


def stream(directory: Path, lines: int, **others: str) -> Path:
    """A text of squares, but for some lines."""
    path = directory / "stream"
    path.write_text("".join(others.get(f"line{line}", str(line * line)) + "\n" for line in range(1, lines + 1)))
    return path


@METHODS
def test_both_rings_come_to_the_same(written: Path, method: str) -> None:
    path = stream(written, 1050)
    for program in ("ring_by_hand.py", "ring.py"):
        ended = told(written, program, method, 1050, path)
        assert (ended.stdout, ended.stderr) == ("the sum of the roots is 551775\n", ""), program


@pytest.mark.parametrize(("line", "reason"), [("four", "could not convert string to float: 'four"), ("-4", "math domain error")])
def test_either_side_bails_out_of_the_ring(written: Path, line: str, reason: str) -> None:
    ended = told(written, "ring.py", "spawn", 2050, stream(written, 2050, line500=line))
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"stopped: {reason}")


def test_the_numbers_of_lines_are_counted() -> None:
    counted = [len(text.splitlines()) for name, text in programs().items() if name in NAMES["python"][:4]]
    said = [int(first or second) for first, second in re.findall(r"in (\d+) lines:|takes (\d+) lines:", PAGE)]
    assert said == counted
    assert counted[1] < counted[0] and counted[3] < counted[2]


def test_workers_in_three_languages(tmp_path: Path) -> None:
    directory = installed(tmp_path)
    for name, text in programs().items():
        (directory / name).write_text(text)
    settings = [line for line in commands()[0].splitlines() if line.startswith("export ")]
    each = [f'python3 main.py "{worker}"' for worker in ("./worker-c", "./worker-cpp", "python3 worker.py")]
    script = programs()["commands.sh"].replace("kill %1", "\n".join([*each, "kill %1"]))
    output = run_to_its_end("\n".join([*settings, 'export PATH="$HOME/plasma/bin:$PATH"', script]), directory, environment(directory))
    sums = "sums [4950.0, 9900.0, 100.0] codes"
    assert output == f"{sums} [0, 0, 0]\n" + f"{sums} [0]\n" * 3


@pytest.mark.parametrize(("name", "compiler"), [("worker.c", ["cc", "-std=c99", "-xc"]), ("worker.cpp", ["c++", "-std=c++17", "-xc++"])])
def test_the_workers_compile_without_a_warning(name: str, compiler: list[str]) -> None:
    command = [*compiler, "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", f"-I{ROOT / 'include'}", "-"]
    subprocess.run(command, input=programs()[name], text=True, check=True, timeout=LIMIT_S)


def killed(body: Callable[[Any], Any], until: Callable[[Any], bool]) -> None:
    """Has a forked process do something, and kills it when it has come so far."""
    done = FORK.Event()

    def run() -> None:
        kept = body(done)
        done.set()
        signal.pause()
        os._exit(len(str(kept)))

    process = FORK.Process(target=run)
    process.start()
    while not until(done):
        time.sleep(0.01)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def is_done(done: Any) -> bool:
    return bool(done.is_set())


@pytest.fixture
def ring() -> Iterator[Any]:
    with plasma_store.TensorRing(8, (1,), "int64") as ring:
        yield ring


def test_what_cannot_go_through_a_queue() -> None:
    for by_hand in (RawArray("d", 3), FORK.Lock()):
        with pytest.raises(RuntimeError, match="inheritance"):
            # As queues do.
            ForkingPickler.dumps(by_hand)
    with plasma_store.SharedTensor.zeros((3,)) as shared:
        with pickle.loads(pickle.dumps(shared)).lock(0):
            pass


def test_a_buffer_of_a_killed_process(written: Path, ring: Any) -> None:
    by_hand = loaded(written, "ring_by_hand").Buffers(FORK)
    for _ in range(8):
        killed(lambda _: by_hand.free.get(), is_done)
        killed(lambda _: ring.acquire(), is_done)
    with pytest.raises(Empty):
        by_hand.free.get(timeout=IN_VAIN_S)
    slots = [ring.acquire(LIMIT_S) for _ in range(8)]
    assert ring.counts() == (0, 0)
    for slot in slots:
        slot.abandon()


def test_what_a_killed_process_was_reading(written: Path, ring: Any) -> None:
    by_hand = loaded(written, "ring_by_hand").Buffers(FORK)
    by_hand.used.put((3, 100))
    killed(lambda _: by_hand.used.get(), is_done)
    with pytest.raises(Empty):
        by_hand.used.get(timeout=IN_VAIN_S)
    ring.put(np.array([7]))
    killed(lambda _: ring.take(), is_done)
    assert ring.get(LIMIT_S).tolist() == [7]


def test_a_process_that_is_killed_while_it_waits(written: Path, ring: Any) -> None:
    by_hand = loaded(written, "ring_by_hand").Buffers(FORK)
    killed(lambda _: by_hand.used.get(), lambda _: is_taken(by_hand.used._rlock))
    by_hand.used.put((3, 100))
    with pytest.raises(Empty):
        by_hand.used.get(timeout=IN_VAIN_S)
    killed(lambda _: ring.take(), lambda _: len(ring.holders()) == 2)
    ring.put(np.array([7]))
    assert ring.get(LIMIT_S).tolist() == [7]


def is_taken(lock: Any) -> bool:
    """Whether somebody else has it."""
    if lock.acquire(block=False):
        lock.release()
        return False
    return True


def test_a_process_that_is_killed_with_the_lock() -> None:
    by_hand = FORK.Lock()
    killed(lambda _: by_hand.acquire(), is_done)
    assert not by_hand.acquire(timeout=IN_VAIN_S)
    with plasma_store.SharedTensor.zeros((3,)) as shared:
        killed(lambda _: shared.lock().acquire(), is_done)
        with shared.lock(LIMIT_S) as lock:
            assert lock.owner_died


OPENS = """
import sys
from multiprocessing.shared_memory import SharedMemory
SharedMemory(sys.argv[1]).close()
"""
OPENS_OURS = """
import pickle, sys
pickle.loads(bytes.fromhex(sys.argv[1])).array[0] = 5
"""


def test_another_program_that_opens_it_and_ends(tmp_path: Path) -> None:
    by_hand = SharedMemory(create=True, size=24)
    told(tmp_path, "-c", OPENS, by_hand.name)
    by_hand.close()
    with pytest.raises(FileNotFoundError):
        SharedMemory(by_hand.name)
    with plasma_store.SharedTensor.zeros((3,), name="opened") as shared:
        assert told(tmp_path, "-c", OPENS_OURS, pickle.dumps(shared).hex()).returncode == 0
        with plasma_store.SharedTensor.open("opened", timeout=0) as again:
            assert again.array[0] == 5


MAKES = """
import signal
from multiprocessing.shared_memory import SharedMemory
memory = SharedMemory(create=True, size=24)
print(memory.name, flush=True)
signal.pause()
"""
MAKES_OURS = """
import signal, sys, plasma_store
client = plasma_store.connect(sys.argv[1])
shared = plasma_store.SharedTensor.zeros((3,), client=client)
print(shared.id.hex(), flush=True)
signal.pause()
"""


def killed_with_all_its_own(script: str, *arguments: str) -> str:
    """What a program says before it is killed, together with what it has started."""
    command, variables = [sys.executable, "-c", script, *arguments], {**os.environ, "PYTHONPATH": str(ROOT / "python-ctypes")}
    with subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        said = process.stdout.readline().strip()
        os.killpg(process.pid, signal.SIGKILL)
    return said


def test_all_are_killed() -> None:
    left = Path("/dev/shm") / killed_with_all_its_own(MAKES)
    try:
        assert left.exists()
    finally:
        with contextlib.suppress(FileNotFoundError):
            left.unlink()
    with plasma_store.start_store(1 << 20) as store, plasma_store.connect(store.socket_path) as client:
        assert len(killed_with_all_its_own(MAKES_OURS, store.socket_path)) == 40
        while client.list():
            time.sleep(0.01)


CLOSES = """
from multiprocessing.shared_memory import SharedMemory
import numpy as np
memory = SharedMemory(create=True, size=1 << 24)
array = np.ndarray((1 << 24,), "u1", memory.buf)
memory.unlink()
memory.close()
print("closed", flush=True)
print(array[1 << 23])
"""
CLOSES_OURS = """
from plasma_store import SharedTensor
shared = SharedTensor.zeros((1 << 24,), "uint8")
array = shared.array
shared.close()
print("closed", flush=True)
print(array[1 << 23])
"""


def test_an_array_that_is_left_when_it_is_closed(tmp_path: Path) -> None:
    by_hand, ours = told(tmp_path, "-c", CLOSES), told(tmp_path, "-c", CLOSES_OURS)
    assert (by_hand.returncode, by_hand.stdout) == (-signal.SIGSEGV, "closed\n")
    assert (ours.returncode, ours.stdout) == (0, "closed\n0\n")
