"""The one look of every figure: rc parameters; for each series a colour, dashes, a marker and a hatch.

Colours differ in lightness as well as in hue and keep a contrast of 3 to 1 on white; each has a twin for dark
pages. The dashes, markers and hatches alone are enough to tell the series apart.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, ParamSpec, TypeVar

__all__ = ["LOOKS", "Look", "look", "looks", "style", "styled", "theme_css"]

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
Dashes = str | tuple[int, tuple[float, ...]]


@dataclass(frozen=True)
class Look:
    """How one series is drawn; ``dark`` replaces ``color`` on a dark page."""

    color: str
    dark: str
    dashes: Dashes
    marker: str
    hatch: str


LINES: tuple[Dashes, ...] = (
    "-",
    (0, (5.0, 1.8)),
    (0, (1.2, 1.4)),
    (0, (6.0, 1.6, 1.2, 1.6)),
    (0, (3.0, 1.4, 1.0, 1.4, 1.0, 1.4)),
    (0, (10.0, 1.6)),
    (0, (2.4, 1.2)),
    (0, (8.0, 1.4, 2.6, 1.4)),
    (0, (1.2, 3.0)),
    (0, (7.0, 1.4, 1.2, 1.4, 1.2, 1.4, 1.2, 1.4)),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", ">", "p")
HATCHES = ("", "////", "..", "\\\\\\\\", "xxxx", "----", "++++", "||||", "oo", "**")
# (on white, on dark); the first is the neutral of a baseline, the next five follow Okabe and Ito.
COLORS = (
    ("#333a45", "#d5dae1"),
    ("#0069a8", "#5cb8f0"),
    ("#c8500a", "#ff9350"),
    ("#00805c", "#35cf9f"),
    ("#a3478a", "#ec97cf"),
    ("#8f6a00", "#e8bd45"),
    ("#b3203f", "#ff8095"),
    ("#5b57c2", "#a8a4ff"),
    ("#1b8494", "#62d3dd"),
    ("#7a5236", "#d2a380"),
)
LOOKS = tuple(
    Look(color, dark, line, marker, hatch)
    for (color, dark), line, marker, hatch in zip(COLORS, LINES, MARKERS, HATCHES, strict=True)
)

# The neutrals (on white, on dark): text, secondary text and axes, grid lines, and the page behind.
INK = ("#1f242b", "#e4e8ee")
FAINT = ("#5c6672", "#9aa5b1")
GRID = ("#e3e7eb", "#2c333b")
PAPER = ("#ffffff", "#171b20")
THEME = {
    "ink": INK,
    "faint": FAINT,
    "grid": GRID,
    "paper": PAPER,
    **{f"{i}": pair for i, pair in enumerate(COLORS)},
}
# Narrower than matplotlib's own font nearly everywhere, so that text laid out with that never overflows.
FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


def look(index: int) -> Look:
    """The look of series ``index``: ten in all; later ones repeat the markers with another dash pattern."""
    if index < len(LOOKS):
        return LOOKS[index]
    dashes = LINES[(index + index // len(LOOKS)) % len(LINES)]
    return replace(LOOKS[index % len(LOOKS)], dashes=dashes)


def looks(names: Iterable[str], order: Sequence[str] = ()) -> dict[str, Look]:
    """A look for each name, by its place in ``order`` and, for others, by their place after it.

    Give every figure of a page the same ``order`` and a rule looks the same in all of them, also where some
    are absent.
    """
    known = list(dict.fromkeys(order))
    places = {name: i for i, name in enumerate(known)}
    for name in names:
        places.setdefault(name, len(places))
    return {name: look(places[name]) for name in names}


def style() -> AbstractContextManager[None]:
    """A context in which matplotlib draws in the house style; the user's own style returns after it."""
    import matplotlib

    return matplotlib.rc_context(_parameters())


def styled(draw: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Run a drawing function inside ``style()``."""

    @functools.wraps(draw)
    def inside(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        with style():
            return draw(*args, **kwargs)

    return inside


def theme_css() -> str:
    """The CSS variables (``--eq-ink``, ``--eq-0`` ...) of themed figures, for light and dark pages."""

    def variables(side: int) -> str:
        return " ".join(f"--eq-{name}: {pair[side]};" for name, pair in THEME.items())

    return (
        f":root {{ color-scheme: light dark; {variables(0)} }}\n"
        f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {variables(1)} }} }}\n"
    )


def _parameters() -> Any:
    return {
        "figure.facecolor": PAPER[0],
        "figure.dpi": 100,
        "savefig.dpi": 200,
        "savefig.facecolor": "auto",
        "svg.fonttype": "none",
        "svg.hashsalt": "equipoise",
        "font.family": ["sans-serif"],
        "font.sans-serif": ["DejaVu Sans"],
        "font.size": 10,
        "mathtext.fontset": "dejavusans",
        "text.color": INK[0],
        "axes.titlesize": 10.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.titlepad": 8,
        "axes.labelsize": 10,
        "axes.labelcolor": INK[0],
        "axes.labelpad": 5,
        "axes.edgecolor": FAINT[0],
        "axes.linewidth": 0.8,
        "axes.facecolor": "none",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.unicode_minus": True,
        "axes.formatter.use_mathtext": True,
        "grid.color": GRID[0],
        "grid.linewidth": 0.8,
        "xtick.color": FAINT[0],
        "ytick.color": FAINT[0],
        "xtick.labelcolor": INK[0],
        "ytick.labelcolor": INK[0],
        "xtick.labelsize": 9.5,
        "ytick.labelsize": 9.5,
        "xtick.major.size": 3,
        "ytick.major.size": 0,
        "ytick.minor.size": 0,
        "lines.linewidth": 1.8,
        "lines.markersize": 5.5,
        "lines.markeredgewidth": 0.8,
        "hatch.linewidth": 0.8,
        "legend.frameon": False,
        "legend.fontsize": 9.5,
        "legend.handlelength": 2.9,
        "legend.handletextpad": 0.6,
        "legend.columnspacing": 1.4,
        "legend.borderaxespad": 0.2,
        "legend.borderpad": 0.1,
        "legend.labelspacing": 0.35,
        "errorbar.capsize": 3,
        "image.cmap": "gray",
        "image.interpolation": "nearest",
    }
