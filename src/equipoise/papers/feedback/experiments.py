"""Backpropagation, feedback alignment, direct feedback and the shallow control, side by side."""

from __future__ import annotations

import dataclasses

from equipoise.papers.studies import SideBySide
from equipoise.train import Experiment, Run, experiments

__all__ = ["MNIST", "RESIDUAL"]

_MNIST = Run(
    experiment="feedback/mnist",
    model="mlp:784-1000-10,activation=tanh",
    data="mnist",
    loss="binary_cross_entropy",
    lr=0.1,
    optimizer_options={"momentum": 0.9, "nesterov": True},
    epochs=100,
    batch_size=100,
    validation=0.0,
    alignment_batch=500,
)

MNIST = Experiment(
    name="feedback/mnist",
    version=1,
    title="Four rules on MNIST, one hidden layer of 1000 tanh units",
    source="slides of the DRTP authors, network 1000 (learning rates not stated: ours was chosen on validation)",
    presets={
        "smoke": SideBySide(
            dataclasses.replace(
                _MNIST,
                model="mlp:64-100-10,activation=tanh",
                data="digits",
                epochs=2,
                batch_size=32,
                alignment_batch=64,
            )
        ),
        "quick": SideBySide(dataclasses.replace(_MNIST, epochs=5)),
        "paper": SideBySide(_MNIST),
    },
)

_RESIDUAL = Run(
    experiment="feedback/residual",
    model="residual:3x32x32-10",
    data="cifar10",
    lr=0.01,
    scheduler="cosine",
    epochs=5,
    batch_size=64,
    alignment_batch=500,
)

# Chosen on the validation split, among .001, .003 and .01, from two epochs of 10,000 samples.
_RESIDUAL_RATES = {"dfa": 0.003}

RESIDUAL = Experiment(
    name="feedback/residual",
    version=1,
    title="Four rules on an untouched residual network that shares a layer, CIFAR-10",
    source="no paper: a test of this library's claim that the rules train models as they are",
    presets={
        "smoke": SideBySide(
            dataclasses.replace(_RESIDUAL, model="residual:1x8x8-10", data="digits", epochs=2, alignment_batch=64)
        ),
        "quick": SideBySide(
            dataclasses.replace(_RESIDUAL, epochs=1, train_limit=10_000, test_limit=2_000), rates=_RESIDUAL_RATES
        ),
        "paper": SideBySide(_RESIDUAL, rates=_RESIDUAL_RATES),
    },
)

for _experiment in (MNIST, RESIDUAL):
    experiments.register(_experiment.name)(_experiment)
