"""A pytest plugin: appends a line of JSON to $PLASMA_TEST_REPORT for each test, as soon as it is through."""

import json
import os
from typing import Dict, List

import pytest

_NOT_PASSED: Dict[str, List[str]] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Called for the setup, the test itself and the teardown; the first that did not pass is what counts."""
    # "test_plasma.py::Class::name" becomes "Class::name".
    name = report.nodeid.partition("::")[2]
    if not report.passed:
        _NOT_PASSED.setdefault(name, [report.outcome, report.longreprtext])
    if report.when == "teardown":
        with open(os.environ["PLASMA_TEST_REPORT"], "a", encoding="utf-8") as file:
            file.write(json.dumps([name, *_NOT_PASSED.get(name, ["passed", ""])]) + "\n")
