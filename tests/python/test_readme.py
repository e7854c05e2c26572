"""README.md tells the truth: its programs run as they stand, its links lead somewhere, its lists are complete."""

from __future__ import annotations

import os
import re
import shutil
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


def programs() -> dict[str, str]:
    """The README's programs by the names that it gives them."""
    names = {"c": ["write.c", "read.c"], "python": ["read.py", "write.py", "bundle.py", "shared.py", "ring.py"],
             "cpp": ["write.cpp", "read.cpp", "bundle.cpp"], "go": ["write.go", "read.go"]}
    return {name: text for language, named in names.items() for name, text in zip(named, blocks(language), strict=True)}


def commands() -> tuple[str, str]:
    """The commands for C and Python, and those for Go."""
    setup, commands, go = blocks("sh")
    assert "make test" in setup and commands.startswith(INSTALL)
    return commands[len(INSTALL):].replace("$PWD", str(ROOT)), go.replace("$PWD", str(ROOT))


def installed(directory: Path) -> Path:
    """A user's directory with the README's programs. The library is the one that is tested, not a release build."""
    for name, text in programs().items():
        (directory / name).write_text(text)
    built = Path(os.environ["PLASMA_STORE_LIBRARY"]).parent
    install = [ROOT / "scripts" / "install.sh", directory / "plasma", "", built]
    subprocess.run(install, check=True, stdout=subprocess.DEVNULL, timeout=LIMIT_S)
    return directory


def test_the_examples_run(tmp_path: Path) -> None:
    """From C to Python, by the commands that the README gives."""
    script, _ = commands()
    assert "sum 21\n" in run_to_its_end(script, installed(tmp_path), environment(tmp_path))


def exchange(writers: list[str], readers: list[str]) -> str:
    """Commands that have each writer's matrix read by each reader."""
    forget = """python3 -c 'import plasma_store as p; p.connect().delete([p.ObjectID.from_name("matrix")])'\n"""
    return "".join(f"{writer}\n" + "".join(f"{reader}\n" for reader in readers) + forget for writer in writers)


def all_languages(building: str, languages: list[str]) -> str:
    """A script that builds programs for these languages, `./write-LANGUAGE` and `./read-LANGUAGE`, and lets all meet."""
    script, _ = commands()
    head, tail = script.split("cc -o write")[0], "kill %1\n"
    writers, readers = ([f"./{half}-{language}" for language in languages] + [f"python3 {half}.py"]
                        for half in ("write", "read"))
    return head + building + exchange(writers, readers) + tail


def building_cpp() -> str:
    named = re.search(r"`(c\+\+ .*\))`", README)
    assert named and "-o read read.cpp" in named[1]
    return named[1]


def building_c_and_cpp() -> str:
    compilers = {"c": "cc -o read read.c $(pkg-config --cflags --libs plasma_store)", "cpp": building_cpp()}
    return "".join(command.replace("-o read read", f"-o {half}-{language} {half}") + "\n"
                   for language, command in compilers.items() for half in ("write", "read"))


def test_c_cpp_and_python_read_what_each_wrote(tmp_path: Path) -> None:
    script = all_languages(building_c_and_cpp(), ["c", "cpp"])
    output = run_to_its_end(script, installed(tmp_path), environment(tmp_path))
    assert output.count("sum 21\n") == 9, output


def test_bundles_are_put_and_got(tmp_path: Path) -> None:
    settings = [line for line in commands()[0].splitlines() if line.startswith("export ")]
    building = building_cpp().replace("-o read read", "-o bundle bundle")
    script = "\n".join([*settings, building, "./bundle", "python3 bundle.py"])
    output = run_to_its_end(script, installed(tmp_path), environment(tmp_path))
    assert output == "weight 6\nbias 2\n" * 2


def test_processes_share_arrays_and_rings(tmp_path: Path) -> None:
    settings = [line for line in commands()[0].splitlines() if line.startswith("export ")]
    script = "\n".join([*settings, "python3 shared.py", "python3 ring.py"])
    assert run_to_its_end(script, installed(tmp_path), environment(tmp_path)) == "sum 285\nsum 4950\n"


@pytest.mark.skipif(shutil.which("go") is None, reason="go is not installed")
def test_go_and_the_others_read_what_each_wrote(tmp_path: Path) -> None:
    _, go = commands()
    building = building_c_and_cpp() + go + "mv write write-go\nmv read read-go\n"
    variables = environment(tmp_path) | {"GOPROXY": "off", "GOTOOLCHAIN": "local"}
    variables["GOCACHE"] = str(Path(os.environ["PLASMA_STORE_LIBRARY"]).parents[1] / "go-build")
    output = run_to_its_end(all_languages(building, ["c", "cpp", "go"]), installed(tmp_path), variables)
    assert output.count("sum 21\n") == 16, output


@pytest.mark.parametrize(("name", "compiler"), [
    ("write.c", ["cc", "-std=c99", "-xc"]), ("read.c", ["cc", "-std=c99", "-xc"]),
    *((name, ["c++", "-std=c++17", "-xc++"]) for name in ("write.cpp", "read.cpp", "bundle.cpp")),
])
def test_the_examples_compile_without_a_warning(name: str, compiler: list[str]) -> None:
    command = [*compiler, "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", "-"]
    subprocess.run([*command, f"-I{ROOT / 'include'}"], input=programs()[name], text=True, check=True, timeout=LIMIT_S)


def test_the_examples_are_short() -> None:
    limits = {"c": 25, "cpp": 12, "py": 14, "go": 34}
    for name, text in programs().items():
        assert len(text.splitlines()) <= limits[name.split(".")[1]], name


def test_the_flags_are_those_of_the_daemon() -> None:
    told = subprocess.run([os.environ["PLASMA_STORE_SERVER"], "--help"], capture_output=True, text=True, timeout=LIMIT_S)
    real = set(re.findall(r"^ +(?:-\w, )?(--[a-z]+)", told.stdout, flags=re.MULTILINE)) - {"--help", "--version"}
    assert real == set(re.findall(r"^\| (?:`-\w`, )?`(--[a-z]+)", README, flags=re.MULTILINE)), told.stdout


@pytest.mark.parametrize("page", ["README.md", "CHANGELOG.md", "python-ctypes/README.md", "docs/architecture.md", "docs/benchmarks.md", "docs/compatibility.md",
                                  "docs/dependencies.md", "docs/formats.md", "docs/interop.md", "docs/native-path.md",
                                  "docs/shared-and-rings.md", "docs/shared-memory.md", "docs/testing.md", "docs/wire-protocol.md"])
def test_links_lead_somewhere(page: str) -> None:
    path = ROOT / page
    prose = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)#:]+)\)", prose):
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
