"""The test driver counts what its runners say, and never takes a broken runner for a good one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import run_tests  # noqa: E402
from run_tests import Count, Part  # noqa: E402

CARGO = """\
running 4 tests
test a::one ... ok
test a::two ... ok
test three ... FAILED
test four ... ignored

successes:

---- a::two stdout ----
SKIPPED: no pyarrow 11
SKIPPED: and no Python 3.11

successes:
    a::one
    a::two

failures:

---- three stdout ----
SKIPPED: said before it failed
thread panicked

failures:
    three

test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s
"""


def test_cargo_output_is_counted_over_all_its_programs() -> None:
    other = "test result: ok. 7 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s"
    count = run_tests.count_cargo([*CARGO.splitlines(), other], 101)
    assert (count.passed, count.failed) == (8, 1)
    assert count.failures == ["three"]
    assert count.skips == ["a::two: no pyarrow 11", "marked #[ignore]"]


def test_a_race_fails_tests_that_passed_and_a_missing_compiler_is_a_skip() -> None:
    passed = "test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 5.62s"
    assert run_tests.count_races([passed], 0) == Count(passed=1)
    assert run_tests.count_races(["WARNING: ThreadSanitizer: data race", passed], 66) == Count(passed=1, failed=1)
    assert run_tests.count_races(["SKIPPED: no nightly compiler"], 0) == Count(skips=["no nightly compiler"])


def test_what_does_not_compile_or_crashes_has_failed() -> None:
    assert run_tests.count_cargo(["error: could not compile"], 101) == Count(failed=1)
    assert run_tests.count_one([], 1) == Count(failed=1)
    assert run_tests.count_one([], 0) == Count(passed=1)


PYTEST = """
import pytest
def test_good(): pass
def test_bad(): assert False
def test_skipped(): pytest.skip("nothing to do")
@pytest.fixture
def broken(): raise OSError
def test_with_broken_fixture(broken): pass
"""


def test_pytest_reports_are_counted(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text(PYTEST)
    report = tmp_path / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junit-xml={report}", str(tmp_path)]
    status = subprocess.run(command, stdout=subprocess.DEVNULL, timeout=60).returncode
    count = run_tests.count_pytest(report)([], status)
    assert (count.passed, count.failed, len(count.skips)) == (1, 2, 1)
    assert "nothing to do" in count.skips[0]


def test_pytest_that_ran_nothing_has_failed(tmp_path: Path) -> None:
    assert run_tests.count_pytest(tmp_path / "none.xml")([], 5) == Count(failed=1)


SKIP = [("part", Count(passed=3, skips=["no tool"]), 0.1)]


@pytest.mark.parametrize(
    ("results", "fail_on_skip", "status", "last"),
    [
        ([("one", Count(passed=2), 0.1), ("two", Count(passed=1), 0.1)], True, 0, "3 passed, 0 failed, 0 skipped"),
        ([("one", Count(passed=2), 0.1), ("two", Count(failed=1), 0.1)], False, 1, "2 passed, 1 failed, 0 skipped"),
        (SKIP, False, 0, "3 passed, 0 failed, 1 skipped"),
        (SKIP, True, 1, "3 passed, 0 failed, 1 skipped"),
    ],
)
def test_the_last_line_and_the_status(
    results: list[tuple[str, Count, float]], fail_on_skip: bool, status: int, last: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_tests.summary(results, fail_on_skip) == status
    assert capsys.readouterr().out.splitlines()[-1] == last


def test_a_part_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(run_tests, "LOGS", tmp_path)
    monkeypatch.setattr(run_tests, "PART_LIMIT_S", 0.5)
    assert run_tests.run(Part("hangs", ["sleep", "1000"])) == Count(failed=1)


def test_output_of_good_tests_is_not_shown_but_skips_are(capsys: pytest.CaptureFixture[str]) -> None:
    display = run_tests.Display()
    for line in ["test a ... ok", "successes:", "---- a stdout ----", "chatter", "SKIPPED: why", "test result: ok. 1 passed"]:
        display.show(line)
    assert capsys.readouterr().out.splitlines() == ["test a ... ok", "SKIPPED: why", "test result: ok. 1 passed"]
