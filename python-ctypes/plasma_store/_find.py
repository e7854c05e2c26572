"""Where the shared library and the daemon are: a variable, then beside this package, then the system."""

from __future__ import annotations

import ctypes.util
import os
import shutil
from pathlib import Path
from typing import List

LIBRARY_VARIABLE = "PLASMA_STORE_LIBRARY"
SERVER_VARIABLE = "PLASMA_STORE_SERVER"
LIBRARY = "libplasma_store.so.1"
SERVER = "plasma-store-server"

_BESIDE = Path(__file__).resolve().parent


def library_candidates() -> List[str]:
    """What to try to load, in this order. A path in the variable is the only candidate: who sets it means it."""
    chosen = os.environ.get(LIBRARY_VARIABLE)
    if chosen:
        return [chosen]
    bundled = _BESIDE / LIBRARY
    candidates = [str(bundled)] if bundled.exists() else []
    # The bare name is looked up by the dynamic linker, which knows LD_LIBRARY_PATH; find_library also asks the compiler.
    candidates.append(LIBRARY)
    found = ctypes.util.find_library("plasma_store")
    return candidates + ([found] if found and found not in candidates else [])


def not_found(attempts: List[str]) -> str:
    """What to say when no candidate could be loaded; `attempts` says of each why."""
    chosen = os.environ.get(LIBRARY_VARIABLE)
    lines = [f"cannot load {LIBRARY}; looked at:"]
    lines.append(f"  ${LIBRARY_VARIABLE}: {chosen or 'not set'}")
    if not chosen:
        lines.append(f"  beside the package: {_BESIDE / LIBRARY}")
        lines.append(f"  the system: {LIBRARY}, and ctypes.util.find_library('plasma_store')")
    return "\n".join(lines + [f"  -> {attempt}" for attempt in attempts])


def server() -> str:
    """The path of the daemon.

    Raises FileNotFoundError naming every place looked at.
    """
    chosen = os.environ.get(SERVER_VARIABLE)
    if chosen:
        return chosen
    bundled = _BESIDE / SERVER
    found = str(bundled) if bundled.exists() else shutil.which(SERVER)
    if found is None:
        places = f"${SERVER_VARIABLE} is not set, there is no {bundled}, and none on PATH"
        raise FileNotFoundError(f"cannot find {SERVER}: {places}")
    return found
