"""The demo's deep spiking networks: with E-I circuits, with batch norm, with nothing; a table and a section."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from equipoise import data, plots, report
from equipoise.cli.checkpoint import trained
from equipoise.measure.spiking import cells_heard
from equipoise.papers.eisnn.layers import by_layer, together
from equipoise.papers.picking import fixed
from equipoise.train import Run

__all__ = ["NETWORKS", "SPIKING", "label", "runs", "section", "table"]

STEPS = 4
SIZES = "64-64-64-64-64-64-10"
SPIKING = Run(
    experiment="demo/spiking",
    preset="demo",
    epochs=5,
    batch_size=32,
    scheduler="warmup_cosine",
    scheduler_options={"warmup": 1.0},
    measures=["operations", "spiking"],
)
# What each network is made with, trained at, and whether it looks at a batch before it starts.
NETWORKS: Mapping[str, tuple[str, float, int]] = {
    "E-I": ("", 0.02, 128),
    "batch norm": (",norm=batch", 0.1, 0),
    "no norm": (",norm=none", 0.1, 0),
}
ABOUT = (
    f"Five hidden layers of 64 cells that spike, for {STEPS} time steps, trained by backpropagation through a "
    "surrogate derivative of spikes.\n\n"
    "- In `E-I` inhibitory cells subtract and divide (`equipoise.nn.EILinear`), every weight is positive, nothing is "
    "normalised, and `equipoise.nn.ei_init_` has set the start so that every layer fires.\n"
    "- `batch norm` has batch normalisation over time and pictures in its place.\n"
    "- `no norm` has neither: its activity dies out on the way, and with it the gradient.\n\n"
    "`equipoise run eisnn/mnist` and `eisnn/init` ask the same of larger networks."
)


def runs() -> list[Run]:
    """A run for each network."""
    return [
        dataclasses.replace(SPIKING, model=_model(options), lr=lr, init_batch=batch)
        for options, lr, batch in NETWORKS.values()
    ]


def _model(options: str) -> str:
    return f"spiking-mlp:{SIZES},steps={STEPS}{options}"


def label(run: Run) -> str:
    """What a reader calls the network of a run."""
    return next(name for name, (options, _, _) in NETWORKS.items() if _model(options) == run.model)


def _by_network(rows: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    found = {row["model"]: row for row in rows if row["experiment"] == SPIKING.experiment}
    return {name: found[model] for name, (o, _, _) in NETWORKS.items() if (model := _model(o)) in found}


def table(rows: Sequence[Mapping[str, Any]]) -> report.Table:
    """A line for each network: accuracy, firing rates of the first and last hidden layers, energy of a picture."""
    lines: list[list[report.Cell]] = []
    for name, row in _by_network(rows).items():
        accuracy, rates, energy = 100 * float(row["test_accuracy"]), together([row], "spikes"), float(row["energy"])
        cells = [report.Number(rate, f"{fixed(100 * rate, 1)} %") for rate in (rates[0], rates[-1])]
        lines.append(
            [name, report.Number(accuracy, fixed(accuracy, 1)), *cells, report.Number(energy, f"{energy:.0f}")]
        )
    columns = ["network", "test, %", "first layer fires", "last layer fires", "energy, nJ"]
    caption = (
        "One seed. Fires: spikes per cell and time step on test pictures. Energy: of one picture's sums and products, "
        "at the costs of 45 nm that `measure.operations` states."
    )
    return report.Table(columns, lines, caption)


def section(rows: Sequence[Mapping[str, Any]], folder: str | Path) -> report.Section:
    """The page's section: the table, rates by layer, and what every cell of the E-I network does with a picture."""
    networks = _by_network(rows)
    fig, ax = plots.figure()
    drawn = {name: one for name, row in networks.items() if (one := by_layer([row], "spikes")) is not None}
    plots.learning_curves(
        ax, drawn, xlabel="layer of spiking cells", ylabel="firing rate", percent=True, order=tuple(NETWORKS)
    )
    title = "Firing rates after training, by layer"
    figures = [report.Figure(plots.svg(fig, title=title), f"{title}.")]
    if "E-I" in networks:
        figures.append(_spikes(runs()[0], Path(folder)))
    return report.Section("Spiking without normalisation", ABOUT, tables=[table(rows)], figures=figures)


def _spikes(run: Run, folder: Path) -> report.Figure:
    """Every cell's spikes for one test picture: a line of squares for each time step, a square for each layer."""
    x, _ = data.load(run.data).test.batch(torch.arange(1))
    heard = [spikes for _, spikes in cells_heard(trained(run, folder), x).values()]
    maps = torch.stack([spikes.reshape(STEPS, 8, 8) for spikes in heard], dim=1).flatten(0, 1)
    fig, ax = plots.figure(4.4, 3.0)
    labels = [f"{layer + 1}, t = {t + 1}" for t in range(STEPS) for layer in range(len(heard))]
    plots.images(ax, maps[:, None], columns=len(heard), labels=labels)
    title = "Spikes of the E-I network for one test picture"
    said = f"{title}: the layer and the time step under each square, whose 64 points are the layer's cells."
    return report.Figure(plots.svg(fig, title=title), said)
