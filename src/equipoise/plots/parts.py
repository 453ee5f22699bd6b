"""What several drawing functions share: the legend, a labelled line, the check for something to draw."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from typing import TYPE_CHECKING, Any

from equipoise.errors import InputError
from equipoise.plots.style import FAINT, INK, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["legend", "reference_line", "require", "share_legend"]


def legend(ax: Axes, handles: Sequence[Any] | None = None) -> None:
    """A legend above the axes, in as many columns as its longest entry allows; none for a single series.

    It starts at the figure's left edge when the axes has the figure to itself, else at its own; then also the figure
    grows with it, so that the axes keeps its height.
    """
    if handles is None:
        handles = ax.get_legend_handles_labels()[0]
    if len(handles) < 2:
        return
    figure = ax.get_figure(root=True)
    assert figure is not None, "an axes that is drawn on belongs to a figure"
    columns, rows = _columns([str(h.get_label()) for h in handles], figure.get_size_inches()[0])
    if figure.axes == [ax] and figure.get_constrained_layout():
        figure.set_figheight(figure.get_size_inches()[1] + 0.19 * max(0, rows - 3))
        figure.legend(handles=list(handles), loc="outside upper left", ncols=columns)
    else:
        ax.legend(handles=list(handles), loc="lower left", bbox_to_anchor=(0.0, 1.02), ncols=columns)


@styled
def share_legend(figure: Figure) -> None:
    """One legend above all panels in place of each panel's own: a name counts once."""
    handles: dict[str, Any] = {}
    for ax in figure.axes:
        for handle, name in zip(*ax.get_legend_handles_labels(), strict=True):
            handles.setdefault(name, handle)
        own = ax.get_legend()
        if own is not None:
            own.remove()
    if len(handles) > 1:
        columns, rows = _columns(list(handles), figure.get_size_inches()[0])
        figure.set_figheight(figure.get_size_inches()[1] + 0.19 * rows)
        figure.legend(handles=list(handles.values()), loc="outside upper left", ncols=columns)


def _columns(names: Sequence[str], width: float) -> tuple[int, int]:
    """Columns and rows of a legend over ``width`` inches.

    About 14 characters of this size fit an inch; the line and gaps of an entry take the room of seven.
    """
    columns = max(1, min(len(names), int(14 * width / (max(map(len, names)) + 7))))
    return columns, -(-len(names) // columns)


def reference_line(ax: Axes, y: float, text: str) -> None:
    """A thin dashed horizontal line with its meaning written on it."""
    ax.axhline(y, color=FAINT[0], linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    ax.annotate(
        text,
        (1.0, y),
        xycoords=("axes fraction", "data"),
        xytext=(0, 3),
        textcoords="offset points",
        ha="right",
        va="bottom",
        fontsize=8.5,
        color=INK[0],
    )


def require(given: Sized) -> None:
    """Refuse to draw nothing."""
    if len(given) == 0:
        raise InputError("there is nothing to draw: no series and no points were given")
