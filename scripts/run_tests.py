"""Runs every test of the project, part by part, and counts them in one closing summary.

Usage: run_tests.py [--fail-on-skip] [PART...]     all parts when none is named; --list names them

Every part runs, also after another failed. What a part says is shown as it comes, and kept in build/test-logs/. The last
line is `N passed, N failed, N skipped`; the status is 1 when something failed, with --fail-on-skip also when something
was skipped. `make test` sets up what is needed first.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Iterable

ROOT = Path(__file__).resolve().parent.parent
LOGS = ROOT / "build" / "test-logs"
BUILT = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve() / "debug"
PART_LIMIT_S = 60 * 60  # a part that runs longer hangs; it is ended and counts as failed


@dataclass
class Count:
    """What became of the tests of one part."""

    passed: int = 0
    failed: int = 0
    failures: list[str] = field(default_factory=list)
    skips: list[str] = field(default_factory=list)
    """Why each skipped test was skipped."""


def count_one(lines: Iterable[str], status: int) -> Count:
    """A part that is one check: a formatter, a linter."""
    return Count(passed=1) if status == 0 else Count(failed=1)


def count_cargo(lines: Iterable[str], status: int) -> Count:
    """`cargo test -- --show-output`. A test that prints `SKIPPED: reason` and returns was skipped, not passed."""
    count = Count()
    test = ""  # whose output the lines are, where they are a test's
    for line in lines:
        if result := re.match(r"test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored;", line):
            count.passed += int(result[1])
            count.failed += int(result[2])
            count.skips += ["marked #[ignore]"] * int(result[3])
        elif output := re.match(r"---- (.*) stdout ----", line):
            test = output[1]
        elif line in ("successes:", "failures:"):
            test = ""
        elif (skip := re.match(r"\s*SKIPPED: (.*)", line)) and test and test not in count.failures:
            count.skips.append(f"{test}: {skip[1]}")
            count.passed -= 1
            test = ""  # whatever else it prints, it is one test
        elif failure := re.match(r"test (.*) \.\.\. FAILED", line):
            count.failures.append(failure[1])
        elif ended := re.match(r".*\(signal: .*\)$", line):
            count.failures.append(ended[0].strip())  # a test ended its whole process, and the others with it
            count.failed += 1
    if status != 0 and count.failed == 0:
        count.failed = 1  # it did not compile
    return count


def count_races(lines: Iterable[str], status: int) -> Count:
    """`cargo test`, or a line that says what it lacks. What ThreadSanitizer finds fails the program, though no test of it."""
    lines = list(lines)
    skips = [line[len("SKIPPED: "):] for line in lines if line.startswith("SKIPPED: ")]
    return Count(skips=skips) if skips else count_cargo(lines, status)


def count_pytest(report: Path) -> Callable[[Iterable[str], int], Count]:
    """pytest with `--junit-xml=report`."""

    def parse(lines: Iterable[str], status: int) -> Count:
        count = Count()
        cases = ElementTree.parse(report).iter("testcase") if report.exists() else []
        for case in cases:
            name = f"{case.get('classname')}.{case.get('name')}"
            if (skip := case.find("skipped")) is not None:
                count.skips.append(f"{name}: {skip.get('message')}")
            elif case.find("failure") is not None or case.find("error") is not None:
                count.failures.append(name)
            else:
                count.passed += 1
        count.failed = len(count.failures)
        if status != 0 and count.failed == 0:
            count.failed = 1  # no test was found, or pytest itself failed
        return count

    return parse


@dataclass
class Part:
    """One command and how its output is counted."""

    name: str
    command: list[str]
    count: Callable[[Iterable[str], int], Count] = count_one
    directory: Path = ROOT
    variables: dict[str, str] = field(default_factory=dict)
    """What its environment has besides that of all."""


def pytest(name: str, *arguments: str) -> Part:
    """A part that pytest runs."""
    report = LOGS / f"{name.replace(' ', '-')}.xml"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--junit-xml={report}", *arguments]
    return Part(name, command, count_pytest(report))


def crash_points(*arguments: str) -> Part:
    """Processes that die at named points, which a build of its own has. `arguments` are for cargo, and for the tests."""
    command = ["cargo", "test", "--locked", "--target-dir", str(BUILT.parent / "crash"), "--test", "crash_points"]
    return Part("crash points", [*command, *arguments], count_cargo, variables={"RUSTFLAGS": "--cfg crash_points"})


def parts() -> list[Part]:
    """Everything `make test` runs, cheap checks first."""
    cargo_test = ["cargo", "test", "--locked", "--no-fail-fast", "--", "--show-output"]
    loom = ["cargo", "test", "--locked", "--profile", "loom", "--lib", "--target-dir", str(BUILT.parent / "loom"),
            "shm::models", "--", "--show-output"]
    return [
        Part("rustfmt", ["cargo", "fmt", "--check"]),
        Part("clippy", ["cargo", "clippy", "--locked", "--all-targets", "--", "-D", "warnings"]),
        Part("generated code", ["scripts/generate_flatbuffers.sh", "--check"]),
        Part("build", ["cargo", "build", "--locked"]),
        Part("cargo test", cargo_test, count_cargo),
        Part("models", loom, count_cargo, variables={"RUSTFLAGS": "--cfg loom"}),
        crash_points("--", "--show-output"),
        Part("mypy", [sys.executable, "-m", "mypy"], directory=ROOT / "python-ctypes"),  # strict, says pyproject.toml
        Part("pyright", [sys.executable, "-m", "pyright", "--pythonpath", sys.executable], directory=ROOT / "python-ctypes"),
        pytest("python package", "-m", "not torch", "python-ctypes/tests"),  # torch: make test-torch
        pytest("readme and scripts", "tests/python"),
        pytest("demo", "demo"),
    ]


def environment() -> dict[str, str]:
    """What tests may rely on: the tools of build/venv first on PATH, the library and daemon just built, both Pythons."""
    variables = dict(os.environ)
    for inherited in ("MAKEFLAGS", "MAKELEVEL", "PLASMA_STORE_SOCKET"):
        variables.pop(inherited, None)
    variables["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{variables['PATH']}"
    variables["PYTHONPATH"] = str(ROOT / "python-ctypes")
    variables["PYTHONUNBUFFERED"] = "1"
    variables["PLASMA_STORE_LIBRARY"] = str(BUILT / "libplasma_store.so")
    variables["PLASMA_STORE_SERVER"] = str(BUILT / "plasma-store-server")
    variables["PLASMA_TEST_PYTHON"] = sys.executable
    old = ROOT / "build" / "venv-pyarrow11" / "bin" / "python"
    if old.exists():
        variables["PLASMA_TEST_PYARROW11"] = str(old)
    return variables


class Display:
    """Shows output line by line, but not what passed Rust tests printed: that is in the log, and would bury the rest."""

    def __init__(self) -> None:
        self._quiet = False

    def show(self, line: str) -> None:
        if line == "successes:":
            self._quiet = True
        elif line == "failures:" or line.startswith("test result:"):
            self._quiet = False
        if not self._quiet or line.lstrip().startswith("SKIPPED:"):
            print(line, flush=True)


def log_of(part: str) -> Path:
    """Where what a part says is kept."""
    return LOGS / f"{part.replace(' ', '-')}.log"


def run(part: Part) -> Count:
    """Runs the part to its end or its limit; its processes never outlive it."""
    lines: list[str] = []
    display = Display()
    process = subprocess.Popen(part.command, cwd=part.directory, env=environment() | part.variables,
                               stdin=subprocess.DEVNULL, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               errors="replace", start_new_session=True)

    def end() -> None:
        os.killpg(process.pid, signal.SIGKILL)

    limit = threading.Timer(PART_LIMIT_S, end)
    limit.start()
    try:
        assert process.stdout is not None
        with open(log_of(part.name), "w", encoding="utf-8") as log:
            for line in process.stdout:
                log.write(line)
                lines.append(line.rstrip("\n"))
                display.show(lines[-1])
        return part.count(lines, process.wait())
    except KeyboardInterrupt:
        end()
        process.wait()
        raise
    finally:
        limit.cancel()


def told(part: str) -> list[str]:
    """The lines of a part that say what failed: a summary is often all that a reader gets to see."""
    log = log_of(part)
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    marks = r"error|.*panicked at|watchdog: |.*has been running|E  |==\d+==ERROR|.*\(signal: "
    shown = {near for number, line in enumerate(lines) if re.match(marks, line) for near in range(number, number + 3)}
    return [lines[number] for number in sorted(shown) if number < len(lines)][:60]


def summary(results: list[tuple[str, Count, float]], fail_on_skip: bool) -> int:
    """Prints what became of everything; returns the exit status."""
    print("\n== summary")
    for name, count, seconds in results:
        print(f"  {name:20} {count.passed:4} passed, {count.failed} failed, {len(count.skips)} skipped {seconds:8.1f} s")
    for name, count, _ in results:
        if count.failed:
            print(f"-- {name} said:", *told(name), sep="\n")
    for name, count, _ in results:
        for failure in count.failures or [""] * min(count.failed, 1):
            print(f"FAILED: {name} {failure}".rstrip())
        for reason in count.skips:
            print(f"SKIPPED: {name}: {reason}")
    passed, failed, skipped = (sum(numbers) for numbers in zip(
        *((count.passed, count.failed, len(count.skips)) for _, count, _ in results)))
    if skipped and fail_on_skip:
        print("A skipped test counts as a failure here (--fail-on-skip).")
    print(f"Full output: {LOGS.relative_to(ROOT)}/")
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return int(failed > 0 or (fail_on_skip and skipped > 0))


def chosen(arguments: argparse.ArgumentParser, known: dict[str, Part]) -> argparse.Namespace:
    """Reads the arguments of a driver of parts; those named, or all, are its `part`. `--list` ends the program."""
    arguments.add_argument("--list", action="store_true", help="name the parts and end")
    arguments.add_argument("part", nargs="*", help="run only these parts")
    parsed = arguments.parse_args()
    if parsed.list:
        print("\n".join(known))
        sys.exit(0)
    if unknown := set(parsed.part) - set(known):
        arguments.error(f"no such part: {', '.join(sorted(unknown))}; --list names them")
    parsed.part = parsed.part or list(known)
    return parsed


def main() -> int:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--fail-on-skip", action="store_true", help="a skipped test is a failure")
    known = {part.name: part for part in parts()}
    parsed = chosen(arguments, known)
    LOGS.mkdir(parents=True, exist_ok=True)
    for report in LOGS.glob("*.xml"):
        report.unlink()  # a report of an earlier run must not be counted
    results = []
    for name in parsed.part:
        print(f"\n== {name}: {' '.join(known[name].command)}", flush=True)
        start = time.monotonic()
        count = run(known[name])
        results.append((name, count, time.monotonic() - start))
        print(f"== {name}: {results[-1][2]:.1f} s", flush=True)
    return summary(results, parsed.fail_on_skip)


if __name__ == "__main__":
    sys.exit(main())
