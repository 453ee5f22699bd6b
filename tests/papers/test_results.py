"""What results/ claims: every row's hash is its spec's, and the figures say what the README says they say.

A failure here means a number that no run of this code produced.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from equipoise import sweep
from equipoise.cli.documents import main as documents
from equipoise.report.listing import main as listing
from equipoise.train import Run

RESULTS = Path(__file__).resolve().parents[2] / "results"
FILES = sorted(RESULTS.rglob("*.csv"))


def spec_of(row: Mapping[str, Any]) -> Run:
    """The run whose spec is flattened in ``row``."""
    fields: dict[str, Any] = {}
    for item in dataclasses.fields(Run):
        inside = {k.removeprefix(f"{item.name}."): v for k, v in row.items() if k.startswith(f"{item.name}.")}
        if item.name in row:
            fields[item.name] = row[item.name]
        elif item.type.startswith("dict"):
            fields[item.name] = {k: v for k, v in inside.items() if v is not None}
    return Run(**fields)


@pytest.mark.parametrize("path", FILES, ids=[str(p.relative_to(RESULTS)) for p in FILES])
def test_every_row_carries_the_spec_that_made_it(path: Path) -> None:
    rows = sweep.read_csv(path)
    assert rows
    assert len({row["hash"] for row in rows}) == len(rows)
    for row in rows:
        assert spec_of(row).hash == row["hash"]
        assert row["experiment"] == str(path.relative_to(RESULTS)).removesuffix(".csv")
        assert all(row[k] not in (None, "") for k in ("preset", "seed", "device", "threads", "commit", "torch"))
        assert row["status"] == "finished" or "not finite" in row["message"]
        assert row["data"] != "cifar10" or "JPEG" in row["note"]


def test_the_list_of_results_is_that_of_the_files() -> None:
    assert listing(["--check"]) == 0


def test_the_tables_of_the_guides_are_those_of_the_results() -> None:
    assert documents(["--check"]) == 0


def test_feedback_alignment_beats_shallow_on_the_untouched_residual_network() -> None:
    rows = [r for r in sweep.read_csv(RESULTS / "feedback" / "residual.csv") if r["preset"] == "paper"]
    accuracy = {
        rule: fmean(r["test_accuracy"] for r in rows if r["rule"] == rule) for rule in ("bp", "fa", "dfa", "shallow")
    }
    assert accuracy["fa"] >= accuracy["shallow"] + 0.05
    assert fmean(r["angle"] for r in rows if r["rule"] == "fa") < 85
    assert accuracy["bp"] > accuracy["fa"]
