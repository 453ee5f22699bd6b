"""The figures that every experiment has: accuracy over epochs, angles per layer, time."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from equipoise import plots, report
from equipoise.papers.exhibits import Figure, Histories, Row

__all__ = ["drawings", "svg", "variants"]

Variants = Mapping[str, Sequence[Row]]


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
    """An experiment's figures, each where there is something to show.

    More variants than there are looks are drawn a figure for each data set and model; time then has them as groups.
    """
    whole = variants(rows)
    if len(whole) <= len(plots.LOOKS):
        return [*_pictures(whole, histories), _seconds({"": whole})]
    parts = {key: variants(members) for key, members in _by_task(rows).items()}
    order = tuple(dict.fromkeys(name for part in parts.values() for name in part))
    drawn = [figure for key, part in parts.items() for figure in _pictures(part, histories, about=key, order=order)]
    return [*drawn, _seconds(parts)]


def _by_task(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows by data set and kind of model, as "mnist, mlp"; by the model's whole text where that is not enough."""
    kinds = {(str(r.get("data")), str(r.get("model"))) for r in rows}
    short = {(d, m): f"{d}, {m.partition(':')[0]}" for d, m in kinds}
    names = short if len(set(short.values())) == len(kinds) else {(d, m): f"{d}, {m}" for d, m in kinds}
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(names[str(row.get("data")), str(row.get("model"))], []).append(row)
    return dict(sorted(found.items()))


def _pictures(whole: Variants, histories: Histories, *, about: str = "", order: Sequence[str] = ()) -> list[Figure]:
    """Accuracy over epochs, and angles per layer."""
    order = tuple(order) or tuple(whole)
    curves = {
        name: report.curve([histories[str(r["hash"])] for r in members if str(r["hash"]) in histories], "test_accuracy")
        for name, members in whole.items()
    }
    drawn = []
    if any(len(c.x) > 1 for c in curves.values()):
        shown = {name: c for name, c in curves.items() if len(c.x)}
        bands = "; bands: 95 % interval over seeds" if any(len(m) > 1 for m in whole.values()) else ""
        title = f"Test accuracy after each epoch{bands}"
        options = {"ylabel": "test accuracy", "percent": True, "order": order}
        drawn.append(_draw("accuracy", title, about, plots.learning_curves, shown, **options))
    layers = {name: report.layers(members) for name, members in whole.items()}
    layers = {name: s for name, s in layers.items() if len(s.x) and max(s.mean) > 0.01}
    if layers:
        title = "Angle between each layer's update and backprop's, after training; layers by their names in the model"
        drawn.append(_draw("angles", title, about, plots.angles, layers, order=order))
    return drawn


def _seconds(parts: Mapping[str, Variants]) -> Figure:
    names = list(dict.fromkeys(name for part in parts.values() for name in part))
    series = {}
    for name in names:
        means = {key: fmean(float(r["seconds"]) for r in part[name]) for key, part in parts.items() if name in part}
        series[name] = plots.Series(tuple(means), list(means.values()))
    return _draw(
        "seconds", "Seconds of training for a run, mean", "", plots.bars, series, ylabel="seconds", order=names
    )


def _draw(
    name: str, title: str, about: str, draw: Callable[..., Any], series: Mapping[str, plots.Series], **options: Any
) -> Figure:
    fig, ax = plots.figure()
    draw(ax, series, **options)
    slug = re.sub(r"[^a-z0-9]+", "-", about.lower()).strip("-")
    return Figure("-".join(filter(None, (name, slug))), ": ".join(filter(None, (about, title))), fig)
