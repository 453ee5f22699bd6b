"""Exhibits of PEPITA that follow training: alignment and norms (Figures 3, 9), the trace, slowness (Figure 8)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from equipoise import plots
from equipoise.errors import InputError
from equipoise.measure.slowness import Slowness
from equipoise.measure.slowness import slowness as fit
from equipoise.papers.catalogue import published
from equipoise.papers.exhibits import Cell, Exhibit, Figure, Histories, Number, Row, Table
from equipoise.papers.pepita.figures_accuracy import ORDER, by_column, heading
from equipoise.papers.picking import bands, curve, fixed, named, per_preset
from equipoise.plots import Series

__all__ = ["dynamics", "linear", "slowness"]

DEGREES = "product and F (degrees)"
FIRST = 59  # epochs that slowness is fitted to


def _norms(rows: Sequence[Row], histories: Histories) -> list[str]:
    """The names of the norms of the layers, from input to output."""
    epochs = histories.get(str(rows[0].get("hash")), ()) if rows else ()
    return [name for name in (epochs[-1] if epochs else {}) if name.startswith("norm/")]


def _panels(
    name: str, title: str, rows: Sequence[Row], histories: Histories, parts: Sequence[tuple[str, Sequence[str]]]
) -> list[Exhibit]:
    """A panel for each (label, metrics) of ``parts`` that the runs have, one above the other over their epochs."""
    drawn: list[tuple[str, dict[str, Series]]] = []
    for label, metrics in parts:
        series = {metric: curve(rows, histories, metric) for metric in metrics}
        series = {metric: one for metric, one in series.items() if len(one.x) > 1}
        if series:
            drawn.append((label, series))
    if len(drawn) < 2:  # accuracy alone is shown elsewhere
        return []
    fig, axes = plots.panels(len(drawn))
    for ax, (label, series) in zip(axes, drawn, strict=True):
        told = {f"layer {k + 1}" if len(series) > 1 else metric: one for k, (metric, one) in enumerate(series.items())}
        last = ax is axes[-1]
        plots.learning_curves(ax, told, xlabel="epoch" * last, ylabel=label, percent="accuracy" in label)
        if label == DEGREES:
            plots.reference_line(ax, 90, "orthogonal")
    return [Figure(name, f"{title}{bands({name: rows})}", fig)]


def _lengths(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Runs by what differs in their settings, the number of epochs alone in most cases."""
    return named(rows, lambda row: f"{row.get('epochs')} epochs")


@per_preset
def dynamics(rows: Sequence[Row], histories: Histories, folder: Path) -> list[Exhibit]:
    """Accuracy, the angle between the product of the weights and F, and the first layer's norm (Figures 3 and 9)."""
    found: list[Exhibit] = []
    for name, members in _lengths(rows).items():
        parts = [("test accuracy", ["test_accuracy"]), (DEGREES, ["product_angle"])]
        parts.append(("norm of $W_1$", _norms(members, histories)[:1]))
        title = f"PEPITA over {name}: accuracy, angle between the product of the weights and F, norm of the first layer"
        found += _panels(_slug(name), title, members, histories, parts)
    return found


@per_preset
def linear(rows: Sequence[Row], histories: Histories, folder: Path) -> list[Exhibit]:
    """The trace tr(F W A) of a linear network, the angle between W A and F, and both norms (appendix E)."""
    found: list[Exhibit] = []
    for name, members in _lengths(rows).items():
        parts = [("tr(F W A)", ["product_trace"]), (DEGREES, ["product_angle"])]
        parts.append(("norms", _norms(members, histories)))
        title = f"A linear network over {name}: the trace of appendix E, the angle between W A and F, and the norms"
        found += _panels(_slug(name), title, members, histories, parts)
    return found


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


@per_preset
def slowness(rows: Sequence[Row], histories: Histories, folder: Path) -> list[Exhibit]:
    """Plateau curves A x / (s + x) through the mean learning curves, and s beside the paper's (Figure 8, Table 3)."""
    figures: list[Exhibit] = []
    lines: list[list[Cell]] = []
    numbers = [number for number in published() if number.metric == "slowness"]
    for column, groups in by_column(rows).items():
        measured, fitted = {}, {}
        for rule, members in groups.items():
            mean = curve(members, histories, "test_accuracy")
            fits = _fit(mean, members[0])
            if fits is None:
                continue
            epochs = list(range(len(fits.data)))
            measured[rule] = Series(epochs, list(fits.data))
            fine = [k / 10 for k in range(10 * len(epochs) - 9)]
            fitted[rule] = Series(fine, fits.curve(fine))
            theirs = next((number.value for number in numbers if number.matches(members[0])), None)
            whole = len(epochs) == FIRST + 1
            gap = fits.slowness - theirs if theirs is not None and whole else None
            lines.append(
                [
                    heading(column),
                    rule,
                    Number(fits.slowness, fixed(fits.slowness, 3)),
                    None if theirs is None else Number(theirs, fixed(theirs, 3)),
                    None if gap is None else Number(gap, fixed(gap, 3, sign=True)),
                    Number(100 * fits.maximum, fixed(100 * fits.maximum, 2)),
                    len(epochs) - 1,
                    len(members),
                ]
            )
        if measured:
            fig, ax = plots.figure()
            plots.fitted_curves(ax, measured, fitted, ylabel="test accuracy", order=ORDER)
            figures.append(Figure(column, f"{heading(column)}: mean test accuracy, and the fitted plateau curves", fig))
    if not lines:
        return []
    table = Table(
        "Slowness in epochs, as in Table 3 of the paper",
        ["task", "rule", "ours", "paper", "difference", "maximum, %", "epochs fitted", "seeds"],
        lines,
        f"Fitted, as in the paper, to the mean over seeds of the first {FIRST} epochs, with chance at epoch 0 and the "
        "maximum fixed at the largest accuracy among them. A difference is given where all of these were run.",
    )
    return [table, *figures]


def _fit(mean: Series, row: Row) -> Slowness | None:
    """The plateau curve of a mean learning curve; None where there are gaps, or nothing to fit."""
    classes = re.search(r"-(\d+)(?:,|$)", str(row.get("model")))
    if classes is None or list(mean.x) != list(range(1, len(mean.x) + 1)):
        return None
    try:
        return fit(list(mean.mean), 1 / int(classes[1]), epochs=FIRST)
    except InputError:
        return None
