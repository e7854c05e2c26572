"""The loaded library. The only file with CDLL, argtypes and restype; what it declares is data in `_abi`.

Calls release the GIL. The functions of CPython that this package needs for DLPack capsules, bytes and signals are here too, as
function objects of their own: those of `ctypes.pythonapi` are shared with every other package in the process.
"""

from __future__ import annotations

import ctypes
from typing import Any, List

from . import _abi, _find


def _load() -> ctypes.CDLL:
    attempts: List[str] = []
    for candidate in _find.library_candidates():
        try:
            return _declare(ctypes.CDLL(candidate))
        except (OSError, AttributeError) as error:
            attempts.append(f"{candidate}: {error}")
    raise ImportError(_find.not_found(attempts))


def _declare(library: ctypes.CDLL) -> ctypes.CDLL:
    """Gives every function its signature. An AttributeError names one that the library lacks."""
    for name, (returns, takes) in _abi.FUNCTIONS.items():
        function = getattr(library, name)
        function.restype = returns
        function.argtypes = takes
    version = library.plasma_abi_version()
    if version < _abi.PLASMA_ABI_VERSION:
        raise OSError(f"its ABI version is {version}, and this package needs {_abi.PLASMA_ABI_VERSION}")
    return library


lib: ctypes.CDLL = _load()


def bare(name: str) -> Any:
    """A function of the library without its signature, for calls that are made often: looking over what it is given is most of
    a call. Whoever calls it gives `bytes`, pointers, and numbers as objects of ctypes, and nothing else: a plain number would be
    passed as a C int, and whatever is wrong is not noticed.
    """
    function = lib[name]
    function.restype = _abi.FUNCTIONS[name][0]
    return function


def _python_function(name: str, returns: Any, *takes: Any) -> Any:
    """A function of CPython, called with the GIL held; an exception that it sets is raised."""
    return ctypes.PYFUNCTYPE(returns, *takes)((name, ctypes.pythonapi))


capsule_new = _python_function("PyCapsule_New", ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
capsule_is_valid = _python_function("PyCapsule_IsValid", ctypes.c_int, ctypes.py_object, ctypes.c_char_p)
capsule_pointer = _python_function("PyCapsule_GetPointer", ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)


class PyBuffer(ctypes.Structure):
    """Py_buffer of CPython, as it has been since 3.0."""

    _fields_ = [
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_void_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    ]


# Also what is column-major, but nothing with gaps.
PyBUF_ANY_CONTIGUOUS = 0x98
buffer_get = _python_function("PyObject_GetBuffer", ctypes.c_int, ctypes.py_object, ctypes.POINTER(PyBuffer), ctypes.c_int)
buffer_release = _python_function("PyBuffer_Release", None, ctypes.POINTER(PyBuffer))
run_signal_handlers = _python_function("PyErr_CheckSignals", ctypes.c_int)
