"""Exhibits of conditions side by side: accuracies as tables and curves, spikes per layer, accuracy by ratio."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from equipoise import plots
from equipoise.papers.catalogue import published
from equipoise.papers.eisnn.conditions import CONDITIONS, RATIOS, condition_of
from equipoise.papers.eisnn.layers import (
    ORDER,
    by_condition,
    by_layer,
    layers,
    percent,
    scored,
    settings,
    slug,
    small,
    together,
)
from equipoise.papers.exhibits import Cell, Exhibit, Figure, Histories, Number, Row, Table
from equipoise.papers.picking import bands, curve, per_preset, series, split, values_of
from equipoise.papers.published import Published

__all__ = ["accuracies", "compared", "ratio", "streamed"]

_CAPTION = (
    "After the last epoch, ± standard deviation over seeds; nothing was selected on test images. Spikes: of a cell in "
    "a time step, over all cells. Silent: units (channels, or cells) without a spike on the images looked at, in the "
    "worst layer of any seed. Currents: mean over a layer's cells, least and largest layer."
)


def accuracies(rows: Sequence[Row], histories: Histories, folder: Path) -> list[Exhibit]:
    """Accuracy, activity and currents of each condition on each network, with curves and rates by layer."""
    found: list[Exhibit] = []
    lines: list[list[Cell]] = []
    numbers = [one for one in published() if one.experiment.startswith("eisnn/")]
    for network, members in settings(rows, folder).items():
        groups = by_condition(members)
        for condition, runs in groups.items():
            lines.append([network, condition, *_cells(runs, numbers)])
        found += _curves(network, groups, histories)
        found += _rates(network, groups)
    if not lines:
        return []
    heads = ["network", "condition", "test, %", "training, %", "published, %", "spikes, %", "silent, %", "mean current"]
    return [Table("Accuracy and activity", [*heads, "learning rate", "epochs", "seeds"], lines, _CAPTION), *found]


compared = per_preset(accuracies)


@per_preset
def streamed(rows: Sequence[Row], histories: Histories, folder: Path) -> list[Exhibit]:
    """The same, and what each network knows after every frame when it gets one at a time."""
    found = accuracies(rows, histories, folder)
    lines: list[list[Cell]] = []
    for network, members in settings(rows, folder).items():
        groups = by_condition(members)
        for condition, runs in groups.items():
            frames = layers(runs[0], "streaming")
            shown = [frames[round(part * len(frames)) - 1] for part in (0.25, 0.5, 0.75, 1)] if frames else []
            if shown:
                cells = [percent(runs, f"streaming/{frame}", 1) for frame in shown]
                lines.append([network, condition, len(frames), *cells, len(runs)])
        drawn = {name: one for name, runs in groups.items() if (one := by_layer(runs, "streaming")) is not None}
        if drawn:
            fig, ax = plots.figure()
            plots.learning_curves(ax, drawn, xlabel="frame", ylabel="test accuracy", percent=True, order=ORDER)
            title = f"{network}: accuracy after each frame, one at a time{bands(groups)}"
            found.append(Figure(f"streaming-{slug(network)}", title, fig))
    if lines:
        heads = [
            "network",
            "condition",
            "frames",
            "after a quarter, %",
            "half, %",
            "three quarters, %",
            "all, %",
            "seeds",
        ]
        caption = (
            "By the mean of the outputs so far, the states of all cells carried from frame to frame; on the held-out "
            "samples that measures look at, after the last epoch."
        )
        found.append(Table("Accuracy frame by frame", heads, lines, caption))
    return found


def _cells(runs: Sequence[Row], numbers: Sequence[Published]) -> list[Cell]:
    first = runs[0]
    theirs = [one.value for one in numbers if one.metric == "test_accuracy" and one.matches(first)]
    silent = [100 * v for v in together(runs, "silent")]
    return [
        scored(runs),
        percent(runs, "train_accuracy"),
        Number(theirs[0]) if theirs else None,
        percent(runs, "spikes", 1),
        Number(max(silent), f"{max(silent):.0f}") if silent else None,
        small(together(runs, "current")),
        _rate(first),
        int(first["epochs"]),
        len(runs),
    ]


def _rate(row: Row) -> Number:
    """A learning rate, and whose, where it is not that of stochastic gradient descent."""
    rate, optimizer = float(row["lr"]), str(row.get("optimizer", "sgd"))
    return Number(rate, f"{rate:g}" + (f", {optimizer.title()}" if optimizer != "sgd" else ""))


def _curves(network: str, groups: dict[str, list[Row]], histories: Histories) -> list[Exhibit]:
    drawn = {name: curve(runs, histories, "test_accuracy") for name, runs in groups.items()}
    drawn = {name: one for name, one in drawn.items() if len(one.x) > 1}
    if not drawn:
        return []
    fig, ax = plots.figure()
    plots.learning_curves(ax, drawn, ylabel="test accuracy", percent=True, order=ORDER)
    return [Figure(f"accuracy-{slug(network)}", f"{network}: test accuracy after each epoch{bands(groups)}", fig)]


def _rates(network: str, groups: dict[str, list[Row]]) -> list[Exhibit]:
    drawn = {name: one for name, runs in groups.items() if (one := by_layer(runs, "spikes")) is not None}
    if not drawn or max(len(one.x) for one in drawn.values()) < 2:
        return []
    fig, ax = plots.figure()
    ylabel = "spikes a cell a step"
    plots.learning_curves(ax, drawn, xlabel="layer of spiking cells", ylabel=ylabel, percent=True, order=ORDER)
    return [Figure(f"rates-{slug(network)}", f"{network}: firing rates after the last epoch{bands(groups)}", fig)]


def _pools(row: Row) -> float:
    """Inhibitory cells for each excitatory one."""
    return RATIOS.get(condition_of(row), 0.25)


@per_preset
def ratio(rows: Sequence[Row], histories: Histories, folder: Path) -> list[Exhibit]:
    """Accuracy and activity against the ratio of inhibitory to excitatory cells."""
    found: list[Exhibit] = []
    lines: list[list[Cell]] = []
    wanted = {*RATIOS, "ei"}
    for network, members in settings([row for row in rows if condition_of(row) in wanted], folder).items():
        members = [row for row in members if condition_of(row) in wanted]
        at = split(members, _pools)
        for share, runs in at.items():
            name = f"{round(1 / share)}:1"
            spikes, current = percent(runs, "spikes", 1), small(together(runs, "current"))
            lines.append([network, name, scored(runs), percent(runs, "train_accuracy"), spikes, current, len(runs)])
        curves = {
            said: series({share: values_of(runs, metric) for share, runs in at.items() if values_of(runs, metric)})
            for said, metric in (("test set", "test_accuracy"), ("training set", "train_accuracy"))
        }
        if len(curves["test set"].x) > 1:
            fig, ax = plots.figure()
            plots.learning_curves(ax, curves, xlabel="inhibitory cells for each excitatory one", percent=True)
            ax.set_xscale("log", base=2)
            ax.set_ylabel("accuracy")
            found.append(Figure(f"ratio-{slug(network)}", f"{network}: accuracy by E-I ratio{bands(dict(at))}", fig))
    if not lines:
        return []
    heads = ["network", "E:I", "test, %", "training, %", "spikes, %", "mean current", "seeds"]
    caption = f"As in the ablations; {CONDITIONS['ei'].label} there is 4:1. Excitatory cells are as many in every row."
    return [Table("Accuracy by the ratio of excitatory to inhibitory cells", heads, lines, caption), *found]
