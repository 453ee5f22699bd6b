"""Exhibits that look into trained networks, from weights that were made up: a failure here hides a wrong picture of them.

Weights are written to a run's folder as training would; what is drawn and tabled of them is worked out here again.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from equipoise import data, measure, models
from equipoise.papers.exhibits import Figure, Number
from equipoise.papers.pepita import figures_embedding
from reliability._exhibits import figures, keep, lines, row, show, shown, tables

DIGITS = "mlp:64-100-10,bias=no,init=he_normal"


def drawn_values(ax) -> tuple[float, float, float]:
    """Of the first outline of a histogram: its whole area, its mean, its largest density."""
    outline = next(p for p in ax.patches if not p.get_fill())
    heights, edges, _ = outline.get_data()
    width = np.diff(edges)
    return float((heights * width).sum()), float((heights * width * (edges[1:] + edges[:-1]) / 2).sum()), heights.max()


def test_weights_are_those_of_the_files_layer_by_layer(tmp_path: Path) -> None:
    spec: dict[str, Any] = {"experiment": "pepita/weights", "model": DIGITS, "preset": "smoke"}
    dropped = spec | {"model": f"{DIGITS},dropout=0.1"}
    rows = [row("fc-digits", "pepita", seed, **spec) for seed in (3, 2, 1)] + [row("fc-digits", "bp", 2, **dropped)]
    normal = torch.randn(10, 100, generator=torch.Generator().manual_seed(0))
    keep(rows[1], tmp_path, **{"1__weight": torch.linspace(4, 6, 6400).reshape(100, 64), "3__weight": 0.5 * normal})
    keep(rows[0], tmp_path)
    keep(rows[3], tmp_path, **{"1__weight": torch.linspace(-3, -1, 6400).reshape(100, 64), "4__weight": 2 * normal})
    found = show("pepita/weights", rows, {}, tmp_path)
    axes = figures(found)
    assert list(axes) == ["first", "first-log", "output", "output-log", "fits", "fits-log"]
    # bp, dropout comes first, and its first layer lies around -2.
    area, mean, _ = drawn_values(axes["first-log"][0])
    assert (area, mean) == (pytest.approx(1), pytest.approx(-2, abs=0.1))
    assert [ax.get_title("left") for ax in axes["fits"]] == ["bp, dropout", "pepita"]
    for ax, sd in zip(axes["fits"], (2.0, 0.5), strict=True):
        curves = lines(ax)
        assert list(curves) == ["Normal", "Student t"]
        spread = sd * float(normal.double().std(correction=0))
        assert max(curves["Normal"][1]) == pytest.approx(1 / spread / math.sqrt(2 * math.pi), rel=1e-3)
    assert axes["fits-log"][0].get_yscale() == axes["output-log"][0].get_yscale() == "log"
    assert axes["fits"][0].get_yscale() == "linear"
    titles = [one.title for one in found if isinstance(one, Figure)]
    assert all("seed 2" in title for title in titles), "of each setting the lowest seed whose weights are there"


def test_the_table_of_fits_has_the_means_that_the_runs_measured() -> None:
    names = ("std", "positive", "kurtosis", "nu", "t_gain", "lognormal_gain")
    values = {0: (0.1, 0.5, 1.0, 4.0, 0.02, -0.1), 1: (0.3, 0.4, 2.0, 6.0, 0.04, -0.3)}
    rows = []
    for seed in (0, 1):
        measured: dict[str, Any] = {f"weights/3/{name}": v for name, v in zip(names, values[seed], strict=True)}
        measured |= {f"weights/1/{name}": None if name == "nu" else 0.25 for name in names}
        rows.append(row("fc-digits", "bp", seed, experiment="pepita/weights", model=DIGITS) | measured)
    (table,) = tables(show("pepita/weights", rows))
    cells = [[shown(cell)[0] for cell in line] for line in table.rows]
    assert cells == [
        ["bp", "1 of 2", "0.2500", "25.00", "0.25", "∞", "0.2500", "0.2500", "2"],
        ["bp", "2 of 2", "0.2000", "45.00", "1.50", "5.0", "0.0300", "\N{MINUS SIGN}0.2000", "2"],
    ]


def test_the_kernels_movement_is_relative_to_their_start(tmp_path: Path) -> None:
    changes = ({"kernel_rate": 0.0}, {"conv_norm": "none"}, {"conv_norm": "sqrt"})
    rows = [row("conv-digits", "pepita", accuracy=0.9)]
    rows += [
        row("conv-digits", "pepita", accuracy=0.8 + k / 100, experiment="pepita/frozen-conv", options=change)
        for k, change in enumerate(changes)
    ]
    for k, one in enumerate(rows[:3]):
        kernel = models.make(one["model"], seed=0).state_dict()["0.weight"]
        keep(one, tmp_path, **{"0__weight": kernel * (1 + (0.1, 0.0, 0.5)[k]), "4__weight": torch.ones(10, 128)})
    found = show("pepita/frozen-conv", rows, {}, tmp_path)
    (table,) = tables(found)
    assert [[shown(cell)[0] for cell in line[1:4]] for line in table.rows] == [
        ["frozen", "80.00", "0"],
        ["divided by P", "90.00", "10"],
        ["divided by √P", "82.00", "None"],
        ["not divided", "81.00", "50"],
    ]
    ((ax,),) = figures(found).values()
    points = [line.get_xdata()[0] for line in ax.get_lines() if line.get_marker() == "o"]
    assert points == pytest.approx([0.8, 0.9, 0.82, 0.81])
    assert show("pepita/frozen-conv", rows[:1], {}, tmp_path) == []


def test_the_embedding_is_of_the_hidden_layer_before_and_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures_embedding, "IMAGES", 80)
    rows = [row("fc-digits", "pepita", seed, preset="smoke") for seed in (0, 1)]
    x, labels = data.load("digits").test.batch(torch.arange(80))
    # A hidden layer that names one pixel: nothing is left to tell the classes apart by, but that.
    blind = torch.zeros(100, 64)
    blind[:, 20] = 1.0
    keep(rows[1], tmp_path, **{"1__weight": blind})
    found = show("pepita/embedding", rows, {}, tmp_path)
    start = models.make(rows[1]["model"], seed=1).state_dict()["1.weight"]
    hidden = [(x.flatten(1) @ weight.T).clamp_min(0) for weight in (start, blind)]
    expected = [100 * measure.separation(one, labels, neighbours=10) for one in hidden]
    ((line,),) = (table.rows for table in tables(found))
    numbers = [cell.value for cell in line if isinstance(cell, Number)]
    assert numbers == pytest.approx(expected)
    assert numbers[1] < numbers[0] - 20
    assert line[-1] == 80
    axes = figures(found)
    assert list(axes) == ["before", "after"]
    for (ax,) in axes.values():
        counts = {name: len(points[0]) for name, points in lines(ax).items()}
        assert counts == {str(k): int((labels == k).sum()) for k in range(10)}
    assert all("seed 1" in one.title for one in found if isinstance(one, Figure)), "the one whose weights are there"
