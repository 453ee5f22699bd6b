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
from reliability._sessions import stopped

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


def test_step_by_step_it_sees_the_steps_own_batch_before_its_update(tmp_path: Path) -> None:
    """Rows before updates 1, 5, 9, ...; the first is that of the weights that the model starts from."""
    run = dataclasses.replace(RUN, measures=["noted", "norms"], measure_every=4, epochs=2)
    train(run, Machine(runs=tmp_path))
    rows = storage.read_lines(run.folder(tmp_path) / "trace.jsonl")
    assert [row["step"] for row in rows] == [0, 4]  # eight steps, numbered by the updates that stand before them
    assert all(row["mine"] in (64, 48) for row in rows)
    start = build(run, Machine()).model
    assert rows[0]["norm/1"] == pytest.approx(float(start.get_parameter("1.weight").detach().norm()))
    assert rows[1]["norm/1"] != rows[0]["norm/1"]


def test_following_and_looking_back_move_no_weight(tmp_path: Path) -> None:
    more = dataclasses.replace(RUN, measures=["angles", "norms"], measure_every=2, train_set=True, top_k=3)
    found = {}
    for run in (RUN, more):
        train(run, Machine(runs=tmp_path))
        found[run.hash] = read_weights(run.folder(tmp_path) / "weights.safetensors")
    plain, followed = found.values()
    assert all(torch.equal(plain[name], followed[name]) for name in plain)


def test_a_stopped_run_keeps_what_it_followed(tmp_path: Path) -> None:
    run = dataclasses.replace(RUN, measures=["norms"], measure_every=1)
    train(run, Machine(runs=tmp_path / "once"))
    stopped(run, tmp_path / "pieces", at=2)
    assert train(run, Machine(runs=tmp_path / "pieces")).status == "finished"
    traces = [(run.folder(tmp_path / name) / "trace.jsonl").read_bytes() for name in ("once", "pieces")]
    assert traces[0] == traces[1]


def test_the_whole_training_set_and_the_best_few_classes(tmp_path: Path) -> None:
    """After the epoch, at its last weights, against sorting by hand."""
    run = dataclasses.replace(RUN, model="mlp:64-20-10", train_set=True, top_k=3)
    train(run, Machine(runs=tmp_path))
    row = storage.read_lines(run.folder(tmp_path) / "metrics.jsonl")[-1]
    parts = build(run, Machine())
    parts.model.load_state_dict(read_weights(run.folder(tmp_path) / "weights.safetensors"))
    for name, split in (("train_set", parts.train), ("test", parts.test)):
        x, y = split.batch(torch.arange(len(split)))
        places = parts.model(x).argsort(1, descending=True)
        for k, key in ((1, "accuracy"), (3, "top3")):
            assert row[f"{name}_{key}"] == pytest.approx(float((places[:, :k] == y[:, None]).any(1).double().mean()))
    assert row["train_set_accuracy"] != row["train_accuracy"]


def test_equal_scores_are_no_hits() -> None:
    from equipoise.train.totals import Totals

    totals = Totals(torch.device("cpu"), top=2)
    output = torch.tensor([[1.0, 1.0, 1.0], [3.0, 2.0, 1.0], [float("nan")] * 3, [0.0, 5.0, 1.0]])
    totals.include(torch.tensor(0.0), output, torch.tensor([0, 1, 0, 0]))
    assert totals.among() == 0.25
