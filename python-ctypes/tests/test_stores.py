"""start_store, and how library and daemon are found."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Callable, Dict, Optional

import pytest

import plasma_store
from conftest import PACKAGE, put
from plasma_store import _abi, _lib, errors

KINDS = pytest.mark.parametrize("process", [False, True], ids=["in-process", "daemon"])


@KINDS
def test_a_store_at_a_path_of_ones_own(process: bool, tmp_path: Path) -> None:
    path = str(tmp_path / "store.sock")
    with plasma_store.start_store(1 << 20, path, process=process) as store:
        assert (store.socket_path, store.capacity) == (path, 1 << 20)
        assert (store.pid != os.getpid()) == process
        with plasma_store.connect(path) as client:
            assert client.store_capacity() == 1 << 20
            put(client, b"x")
    with pytest.raises(plasma_store.PlasmaConnectError):
        plasma_store.connect(path, num_retries=0)


@KINDS
def test_a_store_ends_when_the_block_fails(process: bool) -> None:
    paths = []

    def fail() -> None:
        with plasma_store.start_store(1 << 20, process=process) as store:
            paths.append(store.socket_path)
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert not os.path.exists(paths[0])


def test_two_stores_at_one_path(tmp_path: Path) -> None:
    path = str(tmp_path / "store.sock")
    with plasma_store.start_store(1 << 20, path):
        with pytest.raises(plasma_store.PlasmaAddressInUse, match=path), plasma_store.start_store(1 << 20, path):
            pass
        with plasma_store.connect(path) as client:
            assert client.list() == {}


@pytest.mark.parametrize("capacity", [0, -1, 1 << 63])
def test_an_impossible_capacity_is_named(capacity: int) -> None:
    with pytest.raises(ValueError, match=str(capacity)), plasma_store.start_store(capacity):
        pass


def test_a_daemon_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLASMA_STORE_SERVER", "/bin/false")
    with pytest.raises(RuntimeError, match="status 1"), plasma_store.start_store(1 << 20, process=True):
        pass


def test_a_daemon_that_is_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PLASMA_STORE_SERVER")
    monkeypatch.setenv("PATH", "/nonexistent")
    expected = "PLASMA_STORE_SERVER is not set.*none on PATH"
    with pytest.raises(FileNotFoundError, match=expected), plasma_store.start_store(1 << 20, process=True):
        pass


KILLED = """
import signal, plasma_store
store = plasma_store.start_store(1 << 20)
print(store.socket_path, flush=True)
signal.pause()
"""


def test_what_a_killed_process_leaves_goes_with_the_next_store(child: Callable[..., subprocess.Popen[str]]) -> None:
    process = child(KILLED)
    assert process.stdout is not None
    path = process.stdout.readline().strip()
    with plasma_store.start_store(1 << 20), plasma_store.connect(path) as client:
        assert client.list() == {}, "it lives, and keeps its socket"
    process.kill()
    process.wait()
    assert os.path.exists(path)
    with plasma_store.start_store(1 << 20):
        assert not os.path.exists(path)


def import_with(**variables: Optional[str]) -> subprocess.CompletedProcess[str]:
    """Imports the package in a fresh interpreter."""
    environment: Dict[str, str] = {**os.environ, "PYTHONPATH": str(PACKAGE)}
    for name, value in variables.items():
        environment.pop(name, None)
        if value is not None:
            environment[name] = value
    script = "import sys, plasma_store; print('pyarrow' in sys.modules, 'numpy' in sys.modules)"
    return subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_importing_the_package_imports_neither_numpy_nor_pyarrow() -> None:
    assert import_with().stdout == "False False\n"


def test_the_library_is_found_by_the_system(tmp_path: Path) -> None:
    (tmp_path / "libplasma_store.so.1").symlink_to(os.environ["PLASMA_STORE_LIBRARY"])
    done = import_with(PLASMA_STORE_LIBRARY=None, LD_LIBRARY_PATH=str(tmp_path))
    assert done.returncode == 0, done.stderr


def test_a_library_that_is_nowhere_is_an_import_error_naming_every_place() -> None:
    done = import_with(PLASMA_STORE_LIBRARY=None, LD_LIBRARY_PATH=None)
    if done.returncode == 0:
        pytest.skip("the library is installed on this system")
    for place in ("ImportError", "$PLASMA_STORE_LIBRARY: not set", "plasma_store/libplasma_store.so.1", "find_library"):
        assert place in done.stderr


def test_a_wrong_library_is_an_import_error_naming_it() -> None:
    done = import_with(PLASMA_STORE_LIBRARY="/nonexistent/lib.so")
    assert "PLASMA_STORE_LIBRARY: /nonexistent/lib.so" in done.stderr
    assert "ImportError" in done.stderr
    done = import_with(PLASMA_STORE_LIBRARY="libc.so.6")
    assert "undefined symbol: plasma_" in done.stderr


def test_the_version_is_that_of_the_library() -> None:
    assert plasma_store.__version__ == _lib.lib.plasma_version().decode()


def test_every_status_has_an_exception() -> None:
    statuses = {value for name, value in vars(_abi).items() if name.startswith("PLASMA_") and isinstance(value, int)}
    last = max(errors.BY_STATUS)
    assert set(errors.BY_STATUS) == set(range(1, last + 1))
    assert last == max(statuses) == _abi.PLASMA_ABORTED
    assert len(set(errors.BY_STATUS.values())) == len(errors.BY_STATUS)
    with pytest.raises(plasma_store.PlasmaError):
        errors.check(last + 1)
