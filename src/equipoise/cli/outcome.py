"""Running a list of runs from the command line, and showing how they ended."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence

from equipoise import data, measure, report
from equipoise.cli.flags import Where
from equipoise.errors import InputError
from equipoise.functional.losses import as_loss
from equipoise.rules.make import validated
from equipoise.sweep import Sweep, execute, flat, plan
from equipoise.sweep import progress as sweep_progress
from equipoise.sweep.worker import exit_code
from equipoise.train import Run, Summary, diverged_before, train
from equipoise.train import progress as train_progress
from equipoise.train.progress import tested

__all__ = ["check_names", "execute_and_show", "part_of", "seeds_of", "show_table"]


def seeds_of(first: int, where: Where) -> range:
    """The seeds that ``--seed`` and ``--seeds`` ask for."""
    return range(first, first + where.seeds)


def execute_and_show(runs: Sequence[Run], where: Where) -> int:
    """Train ``runs`` (or the part of them that ``--part`` names), print a table, and return the exit code."""
    machine = where.machine()
    whole, runs = runs, part_of(runs, where)
    check_names(runs)
    if where.part is not None:  # the folder remembers the whole, for `equipoise status`
        plan(where.runs, whole)
    alone = len(runs) == 1 and where.executor == "local" and not where.executor_options
    if alone and (where.force or diverged_before(runs[0], where.runs) is None):
        summaries = [train(runs[0], machine, progress=train_progress.auto())]
    else:
        summaries = execute(
            runs,
            machine,
            executor=where.executor,
            workers=where.workers,
            progress=sweep_progress.auto(),
            options=where.executor_options,
        )
    show_runs(runs, summaries, where)
    stopped = [s for s in summaries if s.status == "stopped"]
    if stopped and len(runs) > 1:
        sys.stderr.write(f"{len(stopped)} of {len(runs)} runs are not finished; the same command goes on with them\n")
    return max(map(exit_code, summaries), default=0)


def check_names(runs: Sequence[Run]) -> None:
    """Refuse a misspelt name or option before the first of several runs has trained for hours."""
    for run in runs:
        validated(run.rule, run.options)
        as_loss(run.loss)
        for name in run.measures:
            measure.measures[name]
        if ":" not in run.data:
            data.describe(run.data)


def part_of(runs: Sequence[Run], where: Where) -> Sequence[Run]:
    """What ``--part 2/5`` leaves of ``runs``."""
    if where.part is None:
        return runs
    found = re.fullmatch(r"(\d+)/(\d+)", where.part)
    if found is None:
        raise InputError(f"--part takes two whole numbers, as 2/5, not '{where.part}'")
    return Sweep(tuple(runs)).part(int(found[1]), int(found[2])).runs


def show_runs(runs: Sequence[Run], summaries: Sequence[Summary], where: Where) -> None:
    """One line per setting: mean and interval over its seeds, the angle, the time; one per reason why runs failed."""
    finished = [(run, s) for run, s in zip(runs, summaries, strict=True) if s.status == "finished"]
    rows = [
        {**flat(run), **tested(run, s.selected), "hash": run.hash, "seconds": s.seconds, "lr": run.lr}
        for run, s in finished
    ]
    if rows:
        show_table(report.outcome_table(rows))
        for note in sorted({s.note for _, s in finished if s.note}):
            sys.stdout.write(f"{note}\n")
        sys.stdout.write(f"For the page with curves: equipoise report {shlex.quote(where.runs)}\n")
    reasons: dict[str, list[Run]] = {}
    for run, summary in zip(runs, summaries, strict=True):
        if summary.status == "failed":
            reasons.setdefault(summary.message, []).append(run)
    for message, (run, *others) in reasons.items():
        more = f" and {len(others)} more" if others else ""
        sys.stderr.write(f"failed: {run.experiment}/{run.hash} ({run.rule}, seed {run.seed}){more}: {message}\n")


def _text(cell: report.Cell) -> str:
    if isinstance(cell, tuple):
        return " ".join(filter(None, map(_text, cell)))
    if isinstance(cell, report.Number):
        return cell.shown
    if isinstance(cell, (report.Code, report.Note)):
        return cell.text
    if isinstance(cell, (int, float)):
        return report.number_text(cell)
    return cell or ""


def show_table(table: report.Table) -> None:
    """Print a report's table to the terminal, its caption below it."""
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, 160)
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for k, column in enumerate(table.columns):
        words = all(isinstance(row[k], str) for row in table.rows)
        shown.add_column(column, justify="left" if words else "right")
    for row in table.rows:
        shown.add_row(*map(_text, row))
    console.print(shown)
    console.print(table.caption.replace("`", ""))
