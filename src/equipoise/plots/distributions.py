"""How values are spread, and where points lie: histograms with fitted densities, clouds of points by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from equipoise.errors import InputError
from equipoise.plots.parts import legend, require
from equipoise.plots.series import Series
from equipoise.plots.style import PAPER, looks, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

__all__ = ["histogram", "scatter"]


@styled
def histogram(
    ax: Axes,
    samples: Mapping[str, ArrayLike],
    *,
    densities: Mapping[str, Series] | None = None,
    bins: int = 80,
    log: bool = False,
    span: tuple[float, float] | None = None,
    title: str = "",
    xlabel: str = "",
    order: Sequence[str] = (),
) -> Axes:
    """The density of each sample as an outline over its shade, in bins of one width for all, and curves over them.

    ``densities`` are curves (x, density) by name, in the looks after those of the samples. ``log`` shows the density in
    decades, from half of what one value in a bin gives; ``span`` is the range of the bins (by default from the smallest
    value to the largest).
    """
    from matplotlib.ticker import MaxNLocator

    require(samples)
    values = {name: np.asarray(given, dtype=float).ravel() for name, given in samples.items()}
    wrong = [name for name, one in values.items() if one.size == 0 or not np.isfinite(one).all()]
    if wrong:
        raise InputError(f"the sample '{wrong[0]}' is empty or has values that are not finite; leave it out")
    low, high = span or (min(one.min() for one in values.values()), max(one.max() for one in values.values()))
    edges = np.linspace(low, high, bins + 1) if high > low else np.linspace(low - 0.5, high + 0.5, bins + 1)
    for name, look in looks(values, order).items():
        height = np.histogram(values[name], edges)[0] / values[name].size / np.diff(edges)
        ax.stairs(height, edges, fill=True, color=look.color, alpha=0.16)
        ax.stairs(height, edges, color=look.color, linestyle=look.dashes, linewidth=1.4, label=name)
    fitted = densities or {}
    for name, look in looks(fitted, [*values, *fitted]).items():
        x = [float(v) for v in fitted[name].x]
        ax.plot(x, fitted[name].mean, color=look.color, linestyle=look.dashes, label=name)
    if log:
        ax.set_yscale("log")
        ax.set_ylim(bottom=0.5 / max(one.size for one in values.values()) / float(edges[1] - edges[0]))
    else:
        ax.set_ylim(bottom=0)
    ax.margins(x=0)
    spec, figure = ax.get_subplotspec(), ax.get_figure(root=True)
    columns = spec.get_gridspec().ncols if spec is not None else 1
    width = figure.get_size_inches()[0] / columns if figure is not None else 4.4
    ax.xaxis.set_major_locator(MaxNLocator(nbins=max(2, int(1.2 * width))))  # as many numbers as have room
    ax.set_title(title)
    ax.set_xlabel(xlabel)
    ax.set_ylabel("density")
    legend(ax)
    return ax


@styled
def scatter(ax: Axes, points: ArrayLike, labels: ArrayLike, *, names: Sequence[str] = ()) -> Axes:
    """Points (N, 2) by class (N whole numbers): a colour and a marker each, the class's name on its middle point.

    ``names`` are the classes' names; by default their numbers. The axes have no ticks: only who is near whom counts.
    """
    x, y = np.asarray(points, dtype=float), np.asarray(labels)
    if x.ndim != 2 or x.shape[1] != 2 or y.shape != x.shape[:1] or len(x) == 0:
        raise InputError(f"points must have the shape (N, 2) with a label each; got {x.shape} and {y.shape}")
    classes = [int(k) for k in np.unique(y)]
    told = {k: names[k] if k < len(names) else str(k) for k in classes}
    shown = looks([str(k) for k in range(max(classes) + 1)])
    for k in classes:
        look, mine = shown[str(k)], x[y == k]
        style = {"marker": look.marker, "markersize": 3.2, "linestyle": "none", "markeredgewidth": 0}
        ax.plot(mine[:, 0], mine[:, 1], color=look.color, alpha=0.75, label=told[k], **style)
    for k in classes:
        mine = x[y == k]
        middle = mine[np.abs(mine - np.median(mine, axis=0)).sum(1).argmin()]
        ax.annotate(told[k], tuple(middle), ha="center", va="center", fontsize=9.5, weight="bold", bbox=_plate())
    ax.set_xticks([])
    ax.set_yticks([])
    ax.grid(False)
    ax.set_aspect("equal", adjustable="datalim")
    for side in ("left", "bottom"):
        ax.spines[side].set_visible(False)
    return ax


def _plate() -> dict[str, object]:
    """What a name stands on, so that it reads over points."""
    return {"boxstyle": "round,pad=0.15", "facecolor": PAPER[0], "edgecolor": "none", "alpha": 0.8}
