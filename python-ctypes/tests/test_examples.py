"""The examples in the README and in the package's documentation do what they say."""

from __future__ import annotations

import doctest
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest

import plasma_store
from conftest import PACKAGE

np = pytest.importorskip("numpy")


@pytest.mark.parametrize("module", [plasma_store.tensor, plasma_store.client])
def test_the_docstrings(module: Any) -> None:
    failed, attempted = doctest.testmod(module)
    assert failed == 0
    assert attempted > 0


def test_the_readme(capsys: pytest.CaptureFixture[str]) -> None:
    [code] = re.findall(r"```python\n(.*?)```", Path(PACKAGE, "README.md").read_text(), flags=re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out == "66.0\n"


def test_the_packages_docstring(capsys: pytest.CaptureFixture[str]) -> None:
    assert plasma_store.__doc__
    code = textwrap.dedent("\n".join(line for line in plasma_store.__doc__.splitlines() if line.startswith("    ")))
    namespace: Any = {}
    exec(compile(code, "docstring", "exec"), namespace)
    assert capsys.readouterr().out == "[[0. 1. 2.]\n [3. 4. 5.]]\n"
