"""The sections of a page from finished runs: one per experiment, the same for every experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from equipoise import plots, report
from equipoise.errors import InputError
from equipoise.papers import Published, published
from equipoise.train import experiments

__all__ = ["Drawing", "comparisons", "drawings", "experiment_section", "page_of"]

Row = Mapping[str, Any]
Histories = Mapping[str, Sequence[Row]]


def comparisons(rows: Sequence[Row], numbers: Sequence[Published]) -> list[report.Comparison]:
    """Published against ours, for each number that finished runs match; smoke runs are never compared."""
    found = []
    for number in numbers:
        matching = [r for r in rows if number.matches(r) and not str(r.get("preset") or "smoke").startswith("smoke")]
        for preset in sorted({str(r["preset"]) for r in matching}):
            ours = [r for r in matching if r["preset"] == preset and r.get(number.metric) is not None]
            if ours:
                source = number.source + (f"; {number.caution}" if number.caution else "")
                found.append(
                    report.Comparison(
                        quantity=number.quantity,
                        values=[float(r[number.metric]) * number.factor for r in ours],
                        published=number.value,
                        published_sd=number.sd,
                        source=source,
                        preset=preset,
                        specs=[str(r["hash"]) for r in ours],
                        unit=number.unit,
                    )
                )
    return found


def _variants(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by what a curve stands for: the rule, and where they differ the model, the data and the settings."""
    telling = [k for k in ("rule", "model", "data") if k == "rule" or len({r.get(k) for r in rows}) > 1]
    held = {str(row["hash"]): row for row in rows}
    found: dict[str, list[Row]] = {}
    for one in report.group(rows, "seconds"):
        members = [held[name] for name in one.hashes]
        words = [*(str(members[0].get(k)) for k in telling), one.settings]
        found[", ".join(filter(None, words))] = members
    return found


@dataclass(frozen=True)
class Drawing:
    """A figure of an experiment, with a short name for a file and a title."""

    name: str
    title: str
    figure: Any

    def svg(self, *, themed: bool) -> str:
        """The figure as an ``<svg>`` element: for a page (``themed``), or to stand alone."""
        return plots.svg(self.figure, title=self.title, themed=themed)


def _draw(name: str, title: str, draw: Any, series: Mapping[str, plots.Series], **options: Any) -> Drawing:
    fig, ax = plots.figure()
    draw(ax, series, **options)
    return Drawing(name, title, fig)


def drawings(rows: Sequence[Row], histories: Histories) -> list[Drawing]:
    """An experiment's figures: accuracy over epochs, angles per layer, time; each where there is something to show."""
    variants = _variants(rows)
    order = tuple(variants)
    curves = {
        name: report.curve([histories[str(r["hash"])] for r in members if str(r["hash"]) in histories], "test_accuracy")
        for name, members in variants.items()
    }
    drawn = []
    if any(len(c.x) > 1 for c in curves.values()):
        shown = {name: c for name, c in curves.items() if len(c.x)}
        options = {"ylabel": "test accuracy", "percent": True, "order": order}
        bands = "; bands: 95 % interval over seeds" if any(len(m) > 1 for m in variants.values()) else ""
        drawn.append(
            _draw("accuracy", f"Test accuracy after each epoch{bands}", plots.learning_curves, shown, **options)
        )
    layers = {name: report.layers(members) for name, members in variants.items()}
    layers = {name: s for name, s in layers.items() if len(s.x) and max(s.mean) > 0.01}
    if layers:
        title = "Angle between each layer's update and backprop's, after training; layers by their names in the model"
        drawn.append(_draw("angles", title, plots.angles, layers, order=order))
    seconds = {n: plots.Series([""], [fmean(float(r["seconds"]) for r in m)]) for n, m in variants.items()}
    title = "Seconds of training for a run, mean"
    return [*drawn, _draw("seconds", title, plots.bars, seconds, ylabel="seconds", order=order)]


def experiment_section(name: str, rows: Sequence[Row], histories: Histories, about: str = "") -> report.Section:
    """One experiment's section: published against ours, groups over seeds, curves, angles, time, every run."""
    known = experiments[name] if name in experiments else None  # noqa: SIM401 (a Registry has no get)
    text = about or (f"Source: {known.source}." if known else "Runs of your own.")
    notes = sorted({str(r["note"]) for r in rows if r.get("note")})
    tables = [report.outcome_table(rows)]
    compared = comparisons(rows, published())
    if compared:
        tables.insert(0, report.comparison_table(compared, caption="Published against ours"))
    tables.append(report.run_table(rows))
    title = f"{name}: {known.title}" if known else name
    figures = [report.Figure(d.svg(themed=True), d.title) for d in drawings(rows, histories)]
    return report.Section(title, "\n\n".join([text, *notes]), tables=tables, figures=figures)


def page_of(
    title: str,
    rows: Sequence[Row],
    histories: Histories,
    *,
    first: Sequence[report.Section] = (),
    about: Mapping[str, str] | None = None,
    left: int = 0,
) -> str:
    """The whole page, ``about`` holding texts by experiment; ``InputError`` where there is nothing to show.

    ``left`` is the number of runs that are not shown, because they were stopped or failed.
    """
    if not rows:
        raise InputError("there is no finished run to report on; run something first, for example `equipoise demo`")
    names = sorted({str(r["experiment"]) for r in rows})
    texts = about or {}
    sections = [
        experiment_section(n, [r for r in rows if r["experiment"] == n], histories, texts.get(n, "")) for n in names
    ]
    count = f"Finished runs: {len(rows)}. Experiments: {len(names)}."
    count += f" Not finished, and not shown: {left}." if left else ""
    return report.page(title, [*first, *sections], subtitle=count, footer="Written by `equipoise`.")
