"""What the machine is, and what state it was in while something was measured."""

from __future__ import annotations

import os
import platform
import resource
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Dict, List, Optional

OTHERS_BUSY, STEAL_BUSY = 0.05, 0.01
"""A run is called busy when other programs, or other guests of the host, had more of the processors than this."""


def describe() -> Dict[str, str]:
    """What a reader must know of the machine to understand its figures."""
    cpu = _field("/proc/cpuinfo", "model name")
    memory = int(_field("/proc/meminfo", "MemTotal").split()[0]) / (1 << 20)
    return {
        "processor": f"{cpu}, {os.cpu_count()} cores",
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "hypervisor": "yes" if "hypervisor" in _field("/proc/cpuinfo", "flags").split() else "no",
        "huge pages": f"{_read('/sys/kernel/mm/transparent_hugepage/enabled')}; shared memory: "
                      f"{_read('/sys/kernel/mm/transparent_hugepage/shmem_enabled')}",
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return "unknown"


def _field(path: str, name: str) -> str:
    for line in _read(path).splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "0 unknown"


@dataclass
class State:
    """Beside every result."""

    load: float
    """Programs that ran or waited to run, the mean of a minute; this one and what it measures are in it."""
    others: float
    """Part of all processors that went to programs of others while this was measured."""
    steal: float
    """Part that the host gave to other guests."""
    cache_line_ns: Optional[float]
    """Round trip of a cache line between two cores, just before. None where it could not be measured."""


class Watch:
    """The state between its making and `state()`. All processes that were measured must have been waited for by then."""

    def __init__(self, cache_line_ns: Optional[float]) -> None:
        self._cache_line_ns = cache_line_ns
        self._ticks, self._own = _ticks(), _own_seconds()

    def state(self) -> State:
        before, now = self._ticks, _ticks()
        total = max(1, sum(now.values()) - sum(before.values()))
        used = {name: (now[name] - before[name]) / total for name in now}
        own = (_own_seconds() - self._own) * os.sysconf("SC_CLK_TCK") / total
        others = max(0.0, 1 - used["idle"] - used["iowait"] - used["steal"] - own)
        return State(os.getloadavg()[0], others, used["steal"], self._cache_line_ns)


def _ticks() -> Dict[str, int]:
    names = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
    return dict(zip(names, map(int, _read("/proc/stat").split("\n", 1)[0].split()[1:])))


def _own_seconds() -> float:
    spent = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        spent += usage.ru_utime + usage.ru_stime
    return spent


def summary(states: List[State]) -> Dict[str, Any]:
    """The state over a whole run, and whether its figures can be used."""
    others, steal = median(state.others for state in states), median(state.steal for state in states)
    lines = [state.cache_line_ns for state in states if state.cache_line_ns is not None]
    return {
        "busy": others > OTHERS_BUSY or steal > STEAL_BUSY,
        "others": others,
        "steal": steal,
        "worst": asdict(max(states, key=lambda state: state.others + state.steal)),
        "load": [min(state.load for state in states), max(state.load for state in states)],
        "cache_line_ns": [min(lines), median(lines), max(lines)] if lines else None,
    }
