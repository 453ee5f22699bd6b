"""Running a list of runs from the command line, and showing how they ended."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence

from equipoise import report
from equipoise.cli.flags import Where
from equipoise.sweep import execute
from equipoise.sweep import progress as sweep_progress
from equipoise.sweep.worker import exit_code
from equipoise.train import Run, Summary, train
from equipoise.train import progress as train_progress

__all__ = ["execute_and_show", "seeds_of", "show_table"]


def seeds_of(first: int, where: Where) -> range:
    """The seeds that ``--seed`` and ``--seeds`` ask for."""
    return range(first, first + where.seeds)


def execute_and_show(runs: Sequence[Run], where: Where) -> int:
    """Train ``runs``, print a table of them, and return the exit code."""
    machine = where.machine()
    if len(runs) == 1 and where.executor == "local":
        summaries = [train(runs[0], machine, progress=train_progress.auto())]
    else:
        summaries = execute(
            runs, machine, executor=where.executor, workers=where.workers, progress=sweep_progress.auto()
        )
    show_runs(runs, summaries)
    stopped = [s for s in summaries if s.status == "stopped"]
    if stopped:
        sys.stderr.write(f"{len(stopped)} of {len(runs)} runs stopped; the same command goes on with them\n")
    return max(map(exit_code, summaries), default=0)


def show_runs(runs: Sequence[Run], summaries: Sequence[Summary]) -> None:
    """One line per setting: mean and interval over its seeds, the angle, the time; and what failed."""
    rows = [
        {**dataclasses.asdict(run), "hash": run.hash, "seconds": s.seconds, **s.selected}
        for run, s in zip(runs, summaries, strict=True)
        if s.status == "finished"
    ]
    if rows:
        show_table(report.group_table(report.group(rows, "test_accuracy"), caption="Test accuracy"))
        where = sorted({run.experiment for run in runs})
        sys.stdout.write(f"page: equipoise report RUNS   (experiment {', '.join(where)})\n")
    for run, summary in zip(runs, summaries, strict=True):
        if summary.status == "failed":
            sys.stderr.write(f"failed: {run.experiment}/{run.hash} ({run.rule}, seed {run.seed}): {summary.message}\n")


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
    """Print a report's table to the terminal."""
    from rich.console import Console
    from rich.table import Table

    shown = Table(caption=table.caption, caption_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in table.columns:
        shown.add_column(column)
    for row in table.rows:
        shown.add_row(*map(_text, row))
    Console().print(shown, markup=False, highlight=False)
