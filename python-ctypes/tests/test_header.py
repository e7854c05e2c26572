"""The declarations in `_abi` are those of the C headers: every function, constant and struct, and nothing else."""

from __future__ import annotations

import ctypes
import re
from typing import Any, Dict, List, Tuple

import pytest

from conftest import ROOT
from plasma_store import _abi

INTEGERS = {
    "bool": ctypes.c_bool,
    "int32_t": ctypes.c_int32,
    "int64_t": ctypes.c_int64,
    "size_t": ctypes.c_size_t,
    "uint8_t": ctypes.c_uint8,
    "int": ctypes.c_int,
    "uint16_t": ctypes.c_uint16,
    "uint32_t": ctypes.c_uint32,
    "uint64_t": ctypes.c_uint64,
    "DLDeviceType": ctypes.c_int32,
}


def code_of(name: str) -> str:
    text = (ROOT / "include" / name).read_text()
    return re.sub(r"//[^\n]*", " ", re.sub(r"/\*.*?\*/", " ", text, flags=re.DOTALL))


def ctypes_of(text: str, returned: bool = False) -> Any:
    """What a type written in C is in ctypes."""
    constant = "const" in text
    words = re.sub(r"\b(const|struct)\b", " ", text).replace("*", " * ").split()
    base, stars = words[0], words.count("*")
    if base == "void":
        return ctypes.c_void_p if stars else None
    if stars and base == "char":
        return ctypes.POINTER(ctypes.c_char_p) if stars > 1 else ctypes.c_char_p
    if stars and base == "uint8_t":
        return ctypes.c_char_p if constant and not returned else ctypes.c_void_p
    kind = INTEGERS.get(base) or getattr(_abi, base)
    for _ in range(stars):
        kind = ctypes.POINTER(kind)
    return kind


def split_declaration(text: str) -> Tuple[str, str]:
    """Type and name of "const uint8_t *metadata"; an array counts as part of the type."""
    match = re.fullmatch(r"(.*?)(\w+)((?:\[\d+\])?)", text.strip(), flags=re.DOTALL)
    assert match, text
    return match.group(1) + match.group(3), match.group(2)


def prototypes() -> Dict[str, Tuple[Any, List[Any]]]:
    found = {}
    code = re.sub(r"^\s*#.*$", "", code_of("plasma_store.h"), flags=re.MULTILINE)
    for returns, name, takes in re.findall(r"([\w\s]+?[\s*]+)((?:plasma|tensor)_\w+)\(([^)]*)\);", code):
        parameters = [] if takes.strip() == "void" else [split_declaration(text)[0] for text in takes.split(",")]
        found[name] = (ctypes_of(returns, returned=True), [ctypes_of(text) for text in parameters])
    return found


def structs(header: str) -> Dict[str, List[Tuple[str, str]]]:
    found = {}
    for body, name in re.findall(r"typedef struct(?:\s+\w+)?\s*\{([^}]*)\}\s*(\w+);", code_of(header)):
        members = [member.strip() for member in body.split(";") if member.strip()]
        found[name] = [split_declaration(member) for member in members if "(" not in member]
    return found


def test_the_parser_sees_the_whole_header() -> None:
    exported = set(re.findall(r"\b((?:plasma|tensor)_\w+)\(", code_of("plasma_store.h")))
    assert set(prototypes()) == exported
    assert len(exported) > 30


def test_every_function_is_declared() -> None:
    assert set(_abi.FUNCTIONS) == set(prototypes())


@pytest.mark.parametrize("name", sorted(_abi.FUNCTIONS))
def test_function(name: str) -> None:
    assert _abi.FUNCTIONS[name] == prototypes()[name]


def test_every_constant_has_its_value() -> None:
    defined = dict(re.findall(r"#define\s+(PLASMA_\w+)[ \t]+(\S+)", code_of("plasma_store.h")))
    ours = {name: value for name, value in vars(_abi).items() if name.startswith("PLASMA_")}
    assert {name: f'"{value}"' if isinstance(value, str) else str(value) for name, value in ours.items()} == defined


@pytest.mark.parametrize("header", ["plasma_store.h", "plasma_store_dlpack.h"])
def test_structs(header: str) -> None:
    for name, members in structs(header).items():
        declared = [(field, kind) for field, kind in getattr(_abi, name)._fields_ if field != "deleter"]
        assert [field for _, field in members] == [field for field, _ in declared], name
        for (text, field), (_, kind) in zip(members, declared):
            array = re.search(r"\[(\d+)\]", text)
            expected = ctypes_of(re.sub(r"\[\d+\]", "", text))
            assert kind == (expected * int(array.group(1)) if array else expected), f"{name}.{field}"


def test_no_struct_is_missing() -> None:
    names = {*structs("plasma_store.h"), *structs("plasma_store_dlpack.h")}
    opaque = set(re.findall(r"typedef struct ((?:plasma|tensor)_\w+) \1;", code_of("plasma_store.h")))
    ours = {
        name
        for name, value in vars(_abi).items()
        if isinstance(value, type) and issubclass(value, ctypes.Structure) and value is not ctypes.Structure
    }
    assert ours == names | opaque


def test_the_dlpack_constants() -> None:
    code = code_of("plasma_store_dlpack.h")
    for name in ("DLPACK_MAJOR_VERSION", "DLPACK_MINOR_VERSION"):
        assert re.search(rf"#define {name} {getattr(_abi, name)}\b", code)
    for name in (name for name in vars(_abi) if name.startswith("kDL")):
        assert re.search(rf"\b{name} = {getattr(_abi, name)}U?\b", code)
    flags = re.findall(r"#define (DLPACK_FLAG_\w+) \(1UL << (\d)UL\)", code)
    assert {name: 1 << int(bit) for name, bit in flags} == {
        name: value for name, value in vars(_abi).items() if name.startswith("DLPACK_FLAG_")
    }
