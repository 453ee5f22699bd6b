"""What a run measures on the way: a failure here hides a number under another's name, or weights that measuring moved."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from equipoise import sweep
from equipoise.errors import InputError
from equipoise.measure import Measure, measures
from equipoise.train import Machine, Run, read_weights, storage, train
from equipoise.train.parts import build

RUN = Run(rule="fa", model="mlp:64-20-10,dropout=0.2", train_limit=300, test_limit=40, validation=0.2, epochs=3)
seen: list[tuple[Tensor, Tensor, bool, float]] = []


def _noted(rule: Any, x: Tensor, y: Tensor, generator: torch.Generator) -> dict[str, float]:
    seen.append((x, y, rule.model.training, float(torch.rand((), generator=generator))))
    return {"mine": float(len(x)), "mine/nan": float("nan")}


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    seen.clear()
    own = {
        "noted": Measure("noted", _noted),
        "late": Measure("late", lambda *_: {"late": 1.0}, "end"),
        "thief": Measure("thief", lambda *_: {"test_accuracy": 1.0}),
    }
    for name, one in own.items():
        measures.register(name)(one)
    yield
    for name in own:
        measures.remove(name)


def rows(run: Run, runs: Path) -> list[dict[str, Any]]:
    train(run, Machine(runs=runs))
    return storage.read_lines(run.folder(runs) / "metrics.jsonl")


def test_a_measure_is_asked_after_every_epoch_or_after_the_last(tmp_path: Path) -> None:
    run = dataclasses.replace(RUN, measures=["noted", "late"], measure_batch=7)
    found = rows(run, tmp_path)
    assert [row["mine"] for row in found] == [7, 7, 7]
    assert [row.get("late") for row in found] == [None, None, 1.0]
    assert found[0]["mine/nan"] is None
    (row,) = sweep.collect(tmp_path)
    assert (row["mine"], row["late"], row["measures"]) == (7, 1.0, ["noted", "late"])


def test_it_sees_held_out_samples_in_training_mode_and_noise_of_its_own(tmp_path: Path) -> None:
    run = dataclasses.replace(RUN, measures=["noted"], measure_batch=7)
    rows(run, tmp_path)
    validation = build(run, Machine()).validation
    assert validation is not None
    x, y = validation.batch(torch.arange(7))
    assert all(torch.equal(a, x) and torch.equal(b, y) and training for a, b, training, _ in seen)
    draws = [draw for *_, draw in seen]
    assert len(set(draws)) == 3
    rows(run, tmp_path / "again")
    assert [draw for *_, draw in seen] == draws * 2


def test_the_test_set_is_looked_at_where_nothing_is_held_out(tmp_path: Path) -> None:
    run = dataclasses.replace(RUN, measures=["noted"], validation=0.0, epochs=1)
    rows(run, tmp_path)
    test = build(run, Machine()).test
    assert torch.equal(seen[0][0], test.batch(torch.arange(40))[0])


def test_measuring_moves_no_weight(tmp_path: Path) -> None:
    plain = RUN
    measured = dataclasses.replace(RUN, measures=["angles", "activity", "norms", "product", "weights"])
    for run in (plain, measured):
        train(run, Machine(runs=tmp_path))
    first, second = (read_weights(run.folder(tmp_path) / "weights.safetensors") for run in (plain, measured))
    assert all(torch.equal(first[name], second[name]) for name in first)
    (row,) = sweep.collect(tmp_path / "train" / measured.hash)
    assert row["norm/1"] == pytest.approx(float(second["1.weight"].double().norm()))
    assert 0 < row["angle"] < 180
    assert "product_angle" not in row, "feedback alignment has no matrix to compare with"


def test_a_measure_cannot_take_a_results_place(tmp_path: Path) -> None:
    run = dataclasses.replace(RUN, measures=["noted", "thief"])
    with pytest.raises(InputError, match="the measure 'thief' gives 'test_accuracy', which a run has already"):
        train(run, Machine(runs=tmp_path))


def test_an_unknown_measure_is_refused_before_anything_trains(tmp_path: Path) -> None:
    run = dataclasses.replace(RUN, measures=["norm"])
    with pytest.raises(InputError, match="unknown measure 'norm'; did you mean 'norms'"):
        train(run, Machine(runs=tmp_path))
    assert not list(tmp_path.iterdir())
