"""The tables of the guides, written from the CSV files under ``results/``.

    python -m equipoise.cli.documents [--check] [--results FOLDER] [--docs FOLDER]

A guide names a table of an experiment's exhibits by the words that its title begins with::

    <!-- table: inorm/accuracy: Against LN -->
    <!-- table: end -->

and what stands between the two lines is replaced; where no run of the experiment is there, it says so. ``--check``
changes nothing and fails when a guide is out of date.
Exit codes: 0, 1 (out of date), 2 (bad input).
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from equipoise import report, sweep
from equipoise.cli.pages import displays
from equipoise.errors import EquipoiseError, InputError
from equipoise.papers import load_all
from equipoise.train import experiments

__all__ = ["filled", "main"]

BEGIN = re.compile(r"^<!-- table: (?P<experiment>[\w./-]+): (?P<title>.+?) -->$")
END = "<!-- table: end -->"


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m equipoise.cli.documents", description="Write the guides' tables.")
    parser.add_argument("--check", action="store_true", help="change nothing; fail when a guide is out of date")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of the CSV files")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="folder of the guides")
    given = parser.parse_args(argv)
    try:
        return _update(given.results, given.docs, check=given.check)
    except EquipoiseError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code


def filled(text: str, results: Path) -> str:
    """``text`` with every table that it names made anew from ``results``; ``InputError`` for what names none."""
    kept: list[str] = []
    waiting = ""
    for number, line in enumerate(text.splitlines(), start=1):
        begin = BEGIN.match(line)
        if waiting and begin:
            raise InputError(f"line {number}: a table begins inside the table '{waiting}'; end that with '{END}'")
        if waiting and line != END:
            continue
        kept.append(line)
        if begin:
            waiting = f"{begin['experiment']}: {begin['title']}"
            kept += ["", *_tables(begin["experiment"], begin["title"], results), ""]
        elif line == END:
            if not waiting:
                raise InputError(f"line {number}: '{END}' ends no table")
            waiting = ""
    if waiting:
        raise InputError(f"the table '{waiting}' has no end; write '{END}' behind it")
    return "\n".join(kept) + "\n"


def _tables(experiment: str, title: str, results: Path) -> list[str]:
    load_all()
    rows = [row for path in sorted(results.rglob("*.csv")) for row in sweep.read_csv(path) if "experiment" in row]
    shown = displays(rows, {}, results, only=experiment)
    if not shown and experiment in experiments:
        return [f"No run of `equipoise run {experiment}` is among the results yet."]
    found = [table for one in shown for table in one.tables if table.caption.startswith(title)]
    if not found:
        have = sorted({table.caption.split(".")[0] for one in shown for table in one.tables})
        raise InputError(f"'{experiment}' has no table '{title}' in '{results}'; it has: {'; '.join(have) or 'none'}")
    return "\n\n".join(f"{report.markdown(table)}\n\n{table.caption}" for table in found).splitlines()


def _update(results: Path, docs: Path, *, check: bool) -> int:
    stale = 0
    for path in sorted(docs.glob("*.md")):
        old = path.read_text(encoding="utf-8")
        if "<!-- table: " not in old:
            continue
        try:
            new = filled(old, results)
        except InputError as error:
            raise InputError(f"'{path}': {error}") from None
        if new != old:
            stale += 1
            if check:
                sys.stderr.write(f"'{path}' is out of date with '{results}'; run: make results\n")
            else:
                report.write(path, new)
                sys.stdout.write(f"wrote the tables of '{path}'\n")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
