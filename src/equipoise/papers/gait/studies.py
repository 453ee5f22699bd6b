"""Conditions side by side, and how far each form of GAIT-prop carries: depth, precision, noise."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from equipoise.errors import InputError, unknown_name
from equipoise.papers.gait.conditions import TABLE, Scale, network, plain
from equipoise.train import Run

__all__ = ["MODES", "Compared", "Depth", "Noise", "Precision", "mode_of"]

# How targets are carried; the options of each form of the rule.
MODES: Mapping[str, Mapping[str, Any]] = {
    "differences": {"mode": "difference", "inverse": "solve"},
    "normalised targets": {"mode": "perturbation", "normalised": True, "eta": 1e-7},
    "vanilla targets": {"mode": "perturbation", "normalised": False, "gamma": 1e-3},
    "squared norm (eq. 5)": {"mode": "perturbation", "normaliser": "literal", "eta": 1e-7},
    "without m (Algorithm 1)": {"mode": "perturbation", "multiplier": False, "eta": 1e-7},
}


def mode_of(row: Mapping[str, Any]) -> str:
    """The form of the rule that a run has, by its options; "" for none of ``MODES``."""
    given = {key.partition(".")[2]: v for key, v in row.items() if key.startswith("options.") and v is not None}
    given.pop("noise", None)
    return next((name for name, options in MODES.items() if given == options), "")


@dataclass(frozen=True)
class Compared:
    """Conditions side by side on one network.

    Args:
        where: the network: shallow, deep, imagenet, imagenet-cifar10, or one of them on digits, as shallow-digits
        conditions: their names
        scale: how much is trained
        data: another data set, as imagenet,name=mine,size=64; the network's own if not given
        model: another network of the kind, as gait-imagenet:3x64x64-100,width=0.5, for other data
    """

    where: str = "shallow"
    conditions: tuple[str, ...] = TABLE[:-1]
    scale: Scale = field(default_factory=Scale)
    data: str = ""
    model: str = ""

    def runs(self, seed: int) -> list[Run]:
        """One run for each condition."""
        return [self._one(name, seed) for name in self.conditions]

    def _one(self, name: str, seed: int) -> Run:
        run = plain(self.where, name, seed, self.scale, **({"data": self.data} if self.data else {}))
        lean = ",auxiliary=no" if run.model.endswith(",auxiliary=no") else ""
        return dataclasses.replace(run, model=f"{self.model}{lean}") if self.model else run


def _deep(where: str, hidden: int, width: int | None, *more: str) -> str:
    """The dense network ``where`` with so many hidden layers of that width."""
    sizes = network(where).sizes
    if not sizes.startswith("invertible:") or hidden < 1:
        raise InputError(f"depth needs a dense network and a hidden layer or more, not '{where}' with {hidden}")
    inputs, *middle, outputs = sizes.partition(":")[2].split("-")
    kept = str(width or middle[0])
    return ",".join(["invertible:" + "-".join([inputs, *[kept] * hidden, outputs]), *more])


@dataclass(frozen=True)
class Depth:
    """Angles to backpropagation while networks of more and more layers are trained.

    Args:
        where: the network whose hidden layer is repeated
        layers: numbers of hidden layers
        conditions: their names
        width: of the hidden layers; the network's own if not given
        scale: how much is trained
    """

    where: str = "deep"
    layers: tuple[int, ...] = (3, 6, 12, 25, 50)
    conditions: tuple[str, ...] = ("free", "difference", "retract", "fa")
    width: int | None = None
    scale: Scale = field(default_factory=lambda: Scale(epochs=2))

    def runs(self, seed: int) -> list[Run]:
        """For each depth, every condition."""
        found = []
        for hidden in self.layers:
            for name in self.conditions:
                run = plain(self.where, name, seed, self.scale, experiment="gait/depth")
                lean = ("auxiliary=no",) if run.model.endswith(",auxiliary=no") else ()
                found.append(dataclasses.replace(run, model=_deep(self.where, hidden, self.width, *lean)))
        return found


def _look(where: str, hidden: int, width: int, mode: str, seed: int, samples: int, **changes: Any) -> Run:
    """One step of rate 0 on the network as it is initialised: what is measured behind it is the start."""
    if mode not in MODES:
        raise unknown_name("form of the rule,", mode, MODES)
    scale = Scale(epochs=1, every=0, train_limit=samples, test_limit=samples, looks=samples)
    fixed: dict[str, Any] = {"model": _deep(where, hidden, width), "lr": 0.0, "batch_size": samples, "train_set": False}
    fixed |= {"rule": "gait", "options": dict(MODES[mode]), "optimizer_options": {}, "precision": "float64"}
    return plain(where, "difference", seed, scale, **(fixed | changes))


@dataclass(frozen=True)
class Precision:
    """Angles to backpropagation on orthogonal weights, by depth, number format and form of the rule; no training.

    Args:
        where: a dense network
        layers: numbers of hidden layers
        width: of the hidden layers
        modes: forms of the rule
        precisions: number formats
        samples: images that the angles are measured on
    """

    where: str = "deep"
    layers: tuple[int, ...] = (3, 6, 12)
    width: int = 512
    modes: tuple[str, ...] = tuple(MODES)
    precisions: tuple[str, ...] = ("float64", "float32")
    samples: int = 256

    def runs(self, seed: int) -> list[Run]:
        """For each depth and form, every format."""
        return [
            _look(
                *(self.where, hidden, self.width, mode, seed, self.samples),
                experiment="gait/precision",
                precision=precision,
            )
            for hidden in self.layers
            for mode in self.modes
            for precision in self.precisions
        ]


@dataclass(frozen=True)
class Noise:
    """What is left of the angles when activities are noisy between the forward pass and the target. Nothing is trained.

    Args:
        where: a dense network
        layers: numbers of hidden layers
        width: of the hidden layers
        modes: forms of the rule
        levels: standard deviations of the noise, relative to the root mean square of a layer's activities
        samples: images that the angles are measured on
    """

    where: str = "deep"
    layers: tuple[int, ...] = (3, 6)
    width: int = 512
    modes: tuple[str, ...] = ("differences", "normalised targets", "vanilla targets")
    levels: tuple[float, ...] = (0.0, 1e-12, 1e-10, 1e-8, 1e-6, 1e-4, 1e-3, 1e-2, 1e-1)
    samples: int = 256

    def runs(self, seed: int) -> list[Run]:
        """For each depth and form, every level."""
        return [
            _look(
                *(self.where, hidden, self.width, mode, seed, self.samples),
                experiment="gait/noise",
                options={**MODES[mode], **({"noise": level} if level else {})},
            )
            for hidden in self.layers
            for mode in self.modes
            for level in self.levels
        ]
