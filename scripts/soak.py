"""Plays in full what `make test` plays a little of: `make soak`. No two parts run at once. It was not timed as a whole:
beside much other work its scripts took an hour, all else some minutes and the compiling.

Usage: soak.py [--minutes N] [PART...]     all parts when none is named; --list names them

Everything it makes lies in one temporary directory, which goes with it, also on Ctrl-C. What was counted is told again at
the end; the status is 1 when something failed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from typing import Iterable, List

import run_tests
from run_tests import Count, Part

BUILT = run_tests.BUILT.parent / "soak"  # the profile of that name in Cargo.toml
CONFORMANCE_SCRIPTS = 10_000
MODEL_GAMES = 10  # of a hundred thousand requests each
FUZZ_ROUNDS = 200_000  # inputs for each target
STEADY_MINUTES = 10


def cargo_test(*arguments: str) -> List[str]:
    """One test at a time: some tell how long somebody had to wait."""
    return ["cargo", "test", "--locked", "--profile", "soak", *arguments, "--", "--nocapture", "--test-threads=1"]


def count_conformance(lines: Iterable[str], status: int) -> Count:
    """Says what was played; without pyarrow 11 it is a skip."""
    skips = [line[len("SKIPPED: "):] for line in lines if line.startswith("SKIPPED: ")]
    if skips:
        return Count(skips=skips)
    return run_tests.count_one(lines, status)


def conformance() -> Part:
    """The scripts, played by pyarrow 11."""
    python = run_tests.environment().get("PLASMA_TEST_PYARROW11")
    player = ["tests/conformance/run.py", "--count", str(CONFORMANCE_SCRIPTS), "--ours", str(BUILT / "plasma-store-server")]
    if python is None:
        player = ["-c", "print('SKIPPED: there is no Python for pyarrow 11 (make setup says why)')"]
    return Part("conformance", [python or sys.executable, *player], count_conformance)


def parts() -> List[Part]:
    """What is played, in this order."""
    tests = ["hostile_crowd", "disconnect", "segments", "subscription", "intruder", "ring", "tensor_ring"]
    crowds = cargo_test(*(word for test in tests for word in ("--test", test)))
    return [
        Part("build", ["cargo", "build", "--locked", "--profile", "soak"]),
        Part("hostile crowds and kills", crowds, run_tests.count_cargo),
        Part("steady", cargo_test("--test", "steady"), run_tests.count_cargo),
        run_tests.crash_points("--profile", "soak", "--", "--nocapture", "--test-threads=1"),
        Part("model", cargo_test("--lib", "model"), run_tests.count_cargo),
        Part("tensor rings", cargo_test("--lib", "shm::shared::ring"), run_tests.count_cargo),
        Part("fuzz targets", cargo_test("--test", "fuzz_targets"), run_tests.count_cargo),
        conformance(),
        Part("thread sanitizer", ["scripts/races.sh"], run_tests.count_races),
    ]


def told(part: Part) -> List[str]:
    """The lines of a part's log that belong into the summary."""
    lines = run_tests.log_of(part.name).read_text(encoding="utf-8").splitlines()
    if part.name == "conformance":
        return lines[-1:]
    return [line[len("SOAK: "):] for line in lines if line.startswith("SOAK: ")]


def soak(chosen: List[Part]) -> int:
    """Runs the parts, and tells what was counted."""
    results, counted = [], []
    for part in chosen:
        print(f"\n== {part.name}: {' '.join(part.command)}", flush=True)
        start = time.monotonic()
        count = run_tests.run(part)
        results.append((part.name, count, time.monotonic() - start))
        counted += [f"{part.name}: {line}" for line in told(part)]
    print("\n== counted", *counted, sep="\n  ")
    return run_tests.summary(results, fail_on_skip=False)


def main() -> int:
    known = {part.name: part for part in parts()}
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--minutes", type=int, default=STEADY_MINUTES, help="how long the part `steady` plays")
    parsed = run_tests.chosen(arguments, known)
    run_tests.LOGS.mkdir(parents=True, exist_ok=True)
    os.environ.update(PLASMA_SOAK="1", PLASMA_MODEL_GAMES=str(MODEL_GAMES), PLASMA_FUZZ_ROUNDS=str(FUZZ_ROUNDS),
                      PLASMA_SOAK_MINUTES=str(parsed.minutes))
    with tempfile.TemporaryDirectory(prefix="plasma-soak-") as directory:
        os.environ.update(TMPDIR=directory, XDG_RUNTIME_DIR=directory)
        os.chmod(directory, 0o711)  # clients of other users reach the sockets in it
        try:
            return soak([known[name] for name in parsed.part])
        except KeyboardInterrupt:
            print("\ninterrupted; nothing is left running")
            return 130


if __name__ == "__main__":
    sys.exit(main())
