"""`make demo`: one C++ program writes the digits into a store, two Python programs read them at the same time.

Usage: run.py PRODUCER DIGITS PICTURE [--daemon SERVER]
  PRODUCER   the compiled digits_store
  DIGITS     the directory with images.npy and labels.npy
  PICTURE    where the picture goes
  SERVER     a plasma-store-server, to keep the objects in instead of in PRODUCER

Starts the programs, shows what they say, and checks that their arrays lie in the same memory. Whatever ends it, also
Ctrl-C or SIGTERM, ends the programs that it started and removes what they left.
"""

from __future__ import annotations

import argparse
import contextlib
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Iterator

HERE = Path(__file__).resolve().parent
PATIENCE_S = 120  # for one line of output; a program that is silent for longer hangs
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # signals that end the demo
PLACE = re.compile(r"^(digits/\w+) in memfd (.*)$")


class Program:
    """A program that runs, and its output line by line."""

    def __init__(self, name: str, *command: object) -> None:
        self.name = name
        self.places: dict[str, str] = {}
        self._lines: queue.Queue[str | None] = queue.Queue()
        self.process = subprocess.Popen([str(word) for word in command], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, encoding="utf-8",
                                        start_new_session=True)  # Ctrl-C reaches us alone, and we end the others
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    def _collect(self) -> None:
        """Shows each line and remembers where the program saw which object."""
        assert self.process.stdout is not None
        for line in map(str.rstrip, self.process.stdout):
            print(f"  [{self.name} {self.process.pid}] {line}", flush=True)
            if place := PLACE.match(line):
                self.places[place[1]] = place[2]
            self._lines.put(line)
        self._lines.put(None)

    def wait_for(self, start: str) -> str:
        """The rest of the first line that begins with `start`."""
        while (line := self._lines.get(timeout=PATIENCE_S)) is not None:
            if line.startswith(start):
                return line[len(start):].strip()
        raise SystemExit(f"{self.name} ended with status {self.process.wait()} and never said {start!r}")

    def wait(self) -> None:
        """Until the program has ended and all it said was shown; its failure is ours."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        status = self.process.wait(timeout=PATIENCE_S)
        self._thread.join()
        if status != 0:
            raise SystemExit(f"{self.name} ended with status {status}")

    def end(self) -> None:
        """Ends the program if it still runs: politely first, as a store then removes its socket."""
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=5)
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def signals_put_off() -> Iterator[None]:
    """Handles signals, Ctrl-C too, at the end of the block: a program that was started in it is known by then."""
    arrived: list[tuple[int, FrameType | None]] = []
    before = {number: signal.getsignal(number) for number in ENDING}
    handlers = {number: handler for number, handler in before.items() if callable(handler)}
    for number in handlers:
        signal.signal(number, lambda *what: arrived.append(what))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    for what in arrived:
        handlers[signal.Signals(what[0])](*what)


@contextlib.contextmanager
def running(name: str, *command: object) -> Iterator[Program]:
    """A program that does not outlive the block."""
    program = None
    try:
        with signals_put_off():
            program = Program(name, *command)
        yield program
    finally:
        if program is not None:
            program.end()


@contextlib.contextmanager
def running_daemon(server: Path) -> Iterator[str]:
    """The socket of a daemon that ends with the block."""
    with tempfile.TemporaryDirectory(prefix="plasma-demo-") as directory:
        socket = Path(directory) / "plasma.sock"
        with running("plasma-store-server", server, "-s", socket, "-m", 64 << 20) as daemon:
            deadline = time.monotonic() + PATIENCE_S
            while not socket.exists():
                if daemon.process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"{server} made no socket at {socket}")
                time.sleep(0.01)
            print(f"Started the daemon: {server.name} -s {socket} -m {64 << 20} (process {daemon.process.pid})\n")
            yield str(socket)


def read_at_once(producer: Program, socket: str, images: Path, picture: Path) -> None:
    """Runs both readers side by side and compares where all programs saw the objects."""
    print("\nTwo Python programs read at the same time, each in its own process:")
    readers: list[tuple[str, list[Path]]] = [("mean_digits.py", [images, picture]), ("classify_digits.py", [images])]
    with contextlib.ExitStack() as stack:
        programs = [stack.enter_context(running(name, sys.executable, HERE / name, socket, *arguments))
                    for name, arguments in readers]
        for program in programs:
            program.wait()
    print()
    pids = ", ".join(str(program.process.pid) for program in [producer, *programs])
    for name, place in producer.places.items():
        if any(program.places.get(name) != place for program in programs):
            raise SystemExit(f"{name} is not in the same memory everywhere")
        print(f"In the processes {pids}, {name} is memfd {place}.")
    print("The same bytes of the same file: one copy of the digits in memory, seen by all three processes.")


def demo(parsed: argparse.Namespace) -> None:
    """The whole demo; raises SystemExit with a sentence when something is not as it should be."""
    images, labels = parsed.digits / "images.npy", parsed.digits / "labels.npy"
    with contextlib.ExitStack() as stack:
        given = ["--socket", stack.enter_context(running_daemon(parsed.daemon))] if parsed.daemon else []
        print("A C++ program puts the digits into", "the daemon's store:" if given else "a store that it hosts itself:")
        producer = stack.enter_context(running("digits_store", parsed.producer, images, labels, *given))
        socket = producer.wait_for("socket:")
        if given:
            producer.wait()
            print("The C++ program has ended; the daemon keeps what it wrote.")
        read_at_once(producer, socket, images, parsed.picture)
        if not given:
            producer.wait()
            print("The C++ program saw the end of its input, stopped its store and ended.")
    print(f"\nThe picture of the ten mean digits: {parsed.picture}")
    if not given:
        print("The same with a daemon instead of a store inside the C++ program: make demo DAEMON=1")


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("producer", type=Path)
    arguments.add_argument("digits", type=Path)
    arguments.add_argument("picture", type=Path)
    arguments.add_argument("--daemon", type=Path, metavar="SERVER")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    try:
        demo(arguments.parse_args())
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
