"""Plays seeded scripts to the Plasma 11 daemon and to ours, and compares every reply.

Usage, with a Python that has pyarrow 11: run.py [--count N] [--first SEED] [--ours PROGRAM] | --script FILE

Each script gets two fresh stores. A difference that is not meant is played again, cut down to the shortest script that still
shows it, and printed so that `--script` takes it. The last line counts everything; the status is 1 when something differs.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

warnings.simplefilter("ignore")

import compare  # noqa: E402
import scripts  # noqa: E402
from daemons import Daemon, old_program  # noqa: E402
from player import play  # noqa: E402
from scripts import Script  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
PLAY_LIMIT_S = 60
MAX_DIFFERENCES = 20  # shown before it gives up


class Died(Exception):
    """A store or a client did not live to the end of its script."""


def play_apart(daemon: Daemon, script: Script) -> List[Dict[str, Any]]:
    """Plays in a child process, as the old client ends its process when it does not like what it hears."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1 if VERBOSE else 2)
            signal.alarm(PLAY_LIMIT_S)
            told = json.dumps(play(daemon.socket, script)).encode()
            with os.fdopen(writer, "wb") as pipe:
                pipe.write(told)
        except BaseException as error:
            os.write(writer, json.dumps(f"{type(error).__name__}: {error}").encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        told_bytes = pipe.read()
    _, status = os.waitpid(child, 0)
    if not daemon.alive():
        raise Died("the store ended")
    if os.WIFSIGNALED(status):
        raise Died(f"the client ended by {signal.Signals(os.WTERMSIG(status)).name}")
    told = json.loads(told_bytes)
    if isinstance(told, str):
        raise Died(f"the player ended with {told}")
    return told


VERBOSE = False


class Runner:
    """Two daemons and what came of their scripts."""

    def __init__(self, old: str, ours: str) -> None:
        self.old, self.ours = old, ours
        self.counts: Counter[str] = Counter()
        self.meant: Counter[str] = Counter()
        self.operations: Counter[str] = Counter()

    def compare(self, script: Script) -> Tuple[Optional[str], List[Dict[str, Any]]]:
        """The first difference that is not meant, if there is one, and what the old store said."""
        with Daemon(self.old, script.memory) as daemon:
            old = play_apart(daemon, script)
        with Daemon(self.ours, script.memory) as daemon:
            try:
                ours = play_apart(daemon, script)
            except Died as died:
                return f"with ours {died}", old
        result = compare.compare(script.steps, old, ours)
        self.meant += result.meant
        return result.difference, old

    def differs(self, script: Script) -> Optional[str]:
        try:
            return self.compare(script)[0]
        except Died:
            return None

    def run(self, seed: int) -> None:
        """Plays one seed, counts it, and tells what differs."""
        script = scripts.script(seed)
        try:
            difference, told = self.compare(script)
        except Died as died:
            self.counts["old died"] += 1
            print(f"seed {seed}: with the old store {died}")
            return
        self.counts["played"] += 1
        for step, entry in zip(script.steps, told):
            left_out = str(entry["reply"]).startswith("left out")
            self.operations["left out" if left_out else step[0]] += 1
        if difference:
            self.tell(seed, script, difference)

    def tell(self, seed: int, script: Script, difference: str) -> None:
        if not self.differs(script):
            self.counts["not again"] += 1
            print(f"seed {seed}: differed once, and not again, at {difference}")
            return
        self.counts["different"] += 1
        script = self.shorten(script)
        print(f"seed {seed}: {self.differs(script)}\n  {json.dumps(scripts.as_json(script))}", flush=True)

    def shorten(self, script: Script) -> Script:
        """Leaves out whatever can be, until nothing more can."""
        place = len(script.steps) - 1
        while place >= 0:
            shorter = Script(script.memory, script.steps[:place] + script.steps[place + 1:])
            if self.differs(shorter):
                script = shorter
            place = min(place, len(script.steps)) - 1
        return script

    def summary(self) -> str:
        counts = self.counts
        return (f"{counts['played']} scripts played, {sum(self.operations.values())} steps, {counts['different']} different, "
                f"{counts['not again']} different once, {counts['old died']} ended by the old store")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--ours", default=str(ROOT / "target" / "debug" / "plasma-store-server"))
    parser.add_argument("--old", default=old_program())
    parser.add_argument("--script", type=Path, help="play this one, as an earlier run printed it")
    arguments = parser.parse_args()
    runner = Runner(arguments.old, arguments.ours)
    if arguments.script:
        difference, _ = runner.compare(Script(**json.loads(arguments.script.read_text())))
        print(difference or "no difference")
        return int(difference is not None)
    started = time.monotonic()
    for seed in range(arguments.first, arguments.first + arguments.count):
        runner.run(seed)
        if runner.counts["different"] >= MAX_DIFFERENCES:
            print(f"{MAX_DIFFERENCES} scripts differ: that is enough")
            break
    print("steps:", ", ".join(f"{name} {count}" for name, count in sorted(runner.operations.items())))
    print("meant:", ", ".join(f"{name} {count}" for name, count in sorted(runner.meant.items())))
    print(f"{time.monotonic() - started:.0f} s")
    print(runner.summary())
    return int(runner.counts["different"] > 0)


if __name__ == "__main__":
    sys.exit(main())
