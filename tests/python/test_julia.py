"""bindings/julia/PlasmaStore.jl cannot be run where there is no Julia; what can be compared with the C header is."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
JULIA = (ROOT / "bindings/julia/PlasmaStore.jl").read_text(encoding="utf-8")
HEADERS = "".join((ROOT / "include" / name).read_text(encoding="utf-8")
                  for name in ("plasma_store.h", "plasma_store_dlpack.h"))
CODE = re.sub(r"/\*.*?\*/", "", HEADERS, flags=re.DOTALL)

STRUCTS = {"ConnectOptions": "plasma_connect_options", "TensorDescription": "tensor_description",
           "DLTensor": "DLTensor", "DLDataType": "DLDataType", "DLDevice": "DLDevice"}
TYPES = {"size_t": "Csize_t", "int64_t": "Int64", "uint64_t": "UInt64", "int32_t": "Int32", "uint32_t": "UInt32",
         "uint16_t": "UInt16", "uint8_t": "UInt8", "DLDeviceType": "Int32", "DLDevice": "DLDevice",
         "DLDataType": "DLDataType", "void*": "Ptr{Cvoid}", "uint8_t*": "Ptr{UInt8}", "int64_t*": "Ptr{Int64}"}


def c_fields(name: str) -> list[tuple[str, str]]:
    """The fields of a struct in the headers, with Julia's word for each type."""
    found = re.search(rf"typedef struct (?:{name} )?{{([^{{}}]*)}} {name};", CODE)
    assert found, name
    fields = []
    for kind, stars, field, count in re.findall(r"(\w+) (\**)(\w+)(?:\[(\d+)\])?;", found[1]):
        kind = TYPES[kind + stars]
        fields.append((field, f"NTuple{{{count},{kind}}}" if count else kind))
    return fields


def test_structs_have_the_fields_of_the_header() -> None:
    for julia, c in STRUCTS.items():
        found = re.search(rf"^struct {julia}\n(.*?)^end", JULIA, re.DOTALL | re.MULTILINE)
        assert found, julia
        assert re.findall(r"(\w+)::(\S+)", found[1]) == c_fields(c), julia


def arguments(text: str) -> int:
    """How many there are in a list that may have braces and parentheses of its own."""
    depth, count = 0, 1
    for character in text.rstrip(", \n"):
        depth += (character in "({[") - (character in ")}]")
        count += character == "," and depth == 0
    return count if text.strip() else 0


def test_calls_have_the_arguments_of_the_header() -> None:
    calls = re.findall(r"ccall\(\(:(\w+), LIBRARY\), [\w{}]+,\s*\(([^()]*)\)", JULIA)
    assert len(calls) >= 10
    for name, given in calls:
        declared = re.search(rf"\b{name}\(([^()]*)\);", CODE)
        assert declared, name
        wanted = 0 if declared[1].strip() == "void" else arguments(declared[1])
        assert arguments(given) == wanted, name


def test_it_says_that_nobody_has_run_it() -> None:
    assert "nobody has run this file yet" in JULIA
    assert "was never run" in (ROOT / "README.md").read_text(encoding="utf-8")
