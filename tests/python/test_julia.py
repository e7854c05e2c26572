"""bindings/julia/PlasmaStore.jl cannot be run where there is no Julia; what can be compared with the C header is."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
JULIA = (ROOT / "bindings/julia/PlasmaStore.jl").read_text(encoding="utf-8")
HEADERS = "".join((ROOT / "include" / name).read_text(encoding="utf-8")
                  for name in ("plasma_store.h", "plasma_store_dlpack.h"))
CODE = re.sub(r"/\*.*?\*/", "", HEADERS, flags=re.DOTALL)

STRUCTS = {"ConnectOptions": "plasma_connect_options", "CreateOptions": "plasma_create_options",
           "WriteOptions": "tensor_write_options", "TensorDescription": "tensor_description",
           "BundleItem": "tensor_bundle_item", "BundleOptions": "tensor_bundle_options",
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


def arguments(text: str) -> list[str]:
    """A list that may have braces of its own."""
    return [argument.strip() for argument in re.split(r",(?![^{]*\})", text) if argument.strip()]


def kind(c: str) -> str:
    """Julia's word for what a function of the header takes or returns, or "pointer"."""
    named = {"plasma_status": "Int32", "void": "Cvoid", "bool": "Bool", "int": "Int32"}
    word = c.split()[0]
    return "pointer" if "*" in c else named.get(word) or TYPES[word]


def julia_kind(julia: str) -> str:
    return "pointer" if re.match(r"(Ptr|Ref)\{|Cstring$", julia) else julia


def test_calls_have_the_arguments_of_the_header() -> None:
    calls = re.findall(r"ccall\(\(:(\w+), LIBRARY\), ([\w{}]+),\s*\(([^()]*)\)", JULIA)
    assert len(calls) == JULIA.count("ccall(") >= 20
    for name, returned, given in calls:
        declared = re.search(rf"^([\w ]+[ *]){name}\(([^()]*)\);", CODE, re.MULTILINE)
        assert declared, name
        wanted = [] if declared[2].strip() == "void" else [kind(argument) for argument in arguments(declared[2])]
        assert [julia_kind(argument) for argument in arguments(given)] == wanted, name
        assert julia_kind(returned) == kind(declared[1].replace("const ", "")), name


def test_what_is_exported_is_there() -> None:
    exported = re.search(r"^export ((?:.*,\n)*.*)$", JULIA, re.MULTILINE)
    assert exported
    for name in arguments(exported[1]):
        assert re.search(rf"^(?:mutable )?(?:struct |function |){name}\b(?:\(|<|\{{|\s)", JULIA, re.MULTILINE), name


def test_it_says_that_nobody_has_run_it() -> None:
    assert "nobody has run this file yet" in JULIA
    assert "was never run" in (ROOT / "README.md").read_text(encoding="utf-8")
