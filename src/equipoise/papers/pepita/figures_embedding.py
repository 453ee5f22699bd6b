"""The hidden layer of PEPITA's network before and after training: a picture (Figure 4), and a number beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from equipoise import data, plots
from equipoise.errors import EquipoiseError
from equipoise.measure.embedding import embed, hidden_activity, separation
from equipoise.papers.exhibits import Cell, Exhibit, Figure, Histories, Number, Row, Table
from equipoise.papers.pepita.figures_weights import start, trained
from equipoise.papers.picking import fixed, named, per_preset

__all__ = ["embedding"]

IMAGES = 1000
NEIGHBOURS = 10


@per_preset
def embedding(rows: Sequence[Row], histories: Histories, folder: Path) -> list[Exhibit]:
    """t-SNE of the hidden layer's activity on test images, before and after training, by class (Figure 4).

    Of each setting one run is pictured, the one with the lowest seed whose weights are there.
    """
    found: list[Exhibit] = []
    lines: list[list[Cell]] = []
    for name, members in named(rows, lambda row: str(row.get("rule"))).items():
        pair, row = next(((pair, row) for row in members if (pair := _activities(row, folder))), (None, None))
        if pair is None or row is None:
            continue
        (before, after), labels = pair
        numbers = [separation(one, labels, neighbours=NEIGHBOURS) for one in (before, after)]
        lines.append([name, *(Number(100 * number, fixed(100 * number, 1)) for number in numbers), len(labels)])
        for when, activity in (("before", before), ("after", after)):
            fig, ax = plots.figure(4.4, 4.0)
            points = embed(activity, seed=int(row["seed"]), perplexity=min(30.0, len(labels) / 4))
            plots.scatter(ax, points.numpy(), labels.numpy())
            title = f"{name}: activity of the hidden layer {when} training, as in Figure 4 of the paper; t-SNE of "
            title += f"{len(labels)} test images of {row['data']}, seed {row['seed']}"
            found.append(Figure(when if len(lines) == 1 else f"{when}-{len(lines)}", title, fig))
    if not lines:
        return []
    table = Table(
        "How well the hidden layer keeps the classes apart",
        ["run", "before training, %", "after training, %", "images"],
        lines,
        f"Share of the {NEIGHBOURS} nearest neighbours in the hidden layer that have the image's own label.",
    )
    return [table, *found]


def _activities(row: Row, folder: Path) -> tuple[tuple[Tensor, Tensor], Tensor] | None:
    """The last hidden layer's activity before and after training, and the labels; None where files are missing."""
    model, held = start(row), trained(row, folder)
    if model is None or not held:
        return None
    layers = [name.removesuffix(".weight") for name, p in model.named_parameters() if p.ndim >= 2]
    try:
        test = data.load(str(row["data"])).test
        x, labels = test.batch(torch.arange(min(IMAGES, len(test))))
        before = hidden_activity(model, x, layers[-2])
        model.load_state_dict(held)
        return (before, hidden_activity(model, x, layers[-2])), labels
    except (EquipoiseError, IndexError, RuntimeError):
        return None
