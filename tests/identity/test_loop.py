"""The loop: a failure here hides a step that the spec does not describe, or that measuring has changed.

The same training is written out by hand, in plain torch, and must give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise import data, models
from equipoise.randomness import derive, generator
from equipoise.train import Machine, Run, Summary, read_weights, storage, train

SMALL = {"train_limit": 300, "epochs": 3, "batch_size": 64, "seed": 5}


def by_hand(
    run: Run,
    optimizer: Callable[[nn.Module], torch.optim.Optimizer],
    scheduler: Callable[[torch.optim.Optimizer], Any] | None = None,
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None,
) -> nn.Module:
    """What ``run`` means with backpropagation, written in torch alone."""
    assert run.train_limit is not None
    model = models.make(run.model, seed=run.seed)
    whole = data.load(run.data).train
    shuffled = torch.randperm(len(whole), generator=generator(run.seed, "limit", len(whole)))
    kept = whole.take(shuffled[: run.train_limit].sort().values)
    training, _ = data.hold_out(kept, run.validation, seed=run.seed)
    steps, schedule = optimizer(model), None
    if scheduler is not None:
        schedule = scheduler(steps)
    done = 0
    for epoch in range(run.epochs):
        order = data.order(len(training), seed=run.seed, epoch=epoch)
        for index in order.split(run.batch_size):
            x, y = training.batch(index)
            if augment is not None:
                x = augment(x, generator(run.seed, "augment", done))
            torch.default_generator.manual_seed(derive(run.seed, "global", done))
            steps.zero_grad(set_to_none=True)
            F.cross_entropy(model(x), y).backward()
            if run.clip_norm is not None:
                nn.utils.clip_grad_norm_(model.parameters(), run.clip_norm)
            steps.step()
            done += 1
        if schedule is not None:
            schedule.step()
    return model


def trained(run: Run, runs: Path) -> tuple[Summary, dict[str, Tensor]]:
    summary = train(run, Machine(runs=runs))
    return summary, read_weights(run.folder(runs) / "weights.safetensors")


def same(model: nn.Module, weights: dict[str, Tensor]) -> None:
    expected = model.state_dict()
    assert set(expected) == set(weights)
    for name, value in expected.items():
        assert torch.equal(value, weights[name]), name


def test_momentum_and_partial_batches(tmp_path: Path) -> None:
    run = Run(**SMALL)
    model = by_hand(run, lambda model: torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))
    summary, weights = trained(run, tmp_path)
    same(model, weights)
    assert summary.steps == 3 * 5  # 270 samples: four whole batches and one of 14


def test_adamw_with_a_schedule_clipping_and_augmentation(tmp_path: Path) -> None:
    run = Run(
        **SMALL,
        model="reliability._nets:noisy_without_dropout",
        optimizer="AdamW",
        lr=0.01,
        optimizer_options={"weight_decay": 0.1},
        scheduler="multistep",
        scheduler_options={"milestones": [1, 2], "gamma": 0.5},
        augment="crop_flip",
        clip_norm=0.5,
    )
    model = by_hand(
        run,
        lambda model: torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1),
        lambda steps: torch.optim.lr_scheduler.MultiStepLR(steps, [1, 2], gamma=0.5),
        data.crop_flip,
    )
    summary, weights = trained(run, tmp_path)
    same(model, weights)
    rates = [row["lr"] for row in storage.read_lines(run.folder(tmp_path) / "metrics.jsonl")]
    assert rates == [0.01, 0.005, 0.0025]
    assert summary.metrics["lr"] == 0.0025


def test_cosine_over_the_whole_run(tmp_path: Path) -> None:
    run = Run(**SMALL, scheduler="cosine", augment="flip")
    model = by_hand(
        run,
        lambda model: torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
        lambda steps: torch.optim.lr_scheduler.CosineAnnealingLR(steps, 3),
        data.flip,
    )
    same(model, trained(run, tmp_path)[1])


def test_the_metrics_are_those_of_the_saved_weights(tmp_path: Path) -> None:
    run = Run(**SMALL)
    summary, weights = trained(run, tmp_path)
    model = models.make(run.model, seed=0)
    model.load_state_dict(weights)
    x, y = (test := data.load(run.data).test).batch(torch.arange(len(test)))
    with torch.no_grad():
        output = model.eval()(x)
    assert summary.metrics["test_accuracy"] == pytest.approx((output.argmax(1) == y).double().mean().item())
    assert summary.metrics["test_loss"] == pytest.approx(F.cross_entropy(output, y).item(), rel=1e-6)
    assert summary.selected == summary.metrics


def test_measuring_does_not_change_training(tmp_path: Path) -> None:
    """Angles, evaluation, checkpoints and progress must leave no trace in the weights."""
    plain = Run(**SMALL, rule="fa", model="reliability._nets:noisy")
    measured = Run(**SMALL, rule="fa", model="reliability._nets:noisy", alignment_batch=20, test_limit=7)
    train(plain, Machine(runs=tmp_path))
    summary = train(measured, Machine(runs=tmp_path, checkpoint_every=0))
    first, second = (read_weights(run.folder(tmp_path) / "weights.safetensors") for run in (plain, measured))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert 0 < summary.metrics["angle"] < 180
    assert any(name.startswith("angle/") for name in summary.metrics)


def test_torchs_own_random_state_is_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(11)
    before = torch.random.get_rng_state()
    first = trained(Run(**SMALL, model="reliability._nets:noisy"), tmp_path / "a")[1]
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(12)
    second = trained(Run(**SMALL, model="reliability._nets:noisy"), tmp_path / "b")[1]
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("precision", ["float64", "bfloat16"])
def test_precisions(tmp_path: Path, precision: str) -> None:
    summary, weights = trained(Run(**SMALL, precision=precision), tmp_path)
    plain = train(Run(**SMALL), Machine(runs=tmp_path))
    assert {str(value.dtype) for value in weights.values()} == {
        "torch.float64" if precision == "float64" else "torch.float32"
    }
    assert summary.metrics["train_loss"] != plain.metrics["train_loss"]
    assert summary.metrics["train_loss"] == pytest.approx(plain.metrics["train_loss"], rel=0.05)


@pytest.mark.parametrize("select", ["validation", "test"])
def test_the_selected_epoch_is_the_best_and_the_earliest(tmp_path: Path, select: str) -> None:
    """A rate that ruins the later epochs, so that the last is not the best."""
    ruin = {"scheduler": "exponential", "scheduler_options": {"gamma": 8.0}, "epochs": 5}
    run = Run(**(SMALL | ruin), select=select, lr=0.05)
    summary, weights = trained(run, tmp_path)
    rows = storage.read_lines(run.folder(tmp_path) / "metrics.jsonl")
    values = [row[f"{select}_accuracy"] for row in rows]
    assert summary.selected_epoch == values.index(max(values)) + 1 < 5
    assert summary.selected == rows[summary.selected_epoch - 1]
    model = models.make(run.model, seed=0)
    model.load_state_dict(weights)
    x, y = (test := data.load(run.data).test).batch(torch.arange(len(test)))
    accuracy = (model.eval()(x).argmax(1) == y).double().mean().item()
    assert summary.selected["test_accuracy"] == pytest.approx(accuracy)


def test_the_full_set_without_validation(tmp_path: Path) -> None:
    run = Run(epochs=1, validation=0, alignment_batch=10)
    summary = train(run, Machine(runs=tmp_path))
    assert summary.steps == -(-len(data.load("digits").train) // 64)
    assert "validation_accuracy" not in summary.metrics
    assert summary.metrics["angle"] == pytest.approx(0, abs=1e-3)
