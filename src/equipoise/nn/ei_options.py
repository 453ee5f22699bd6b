"""The options of an E-I layer, which of them go together, and inhibitory cells that spike."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypedDict

import torch
from torch import Tensor, nn

from equipoise.errors import InputError
from equipoise.functional.spiking import lif, lif_step
from equipoise.nn.spiking import folded, unfolded

__all__ = ["EIOptions", "InhibitoryLIF", "mean_over", "refuse_idle"]


class EIOptions(TypedDict, total=False):
    """The options of an E-I layer; ``EILinear`` says what they are."""

    ratio: float | None
    pool: int | None
    readout: bool
    subtractive: bool
    divisive: bool
    rectify: bool
    stabilise: bool
    straight: bool
    scaling: Literal["rate", "gradient"] | None
    inhibition: Literal["instant", "spiking"]
    tau_inhibitory: float | None


def refuse_idle(given: EIOptions) -> None:
    """``InputError`` for an option of ``given`` that would change nothing with the others."""
    undivided = "a readout does not divide" if given.get("readout") else "divisive=False"
    divides = given.get("divisive", True) and not given.get("readout")
    plain = not given.get("stabilise", True)
    straight = given.get("straight", True)
    idle = {
        f"stabilise=False changes nothing: {undivided}": plain and not divides,
        f"straight=False changes nothing: {undivided}": not straight and not divides,
        "straight=False changes nothing: with stabilise=False there is nothing to pass": not straight and plain,
        "tau_inhibitory changes nothing unless inhibition='spiking'": given.get("tau_inhibitory") is not None
        and given.get("inhibition") == "instant",
        "ratio changes nothing: pool says how many inhibitory cells there are": None
        not in (given.get("ratio"), given.get("pool")),
    }
    for said, changes_nothing in idle.items():
        if changes_nothing:
            raise InputError(f"{said}; leave it out")


def mean_over(batches: Iterable[Iterable[Tensor]]) -> list[float]:
    """The means of the tensors of each batch, the k-th of all batches pooled: every entry counts the same."""
    sums: list[float] = []
    counts: list[int] = []
    for batch in batches:
        for k, part in enumerate(batch):
            if k == len(sums):
                sums, counts = [*sums, 0.0], [*counts, 0]
            sums[k] += float(part.double().sum())
            counts[k] += part.numel()
    return [total / max(1, count) for total, count in zip(sums, counts, strict=True)]


class InhibitoryLIF(nn.Module):
    """Inhibitory cells with a membrane: each spike counts ``unit``, their threshold, so that on average over time
    they pass on what arrives (less what leaks). ``unit`` is set by ``ei_init_`` to the mean drive."""

    unit: Tensor

    def __init__(self, tau: float = 1.25) -> None:
        super().__init__()
        if not tau >= 1:
            raise InputError(f"tau_inhibitory is a time constant in steps, at least 1, not {tau}")
        self.leak = 1 - 1 / tau
        self.steps: int | None = None
        self.register_buffer("unit", torch.ones(()))

    def forward(self, drive: Tensor) -> Tensor:
        """What the cells send, (T B, ...) as ``drive``, every sequence from rest."""
        if self.steps is None:
            raise InputError(
                "inhibitory cells that spike need to know time: put the layer into nn.OverTime(net, steps)"
            )
        return self.unit * folded(lif(unfolded(drive / self.unit, self.steps, "InhibitoryLIF"), leak=self.leak)[0])

    def step(self, drive: Tensor, v: Tensor | None) -> tuple[Tensor, Tensor]:
        """(what the cells send, their potential) in one step."""
        v = torch.zeros_like(drive) if v is None else v
        s, v = lif_step(drive / self.unit, v, leak=self.leak)
        return self.unit * s, v
