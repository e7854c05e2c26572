"""The package is for Python 3.9 to 3.13: run by those that are here, and its code and types looked at for all of them."""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Iterator, List, Tuple

import pytest

from conftest import PACKAGE

SUPPORTED = [(3, minor) for minor in range(9, 14)]
PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"

# What needs nothing but Python: a store of each kind, values, buffers, a tensor, references, what was forgotten.
PROGRAM = '''
import array, asyncio, multiprocessing, pickle, sys, warnings
import plasma_store

def total(tensor, client):
    with client, tensor:
        return sum(tensor.data.cast("h")), client.contains(tensor.object_id)

def ours(caught):
    return [str(warning.message) for warning in caught if "forgotten" in str(warning.message)]

def play(store, method):
    with plasma_store.connect(store.socket_path) as client:
        assert client.get(client.put({"a": [1, 2.5]})) == {"a": [1, 2.5]}
        assert bytes(memoryview(client.get_buffers([client.put_raw_buffer(b"hello")])[0])) == b"hello"
        object_id = plasma_store.ObjectID.from_random()
        with client.create_tensor(object_id, (2, 3), "int16") as tensor:
            tensor.data[:] = array.array("h", range(6)).tobytes()
        client.seal(object_id)
        assert "state='released'" in repr(tensor)
        tensor = client.get_tensor(object_id)
        assert asyncio.run(client.get_tensor_async(object_id)).shape == (2, 3)
        with multiprocessing.get_context(method).Pool(1) as pool:
            assert pool.apply(total, (tensor[1:], client)) == (12, True)
        del tensor

if __name__ == "__main__":
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        for process in (False, True):
            with plasma_store.start_store(1 << 20, process=process) as store:
                for method in ("spawn", "fork", "forkserver"):
                    play(store, method)
                assert not ours(caught), ours(caught)
        plasma_store.start_store(1 << 20)
        assert len(ours(caught)) == 1, ours(caught)
    print("ran on", sys.version.split()[0])
'''


def interpreters() -> Iterator[Tuple[Tuple[int, int], str]]:
    """Each supported Python that this machine has: on PATH, or made by pyenv."""
    for version in SUPPORTED:
        name = "python{}.{}".format(*version)
        candidates = [shutil.which(name), *glob.glob(str(PYENV / "{}.{}.*".format(*version) / "bin" / name))]
        for candidate in [sys.executable, *candidates] if version == sys.version_info[:2] else candidates:
            if candidate and subprocess.run([candidate, "-c", "import ctypes"], capture_output=True).returncode == 0:
                yield version, candidate
                break


def test_it_runs_on_every_python_that_is_here(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE), "PYTHONDEVMODE": ""}
    ran: List[str] = []
    for version, interpreter in interpreters():
        done = subprocess.run([interpreter, str(program)], env=environment, capture_output=True, text=True, timeout=100)
        assert (done.returncode, done.stderr) == (0, ""), f"{version}: {done.stdout}{done.stderr}"
        ran.append(done.stdout.strip())
    print(*ran, sep="\n")
    assert any(sys.version.split()[0] in line for line in ran) or sys.version_info[:2] not in SUPPORTED


def test_the_package_says_from_which_python_on_it_runs() -> None:
    assert 'requires-python = ">=3.9"' in (PACKAGE / "pyproject.toml").read_text("utf-8")


def test_no_code_needs_a_later_python_than_the_oldest() -> None:
    pytest.importorskip("vermin")
    vermin = [sys.executable, "-c", "import vermin; vermin.main()"]
    command = [*vermin, "-t=3.9-", "--no-tips", "--violations", str(PACKAGE / "plasma_store")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("version", ["{}.{}".format(*version) for version in SUPPORTED])
def test_the_types_are_right_in_every_python(version: str) -> None:
    pytest.importorskip("pyright")
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--pythonversion", version]
    done = subprocess.run(command, cwd=PACKAGE, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


# The oldest that mypy knows is 3.10. What packages say of themselves is for the Python that they were installed for.
@pytest.mark.parametrize("version", ["{}.{}".format(*version) for version in SUPPORTED[1:]])
def test_mypy_agrees(version: str, tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    command = [sys.executable, "-m", "mypy", "--python-version", version, "--no-site-packages", "--ignore-missing-imports"]
    done = subprocess.run([*command, "--cache-dir", str(tmp_path), "plasma_store"], cwd=PACKAGE, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
