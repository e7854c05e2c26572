"""The tests that pyarrow 11 brought for pyarrow.plasma, as they are in its wheel: none of them is copied into this project.

They run twice, in an interpreter with pyarrow 11: once with this package in the place of pyarrow.plasma, once with pyarrow's
client and only the daemon ours (see pyarrow11_suite/sitecustomize.py). Each is one test here as well.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest

from conftest import PACKAGE, until

PYTHON = os.environ.get("PLASMA_TEST_PYARROW11")
SUITE = Path(__file__).with_name("pyarrow11_suite")

# Not run: skipped by pyarrow itself, or not to be run anywhere.
LEFT_OUT = {
    "test_plasma_tf_op": "pyarrow skips it everywhere; it needs the operator in C++ and TensorFlow 1",
    "test_use_huge_pages": "pyarrow expects it to fail; it needs huge pages set up at /mnt/hugepages",
}
# What must fail, and why. One that passes after all is a failure: then its line must go.
FAILS: Dict[str, Dict[str, str]] = {
    "package": {
        "test_plasma_deprecated": "wants DeprecationWarnings; nothing here is deprecated",
    },
    "daemon": {},
}


def wheel_tests() -> List[Path]:
    """The files with pyarrow's tests of Plasma, where that interpreter can run them."""
    if not PYTHON:
        return []
    script = "import pandas, pyarrow, pytest; print(pyarrow.__path__[0])"
    found = subprocess.run([PYTHON, "-c", script], capture_output=True, text=True, env=environment({}))
    return sorted(Path(found.stdout.strip(), "tests").glob("test_plasma*.py")) if found.returncode == 0 else []


def environment(more: Dict[str, str]) -> Dict[str, str]:
    """That of the old program: our package is not seen unless `more` says so."""
    return {**{name: value for name, value in os.environ.items() if name != "PYTHONPATH"}, **more}


def names(file: Path) -> Iterator[str]:
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        members = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
        yield from (prefix + one.name for one in members if isinstance(one, ast.FunctionDef) and one.name.startswith("test_"))


FILES = wheel_tests()
NAMES = [name for file in FILES for name in names(file) if name not in LEFT_OUT]

pytestmark = pytest.mark.skipif(not FILES, reason="$PLASMA_TEST_PYARROW11 is no Python with pyarrow 11, pandas and pytest")


class Run:
    """All of them in a process of their own, in the order of `NAMES`."""

    def __init__(self, tested: str, directory: Path) -> None:
        for file in FILES:
            # Beside pyarrow's own conftest.py they would need more packages.
            shutil.copy(file, directory)
        self.tested = tested
        self._report = directory / "report"
        self._report.touch()
        variables = {"PLASMA_TEST_OF": tested, "PLASMA_TEST_REPORT": str(self._report)}
        variables["PYTHONPATH"] = os.pathsep.join([str(SUITE), str(PACKAGE)])
        left_out = " and ".join(f"not {name}" for name in LEFT_OUT)
        command = [str(PYTHON), "-m", "pytest", "-p", "report_each", "-p", "no:cacheprovider", "-c", os.devnull]
        self._log = open(directory / "log", "w", encoding="utf-8")
        self._process = subprocess.Popen(
            [*command, "--rootdir", str(directory), "-k", left_out, str(directory)],
            cwd=directory,
            env=environment(variables),
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def wait_for(self, name: str) -> List[str]:
        """What became of a test, and why."""
        until(lambda: name in self._results() or self._process.poll() is not None)
        assert name in self._results(), f"pytest ended without it:\n{Path(self._log.name).read_text()[-3000:]}"
        outcome: List[str] = self._results()[name]
        return outcome

    def _results(self) -> Dict[str, Any]:
        # A last line that is still being written is for the next time.
        lines = [json.loads(line) for line in self._report.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return {name: result for name, *result in lines}

    def end(self) -> None:
        """Ends it, and the daemons of a test in which it was interrupted."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._log.close()


@pytest.fixture(scope="module", params=["package", "daemon"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    run = Run(request.param, tmp_path_factory.mktemp(request.param))
    yield run
    run.end()


@pytest.mark.parametrize("name", NAMES)
def test_of_pyarrow(run: Run, name: str) -> None:
    outcome, why = run.wait_for(name)
    expected = FAILS[run.tested].get(name)
    assert outcome == ("passed" if expected is None else "failed"), expected or why


def test_the_tables_name_tests_that_there_are() -> None:
    known = {name for file in FILES for name in names(file)}
    assert known >= {*LEFT_OUT, *FAILS["package"], *FAILS["daemon"]}
    assert len(NAMES) > 30
