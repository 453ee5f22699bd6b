"""Exhibits of how far GAIT-prop carries: by number format, by depth, by noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from equipoise import plots
from equipoise.papers.exhibits import Cell, Exhibit, Figure, Histories, Number, Row, Table
from equipoise.papers.gait.figures_compared import ORDER, label, layer_metrics, steady
from equipoise.papers.gait.studies import MODES, mode_of
from equipoise.papers.picking import fixed, named, per_preset, series, split
from equipoise.papers.tracing import traces

__all__ = ["depth", "hidden_layers", "noise", "precision"]


def hidden_layers(row: Row) -> int:
    """How many hidden layers the dense network of a run has."""
    return str(row.get("model")).partition(",")[0].count("-") - 1


def _degrees(values: Sequence[float]) -> Cell:
    """A mean angle; small ones to two digits."""
    if not values:
        return "undefined"
    mean = math.fsum(values) / len(values)
    return Number(mean, fixed(mean, 1) if mean >= 1 else fixed(mean, 2) if mean >= 0.01 else f"{mean:.0e}")


def _angles(rows: Sequence[Row], metric: str) -> list[float]:
    return [float(row[metric]) for row in rows if row.get(metric) is not None]


def _largest(rows: Sequence[Row]) -> list[float]:
    """The largest angle of a layer, for each run; none where a layer's is undefined.

    Rows of a CSV file have a column for every layer of the deepest network, so each looks at its own layers alone.
    """
    found = []
    for row in rows:
        layers = [row[name] for name in layer_metrics([row], "angle")[: hidden_layers(row) + 1]]
        if layers and None not in layers:
            found.append(max(float(value) for value in layers))
    return found


@per_preset
def precision(rows: Sequence[Row], histories: Histories, folder: Path) -> list[Exhibit]:
    """The first layer's angle and the largest, for each depth, form and format."""
    lines: list[list[Cell]] = []
    for hidden, deep in split(rows, hidden_layers).items():
        for mode, members in named(deep, mode_of, order=list(MODES)).items():
            first = layer_metrics([members[0]], "angle")[:1]
            lines.append([hidden, mode, *(_degrees(_angles(members, m)) for m in first), _degrees(_largest(members))])
    if not lines:
        return []
    heads = ["hidden layers", "form and format", "first layer, °", "largest of a layer, °"]
    caption = (
        "Angles to backpropagation on orthogonal weights, before any training. Where targets are carried, one or two "
        "units that lie within the distance of their kink are enough for large angles; differences have no kinks."
    )
    return [Table("Angles by depth, number format and form", heads, lines, caption)]


@per_preset
def depth(rows: Sequence[Row], histories: Histories, folder: Path) -> list[Exhibit]:
    """The mean angle of the hidden layers against the number of hidden layers, over the measured steps."""
    followed = traces(rows, folder)
    curves: dict[str, Any] = {}
    lines: list[list[Cell]] = []
    for name, members in _by_label(rows, label).items():
        by_depth = split(members, hidden_layers)
        values = {hidden: steady(runs, followed, "angle") for hidden, runs in by_depth.items()}
        values = {hidden: found for hidden, found in values.items() if found}
        if values:
            curves[name] = series(values)
        for hidden, runs in by_depth.items():
            tested = [100 * float(row["test_accuracy"]) for row in runs if row.get("test_accuracy") is not None]
            mean = math.fsum(tested) / len(tested) if tested else math.nan
            shown = Number(mean, fixed(mean, 1)) if tested else None
            lines.append([name, hidden, _degrees(values.get(hidden, [])), shown, len(runs)])
    if not lines:
        return []
    fig, ax = plots.figure()
    xlabel, ylabel = "hidden layers", "angle to backprop (degrees)"
    plots.learning_curves(ax, curves, xlabel=xlabel, ylabel=ylabel, order=ORDER)
    heads = ["condition", "hidden layers", "angle, °", "test accuracy, %", "seeds"]
    return [
        Figure("depth", "Mean angle of the hidden layers, over the measured steps", fig),
        Table("Angles by depth", heads, lines, "Over the hidden layers and all measured steps of the training."),
    ]


@per_preset
def noise(rows: Sequence[Row], histories: Histories, folder: Path) -> list[Exhibit]:
    """The mean angle of the hidden layers against the level of noise."""
    found: list[Exhibit] = []
    lines: list[list[Cell]] = []
    for hidden, deep in split(rows, hidden_layers).items():
        curves = {}
        for mode, members in _by_label(deep, mode_of).items():
            levels = split(members, lambda row: float(row.get("options.noise") or 0))
            values = {level: _angles(runs, "angle") for level, runs in levels.items()}
            lines += [[hidden, mode, Number(level, f"{level:g}"), _degrees(v)] for level, v in values.items()]
            drawn = {level: v for level, v in values.items() if level > 0 and v}
            if len(drawn) > 1:
                curves[mode] = series(drawn)
        if curves:
            fig, ax = plots.figure()
            xlabel, ylabel = "noise, relative to activity", "angle to backprop (degrees)"
            plots.learning_curves(ax, curves, xlabel=xlabel, ylabel=ylabel, order=list(MODES))
            ax.set_xscale("log")
            plots.reference_line(ax, 90, "orthogonal")
            title = f"{hidden} hidden layers: mean angle against noise between activity and target"
            found.append(Figure(f"noise-{hidden}", title, fig))
    if not lines:
        return []
    heads = ["hidden layers", "form", "noise", "angle, °"]
    caption = (
        "The noise is Gaussian, anew for each unit and sample; its standard deviation is given relative to the root "
        "mean square of the layer's activities. It enters the difference between target and activity."
    )
    return [Table("Angles by noise", heads, lines, caption), *found]


def _by_label(rows: Sequence[Row], role: Callable[[Row], str]) -> dict[str, list[Row]]:
    return {name: members for name, members in split(rows, role).items() if name}
