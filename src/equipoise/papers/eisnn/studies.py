"""Variants of spiking networks side by side, and starts by depth, as lists of runs."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from equipoise.errors import InputError
from equipoise.papers.eisnn.conditions import BASELINE, Scale, plain
from equipoise.papers.eisnn.networks import Network
from equipoise.train import Run

__all__ = ["Compared", "Starts", "Variants"]

FIRST_STEP = 10**9  # measured step by step, but no other than the first


@dataclass(frozen=True)
class Compared:
    """Conditions side by side on networks.

    Args:
        networks: their names, as vgg8 or resnet18
        conditions: their names, as ei, literal, batch or no-division
        scale: how much is trained
        measures: what is followed
    """

    networks: tuple[str, ...] = ("vgg8",)
    conditions: tuple[str, ...] = ("ei", "batch")
    scale: Scale = field(default_factory=Scale)
    measures: tuple[str, ...] = ("spiking",)

    def runs(self, seed: int) -> list[Run]:
        """For each network, every condition."""
        pairs = [(where, what) for where in self.networks for what in self.conditions]
        return [plain(*pair, seed, self.scale, measures=list(self.measures)) for pair in pairs]


@dataclass(frozen=True)
class Variants:
    """Variants of the circuit, or rules, on one network.

    Args:
        network: its name
        conditions: their names
        scale: how much is trained
        measures: what is followed
        first: whether the start, before the first step, is measured too
        experiment: what the runs belong to
        baseline: what runs of the plain circuit, shared with other experiments, belong to
    """

    DECIDES = ("experiment", "baseline", "first")

    network: str = "fashion-vgg8"
    conditions: tuple[str, ...] = ("ei",)
    scale: Scale = field(default_factory=Scale)
    measures: tuple[str, ...] = ("spiking",)
    first: bool = False
    experiment: str = "eisnn/ablation"
    baseline: str = ""

    def runs(self, seed: int) -> list[Run]:
        """One run for each condition."""
        found = []
        for what in self.conditions:
            home = self.baseline if what == BASELINE and self.baseline else self.experiment
            extra = {"measures": list(self.measures), "measure_every": FIRST_STEP if self.first else 0}
            found.append(plain(self.network, what, seed, self.scale, experiment=home, **extra))
        return found


@dataclass(frozen=True)
class Starts:
    """Networks of many depths as they start: one step of rate 0, and what is measured behind it.

    Args:
        networks: a kind and its depth, as mlp-4 or vgg-16
        data: the data set
        shape: of its pictures, as 3x32x32
        conditions: kinds of start, as ei, presumed, no-init, none
        steps: time steps
        samples: images that E-I Init sees, and as many that are measured
        width: channels, as a share of the network's
    """

    networks: tuple[str, ...] = ("mlp-4", "vgg-8")
    data: str = "cifar10"
    shape: str = "3x32x32"
    conditions: tuple[str, ...] = ("ei", "presumed", "no-init", "none")
    steps: int = 4
    samples: int = 128
    width: float = 1.0

    def runs(self, seed: int) -> list[Run]:
        """For each network, every start."""
        scale = Scale(epochs=1, train_limit=self.samples, test_limit=self.samples, looks=self.samples)
        return [self._one(name, what, seed, scale) for name in self.networks for what in self.conditions]

    def _one(self, name: str, what: str, seed: int, scale: Scale) -> Run:
        kind, _, depth = name.partition("-")
        if kind not in ("mlp", "vgg") or not depth.isdecimal():
            raise InputError(f"'{name}' is no network to start; write its kind and depth, as mlp-4 or vgg-16")
        inputs = self.shape if kind == "vgg" else str(math.prod(int(side) for side in self.shape.split("x")))
        model = f"spiking-{kind}:{inputs}-10,depth={depth}" + ("" if self.width == 1 else f",width={self.width:g}")
        net = Network(model, self.data, "eisnn/init", name, batch=self.samples, steps=self.steps, ours=True)
        return plain(net, what, seed, scale, lr=0.0, scheduler="constant", scheduler_options={})
