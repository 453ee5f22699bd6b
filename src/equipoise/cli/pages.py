"""The sections of a page from finished runs: one per experiment, the same for every experiment, with its exhibits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from equipoise import report
from equipoise.cli.drawings import drawings, svg
from equipoise.errors import InputError
from equipoise.papers import Published, published
from equipoise.papers import exhibits as shown
from equipoise.papers.exhibits import Histories, Row
from equipoise.train import experiments

__all__ = ["Display", "comparisons", "displays", "page_of", "section", "shown_by", "shows", "with_columns"]

SHORT = 3  # rows that are not worth folding away


def comparisons(
    rows: Sequence[Row], numbers: Sequence[Published], histories: Histories | None = None
) -> list[report.Comparison]:
    """Published against ours, for each number that finished runs match; smoke runs are never compared."""
    found = []
    for number in numbers:
        matching = [r for r in rows if number.matches(r) and not str(r.get("preset") or "smoke").startswith("smoke")]
        for preset in sorted({str(r["preset"]) for r in matching}):
            pairs = [(r, _ours(r, number, histories or {})) for r in matching if r["preset"] == preset]
            values = {str(r["hash"]): value * number.factor for r, value in pairs if value is not None}
            if values:
                source = number.source + (f"; {number.caution}" if number.caution else "")
                found.append(
                    report.Comparison(
                        quantity=number.quantity,
                        values=list(values.values()),
                        published=number.value,
                        published_sd=number.sd,
                        source=source,
                        preset=preset,
                        specs=list(values),
                        unit=number.unit,
                    )
                )
    return found


def _ours(row: Row, number: Published, histories: Histories) -> float | None:
    """What ``number`` compares with in a run: its result, or what it had reached after the number's epoch."""
    if number.epoch is None:
        value = row.get(number.metric)
    else:
        epochs = histories.get(str(row["hash"]), ())
        value = next((epoch.get(number.metric) for epoch in epochs if epoch.get("epoch") == number.epoch), None)
    return None if value is None else float(value)


@dataclass(frozen=True)
class Display:
    """What one experiment shows: its rows, of these the ones whose runs are listed here, its figures and tables."""

    name: str
    rows: Sequence[Row]
    listed: Sequence[Row]
    figures: Sequence[shown.Figure]
    tables: Sequence[report.Table]


def displays(
    rows: Sequence[Row], histories: Histories, folder: str | Path, *, only: str | None = None
) -> list[Display]:
    """Every experiment that shows any of ``rows``, in the order of their names, or ``only`` one.

    A run that several experiments show is listed under the one that it names, where that has a place on the page.
    """
    names = [name for name in shown_by(rows) if only in (None, name)]
    found = []
    for name in names:
        mine = [r for r in rows if shows(name, r)]
        listed = [r for r in mine if r["experiment"] == name or str(r["experiment"]) not in names]
        found.append(_display(name, mine, listed, histories, Path(folder)))
    return found


def with_columns(rows: Sequence[Row], histories: Histories) -> list[dict[str, Any]]:
    """Each row with what its experiment reads from its history (``Experiment.columns``)."""
    return [{**row, **_columns(row, histories.get(str(row.get("hash")), ()))} for row in rows]


def _columns(row: Row, history: Sequence[Row]) -> dict[str, Any]:
    name = str(row.get("experiment"))
    make = experiments[name].columns if name in experiments else None
    return {} if make is None else make(row, history)


def shown_by(rows: Sequence[Row]) -> list[str]:
    """The experiments, registered or not, that show any of ``rows``.

    One that changes a cell of another's has nothing to say before a run of its own has finished.
    """
    ran = {str(r["experiment"]) for r in rows}
    ready = [name for name in experiments if name in ran or not experiments[name].trains]
    registered = {name for name in ready if any(map(experiments[name].shows, rows))}
    return sorted(registered | {str(r["experiment"]) for r in rows if str(r["experiment"]) not in experiments})


def shows(name: str, row: Row) -> bool:
    """Whether the experiment ``name``, registered or not, shows ``row``."""
    return experiments[name].shows(row) if name in experiments else row.get("experiment") == name


def _display(name: str, rows: Sequence[Row], listed: Sequence[Row], histories: Histories, folder: Path) -> Display:
    make = experiments[name].exhibits if name in experiments else None
    own = make(rows, histories, folder) if make is not None else []
    pictures = [one for one in own if isinstance(one, shown.Figure)]
    tables = [_table(one) for one in own if isinstance(one, shown.Table)]
    said = bool(tables)
    compared = comparisons(rows, [number for number in published() if number.experiment == name], histories)
    if compared:
        tables.append(report.comparison_table(compared, caption="Published against ours"))
    if listed or not own:
        pictures = pictures or drawings(rows, histories)
        # What every experiment has stands back where its own tables say it.
        tables.append(_folded(report.outcome_table(rows), said))
    if listed:
        tables.append(_folded(report.run_table(listed), bool(own)))
    return Display(name, rows, listed, pictures, tables)


def _folded(table: report.Table, folded: bool) -> report.Table:
    return replace(table, open_rows=SHORT) if folded else table


def _table(table: shown.Table) -> report.Table:
    """An exhibit's table as the report has them; a column that no row fills is left out."""
    caption = f"{table.title.rstrip('.')}. {table.caption}".strip()
    kept = [i for i in range(len(table.columns)) if any(row[i] not in (None, "") for row in table.rows)]
    rows = [[_cell(row[i]) for i in kept] for row in table.rows]
    return report.Table([table.columns[i] for i in kept], rows, caption)


def _cell(cell: shown.Cell) -> report.Cell:
    if isinstance(cell, tuple):
        return tuple(_part(part) for part in cell)
    return _part(cell)


def _part(part: shown.Part) -> Any:
    if isinstance(part, shown.Number):
        return report.Number(part.value, part.text)
    return report.Note(part.text) if isinstance(part, shown.Note) else part


def section(display: Display, about: str = "") -> report.Section:
    """One experiment's section: its own exhibits, groups over seeds, published against ours, curves, every run."""
    known = experiments[display.name] if display.name in experiments else None  # noqa: SIM401 (a Registry has no get)
    text = about or (f"Source: {known.source}." if known else "Runs of your own.")
    listed = {str(r["hash"]) for r in display.listed}
    elsewhere = sorted({str(r["experiment"]) for r in display.rows if str(r["hash"]) not in listed})
    if elsewhere:
        text += f" Runs that are listed under {' and '.join(f'`{name}`' for name in elsewhere)} are shown here too."
    notes = sorted({str(r["note"]) for r in display.rows if r.get("note")})
    title = f"{display.name}: {known.title}" if known else display.name
    figures = [report.Figure(svg(one, themed=True), one.title, one.wide) for one in display.figures]
    return report.Section(title, "\n\n".join([text, *notes]), tables=display.tables, figures=figures)


def page_of(
    title: str,
    given: Sequence[Display],
    *,
    first: Sequence[report.Section] = (),
    about: Mapping[str, str] | None = None,
    left: int = 0,
) -> str:
    """The whole page, ``about`` holding texts by experiment; ``InputError`` where there is nothing to show.

    ``left`` is the number of runs that are not shown, because they were stopped or failed.
    """
    if not given:
        raise InputError("there is no finished run to report on; run something first, for example `equipoise demo`")
    texts = about or {}
    sections = [section(one, texts.get(one.name, "")) for one in given]
    runs = {str(r["hash"]) for one in given for r in one.rows}
    count = f"Finished runs: {len(runs)}. Experiments: {len(given)}."
    count += f" Not finished, and not shown: {left}." if left else ""
    return report.page(title, [*first, *sections], subtitle=count, footer="Written by `equipoise`.")
