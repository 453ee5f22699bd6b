"""Runs whose outcome decides what is run next: each ends once, and to diverge is to end."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from equipoise.errors import StorageError
from equipoise.sweep.executors import execute
from equipoise.train import Machine, Run, Summary

__all__ = ["diverged_summary", "ended", "has_diverged"]


def has_diverged(summary: Summary) -> bool:
    """Whether the run ended because its loss or its weights were not finite: a result like any other."""
    return summary.status == "failed" and "not finite" in summary.message


def diverged_summary(run: Run, machine: Machine) -> Summary | None:
    """How ``run`` diverged, where it did so before; None where it did not, or is to be trained anew."""
    with contextlib.suppress(StorageError):
        summary = Summary.read(run.folder(machine.runs))
        if not machine.force and summary.hash == run.hash and has_diverged(summary):
            return summary
    return None


def ended(runs: Sequence[Run], machine: Machine | None = None, **how: Any) -> list[Summary]:
    """``execute``, with its keywords, of all runs but those that diverged before, which would do so again."""
    machine = machine if machine is not None else Machine()
    known = {run.hash: diverged_summary(run, machine) for run in runs}
    left = [run for run in runs if known[run.hash] is None]
    fresh = dict(zip((run.hash for run in left), execute(left, machine, **how) if left else [], strict=True))
    return [known[run.hash] or fresh[run.hash] for run in runs]
