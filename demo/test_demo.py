"""`make demo` does what it says, however it ends, and its C++ program refuses broken files with a sentence."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

# What a shell starts in the background ignores SIGINT, and so would all that is started here.
signal.signal(signal.SIGINT, signal.default_int_handler)

import run  # noqa: E402
from shared_memory import backing  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
BUILT = ROOT / "build" / "demo-debug"
DIGITS = ROOT / "build" / "digits"
LIMIT_S = 600  # it may have to compile
REAL_POPEN = subprocess.Popen


@pytest.fixture(scope="module", autouse=True)
def programs() -> None:
    """What the tests below start: the compiled C++ program and the digits."""
    make = ["make", "PROFILE=debug", "build/demo-debug/digits_store", "build/digits/images.npy"]
    subprocess.run(make, cwd=ROOT, check=True, timeout=LIMIT_S)


def run_line(*more: object) -> list[str]:
    """The command line of the demo's conductor, which `make demo` calls in the same way."""
    words = [ROOT / "demo" / "run.py", BUILT / "digits_store", DIGITS, BUILT / "interrupted.png", *more]
    return [sys.executable, *map(str, words)]


@pytest.mark.parametrize("way", [[], ["DAEMON=1"]], ids=["in-process", "daemon"])
def test_make_demo(way: list[str]) -> None:
    picture = BUILT / "mean_digits.png"
    picture.unlink(missing_ok=True)
    done = subprocess.run(["make", "demo", "PROFILE=debug", *way], cwd=ROOT, timeout=LIMIT_S, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
    accuracy = re.search(r"accuracy ([\d.]+)%", done.stdout)
    assert accuracy and float(accuracy[1]) > 85, done.stdout
    same = re.search(r"In the processes (\d+), (\d+), (\d+), digits/images is memfd", done.stdout)
    assert same and len(set(same.groups())) == 3, done.stdout
    assert len(re.findall(r"takes [\d.]+ µs by get_tensor, [\d.]+ µs by np.load", done.stdout)) == 2
    shows_ten_different_pictures(picture)


def shows_ten_different_pictures(path: Path) -> None:
    """Ten panels side by side with ink in each, no two alike."""
    pixels = np.asarray(Image.open(path))
    assert pixels.shape[1] > 5 * pixels.shape[0]
    panels = [panel.tobytes() for panel in np.array_split(pixels[:, : pixels.shape[1] // 10 * 10], 10, axis=1)]
    assert len(set(panels)) == 10
    assert all(np.frombuffer(panel, np.uint8).min() < 100 for panel in panels)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("with_daemon", [False, True], ids=["in-process", "daemon"])
def test_nothing_is_left_after_an_interruption(number: signal.Signals, with_daemon: bool) -> None:
    """The story: Ctrl-C between two prints must not leave a daemon, a reader that waits, or a socket."""
    more = ["--daemon", os.environ["PLASMA_STORE_SERVER"]] if with_daemon else []
    demo = subprocess.Popen(run_line(*more), stdout=subprocess.PIPE, text=True)
    assert demo.stdout is not None
    said = ""
    for line in demo.stdout:
        said += line
        if line.startswith("Two Python programs"):
            demo.send_signal(number)
            break
    said += demo.stdout.read()  # ends when every program that could write to it has ended
    assert demo.wait(timeout=LIMIT_S) == (130 if number == signal.SIGINT else 1), said
    socket = re.search(r"socket: (\S+)", said)
    assert socket and not Path(socket[1]).exists()
    for pid in set(re.findall(r"\[[\w.-]+ (\d+)\]|\(process (\d+)\)", said)):
        assert not is_alive(int(max(pid))), said


def test_a_program_that_was_just_started_is_ended_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The story: Ctrl-C while a reader was being started left it behind, trying to reach a store that was gone."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: Any, **more: Any) -> subprocess.Popen[str]:
        started.append(REAL_POPEN(*words, **more))
        os.kill(os.getpid(), signal.SIGINT)
        return started[0]

    monkeypatch.setattr(run.subprocess, "Popen", start)
    with pytest.raises(KeyboardInterrupt):
        with run.running("sleep", "sleep", 600):
            pytest.fail("the signal was lost")
    assert started[0].poll() is not None


def is_alive(pid: int) -> bool:
    """Whether the process is there; one that just ended is given a moment to vanish."""
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists():
            return False
        time.sleep(0.05)
    return True


def npy(header: str, data: bytes, version: bytes = b"\x01\x00") -> bytes:
    """A .npy file as bytes, whatever the header says."""
    width = 2 if version == b"\x01\x00" else 4
    return b"\x93NUMPY" + version + len(header).to_bytes(width, "little") + header.encode() + data


GOOD = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"
BROKEN = {
    "not a .npy file": b"PNG and more than that",
    "unknown .npy version 9": npy(GOOD, bytes(24), b"\x09\x00"),
    "a .npy header of 59 bytes in a file of 30": npy(GOOD, b"")[:30],
    "promises 6 elements, the file holds 5": npy(GOOD, bytes(20)),
    "23 bytes are no whole number of elements of 4": npy(GOOD, bytes(23)),
    "a shape that overflows": npy(GOOD.replace("(2, 3)", f"({2**62}, 8)"), b""),
    "not a .npy shape: (-2, 3)": npy(GOOD.replace("(2", "(-2"), bytes(24)),
    "a .npy dtype that this demo does not read: '>f4'": npy(GOOD.replace("<", ">"), bytes(24)),
    "not in C order": npy(GOOD.replace("False", "True"), bytes(24)),
    "has no 'shape'": npy("{'descr': '<f4', 'fortran_order': False}", bytes(24)),
}


@pytest.mark.parametrize("message", BROKEN)
def test_a_broken_file_is_refused_with_a_sentence(message: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken.npy"
    broken.write_bytes(BROKEN[message])
    done = subprocess.run([BUILT / "digits_store", broken, DIGITS / "labels.npy"], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert message in done.stderr and str(broken) in done.stderr


def test_private_memory_is_not_taken_for_shared() -> None:
    with pytest.raises(ValueError, match="private memory"):
        backing(np.ones(1 << 20))
