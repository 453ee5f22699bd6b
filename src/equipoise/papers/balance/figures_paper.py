"""The figures of the balance paper: training with and without a regulariser, from a balanced start, and balancing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from equipoise import plots
from equipoise.papers.balance.networks import label_of
from equipoise.papers.balance.traces import (
    Panel,
    Traces,
    above_zero,
    by_network,
    curves_of,
    finals,
    panel,
    slug,
    stack,
    traces,
)
from equipoise.papers.exhibits import Cell, Exhibit, Figure, Histories, Number, Row, Table
from equipoise.papers.picking import bands, named, per_preset, split
from equipoise.plots import Series

__all__ = ["ORDER", "convergence", "penalty_of", "regularised", "unbalanced"]

NONE, L1, L2, BOTH = "no regulariser", "L1", "L2", "L1 and L2"
ORDER = (NONE, L2, L1, BOTH)
LAW = "law of SGD"
MEAN = "mean ± standard deviation"


def penalty_of(row: Row) -> str:
    """The regulariser of a run, by its name in a figure."""
    powers = {key.removeprefix("decay.") for key, value in row.items() if key.startswith("decay.") and value}
    return {frozenset(): NONE, frozenset({"l1"}): L1, frozenset({"l2"}): L2}.get(frozenset(powers), BOTH)


@per_preset
def regularised(rows: Sequence[Row], histories: Histories, folder: Path) -> list[Exhibit]:
    """Deficit, loss and norm along training, without a regulariser and with one (Figure 3): L2, then L1."""
    followed = traces(rows, folder)
    found: list[Exhibit] = []
    lines: list[list[Cell]] = []
    for label, groups in by_network(rows, penalty_of, ORDER).items():
        for power, cost, suffix in ((L2, "w²", ""), (L1, "|w|", "_l1")):
            pair = {name: rows for name, rows in groups.items() if name.partition(",")[0] in (NONE, power)}
            norm = "Frobenius norm" if power == L2 else "sum of |w|"
            foretold = {} if suffix else curves_of(pair, followed, "law")
            measured = curves_of(pair, followed, f"deficit{suffix}")
            parts = [
                Panel("balance deficit", measured, log=True, theory=foretold, theory_label=LAW),
                panel(pair, followed, "loss", "training loss"),
                panel(pair, followed, f"norm{suffix}", norm),
            ]
            figure = stack(parts, ORDER)
            if figure is not None and len(pair) > 1:
                title = f"{label}: balance deficit under the cost {cost}, training loss and norm{bands(pair)}"
                found.append(Figure(f"{slug(label)}-{'l1' if suffix else 'l2'}", title, figure))
        lines += [_ending(label, name, members, followed) for name, members in groups.items()]
    return found + _endings(lines)


def _ending(label: str, name: str, rows: Sequence[Row], followed: Traces) -> list[Cell]:
    cells: list[Cell] = [label, name]
    for metric in ("deficit", "share", "deficit_l1", "share_l1", "norm", "loss"):
        values = finals(rows, followed, metric)
        cells.append(Number(sum(values) / len(values)) if values else None)
    return [*cells, len(rows)]


def _endings(lines: list[list[Cell]]) -> list[Exhibit]:
    if not lines:
        return []
    heads = ["network", "regulariser", "deficit", "share", "deficit of |w|", "share of |w|", "norm", "loss", "seeds"]
    caption = (
        "Means over seeds after the last step. The deficit is the paper's, the sum over hidden units of "
        "(IN \u2212 OUT)² with squared weights; the share is the sum of |IN \u2212 OUT| over the sum of IN + OUT, "
        "which has no scale."
    )
    return [Table("How far from balance training ends", heads, lines, caption)]


def _rate(row: Row) -> str:
    return f"learning rate {float(row['lr']):g}"


@per_preset
def unbalanced(rows: Sequence[Row], histories: Histories, folder: Path) -> list[Exhibit]:
    """Deficit, loss and norm along training from a balanced start, with what the law of SGD foretells (Figure 4)."""
    followed = traces(rows, folder)
    order = [_rate(row) for row in sorted(rows, key=lambda row: -float(row["lr"]))]
    order = list(dict.fromkeys(order))
    found: list[Exhibit] = []
    lines: list[list[Cell]] = []
    for label, groups in by_network(rows, _rate, order).items():
        measured, foretold = (
            {name: _after_start(one) for name, one in curves_of(groups, followed, metric).items()}
            for metric in ("deficit", "law")
        )
        parts = [
            Panel("balance deficit", measured, log=True, theory=foretold, theory_label=LAW),
            panel(groups, followed, "loss", "training loss"),
            panel(groups, followed, "norm", "Frobenius norm"),
        ]
        figure = stack(parts, order)
        if figure is None:
            continue
        title = f"{label}, balanced at the start, no regulariser: deficit, training loss and norm{bands(groups)}"
        found.append(Figure(slug(label), title, figure))
        lines += [_against_law(label, members, followed) for members in groups.values()]
    if lines:
        heads = [
            "network",
            "learning rate",
            "deficit",
            "as the law has it",
            "largest relative error of the law",
            "seeds",
        ]
        caption = (
            "After the last step, means over seeds. The law, D' = (1 \u2212 lr decay)² D + lr² G for each unit, is "
            "exact for plain SGD; it is fed with the gradients of every step, and what is left is rounding in float32."
        )
        found.append(Table("The deficit and the law of SGD", heads, lines, caption))
    return found


def _after_start(one: Series) -> Series:
    """The series without its first point, where a balanced network's deficit is rounding alone."""
    return Series(one.x[1:], one.mean[1:], one.low[1:], one.high[1:])  # type: ignore[arg-type]


def _against_law(label: str, rows: Sequence[Row], followed: Traces) -> list[Cell]:
    measured, foretold = finals(rows, followed, "deficit"), finals(rows, followed, "law")
    if not measured or len(measured) != len(foretold):
        return [label, float(rows[0]["lr"]), None, None, None, len(rows)]
    rate, pairs = float(rows[0]["lr"]), list(zip(measured, foretold, strict=True))
    error = max(abs(a - b) / b if b else math.inf for a, b in pairs)
    means = [Number(sum(values) / len(values)) for values in (measured, foretold)]
    return [label, rate, *means, Number(error), len(rows)]


@per_preset
def convergence(rows: Sequence[Row], histories: Histories, folder: Path) -> list[Exhibit]:
    """Distance to the balanced weights and norm against sweeps, over many random orders (Figure 5)."""
    followed = traces(rows, folder)
    found: list[Exhibit] = []
    lines: list[list[Cell]] = []
    for label, members in split(rows, label_of).items():
        for name, (first, *_) in named(members, lambda row: f"{row['balance_repeats']} random orders").items():
            points = followed.get(str(first["hash"]), [])
            if len(points) < 2:
                continue
            title = f"{label}: stochastic balancing of one random start in {name}"
            found.append(Figure(slug(label), title, _sweeps(points)))
            last = points[-1]
            cells = [Number(float(last[key])) for key in ("distance", "distance_max", "norm", "balanced_norm", "sweep")]
            lines.append([label, int(first["balance_repeats"]), Number(float(points[0]["norm"])), *cells])
    if lines:
        heads = ["network", "orders", "norm before", "distance", "largest distance", "norm", "balanced norm", "sweeps"]
        caption = "After the last sweep, over the orders. The balanced weights are those of Newton's method."
        found.append(Table("Where every order leads", heads, lines, caption))
    return found


def _sweeps(points: Sequence[Row]) -> Any:
    """Distance above, norm below, each with the standard deviation over the orders."""
    fig, (distance, norm) = plots.panels(2, height=2.1)
    sweeps = [float(p["sweep"]) for p in points]
    largest = Series(sweeps, [float(p["distance_max"]) for p in points])
    curves = {MEAN: _band(points, "distance"), "largest": largest}
    plots.learning_curves(distance, curves, xlabel="", ylabel="distance to $W_{balanced}$", log=True)
    plots.learning_curves(norm, {MEAN: _band(points, "norm")}, xlabel="sweeps over all units", ylabel="Frobenius norm")
    plots.reference_line(norm, float(points[-1]["balanced_norm"]), "balanced")
    plots.share_legend(fig)
    return fig


def _band(points: Sequence[Row], key: str) -> Series:
    """The mean over the orders at each point, and a standard deviation to each side, above 0."""
    pairs = [(float(p[key]), float(p[f"{key}_sd"])) for p in points]
    low, high = [m - sd for m, sd in pairs], [m + sd for m, sd in pairs]
    return above_zero(Series([float(p["sweep"]) for p in points], [m for m, _ in pairs], low, high))
