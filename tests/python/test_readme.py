"""README.md tells the truth: its programs run as they stand, its links lead somewhere, its lists are complete."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
INSTALL = 'make install PREFIX="$HOME/plasma"\n'
LIMIT_S = 120


def blocks(language: str) -> list[str]:
    """The README's code blocks in this language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)


def environment(home: Path) -> dict[str, str]:
    """A user's environment, whose home and default socket are fresh and who has set nothing for us."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PLASMA_", "PYTHONPATH"))}
    return {**kept, "HOME": str(home), "XDG_RUNTIME_DIR": str(home)}


def run_to_its_end(script: str, directory: Path, variables: dict[str, str]) -> str:
    """Runs a shell script; whatever it leaves running is ended with it."""
    # What is left after a failure would keep the output open, and the reason for it from being told.
    script = "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n" + script
    shell = subprocess.Popen(["bash", "-euc", script], cwd=directory, env=variables, text=True, start_new_session=True,
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        output, _ = shell.communicate(timeout=LIMIT_S)
    finally:
        try:
            os.killpg(shell.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # nothing was left
    assert shell.returncode == 0, output
    return output


def test_the_examples_run(tmp_path: Path) -> None:
    """From C to Python, by the commands that the README gives. The library is the one that is tested, not a release build."""
    (write,), (read,), (setup, *_, commands) = blocks("c"), blocks("python"), blocks("sh")
    assert "make test" in setup
    assert commands.startswith(INSTALL)
    (tmp_path / "write.c").write_text(write)
    (tmp_path / "read.py").write_text(read)
    built = Path(os.environ["PLASMA_STORE_LIBRARY"]).parent
    install = [ROOT / "scripts" / "install.sh", tmp_path / "plasma", "", built]
    subprocess.run(install, check=True, stdout=subprocess.DEVNULL, timeout=LIMIT_S)
    script = commands[len(INSTALL):].replace("$PWD", str(ROOT))
    assert "[5. 7. 9.]\n[[0.5 1.  1.5]\n [2.  2.5 3. ]]\n" in run_to_its_end(script, tmp_path, environment(tmp_path))


def test_the_c_example_compiles_without_a_warning(tmp_path: Path) -> None:
    (write,) = blocks("c")
    command = ["cc", "-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", "-xc", "-"]
    subprocess.run([*command, f"-I{ROOT / 'include'}"], input=write, text=True, check=True, timeout=LIMIT_S)


def test_the_examples_are_short() -> None:
    (write,), (read,) = blocks("c"), blocks("python")
    assert len(write.splitlines()) <= 25
    assert len(read.splitlines()) <= 12


def test_the_flags_are_those_of_the_daemon() -> None:
    told = subprocess.run([os.environ["PLASMA_STORE_SERVER"], "--help"], capture_output=True, text=True, timeout=LIMIT_S)
    real = set(re.findall(r"^ +(?:-\w, )?(--[a-z]+)", told.stdout, flags=re.MULTILINE)) - {"--help", "--version"}
    assert real == set(re.findall(r"^\| (?:`-\w`, )?`(--[a-z]+)", README, flags=re.MULTILINE)), told.stdout


@pytest.mark.parametrize("page", ["README.md", "CHANGELOG.md", "python-ctypes/README.md", "docs/architecture.md", "docs/benchmarks.md", "docs/compatibility.md",
                                  "docs/dependencies.md", "docs/formats.md", "docs/native-path.md", "docs/testing.md",
                                  "docs/wire-protocol.md"])
def test_links_lead_somewhere(page: str) -> None:
    path = ROOT / page
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), f"{page} links to {target}"


def test_every_variable_is_explained() -> None:
    """A variable that the library, the daemon or the package reads, but nobody knows of, surprises."""
    sources = [*(ROOT / "src").rglob("*.rs"), *(ROOT / "python-ctypes" / "plasma_store").glob("*.py")]
    read = {name for source in sources for name in re.findall(r'"(PLASMA_STORE_[A-Z]+)"', source.read_text("utf-8"))}
    assert read
    assert read == set(re.findall(r"^\| `(PLASMA_STORE_[A-Z]+)` \|", README, flags=re.MULTILINE))


def test_the_compiler_is_the_one_that_cargo_asks_for() -> None:
    manifest = (ROOT / "Cargo.toml").read_text("utf-8")
    asked = re.search(r'^rust-version = "([\d.]+)"', manifest, re.MULTILINE)
    assert asked and f"Rust {asked[1]} or newer" in README


def dependencies() -> set[str]:
    """Every crate and PyPI package that the project names as its own need."""
    manifest = "".join((ROOT / path).read_text("utf-8") for path in ("Cargo.toml", "bench/iceoryx2/Cargo.toml"))
    heading = r"^\[(?:target\.'.*'\.)?(?:dev-|build-)?dependencies\]\n"
    sections = re.findall(heading + r"(.*?)(?=^\[|\Z)", manifest, re.DOTALL | re.MULTILINE)
    crates = {name for section in sections for name in re.findall(r"^([\w-]+) =", section, re.MULTILINE)}
    lists = [ROOT / directory / "requirements.txt" for directory in ("demo", "tests", "bench")]
    packages = {name for path in lists for name in re.findall(r"^([\w-]+)", path.read_text("utf-8"), re.MULTILINE)}
    assert len(crates) > 10 and len(packages) > 4
    return crates | packages


def test_every_dependency_is_explained() -> None:
    page = (ROOT / "docs" / "dependencies.md").read_text("utf-8")
    explained = set(re.findall(r"^\| \*\*([\w-]+)\*\*", page, re.MULTILINE))
    assert not dependencies() - explained
