"""What spiking networks have in common: the options behind their sizes, and the layers that these ask for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from equipoise.errors import InputError
from equipoise.models.options import Reader, read_options, switch
from equipoise.nn import LIF, EIConv2d, EILinear, OnOff, OverTime, Rate, RecurrentEI
from equipoise.randomness import derive

__all__ = ["Plan", "read_plan"]


def _among(*known: str) -> Reader:
    return {name: name for name in known}.__getitem__


def _learned(text: str) -> tuple[str, ...]:
    return tuple(_among("tau", "threshold")(name) for name in text.split("+"))


def _steps(text: str) -> int:
    return {True: int}[text.isdecimal() and int(text) >= 1](text)


def _share(text: str) -> float:
    return {True: float(text)}[0 <= float(text) < 1]


def _factor(text: str) -> float:
    return {True: float(text)}[0 < float(text) < float("inf")]


_CELLS: dict[str, Reader] = {
    "tau": float,
    "threshold": float,
    "surrogate": str,
    "reset": _among("soft", "hard"),
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
    "inhibition": _among("instant", "spiking"),
    "tau_inhibitory": float,
    "recurrent": switch,
    "share": float,
}
_NETWORK: dict[str, Reader] = {
    "norm": _among("ei", "batch", "none"),
    "steps": _steps,
    "encoder": _among("direct", "rate", "latency", "frames"),
    "onoff": switch,
    "width": _factor,
}
_EXTRA: dict[str, Reader] = {
    "depth": int,
    "dropout": _share,
    "pool": _among("average", "max"),
    "head": _among("light", "heavy"),
}
_POOLS: dict[str, Callable[[int], nn.Module]] = {"average": nn.AvgPool2d, "max": nn.MaxPool2d}


@dataclass(frozen=True)
class Plan:
    """The options of a spiking network, and its layers by them; made by ``read_plan``."""

    spec: str
    norm: str = "ei"
    steps: int = 4
    encoder: str = "direct"
    onoff: bool = False
    width: float = 1.0
    depth: int | None = None
    dropout: float = 0.0
    pool: str = "average"
    head: str = "light"
    recurrent: bool = False
    share: float = 0.5
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
            if kernel is None:
                return [EILinear(before, units, **self.circuit)]
            return [EIConv2d(before, units, kernel, stride=stride, padding=kernel // 2, **self.circuit)]
        batch = self.norm == "batch"
        if kernel is None:
            return [nn.Linear(before, units, bias=not batch), *([nn.BatchNorm1d(units)] if batch else [])]
        conv = nn.Conv2d(before, units, kernel, stride, kernel // 2, bias=not batch)
        return [conv, *([nn.BatchNorm2d(units)] if batch else [])]

    def dropped(self) -> list[nn.Module]:
        """What takes spikes away behind a hidden layer."""
        return [nn.Dropout(self.dropout)] if self.dropout else []

    def pooled(self) -> nn.Module:
        """2x2 pooling."""
        return _POOLS[self.pool](2)

    def readout(self, features: int, classes: int) -> nn.Module:
        """Scores. In an E-I network it subtracts, whatever the other layers do: it has nothing else."""
        if self.norm != "ei":
            return nn.Linear(features, classes)
        circuit: dict[str, Any] = {**self.circuit, "subtractive": True, "divisive": True}
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
    if circuit and options.get("norm", "ei") != "ei":
        raise InputError(
            f"model '{spec}': {', '.join(circuit)} belongs to E-I layers, and norm={options['norm']} has none"
        )
    for name, needs, value in (("tau_inhibitory", "inhibition", "spiking"), ("share", "recurrent", True)):
        if name in circuit and circuit.get(needs) != value:
            said = value if isinstance(value, str) else "yes"
            raise InputError(f"model '{spec}': {name} means something with {needs}={said} only")
    for name in ("recurrent", "share"):
        if name in circuit:
            options[name] = circuit.pop(name)
    if "pool_cells" in circuit:
        circuit["pool"] = circuit.pop("pool_cells")
    return sizes, Plan(spec, **options, circuit=circuit, cells=cells)
