"""The demo's spiking networks: which it trains, and what its table and section say of made-up runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from equipoise import models, report, sweep
from equipoise.cli import demo, firing
from equipoise.nn import EILinear


def made_up() -> list[dict[str, Any]]:
    rows = []
    for run, accuracy in zip(firing.runs(), (0.9, 0.95, 0.1), strict=True):
        rates = {f"spikes/net.{layer}": accuracy / layer for layer in (10, 2, 4)}
        rows.append({**sweep.flat(run), "hash": run.hash, "test_accuracy": accuracy, "energy": 41.6, **rates})
    return rows


def test_the_demo_trains_three_spiking_networks() -> None:
    plan = [(demo._name(kind, run), run) for kind, run in demo._plan(["bp"]) if kind == "spiking"]
    assert [name for name, _ in plan] == ["E-I", "batch norm", "no norm"]
    for name, run in plan:
        layers = [m for m in models.make(run.model, seed=run.seed).modules() if isinstance(m, EILinear)]
        assert bool(layers) == bool(run.init_batch) == (name == "E-I")


def test_its_table_has_the_rates_of_the_first_and_the_last_layer() -> None:
    found = {str(line[0]): line for line in firing.table(made_up()).rows}
    assert list(found) == ["E-I", "batch norm", "no norm"]
    assert found["E-I"][1:] == [
        report.Number(pytest.approx(90.0), "90.0"),
        report.Number(pytest.approx(0.45), "45.0 %"),
        report.Number(pytest.approx(0.09), "9.0 %"),
        report.Number(pytest.approx(41.6), "42"),
    ]


def test_its_section_draws_the_rates_of_those_that_ran(tmp_path: Path) -> None:
    rows = [row for row in made_up() if row["init_batch"] == 0]
    page = report.page("x", [firing.section(rows, tmp_path)])
    for words in ("Spiking without normalisation", "Firing rates after training", "batch norm", "no norm"):
        assert words in page
    assert "for one test picture" not in page
