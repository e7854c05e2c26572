"""A run as text: tables in Markdown, for the terminal and for docs/benchmarks.md."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple

import plan

BEGIN, END = "<!-- results: filled in by make bench -->", "<!-- end of results -->"
_UNITS = [(1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1, "ns")]


def figure(value: float, unit: str) -> str:
    """A duration of nanoseconds in the unit that fits it, or a rate; three digits."""
    if unit == "/s":
        return f"{value:,.0f}/s"
    factor, name = next(((factor, name) for factor, name in _UNITS if value >= factor), (1, "ns"))
    return f"{_digits(value / factor)} {name}"


def _digits(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def markdown(run: Dict[str, Any]) -> str:
    """The whole report."""
    parts = [_state(run), _about(run), _marks(run)]
    parts += [table for work in plan.WORKS if (table := _table(work, run))]
    parts.append(_failures(run))
    return "\n\n".join(part for part in parts if part) + "\n"


def _state(run: Dict[str, Any]) -> str:
    """Whether the figures can be used, first of all."""
    state = run["machine"]
    if state is None:
        return "**Nothing was measured.**"
    said = (f"other programs had {state['others']:.0%} of the processors, other guests of the host {state['steal']:.0%} "
            f"(medians over the measurements; the worst one {state['worst']['others']:.0%} and {state['worst']['steal']:.0%}); "
            f"load {state['load'][0]:.1f} to {state['load'][1]:.1f}")
    if lines := state["cache_line_ns"]:
        least, middle, most = (figure(line, "ns") for line in lines)
        said += f"; a cache line took {least} to {most} there and back, median {middle}"
    if state["busy"]:
        return f"**The machine was busy, so these figures must not be quoted**: {said}."
    few = "" if run["about"]["size"] == "full" else f" This was a {run['about']['size']} run, with few repetitions."
    return f"The machine was quiet: {said}.{few}"


def _about(run: Dict[str, Any]) -> str:
    rows = "\n".join(f"| {name} | {value} |" for name, value in run["about"].items())
    return f"### The run\n\n| | |\n|---|---|\n{rows}"


def _marks(run: Dict[str, Any]) -> str:
    lines = ["### Marks", "", "| what | mark | measured | reached |", "|---|---|---|---|"]
    for mark in run["marks"]:
        limit, value = (_of_mark(mark, mark[key]) for key in ("limit", "value"))
        reached = {True: "yes", False: "**no**", None: "not measured"}[mark["reached"]]
        against = f" of {mark['of']}" if mark["of"] else ""
        lines.append(f"| {mark['name']} | {mark['bound']} {limit}{against} | {value} | {reached} |")
    return "\n".join(lines)


def _of_mark(mark: Dict[str, Any], value: Optional[float]) -> str:
    if value is None:
        return "–"
    return f"{value:.2f} ×" if mark["unit"] == "times" else figure(value, mark["unit"])


Column = Tuple[str, str]
"""Case and metric."""


def _table(work: plan.Work, run: Dict[str, Any]) -> str:
    """One work item; "" when none of it was asked for."""
    rows = [row for row in run["results"] if row["work"] == work.key]
    failures = [failure for failure in run["failures"] if failure["work"] == work.key]
    if not rows and not failures:
        return ""
    if work.peers == ("machine",):
        return _list(work, rows)
    columns = list(dict.fromkeys((case.name, row["metric"]) for case in work.cases for row in rows if row["case"] == case.name))
    columns += [(failure["case"], "") for failure in failures if failure["case"] not in [case for case, _ in columns]]
    columns = list(dict.fromkeys(columns))
    metrics = {metric for _, metric in columns if metric}
    heads = [case if len(metrics) < 2 else f"{case}, {metric}" for case, metric in columns]
    lines = [f"### {work.key}: {work.title}", "", f"| peer | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for peer in work.peers:
        cells = [_cell(peer, column, rows, failures) for column in columns]
        if any(cells):
            lines.append(f"| {plan.PEERS[peer].label} | {' | '.join(cell or '–' for cell in cells)} |")
    return "\n".join(lines)


def _cell(peer: str, column: Column, rows: List[Dict[str, Any]], failures: List[Dict[str, Any]]) -> str:
    """p50 (p99), and how it compares; "" where that was not to be measured."""
    for row in rows:
        if (row["case"], row["metric"]) == column and row["peer"] == peer:
            return _measured(row)
    failed = any(failure["case"] == column[0] and failure["peer"] == peer for failure in failures)
    return "failed, see below" if failed else ""


def _measured(row: Dict[str, Any]) -> str:
    said = figure(row["p50"], row["unit"])
    if row["unit"] == "ns":
        said += f" ({figure(row['p99'], 'ns')})"
    for name, key, references in (("P", "to_plasma11", plan.PLASMA), ("F", "to_floor", plan.FLOOR)):
        if row[key] is not None and row["peer"] not in (*references.values(), *plan.FLOOR.values()):
            said += f" {name}×{_digits(row[key])}"
    return said


def _list(work: plan.Work, rows: List[Dict[str, Any]]) -> str:
    lines = [f"### {work.key}: {work.title}", "", "| what | p50 (p99) |", "|---|---|"]
    for row in rows:
        lines.append(f"| {row['metric']}, {row['case']} | {_measured(row)}{_speed(row)} |")
    return "\n".join(lines)


def _speed(row: Dict[str, Any]) -> str:
    """Of a copy, also as bytes in a second."""
    case = next(case for work in plan.WORKS for case in work.cases if work.key == row["work"] and case.name == row["case"])
    if case.work != "copy":
        return ""
    return f", {case.options['size'] / (1 << 30) / (row['p50'] / 1e9):.1f} GiB/s"


def _failures(run: Dict[str, Any]) -> str:
    """What could not be measured, each reason once."""
    where: Dict[Tuple[str, str], List[str]] = {}
    for one in run["failures"]:
        all_of = run["about"]["repetitions"]
        times = "" if one["times"] == all_of else f" ({one['times']} of {all_of} times)"
        where.setdefault((one["peer"], one["reason"]), []).append(f"{one['work']} {one['case']}{times}")
    if not where:
        return ""
    lines = ["### What could not be measured", "", "| peer | reason | where |", "|---|---|---|"]
    for (peer, reason), cases in where.items():
        said = reason.replace("|", "\\|")
        lines.append(f"| {plan.PEERS[peer].label} | {said} | {'; '.join(cases)} |")
    return "\n".join(lines)


def into_page(page: str, picture: str, text: str) -> str:
    """The page with this report, and the picture before it, between its two marks."""
    before, rest = page.split(BEGIN)
    shown = f"![medians of each peer, on a logarithmic scale]({picture})\n\n{text}"
    return f"{before}{BEGIN}\n\n{shown}\n{END}{rest.split(END)[1]}"
