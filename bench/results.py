"""What was measured: every sample, and out of those the medians, the ratios and the marks."""

from __future__ import annotations

from dataclasses import asdict
from statistics import median
from typing import Any, Dict, List, Optional

import plan
from machine import State, summary
from plan import Cell, Mark, Measurement

FORMAT = 1


class Results:
    """Collects the repetitions."""

    def __init__(self) -> None:
        self._repetitions: Dict[Cell, List[Dict[str, Any]]] = {}
        self._failures: Dict[Cell, List[str]] = {}
        self._states: List[State] = []

    def add(self, one: Measurement, figures: List[Dict[str, Any]], state: State) -> None:
        """What one program printed, and the state of the machine meanwhile."""
        self._states.append(state)
        for figure in figures:
            cores = [core for core in range(64) if int(figure["cores"]) >> core & 1]
            cell = (one.work.key, one.case.name, one.peer, figure["metric"])
            self._repetitions.setdefault(cell, []).append({**figure, "cores": cores, "machine": asdict(state)})

    def fail(self, one: Measurement, reason: str) -> None:
        self._failures.setdefault((one.work.key, one.case.name, one.peer, ""), []).append(reason)

    def as_json(self, groups: List[List[Measurement]], about: Dict[str, Any]) -> Dict[str, Any]:
        """Everything that results.json says."""
        return {
            "format": FORMAT,
            "about": about,
            "machine": summary(self._states) if self._states else None,
            "marks": [self._mark(mark) for mark in plan.MARKS],
            "results": [row for group in groups for one in group for row in self._rows(one)],
            "failures": [{"work": work, "case": case, "peer": peer, "times": len(reasons), "reason": reasons[-1]}
                         for (work, case, peer, _), reasons in self._failures.items()],
        }

    def p50(self, cell: Optional[Cell]) -> Optional[float]:
        """The median over the repetitions, of what was measured at all."""
        repetitions = self._repetitions.get(cell) if cell else None
        return median(one["p50"] for one in repetitions) if repetitions else None

    def _rows(self, one: Measurement) -> List[Dict[str, Any]]:
        prefix = (one.work.key, one.case.name, one.peer)
        return [self._row(cell) for cell in self._repetitions if cell[:3] == prefix]

    def _row(self, cell: Cell) -> Dict[str, Any]:
        work, case, peer, metric = cell
        repetitions, python = self._repetitions[cell], plan.PEERS[peer].python
        medians = [one["p50"] for one in repetitions]
        return {
            "work": work, "case": case, "peer": peer, "metric": metric, "unit": repetitions[0]["unit"],
            "p50": median(medians), "p99": median(one["p99"] for one in repetitions),
            "range": [min(medians), max(medians)],
            "to_plasma11": self._ratio(cell, (work, case, plan.PLASMA[python], metric)),
            "to_floor": self._ratio(cell, (work, case, plan.FLOOR[python], metric)),
            "repetitions": repetitions,
        }

    def _ratio(self, cell: Cell, other: Cell) -> Optional[float]:
        mine, theirs = self.p50(cell), self.p50(other)
        return mine / theirs if mine is not None and theirs else None

    def _mark(self, mark: Mark) -> Dict[str, Any]:
        times, least = mark.times or mark.times_at_least, mark.times_at_least or mark.per_second
        reached = self._ratio(mark.cell, mark.of) if mark.of else self.p50(mark.cell)
        unit, limit = ("times", times) if times else ("/s", least) if least else ("ns", mark.ns)
        is_reached = None if reached is None or limit is None else reached >= limit if least else reached <= limit
        return {"name": mark.name, "unit": unit, "limit": limit, "value": reached,
                "bound": "at least" if least else "at most",
                "of": " ".join(mark.of) if mark.of else None, "reached": is_reached}
