"""Weights from a batch, and rates from the step: a failure here hides a run that starts elsewhere than its spec says."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from equipoise import data, models
from equipoise.errors import InputError
from equipoise.nn import ei_init_
from equipoise.randomness import generator
from equipoise.train import Machine, Run, read_weights, storage, train

SPIKING = "reliability._nets:spiking"
SMALL = {"model": SPIKING, "train_limit": 120, "test_limit": 40, "batch_size": 32, "epochs": 1, "seed": 3}


def test_a_run_starts_from_random_samples_of_its_training_split(tmp_path: Path) -> None:
    run = Run(**SMALL, lr=0.0, init_batch=50, optimizer_options={})
    train(run, Machine(runs=tmp_path))
    whole = data.load(run.data).train
    shuffled = torch.randperm(len(whole), generator=generator(run.seed, "limit", len(whole)))
    kept, _ = data.hold_out(whole.take(shuffled[:120].sort().values), run.validation, seed=run.seed)
    chosen = torch.randperm(len(kept), generator=generator(run.seed, "init_batch"))[:50]
    model = models.make(run.model, seed=run.seed)
    ei_init_(model, kept.batch(chosen)[0], seed=run.seed)
    found = read_weights(run.folder(tmp_path) / "weights.safetensors")
    expected = model.state_dict()
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
    other = Run(**SMALL, lr=0.0, optimizer_options={})
    train(other, Machine(runs=tmp_path))
    assert not torch.equal(
        read_weights(other.folder(tmp_path) / "weights.safetensors")["net.1.weight"], found["net.1.weight"]
    )


def test_a_resumed_run_keeps_what_it_has_learned(tmp_path: Path) -> None:
    def run(folder: Path, *, stops: bool) -> dict[str, torch.Tensor]:
        spec = Run(**(SMALL | {"epochs": 2}), lr=0.01, init_batch=50)
        if stops:
            stopped = train(spec, Machine(runs=folder, time_limit=1e-9))
            assert stopped.status == "stopped"
            assert 0 < stopped.steps < 8
        train(spec, Machine(runs=folder))
        return read_weights(spec.folder(folder) / "weights.safetensors")

    once, twice = run(tmp_path / "once", stops=False), run(tmp_path / "twice", stops=True)
    for name, value in once.items():
        assert torch.equal(twice[name], value), name


def test_a_model_without_such_layers_refuses_a_batch(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"init_batch=50 with the model 'mlp:64-100-10': .* has no E-I layer"):
        train(Run(init_batch=50, train_limit=100, epochs=1), Machine(runs=tmp_path))


def test_the_rate_of_a_warm_up_is_that_of_the_step(tmp_path: Path) -> None:
    run = Run(train_limit=200, epochs=3, batch_size=64, scheduler="warmup_cosine", scheduler_options={"warmup": 1})
    train(run, Machine(runs=tmp_path))
    rates = [row["lr"] for row in storage.read_lines(run.folder(tmp_path) / "metrics.jsonl")]
    steps = 3  # of 180 samples
    fall = [0.1 * (1 + math.cos(math.pi * done / (2 * steps))) / 2 for done in (0, steps, 2 * steps)]
    assert rates == [pytest.approx(rate) for rate in fall]
