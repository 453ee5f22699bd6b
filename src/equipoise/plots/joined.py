"""The same draws under several conditions: a row for each condition, a line for each draw."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

from equipoise.plots.parts import legend, require
from equipoise.plots.style import FAINT, LOOKS, PAPER, styled

if TYPE_CHECKING:
    from collections.abc import Hashable

    from matplotlib.axes import Axes

__all__ = ["joined"]

Draw = TypeVar("Draw", bound="Hashable")


@styled
def joined(
    ax: Axes, rows: Mapping[str, Mapping[Draw, float | None]], *, floor: float = math.nan, xlabel: str = ""
) -> Axes:
    """A row per condition, from the top in the order given, each under its label; a dot for each draw's value.

    Thin lines join the dots of one draw in neighbouring rows; the bar is the row's mean. None is a run that diverged:
    an open cross at ``floor``, which it also counts as in the mean. Half an inch of height a row reads well.
    """
    from matplotlib.lines import Line2D

    require(rows)
    scored = {name: {d: floor if v is None else v for d, v in row.items()} for name, row in rows.items()}
    names = list(rows)
    ours, mean = LOOKS[1], LOOKS[2]
    for place, (above, below) in enumerate(pairwise(names)):
        for draw in scored[above].keys() & scored[below].keys():
            ax.plot(
                [scored[above][draw], scored[below][draw]], [place, place + 1], color=FAINT[0], linewidth=0.7, alpha=0.5
            )
    dots: dict[str, Any] = {"linestyle": "none", "color": ours.color, "markeredgecolor": PAPER[0]}
    crosses: dict[str, Any] = {"color": ours.color, "marker": "x", "markersize": 6, "markeredgewidth": 1.6}
    crosses["linestyle"] = "none"
    lost = False
    for place, name in enumerate(names):
        plate: dict[str, Any] = {
            "boxstyle": "square,pad=0.1",
            "facecolor": PAPER[0],
            "edgecolor": "none",
            "alpha": 0.85,
        }
        ax.annotate(
            name, (0, place - 0.22), xycoords=("axes fraction", "data"), va="bottom", fontsize=9.5, bbox=plate, zorder=5
        )
        held = [v for v in rows[name].values() if v is not None]
        gone = len(rows[name]) - len(held)
        ax.plot(held, [place] * len(held), marker=ours.marker, markersize=5, zorder=3, **dots)
        ax.plot([floor] * gone, [place] * gone, zorder=3, **crosses)
        lost = lost or gone > 0
        middle = sum(scored[name].values()) / len(scored[name])
        ax.plot([middle] * 2, [place - 0.17, place + 0.17], color=mean.color, linewidth=2.6, zorder=4)
    ax.set_yticks([])
    ax.set_ylim(len(names) - 0.6, -0.7)
    ax.grid(True, axis="x")
    ax.grid(False, axis="y")
    ax.spines["left"].set_visible(False)
    ax.set_xlabel(xlabel)
    keys = [
        Line2D([], [], marker=ours.marker, label="a draw", **dots),
        Line2D([], [], color=mean.color, linewidth=2.6, label="mean"),
        *([Line2D([], [], label="diverged", **crosses)] if lost else []),
    ]
    legend(ax, keys)
    return ax
