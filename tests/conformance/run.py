"""Plays seeded scripts to the Plasma 11 daemon and to ours, and compares every reply.

Usage, with a Python that has pyarrow 11: run.py [--count N] [--first SEED] [--jobs N] [--ours PROGRAM] | --script FILE

Each script gets two fresh stores. A difference that is not meant is played again, cut down to the shortest script that still
shows it, and printed so that `--script` takes it. The last line counts everything; the status is 1 when something differs,
also when it differs only once, and when the old store ends in the middle, as then nothing was compared.
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
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

warnings.simplefilter("ignore")

import compare  # noqa: E402
import scripts  # noqa: E402
from daemons import Daemon, old_program  # noqa: E402
from player import play  # noqa: E402
from scripts import Script  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
PLAY_LIMIT_S = 60
MAX_DIFFERENCES = 20  # shown before it gives up
PROGRESS_S = 10


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


@dataclass
class Outcome:
    """What came of scripts, in numbers and in words."""

    counts: Counter[str] = field(default_factory=Counter)
    meant: Counter[str] = field(default_factory=Counter)
    operations: Counter[str] = field(default_factory=Counter)
    said: List[str] = field(default_factory=list)

    def add(self, other: Outcome) -> None:
        self.counts += other.counts
        self.meant += other.meant
        self.operations += other.operations

    def wrong(self) -> int:
        return self.counts["different"] + self.counts["not again"] + self.counts["old died"]

    def summary(self) -> str:
        counts = self.counts
        return (f"{counts['played']} scripts played, {sum(self.operations.values())} steps, {counts['different']} different, "
                f"{counts['not again']} different once, {counts['old died']} ended by the old store")


class Runner:
    """Two daemons, and what came of one script or several."""

    def __init__(self, old: str, ours: str) -> None:
        self.old, self.ours = old, ours
        self.outcome = Outcome()

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
        self.outcome.meant += result.meant
        return result.difference, old

    def differs(self, script: Script) -> Optional[str]:
        try:
            return self.compare(script)[0]
        except Died:
            return None

    def run(self, seed: int) -> None:
        """Plays one seed, counts it, and tells what differs."""
        script, outcome = scripts.script(seed), self.outcome
        try:
            difference, told = self.compare(script)
        except Died as died:
            outcome.counts["old died"] += 1
            outcome.said.append(f"seed {seed}: with the old store {died}")
            return
        outcome.counts["played"] += 1
        for step, entry in zip(script.steps, told):
            left_out = str(entry["reply"]).startswith("left out")
            outcome.operations["left out" if left_out else step[0]] += 1
        if difference:
            self.tell(seed, script, difference)

    def tell(self, seed: int, script: Script, difference: str) -> None:
        again = self.differs(script)
        self.outcome.counts["different" if again else "not again"] += 1
        if not again:
            self.outcome.said.append(f"seed {seed}: differed once, and not again, at {difference}")
            return
        script = self.shorten(script)
        self.outcome.said.append(f"seed {seed}: {again}\n  {json.dumps(scripts.as_json(script))}")

    def shorten(self, script: Script) -> Script:
        """Leaves out whatever can be, until nothing more can."""
        place = len(script.steps) - 1
        while place >= 0:
            shorter = Script(script.memory, script.steps[:place] + script.steps[place + 1:])
            if self.differs(shorter):
                script = shorter
            place = min(place, len(script.steps)) - 1
        return script


def play_seed(old: str, ours: str, seed: int) -> Outcome:
    """Plays one seed; what a worker process does."""
    runner = Runner(old, ours)
    runner.run(seed)
    return runner.outcome


def play_seeds(old: str, ours: str, seeds: Sequence[int], jobs: int) -> Outcome:
    """Plays them all, several at once, and says now and then how far it is."""
    total, spoke = Outcome(), time.monotonic()
    with ProcessPoolExecutor(jobs) as workers:
        played = [workers.submit(partial(play_seed, old, ours), seed) for seed in seeds]
        try:
            for place, one in enumerate(as_completed(played), 1):
                total.add(one.result())
                for words in one.result().said:
                    print(words, flush=True)
                if total.wrong() >= MAX_DIFFERENCES:
                    print(f"{MAX_DIFFERENCES} scripts differ: that is enough")
                    break
                if time.monotonic() - spoke > PROGRESS_S:
                    spoke = time.monotonic()
                    print(f"{place} of {len(seeds)} scripts, {total.wrong()} different", flush=True)
        finally:
            workers.shutdown(cancel_futures=True)
    return total


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="scripts played at once")
    parser.add_argument("--ours", default=str(ROOT / "target" / "debug" / "plasma-store-server"))
    parser.add_argument("--old", default=old_program())
    parser.add_argument("--script", type=Path, help="play this one, as an earlier run printed it")
    arguments = parser.parse_args()
    if arguments.script:
        script = Script(**json.loads(arguments.script.read_text()))
        difference, _ = Runner(arguments.old, arguments.ours).compare(script)
        print(difference or "no difference")
        return int(difference is not None)
    started = time.monotonic()
    seeds = range(arguments.first, arguments.first + arguments.count)
    outcome = play_seeds(arguments.old, arguments.ours, seeds, arguments.jobs)
    print("steps:", ", ".join(f"{name} {count}" for name, count in sorted(outcome.operations.items())))
    print("meant:", ", ".join(f"{name} {count}" for name, count in sorted(outcome.meant.items())))
    print(f"{time.monotonic() - started:.0f} s")
    print(outcome.summary())
    return int(outcome.wrong() > 0)


if __name__ == "__main__":
    sys.exit(main())
