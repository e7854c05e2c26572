"""The examples of shared tensors and rings do what they say, however processes are started and whoever dies."""

from __future__ import annotations

import subprocess
import sys

import pytest

from conftest import ROOT

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
