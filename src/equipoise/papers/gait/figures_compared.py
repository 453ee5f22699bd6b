"""Exhibits of conditions side by side: accuracies as in Table 1, and angles per layer and per step (Figures 3 to 5)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from equipoise import plots
from equipoise.papers.catalogue import published
from equipoise.papers.exhibits import Cell, Exhibit, Figure, Histories, Number, Row, Table
from equipoise.papers.gait.conditions import CONDITIONS, condition_of, label_of
from equipoise.papers.picking import (
    MINUS,
    bands,
    curve,
    fixed,
    mean_and_sd,
    named,
    per_preset,
    series,
    split,
    values_of,
)
from equipoise.papers.published import Published
from equipoise.papers.tracing import Traces, traced, traces
from equipoise.plots import Series

__all__ = ["ORDER", "compared", "label", "layer_metrics", "slug", "steady"]

DISTANCE = f"‖AAᵀ {MINUS} I‖"
ORDER = [one.label for one in CONDITIONS.values()]


def label(row: Row) -> str:
    """What the condition of a run is called."""
    name = condition_of(row)
    return CONDITIONS[name].label if name else str(row.get("rule"))


def slug(text: str) -> str:
    """A name for a file."""
    kept = "".join(c if c.isalnum() else "-" for c in text.lower())
    return "-".join(part for part in kept.split("-") if part)


def layer_metrics(points: Sequence[Row], kind: str) -> list[str]:
    """The names of what was measured per layer, ``kind``/<layer>, from input to output."""
    names = [name for name in (points[-1] if points else {}) if name.startswith(f"{kind}/")]
    return sorted(names, key=lambda name: [(len(part), part) for part in name.split("/")[1].split(".")])


def steady(rows: Sequence[Row], followed: Traces, metric: str) -> list[float]:
    """The mean of the metric over the measured steps of each run, as the paper has it; NaN steps are left out."""
    found = []
    for row in rows:
        points = [p[metric] for p in followed.get(str(row["hash"]), ()) if p.get(metric) is not None]
        points = points or ([row[metric]] if row.get(metric) is not None else [])
        found += [math.fsum(points) / len(points)] if points else []
    return found


@per_preset
def compared(rows: Sequence[Row], histories: Histories, folder: Path) -> list[Exhibit]:
    """Accuracies on the whole training set and the test set, angles, and how far from orthogonal the weights are."""
    found: list[Exhibit] = []
    lines: list[list[Cell]] = []
    numbers = [one for one in published() if one.experiment.startswith("gait/")]
    top = any(row.get("test_top5") is not None for row in rows)
    followed = traces(rows, folder)
    for name, members in split(rows, label_of).items():
        groups = named(members, label, order=ORDER)
        for condition, runs in groups.items():
            lines.append([name, condition, *_cells(runs, followed, numbers, top)])
        found += _curves(name, groups, histories)
        found += _angles(name, groups, followed)
    if not lines:
        return []
    kinds = ("accuracy", "top-5") if top else ("accuracy",)
    heads = [head for kind in kinds for head in (f"training set, {kind}, %", f"test, {kind}, %")]
    heads = ["network", "condition", *heads, "paper, training / test, %", "angle, °", DISTANCE, "epochs", "seeds"]
    when = "measured steps" if followed else "held-out images after the last epoch"
    caption = (
        "After the last epoch, over the whole of both sets; ± standard deviation over seeds. The angle is that between "
        "the rule's update and backpropagation's on the same network and batch, the mean over hidden layers, at "
        f"{when}. {DISTANCE} is the mean over square layers at the end."
    )
    return [Table("Accuracies and angles", heads, lines, caption), *found]


def _cells(runs: Sequence[Row], followed: Traces, numbers: Sequence[Published], top: bool) -> list[Cell]:
    metrics = [
        f"{split}_{kind}" for kind in ("accuracy", *(["top5"] if top else [])) for split in ("train_set", "test")
    ]
    cells: list[Cell] = [_percent(values_of(runs, metric)) for metric in metrics]
    theirs = [_published(runs[0], numbers, ("train_set", "test"), kind) for kind in ("accuracy", "top5")]
    known = next((pair for pair in theirs if None not in pair), None)
    cells.append(None if known is None else (Number(float(known[0] or 0)), "/", Number(float(known[1] or 0))))
    angle = steady(runs, followed, "angle")
    cells.append(_small(angle) if angle else None)
    apart = values_of(runs, "orthogonality")
    cells += [_small(apart) if apart else None, Number(float(runs[0]["epochs"]), str(runs[0]["epochs"])), len(runs)]
    return cells


def _percent(values: Sequence[float]) -> Cell:
    return mean_and_sd([100 * v for v in values]) if values else None


def _small(values: Sequence[float]) -> Cell:
    """Degrees and distances, which may be far below 1."""
    mean = math.fsum(values) / len(values)
    return Number(mean, fixed(mean, 2) if mean == 0 or mean >= 0.1 else f"{mean:.1e}")


def _published(row: Row, numbers: Sequence[Published], splits: Sequence[str], kind: str) -> list[float | None]:
    """The paper's numbers on each split, in per cent, where the network is the paper's."""
    return [
        next((one.value for one in numbers if one.metric == f"{split}_{kind}" and one.matches(row)), None)
        for split in splits
    ]


def _curves(name: str, groups: Mapping[str, Sequence[Row]], histories: Histories) -> list[Exhibit]:
    """Accuracy by epoch on both sets."""
    parts = []
    for said, metric in (("training set", "train_set_accuracy"), ("test set", "test_accuracy")):
        drawn = {condition: curve(runs, histories, metric) for condition, runs in groups.items()}
        drawn = {condition: one for condition, one in drawn.items() if len(one.x) > 1}
        if drawn:
            parts.append((said, drawn))
    if not parts:
        return []
    fig, axes = plots.panels(len(parts))
    for ax, (said, drawn) in zip(axes, parts, strict=True):
        last = ax is axes[-1]
        plots.learning_curves(ax, drawn, xlabel="epoch" * last, ylabel=said, percent=True, order=ORDER)
    plots.share_legend(fig)
    return [Figure(f"accuracy-{slug(name)}", f"{name}: accuracy after each epoch{bands(groups)}", fig)]


def _angles(name: str, groups: Mapping[str, Sequence[Row]], followed: Traces) -> list[Exhibit]:
    """The angle to backpropagation of each layer, over all measured steps, and of the mean layer by step."""
    found: list[Exhibit] = []
    layers: dict[str, Series] = {}
    steps: dict[str, Series] = {}
    for condition, runs in groups.items():
        points = [p for row in runs for p in followed.get(str(row["hash"]), ())]
        metrics = layer_metrics(points, "angle")
        over = {m: [float(p[m]) for p in points if p.get(m) is not None] for m in metrics}
        if any(over.values()) and condition != CONDITIONS["bp"].label:
            layers[condition] = _over({str(k + 1): values for k, values in enumerate(over.values()) if values})
        one = traced(runs, followed, "angle")
        if len(one.x) > 1 and condition != CONDITIONS["bp"].label:
            steps[condition] = one
    if layers:
        fig, ax = plots.figure()
        plots.angles(ax, layers, order=ORDER)
        ax.set_xlabel("layer")
        title = f"{name}: angle to backpropagation per layer; whiskers: ± standard deviation over steps"
        found.append(Figure(f"angles-{slug(name)}", title, fig))
    if steps:
        fig, ax = plots.figure()
        plots.learning_curves(ax, steps, xlabel="step", ylabel="angle to backprop (degrees)", order=ORDER)
        found.append(Figure(f"steps-{slug(name)}", f"{name}: mean angle of the hidden layers by step", fig))
    return found


def _over(values: Mapping[str, Sequence[float]]) -> Series:
    return series(values)
