"""``equipoise status``: how the runs in a folder stand, while they run or after."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from equipoise import report, sweep
from equipoise.cli.flags import looking
from equipoise.cli.outcome import show_table
from equipoise.sweep import Count, State
from equipoise.sweep.progress import duration
from equipoise.sweep.status import STATES

__all__ = ["main"]

_SHOWN = 8  # lines of each kind


@dataclass(frozen=True)
class Flags:
    """Which folder to look at; looking disturbs nothing.

    Args:
        runs: the folder of runs
        experiment: count this one alone
        forget: count no more what earlier commands planned and nothing has begun; a command typed again plans anew
    """

    runs: str = "runs"
    experiment: str | None = None
    forget: bool = False


def main(argv: Sequence[str]) -> int:
    """Print the counts by experiment, what is under way and why others are not; 0 unless the folder is missing."""
    flags, root = looking(Flags, argv, command="status", description="How the runs stand.")
    if flags.forget:
        sys.stdout.write(f"forgotten: what {sweep.forget(root)} sweeps planned; no run is touched\n")
    states = [one for one in sweep.survey(root) if flags.experiment in (None, one.experiment)]
    sys.stdout.write(f"{Count.of(states)}\n")
    if states:
        show_table(_table(states))
    _lines("running", [f"{_name(one)}, epoch {one.epoch}/{one.epochs}, {one.holder}" for one in _in(states, "running")])
    _lines(
        "killed, and the same command goes on with it (its lock is stale, which stops nobody)",
        [
            f"{_name(one)}, epoch {one.epoch}/{one.epochs}, was {one.holder or 'a process that left'}"
            for one in _in(states, "killed")
        ],
    )
    for kind in ("damaged", "failed", "diverged", "stopped"):
        _lines(kind, [f"{_name(one)}: {one.message}" for one in _in(states, kind)])
    if _in(states, "waiting") and not _in(states, "running"):
        sys.stdout.write(f"waiting: planned by an earlier command; drop the plans: equipoise status {root} --forget\n")
    if any(one.state == "finished" for one in states):
        sys.stdout.write(f"The page of what has finished so far: equipoise report {flags.runs}\n")
    return 0


def _in(states: Sequence[State], kind: str) -> list[State]:
    return [one for one in states if one.state == kind]


def _name(one: State) -> str:
    return f"{one.experiment}/{one.hash}" + (f" ({one.words})" if one.words else "")


def _lines(title: str, lines: Sequence[str]) -> None:
    for line in lines[:_SHOWN]:
        sys.stdout.write(f"{title}: {line}\n")
    if len(lines) > _SHOWN:
        sys.stdout.write(f"{title}: and {len(lines) - _SHOWN} more\n")


def _table(states: Sequence[State]) -> report.Table:
    """One row for each experiment, one column for each state that occurs."""
    kinds = [kind for kind in STATES if kind == "finished" or any(one.state == kind for one in states)]
    rows: list[list[report.Cell]] = []
    for name in sorted({one.experiment for one in states}):
        own = [one for one in states if one.experiment == name]
        count = Count.of(own)
        left = duration(count.left) if count.left else ""
        rows.append([name, count.total, *(count.states.get(kind, 0) for kind in kinds), left])
    caption = "Time left: at as many runs at a time as are running now in that experiment."
    return report.Table(["experiment", "runs", *kinds, "left"], rows, caption)
