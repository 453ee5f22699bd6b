"""The list of all results, a page written from the CSV files under ``results/``.

    python -m equipoise.report.listing [--check] [--results FOLDER] [--page FILE]

``--check`` changes nothing and fails when the page is out of date. Exit codes: 0, 1 (out of date), 2 (bad input).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from equipoise.errors import EquipoiseError, InputError
from equipoise.report.comparison import plus_minus
from equipoise.report.content import Cell, Table
from equipoise.report.markdown import markdown
from equipoise.report.summary import Group, group

__all__ = ["BEGIN", "END", "main", "read_results", "render", "replace"]

BEGIN = "<!-- results:begin -->"
END = "<!-- results:end -->"
METRIC = "test_accuracy"
ANGLE = "angle"
SHORT = ("smoke", "quick")
NEEDED = ("hash", "rule", METRIC)
INTRODUCTION = (
    "Test accuracy in per cent and mean angle of the hidden layers to backprop in degrees: mean ± half of the 95 % "
    "Student interval over seeds. `make results` writes this table from the files in `results/`."
)


def read_results(folder: Path) -> list[dict[str, Any]]:
    """The rows of every CSV file in ``folder`` with one finished run per row; short runs and rates of 0 stay out."""
    from equipoise.sweep import read_csv

    if not folder.is_dir():
        raise InputError(f"there is no folder '{folder}'; run an experiment and keep its CSV there")
    tables = [read_csv(path) for path in sorted(folder.rglob("*.csv"))]
    rows = [row for table in tables for row in table if all(name in row for name in NEEDED)]
    # Shorter runs are kept beside the full ones, and stay out of a table that people quote; so do looks at the start.
    return [row for row in rows if not str(row.get("preset") or "").startswith(SHORT) and row.get("lr") != 0]


def render(rows: Sequence[Mapping[str, Any]]) -> str:
    """The Markdown that stands between the two marks: one line per experiment, data, model, rule and settings."""
    if not rows:
        return "No results yet."
    held = sorted(rows, key=lambda row: [str(row.get(name, "")) for name in ("experiment", "data", "model")])
    names = dict.fromkeys(str(row.get("experiment", "")) for row in held)
    # An experiment at a time, as its settings are told apart from one another and not from another protocol's.
    parts = [[row for row in held if str(row.get("experiment", "")) == name] for name in names]
    groups = [one for part in parts for one in group(part, METRIC)]
    angles = {one.hashes: one for one in group(held, ANGLE)}
    heads = ["experiment", "data", "model", "rule", "settings", "accuracy", "angle", "seeds", "preset", "device"]
    lines = [_line(one, angles.get(one.hashes)) for one in groups]
    kept = [i for i in range(len(heads)) if any(line[i] for line in lines)]
    table = Table([heads[i] for i in kept], [[line[i] for i in kept] for line in lines])
    notes = sorted({str(row["note"]) for row in rows if row.get("note")})
    return "\n\n".join([INTRODUCTION, markdown(table), *notes])


def replace(text: str, block: str) -> str:
    """``text`` with ``block`` between the two marks, which must be there once each, in order."""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise InputError(f"the page must hold '{BEGIN}' and then '{END}', once each")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    return f"{before}{BEGIN}\n{block}\n{END}{after}"


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m equipoise.report.listing", description="Write the list of results."
    )
    parser.add_argument("--check", action="store_true", help="change nothing; fail when the table is out of date")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of the CSV files")
    parser.add_argument("--page", type=Path, default=Path("docs/results.md"), help="the file to change")
    given = parser.parse_args(argv)
    try:
        return _update(given.results, given.page, check=given.check)
    except EquipoiseError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code


def _update(results: Path, page: Path, *, check: bool) -> int:
    from equipoise.report.page import write

    try:
        old = page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read '{page}': {error}") from None
    new = replace(old, render(read_results(results)))
    if new == old:
        return 0
    if check:
        sys.stderr.write(f"'{page}' is out of date with '{results}'; run: make results\n")
        return 1
    write(page, new)
    sys.stdout.write(f"wrote the list of results in '{page}'\n")
    return 0


def _line(one: Group, angle: Group | None) -> list[Cell]:
    accuracy = one.estimate
    degrees = angle.estimate if angle else None
    return [
        *one.key,
        one.settings,
        plus_minus(100 * accuracy.mean, 100 * accuracy.half),
        plus_minus(degrees.mean, degrees.half) if degrees else "",
        len(one.values),
        ", ".join(one.presets),
        ", ".join(one.devices),
    ]


if __name__ == "__main__":
    sys.exit(main())
