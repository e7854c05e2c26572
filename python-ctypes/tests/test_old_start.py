"""Old ways to start and to connect: start_plasma_store, the command plasma_store, connect with a manager's socket."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest

import plasma_store
from conftest import PACKAGE, put
from plasma_store import Store

SERVER = os.environ["PLASMA_STORE_SERVER"]
# Writes down how it was called, then becomes the daemon, which needs to know only where and how large.
RECORDER = f"""#!/bin/sh
printf '%s\\n' "$@" > "$RECORD"
exec {SERVER} "$1" "$2" "$3" "$4"
"""
# The same for valgrind: its own options end where the program begins.
VALGRIND = """#!/bin/sh
printf '%s\\n' "$@" > "$RECORD"
while case "$1" in --*) true;; *) false;; esac; do shift; done
exec "$@"
"""


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Callable[[], List[str]]]:
    """Puts a program first on PATH that records its arguments; calling what it returns reads them."""

    def install(name: str, script: str) -> Callable[[], List[str]]:
        program, record = tmp_path / name, tmp_path / "record"
        program.write_text(script)
        program.chmod(0o755)
        monkeypatch.setenv("RECORD", str(record))
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        return lambda: record.read_text().splitlines()

    return install


def test_a_store_for_a_block() -> None:
    with plasma_store.start_plasma_store(1_000_000) as (path, process):
        assert isinstance(process, subprocess.Popen)
        assert process.poll() is None
        assert os.stat(os.path.dirname(path)).st_mode & 0o777 == 0o700
        with plasma_store.connect(path, num_retries=0) as client:
            assert client.store_capacity() == 1_000_000
            assert client.get(client.put("x")) == "x"
    assert process.returncode == 0
    assert not os.path.exists(os.path.dirname(path))


def test_a_small_limit_holds_the_one_object() -> None:
    with plasma_store.start_plasma_store(plasma_store_memory=10_000) as (path, _), plasma_store.connect(path) as client:
        put(client, bytes(9_500))


def test_killing_it_inside_the_block_is_fine() -> None:
    with plasma_store.start_plasma_store(1 << 20) as (path, process):
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL
    assert not os.path.exists(os.path.dirname(path))


def test_an_error_in_the_block_ends_it_too() -> None:
    started: List[Any] = []

    def fail() -> None:
        with plasma_store.start_plasma_store(1 << 20) as both:
            started.append(both)
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    [(path, process)] = started
    assert process.returncode == 0
    assert not os.path.exists(path)


def test_memory_in_a_directory(tmp_path: Path) -> None:
    with plasma_store.start_plasma_store(1 << 20, plasma_directory=str(tmp_path)) as (path, _):
        client = plasma_store.connect(path)
        assert client.get(client.put("x")) == "x"
        client.disconnect()


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    nowhere = str(tmp_path / "nowhere")
    with pytest.raises(RuntimeError, match="status"), plasma_store.start_plasma_store(1 << 20, plasma_directory=nowhere):
        pass


def test_every_option_reaches_the_daemon(recorded: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    arguments = recorded("server", RECORDER)
    monkeypatch.setenv("PLASMA_STORE_SERVER", str(tmp_path / "server"))
    with plasma_store.start_plasma_store(1 << 20, False, False, "/dev/shm", True, "hashtable://x") as (path, _):
        pass
    assert arguments() == ["-s", path, "-m", str(1 << 20), "-d", "/dev/shm", "-h", "-e", "hashtable://x"]
    with plasma_store.start_plasma_store(1 << 20) as (path, _):
        pass
    assert arguments() == ["-s", path, "-m", str(1 << 20)]


@pytest.mark.parametrize(("option", "first"), [("use_valgrind", "--track-origins=yes"), ("use_profiler", "--tool=callgrind")])
def test_valgrind(recorded: Any, option: str, first: str) -> None:
    arguments = recorded("valgrind", VALGRIND)
    options: Dict[str, Any] = {option: True}
    with plasma_store.start_plasma_store(1 << 20, **options) as (path, _), plasma_store.connect(path):
        pass
    assert arguments()[0] == first
    assert arguments()[-5:] == [SERVER, "-s", path, "-m", str(1 << 20)]


def test_both_at_once_are_refused() -> None:
    with pytest.raises(ValueError, match="exclude each other"), plasma_store.start_plasma_store(1 << 20, True, True):
        pass


def test_a_daemon_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLASMA_STORE_SERVER", "/bin/false")
    with pytest.raises(RuntimeError, match="status 1"), plasma_store.start_plasma_store(1 << 20):
        pass


# What the installed script `plasma_store` does.
SCRIPT = ["-c", "import sys; from plasma_store.daemon import main; sys.argv[0] = 'plasma_store'; sys.exit(main())"]
MODULE = ["-m", "plasma_store"]


def command(*arguments: str, how: List[str] = SCRIPT, **variables: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE), **variables}
    return subprocess.Popen(
        [sys.executable, *how, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("how", [SCRIPT, MODULE], ids=["script", "module"])
def test_the_command_becomes_the_daemon(tmp_path: Path, how: List[str]) -> None:
    path = str(tmp_path / "store.sock")
    process = command("-m", "1000000", "-s", path, how=how)
    try:
        with plasma_store.connect(path) as client:
            assert client.store_capacity() == 1_000_000
        # The daemon shows only root which program it is, and everybody the first fifteen letters of its name.
        assert Path(f"/proc/{process.pid}/comm").read_text().strip() == Path(SERVER).name[:15]
    finally:
        process.terminate()
        process.communicate()
    assert process.returncode == 0


def test_the_command_hands_the_status_on() -> None:
    process = command("--version")
    assert plasma_store.__version__ in process.communicate()[0]
    assert process.returncode == 0
    assert command("--nonsense").wait() != 0


def test_the_command_without_a_daemon_says_so() -> None:
    process = command("-m", "1000", PLASMA_STORE_SERVER="/nonexistent/server")
    assert "plasma_store: [Errno 2]" in process.communicate()[1]
    assert process.returncode == 1


def test_the_package_declares_the_command() -> None:
    assert 'plasma_store = "plasma_store.daemon:main"' in (PACKAGE / "pyproject.toml").read_text()


FORMS: List[Callable[[str], Any]] = [
    lambda path: plasma_store.connect(path, "", 0),
    lambda path: plasma_store.connect(path, "", 0, 3),
    lambda path: plasma_store.connect(path, "", 64, num_retries=3),
    lambda path: plasma_store.connect(path, None, 0),
    lambda path: plasma_store.connect(path, ""),
    lambda path: plasma_store.connect(path, manager_socket_name="", release_delay=0),
    lambda path: plasma_store.connect(path, num_retries=0),
    lambda path: plasma_store.connect(path, 0),
    lambda path: plasma_store.connect(store_socket_name=path, num_retries=2),
]


@pytest.mark.parametrize("form", FORMS)
def test_every_way_to_connect(store: Store, form: Callable[[str], Any]) -> None:
    with form(store.socket_path) as client:
        assert client.list() == {}


@pytest.mark.parametrize("old", [False, True])
def test_the_retries_arrive_in_every_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: bool) -> None:
    seen: List[int] = []
    monkeypatch.setattr("plasma_store.client.PlasmaClient.__init__", lambda _self, _path, retries, **_: seen.append(retries))
    path = str(tmp_path / "none")
    if old:
        plasma_store.connect(path, "", 0, 7)
        plasma_store.connect(path, "", 0, num_retries=8)
        plasma_store.connect(path, "", 0)
        assert seen == [7, 8, -1]
    else:
        plasma_store.connect(path, 7)
        plasma_store.connect(path, num_retries=8)
        plasma_store.connect(path)
        assert seen == [7, 8, -1]


def test_what_no_form_has_is_refused(tmp_path: Path) -> None:
    path, connect = str(tmp_path / "none"), plasma_store.connect
    unchecked: Any = connect
    with pytest.raises(ValueError, match="manager_socket_name is '/tmp/manager'"):
        connect(path, "/tmp/manager", 0)
    with pytest.raises(TypeError, match="at most 3"):
        unchecked(path, "", 0, 1, 2)
    with pytest.raises(TypeError, match="at most 1"):
        unchecked(path, 0, 1)
