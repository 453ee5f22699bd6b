"""The demo in changing light: networks normalised by a formula, by inhibition, or not at all; a table and a section."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from equipoise import data, plots, report
from equipoise.measure.statistics import estimate
from equipoise.papers.inorm.conditions import CONDITIONS
from equipoise.papers.picking import curve, fixed
from equipoise.train import Run

__all__ = ["NETWORKS", "label", "runs", "section", "table"]

SHIFT = 0.75
NETWORKS = ("ln", "none", "inorm", "center", "lateral")
LIGHT = Run(
    experiment="demo/light",
    preset="demo",
    epochs=8,
    batch_size=32,
    lr=0.1,
    optimizer_options={},
    group_rates={"*_ie": 0.5, "*_ei": 0.003},
    scheduler="CosineAnnealingLR",
    perturb={"shift": SHIFT},
    measures=["moments"],
)
SIZES = "64-100-100-10"
ABOUT = (
    "Every picture is brighter or darker than it was taken, by up to three quarters of the range from black to white, "
    "in training anew each time. All networks are of excitatory and inhibitory cells with Dale's law, and start with "
    "the same excitatory weights.\n\n"
    "- `LN` has layer normalisation, a formula; `no norm` has nothing in its place.\n"
    "- In `I-Norm` two pools of inhibitory cells learn to subtract and to divide, from a loss that sees no label "
    "(`equipoise.nn.INormLinear`).\n"
    "- `+ center` takes the mean over units from the errors that go back, too, and `+ lateral` does so with fixed "
    "random weights (`equipoise.nn.LateralInhibition`).\n\n"
    "`equipoise run inorm/accuracy` is this experiment on pictures of clothes."
)


def runs(seeds: int) -> list[Run]:
    """Seed by seed, a run for each network."""
    made = [dataclasses.replace(LIGHT, model=CONDITIONS[name].model(SIZES)) for name in NETWORKS]
    return [dataclasses.replace(run, seed=seed) for seed in range(seeds) for run in made]


def label(run: Run) -> str:
    """What a reader calls the network of a run."""
    return next(CONDITIONS[name].label for name in NETWORKS if CONDITIONS[name].model(SIZES) == run.model)


def _by_network(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    models = {CONDITIONS[name].model(SIZES): CONDITIONS[name].label for name in NETWORKS}
    mine = [row for row in rows if row["experiment"] == LIGHT.experiment]
    return {name: [row for row in mine if row["model"] == model] for model, name in models.items()}


def table(rows: Sequence[Mapping[str, Any]]) -> report.Table:
    """A line for each network: accuracy, the difference from LN at the same seeds, moments of what enters ReLU."""
    lines: list[list[report.Cell]] = []
    networks = _by_network(rows)
    base = {row["seed"]: float(row["test_accuracy"]) for row in networks[CONDITIONS["ln"].label]}
    for name, members in networks.items():
        if not members:
            continue
        accuracy = estimate([100 * float(row["test_accuracy"]) for row in members])
        line: list[report.Cell] = [name, report.plus_minus(accuracy.mean, accuracy.half)]
        less = [100 * (float(row["test_accuracy"]) - base[row["seed"]]) for row in members if row["seed"] in base]
        if less and name != CONDITIONS["ln"].label:
            mean = sum(less) / len(less)
            line.append(report.Number(mean, fixed(mean, 1, sign=True)))
        else:
            line.append(None)
        for key in ("moments/mean", "moments/variance"):
            values = [float(row[key]) for row in members if row.get(key) is not None]
            mean = sum(values) / len(values) if values else None
            line.append(None if mean is None else report.Number(mean, fixed(mean, 2)))
        lines.append(line)
    columns = ["network", "changing light, %", "less LN, points", "mean", "variance"]
    caption = (
        "Test accuracy in changing light: mean ± half the 95 % interval over seeds. Less LN: mean difference at the "
        "same seeds. Mean, variance: over the units of what enters ReLU, 0 and 1 where it is normalised."
    )
    return report.Table(columns, lines, caption)


def section(rows: Sequence[Mapping[str, Any]], histories: Mapping[str, Sequence[Mapping[str, Any]]]) -> report.Section:
    """The page's section: what the light does, the table, and accuracy over epochs."""
    networks = _by_network(rows)
    curves = {name: curve(members, histories, "test_accuracy") for name, members in networks.items() if members}
    drawn = [_pictures()]
    if any(len(one.x) > 1 for one in curves.values()):
        fig, ax = plots.figure()
        plots.learning_curves(ax, curves, ylabel="test accuracy", percent=True, order=tuple(networks))
        title = "Test accuracy in changing light after each epoch; bands: ± standard deviation over seeds"
        drawn.append(report.Figure(plots.svg(fig, title=title), f"{title}."))
    return report.Section("Inhibition against normalisation", ABOUT, tables=[table(rows)], figures=drawn)


def _pictures() -> report.Figure:
    x, _ = data.load(LIGHT.data).test.batch(torch.arange(3))
    law, shifts = data.Luminance(shift=SHIFT), (-0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75)
    lit = [law.apply(picture[None], torch.tensor([[shift], [1.0]])) for picture in x for shift in shifts]
    fig, ax = plots.figure(4.4, 2.3)
    labels = [fixed(shift, 2, sign=True) for _ in x for shift in shifts]
    plots.images(ax, torch.cat(lit), columns=len(shifts), labels=labels)
    title = "Three test pictures, darker and brighter"
    return report.Figure(plots.svg(fig, title=title), f"{title}: by how much of the range from black to white.")
