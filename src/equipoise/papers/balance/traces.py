"""Curves of the balance experiments from what their runs traced step by step, one series a part, over seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from equipoise import plots
from equipoise.papers.balance.networks import label_of
from equipoise.papers.exhibits import Row
from equipoise.papers.picking import named, split
from equipoise.papers.tracing import Traces, traced, traces
from equipoise.plots import Series

__all__ = [
    "Panel",
    "Traces",
    "above_zero",
    "by_network",
    "curves_of",
    "finals",
    "panel",
    "slug",
    "stack",
    "traced",
    "traces",
]

Groups = Mapping[str, Sequence[Row]]


def finals(rows: Iterable[Row], followed: Traces, metric: str) -> list[float]:
    """The metric at the last point that has it, for each run."""
    last = [[p[metric] for p in followed.get(str(row["hash"]), ()) if p.get(metric) is not None][-1:] for row in rows]
    return [float(value) for values in last for value in values]


def by_network(
    rows: Sequence[Row], role: Callable[[Row], str], order: Sequence[str]
) -> dict[str, dict[str, list[Row]]]:
    """Rows by network, and within it by the part that they play."""
    return {label: named(members, role, order=order) for label, members in split(rows, label_of).items()}


@dataclass(frozen=True)
class Panel:
    """One of several axes above one another: curves by name, and what a theory says of them.

    ``log`` asks for decades, which are drawn where the curves span one.
    """

    label: str
    curves: Mapping[str, Series]
    log: bool = False
    theory: Mapping[str, Series] = field(default_factory=dict)
    theory_label: str = ""

    @property
    def decades(self) -> bool:
        """Whether the y axis is logarithmic."""
        values = [v for one in self.curves.values() for v in one.mean if v > 0]
        return self.log and bool(values) and max(values) > 10 * min(values)


def panel(groups: Groups, followed: Traces, metric: str, label: str, *, log: bool = False) -> Panel:
    """The metric along training, a curve for each group that has it."""
    return Panel(label, curves_of(groups, followed, metric), log)


def curves_of(groups: Groups, followed: Traces, metric: str) -> dict[str, Series]:
    """The metric along training by group; groups without two points are left out."""
    found = {name: traced(rows, followed, metric) for name, rows in groups.items()}
    return {name: one for name, one in found.items() if len(one.x) > 1}


def stack(parts: Sequence[Panel], order: Sequence[str], *, xlabel: str = "step") -> Any:
    """A figure of the panels that have curves, over one x axis, with one legend; None where none has."""
    drawn = [one for one in parts if one.curves]
    if not drawn:
        return None
    fig, axes = plots.panels(len(drawn), height=1.9)
    for ax, one in zip(axes, drawn, strict=True):
        below = xlabel if ax is axes[-1] else ""
        theory = {"theory": one.theory, "theory_label": one.theory_label}
        curves = {name: above_zero(curve) for name, curve in one.curves.items()} if one.decades else one.curves
        plots.learning_curves(ax, curves, xlabel=below, ylabel=one.label, log=one.decades, order=order, **theory)
    plots.share_legend(fig)
    return fig


def above_zero(one: Series) -> Series:
    """The series for a logarithmic axis: no interval ends below a tenth of its mean, where it may be below 0."""
    low = [max(value, mean / 10) for value, mean in zip(one.low, one.mean, strict=True)] if one.low else one.low
    return replace(one, low=low)


def slug(text: str) -> str:
    """A name for a file."""
    kept = "".join(c if c.isalnum() else "-" for c in text.lower())
    return "-".join(part for part in kept.split("-") if part)
