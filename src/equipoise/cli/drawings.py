"""The figures of an experiment that brings none of its own: accuracy over epochs, angles per layer, time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from equipoise import plots, report
from equipoise.papers.exhibits import Figure, Histories, Row

__all__ = ["drawings", "svg", "variants"]

MOST = 16  # variants in one figure; of more, tables tell more


def svg(figure: Figure, *, themed: bool) -> str:
    """The figure as an ``<svg>`` element: for a page (``themed``), or to stand alone."""
    return plots.svg(figure.figure, title=figure.title, themed=themed)


def variants(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by what a curve stands for: the rule, and where they differ the model, the data and the settings."""
    telling = [k for k in ("rule", "model", "data") if k == "rule" or len({r.get(k) for r in rows}) > 1]
    held = {str(row["hash"]): row for row in rows}
    found: dict[str, list[Row]] = {}
    for one in report.group(rows, "seconds"):
        members = [held[name] for name in one.hashes]
        words = [*(str(members[0].get(k)) for k in telling), one.settings]
        found[", ".join(filter(None, words))] = members
    return found


def drawings(rows: Sequence[Row], histories: Histories) -> list[Figure]:
    """Accuracy over epochs, angles per layer, seconds: each where there is something to show, not too much of it."""
    found = variants(rows)
    if len(found) > MOST:
        return []
    order = tuple(found)
    curves = {
        name: report.curve([histories[str(r["hash"])] for r in members if str(r["hash"]) in histories], "test_accuracy")
        for name, members in found.items()
    }
    drawn = []
    if any(len(c.x) > 1 for c in curves.values()):
        shown = {name: c for name, c in curves.items() if len(c.x)}
        bands = "; bands: 95 % interval over seeds" if any(len(m) > 1 for m in found.values()) else ""
        title = f"Test accuracy after each epoch{bands}"
        options = {"ylabel": "test accuracy", "percent": True, "order": order}
        drawn.append(_draw("accuracy", title, plots.learning_curves, shown, **options))
    layers = {name: report.layers(members) for name, members in found.items()}
    layers = {name: s for name, s in layers.items() if len(s.x) and max(s.mean) > 0.01}
    if layers:
        title = "Angle between each layer's update and backprop's, after training; layers by their names in the model"
        drawn.append(_draw("angles", title, plots.angles, layers, order=order))
    seconds = {n: plots.Series([""], [fmean(float(r["seconds"]) for r in m)]) for n, m in found.items()}
    title = "Seconds of training for a run, mean"
    return [*drawn, _draw("seconds", title, plots.bars, seconds, ylabel="seconds", order=order)]


def _draw(
    name: str, title: str, draw: Callable[..., Any], series: Mapping[str, plots.Series], **options: Any
) -> Figure:
    fig, ax = plots.figure()
    draw(ax, series, **options)
    return Figure(name, title, fig)
