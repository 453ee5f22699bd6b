"""Exhibits of PEPITA that look into trained networks: weights (Figures 6, 10) and what becomes of the kernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
from torch import Tensor, nn

from equipoise import models, plots
from equipoise.errors import EquipoiseError, InputError
from equipoise.measure.statistics import estimate
from equipoise.measure.weights import Fit, fit_normal, fit_student_t
from equipoise.papers.exhibits import Cell, Exhibit, Figure, Histories, Number, Row, Table
from equipoise.papers.pepita.figures_accuracy import heading
from equipoise.papers.pepita.table1 import column_of
from equipoise.papers.picking import fixed, mean_and_sd, named, per_preset, split, values_of
from equipoise.plots import Point, Series
from equipoise.train import storage

__all__ = ["frozen_conv", "start", "trained", "weights"]

ORDER = ("bp", "bp, dropout", "pepita", "pepita, dropout")
# Of a weight's distribution the linear histogram shows all but one in a thousand, the logarithmic one all.
CENTRAL = 0.999
KERNELS = {"frozen": "frozen", "positions": "divided by P", "sqrt": "divided by √P", "none": "not divided"}


def trained(row: Row, folder: Path) -> dict[str, Tensor]:
    """The weights that a run ended with; none where its file is gone or damaged."""
    path = folder / str(row.get("experiment")) / str(row.get("hash")) / "weights.safetensors"
    try:
        return storage.read_weights(path) if path.exists() else {}
    except EquipoiseError:
        return {}


def start(row: Row) -> nn.Module | None:
    """The network that a run began with, built anew from its spec and seed; None where that cannot be done."""
    try:
        return models.make(str(row["model"]), seed=int(row["seed"]))
    except EquipoiseError:
        return None


def _matrices(row: Row, folder: Path) -> dict[str, Tensor]:
    """A run's trained weights of two or more dimensions, by layer, from input to output."""
    model, held = start(row), trained(row, folder)
    names = [] if model is None else [name for name, p in model.named_parameters() if p.ndim >= 2]
    return {name.removesuffix(".weight"): held[name] for name in names if name in held}


def _first_kept(members: Sequence[Row], folder: Path) -> tuple[int, dict[str, Tensor]] | None:
    """The lowest seed of which the weights are there, and these; None where there are none."""
    kept = ((int(row["seed"]), _matrices(row, folder)) for row in members)
    return next(((seed, layers) for seed, layers in kept if layers), None)


def _role(row: Row) -> str:
    return f"{row.get('rule')}{', dropout' if 'dropout=' in str(row.get('model')) else ''}"


@per_preset
def weights(rows: Sequence[Row], histories: Histories, folder: Path) -> list[Exhibit]:
    """How trained weights are distributed, with and without dropout, and which law fits them (Figures 6 and 10).

    Of each setting one run is pictured, the one with the lowest seed whose weights are there; the table is of all.
    """
    groups = named(rows, _role, order=ORDER)
    table = _fits_table(groups)
    found: list[Exhibit] = [table] if table.rows else []
    pictured = {name: _first_kept(members, folder) for name, members in groups.items()}
    held = {name: one[1] for name, one in pictured.items() if one is not None}
    if not held:
        return found
    seeds = ", ".join(sorted({str(one[0]) for one in pictured.values() if one is not None}))
    places = (("first", 0), ("output", -1)) if all(len(layers) > 1 for layers in held.values()) else (("output", -1),)
    for name, k in places:
        samples = {role: _flat(list(layers.values())[k]) for role, layers in held.items()}
        for log in (False, True):
            fig, ax = plots.figure()
            span = None if log else _central(samples)
            plots.histogram(ax, samples, log=log, span=span, xlabel="weight", order=ORDER)
            title = f"Trained weights of the {name} layer, as in Figure 6 of the paper, seed {seeds}"
            found.append(Figure(f"{name}{'-log' * log}", title + "; densities in decades" * log, fig))
    outputs = {role: _flat(list(layers.values())[-1]) for role, layers in held.items()}
    return [*found, *(_fit_panels(outputs, seeds, log=log) for log in (False, True))]


def _flat(weight: Tensor) -> np.ndarray:
    return weight.double().numpy().ravel()


def _central(samples: Mapping[str, np.ndarray]) -> tuple[float, float]:
    tail = (1 - CENTRAL) / 2
    ends = [np.quantile(one, [tail, 1 - tail]) for one in samples.values()]
    return float(min(low for low, _ in ends)), float(max(high for _, high in ends))


def _fit_panels(samples: Mapping[str, np.ndarray], seeds: str, *, log: bool) -> Figure:
    """Each output layer by itself, with the Normal and the Student t that fit it best."""
    fig, axes = plots.panels(len(samples), columns=min(2, len(samples)), height=1.9)
    for ax, (role, sample) in zip(axes, samples.items(), strict=True):
        span = (float(sample.min()), float(sample.max())) if log else _central({role: sample})
        x = np.linspace(*span, 201)
        densities = {name: Series(x.tolist(), one.density(x)) for name, one in _fits(sample).items()}
        plots.histogram(ax, {"weights": sample}, densities=densities, log=log, span=span, bins=60, title=role)
    plots.share_legend(fig)
    title = f"Weights of the output layer with fitted laws, as in Figure 10 of the paper, seed {seeds}"
    return Figure(f"fits{'-log' * log}", title + "; densities in decades" * log, fig)


def _fits(sample: np.ndarray) -> dict[str, Fit]:
    found = {}
    for name, fit in (("Normal", fit_normal), ("Student t", fit_student_t)):
        try:
            found[name] = fit(sample.tolist())
        except InputError:
            continue
    return found


def _fits_table(groups: Mapping[str, Sequence[Row]]) -> Table:
    """What was measured of each layer's weights when training ended: means over seeds."""
    lines: list[list[Cell]] = []
    for name, members in groups.items():
        layers = [key.split("/")[1] for key in members[0] if key.startswith("weights/") and key.endswith("/std")]
        for k, layer in enumerate(sorted(layers, key=_natural)):
            lines.append([name, f"{k + 1} of {len(layers)}", *_line(members, f"weights/{layer}/"), len(members)])
    return Table(
        "Weights after training, and the laws that fit them",
        [
            *("run", "layer", "sd", "positive, %", "excess kurtosis"),
            *("freedom of t", "t over Normal", "lognormal over half-normal", "seeds"),
        ],
        lines,
        "Means over seeds. One law over another: the mean log-likelihood of the first minus that of the second, in "
        "nats per weight (lognormal and half-normal: of |w|). A t of infinite freedom is the Normal itself.",
    )


def _natural(layer: str) -> list[tuple[int, str]]:
    """A sort key in which layer 10 comes after layer 9."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in layer.split(".")]


def _line(members: Sequence[Row], prefix: str) -> list[Cell]:
    line: list[Cell] = []
    for metric, factor, places in (
        ("std", 1, 4),
        ("positive", 100, 2),
        ("kurtosis", 1, 2),
        ("nu", 1, 1),
        ("t_gain", 1, 4),
        ("lognormal_gain", 1, 4),
    ):
        values = [factor * value for value in values_of(members, prefix + metric)]
        if values:
            line.append(Number(fmean(values), fixed(fmean(values), places)))
        else:  # JSON has no infinity: a t that was fitted, and has no freedom, is the Normal
            line.append("∞" if metric == "nu" and values_of(members, f"{prefix}t_gain") else None)
    return line


def _kernels(row: Row) -> str:
    """How the update of the kernels was normalised."""
    if row.get("options.kernel_rate") == 0:
        return KERNELS["frozen"]
    return KERNELS.get(str(row.get("options.conv_norm", "positions")), str(row.get("options.conv_norm")))


def _movement(row: Row, folder: Path) -> float | None:
    """How far the kernels moved: |W - W_0| / |W_0| over all weights with four dimensions; None without the files."""
    model, held = start(row), trained(row, folder)
    pairs = (
        []
        if model is None
        else [(p.detach(), held[n]) for n, p in model.named_parameters() if p.ndim == 4 and n in held]
    )
    if not pairs:
        return None
    moved = sum(float((after.double() - before.double()).square().sum()) for before, after in pairs)
    return (moved / sum(float(before.double().square().sum()) for before, _ in pairs)) ** 0.5


@per_preset
def frozen_conv(rows: Sequence[Row], histories: Histories, folder: Path) -> list[Exhibit]:
    """Accuracy by what the kernels' update is divided by, against frozen kernels, and how far the kernels moved."""
    lines: list[list[Cell]] = []
    figures: list[Exhibit] = []
    for column, held in split(rows, column_of).items():
        points = []
        for name, members in named(held, _kernels, order=tuple(KERNELS.values())).items():
            ours = values_of(members, "test_accuracy")
            moves = [move for move in (_movement(row, folder) for row in members) if move is not None]
            accuracy = mean_and_sd([100 * value for value in ours])
            movement = Number(100 * fmean(moves), f"{100 * fmean(moves):.3g}") if moves else None
            lines.append([heading(column), name, accuracy, movement, len(ours)])
            found = estimate(ours)
            points.append(Point(name, found.mean, found.low, found.high))
        if len(points) > 1:
            fig, ax = plots.figure(4.4, 0.9 + 0.5 * len(points))
            plots.estimates(ax, points, xlabel="test accuracy", percent=True)
            title = f"{heading(column)}: test accuracy by how the update of the kernels is normalised"
            figures.append(Figure(column, f"{title} (P: the number of positions)", fig))
    if not figures:
        return []
    table = Table(
        "Do the kernels learn? Test accuracy by how the update of the kernels is normalised",
        ["task", "kernels", "accuracy, %", "kernels moved by, %", "seeds"],
        lines,
        "Accuracy: mean ± standard deviation. Movement: norm of the change of the kernels over their first norm, mean.",
    )
    return [table, *figures]
