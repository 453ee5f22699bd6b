"""Run the benchmarks whose names match: ``python -m benchmarks 'rules.dfa.*' import.vs_torch``."""

from __future__ import annotations

import argparse
import fnmatch
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks import (
    balance,
    bars,
    demo,
    eisnn,
    gait,
    imports,
    inorm,
    machine,
    memory,
    populations,
    rules,
    store,
    sweep,
)
from benchmarks.harness import Once, Pair, Skipped, Timing, measure

HEADER = (
    f"{'name':32} {'value':>8} {'95 % interval':>17} {'rounds':>6} {'bar':>7} {'verdict':8} {'floor':>6} {'gap':>7}"
)


def all_cases() -> dict[str, Callable[[], Pair | Once]]:
    """Every benchmark by name, in the order of running."""
    modules = (rules, memory, balance, inorm, eisnn, gait, populations, sweep, imports, demo)
    return {name: prepare for module in modules for name, prepare in module.cases()}


def chosen(patterns: list[str], names: list[str]) -> list[str]:
    """The names that match any of the patterns; all of them where no pattern is given."""
    if not patterns:
        return names
    unmatched = [p for p in patterns if not fnmatch.filter(names, p)]
    if unmatched:
        raise SystemExit(f"no benchmark is called {', '.join(unmatched)}; there are: {', '.join(names)}")
    return [n for n in names if any(fnmatch.fnmatchcase(n, p) for p in patterns)]


def uneven(name: str, timing: Timing) -> bool:
    """Whether a control, whose sides do the same work, reads so far from 1 that other ratios mean little."""
    return name.startswith("control.") and abs(timing.value - 1) > machine.NOISE


def line(name: str, timing: Timing, others: float) -> str:
    """One row of the table; ``gap`` is how far the value lies above the floor."""
    spread = "" if timing.low is None else f"{timing.low:.3f} to {timing.high:.3f}"
    bar = f"{bars.BARS[name]:g}" if name in bars.BARS else ""
    floor = "" if timing.floor is None else f"{timing.floor:.3f}"
    gap = "" if timing.floor is None else f"{timing.value / timing.floor - 1:+.1%}"
    row = f"{name:32} {timing.value:8.3f} {spread:>17} {timing.rounds:6} {bar:>7} {bars.verdict(name, timing):8}"
    notes = [
        *([] if timing.settled else ["not settled"]),
        *([f"not alone: others used {others:.2f} cores"] if others > machine.BUSY_OTHERS else []),
        *([f"two copies of one step differ by {abs(timing.value - 1):.1%}"] if uneven(name, timing) else []),
    ]
    return f"{row} {floor:>6} {gap:>7} {'; '.join(notes)}".rstrip()


def main(argv: list[str] | None = None) -> int:
    """Measure, print the table, write the two files; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="names or globs; all by default")
    parser.add_argument("--threads", type=int, help="torch's threads; its own choice by default")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder of the result files")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    args = parser.parse_args(argv)
    cases = all_cases()
    if args.list:
        print("\n".join(cases))
        return 0
    names = chosen(args.names, list(cases))
    if args.threads:
        torch.set_num_threads(args.threads)
    machine.touch_memory()
    about = machine.describe()
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    print(HEADER, flush=True)
    results, missed, crowded = {}, False, False
    for name in names:
        try:
            subject = cases[name]()
        except Skipped as why:
            print(f"{name:32} skipped: {why}", flush=True)
            continue
        watch = machine.Watch()
        timing = measure(subject)
        others = watch.others()
        results[name] = store.entry(timing, about, others)
        missed |= bars.verdict(name, timing) == "missed"
        crowded |= others > machine.BUSY_OTHERS or uneven(name, timing)
        print(line(name, timing, others), flush=True)
        store.merge(args.out, results, cases)
    if crowded:
        print("The machine was busy or uneven meanwhile: these numbers are provisional. Be alone and run them again.")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
