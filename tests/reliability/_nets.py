"""Small networks that use every kind of state and randomness a run has to carry over a kill."""

from __future__ import annotations

import os
import random

import numpy as np
import torch
from torch import Tensor, nn

from equipoise import nn as enn


class OwnNoise(nn.Module):
    """Draws from torch's global generator by itself, as some users' models do."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.05 * torch.randn_like(x) if self.training else x


class Tied(nn.Module):
    """One matrix under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(64, 64)
        self.second = nn.Linear(64, 64)
        self.second.weight = self.first.weight
        self.out = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu(self.second(torch.relu(self.first(x.flatten(1))))))


class Explodes(nn.Module):
    """Gives NaN once it has seen ``at`` training batches (a rule looks at two samples first)."""

    def __init__(self, at: int = 30) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 10)
        self.at, self.calls = at, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += self.training and len(x) > 2
        return self.linear(x.flatten(1)) * (float("nan") if self.calls >= self.at else 1.0)


def nosy() -> nn.Module:
    """Settles into the process for good: its number format, environment, generators."""
    torch.set_default_dtype(torch.float64)
    torch.use_deterministic_algorithms(True)
    torch.set_float32_matmul_precision("medium")
    os.environ["EQUIPOISE_NOSY"] = "1"
    random.random()
    np.random.rand()  # noqa: NPY002
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10, dtype=torch.float32))


def noisy() -> nn.Module:
    """Batch statistics, dropout and noise of its own."""
    return nn.Sequential(
        nn.Flatten(), OwnNoise(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 10)
    )


def noisy_without_dropout() -> nn.Module:
    """Batch statistics and noise of its own: what plain torch and a rule draw from the same generator."""
    return nn.Sequential(nn.Flatten(), OwnNoise(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10))


class Broken(nn.Module):
    """Raises what no library expects."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        raise KeyError("Broken")


def spiking() -> nn.Module:
    """Excitatory and inhibitory cells that spike, for 8x8 digits."""
    layers = (enn.EILinear(64, 20), enn.LIF(), enn.EILinear(20, 10, readout=True))
    return enn.OverTime(nn.Sequential(nn.Flatten(), *layers), steps=3)
