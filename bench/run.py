"""Measures plasma_store and what else one could use, side by side in one run; prints a table, writes JSON, a page and a plot.

Usage: run.py [--size full|quick|tiny] [--only W2,W7] [--peers NAME,...] [--repetitions N] [--out DIR] [--page PAGE.md]

`make bench`, `make bench-quick` and `make bench ONLY=W2,W7` call this, and set up what it needs before. What is measured is in
plan.py, how in docs/benchmarks.md. Results go to build/bench/; a full run also fills in docs/benchmarks.md and the plot in
it. Ctrl-C ends the run and everything that it started.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Optional

import machine
import plan
import plot
import processes
import programs
import report
from machine import Watch
from plan import Measurement, Size
from processes import Failed, Scratch
from programs import Programs, Unavailable
from results import Results

LIMIT_S = 300  # for one program; filling the store with a million objects may take two minutes of it
FILL_S = 240


class Bench:
    """One run."""

    def __init__(self, built: Programs, size: Size, scratch: Scratch) -> None:
        self._programs, self._size, self._scratch = built, size, scratch
        self.capacity = capacity(size)
        self.results = Results()

    def run(self, groups: List[List[Measurement]]) -> None:
        """All repetitions; in each, the peers of a case run one after the other, and another one begins each time."""
        total = self._size.repetitions * sum(len(group) for group in groups)
        done, begin = 0, time.monotonic()
        for repetition in range(self._size.repetitions):
            for group in groups:
                first = repetition % len(group)
                for one in group[first:] + group[:first]:
                    said = self._measure(one)
                    processes.interrupts.check()
                    done += 1
                    left = (time.monotonic() - begin) / done * (total - done)
                    print(f"[{done}/{total}, {left / 60:4.1f} min left] {one.work.key:6} {one.case.name}, "
                          f"{plan.PEERS[one.peer].label}: {said}", flush=True)

    def _measure(self, one: Measurement) -> str:
        """Runs one program, and returns what became of it in a few words."""
        watch = Watch(self._cache_line())
        try:
            figures = self._figures(one)
        except (Failed, Unavailable, OSError) as reason:
            self.results.fail(one, str(reason))
            return f"failed: {reason}"
        state = watch.state()
        self.results.add(one, figures, state)
        busy = f"   (others {state.others:.0%}, steal {state.steal:.0%})" if state.others + state.steal > 0.05 else ""
        return ", ".join(f"{figure['metric']} {report.figure(figure['p50'], figure['unit'])}" for figure in figures) + busy

    def _figures(self, one: Measurement) -> List[Dict[str, Any]]:
        peer = plan.PEERS[one.peer]
        command = self._programs.command(peer.program)
        work = peer.instead[1] if one.case.work == peer.instead[0] else one.case.work
        options = {"budget_ms": self._size.budget_ms, "capacity": self.capacity, "fill_s": FILL_S,
                   "scratch": self._scratch.prefix, "count": plan.count_of(one.case, self._size), **one.case.options, **peer.options}
        try:
            with contextlib.ExitStack() as stack:
                where = str(self._scratch.tmpfs / "store")
                if peer.daemon:
                    server = self._programs.command(f"daemon {peer.daemon}")
                    limit = one.case.limit if peer.daemon.startswith("ours") else None
                    where = stack.enter_context(processes.daemon(server, limit or self.capacity, self._scratch))
                words = [f"{name}={value}" for name, value in {"where": where, **options}.items()]
                return processes.results_of([*command, work, *words], self._programs.variables, self._scratch, LIMIT_S)
        finally:
            self._scratch.clear()

    def _cache_line(self) -> Optional[float]:
        try:
            (figure,) = processes.results_of([*self._programs.command("limits"), "probe"], {}, self._scratch, 30)
        except (Failed, Unavailable, OSError):
            return None
        return float(figure["p50"])


def capacity(size: Size) -> int:
    """Bytes of the stores."""
    tmpfs = os.statvfs(processes.SHM)
    memory = min(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), tmpfs.f_bavail * tmpfs.f_frsize)
    return min(size.capacity, memory // 4 >> 20 << 20)


def chosen(words: str, known: List[str], what: str) -> List[str]:
    """The names of a list with commas, all of them for an empty one."""
    names = [name for name in words.split(",") if name] or known
    if unknown := [name for name in names if name not in known]:
        sys.exit(f"run.py: no such {what}: {', '.join(unknown)}; there are {', '.join(known)}")
    return names


def arguments() -> argparse.Namespace:
    target = Path(os.environ.get("CARGO_TARGET_DIR", programs.ROOT / "target")).resolve() / "release"
    parser = argparse.ArgumentParser(description="measures plasma_store and its peers side by side")
    parser.add_argument("--size", choices=plan.SIZES, default="full")
    parser.add_argument("--only", default="", help="work items, such as W2,W7")
    parser.add_argument("--peers", default="", help="names as in plan.py")
    parser.add_argument("--repetitions", type=int, help="instead of those of the size")
    parser.add_argument("--out", type=Path, default=programs.ROOT / "build" / "bench", help="where results and programs go")
    parser.add_argument("--page", type=Path, help="a page whose results are to be replaced; its plot is put beside it")
    parser.add_argument("--library", type=Path, default=target / "libplasma_store.so")
    parser.add_argument("--server", type=Path, default=target / "plasma-store-server")
    parser.add_argument("--python-plasma11", type=Path, default=programs.ROOT / "build" / "venv-pyarrow11" / "bin" / "python")
    return parser.parse_args()


def main() -> int:
    parsed = arguments()
    size = plan.SIZES[parsed.size]
    if parsed.repetitions:
        size = plan.with_repetitions(size, parsed.repetitions)
    works = chosen(parsed.only, [work.key for work in plan.WORKS], "work item")
    peers = chosen(parsed.peers, list(plan.PEERS), "peer")
    groups = plan.measurements(size, works, peers)
    paths = programs.Paths(parsed.library.resolve(), parsed.server.resolve(), parsed.out.resolve() / "programs",
                           python_plasma11=parsed.python_plasma11)
    processes.interrupts.watch()
    try:
        run = measured(groups, paths, size)
    except KeyboardInterrupt:
        print("\ninterrupted: nothing was written, nothing is left behind", file=sys.stderr)
        return 130
    run["about"] = {"size": parsed.size, **run["about"]}
    write(run, parsed.out, parsed.page)
    return 0


def measured(groups: List[List[Measurement]], paths: programs.Paths, size: Size) -> Dict[str, Any]:
    """The whole run, from building the programs on; nothing of it is left but what results.json will say."""
    built = programs.build_all(paths, plan.programs_of(groups))
    scratch = Scratch()
    print(f"files of this run: {scratch.directory}, {processes.SHM}/{scratch.prefix}*", flush=True)
    bench = Bench(built, size, scratch)
    try:
        bench.run(groups)
    finally:
        scratch.remove()
    about = {"repetitions": size.repetitions, "capacity": bench.capacity, **machine.describe(), **programs.versions(paths)}
    return bench.results.as_json(groups, about)


def write(run: Dict[str, Any], out: Path, page: Optional[Path]) -> None:
    """Prints the report, and writes it with the JSON and the plot; also into the page, if there is one."""
    out.mkdir(parents=True, exist_ok=True)
    text = report.markdown(run)
    print("\n" + text)
    (out / "results.json").write_text(json.dumps(run, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (out / "results.md").write_text(text, encoding="utf-8")
    plot.draw(run, out / "results.svg")
    print(f"written: {out}/results.json, results.md, results.svg")
    if page:
        picture = page.with_suffix(".svg")
        picture.write_bytes((out / "results.svg").read_bytes())
        page.write_text(report.into_page(page.read_text(encoding="utf-8"), picture.name, text), encoding="utf-8")
        print(f"written: {page}, {picture}")


if __name__ == "__main__":
    sys.exit(main())
