"""Figures without global state, and their way into an HTML page as inline SVG."""

from __future__ import annotations

import hashlib
import html
import io
import re
from typing import TYPE_CHECKING

from equipoise.errors import InputError
from equipoise.plots.style import FONTS, THEME, style, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["figure", "panels", "svg"]

DROPPED = re.compile(r"<metadata>.*?</metadata>|<!--.*?-->|<defs>\s*<style.*?</style>\s*</defs>", re.DOTALL)
REFERENCE = re.compile(r'(?:url\(|href=")#([^")]+)')
IDENTITY = re.compile(r' id="([^"]*)"')
HEX = re.compile(r"#[0-9a-f]{6}\b")


@styled
def figure(width: float = 4.4, height: float = 3.0) -> tuple[Figure, Axes]:
    """A figure of ``width`` by ``height`` inches with one axes, in the house style, known to nobody else.

    It does not pass through pyplot, so it needs no closing. The default size reads well at 340 px wide.
    """
    from matplotlib.figure import Figure

    fig = Figure(figsize=(width, height), layout="constrained")
    return fig, fig.add_subplot()


@styled
def panels(count: int, *, columns: int = 1, width: float = 4.4, height: float = 2.0) -> tuple[Figure, list[Axes]]:
    """A figure of ``count`` axes, filled row by row; ``width`` is the whole figure's, ``height`` that of one row.

    A single column shares its x axis, as panels above one another do that show one training.
    """
    from matplotlib.figure import Figure

    rows = -(-count // columns)
    fig = Figure(figsize=(width, height * rows), layout="constrained")
    axes = fig.subplots(rows, columns, squeeze=False, sharex=columns == 1).ravel().tolist()
    for spare in axes[count:]:
        spare.remove()
    return fig, axes[:count]


def svg(fig: Figure, *, title: str, themed: bool = True) -> str:
    """The figure as one ``<svg>`` element to put inside a page: same figure, same text.

    It fills the width that it is given, names nothing outside itself, keeps its text as text and prefixes its
    ids, which several figures on one page would otherwise share. ``title`` is what a screen reader says. With
    ``themed`` its colours are CSS variables (``theme_css()``) with the light ones as fallback; without, it is
    plain SVG for any viewer.
    """
    if not title.strip():
        raise InputError("a figure needs a title: screen readers say it in place of the picture")
    text = DROPPED.sub("", _raw(fig))
    text = text[text.index("<svg") :]
    opening, body = text[: text.index(">") + 1], text[text.index(">") + 1 :]
    box = re.search(r'viewBox="([^"]+)"', opening)
    assert box is not None, "matplotlib writes a viewBox"
    body = re.sub(r"\s*\n\s*", " ", body.replace("xlink:href", "href"))
    body = re.sub(r"font-family: [^;\"]+;? ?", "", body)
    prefix = "eq-" + hashlib.sha256((title + body).encode()).hexdigest()[:10]
    body = _prefixed(body, prefix)
    if themed:
        body = _themed(body)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" id="{prefix}" viewBox="{box[1]}" width="100%" role="img" '
        f'aria-label="{html.escape(title)}" style="font-family: {FONTS}; stroke-linejoin: round; '
        f'stroke-linecap: butt">{body.strip()}'
    )


def _raw(fig: Figure) -> str:
    """What matplotlib writes, with nothing in it that depends on the day."""
    file = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with style():
        fig.savefig(file, format="svg", transparent=True, metadata=nothing)
    return file.getvalue()


def _prefixed(body: str, prefix: str) -> str:
    """Drop the ids that nothing refers to; put the prefix before the others, also where they are used."""
    used = set(REFERENCE.findall(body))
    body = IDENTITY.sub(lambda m: f' id="{prefix}-{m[1]}"' if m[1] in used else "", body)
    return REFERENCE.sub(lambda m: m[0].replace("#", f"#{prefix}-"), body)


def _themed(body: str) -> str:
    """Colours of the house style as CSS variables, wherever a style attribute names one.

    Matplotlib writes the ground of a hatch as a bare attribute, in which a variable would not count.
    """
    body = re.sub(r' (fill|stroke)="(#[0-9a-f]{6})"', r' style="\1: \2"', body)
    names = {pair[0]: name for name, pair in THEME.items()}

    def swap(match: re.Match[str]) -> str:
        return HEX.sub(lambda m: f"var(--eq-{names[m[0]]}, {m[0]})" if m[0] in names else m[0], match[0])

    return re.sub(r'style="[^"]*"', swap, body)
