"""Chains of square layers with weights at a chosen distance from orthogonal ones: what target propagation is tried on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from equipoise import rules
from equipoise.functional.orthogonal import retract
from equipoise.nn import InvertibleConv2d, InvertibleLinear
from equipoise.randomness import generator


def orthogonal_(model: nn.Module, apart: float = 0.0) -> nn.Module:
    """Every weight's nearest orthogonal matrix in float64, plus ``apart`` N(0, 1 / n)."""
    with torch.no_grad():
        for k, p in enumerate(model.parameters()):
            if p.ndim >= 2:
                matrix = p.double().flatten(1)
                noise = torch.randn(matrix.shape, generator=generator(k), dtype=torch.float64)
                p.copy_((retract(matrix) + apart * noise / matrix.shape[1] ** 0.5).reshape(p.shape))
    return model


def dense(hidden: int, width: int = 64, *, apart: float = 0.0, dtype: torch.dtype = torch.float64) -> nn.Sequential:
    """``hidden`` square layers with leaky ReLU, of which the readout shows 10 units."""
    torch.manual_seed(hidden)
    layers: list[nn.Module] = [nn.Linear(48, width)]
    for k in range(hidden):
        layers += [nn.LeakyReLU(0.1), InvertibleLinear(width, width if k < hidden - 1 else 10)]
    return orthogonal_(nn.Sequential(*layers).double(), apart).to(dtype)  # type: ignore[return-value]


def kernels(deep: int = 3, *, apart: float = 0.0, dtype: torch.dtype = torch.float64, **options: Any) -> nn.Sequential:
    """``deep`` convolutions with overlapping patches, uneven padding and auxiliary channels, and two matrices."""
    torch.manual_seed(deep)
    layers: list[nn.Module] = [InvertibleConv2d(2, 3, 3, 2, "same", first=True), nn.LeakyReLU(0.1)]
    for k in range(deep):
        stride = 2 if k == 0 else 1
        layers += [InvertibleConv2d(3, 3, (2, 3)[k % 2], stride, "same", **options), nn.LeakyReLU(0.1)]
    layers += [nn.Flatten(), InvertibleLinear(3 * 4 * 4, 20), nn.LeakyReLU(0.1), InvertibleLinear(20, 10)]
    return orthogonal_(nn.Sequential(*layers).double(), apart).to(dtype)  # type: ignore[return-value]


def batch(model: nn.Sequential, n: int = 24) -> tuple[Tensor, Tensor]:
    shape = (48,) if isinstance(model[0], nn.Linear) else (2, 15, 13)
    x = torch.randn(n, *shape, generator=generator(n), dtype=torch.float64)
    return x.to(next(model.parameters()).dtype), torch.arange(n) % 10


def written(model: nn.Sequential, name: str = "gait", **options: Any) -> dict[str, Tensor]:
    """What the rule would add to ``.grad`` for the batch of ``model``, penalties left out."""
    x, y = batch(model)
    rule = rules.make(name, model, example=x, **options)
    return rule.gradients({n: p.detach() for n, p in model.named_parameters()}, x, y)[0]
