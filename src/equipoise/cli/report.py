"""``equipoise report``: one self-contained page, and one CSV per experiment, of what has run."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from equipoise import report, sweep
from equipoise.cli.pages import Histories, drawings, page_of
from equipoise.errors import InputError, unknown_name
from equipoise.papers import load_all

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
    import tyro

    annotated = Annotated[Flags, tyro.conf.OmitArgPrefixes]
    words = ["--runs", *argv] if argv and not argv[0].startswith("-") else list(argv)
    flags: Flags = tyro.cli(annotated, args=words, prog="equipoise report", description="Report on finished runs.")  # type: ignore[arg-type]
    root = Path(flags.runs)
    if not root.is_dir():
        raise InputError(f"there is no folder '{root}'; name the one that `equipoise run` wrote (--runs)")
    load_all()
    problems: list[str] = []
    rows = sweep.collect(root, experiment=flags.experiment, problems=problems)
    histories = sweep.histories(root, flags.experiment, problems=problems)
    left = sweep.unfinished(root, flags.experiment)
    for line in [*sorted(set(problems)), *left]:
        sys.stderr.write(f"note: {line}\n")
    if flags.experiment and not rows and not left:
        raise unknown_name(
            f"experiment in '{root}',", flags.experiment, {str(r["experiment"]) for r in sweep.collect(root)}
        )
    page = page_of(f"Equipoise: {root.resolve().name}", rows, histories, left=len(left))
    target = report.write(flags.out or root / "report.html", page)
    sys.stdout.write(f"{target}\n")
    for name in sorted({str(r["experiment"]) for r in rows}):
        _write_parts(name, [r for r in rows if r["experiment"] == name], histories, flags)
    return 0


def _write_parts(name: str, rows: Sequence[Mapping[str, Any]], histories: Histories, flags: Flags) -> None:
    """Write the experiment's table and figures to the folders that were asked for."""
    if flags.csv:
        path = Path(flags.csv) / f"{name}.csv"
        sweep.write_csv(rows, path)
        sys.stdout.write(f"{path}\n")
    for drawing in drawings(rows, histories) if flags.figures else ():
        path = Path(str(flags.figures)) / f"{name.replace('/', '-')}-{drawing.name}.svg"
        report.write(path, drawing.svg(themed=False) + "\n")
        sys.stdout.write(f"{path}\n")
