"""The measure "int8": what rounding a network's weights to eight bits costs, before and after it is balanced."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.balance.graph import ScalingGraph, graph
from equipoise.balance.solve import balance_
from equipoise.measure import Measure, measures

__all__ = ["quantised", "spread"]

LEVELS = 127
POWERS = (2.0, 8.0)  # 8 is near the largest weight of each unit, which is what the range of a tensor depends on
SPREAD = 1.0  # standard deviation of the log-scales that are drawn for the "scattered" twin


@torch.no_grad()
def quantised(model: nn.Module) -> nn.Module:
    """A copy of ``model`` whose weights are rounded to eight bits, each tensor with one step: w' = s round(w / s).

    s = max |w| / 127, symmetric, over a whole tensor of two or more dimensions; biases stay as they are.
    """
    twin = copy.deepcopy(model)
    for weight in twin.parameters():
        step = weight.abs().max() / LEVELS
        if weight.ndim > 1 and step > 0:
            weight.copy_((weight / step).round() * step)
    return twin


@torch.no_grad()
def spread(model: nn.Module) -> float:
    """How wide the weights lie: max |w| over the root mean square of each tensor, the largest over the tensors."""
    ratios = [w.abs().max() / w.square().mean().sqrt() for w in model.parameters() if w.ndim > 1 and bool(w.any())]
    return float(torch.stack(ratios).max()) if ratios else float("nan")


@torch.no_grad()
def _int8(rule: Any, x: Tensor, y: Tensor, generator: torch.Generator | None) -> dict[str, float]:
    """The error of the output, |f_8(x) - f(x)| / |f(x)|, the accuracy where there are labels, and the spread.

    Of the network as it is, balanced under two costs, with its units scaled at random (same function), and that
    balanced again.
    """
    model = copy.deepcopy(rule.model).eval()
    traced = graph(model, x[:2])
    variants = {"trained": model, "scattered": _scattered(traced, generator)}
    for p in POWERS:
        variants[f"balanced_l{p:g}"] = _balanced(model, x, p)
    variants["scattered_balanced"] = _balanced(variants["scattered"], x, POWERS[0])
    exact, found = model(x), {}
    if not y.is_floating_point():
        found["int8/exact/accuracy"] = float((exact.argmax(1) == y).double().mean())
    for name, variant in variants.items():
        output = quantised(variant)(x)
        found[f"int8/{name}/error"] = float((output - exact).norm() / exact.norm())
        found[f"int8/{name}/spread"] = spread(variant)
        if not y.is_floating_point():
            found[f"int8/{name}/accuracy"] = float((output.argmax(1) == y).double().mean())
    return found


def _balanced(model: nn.Module, x: Tensor, p: float) -> nn.Module:
    twin = copy.deepcopy(model)
    balance_(twin, p=p, example=x[:2], tol=1e-8)
    return twin


def _scattered(traced: ScalingGraph, generator: torch.Generator | None) -> nn.Module:
    """A copy of the network with every unit scaled by exp(N(0, 1)): the same function."""
    twin = copy.deepcopy(traced.model)
    device = next(twin.parameters()).device
    rows = traced.rows.to(device)
    v = rows.expand(SPREAD * torch.randn(rows.free, dtype=torch.float64, generator=generator, device=device))
    weights = dict(twin.named_parameters())
    for use in traced.uses:
        weights[use.name].mul_(use.exponent(v).exp())
    return twin


measures.register("int8")(
    Measure("int8", _int8, "end", "what rounding the weights to eight bits costs, before and after balancing")
)
