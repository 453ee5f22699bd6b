"""Exhibits of what happens inside: starts by depth, distributions over epochs, angles per layer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from equipoise import plots
from equipoise.papers.eisnn.figures_compared import accuracies
from equipoise.papers.eisnn.layers import (
    ORDER,
    by_condition,
    by_layer,
    histogram_of,
    layers,
    settings,
    slug,
    small,
    together,
    value,
)
from equipoise.papers.exhibits import Cell, Exhibit, Figure, Histories, Number, Row, Table
from equipoise.papers.picking import bands, fixed, per_preset, series
from equipoise.papers.tracing import traces
from equipoise.plots import Series

__all__ = ["dynamics", "rules", "starts"]

_KINDS = {"ee": "W_EE", "ie": "W_IE", "current": "current"}
UNIFORM = 5 / 9  # Sarle's coefficient of the uniform law


@per_preset
def starts(rows: Sequence[Row], histories: Histories, folder: Path) -> list[Exhibit]:
    """Firing rates and currents of networks of many depths as they start."""
    lines: list[list[Cell]] = []
    found: list[Exhibit] = []
    for network, members in settings(rows, folder).items():
        groups = by_condition(members)
        for name, runs in groups.items():
            depth = len(layers(runs[0], "spikes"))
            rates = [100 * v for v in together(runs, "spikes")]
            silent = [100 * v for v in together(runs, "silent")]
            spread, mean = together(runs, "spread"), together(runs, "current")
            worst = Number(max(silent), f"{max(silent):.0f}") if silent else None
            lines.append([network, depth, name, small(rates, 1), worst, small(mean), small(spread), len(runs)])
        for kind, said, percent in (("spikes", "firing rate", True), ("spread", "deviation of currents", False)):
            drawn = {name: one for name, runs in groups.items() if (one := by_layer(runs, kind)) is not None}
            if drawn and max(len(one.x) for one in drawn.values()) > 1:
                fig, ax = plots.figure()
                plots.learning_curves(
                    ax, drawn, xlabel="layer of spiking cells", ylabel=said, percent=percent, order=ORDER
                )
                found.append(Figure(f"{kind}-{slug(network)}", f"{network}: {said} by layer{bands(groups)}", fig))
    if not lines:
        return []
    heads = ["network", "spiking layers", "start", "rates, %", "silent, %", "mean current", "deviation", "seeds"]
    caption = (
        "Nothing is trained. Rates, mean currents and their standard deviations: least and largest layer of any seed; "
        "silent: units without a spike on the images looked at, in the worst layer."
    )
    return [Table("Rates and currents before training", heads, lines, caption), *found]


@per_preset
def dynamics(rows: Sequence[Row], histories: Histories, folder: Path) -> list[Exhibit]:
    """How weights and currents are distributed, at the start, half way and at the end."""
    followed = traces(rows, folder)
    found: list[Exhibit] = []
    lines: list[list[Cell]] = []
    for network, members in settings(rows, folder).items():
        for name, runs in by_condition(members).items():
            for kind, said in _KINDS.items():
                key = "bimodality" if kind == "current" else f"{kind}_bimodality"
                lines += _peaks(network, name, said, key, runs, followed)
            first = next((row for row in runs if str(row["hash"]) in followed), runs[0])
            told = f"{network}, {name}"
            found += _distributions(told, first, followed.get(str(first["hash"]), ()), histories)
            found += _over_epochs(told, first, followed.get(str(first["hash"]), ()), histories)
    if not lines:
        return []
    heads = ["network", "condition", "of", "layer", "coefficient before", "after", "zeros after, %", "seeds"]
    caption = (
        "Sarle's bimodality coefficient (skewness² + 1) / kurtosis, the mean over seeds, before the first step and "
        "after the last epoch: 0.33 for a normal law, 0.56 for a uniform or an exponential one, 1 for two points."
    )
    return [
        Table("Bimodality of weights and currents", heads, lines, caption),
        *found,
        *accuracies(rows, histories, folder),
    ]


def _peaks(
    network: str, name: str, said: str, key: str, runs: Sequence[Row], followed: Mapping[str, Sequence[Row]]
) -> list[list[Cell]]:
    lines: list[list[Cell]] = []
    for place, layer in enumerate(layers(runs[0], key), 1):
        before = [value(points[0], f"{key}/{layer}") for r in runs if (points := followed.get(str(r["hash"])))]
        after = [value(row, f"{key}/{layer}") for row in runs]
        zero = [100 * value(row, f"{key.partition('_')[0]}_zero/{layer}") for row in runs]
        shown = [_mean(before), _mean(after), _mean(zero, 0)]
        lines.append([network, name, said, place, *shown, len(runs)])
    return lines


def _mean(values: Sequence[float], places: int = 2) -> Cell:
    finite = [v for v in values if math.isfinite(v)]
    if not finite:
        return None
    mean = math.fsum(finite) / len(finite)
    return Number(mean, fixed(mean, places))


def _moments(row: Row, points: Sequence[Row], histories: Histories) -> dict[str, Row]:
    """What was measured at the start, half way and at the end of a run."""
    epochs = histories.get(str(row["hash"]), ())
    found: dict[str, Row] = {"before": points[0]} if points else {}
    if len(epochs) > 2:
        middle = epochs[(len(epochs) - 1) // 2]
        found[f"epoch {middle['epoch']}"] = middle
    return found | ({f"epoch {epochs[-1]['epoch']}": epochs[-1]} if epochs else {})


def _distributions(told: str, row: Row, points: Sequence[Row], histories: Histories) -> list[Exhibit]:
    """Histograms of W_EE, W_IE and currents of the first and last layer that have them, one seed."""
    moments = _moments(row, points, histories)
    found: list[Exhibit] = []
    for kind, said in _KINDS.items():
        names = layers(row, "bimodality" if kind == "current" else f"{kind}_mean")
        shown = list(dict.fromkeys([*names[:1], *names[-1:]]))
        drawn = [(layer, {m: _outline(at, kind, layer) for m, at in moments.items()}) for layer in shown]
        drawn = [(layer, {m: one for m, one in parts.items() if one is not None}) for layer, parts in drawn]
        drawn = [(layer, parts) for layer, parts in drawn if parts]
        if not drawn:
            continue
        fig, axes = plots.panels(len(drawn))
        for ax, (layer, parts) in zip(axes, drawn, strict=True):
            last = ax is axes[-1]
            ylabel = f"layer {names.index(layer) + 1}, density"
            plots.learning_curves(ax, parts, xlabel="standard deviations from the mean" * last, ylabel=ylabel)  # type: ignore[arg-type]
        plots.share_legend(fig)
        found.append(Figure(f"{kind}-{slug(told)}", f"{told}: distribution of {said}; one seed", fig))
    return found


def _outline(row: Row, kind: str, layer: str) -> Series | None:
    shares = histogram_of(row, kind, layer)
    if not shares or not any(shares):
        return None
    width = 8 / len(shares)
    places = [-4 + width * (k + 0.5) for k in range(len(shares))]
    return Series(places, [share / width for share in shares])


def _over_epochs(told: str, row: Row, points: Sequence[Row], histories: Histories) -> list[Exhibit]:
    """The bimodality coefficient of each layer's currents and weights by epoch, one seed."""
    epochs = [*({"epoch": 0, **dict(points[0])} for _ in points[:1]), *histories.get(str(row["hash"]), ())]
    if len(epochs) < 2:
        return []
    fig, axes = plots.panels(len(_KINDS))
    for ax, (kind, said) in zip(axes, _KINDS.items(), strict=True):
        key = "bimodality" if kind == "current" else f"{kind}_bimodality"
        drawn = {}
        for place, layer in enumerate(layers(row, key), 1):
            at = {
                int(e["epoch"]): [value(e, f"{key}/{layer}")]
                for e in epochs
                if math.isfinite(value(e, f"{key}/{layer}"))
            }
            if at:
                drawn[f"layer {place}"] = series(at)
        if drawn:
            plots.learning_curves(ax, drawn, xlabel="epoch" * (ax is axes[-1]), ylabel=said)
            plots.reference_line(ax, UNIFORM, "uniform")
    plots.share_legend(fig)
    return [Figure(f"bimodality-{slug(told)}", f"{told}: bimodality coefficient by epoch; one seed", fig)]


@per_preset
def rules(rows: Sequence[Row], histories: Histories, folder: Path) -> list[Exhibit]:
    """Accuracies under each rule, and the angle of its updates to the surrogate gradient, layer by layer."""
    found: list[Exhibit] = []
    lines: list[list[Cell]] = []
    for network, members in settings(rows, folder).items():
        groups = by_condition(members)
        for name, runs in groups.items():
            shown = _degrees(runs) if str(runs[0].get("rule")) != "bp" else {}
            mean = {"hidden layers, mean": [value(row, "surrogate") for row in runs]}
            lines += [[network, name, said, _mean(v, 1), len(runs)] for said, v in {**shown, **mean}.items()]
        drawn = {name: one for name, runs in groups.items() if (one := _angles(runs)) is not None}
        if drawn:
            fig, ax = plots.figure()
            plots.angles(ax, drawn, ylabel="angle (degrees)", order=ORDER)
            title = f"{network}: angle to the surrogate gradient by layer, after the last epoch"
            found.append(Figure(f"angles-{slug(network)}", title, fig))
    if not lines:
        return []
    caption = (
        "Between what the rule writes and backpropagation through the surrogate derivative of spikes, with every edit "
        "of the gradient off; spikes have no gradient of their own. The figure has the weights from below alone."
    )
    heads = ["network", "condition", "weight", "angle, °", "seeds"]
    return [
        *accuracies(rows, histories, folder),
        Table("Angles to the surrogate gradient", heads, lines, caption),
        *found,
    ]


def _degrees(runs: Sequence[Row]) -> dict[str, list[float]]:
    """The angles of every weight over the seeds, by its layer: W from below, W_EI from inhibitory cells."""
    found: dict[str, list[float]] = {}
    place = 0
    for name in layers(runs[0], "surrogate"):
        inner = name.endswith("weight_ei")
        place += not inner
        found[f"layer {place}, W_EI" if inner else f"layer {place}"] = [value(row, f"surrogate/{name}") for row in runs]
    return found


def _angles(runs: Sequence[Row]) -> Series | None:
    """Degrees of the weights from below, by layer; those that are undefined are left out."""
    values: dict[Any, list[float]] = {}
    for name, degrees in _degrees(runs).items():
        finite = [d for d in degrees if math.isfinite(d)]
        if not name.endswith("W_EI") and finite:
            values[name.removeprefix("layer ")] = finite
    return series(values) if values else None
