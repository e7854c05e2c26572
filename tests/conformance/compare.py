"""Finds the first difference between what the old store and ours answered, and knows which ones are meant.

Each kind that is meant is told in docs/compatibility.md.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional

Entry = Dict[str, Any]

# The old store counts as pinned what was aborted, lost or deleted while in use; ours counts what is held.
UNRELIABLE_FIGURE = "pinned bytes: "


@dataclass
class Comparison:
    """What came of one script."""

    difference: Optional[str] = None
    """The first one that is not meant, and at which step."""
    meant: Counter[str] = field(default_factory=Counter)
    """Differences that are, by kind."""


def compare(steps: List[Any], old: List[Entry], ours: List[Entry]) -> Comparison:
    """Compares step by step, up to the first difference that is not meant."""
    result = Comparison()
    for place, (step, theirs, mine) in enumerate(zip(steps, old, ours)):
        forgive(theirs, mine, result.meant)
        if theirs != mine:
            result.difference = f"step {place} {step}:\n{describe(theirs, mine)}"
            return result
    if len(old) != len(ours):
        result.difference = f"the old store took {len(old)} steps, ours {len(ours)}"
    return result


def forgive(old: Entry, ours: Entry, meant: Counter[str]) -> None:
    """Takes out of both what differs on purpose, and counts it."""
    for theirs, mine in ((old, ours), (old.get("before", {}), ours.get("before", {}))):
        # A reply that is a list of lines is that of a step that asked for the figures itself.
        for key in ("figures", "reply"):
            if isinstance(theirs.get(key), list) and isinstance(mine.get(key), list):
                pinned_by_old, pinned_by_ours = take_pinned(theirs, key), take_pinned(mine, key)
                meant["pinned bytes"] += pinned_by_old != pinned_by_ours
                meant["quota of nothing"] += forgive_no_number(theirs[key], mine[key])
    if old.get("why evict") == ours.get("why evict") == "a create failed":
        meant["evicted in vain"] += old.pop("before") != ours.pop("before")


def forgive_no_number(old: List[Any], ours: List[Any]) -> int:
    """Of a quota of 0 bytes, the old store says that -nan% is used; ours says 100%."""
    if len(old) != len(ours):
        return 0
    places = [place for place, line in enumerate(old) if isinstance(line, str) and line.endswith(" used: -nan%")]
    for place in places:
        old[place] = ours[place]
    return len(places)


def take_pinned(entry: Entry, key: str) -> List[Any]:
    lines = entry[key]
    pinned = [line for line in lines if isinstance(line, str) and line.startswith(UNRELIABLE_FIGURE)]
    entry[key] = [line for line in lines if line not in pinned]
    return pinned


def describe(old: Any, ours: Any, path: str = "") -> str:
    """Where two replies differ, and only that."""
    if isinstance(old, dict) and isinstance(ours, dict):
        lines = [describe(old.get(key), ours.get(key), f"{path}.{key}") for key in sorted({*old, *ours})
                 if old.get(key) != ours.get(key)]
        return "\n".join(lines)
    if isinstance(old, list) and isinstance(ours, list) and len(old) == len(ours):
        lines = [describe(theirs, mine, f"{path}[{place}]") for place, (theirs, mine) in enumerate(zip(old, ours))
                 if theirs != mine]
        return "\n".join(lines)
    return f"  {path.lstrip('.')}: old {old!r}, ours {ours!r}"
