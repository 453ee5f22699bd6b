"""Studies in two stages from the command line: the first is run and told of; the second gets the time that is left."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shlex
import sys
import time
from collections.abc import Sequence

from equipoise.cli.flags import Where
from equipoise.cli.outcome import check_names
from equipoise.errors import StorageError
from equipoise.sweep import execute, plan
from equipoise.sweep import progress as sweep_progress
from equipoise.sweep.status import fulfilled
from equipoise.sweep.worker import exit_code
from equipoise.train import Run, Summary

__all__ = ["another_budget", "first_stage"]

FEW = 5  # seeds, of which fewer are said to be few


def another_budget(first: Sequence[Run], planned: Sequence[Run]) -> bool:
    """Whether ``first`` tries anything else than ``planned`` does for the same lines, more or less of it.

    A line is data, model and rule; to leave whole lines out changes no line's budget.
    """
    tried: list[dict[str, set[str]]] = []
    for runs in (first, planned):
        tried.append({})
        for run in runs:
            line = json.dumps([run.data, run.model, run.rule, run.options], sort_keys=True)
            tried[-1].setdefault(line, set()).add(run.hash)
    return any(tried[1].get(line) != hashes for line, hashes in tried[0].items())


def first_stage(runs: Sequence[Run], where: Where, then: Sequence[Run] = ()) -> tuple[list[Summary], Where, int | None]:
    """How ``runs`` ended, where the second stage goes on (with the time that is left), and an exit code to stop with.

    The code is None where every run has finished or diverged. ``then`` are as many runs as the second stage has.
    """
    check_names(runs)
    machine = where.machine()
    if where.seeds < FEW:
        sys.stderr.write(f"note: seeds: {where.seeds}; a comparison wants {FEW} or more (--seeds {FEW})\n")
    if where.part:
        sys.stderr.write(f"note: the parts share the first stage in '{where.runs}'; apart, each would choose alone\n")
    with contextlib.suppress(StorageError):
        plan(where.runs, then, until=runs)
    began = time.monotonic()
    outcomes = execute(
        runs,
        machine,
        executor=where.executor,
        workers=where.workers,
        progress=sweep_progress.auto(),
        options=where.executor_options,
    )
    lost = sum(s.diverged for s in outcomes)
    stopped = [s for s in outcomes if s.status == "stopped"]
    failed = {s.message: r for r, s in zip(runs, outcomes, strict=True) if s.status == "failed" and not s.diverged}
    told = f"; {lost} of them diverged, and count as 0" if lost else ""
    sys.stderr.write(f"first stage: {len(runs) - len(stopped)} of {len(runs)} runs ended{told}\n")
    for message, run in failed.items():
        sys.stderr.write(f"failed: {run.experiment}/{run.hash} ({run.rule}, seed {run.seed}): {message}\n")
    if stopped:
        sys.stderr.write("the same command goes on with the first stage, and then with the second\n")
    if stopped or failed:
        return outcomes, where, max(1 if failed else 0, *map(exit_code, stopped), 0)
    with contextlib.suppress(OSError):
        fulfilled(where.runs, then, until=runs)
    sys.stdout.write(f"For the rates that were tried: equipoise report {shlex.quote(where.runs)}\n")
    if machine.time_limit is not None:
        left = max(0.001, machine.time_limit - (time.monotonic() - began))
        where = dataclasses.replace(where, time_limit=f"{left:.3f}s")
    return outcomes, where, None
