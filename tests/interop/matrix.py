"""The interop matrix: every framework writes every element type in every layout, every framework reads all of it.

Each tensor is an object of its own, and once more the only one of a bundle.

Each framework runs in a process of its own (peer.py), all at one store. What comes of it is a page of tables, docs/interop.md, which
is made here and never by hand: `python tests/interop/matrix.py docs/interop.md` with all frameworks, as `make test-frameworks` does.
`cells` of a page is what a test compares.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Iterator

import numpy
import plasma_store
from plasma_store.dtypes import DTYPES, DType

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
HANGS_S = 900  # nothing here waits for anything, so what takes so long never ends
# More than 2 GiB, so that the last row begins behind what 31 bits can count.
LARGE = (2049, 1 << 20)
LARGE_FREE = 6 << 30  # what must be free of the machine's memory for it
LAYOUTS = {
    "0-d": (),
    "empty": (0, 3),
    "row-major": (3, 4),
    "column-major": (3, 4),
    "strided": (3, 4),
    "8 dimensions": (2, 1, 2, 1, 2, 1, 2, 2),
}
# Where data of a safetensors file may begin.
ALIGNMENTS = (64, 8, 4, 1)
VERSIONS = """
import importlib, sys
for name in sys.argv[1:]:
    try: print(name, importlib.import_module(name).__version__)
    except ImportError: pass
"""


@dataclasses.dataclass
class Framework:
    """A column of the tables, the Python that has it, and what it is called there."""

    name: str
    python: Path
    package: str
    forms: tuple[str, ...] = ("tensor", "bundle")
    """What it can be asked for: tensors by themselves, tensors of bundles."""

    def version(self) -> str:
        """What is installed, or "" where it is not."""
        if not self.python.exists() or not all(map(shutil.which, self.tools())):
            return ""
        command = [str(self.python), "-c", VERSIONS, *filter(None, [self.package])]
        found = subprocess.run(command, capture_output=True, text=True).stdout.split()
        return found[1] if found else "" if self.package else "this tree"

    def tools(self) -> list[str]:
        """What its program is built with."""
        tools = {"C": [compiler("CC", "cc")], "C++": [compiler("CXX", "c++")], "Go": ["go", pkg_config()]}
        return tools.get(self.name, [])


def compiler(variable: str, usual: str) -> str:
    return os.environ.get(variable) or usual


def pkg_config() -> str:
    return os.environ.get("PKG_CONFIG") or ("pkg-config" if shutil.which("pkg-config") else "pkgconf")


def frameworks() -> list[Framework]:
    """All that are known."""
    build = Path(os.environ.get("PLASMA_TEST_PYTHON", sys.executable)).parents[2]
    here, old = Path(sys.executable), Path(os.environ.get("PLASMA_TEST_PYARROW11", build / "venv-pyarrow11/bin/python"))
    torch = Path(os.environ.get("PLASMA_TEST_TORCH", build / "venv-torch/bin/python"))
    return [
        Framework("numpy 1", old, "numpy"),
        Framework("numpy", here, "numpy"),
        Framework("torch", torch, "torch"),
        Framework("JAX", here, "jax"),
        Framework("pyarrow 11", old, "pyarrow", ("tensor",)),
        Framework("pyarrow", here, "pyarrow"),
        Framework("C", here, ""),
        Framework("C++", here, ""),
        Framework("Go", here, ""),
        Framework("Python", here, ""),
        Framework("safetensors", here, "safetensors", ("bundle",)),
    ]


def values_of(dtype: DType, shape: tuple[int, ...]) -> Any:
    """Elements as opaque bytes, all different as far as they can be, none of them what frameworks change, such as a NaN."""
    count, size = int(numpy.prod(shape)), dtype.itemsize or 1
    element, byte = numpy.arange(count)[:, None], numpy.arange(size)
    data = ((element * 7 + byte * 3 + 1) % 113).astype("u1")
    if dtype.packed or dtype.name == "bool":
        data %= 2 if dtype.name == "bool" else 1 << dtype.bits
    return numpy.frombuffer(data.tobytes() or b"", f"V{size}").reshape(shape)


def laid_out(values: Any, layout: str) -> tuple[bytes, list[int]]:
    """The memory in which the values lie so, and their strides in elements."""
    size = values.dtype.itemsize
    if layout == "strided":
        wide = numpy.zeros([2 * length for length in values.shape], values.dtype)
        wide[tuple(slice(None, None, 2) for _ in values.shape)] = values
        return wide.tobytes(), [2 * stride // size for stride in wide.strides]
    order = "F" if layout == "column-major" else "C"
    array = numpy.array(values, order=order)
    return array.tobytes("A"), [stride // size for stride in array.strides]


def packed(dtype: DType, values: Any) -> bytes:
    """The bytes that lie in a store when the values are row-major."""
    if not dtype.packed:
        return bytes(values.tobytes())
    whole = sum(value << dtype.bits * place for place, value in enumerate(values.tobytes()))
    return whole.to_bytes(dtype.nbytes(values.size), "little")


def cases(framework: Framework) -> Iterator[dict[str, Any]]:
    """All that a writer is asked for."""
    for form, dtype, layout in itertools.product(framework.forms, DTYPES.values(), LAYOUTS):
        yield case_of(framework.name, form, dtype, layout)
    if framework.name == "safetensors":
        for alignment in ALIGNMENTS:
            yield case_of(framework.name, "bundle", DTYPES["float64"], "row-major", alignment)


def case_of(writer: str, form: str, dtype: DType, layout: str, alignment: int = 0) -> dict[str, Any]:
    """One tensor. In a bundle its data begin at a multiple of the alignment, and of nothing larger; 0 leaves that to the writer."""
    values = values_of(dtype, LAYOUTS[layout])
    memory, strides = laid_out(values, layout)
    name = f"{form}/{writer}/{dtype.name}/{layout}/{alignment}"
    return {
        "id": hashlib.sha256(b"interop\0" + name.encode()).hexdigest()[:40],
        "writer": writer,
        "form": form,
        "alignment": alignment,
        "dtype": dtype.name,
        "element": [dtype.code, dtype.bits, dtype.lanes],
        "numpy": dtype.typestr,
        "padded": dtype.packed,
        "layout": layout,
        "shape": list(LAYOUTS[layout]),
        "strides": strides,
        "memory": memory.hex(),
        "packed": packed(dtype, values).hex(),
        "elements": values.tobytes().hex(),
    }


class Programs:
    """What is not Python, built when it is first wanted and linked with the library under test."""

    def __init__(self, directory: str) -> None:
        self.directory = Path(directory)
        self.library = Path(os.environ.get("PLASMA_STORE_LIBRARY", ROOT / "target/debug/libplasma_store.so")).resolve()
        for name in ("libplasma_store.so", "libplasma_store.so.1"):
            (self.directory / name).symlink_to(self.library)

    def of(self, framework: str) -> Path:
        """The program of a framework; a path where nothing is for one that has none."""
        program = self.directory / framework
        build = {"C": self.c, "C++": self.cpp, "Go": self.go}.get(framework)
        if build and not program.exists():
            build(program)
        return program

    def c(self, program: Path) -> None:
        self.compile(compiler("CC", "cc"), "-std=c99", "exchange.c", program)

    def cpp(self, program: Path) -> None:
        self.compile(compiler("CXX", "c++"), "-std=c++17", "exchange.cpp", program)

    def compile(self, tool: str, standard: str, source: str, program: Path) -> None:
        flags = [standard, "-Wall", "-Wextra", "-Werror", "-I", str(ROOT / "include"), "-Wl,-rpath,$ORIGIN"]
        library = str(self.directory / "libplasma_store.so.1")
        subprocess.run([tool, *flags, "-o", str(program), str(HERE / source), library], check=True)

    def go(self, program: Path) -> None:
        text = f"Name: plasma_store\nDescription: of a test\nVersion: 0\nCflags: -I{ROOT}/include\n"
        (self.directory / "plasma_store.pc").write_text(f"{text}Libs: -L{self.directory} -lplasma_store\n")
        settings = {"PKG_CONFIG": pkg_config(), "PKG_CONFIG_PATH": str(self.directory), "CGO_ENABLED": "1", "GOPROXY": "off",
                    "GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local", "GOCACHE": str(ROOT / "target/go-build"),
                    "CGO_LDFLAGS": f"-Wl,-rpath,{self.directory}"}
        subprocess.run(["go", "build", "-o", str(program), "."], check=True, cwd=HERE / "go", env={**os.environ, **settings})


@dataclasses.dataclass
class Exchange:
    """What came of it: for each case that was written, how each framework read it."""

    versions: dict[str, str]
    forms: dict[str, tuple[str, ...]]
    written: list[dict[str, Any]]
    refused: list[tuple[dict[str, Any], str]]
    read: dict[tuple[str, str], str]
    """(reader, case's id) -> "=" read where it lies, "copy", "bits" as numbers of another type, or "!" and the reason."""
    large: list[str]
    """Who read right what is larger than 2 GiB; nobody where there is no memory for it."""

    def names(self, form: str) -> list[str]:
        """Those who know tensors, or bundles."""
        return [name for name in self.versions if form in self.forms[name]]

    def cases(self, form: str, alignment: int = 0) -> list[dict[str, Any]]:
        """What was written so."""
        return [case for case in self.written if (case["form"], case["alignment"]) == (form, alignment)]


def run_peer(framework: Framework, step: str, socket: str, program: Path, given: list[dict[str, Any]]) -> list[Any]:
    command = [str(framework.python), str(HERE / "peer.py"), framework.name, step, socket, str(program)]
    variables = {**os.environ, "JAX_ENABLE_X64": "1", "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, env=variables, timeout=HANGS_S)
    if done.returncode:
        raise RuntimeError(f"{framework.name} could not {step}: {done.stderr[-2000:]}")
    results: list[Any] = json.loads(done.stdout)
    return results


def judged(reader: str, case: dict[str, Any], result: Any) -> str:
    """A result in a word. Raises AssertionError for one that is wrong: nothing may be read as what it is not."""
    if isinstance(result, str):
        return result
    where = f"{case['writer']} wrote {case['dtype']} {case['layout']}, and it was read as {result}"
    dtype = DTYPES[case["dtype"]]
    if result["dtype"] == case["dtype"]:
        assert (list(result["shape"]), result["elements"]) == (case["shape"], case["elements"]), where
        return "=" if result["same"] else "copy"
    # A carrier: it has the bytes, under another name. Only who reads the message alone may see one, and Arrow has no bools.
    assert reader.startswith("pyarrow") and (case["form"] == "tensor" or dtype.name == "bool"), where
    assert (not dtype.typestr or dtype.name[:4] in ("bool", "comp")), where
    assert result["elements"] == (case["packed"] if dtype.packed else case["elements"]), where
    return "bits"


def exchanged(chosen: list[Framework]) -> Exchange:
    """Has all of them write and read."""
    versions = {framework.name: framework.version() for framework in chosen}
    result = Exchange(versions, {framework.name: framework.forms for framework in chosen}, [], [], {}, [])
    with tempfile.TemporaryDirectory() as directory, plasma_store.start_store(64 << 20) as store:
        programs = Programs(directory)
        for framework in chosen:
            given = list(cases(framework))
            answers = run_peer(framework, "write", store.socket_path, programs.of(framework.name), given)
            result.written += [case for case, answer in zip(given, answers) if not answer]
            result.refused += [(case, answer) for case, answer in zip(given, answers) if answer]
        for framework in chosen:
            given = [case for case in result.written if case["form"] in framework.forms]
            answers = run_peer(framework, "read", store.socket_path, programs.of(framework.name), given)
            for case, answer in zip(given, answers):
                result.read[framework.name, case["id"]] = judged(framework.name, case, answer)
        if free_memory() >= LARGE_FREE:
            result.large = large_readers([name for name in result.versions if name in LARGE_READERS], programs)
    return result


def free_memory() -> int:
    """What the kernel thinks can be had."""
    found = re.search(r"^MemAvailable: *(\d+) kB$", Path("/proc/meminfo").read_text(encoding="ascii"), flags=re.MULTILINE)
    return int(found[1]) << 10 if found else 0


LARGE_READERS = ["C", "C++", "Go", "Python"]


def large_readers(chosen: list[str], programs: Programs) -> list[str]:
    """Stores a tensor of more than 2 GiB, of which only some elements are not 0, and has them looked at."""
    rows, columns = LARGE
    places = [(row, column) for row in (0, 1, rows // 2, rows - 2, rows - 1) for column in (0, 1, columns - 1)]
    array = numpy.zeros(LARGE, "u1")  # pages of zeros take no memory before they are written
    for value, place in enumerate(places, 1):
        array[place] = value
    with plasma_store.start_store(array.nbytes + (64 << 20)) as store, plasma_store.connect(store.socket_path) as client:
        large = plasma_store.ObjectID.from_name("large", "interop")
        client.put_tensor(array, large)
        for name in chosen:
            if name == "Python":
                data = client.get_tensor(large, 0).data
                found = [data[row * columns + column] for row, column in places]
            else:
                found = looked_at(programs.of(name), store.socket_path, large.hex(), places)
            assert found == list(range(1, len(places) + 1)), f"{name} read {found}"
    return chosen


def looked_at(program: Path, socket: str, object_id: str, places: list[tuple[int, int]]) -> list[int]:
    """What a program finds at places of a tensor."""
    asked = " ".join(f"{row} {column}" for row, column in places)
    done = subprocess.run([str(program), socket], input=f"P {object_id} {asked}\n", capture_output=True, text=True,
                          timeout=HANGS_S, check=True)
    return [int(word) for word in done.stdout.split()]


def summed_up(words: list[str]) -> str:
    """What a cell says of several cases."""
    kinds = {"no" if word.startswith("!") else word for word in words}
    order = ("=", "copy", "bits", "no")
    return " ".join(kind for kind in order if kind in kinds) or "–"


def column(result: Exchange, framework: str, form: str, key: str, value: str) -> tuple[str, str]:
    """Whether a framework writes what has this dtype or layout, and how it reads it."""
    written = result.cases(form)
    writes = any(case["writer"] == framework and case[key] == value for case in written)
    chosen = [case for case in written if case[key] == value]
    if key == "layout":
        # A framework is asked for its layouts in types that it has.
        has = {case["dtype"] for case in written if result.read[framework, case["id"]] in ("=", "copy")}
        chosen = [case for case in chosen if case["dtype"] in has]
    return "yes" if writes else "–", summed_up([result.read[framework, case["id"]] for case in chosen])


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def by(result: Exchange, form: str, key: str, values: list[str]) -> str:
    names = result.names(form)
    rows = [[value, *(" / ".join(column(result, name, form, key, value)) for name in names)] for value in values]
    return table([key if form == "tensor" else f"{key} in a bundle", *names], rows)


def pairs(result: Exchange, form: str) -> str:
    names = result.names(form)

    def cell(writer: str, reader: str) -> str:
        words = [result.read[reader, case["id"]] for case in result.cases(form) if case["writer"] == writer]
        return f"{sum(word in ('=', 'copy') for word in words)} of {len(words)}"

    return table([f"{'' if form == 'tensor' else 'a bundle '}written by, read by", *names], [[writer, *(cell(writer, reader) for reader in names)] for writer in names])


def aligned(result: Exchange) -> str:
    """Who reads a file of safetensors where it lies, by where its data begin."""
    names = result.names("bundle")

    def cell(reader: str, alignment: int) -> str:
        return summed_up([result.read[reader, case["id"]] for case in result.cases("bundle", alignment)])

    rows = [[str(alignment), *(cell(name, alignment) for name in names)] for alignment in ALIGNMENTS]
    return table(["data begin at a multiple of", *names], rows)


def refusals(result: Exchange) -> str:
    """What C, which has all types, and safetensors say of what cannot be in a bundle."""
    names = ["C", "safetensors"]
    said: dict[str, dict[str, str]] = {}
    for case, answer in result.refused:
        if case["form"] == "bundle" and case["writer"] in names and case["layout"] == "row-major":
            text = re.sub(r"^!\w+: |\. Supported.*", "", answer).replace("|", "\\|")
            said.setdefault(case["dtype"], {}).setdefault(case["writer"], text)
    for dtype, answers in said.items():
        assert '"x"' in answers.get("C", '"x"') and dtype in answers.get("C", dtype), answers
    return table(["not in a bundle", *names], [[dtype, *(texts.get(name, "–") for name in names)] for dtype, texts in said.items()])


def of_large(result: Exchange) -> str:
    return table(["more than 2 GiB", *result.large], [["written by numpy", *("yes" for _ in result.large)]])


def page(result: Exchange) -> str:
    """docs/interop.md."""
    return f"""# Who reads what of whom

Made by `make test-frameworks` (`tests/interop/matrix.py`), not by hand: each framework in a process of its own writes tensors of every
element type in every layout, and every one reads what all of them wrote. Every value was compared. `make test` plays it again with the
frameworks that are installed and compares what comes of it with this page.

{table(["framework", "version"], [[name, version] for name, version in result.versions.items()])}

"numpy" is with ml_dtypes, "numpy 1" without. "pyarrow 11" uses its own Plasma client, "pyarrow" reads and writes the bytes of objects with
`pyarrow.ipc`. "C" is `tensor_write_versioned` and `tensor_read_versioned`, "C++" and "Go" are their wrappers, "Python" the package
without any framework. JAX has types of 64 bits switched on.

Cells say whether it writes / how it reads: `=` where it lies in the store, `copy` after copying, `bits` as numbers of the carrier
([formats.md](formats.md#element-types-that-arrow-does-not-have)), `no` it refuses, `–` it has no such thing. Several words: it depends on the
layout or on the writer.

## Element types

{by(result, "tensor", "dtype", list(DTYPES))}

## Layouts

In the element types that the framework has.

{by(result, "tensor", "layout", list(LAYOUTS))}

## Each with each

How many tensors of those that one wrote the other read as what they were.

{pairs(result, "tensor")}

## Bundles

The same once more, each tensor as the only one of a bundle ([formats.md](formats.md#bundles)). "safetensors" is that package: the bytes that it writes
are put as they are, and it is given the bytes of an object, which it copies. "C" is `tensor_bundle_write` and
`tensor_bundle_get_versioned`, "pyarrow" `tensor.arrow()`; the others are `put_tensors` and `get_tensors` of their faces. Whatever the layout was, the tensor lies
row-major. pyarrow 11's Plasma client has no calls for bundles.

{by(result, "bundle", "dtype", list(DTYPES))}

In the element types that the framework has:

{by(result, "bundle", "layout", list(LAYOUTS))}

How many tensors of those that one wrote the other read as what they were:

{pairs(result, "bundle")}

Our writer has data begin at a multiple of 64, the package safetensors at a multiple of 8. How a file with a tensor of `float64` is read whose data begin
at a multiple of so much, and of nothing larger. Where DLPack gives a copy, `tensor.numpy()` has the elements where they lie. What
C++ and Go have there at 4 and 1 is bytes; their elements by type are refused.

{aligned(result)}

What is refused, and by which words (`–`: it is written). One element of less than a byte is refused too, as the format has whole bytes only:

{refusals(result)}

## More than 2 GiB

A `uint8` tensor of {LARGE[0]} x {LARGE[1]}, of which elements at the ends and in the middle were looked at. Played where {LARGE_FREE >> 30} GiB are free.

{of_large(result)}

## Not asked for

- Elements of less than a byte: numpy (ml_dtypes) and JAX keep each in a byte of its own, so they are put together when they are written, and
  reading takes a copy. JAX reads none of them by DLPack; `jax.numpy.asarray(tensor.numpy())` does.
- Bundles larger than 2 GiB; the package safetensors takes contiguous arrays, and has `float6` in files, but takes none.
- Rows that do not begin on a multiple of 64 bytes: JAX copies them.
- Read-only memory: "Who may write a tensor" in the README.
"""


def versions(text: str) -> dict[str, str]:
    """What a page was made with."""
    found = dict(re.findall(r"^\| ([\w+ ]+) \| (this tree|[\w.+]+) \|$", text, flags=re.MULTILINE))
    found.pop("framework", None)
    return found


def cells(text: str) -> dict[tuple[str, str, str], str]:
    """(table, row, column) -> cell, of all tables of a page but that of the versions."""
    found = {}
    for block in re.findall(r"(?:^\|.*\n?)+", text, flags=re.MULTILINE):
        head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.strip().split("\n")]
        if head[0] != "framework":
            found.update({(head[0], row[0], name): cell for row in rows for name, cell in zip(head[1:], row[1:])})
    return found


def main() -> None:
    chosen = frameworks()
    missing = [framework.name for framework in chosen if not framework.version()]
    if missing:
        raise SystemExit(f"not installed: {', '.join(missing)}")
    result = exchanged(chosen)
    if not result.large:
        raise SystemExit(f"{LARGE_FREE >> 30} GiB of memory must be free")
    Path(sys.argv[1]).write_text(page(result), encoding="utf-8")


if __name__ == "__main__":
    main()
