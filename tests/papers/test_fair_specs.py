"""The fair comparisons: that every line has the same budget, that rates are chosen on held-out images, what is refused.

A failure here means that one rule was given more than another, or that the test set chose a rate.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from equipoise import models, rules, sweep
from equipoise.cli import main
from equipoise.errors import InputError
from equipoise.measure.cost import upkept_cost
from equipoise.papers import load_all
from equipoise.papers.exhibits import Table
from equipoise.papers.fair.columns import columns, epochs_to
from equipoise.papers.fair.conditions import (
    CIRCUITS,
    METHODS,
    NETWORKS,
    RANGES,
    REFUSED,
    Cell,
    Draw,
    cell_of,
    draws,
    refused,
)
from equipoise.papers.fair.figures import EXHIBITS
from equipoise.papers.fair.studies import Circuits, Rules, Scale, best
from equipoise.papers.fair.tables import edge_of
from equipoise.train import Run, Summary, experiments

load_all()
TINY = Scale(width=16, draws=2, tune_epochs=1, tune_limit=200, epochs=1, train_limit=200, test_limit=50)


def test_every_rule_of_the_comparison_is_there() -> None:
    asked = {"bp", "fa", "dfa", "usf", "drtp", "pepita", "tp", "dtp", "gait", "shallow"}
    assert {one.rule for one in METHODS.values()} == asked
    assert METHODS["dfa-sign"].options == {"sign": True}
    study: Any = experiments["fair/rules"].preset("paper")
    assert set(study.networks) == {"dense-1", "dense-2", "dense-4", "cnn"}
    assert set(study.data) == {"mnist", "fashion-mnist", "cifar10"}
    cells = {(c.data, c.place, c.name) for c in study.cells()}
    assert all(
        ((data, place, name) in cells) != bool(refused(place, name))
        for data in study.data
        for place in NETWORKS
        for name in METHODS
    )


def test_every_line_has_the_same_draws_and_nothing_else_differs() -> None:
    own = {"model": "", "data": "digits", "rule": "bp", "options": {}, "group_rates": {}}
    for study in (Rules(("digits",), scale=TINY), Circuits(("digits",), scale=TINY, circuits=("none", "inorm"))):
        for runs in (study.first(), study.runs(3)):
            lines: dict[tuple, list[Run]] = {}
            for run in runs:
                key = (run.data, run.model, run.rule, json.dumps(run.options))
                lines.setdefault(key, []).append(dataclasses.replace(run, **own))
            assert len(lines) == len(study.cells())
            first, *others = lines.values()
            assert others
            assert all(one == first for one in others)


def test_rates_are_chosen_on_held_out_images_and_the_test_set_is_not_shown() -> None:
    study = Rules(("digits",), scale=TINY)
    assert {(run.test_limit, run.validation, run.select) for run in study.first()} == {(1, 0.1, "last")}
    assert {run.seed for run in study.first()} == {TINY.tune_seed}
    assert all(run.test_limit == 50 and run.validation == 0.1 for run in study.runs(0))
    outcomes = []
    for k, run in enumerate(study.first()):  # the third draw is best on held-out images, the first on test images
        found = {"validation_accuracy": 0.5 + 0.1 * (k % 4 == 2), "test_accuracy": 1.0 * (k % 4 == 0)}
        outcomes.append(Summary("finished", run.hash, metrics=found, selected=found))
    chosen = {(run.optimizer, run.lr) for run in study.after(outcomes).runs(7)}
    third = study.tried()[2]
    assert chosen == {(third.optimiser, third.rate)}
    with pytest.raises(InputError, match="outcomes"):
        study.after(outcomes[1:])


def test_a_run_that_diverged_is_last_and_of_equals_the_lowest_rate_counts() -> None:
    tried = [Draw("sgd", 0.1), Draw("sgd", 0.01), Draw("adam", 0.3)]
    lost = Summary("failed", "x", metrics={"validation_accuracy": 0.9}, message="the loss is not finite at step 9")
    good = Summary("finished", "x", metrics={"validation_accuracy": 0.2})
    assert best(tried, [lost, lost, good]).rate == 0.3
    assert best(tried, [good, good, lost]).rate == 0.01


def test_draws_are_one_in_each_part_of_the_range() -> None:
    found = draws(("sgd", "adam"), 5)
    assert found == draws(("sgd", "adam"), 5)
    for name in ("sgd", "adam"):
        low, high = RANGES[name]
        rates = [one.rate for one in found if one.optimiser == name]
        for k, rate in enumerate(rates):
            assert low * (high / low) ** (k / 5) * 0.999 <= rate <= low * (high / low) ** ((k + 1) / 5) * 1.001
        assert edge_of(rates[0], rates) == "lowest"
        assert edge_of(rates[-1], rates) == "highest"
        assert edge_of(rates[2], rates) == "inside"
    assert Draw("adam", 0.1).on(Run()).optimizer_options == {}
    assert Draw("sgd", 0.1).on(Run()).optimizer_options == {"momentum": 0.9}


@pytest.mark.parametrize("place", [*NETWORKS, *CIRCUITS])
def test_what_is_refused_is_what_the_rules_refuse(place: str) -> None:
    torch.manual_seed(0)
    x, y = torch.rand(4, 1, 8, 8), torch.arange(4)
    for name in METHODS if place in NETWORKS else ("bp", "fa", "dfa", "pepita"):
        cell = Cell("digits", place, name)
        model = models.make(cell.model(12))
        if refused(place, name) and cell.method.rule != "bp":
            with pytest.raises(InputError):
                rules.make(cell.method.rule, model, example=x, **cell.method.options).backward(x, y)
        elif not refused(place, name):
            rules.make(cell.method.rule, model, example=x, **cell.method.options).backward(x, y)
    assert all(place in (*NETWORKS, *CIRCUITS) and name in METHODS for place, name in REFUSED)


def test_lines_read_back() -> None:
    one = dataclasses.replace(TINY, draws=1)
    for study in (Rules(("digits",), scale=one, networks=tuple(NETWORKS)), Circuits(scale=one)):
        cells = study.cells()
        assert [cell_of(sweep.flat(run)) for run in study.runs(0)] == cells
        draws_each = len(study.tried())
        assert [cell_of(sweep.flat(run)) for run in study.first()] == [c for c in cells for _ in range(draws_each)]
    assert cell_of(sweep.flat(Run(model="residual:1x8x8-10"))) is None


def test_the_twin_has_the_units_of_the_plain_network() -> None:
    sizes = {kind: Cell("mnist", "dense-4", name).model(256) for kind, name in (("plain", "bp"), ("twin", "gait"))}
    assert sizes["plain"].partition(":")[2] == sizes["twin"].partition(":")[2] == "784-256-256-256-256-10"
    assert sizes["twin"].startswith("invertible:")
    twins = [name for name, one in METHODS.items() if one.kind == "twin"]
    assert "bp-twin" in twins
    assert Cell("mnist", "dense-2", "bp-tanh").model(256) == Cell("mnist", "dense-2", "drtp-tanh").model(256)


def test_epochs_to_a_share_of_the_last_accuracy() -> None:
    assert epochs_to([0.5, 0.8, 1.0]) == pytest.approx(2.5)
    assert epochs_to([0.9, 0.5]) == pytest.approx((0.45 - 0.1) / 0.8)
    assert epochs_to([0.1, 0.105]) is None
    history = [{"validation_accuracy": v, "test_accuracy": 1.0} for v in (0.5, 0.8, 1.0)]
    assert columns({}, history) == {"epochs_to_90": pytest.approx(2.5)}


def shown(cell: Any) -> float:
    """The number that a cell begins with."""
    return (cell[0] if isinstance(cell, tuple) else cell).value


def test_the_table_names_refusals_and_divergence_and_compares_seed_by_seed(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = []
    for name, values in (("bp", (0.9, 0.8)), ("shallow", (0.5, 0.3)), ("fa", (0.7, None))):
        for seed, value in enumerate(values):
            run = Cell("digits", "cnn", name).on(Run(experiment="fair/rules", seed=seed, preset="paper"), 16)
            rows.append({**sweep.flat(run), "hash": run.hash, "angle": 20.0 + seed, "step_cost": 1.5})
            rows[-1] |= {"test_accuracy": value} if value is not None else {"status": "failed"}
    (table,) = [one for one in EXHIBITS["fair/rules"](rows, {}, tmp_path) if isinstance(one, Table)]
    lines = {str(line[2]): line for line in table.rows}
    assert "1 diverged" in str(lines["FA"][3])
    assert shown(lines["FA"][3]) == pytest.approx(40.0), "a run that diverged scores chance"
    assert shown(lines["BP"][4]) == pytest.approx(45.0), "the mean of 40 and 50 points"
    assert shown(lines["BP"][5]) == pytest.approx(20.5)
    tuned = [{**row, "experiment": "fair/rules-tuning", "validation_accuracy": 0.4} for row in rows[:2]]
    (told,) = EXHIBITS["fair/rules-tuning"](tuned, {}, tmp_path)
    assert isinstance(told, Table)
    full = Rules(("digits",), scale=TINY, networks=("cnn", "dense-1"), methods=("bp", "gait"))
    every = [{**sweep.flat(run), "hash": run.hash, "test_accuracy": 0.5} for run in full.runs(0)]
    (table, *_) = EXHIBITS["fair/rules"](every, {}, tmp_path)
    assert isinstance(table, Table)
    said = [str(line[3]) for line in table.rows if line[1] == "cnn" and line[2] == METHODS["gait"].label]
    assert said == [f"refused: {refused('cnn', 'gait')}"]


def test_a_glance_has_every_rule_at_every_network_and_every_circuit_under_every_rule(tmp_path: Path) -> None:
    rules_ = Rules(("digits", "mnist"), scale=TINY, networks=("cnn", "dense-1"), methods=("bp", "gait"))
    circuits = Circuits(("digits",), scale=TINY, circuits=("none", "dann"), rules=("bp", "fa"))
    found = {}
    for name, study in (("fair/rules", rules_), ("fair/circuits", circuits)):
        rows = [
            {**sweep.flat(run), "hash": run.hash, "test_accuracy": (place + 1) / 100 + seed / 50}
            for seed in range(2)
            for place, run in enumerate(study.runs(seed))
        ]
        tables = [one for one in EXHIBITS[name](rows, {}, tmp_path) if isinstance(one, Table)]
        found[name] = next(one for one in tables if one.title == "At a glance")
    table = found["fair/rules"]
    assert list(table.columns[1:]) == ["digits, dense-1", "digits, cnn", "mnist, dense-1", "mnist, cnn"]
    (bp, gait) = table.rows
    assert [shown(cell) for cell in bp[1:]] == pytest.approx([3.0, 2.0, 6.0, 5.0])
    assert [gait[2], gait[4]] == [None, None], "no twin of the network with kernels"
    table = found["fair/circuits"]
    assert list(table.columns[1:]) == ["digits, BP", "digits, FA"]
    assert [[shown(cell) for cell in row[1:]] for row in table.rows] == [pytest.approx(x) for x in ([2, 3], [4, 5])]


@pytest.mark.parametrize("name", list(EXHIBITS))
def test_exhibits_make_nothing_of_nothing(name: str, tmp_path: Path) -> None:
    assert EXHIBITS[name]([], {}, tmp_path) == []


class Clocked:
    """A rule whose backward takes 2 ticks of a clock and its upkeep 1, where backpropagation takes 1."""

    now = 0.0

    def __init__(self, ticks: float = 2.0) -> None:
        self.model, self.ticks = torch.nn.Linear(2, 2), ticks

    def backward(self, x: torch.Tensor, y: torch.Tensor, *, sync: bool) -> None:
        Clocked.now += self.ticks

    def maintain(self) -> None:
        Clocked.now += 1.0

    def reference(self) -> Clocked:
        return Clocked(1.0)


def test_the_cost_of_a_step_has_its_upkeep() -> None:
    x = torch.zeros(2, 2)
    assert upkept_cost(Clocked(), x, x, rounds=5, clock=lambda: Clocked.now) == pytest.approx(3.0)
    with pytest.raises(InputError, match="rounds"):
        upkept_cost(Clocked(), x, x, rounds=0)


@pytest.mark.slow
def test_both_stages_are_one_command_that_resumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["run", "fair/rules", "--preset", "smoke", "--methods", "bp,shallow", "--draws", "3"]
    command += ["--runs", str(tmp_path), "--seeds", "2"]
    assert main(command) == 0
    tried = [r for r in sweep.collect(tmp_path) if r["experiment"] == "fair/rules-tuning"]
    final = [r for r in sweep.collect(tmp_path) if r["experiment"] == "fair/rules"]
    assert (len(tried), len(final)) == (6, 4)
    for name in ("bp", "shallow"):
        scores = {r["lr"]: r["validation_accuracy"] for r in tried if r["rule"] == name}
        winner = max(scores, key=lambda rate: (scores[rate], -rate))
        assert {r["lr"] for r in final if r["rule"] == name} == {winner}
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("summary.json")}
    assert main(command) == 0
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert "first stage: 6 of 6 runs ended" in capsys.readouterr().err
