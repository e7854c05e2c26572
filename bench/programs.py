"""Builds what the benchmark runs. What cannot be built is remembered with its reason, and is no error."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Dict, List, Set, Union

from plan import AWAKE_US
from processes import interrupts

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parent
NATIVE = BENCH / "native"
LIMIT_S = 900


class Unavailable(Exception):
    """Why a program is not there."""


@dataclass
class Paths:
    """What was built or installed before."""

    library: Path
    server: Path
    build: Path
    """Where programs are built: a directory of the run, as two runs at one time must not replace each other's."""
    python: Path = Path(sys.executable)
    python_plasma11: Path = ROOT / "build" / "venv-pyarrow11" / "bin" / "python"

    def pyarrow11(self) -> Path:
        """The directory of the package pyarrow 11, which has headers, libraries and the old daemon in it."""
        if not self.python_plasma11.exists():
            raise Unavailable("there is no build/venv-pyarrow11: pyarrow 11 needs a Python from 3.9 to 3.11")
        script = "import os, pyarrow; print(os.path.dirname(pyarrow.__file__))"
        return Path(_output([str(self.python_plasma11), "-c", script]).strip())


@dataclass
class Programs:
    """The command of every program and daemon, or why there is none."""

    commands: Dict[str, Union[List[str], Unavailable]] = field(default_factory=dict)
    variables: Dict[str, str] = field(default_factory=dict)

    def add(self, name: str, build: Callable[[], List[str]]) -> None:
        interrupts.check()
        print(f"building {name}", flush=True)
        try:
            self.commands[name] = build()
        except Unavailable as reason:
            print(f"  not there: {reason}", flush=True)
            self.commands[name] = reason

    def command(self, name: str) -> List[str]:
        """Raises Unavailable."""
        found = self.commands[name]
        if isinstance(found, Unavailable):
            raise found
        return found


def build_all(paths: Paths, wanted: Set[str]) -> Programs:
    """Builds the programs of this list. Daemons and Python programs only have to be there."""
    programs = Programs()
    python = str(paths.python)

    def library() -> List[str]:
        # As in the demo: the program finds the library beside itself, under the name that it was linked with.
        link = paths.build / "libplasma_store.so.1"
        link.unlink(missing_ok=True)
        link.symlink_to(_existing(paths.library))
        return ["-I", str(ROOT / "include"), str(link), "-Wl,-rpath,$ORIGIN"]

    def plasma11() -> List[str]:
        package = paths.pyarrow11()
        libraries = [str(package / "libplasma.so.1100"), str(package / "libarrow.so.1100"), f"-Wl,-rpath,{package}"]
        # The wheel's libraries have the old ABI of libstdc++.
        old = ["-D_GLIBCXX_USE_CXX11_ABI=0", "-Wno-cpp", "-isystem", str(package / "include")]
        return compile_cpp(paths.build / "plasma11", "plasma11.cpp", [*old, *libraries])

    def plasma11_python() -> List[str]:
        paths.pyarrow11()
        # pyarrow 11 warns at every call that Plasma will go.
        return [str(paths.python_plasma11), "-W", "ignore", str(BENCH / "python" / "plasma11.py")]

    def floor_python() -> List[str]:
        compile_cpp(paths.build / "libfloor.so", "floor_library.cpp", ["-shared", "-fPIC"])
        return [python, str(BENCH / "python" / "floor.py")]

    builds: Dict[str, Callable[[], List[str]]] = {
        "limits": lambda: compile_cpp(paths.build / "limits", "limits.cpp", []),
        "floor": lambda: compile_cpp(paths.build / "floor", "floor.cpp", ["-pthread"]),
        "floor-python": floor_python,
        "ours-c": lambda: compile_c(paths.build / "ours-c", "ours.c", library()),
        "ours-cpp": lambda: compile_cpp(paths.build / "ours-cpp", "ours.cpp", library()),
        "ours-python": lambda: [python, str(BENCH / "python" / "ours.py")],
        "plasma11-cpp": plasma11,
        "plasma11-python": plasma11_python,
        "shared-memory": lambda: [python, str(BENCH / "python" / "shared_memory.py")],
        "raw-array": lambda: [python, str(BENCH / "python" / "raw_array.py")],
        "np-load": lambda: [python, str(BENCH / "python" / "np_load.py")],
        "iceoryx2": iceoryx2,
        "daemon ours": lambda: [str(_existing(paths.server))],
        "daemon ours-awake": lambda: [str(_existing(paths.server)), "--spin-us", str(AWAKE_US)],
        "daemon plasma11": lambda: [str(_existing(paths.pyarrow11() / "plasma-store-server"))],
    }
    paths.build.mkdir(parents=True, exist_ok=True)
    for name in builds:
        if name in wanted:
            programs.add(name, builds[name])
    programs.variables = {
        "PYTHONPATH": str(ROOT / "python-ctypes"),
        "PLASMA_STORE_LIBRARY": str(paths.library),
        "BENCH_FLOOR_LIBRARY": str(paths.build / "libfloor.so"),
    }
    return programs


def compile_c(output: Path, source: str, options: List[str]) -> List[str]:
    return _compile([os.environ.get("CC", "cc"), "-std=c11", "-D_GNU_SOURCE"], output, source, options)


def compile_cpp(output: Path, source: str, options: List[str]) -> List[str]:
    return _compile([os.environ.get("CXX", "c++"), "-std=c++17"], output, source, options)


def _compile(compiler: List[str], output: Path, source: str, options: List[str]) -> List[str]:
    _output([*compiler, "-O3", "-Wall", "-Wextra", "-o", str(output), str(NATIVE / source), *options])
    return [str(output)]


def iceoryx2() -> List[str]:
    """A cargo project of its own: the library has nothing to do with iceoryx2."""
    if shutil.which("cargo") is None:
        raise Unavailable("there is no cargo")
    target = ROOT / "build" / "bench" / "iceoryx2"
    manifest = BENCH / "iceoryx2" / "Cargo.toml"
    _output(["cargo", "build", "--quiet", "--release", "--locked", f"--manifest-path={manifest}", f"--target-dir={target}"])
    return [str(target / "release" / "bench-iceoryx2")]


def _existing(program: Path) -> Path:
    if not program.exists():
        raise Unavailable(f"there is no {program}")
    return program


def _output(command: List[str]) -> str:
    """What the command prints; what it says when it fails is the reason."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, stdin=subprocess.DEVNULL, cwd=ROOT)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(str(error)) from None
    if done.returncode:
        said = done.stderr.splitlines() or ["no reason given"]
        errors = [line for line in said if "error" in line] or said
        raise Unavailable(f"{Path(command[0]).name}: {errors[0].strip()}")
    return done.stdout


def versions(paths: Paths) -> Dict[str, str]:
    """Of what was measured and of what compiled it."""
    def first_line(*command: str) -> str:
        try:
            return _output(list(command)).splitlines()[0]
        except (Unavailable, IndexError) as reason:
            return f"unknown: {reason}"

    return {
        "plasma_store": first_line("git", "describe", "--always", "--dirty"),
        "built": paths.library.parent.name,
        "C++ compiler": first_line(os.environ.get("CXX", "c++"), "--version"),
        "rustc": first_line("rustc", "--version"),
        "numpy": first_line(str(paths.python), "-c", "import numpy; print(numpy.__version__)"),
        "Plasma": first_line(str(paths.python_plasma11), "-c", "import pyarrow; print(pyarrow.__version__)"),
        "numpy beside Plasma": first_line(str(paths.python_plasma11), "-c", "import numpy; print(numpy.__version__)"),
    }
