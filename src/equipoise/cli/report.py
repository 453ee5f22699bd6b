"""``equipoise report``: one self-contained page, and one CSV per experiment, of what has run."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from equipoise import report, sweep
from equipoise.cli.drawings import svg
from equipoise.cli.flags import looking
from equipoise.cli.pages import Display, displays, page_of, shown_by, shows, with_columns
from equipoise.errors import unknown_name
from equipoise.papers import load_all
from equipoise.papers.exhibits import Row

__all__ = ["main"]


@dataclass(frozen=True)
class Flags:
    """What to report on, and where to write.

    Args:
        runs: the folder of runs
        out: the page; RUNS/report.html if not given
        csv: a folder for one CSV per experiment
        figures: a folder for every figure as an SVG file
        experiment: report on this one alone
    """

    runs: str = "runs"
    out: str | None = None
    csv: str | None = None
    figures: str | None = None
    experiment: str | None = None


def main(argv: Sequence[str]) -> int:
    """Write the page (and the tables) and say where they are."""
    flags, root = looking(Flags, argv, command="report", description="Report on finished runs.")
    load_all()
    problems: list[str] = []
    every = sweep.collect(root, problems=problems)
    only = flags.experiment
    histories = sweep.histories(root, problems=problems)
    every = with_columns(every, histories)
    rows = [r for r in every if only is None or shows(only, r)]
    left = sweep.unfinished(root, None if only is None else partial(shows, only))
    blown = sweep.diverged(root)
    lost = Counter(str(r["experiment"]) for r in blown if only is None or shows(only, r))
    told = [f"{n} {'run' if n == 1 else 'runs'} of '{name}' diverged" for name, n in sorted(lost.items())]
    for line in [*dict.fromkeys(sorted(problems)), *left, *told]:
        sys.stderr.write(f"note: {line}\n")
    if only and not rows and not left and not lost:
        raise unknown_name(f"experiment in '{root}',", only, shown_by(every))
    given = displays(rows, histories, root, only=only)
    page = page_of(f"Equipoise: {root.resolve().name}", given, left=len(left) + lost.total())
    target = report.write(flags.out or root / "report.html", page)
    sys.stdout.write(f"{target}\n")
    if flags.csv:
        _write_tables(Path(flags.csv), [*every, *blown], {str(r["experiment"]) for r in rows} | {*lost})
    if flags.figures:
        _write_figures(Path(flags.figures), given)
    return 0


def _write_tables(folder: Path, rows: Sequence[Row], names: Collection[str]) -> None:
    """Write every run once, diverged ones too, under the experiment that it names, and each of these whole."""
    for name in sorted(names):
        path = folder / f"{name}.csv"
        sweep.write_csv([r for r in rows if r["experiment"] == name], path)
        sys.stdout.write(f"{path}\n")


def _write_figures(folder: Path, given: Sequence[Display]) -> None:
    """Write every figure on the page as a file of its own."""
    for one in given:
        for figure in one.figures:
            path = folder / f"{one.name.replace('/', '-')}-{figure.name}.svg"
            report.write(path, svg(figure, themed=False) + "\n")
            sys.stdout.write(f"{path}\n")
