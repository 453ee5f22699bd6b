"""The networks of the experiments on balance, with the protocol that each is trained by."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from equipoise.registry import named
from equipoise.train import Run

__all__ = ["NETWORKS", "Network", "Scale", "label_of", "network", "plain"]


@dataclass(frozen=True)
class Network:
    """A network, its data, and the protocol: what the paper says of it and, where it says nothing, our own choice.

    sizes, batch size, loss and plain SGD are the paper's for the first two networks (section 6). Ours are the rates,
    the strengths of the regularisers, the epochs, the initialisation, and the kernels of the local layers, which
    are those that give the paper's sizes. ``rates`` are those of Figure 4, ``units`` counts the hidden ones.
    """

    label: str
    model: str
    data: str
    loss: str
    batch_size: int
    lr: float
    l2: float
    l1: float
    epochs: int
    rates: tuple[float, ...]
    trace_every: int
    units: int


NETWORKS: dict[str, Network] = {
    "autoencoder": Network(
        label="MNIST autoencoder",
        model="autoencoder:784-200-100-50-100-200-784",
        data="mnist",
        loss="reconstruction",
        batch_size=200,
        lr=0.02,
        l2=0.05,
        l1=0.002,
        epochs=10,
        rates=(0.05, 0.01, 0.001),
        trace_every=50,
        units=650,
    ),
    "local": Network(
        label="locally connected, CIFAR-10",
        model="local:3x32x32-300-100-10,init=he_uniform",
        data="cifar10",
        loss="cross_entropy",
        batch_size=5,
        lr=0.01,
        l2=0.005,
        l1=0.0002,
        epochs=4,
        rates=(0.02, 0.005, 0.0005),
        trace_every=500,
        units=9288,
    ),
    "dense": Network(
        label="dense, MNIST",
        model="mlp:784-256-128-10",
        data="mnist",
        loss="cross_entropy",
        batch_size=256,
        lr=0.2,
        l2=0.005,
        l1=0.0001,
        epochs=20,
        rates=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3),
        trace_every=100,
        units=384,
    ),
    "convolutional": Network(
        label="convolutional, CIFAR-10",
        model="cnn:3x32x32-16-32-64-10,init=he_uniform",
        data="cifar10",
        loss="cross_entropy",
        batch_size=64,
        lr=0.05,
        l2=0.01,
        l1=0.0005,
        epochs=10,
        rates=(0.05, 0.005),
        trace_every=100,
        units=112,
    ),
    "convolutional-mnist": Network(
        label="convolutional, MNIST",
        model="cnn:1x28x28-8-16-32-10,init=he_uniform",
        data="mnist",
        loss="cross_entropy",
        batch_size=64,
        lr=0.1,
        l2=0.02,
        l1=0.0005,
        epochs=6,
        rates=(0.05, 0.005),
        trace_every=50,
        units=56,
    ),
    "squares": Network(
        label="dense with squared ReLU, MNIST",
        model="mlp:784-64-32-10,activation=squared_relu,init=he_uniform",
        data="mnist",
        loss="cross_entropy",
        batch_size=64,
        lr=0.02,
        l2=0.02,
        l1=0.001,
        epochs=10,
        rates=(0.01, 0.001),
        trace_every=100,
        units=96,
    ),
    "dense-digits": Network(
        label="dense, small digits",
        model="mlp:64-32-16-10",
        data="digits",
        loss="cross_entropy",
        batch_size=32,
        lr=0.2,
        l2=0.01,
        l1=0.001,
        epochs=10,
        rates=(0.02, 0.2),
        trace_every=20,
        units=48,
    ),
    "convolutional-digits": Network(
        label="convolutional, small digits",
        model="cnn:1x8x8-8-16-10,init=he_uniform",
        data="digits",
        loss="cross_entropy",
        batch_size=32,
        lr=0.1,
        l2=0.01,
        l1=0.001,
        epochs=10,
        rates=(0.1, 0.01),
        trace_every=20,
        units=24,
    ),
    "squares-digits": Network(
        label="dense with squared ReLU, small digits",
        model="mlp:64-32-16-10,activation=squared_relu,init=he_uniform",
        data="digits",
        loss="cross_entropy",
        batch_size=32,
        lr=0.02,
        l2=0.02,
        l1=0.001,
        epochs=10,
        rates=(0.02, 0.002),
        trace_every=20,
        units=48,
    ),
    "autoencoder-digits": Network(
        label="autoencoder of small digits",
        model="autoencoder:64-32-16-32-64",
        data="digits",
        loss="reconstruction",
        batch_size=50,
        lr=0.02,
        l2=0.05,
        l1=0.005,
        epochs=10,
        rates=(0.05, 0.005),
        trace_every=20,
        units=80,
    ),
    "local-digits": Network(
        label="locally connected, small digits",
        model="local:1x8x8-32-16-10,init=he_uniform",
        data="digits",
        loss="cross_entropy",
        batch_size=20,
        lr=0.02,
        l2=0.01,
        l1=0.0005,
        epochs=10,
        rates=(0.05, 0.005),
        trace_every=50,
        units=872,
    ),
}


@dataclass(frozen=True)
class Scale:
    """How much is trained.

    Args:
        epochs: passes over the training set; the network's own number if not given
        train_limit: keep that many random training samples
        test_limit: keep that many random test samples
        trace_every: steps between two points of the curves; the network's own number if not given
    """

    epochs: int | None = None
    train_limit: int | None = None
    test_limit: int | None = None
    trace_every: int | None = None


def network(name: str) -> Network:
    """The network ``name``; ``InputError`` with the nearest known one."""
    return named(name, NETWORKS, "network")


def plain(name: str, seed: int, scale: Scale, *, experiment: str, **changes: Any) -> Run:
    """The network ``name`` under plain SGD without a regulariser, its curves traced, with ``changes``."""
    one = network(name)
    run = Run(
        experiment=experiment,
        model=one.model,
        data=one.data,
        loss=one.loss,
        optimizer_options={},
        lr=one.lr,
        epochs=scale.epochs or one.epochs,
        batch_size=one.batch_size,
        validation=0.0,
        seed=seed,
        train_limit=scale.train_limit,
        test_limit=scale.test_limit,
        trace_every=scale.trace_every or one.trace_every,
    )
    return dataclasses.replace(run, **changes)


def label_of(row: Mapping[str, Any]) -> str:
    """The name of a run's network: that of the paper's networks, else its model's text."""
    model = str(row.get("model"))
    return next((one.label for one in NETWORKS.values() if one.model == model), model)
