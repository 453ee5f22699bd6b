"""What spiking networks have in common: the options behind their sizes, and the layers that these ask for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from equipoise.errors import InputError
from equipoise.models.options import Reader, read_options, switch
from equipoise.models.styles import INITS, started
from equipoise.models.vgg import POOLS, among, factor, within
from equipoise.nn import LIF, EIConv2d, EILinear, OnOff, OverTime, Rate, RecurrentEI
from equipoise.randomness import derive

__all__ = ["Plan", "read_plan"]


def _learned(text: str) -> tuple[str, ...]:
    return tuple(among("tau", "threshold")(name) for name in text.split("+"))


def _steps(text: str) -> int:
    return within(int(text), int(text) >= 1)


def _share(text: str) -> float:
    return within(float(text), 0 <= float(text) < 1)


_CELLS: dict[str, Reader] = {
    "tau": float,
    "threshold": float,
    "surrogate": str,
    "sharpness": float,
    "reset": among("soft", "hard"),
    "through_reset": switch,
    "learn": _learned,
}
_CIRCUIT: dict[str, Reader] = {
    "ratio": float,
    "pool_cells": int,
    "subtractive": switch,
    "divisive": switch,
    "rectify": switch,
    "stabilise": switch,
    "straight": switch,
    "scaling": {"rate": "rate", "gradient": "gradient", "none": None}.__getitem__,
    "inhibition": among("instant", "spiking"),
    "tau_inhibitory": float,
    "recurrent": switch,
    "share": float,
    "unit_gains": switch,
}
_NETWORK: dict[str, Reader] = {
    "norm": among("ei", "batch", "none"),
    "steps": _steps,
    "encoder": among("direct", "rate", "latency", "frames"),
    "onoff": switch,
    "init": among(*INITS),
    "width": factor,
}
_EXTRA: dict[str, Reader] = {
    "depth": int,
    "dropout": _share,
    "pool": among(*POOLS),
    "head": among("light", "heavy"),
}


@dataclass(frozen=True)
class Plan:
    """The options of a spiking network, and its layers by them; made by ``read_plan``."""

    spec: str
    norm: str = "ei"
    steps: int = 4
    encoder: str = "direct"
    onoff: bool = False
    init: str = "torch"
    width: float = 1.0
    depth: int | None = None
    dropout: float = 0.0
    pool: str = "average"
    head: str = "light"
    recurrent: bool = False
    share: float = 0.5
    unit_gains: bool = False
    circuit: Mapping[str, Any] = field(default_factory=dict)
    cells: Mapping[str, Any] = field(default_factory=dict)

    def wide(self, units: int) -> int:
        """``units`` times the width, at least 1."""
        return max(1, round(units * self.width))

    def inputs(self, channels: int) -> int:
        """The channels that the first layer sees."""
        return channels * (2 if self.onoff else 1)

    def layer(self, before: int, units: int, kernel: int | None = None, stride: int = 1) -> list[nn.Module]:
        """A hidden layer with its spiking cells: a convolution where there is a ``kernel``, else a linear layer."""
        drive = self._drive(before, units, kernel, stride)
        cells = LIF(**self.cells)
        if self.recurrent:
            return [RecurrentEI(drive[0], cells, share=self.share)]  # type: ignore[arg-type]
        return [*drive, cells]

    def _drive(self, before: int, units: int, kernel: int | None, stride: int) -> list[nn.Module]:
        if self.norm == "ei":
            return [self._gains(self._circuit(before, units, kernel, stride))]
        batch = self.norm == "batch"
        if kernel is None:
            dense = started(nn.Linear(before, units, bias=not batch), self.init)
            return [dense, *([nn.BatchNorm1d(units)] if batch else [])]
        conv = nn.Conv2d(before, units, kernel, stride, kernel // 2, bias=not batch)
        return [started(conv, self.init), *([nn.BatchNorm2d(units)] if batch else [])]

    def _circuit(self, before: int, units: int, kernel: int | None, stride: int) -> EILinear | EIConv2d:
        if kernel is None:
            return EILinear(before, units, **self.circuit)
        return EIConv2d(before, units, kernel, stride=stride, padding=kernel // 2, **self.circuit)

    def _gains(self, layer: EILinear | EIConv2d) -> EILinear | EIConv2d:
        """The layer with all gains 1 where the plan asks for it, so that nothing of E-I Init is left."""
        if self.unit_gains and layer.gain_i is not None:
            nn.init.ones_(layer.gain_i)
        return layer

    def dropped(self) -> list[nn.Module]:
        """What takes spikes away behind a hidden layer."""
        return [nn.Dropout(self.dropout)] if self.dropout else []

    def readout(self, features: int, classes: int) -> nn.Module:
        """Scores. In an E-I network it subtracts, whatever the other layers do: it has nothing else."""
        if self.norm != "ei":
            return started(nn.Linear(features, classes), self.init)
        dividing = ("subtractive", "divisive", "stabilise", "straight")
        circuit = {name: value for name, value in self.circuit.items() if name not in dividing}
        return EILinear(features, classes, readout=True, **circuit)

    def over_time(self, layers: list[nn.Module]) -> OverTime:
        """The layers run for the plan's steps."""
        onoff: list[nn.Module] = [OnOff()] if self.onoff else []
        if self.encoder in ("direct", "frames"):
            encoder = None if self.encoder == "frames" else "direct"
            return OverTime(nn.Sequential(*onoff, *layers), self.steps, encoder=encoder)
        coder: str | nn.Module = self.encoder
        if self.encoder == "rate":
            coder = Rate(self.steps, seed=derive(torch.initial_seed(), "rate code"))
        network = OverTime(nn.Sequential(*layers), self.steps, encoder=coder)
        if onoff and network.encoder is not None:
            network.encoder = nn.Sequential(*onoff, network.encoder)
        return network


def read_plan(text: str, spec: str, extra: tuple[str, ...]) -> tuple[str, Plan]:
    """The sizes in ``text``, and the options behind them; ``extra`` names those that only some networks have.

    Raises ``InputError`` for an option that the network does not have, cannot read, or that would change nothing with
    the others.
    """
    known = {**_NETWORK, **{name: _EXTRA[name] for name in extra}, **_CELLS, **_CIRCUIT}
    sizes, options = read_options(text, spec, known)
    circuit = {name: options.pop(name) for name in _CIRCUIT if name in options}
    cells = {name: options.pop(name) for name in _CELLS if name in options}
    _check(options, circuit, spec)
    for name in ("recurrent", "share", "unit_gains"):
        if name in circuit:
            options[name] = circuit.pop(name)
    if "pool_cells" in circuit:
        circuit["pool"] = circuit.pop("pool_cells")
    return sizes, Plan(spec, **options, circuit=circuit, cells=cells)


# An option, and the other one with the value that it needs (what that is by default, how the text says it).
_NEEDS = (
    ("tau_inhibitory", "inhibition", "spiking", "instant", "spiking"),
    ("share", "recurrent", True, False, "yes"),
    ("unit_gains", "divisive", True, True, "yes"),
    ("stabilise", "divisive", True, True, "yes"),
    ("straight", "divisive", True, True, "yes"),
    ("straight", "stabilise", True, True, "yes"),
)


def _check(options: Mapping[str, Any], circuit: Mapping[str, Any], spec: str) -> None:
    """``InputError`` for options that would change nothing."""
    norm = options.get("norm", "ei")
    if circuit and norm != "ei":
        raise InputError(f"model '{spec}': {', '.join(circuit)} belongs to E-I layers, and norm={norm} has none")
    if norm == "ei" and "init" in options:
        raise InputError(f"model '{spec}': init is for norm=batch and norm=none; nn.ei_init_ sets E-I layers")
    if "ratio" in circuit and "pool_cells" in circuit:
        raise InputError(f"model '{spec}': ratio and pool_cells both say how many inhibitory cells there are; give one")
    for name, other, value, default, said in _NEEDS:
        if name in circuit and circuit.get(other, default) != value:
            raise InputError(f"model '{spec}': {name} changes nothing unless {other}={said}")
