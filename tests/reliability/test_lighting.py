"""The demo in changing light: which networks it trains, and what its table and section say of made-up runs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from equipoise import models, report, sweep
from equipoise.cli import demo, lighting
from equipoise.nn import INormLinear
from equipoise.papers.inorm.conditions import CONDITIONS


def made_up(**accuracies: list[float]) -> tuple[list[dict[str, Any]], dict[str, list[dict[str, Any]]]]:
    rows, histories = [], {}
    for run in lighting.runs(3):
        name = next(n for n in lighting.NETWORKS if CONDITIONS[n].label == lighting.label(run))
        if name in accuracies:
            found = {"test_accuracy": accuracies[name][run.seed], "moments/mean": -0.004, "moments/variance": 1.5}
            rows.append({**sweep.flat(run), "hash": run.hash, **found})
            histories[run.hash] = [{"epoch": k, "test_accuracy": 0.1 * k} for k in (1, 2, 3)]
    return rows, histories


def test_the_demo_trains_five_networks_of_one_start_in_the_same_light() -> None:
    plan = [(demo._name(kind, run), run) for kind, run in demo._plan(["bp"]) if kind == "light"]
    assert [name for name, _ in plan[:5]] == ["LN", "no norm", "I-Norm", "I-Norm + center", "I-Norm + lateral"]
    assert len({run.hash for _, run in plan}) == 5 * demo.SEEDS
    assert all((run.perturb, run.data, run.rule) == ({"shift": 0.75}, "digits", "bp") for _, run in plan)
    starts = []
    for _, run in plan[:5]:
        net = models.make(run.model, seed=run.seed)
        assert any(isinstance(m, INormLinear) for m in net.modules()) == run.model.startswith("inorm")
        starts.append([p for n, p in net.named_parameters() if n.endswith("weight_ee")])
    for other in starts[1:]:
        assert all(torch.equal(a, b) for a, b in zip(starts[0], other, strict=True))
    assert isinstance(net, nn.Sequential)


def test_its_table_has_differences_at_the_same_seeds() -> None:
    rows, _ = made_up(ln=[0.80, 0.90, 0.70], center=[0.82, 0.91, 0.70], none=[0.5, 0.6, 0.4])
    found = {str(line[0]): line for line in lighting.table(rows).rows}
    assert list(found) == ["LN", "no norm", "I-Norm + center"]
    assert found["LN"][2] is None
    assert found["I-Norm + center"][2] == report.Number(pytest.approx(1.0), "+1.0")
    assert found["no norm"][2] == report.Number(pytest.approx(-30.0), "\N{MINUS SIGN}30.0")
    assert [cell.text for cell in found["LN"][3:]] == ["0.00", "1.50"]  # type: ignore[union-attr]


def test_its_section_has_the_light_the_table_and_the_curves() -> None:
    rows, histories = made_up(**{name: [0.8, 0.9, 0.7] for name in lighting.NETWORKS})
    page = report.page("x", [lighting.section(rows, histories)])
    for words in ("Inhibition against normalisation", "darker and brighter", "after each epoch", "I-Norm + lateral"):
        assert words in page
    nothing = report.page("x", [lighting.section([], {})])
    assert "after each epoch" not in nothing
