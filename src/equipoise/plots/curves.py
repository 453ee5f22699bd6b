"""Curves over training, and estimates beside the published values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from equipoise.plots.parts import legend, require
from equipoise.plots.series import Point, Series
from equipoise.plots.style import LOOKS, PAPER, looks, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["estimates", "fitted_curves", "learning_curves"]

MARKS = 7


@styled
def learning_curves(
    ax: Axes,
    series: Mapping[str, Series],
    *,
    xlabel: str = "epoch",
    ylabel: str = "",
    percent: bool = False,
    log: bool = False,
    published: Mapping[str, Mapping[float, float]] | None = None,
    theory: Mapping[str, Series] | None = None,
    theory_label: str = "theory",
    order: Sequence[str] = (),
) -> Axes:
    """A mean line per series, its interval shaded, told apart by dashes and markers too.

    ``percent`` shows fractions as per cent, ``log`` the y axis in decades; ``order`` fixes the looks. ``published`` has
    values {x: y} of a paper by the name of the series that they belong to, drawn as open diamonds. ``theory`` has what
    an equation says of a series, drawn as open circles in its colour; they share the legend's ``theory_label``.
    """
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    require(series)
    for place, (name, look) in enumerate(looks(series, order).items()):
        one = series[name]
        x = [float(v) for v in one.x]
        if one.has_interval:
            ax.fill_between(x, one.low, one.high, color=look.color, alpha=0.16, linewidth=0)
        step = max(1, math.ceil(len(x) / MARKS))
        ax.plot(
            x,
            one.mean,
            color=look.color,
            linestyle=look.dashes,
            marker=look.marker,
            markeredgecolor=PAPER[0],
            # Neighbouring curves carry their markers at different x, so that crossing ones stay readable.
            markevery=(place * step // len(series), step),
            label=name,
        )
    for name, points in (published or {}).items():
        color = looks([name], order or list(series))[name].color
        ax.plot(list(points), list(points.values()), label=f"{name}, published", zorder=3, **_open_diamond(color))
    for place, (name, one) in enumerate((theory or {}).items()):
        color, step = looks([name], order or list(series))[name].color, max(1, math.ceil(len(one.x) / (2 * MARKS)))
        circles = {"marker": "o", "markersize": 6.5, "markerfacecolor": "none", "linestyle": "none"}
        label = theory_label if place == 0 else f"_{theory_label}"
        ax.plot([float(v) for v in one.x], one.mean, color=color, markevery=step, zorder=3, label=label, **circles)
    if all(float(v).is_integer() for one in series.values() for v in one.x):
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    if log:
        ax.set_yscale("log")
    if percent:
        if all(0 <= v <= 1 for one in series.values() for v in one.mean):  # an interval may go beyond what can be
            low, high = ax.get_ylim()
            ax.set_ylim(max(low, -0.02), min(high, 1.02))
        ax.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    ax.margins(x=0.02)
    legend(ax)
    return ax


@styled
def fitted_curves(
    ax: Axes,
    series: Mapping[str, Series],
    fits: Mapping[str, Series],
    *,
    xlabel: str = "epoch",
    ylabel: str = "",
    order: Sequence[str] = (),
) -> Axes:
    """Measured means as markers, and through each the curve that was fitted to it; fractions shown as per cent."""
    from matplotlib.ticker import PercentFormatter

    require(series)
    for name, look in looks(series, order).items():
        one = series[name]
        dots = {"marker": look.marker, "markersize": 4.0, "markeredgewidth": 0, "linestyle": "none", "alpha": 0.7}
        ax.plot([float(v) for v in one.x], one.mean, color=look.color, label=name, **dots)
        if name in fits:
            x = [float(v) for v in fits[name].x]
            ax.plot(x, fits[name].mean, color=look.color, linestyle=look.dashes, linewidth=1.4)
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    ax.margins(x=0.02)
    legend(ax)
    return ax


@styled
def estimates(
    ax: Axes, points: Sequence[Point], *, xlabel: str = "", percent: bool = False, level: float = 0.95
) -> Axes:
    """One row per point: our mean with its interval, the published value as an open diamond with its sd.

    Rows run from the top in the order given, each under its label: half an inch of height a row reads well.
    ``percent`` shows fractions as per cent.
    """
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    require(points)
    ours, theirs = LOOKS[1], LOOKS[2]
    lift = 0.12 if any(p.published is not None for p in points) else 0.0
    for row, point in enumerate(points):
        ax.annotate(point.label, (0, row - 0.22), xycoords=("axes fraction", "data"), va="bottom", fontsize=9.5)
        if math.isfinite(point.low):
            ax.plot([point.low, point.high], [row + 0.08 - lift] * 2, color=ours.color, linewidth=2.2)
        ax.plot([point.mean], [row + 0.08 - lift], color=ours.color, marker="o", markersize=6.5, linestyle="none")
        if point.published is None:
            continue
        if point.published_sd is not None:
            ends = [point.published - point.published_sd, point.published + point.published_sd]
            ax.plot(ends, [row + 0.08 + lift] * 2, color=theirs.color, linewidth=1.2, linestyle=(0, (2, 1.2)))
        ax.plot([point.published], [row + 0.08 + lift], **_open_diamond(theirs.color))
    ax.set_yticks([])
    ax.set_ylim(len(points) - 0.65, -0.6)
    ax.grid(True, axis="x")
    ax.grid(False, axis="y")
    ax.spines["left"].set_visible(False)
    if percent:
        ax.xaxis.set_major_locator(MaxNLocator(nbins=5))  # "97.5 %" is wide
        ax.xaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    ax.set_xlabel(xlabel)
    legend(ax, _keys(points, level))
    return ax


def _open_diamond(color: str) -> dict[str, Any]:
    return {
        "color": color,
        "marker": "D",
        "markersize": 6.5,
        "markerfacecolor": PAPER[0],
        "markeredgewidth": 1.6,
        "linestyle": "none",
    }


def _keys(points: Sequence[Point], level: float) -> list[Any]:
    from matplotlib.lines import Line2D

    ours, theirs = LOOKS[1], LOOKS[2]
    interval = any(math.isfinite(p.low) for p in points)
    label = f"ours, {level * 100:g} % interval" if interval else "ours"
    keys = [Line2D([], [], color=ours.color, marker="o", linewidth=2.2 if interval else 0, label=label)]
    if any(p.published is not None for p in points):
        spread = any(p.published_sd is not None for p in points)
        keys.append(Line2D([], [], label="published, ± sd" if spread else "published", **_open_diamond(theirs.color)))
    return keys
