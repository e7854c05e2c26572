"""The benchmark measures, in its smallest form, and says what it could not measure. No time is asserted: none is known here."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Dict, List, Set

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench"))

import machine  # noqa: E402
import plan  # noqa: E402
import report  # noqa: E402
from machine import State  # noqa: E402
from processes import Failed, Scratch, results_of  # noqa: E402
from results import Results  # noqa: E402

PYTHON = ROOT / "build" / "venv-bench" / "bin" / "python"
LIMIT_S = 900
needs_setup = pytest.mark.skipif(not PYTHON.exists(), reason="no build/venv-bench: scripts/setup.sh bench makes it")


def command(out: Path, *words: str) -> List[str]:
    return [str(PYTHON), str(ROOT / "bench" / "run.py"), "--size", "tiny", "--out", str(out),
            "--library", os.environ["PLASMA_STORE_LIBRARY"], "--server", os.environ["PLASMA_STORE_SERVER"],
            "--python-plasma11", os.environ.get("PLASMA_TEST_PYARROW11", "/nowhere"), *words]


def bench(out: Path, *words: str) -> Dict[str, Any]:
    """Runs it; gives what is in its JSON."""
    done = subprocess.run(command(out, *words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, done.stdout
    assert report.markdown(json.loads((out / "results.json").read_text("utf-8"))) in done.stdout
    run: Dict[str, Any] = json.loads((out / "results.json").read_text("utf-8"))
    return run


def measured(run: Dict[str, Any]) -> Set[str]:
    return {f"{row['work']} {row['peer']}" for row in run["results"]}


@needs_setup
def test_peers_are_measured_side_by_side(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    peers = "ours-c,ours-python,plasma11-cpp,shared-memory,floor,floor-python"
    run = bench(tmp_path, "--only", "W2,W7", "--peers", peers, "--page", str(page))
    expected = {"W2 ours-c", "W2 ours-python", "W2 shared-memory", "W2 floor", "W2 floor-python",
                "W7 ours-python", "W7 shared-memory", "W7 floor-python"}
    assert measured(run) - {"W2 plasma11-cpp"} == expected, run["failures"]
    assert all(0 < row["p50"] <= row["p99"] for row in run["results"])
    assert {row["to_floor"] is None for row in run["results"]} == {False}
    text = page.read_text("utf-8")
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert "| ours, C | " in text and "(page.svg)" in text
    for picture in (tmp_path / "results.svg", tmp_path / "page.svg"):
        drawn = picture.read_text("utf-8")
        assert "</svg>" in drawn and "tensor to numpy" in drawn
    if "PLASMA_TEST_PYARROW11" not in os.environ:
        pytest.skip("no pyarrow 11")
    assert "W2 plasma11-cpp" in measured(run), run["failures"]


@needs_setup
def test_rings_and_shared_arrays_are_measured(tmp_path: Path) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one core")
    run = bench(tmp_path, "--only", "RING,RINGS,FLOW,SHARED", "--peers", "ours-c,ours-c-many,ours-python,ours-python-many,raw-array,floor")
    assert not run["failures"]
    pythons = ("ours-c", "ours-python", "raw-array")
    expected = {f"{work} {peer}" for work in ("RING", "RINGS", "FLOW") for peer in pythons}
    expected |= {"RING floor", "FLOW floor", "RINGS ours-c-many", "RINGS ours-python-many", "SHARED ours-c", "SHARED floor"}
    assert measured(run) == expected
    assert all(row["p50"] > 0 for row in run["results"])


@needs_setup
def test_a_peer_that_fails_is_a_row(tmp_path: Path) -> None:
    """Its daemon ends at once; that of another has no Python to come from. The others are measured all the same."""
    run = bench(tmp_path, "--only", "W2", "--peers", "ours-c,plasma11-python,floor", "--server", "/bin/false",
                "--python-plasma11", str(tmp_path / "python"))
    assert measured(run) == {"W2 floor"}
    reasons = {failure["peer"]: failure["reason"] for failure in run["failures"]}
    assert reasons["ours-c"] == "the daemon ended with status 1"
    assert "venv-pyarrow11" in reasons["plasma11-python"]
    text = (tmp_path / "results.md").read_text("utf-8")
    assert "| ours, C | failed, see below |" in text and "| ours, C | the daemon ended with status 1 | W2 64 B |" in text
    assert "ours, C (failed)" in (tmp_path / "results.svg").read_text("utf-8")


def test_the_reason_is_what_the_process_said_that_failed() -> None:
    scratch = Scratch()
    try:
        with pytest.raises(Failed, match="^ended with status 3: no room for it$"):
            script = "echo 'no room for it' >&2; echo 'the other process has ended' >&2; exit 3"
            results_of(["sh", "-c", script], {}, scratch, LIMIT_S)
        with pytest.raises(Failed, match="^took longer than 0 s$"):
            results_of(["sh", "-c", "sleep 1000 & wait"], {}, scratch, 0.1)
        with pytest.raises(Failed, match="no result: 'words"):
            results_of(["echo", "words"], {}, scratch, LIMIT_S)
    finally:
        scratch.remove()
    assert not scratch.directory.exists() and not scratch.tmpfs.exists()


@needs_setup
def test_an_interrupted_run_leaves_nothing(tmp_path: Path) -> None:
    words = command(tmp_path, "--only", "W2", "--peers", "ours-c", "--repetitions", "1000000")
    run = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    limit = threading.Timer(LIMIT_S, run.kill)
    limit.start()
    try:
        assert run.stdout
        scratch = ""
        for line in run.stdout:
            if line.startswith("files of this run: "):
                scratch = Path(line.split()[4].rstrip(",")).name
            if line.startswith("[3/"):
                break
        run.send_signal(signal.SIGINT)
        rest = run.stdout.read()
        assert run.wait() == 130, rest
    finally:
        limit.cancel()
        run.kill()
        run.wait()
    assert scratch.startswith("plasma-bench-"), rest
    assert not list(Path("/dev/shm").glob(f"{scratch}*")) and not Path(os.environ.get("TMPDIR", "/tmp"), scratch).exists()
    assert not [process for process in Path("/proc").glob("[0-9]*") if scratch in command_of(process)]
    assert not (tmp_path / "results.json").exists()


def command_of(process: Path) -> str:
    try:
        return (process / "cmdline").read_text("utf-8", errors="replace")
    except OSError:
        return ""  # it has ended


QUIET = State(load=0.1, others=0.01, steal=0.0, cache_line_ns=140)


def a_run(state: State, *figures: float) -> Dict[str, Any]:
    """A run in which get in C took this long, and the floor 10 ns; in each repetition iceoryx2 failed."""
    results = Results()
    (group,) = plan.measurements(plan.SIZES["quick"], ["W2"], ["ours-c", "floor"])
    failing = plan.Measurement(group[0].work, group[0].case, "iceoryx2")
    for p50 in figures:
        for one, ns in zip(group, (p50, 10.0)):
            line = {"metric": "get", "unit": "ns", "p50": ns, "p99": 2 * ns, "samples": 9, "batch": 100, "cores": 0b101}
            results.add(one, [line], state)
        results.fail(failing, "no cargo | here")
    return results.as_json([group], {"size": "full", "repetitions": len(figures)})


def test_figures_are_medians_and_ratios_of_medians() -> None:
    run = a_run(QUIET, 50.0, 40.0, 90.0)
    (ours,) = [row for row in run["results"] if row["peer"] == "ours-c"]
    assert (ours["p50"], ours["p99"], ours["range"], ours["to_floor"]) == (50, 100, [40, 90], 5)
    assert ours["repetitions"][0]["cores"] == [0, 2] and ours["repetitions"][0]["machine"]["cache_line_ns"] == 140
    marks = {mark["name"]: mark["reached"] for mark in run["marks"]}
    assert marks["get, first byte, release in C"] is True and marks["tensor of 1 M elements to numpy"] is None
    missed = a_run(QUIET, 61.0)["marks"][0]
    assert (missed["limit"], missed["value"], missed["reached"]) == (60, 61, False)


def test_a_mark_may_be_a_multiple_at_least() -> None:
    results, (group, *_) = Results(), plan.measurements(plan.SIZES["quick"], ["RINGS"], ["ours-python", "raw-array"])
    for one, rate in zip(group, (299.0, 100.0)):
        line = {"metric": "messages", "unit": "/s", "p50": rate, "p99": rate, "samples": 1, "batch": 1, "cores": 0}
        results.add(one, [line], QUIET)
    run = results.as_json([group], {"size": "full", "repetitions": 1})
    (mark,) = [mark for mark in run["marks"] if mark["name"] == "one by one in Python, 1 and 1, 16 slots"]
    assert (mark["value"], mark["bound"], mark["reached"]) == (2.99, "at least", False)
    assert "| at least 3.00 × of RINGS 1 and 1, 16 slots raw-array messages | 2.99 × | **no** |" in report.markdown(run)


def test_the_report_shows_ratios_marks_and_failures() -> None:
    text = report.markdown(a_run(QUIET, 50.0, 40.0, 90.0))
    assert text.startswith("The machine was quiet")
    assert "| ours, C | 50 ns (100 ns) F×5 |" in text
    assert "| iceoryx2, Rust | failed, see below |" in text and "| iceoryx2, Rust | no cargo \\| here | W2 64 B |" in text
    assert "| get, first byte, release in C | at most 60 ns | 50 ns | yes |" in text


@pytest.mark.parametrize("state", [State(9.0, 0.5, 0.0, None), State(0.1, 0.0, 0.2, 140)])
def test_a_busy_machine_is_told_first(state: State) -> None:
    run = a_run(state, 50.0)
    assert run["machine"]["busy"]
    assert report.markdown(run).startswith("**The machine was busy, so these figures must not be quoted**")


def test_the_state_counts_only_what_others_did(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = [{"user": 0, "idle": 0, "iowait": 0, "steal": 0}, {"user": 60, "idle": 20, "iowait": 10, "steal": 10}]
    own = [0.0, 40 / os.sysconf("SC_CLK_TCK")]
    monkeypatch.setattr(machine, "_ticks", lambda: ticks.pop(0))
    monkeypatch.setattr(machine, "_own_seconds", lambda: own.pop(0))
    state = machine.Watch(140).state()
    assert (round(state.others, 6), state.steal) == (0.2, 0.1)


def test_every_mark_is_of_something_that_is_measured() -> None:
    cases = {(work.key, case.name, peer) for work in plan.WORKS for case in work.cases for peer in case.only or work.peers}
    assert all(mark.cell[:3] in cases and (mark.of is None or mark.of[:3] in cases) for mark in plan.MARKS)


@pytest.mark.parametrize(("value", "unit", "text"), [
    (4.037, "ns", "4.04 ns"), (999.4, "ns", "999 ns"), (47_350, "ns", "47.4 µs"), (2.5e9, "ns", "2.5 s"),
    (12345.6, "/s", "12,346/s"),
])
def test_figures_have_three_digits(value: float, unit: str, text: str) -> None:
    assert report.figure(value, unit) == text
