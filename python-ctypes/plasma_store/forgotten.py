"""forgotten: ResourceWarning for what somebody has to end, and did not: clients, their streams and buffers, stores.

Python shows these warnings with `-X dev` or `-W default`, and pytest always. Tensors and buffers that were got are no such
thing: to be collected is their end.
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any, Callable, Iterable

from .object_id import ObjectID

SHOWN = 3


# Bound as defaults because globals may be gone when the interpreter ends.
def forgotten(
    what: object,
    process: int,
    remedy: str,
    warn: Any = warnings.warn,
    this: Any = os.getpid,
    ending: Any = sys.is_finalizing,
) -> None:
    """Warns that something of a process was collected before it was ended; in a forked child it does nothing."""
    if this() == process:
        try:
            warn(f"forgotten: {what!r}; {remedy}", ResourceWarning, stacklevel=3, source=what)
        except Exception:
            # At the end of the interpreter what this needs may be gone already.
            if not ending():
                raise


def unsealed(client: object, ids: Iterable[ObjectID]) -> None:
    """Warns of objects that a client created, and neither sealed nor aborted before its end."""
    names = sorted(object_id.hex() for object_id in ids)
    if names:
        some = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
        what = f"{len(names)} objects that {client!r} created and neither sealed nor aborted"
        text = f"forgotten: {what}, so nobody gets them: {some}"
        warnings.warn(text, ResourceWarning, stacklevel=4)


class Ending:
    """Ends something once: when it is told to, or, with a warning, when it is collected."""

    def __init__(self, end: Callable[[], None], what: str, remedy: str) -> None:
        self._end, self._what, self._remedy, self._process = end, what, remedy, os.getpid()
        self.is_over: bool = False

    def now(self) -> None:
        """Ends it. A forked child leaves its parent's alone."""
        if not self.is_over:
            self.is_over = True
            if os.getpid() == self._process:
                self._end()

    def __repr__(self) -> str:
        return self._what

    def __del__(self, forgotten: Any = forgotten) -> None:
        # Not so when Ctrl-C came before `__init__` was done.
        if not getattr(self, "is_over", True):
            forgotten(self, self._process, self._remedy)
            self.now()
