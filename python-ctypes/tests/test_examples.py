"""The examples in the README and in the package's documentation do what they say."""

from __future__ import annotations

import doctest
import importlib
import io
import pkgutil
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest

import plasma_store
from conftest import PACKAGE

np = pytest.importorskip("numpy")


NAMES = [module.name for module in pkgutil.iter_modules(plasma_store.__path__) if module.name != "__main__"]
MODULES = [importlib.import_module(f"plasma_store.{name}") for name in NAMES]
EXAMPLES = [test for module in MODULES for test in doctest.DocTestFinder(exclude_empty=True).find(module) if test.examples]


@pytest.mark.parametrize("example", EXAMPLES, ids=[example.name for example in EXAMPLES])
def test_the_docstrings(example: doctest.DocTest) -> None:
    """Each has numpy, the package and a client of an empty store."""
    with plasma_store.start_store(1 << 20) as store, plasma_store.connect(store.socket_path) as client:
        example.globs.update(np=np, plasma_store=plasma_store, store=store, client=client)
        runner, said = doctest.DocTestRunner(), io.StringIO()
        runner.run(example, out=said.write)
    assert runner.summarize(verbose=False).failed == 0, said.getvalue()


def test_the_main_classes_have_examples() -> None:
    shown = {example.name.split(".")[-2] for example in EXAMPLES}
    assert {"PlasmaClient", "Tensor", "ObjectID", "Notifications"} <= shown
    assert len(EXAMPLES) > 20


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
