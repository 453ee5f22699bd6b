"""Numbers by name (per layer, per rule), and grids of pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from equipoise.errors import InputError
from equipoise.plots.parts import legend, reference_line, require
from equipoise.plots.series import Series
from equipoise.plots.style import PAPER, looks, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from torch import Tensor

__all__ = ["angles", "bars", "images"]


@styled
def angles(
    ax: Axes,
    series: Mapping[str, Series],
    *,
    ylabel: str = "angle to backprop (degrees)",
    joined: bool = True,
    order: Sequence[str] = (),
) -> Axes:
    """Degrees per layer (``x`` holds the layers' names) for each rule, from input to output.

    90 degrees, where an update no longer follows the gradient, is marked. A rule without a layer skips it. Points are
    ``joined`` unless what stands in ``x`` has no order, as networks have none.
    """
    require(series)
    names = _groups(series)
    spread = min(0.09, 0.5 / len(series))
    highest, drawn = 90.0, []
    for place, (name, look) in enumerate(looks(series, order).items()):
        one = series[name]
        x = [names.index(str(v)) + (place - (len(series) - 1) / 2) * spread for v in one.x]
        drawn += ax.plot(
            x,
            one.mean,
            color=look.color,
            linestyle=look.dashes if joined else "none",
            marker=look.marker,
            markersize=6.5,
            markeredgecolor=PAPER[0],
            linewidth=1.3,
            label=name,
        )
        _whiskers(ax, x, one, look.color)
        highest = max([highest, *(v for v in (*one.mean, *one.high) if math.isfinite(v))])
    top = min(180.0, highest + 12.0)
    ax.set_ylim(-3, top)
    ax.set_yticks([v for v in range(0, 181, 30) if v <= top])
    reference_line(ax, 90, "no better than chance")
    ax.set_xticks(range(len(names)), names)
    ax.set_xlim(-0.5, len(names) - 0.5)
    ax.set_ylabel(ylabel)
    legend(ax, drawn)
    return ax


@styled
def bars(
    ax: Axes,
    series: Mapping[str, Series],
    *,
    xlabel: str = "",
    ylabel: str = "",
    percent: bool = False,
    order: Sequence[str] = (),
) -> Axes:
    """Grouped bars with intervals: a group per name in ``x``, a bar per series, told apart by hatch too.

    ``percent`` shows fractions as per cent.
    """
    from matplotlib.ticker import PercentFormatter

    require(series)
    names = _groups(series)
    width = 0.8 / len(series)
    for place, (name, look) in enumerate(looks(series, order).items()):
        one = series[name]
        x = [names.index(str(v)) + (place - (len(series) - 1) / 2) * width for v in one.x]
        ax.bar(
            x,
            list(one.mean),
            width * 0.92,
            color=look.color,
            hatch=look.hatch,
            edgecolor=PAPER[0],
            linewidth=0,
            label=name,
        )
        _whiskers(ax, x, one, "#808890")
    ax.set_xticks(range(len(names)), names)
    ax.tick_params(axis="x", length=0)
    if percent:
        ax.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    legend(ax)
    return ax


@styled
def images(ax: Axes, pictures: Tensor, *, columns: int | None = None, labels: Sequence[str] = ()) -> Axes:
    """Pictures (N, C, H, W), uint8 or floats in [0, 1], grey or colour, side by side with a gap between them.

    ``labels`` are written under the pictures.
    """
    if pictures.ndim != 4 or pictures.shape[1] not in (1, 3) or pictures.shape[0] == 0:
        raise InputError(f"pictures must have the shape (N, 1 or 3, H, W) with N > 0; got {tuple(pictures.shape)}")
    if labels and len(labels) != len(pictures):
        raise InputError(f"{len(pictures)} pictures need as many labels; got {len(labels)}")
    array = pictures.detach().cpu().numpy()
    if array.dtype == np.uint8:
        array = array / np.float32(255)
    n, _, height, width = array.shape
    across = min(n, columns or math.ceil(math.sqrt(n * 1.6)))
    rows = math.ceil(n / across)
    gap = max(1, round(width / 14))
    below = gap if not labels else max(gap, round(height * 0.36))
    sheet = np.zeros((rows * (height + below), across * (width + gap), 4), dtype=np.float32)
    for i, picture in enumerate(array.clip(0, 1)):
        top, left = (i // across) * (height + below), (i % across) * (width + gap)
        sheet[top : top + height, left : left + width, :3] = picture.transpose(1, 2, 0)
        sheet[top : top + height, left : left + width, 3] = 1
        if labels:
            middle = left + (width - 1) / 2
            ax.text(middle, top + height + below * 0.1, labels[i], ha="center", va="top", fontsize=8.5)
    ax.imshow(sheet)
    ax.set_axis_off()
    return ax


def _groups(series: Mapping[str, Series]) -> list[str]:
    """Every name in x, in order of first appearance."""
    return list(dict.fromkeys(str(v) for one in series.values() for v in one.x))


def _whiskers(ax: Axes, x: Sequence[float], one: Series, color: str) -> None:
    """The interval's ends above and below each mean."""
    if one.has_interval:
        mean = np.asarray(one.mean, dtype=float)
        reach = np.abs(np.stack([mean - np.asarray(one.low), np.asarray(one.high) - mean]))
        ax.errorbar(x, mean, yerr=reach, linestyle="none", color=color, elinewidth=1.4)
