"""The element types that a store holds: their names, DLPack's numbers, and what numpy calls them."""

from __future__ import annotations

from typing import Any, Dict, NamedTuple

from . import _abi
from .errors import PlasmaUnsupported


class DType(NamedTuple):
    """An element type of DLPack."""

    name: str
    """As numpy and ml_dtypes write it."""
    code: int
    bits: int
    lanes: int
    typestr: str
    """As `__array_interface__` writes it; "" for one that numpy itself does not have."""

    @property
    def packed(self) -> bool:
        """Whether elements share bytes with their neighbours. Such tensors are row-major without gaps."""
        return self.bits * self.lanes < 8

    @property
    def itemsize(self) -> int:
        """Bytes of an element; 0 for those that share bytes."""
        return self.bits * self.lanes // 8

    @property
    def element(self) -> int:
        """Code, bits and lanes as they lie in memory."""
        return self.code | self.bits << 8 | self.lanes << 16

    def nbytes(self, elements: int) -> int:
        """Bytes that so many of them take."""
        return (elements * self.bits * self.lanes + 7) // 8

    def numpy(self) -> Any:
        """The `numpy.dtype`; types that numpy does not have come from the package ml_dtypes."""
        import numpy

        if self.typestr:
            return numpy.dtype(self.typestr)
        try:
            import ml_dtypes

            return numpy.dtype(getattr(ml_dtypes, self.name))
        except (ImportError, AttributeError) as error:
            hint = f"numpy has no {self.name}, and ml_dtypes, if it is installed, neither; bits() gives the elements as integers"
            raise PlasmaUnsupported(hint) from error


def _native(kind: str, letter: str, code: int, *sizes: int) -> Dict[str, DType]:
    """Types that numpy has, by their names."""
    return {
        f"{kind}{bits}": DType(f"{kind}{bits}", code, bits, 1, f"{'|' if bits == 8 else '<'}{letter}{bits // 8}")
        for bits in sizes
    }


def _others(**given: Any) -> Dict[str, DType]:
    """Types that numpy does not have: their code and bits."""
    return {name: DType(name, code, bits, 1, "") for name, (code, bits) in given.items()}


# Name -> type: all that the store holds.
DTYPES: Dict[str, DType] = {
    **_native("int", "i", _abi.kDLInt, 8, 16, 32, 64),
    **_native("uint", "u", _abi.kDLUInt, 8, 16, 32, 64),
    **_native("float", "f", _abi.kDLFloat, 16, 32, 64),
    **_native("complex", "c", _abi.kDLComplex, 64, 128),
    "bool": DType("bool", _abi.kDLBool, 8, 1, "|b1"),
    **_others(
        complex32=(_abi.kDLComplex, 32),
        bcomplex32=(_abi.kDLBcomplex, 32),
        bfloat16=(_abi.kDLBfloat, 16),
        float8_e3m4=(_abi.kDLFloat8_e3m4, 8),
        float8_e4m3=(_abi.kDLFloat8_e4m3, 8),
        float8_e4m3b11fnuz=(_abi.kDLFloat8_e4m3b11fnuz, 8),
        float8_e4m3fn=(_abi.kDLFloat8_e4m3fn, 8),
        float8_e4m3fnuz=(_abi.kDLFloat8_e4m3fnuz, 8),
        float8_e5m2=(_abi.kDLFloat8_e5m2, 8),
        float8_e5m2fnuz=(_abi.kDLFloat8_e5m2fnuz, 8),
        float8_e8m0fnu=(_abi.kDLFloat8_e8m0fnu, 8),
        float6_e2m3fn=(_abi.kDLFloat6_e2m3fn, 6),
        float6_e3m2fn=(_abi.kDLFloat6_e3m2fn, 6),
        float4_e2m1fn=(_abi.kDLFloat4_e2m1fn, 4),
        int1=(_abi.kDLInt, 1),
        int2=(_abi.kDLInt, 2),
        int4=(_abi.kDLInt, 4),
        uint1=(_abi.kDLUInt, 1),
        uint2=(_abi.kDLUInt, 2),
        uint4=(_abi.kDLUInt, 4),
    ),
    # torch's: two in a byte.
    "float4_e2m1fn_x2": DType("float4_e2m1fn_x2", _abi.kDLFloat4_e2m1fn, 4, 2, ""),
}
BY_ELEMENT: Dict[int, DType] = {dtype.element: dtype for dtype in DTYPES.values()}
BY_TYPESTR: Dict[str, DType] = {dtype.typestr: dtype for dtype in DTYPES.values() if dtype.typestr}


# What numpy takes Python's own types for, and what it called one of its own before version 2.
_OF_NUMPY = {"int": "int64", "float": "float64", "complex": "complex128", "bool_": "bool"}


def dtype_of(dtype: Any) -> DType:
    """The element type that may be given as text, also as numpy's "f4", or as a type of Python, numpy, torch or the like.

    Raises PlasmaUnsupported, a TypeError, naming what can be stored.
    """
    text = dtype if isinstance(dtype, str) else getattr(dtype, "name", None) or getattr(dtype, "__name__", str(dtype))
    name = str(text).rpartition(".")[2]
    found = DTYPES.get(_OF_NUMPY.get(name, name)) or BY_TYPESTR.get(name)
    found = found or BY_TYPESTR.get(f"<{name}") or BY_TYPESTR.get(f"|{name}")
    if found is None:
        raise PlasmaUnsupported(f"dtype {dtype!r} cannot be stored; these can: {', '.join(DTYPES)}")
    return found


def dtype_of_interface(typestr: str, name: Any) -> DType:
    """The element type that `__array_interface__` writes as "<f4", and that numpy calls by a name.

    Of types that numpy does not have, only the name says what they are.
    """
    order = typestr[:1]
    found = DTYPES.get(name) if isinstance(name, str) and order != ">" else None
    found = found or BY_TYPESTR.get(typestr) or BY_TYPESTR.get("|" + typestr[1:])
    if found is None:
        names = ", ".join(DTYPES)
        raise PlasmaUnsupported(f"dtype {typestr!r} cannot be stored; these can, little-endian: {names}")
    return found


def element_of(dtype: _abi.DLDataType) -> DType:
    """The element type that DLPack calls so."""
    element = dtype.code | dtype.bits << 8 | dtype.lanes << 16
    if element not in BY_ELEMENT:
        what = f"DLPack type {dtype.code} with {dtype.bits} bits in {dtype.lanes} lanes"
        raise PlasmaUnsupported(f"elements of {what} have no name here")
    return BY_ELEMENT[element]
