"""The driver of `make soak`: what it counts, and that Ctrl-C leaves nothing behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import run_tests  # noqa: E402
import soak  # noqa: E402
from run_tests import Count, Part  # noqa: E402

INTERRUPTED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import run_tests, signal, soak
signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores it
run_tests.LOGS = Path(sys.argv[2])
work = 'touch $TMPDIR/left; sleep 1000 & echo began $$ $! $TMPDIR; wait'
soak.parts = lambda: [run_tests.Part("sleeps", ["sh", "-c", work])]
sys.argv = ["soak.py"]
sys.exit(soak.main())
"""


def ended(pid: str) -> bool:
    """Whether it is gone, or dead and not yet noticed by its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-c", INTERRUPTED, str(ROOT / "scripts"), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout
        [_, shell, child, directory] = next(line for line in process.stdout if line.startswith("began ")).split()
        assert Path(directory, "left").exists() and not ended(child)
        process.send_signal(signal.SIGINT)
        assert "interrupted" in process.stdout.read()
    assert process.returncode == 130
    assert not Path(directory).exists()
    while not (ended(shell) and ended(child)):
        time.sleep(0.01)


def test_what_was_counted_is_told_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run_tests, "ROOT", tmp_path)
    monkeypatch.setattr(run_tests, "LOGS", tmp_path)
    part = Part("crowd", ["printf", "%s\n", "test a ... ", "SOAK: 5 frames", "ok"], directory=tmp_path)
    assert soak.soak([part]) == 0
    assert "  crowd: 5 frames" in capsys.readouterr().out.splitlines()


def test_without_pyarrow_11_conformance_is_skipped() -> None:
    assert soak.count_conformance(["SKIPPED: no Python"], 0) == Count(skips=["no Python"])
    assert soak.count_conformance(["9 scripts played"], 1) == Count(failed=1)
    assert soak.count_conformance([], 1) == Count(failed=1)
