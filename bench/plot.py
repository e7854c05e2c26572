"""A run as a picture: a panel for each column of the tables that says most, a dot for each peer, a line up to its p99."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Dict, List, Tuple

import matplotlib
import plan

matplotlib.use("svg")
from matplotlib import pyplot  # noqa: E402  (the backend must be chosen before)

PANELS: List[Tuple[str, str, str]] = [
    ("W1", "64 B", "put"), ("W1", "1 MiB", "put"), ("W2", "64 B", "get"), ("W3", "64 B", "handoff"),
    ("W4", "1000 objects", "get and release"), ("W5", "1 client", "cycles"), ("W6", "64 MiB", "sum"), ("W7", "1 M", "tensor"),
    ("EVICT", "64 others connected", "evict"), ("OLD", "64 B", "get"),
]
TITLES = {"W1": "put", "W2": "get, first byte, release", "W3": "handoff to a sleeper", "W4": "get and release", 
          "W5": "whole lives", "W6": "fresh process, sum of", "W7": "tensor to numpy, elements:",
          "EVICT": "evict one,", "OLD": "get by old clients"}
OURS, OTHERS, FLOOR = "#c0392b", "#34495e", "#7f8c8d"
COLUMNS = 2


def draw(run: Dict[str, Any], path: Path) -> None:
    """Writes the picture."""
    panels = [panel for panel in PANELS if _rows(run, panel) or _failed(run, panel)]
    height = max(1, math.ceil(len(panels) / COLUMNS))
    # Text stays text, and nothing depends on the day or on chance, so that two pictures of one run are the same file.
    with pyplot.rc_context({"svg.fonttype": "none", "svg.hashsalt": "plasma_store", "font.size": 8}):
        figure, axes = pyplot.subplots(height, COLUMNS, figsize=(11, 2.9 * height), squeeze=False, constrained_layout=True)
        for axis, panel in zip(axes.flat, panels):
            _panel(axis, run, panel)
        for axis in axes.flat[len(panels):]:
            axis.axis("off")
        figure.suptitle(_title(run))
        figure.savefig(path, metadata={"Date": None})
        pyplot.close(figure)


def _title(run: Dict[str, Any]) -> str:
    busy = run["machine"] is None or run["machine"]["busy"]
    state = "THE MACHINE WAS BUSY: not to be quoted" if busy else "quiet machine"
    return f"{run['about']['date']}, {run['about']['processor']}; {run['about']['size']} run, {state}"


def _rows(run: Dict[str, Any], panel: Tuple[str, str, str]) -> List[Dict[str, Any]]:
    return [row for row in run["results"] if (row["work"], row["case"], row["metric"]) == panel]


def _failed(run: Dict[str, Any], panel: Tuple[str, str, str]) -> List[str]:
    return [failure["peer"] for failure in run["failures"] if (failure["work"], failure["case"]) == panel[:2]]


def _panel(axis: Any, run: Dict[str, Any], panel: Tuple[str, str, str]) -> None:
    work, case, _ = panel
    rows = _rows(run, panel)
    measured = [row["peer"] for row in rows]
    labels = [plan.PEERS[peer].label.replace("*", "").replace("`", "") for peer in measured]
    labels += [f"{plan.PEERS[peer].label} (failed)" for peer in _failed(run, panel) if peer not in measured]
    axis.set_yticks(range(len(labels)), labels)
    axis.set_ylim(len(labels) - 0.5, -0.5)
    rate = bool(rows) and rows[0]["unit"] == "/s"
    for position, row in enumerate(rows):
        colour = OURS if row["peer"].startswith("ours") else FLOOR if row["peer"].startswith("floor") else OTHERS
        scale = 1 if rate else 1e3
        axis.plot([row["p50"] / scale, row["p99"] / scale], [position] * 2, color=colour, linewidth=1)
        axis.plot(row["p50"] / scale, position, "o", color=colour, markersize=4)
    for mark in plan.MARKS:
        if mark.cell[:2] + mark.cell[3:] == panel and mark.ns:
            axis.axvline(mark.ns / 1e3, color=OURS, linestyle=":", linewidth=1)
    if rows:
        axis.set_xscale("log")
    axis.set_xlabel("per second (more is better)" if rate else "µs: dot p50, line to p99, dotted: our mark (less is better)")
    axis.set_title(f"{work}: {TITLES[work]} {case}")
    axis.grid(axis="x", alpha=0.3)
