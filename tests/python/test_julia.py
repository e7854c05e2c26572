"""bindings/julia/PlasmaStore.jl cannot be run where there is no Julia; what can be compared with the C header is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
JULIA = (ROOT / "bindings/julia/PlasmaStore.jl").read_text(encoding="utf-8")
HEADERS = "".join((ROOT / "include" / name).read_text(encoding="utf-8")
                  for name in ("plasma_store.h", "plasma_store_dlpack.h"))
CODE = re.sub(r"/\*.*?\*/", "", HEADERS, flags=re.DOTALL)

STRUCTS = {"ConnectOptions": "plasma_connect_options", "CreateOptions": "plasma_create_options",
           "WriteOptions": "tensor_write_options", "TensorDescription": "tensor_description",
           "BundleItem": "tensor_bundle_item", "BundleOptions": "tensor_bundle_options",
           "SharedOptions": "tensor_shared_options", "RingOptions": "tensor_ring_options",
           "RingInfo": "tensor_ring_info", "RingSlot": "tensor_ring_slot", "ObjectID": "plasma_object_id",
           "DLTensor": "DLTensor", "DLDataType": "DLDataType", "DLDevice": "DLDevice"}
TYPES = {"size_t": "Csize_t", "int64_t": "Int64", "uint64_t": "UInt64", "int32_t": "Int32", "uint32_t": "UInt32",
         "uint16_t": "UInt16", "uint8_t": "UInt8", "DLDeviceType": "Int32", "DLDevice": "DLDevice",
         "DLDataType": "DLDataType", "void*": "Ptr{Cvoid}", "uint8_t*": "Ptr{UInt8}", "int64_t*": "Ptr{Int64}",
         "char*": "Ptr{UInt8}", "char**": "Ptr{Ptr{UInt8}}", "DLTensor*": "Ptr{DLTensor}"}


def c_fields(name: str) -> list[tuple[str, str]]:
    """The fields of a struct in the headers, with Julia's word for each type."""
    found = re.search(rf"typedef struct (?:{name} )?{{([^{{}}]*)}} {name};", CODE)
    assert found, name
    fields = []
    for kind, stars, field, count in re.findall(r"(\w+) (\**)(\w+)(?:\[(\d+)\])?;", found[1].replace("const ", "")):
        kind = TYPES[kind + stars]
        fields.append((field, f"NTuple{{{count},{kind}}}" if count else kind))
    return fields


def test_structs_have_the_fields_of_the_header() -> None:
    for julia, c in STRUCTS.items():
        found = re.search(rf"^struct {julia}\n(.*?)^end", JULIA, re.DOTALL | re.MULTILINE)
        assert found, julia
        assert re.findall(r"(\w+)::(\S+)", found[1]) == c_fields(c), julia


def test_numbers_are_those_of_the_header() -> None:
    numbers = re.findall(r"^const ((?:PLASMA|TENSOR)_\w+) = (\S+)$", JULIA, re.MULTILINE)
    assert len(numbers) >= 9
    for name, number in numbers:
        assert re.search(rf"^#define {name} {number}$", CODE, re.MULTILINE), name
        assert JULIA.count(name) > 1, name


def arguments(text: str) -> list[str]:
    """A list that may have braces of its own."""
    return [argument.strip() for argument in re.split(r",(?![^{]*\})", text) if argument.strip()]


NAMES = {"plasma_status": "Int32", "void": "Cvoid", "bool": "Bool", "int": "Int32", "char": "UInt8",
         **{c: julia for julia, c in STRUCTS.items()}}


def kind(c: str) -> str:
    """Julia's word for what a function of the header takes or returns; a handle is behind a Ptr{Cvoid}."""
    word = re.sub(r"\b(const|struct)\b", "", c).split()[0].rstrip("*")
    name = NAMES.get(word) or TYPES.get(word) or "Cvoid"
    for _ in range(c.count("*")):
        name = f"Ptr{{{name}}}"
    assert name != "Cvoid" or word == "void", c
    return name


def is_a(julia: str, wanted: str) -> bool:
    """Whether a call gives what is wanted. A Ref is a pointer, and nothing may stand for any pointer."""
    if julia == "Cstring":
        return wanted == "Ptr{UInt8}"
    given = julia.replace("Ref{", "Ptr{")
    return given == wanted or (given == "Ptr{Cvoid}" and wanted.startswith("Ptr{"))


def test_calls_have_the_arguments_of_the_header() -> None:
    calls = re.findall(r"ccall\(\(:(\w+), LIBRARY\), ([\w{}]+),\s*\(([^()]*)\)", JULIA)
    assert len(calls) == JULIA.count("ccall(") >= 20
    for name, returned, given in calls:
        declared = re.search(rf"^([\w ]+[ *]){name}\(([^()]*)\);", CODE, re.MULTILINE)
        assert declared, name
        wanted = [] if declared[2].strip() == "void" else [kind(argument) for argument in arguments(declared[2])]
        assert len(arguments(given)) == len(wanted), name
        for julia, c in zip(arguments(given), wanted):
            assert is_a(julia, c), f"{name}: {julia} for {c}"
        assert returned == kind(declared[1]), name


def test_calls_give_as_many_values_as_they_say() -> None:
    calls = re.finditer(r"ccall\(\(:(\w+), LIBRARY\), [\w{}]+,\s*\(([^()]*)\)", JULIA)
    for call in calls:
        depth, end = 1, call.end()
        while depth:
            depth += {"(": 1, ")": -1}.get(JULIA[end], 0)
            end += 1
        values = re.sub(r"\([^()]*\)", "", re.sub(r"\([^()]*\)", "", JULIA[call.end():end - 1]))
        assert len([value for value in values.split(",") if value.strip()]) == len(arguments(call[2])), call[1]


@pytest.mark.parametrize("name", ["tensor_shared", "tensor_ring"])
def test_what_is_shared_is_there_whole(name: str) -> None:
    """All of it but DLPack's structs, which Julia has no reader for, and the id, which its caller gave."""
    functions = set(re.findall(rf"\b({name}_\w+)\(", CODE))
    missing = {function for function in functions if f"(:{function}, LIBRARY)" not in JULIA}
    assert missing <= {f"{name}_export", f"{name}_export_versioned", f"{name}_id", f"{name}_describe"}


def test_every_block_ends() -> None:
    """Words that begin a block and those that end one, outside of comments, texts and indices."""
    code = re.sub(r'"""[\s\S]*?"""', "", JULIA)
    code = re.sub(r"#[^\n]*", "", re.sub(r'"(?:\\.|[^"\\])*"', "", code))
    code = re.sub(r"\[[^\[\]]*\]", "", code)
    opened = re.findall(r"\b(module|struct|function|if|for|while|try|begin|do)\b", code)
    generators = re.findall(r"\S+ for .* in ", code)
    assert len(opened) - len(generators) == len(re.findall(r"\bend\b", code))


def test_what_is_exported_is_there() -> None:
    exported = re.search(r"^export ((?:.*,\n)*.*)$", JULIA, re.MULTILINE)
    assert exported
    for name in arguments(exported[1]):
        assert re.search(rf"^(?:mutable )?(?:struct |function |){name}\b(?:\(|<|\{{|\s)", JULIA, re.MULTILINE), name


def test_it_says_that_nobody_has_run_it() -> None:
    assert "nobody has run this file yet" in JULIA
    assert "was never run" in (ROOT / "README.md").read_text(encoding="utf-8")
