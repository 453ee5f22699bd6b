"""Exhibits of what balance may be good for: a start for training, and a narrower range of weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from equipoise import plots
from equipoise.papers.balance.figures_paper import penalty_of
from equipoise.papers.balance.networks import label_of
from equipoise.papers.balance.traces import slug
from equipoise.papers.exhibits import Cell, Exhibit, Figure, Histories, Number, Row, Table
from equipoise.papers.picking import mean_and_sd, named, per_preset, series, split, values_of
from equipoise.plots import Series

__all__ = ["range_", "start_of", "starts"]

DRAWN = "as drawn"
VARIANTS = {
    "trained": "as trained",
    "balanced_l2": "balanced, p = 2",
    "balanced_l8": "balanced, p = 8",
    "scattered": "units scaled at random",
    "scattered_balanced": "at random, then balanced, p = 2",
}


def start_of(row: Row) -> str:
    """What was done to the weights before the first step."""
    p = float(row.get("balance_p") or 2)
    return {"balance": f"balanced, p = {p:g}", "norms": f"norms of p = {p:g} alone"}.get(
        str(row.get("balance_start")), DRAWN
    )


@per_preset
def starts(rows: Sequence[Row], histories: Histories, folder: Path) -> list[Exhibit]:
    """Test accuracy against the learning rate for each start, and each start at its best rate."""
    found: list[Exhibit] = []
    lines: list[list[Cell]] = []
    for label, members in split(rows, label_of).items():
        names = [DRAWN, *sorted({start_of(row) for row in members} - {DRAWN})]
        by_start = {name: [row for row in members if start_of(row) == name] for name in names}
        curves: dict[str, Series] = {}
        for name, mine in by_start.items():
            rates = {rate: values_of(runs, "test_accuracy") for rate, runs in split(mine, lambda r: r["lr"]).items()}
            rates = {float(rate): values for rate, values in rates.items() if values}
            if not rates:
                continue
            curves[name] = series(rates)
            best = max(rates, key=lambda rate: sum(rates[rate]) / len(rates[rate]))
            lowest = min(rates)
            told = [mean_and_sd([100 * v for v in rates[rate]]) for rate in (lowest, best)]
            lines.append([label, name, told[0], told[1], Number(best, f"{best:g}"), len(rates[best])])
        if curves and max(len(one.x) for one in curves.values()) > 1:
            fig, ax = plots.figure(height=3.4)
            plots.learning_curves(ax, curves, xlabel="learning rate", ylabel="test accuracy", percent=True, order=names)
            rates_shown = sorted({float(row["lr"]) for row in members})
            ax.set_xscale("log")
            ax.set_xticks(rates_shown, [f"{rate:g}" for rate in rates_shown])
            ax.set_xticks([], minor=True)
            seeds = max(len(runs) for mine in by_start.values() for runs in split(mine, lambda r: r["lr"]).values())
            title = f"{label}: test accuracy of each start against the learning rate"
            title += "; bands: ± standard deviation over seeds" if seeds > 1 else ""
            found.append(Figure(slug(label), title, fig))
    if lines:
        heads = ["network", "start", "at the lowest rate, %", "at its best rate, %", "best rate", "seeds"]
        caption = (
            "Test accuracy after the last epoch. The best rate is the one with the highest mean test accuracy. "
            "Norms alone: each weight and bias as drawn, with the norm that balancing would give it."
        )
        found.append(Table("Is a balanced start a better one?", heads, lines, caption))
    return found


@per_preset
def range_(rows: Sequence[Row], histories: Histories, folder: Path) -> list[Exhibit]:
    """How wide the weights lie and what rounding them to eight bits costs, before and after balancing."""
    found: list[Exhibit] = []
    lines: list[list[Cell]] = []
    bars: dict[str, dict[str, list[float]]] = {}
    for label, members in split(rows, label_of).items():
        for name, runs in named(members, penalty_of).items():
            for key, said in VARIANTS.items():
                errors = values_of(runs, f"int8/{key}/error")
                if not errors:
                    continue
                bars.setdefault(said, {})[_short(label, name)] = errors
                widths, exact = values_of(runs, f"int8/{key}/spread"), values_of(runs, "int8/exact/accuracy")
                lost = [100 * (a - b) for a, b in zip(exact, values_of(runs, f"int8/{key}/accuracy"), strict=False)]
                cells: list[Cell] = [mean_and_sd([100 * v for v in errors]), mean_and_sd(widths, places=1)]
                lines.append([label, name, said, *cells, mean_and_sd(lost) if lost else None, len(runs)])
    if not lines:
        return []
    fig, ax = plots.figure(width=6.2, height=3.2)
    plots.bars(ax, {said: series(groups) for said, groups in bars.items()}, ylabel="error of the output")
    ax.set_yscale("log")
    least = min(value for groups in bars.values() for values in groups.values() for value in values)
    ax.set_ylim(bottom=10 ** math.floor(math.log10(least)) if least > 0 else None)
    found.append(Figure("int8", "Error of the output, relative, with weights rounded to eight bits", fig, wide=True))
    heads = ["network", "regulariser", "weights", "error of the output, %", "spread", "accuracy lost, points", "seeds"]
    caption = (
        "Eight bits with one step a tensor. Before rounding all variants of a network compute the same function. "
        "The spread is the largest weight over the root mean square of its tensor, the widest tensor's."
    )
    return [*found, Table("Rounding to eight bits", heads, lines, caption)]


def _short(label: str, name: str) -> str:
    return f"{label.split(',')[0]},\n{name}"
