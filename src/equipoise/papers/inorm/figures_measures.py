"""Exhibits of what was measured on the way: moments, cosines to layer normalisation, flipped signs, pooled errors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

from equipoise import data, plots
from equipoise.errors import EquipoiseError
from equipoise.nn.lateral import pooling_weights
from equipoise.papers.exhibits import Cell, Exhibit, Exhibits, Figure, Histories, Note, Number, Row, Table
from equipoise.papers.inorm.conditions import CONDITIONS
from equipoise.papers.inorm.figures_accuracy import ORDER, comparison
from equipoise.papers.inorm.pairing import by_condition, setting_of
from equipoise.papers.picking import MINUS, curve, fixed, mean_and_sd, per_preset, series, split, values_of
from equipoise.plots import Series
from equipoise.randomness import generator

__all__ = ["by_layer", "followed", "lateral", "task"]

_COSINES = {"output": "activity", "gradient": "gradient, local", "task": "gradient of the task"}
COLUMNS: Mapping[str, Mapping[str, str]] = {
    "moments": {"moments/mean": "mean", "moments/variance": "variance", "moments/second": "raw second moment"},
    "alignment": {**_COSINES, "exact_angle": "angle to exact, °"},
    "flips": {"error_flips": "signs of errors", "weight_flips": "signs of gradients of W_EE"},
}
TITLES = {
    "moments": "Moments over units of what enters ReLU",
    "alignment": "Cosines to layer normalisation",
    "flips": "Share of signs that centring the error changes",
}
CAPTIONS = {
    "moments": "Means over hidden layers and held-out images after the last epoch, ± standard deviation over draws. "
    "Layer normalisation has mean 0 and variance 1.",
    "alignment": "Activity: ReLU of the layer's output and of its layer normalisation. Local gradient: of the sum of "
    "these with respect to W_EE, as the paper's program has it; for lateral inhibition exact centring is the "
    "reference. Gradient of the task: what is written into W_EE, and the loss's gradient with LN in place of "
    "each circuit. Exact: the gradient of the network's own function, all edits of its errors off. All on held-out "
    "images, at the same weights.",
    "flips": "Of entries that are not 0, on held-out images after the last epoch; each layer by itself, first to last.",
}


def followed(kind: str, *conditions: str) -> Exhibits:
    """What was measured of each condition: over epochs, and after the last one."""

    @per_preset
    def made(rows: Sequence[Row], histories: Histories, folder: Path) -> list[Exhibit]:
        found: list[Exhibit] = []
        lines: list[list[Cell]] = []
        columns = COLUMNS[kind]
        for setting, group in split(rows, setting_of).items():
            groups = by_condition(group, conditions)
            told, slug = ", ".join(setting), "-".join(setting).replace(" ", "-").replace(".", "")
            drawn = _drawn(groups, histories, columns)
            if drawn and kind != "flips":
                found.append(Figure(f"{kind}-{slug}", f"{TITLES[kind]} after each epoch, {told}", drawn))
            barred = _bars(groups) if kind == "alignment" else None
            if barred:
                title = f"{TITLES[kind]} after the last epoch, {told}; ± standard deviation over draws"
                found.append(Figure(f"cosines-{slug}", title, barred))
            for name, members in groups.items():
                values = {key: values_of(members, key) for key in columns}
                if not any(values.values()):
                    continue
                cells: list[Cell] = [
                    mean_and_sd(v, places=1 if key.endswith("angle") else 3) if v else None for key, v in values.items()
                ]
                if kind == "flips":
                    cells += [_by_layer(members, "weight_flips")]
                lines.append([told, CONDITIONS[name].label, *cells, len(members)])
        if lines:
            heads = [
                "setting",
                "network",
                *columns.values(),
                *(["of W_EE by layer"] if kind == "flips" else []),
                "runs",
            ]
            found.append(Table(TITLES[kind], heads, lines, CAPTIONS[kind]))
        return found

    return made


def _drawn(groups: Mapping[str, Sequence[Row]], histories: Histories, columns: Mapping[str, str]) -> Any:
    panels = {}
    for key, label in columns.items():
        curves = {CONDITIONS[n].label: curve(members, histories, key) for n, members in groups.items()}
        # Many bands hide one another; the table has the deviations.
        curves = {name: Series(one.x, one.mean) for name, one in curves.items() if len(one.x) > 1}
        if curves:
            panels[label] = curves
    if not panels:
        return None
    fig, axes = plots.panels(len(panels), height=1.9)
    for ax, (label, curves) in zip(axes, panels.items(), strict=True):
        plots.learning_curves(ax, curves, xlabel="epoch" if ax is axes[-1] else "", ylabel=label, order=ORDER)
    plots.share_legend(fig)
    return fig


def _bars(groups: Mapping[str, Sequence[Row]]) -> Any:
    """The cosines after the last epoch, a group of bars for each kind, a bar for each condition."""
    bars = {}
    for name, members in groups.items():
        held = {label: values_of(members, key) for key, label in _COSINES.items()}
        held = {label.replace(", ", ",\n").replace(" of ", "\nof "): values for label, values in held.items() if values}
        if held:
            bars[CONDITIONS[name].label] = series(held)
    if not bars:
        return None
    fig, ax = plots.figure(height=3.2)
    plots.bars(ax, bars, ylabel="cosine to layer normalisation", order=ORDER)
    return fig


def _by_layer(rows: Sequence[Row], key: str) -> Cell:
    layers = sorted({name for row in rows for name in row if name.startswith(f"{key}/")})
    means = [sum(v) / len(v) for v in (values_of(rows, name) for name in layers) if v]
    parts: list[str | Number] = []
    for place, mean in enumerate(means):
        parts += [*([", "] if place else []), Number(mean, f"{mean:.3f}")]
    return tuple(parts)


def by_layer(*conditions: str) -> Exhibits:
    """Mean and variance of what enters ReLU, layer by layer: medians over draws, as a run may have blown up."""

    @per_preset
    def made(rows: Sequence[Row], histories: Histories, folder: Path) -> list[Exhibit]:
        lines: list[list[Cell]] = []
        for setting, group in split(rows, setting_of).items():
            for name, members in by_condition(group, conditions).items():
                for layer in sorted({k.split("/")[1] for r in members for k in r if k.endswith("/variance")}):
                    cells = [_median(values_of(members, f"moments/{layer}/{key}")) for key in ("mean", "variance")]
                    if any(cells):
                        place = [", ".join(setting), CONDITIONS[name].label, int(layer)]
                        lines.append([*place, *cells, len(members)])
        heads = ["setting", "network", "hidden layer", "mean", "variance", "runs"]
        caption = (
            "Over units, on held-out images after the last epoch: median over draws, least and largest. Layer "
            "normalisation has mean 0 and variance 1."
        )
        return [Table("Moments of what enters ReLU, by layer", heads, lines, caption)] if lines else []

    return made


def _median(values: Sequence[float]) -> Cell:
    if not values:
        return None
    shown = (median(values), min(values), max(values))
    middle, low, high = (fixed(v, 2) if abs(v) < 1000 else f"{v:.0e}".replace("-", MINUS) for v in shown)
    return Number(median(values), middle), Note(f"[{low}, {high}]")


def lateral(*conditions: str) -> Exhibits:
    """The comparison, and how far a pooled error is from the mean: measured, and CV / sqrt(n)."""
    compared = comparison(*conditions)

    def made(rows: Sequence[Row], histories: Histories, folder: Path) -> list[Exhibit]:
        return [*compared(rows, histories, folder), *_theorem()]

    return made


WIDTHS = (10, 30, 100, 234, 500)
# Of each law of weights its coefficient of variation.
SPREAD = {"uniform": 3**-0.5, "exponential": 1.0, "log_normal": math.sqrt(math.e - 1), "equal": 0.0}


def _pooled(law: str, units: int) -> float:
    """The root mean square, over 500 draws of the weights, of the pooled error less the mean of errors that are 0, 1
    in mean and standard deviation and do not depend on them."""
    delta = torch.randn(units, generator=generator(0, "theorem", units), dtype=torch.float64)
    delta = (delta - delta.mean()) / delta.std(correction=0)
    pooled = [float(pooling_weights(units, law=law, seed=seed).double() @ delta) for seed in range(500)]
    return math.sqrt(sum(v**2 for v in pooled) / len(pooled))


def _theorem() -> list[Exhibit]:
    """Theorem 1 with numbers: how far the pooled error is from the mean, against the number of units."""
    measured = {law: [_pooled(law, units) for units in WIDTHS] for law in SPREAD}
    theory = {law: [SPREAD[law] / math.sqrt(units) for units in WIDTHS] for law in SPREAD}
    lines: list[list[Cell]] = [
        [law.replace("_", "-"), units, Number(ours, f"{ours:.4f}"), Number(wanted, f"{wanted:.4f}")]
        for law in SPREAD
        for units, ours, wanted in zip(WIDTHS, measured[law], theory[law], strict=True)
        if units >= 100
    ]
    spread = [law for law in SPREAD if SPREAD[law]]
    curves, rings = (
        {law.replace("_", "-"): Series(WIDTHS, held[law]) for law in spread} for held in (measured, theory)
    )
    fig, ax = plots.figure(height=3.2)
    options = {"xlabel": "units n", "ylabel": "error, in sd of the errors", "log": True}
    plots.learning_curves(ax, curves, theory=rings, theory_label="CV / √n", **options)
    ax.set_xscale("log")
    ax.set_xticks(WIDTHS, [str(units) for units in WIDTHS])
    ax.set_yticks((0.03, 0.1, 0.3), ["0.03", "0.1", "0.3"])
    ax.minorticks_off()
    caption = (
        "Root mean square over 500 draws of the weights of the pooled error less the mean error, in standard "
        "deviations of the errors, which do not depend on the weights; CV: the weights' coefficient of variation."
    )
    title = "How far a pooled error is from the mean (Theorem 1)"
    heads = ["weights", "units n", "measured", "CV / √n"]
    return [Figure("theorem", title, fig), Table(title, heads, lines, caption)]


def task(*conditions: str) -> Exhibits:
    """What shifted images look like, then the comparison at each range."""
    compared = comparison(*conditions)

    @per_preset
    def pictures(rows: Sequence[Row], histories: Histories, folder: Path) -> list[Exhibit]:
        try:
            split_ = data.load(str(rows[0]["data"])).test
        except EquipoiseError:
            return []
        few, _ = split_.batch(torch.arange(min(4, len(split_))))
        law, shifts = data.Luminance(shift=1.0), (-0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75)
        sheet = torch.cat([law.apply(few, torch.tensor([[s] * len(few), [1.0] * len(few)])) for s in shifts])
        order = [k * len(few) + i for i in range(len(few)) for k in range(len(shifts))]
        fig, ax = plots.figure(width=6.0, height=3.6)
        plots.images(ax, sheet[order], columns=len(shifts), labels=[f"{shifts[k // len(few)]:+g}" for k in order])
        return [Figure("images", f"Test images, shifted by {MINUS}0.75 to +0.75 and clamped to [0, 1]", fig)]

    def made(rows: Sequence[Row], histories: Histories, folder: Path) -> list[Exhibit]:
        return [*pictures(rows, histories, folder), *compared(rows, histories, folder)]

    return made
