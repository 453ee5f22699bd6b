"""Spiking networks: cells over the plain loop, VGG-16 over its twin with batch normalisation and over plain code.

``eisnn.lif.vs_loop``: 512 cells, 32 samples, 16 steps, from stored currents to the error at them: 16 384 cells' states,
1 MiB a tensor. ``eisnn.vgg16.*``: pictures of 3 x 32 x 32, 16 of them, 4 steps; a training step with its optimiser and
constraints. Both twins have the same cells, and both compute once a picture what does not know time. Plain code is the
layer as it is written down: two convolutions, two products, single operations, a loop over time.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.baselines import LR
from benchmarks.harness import Effort, Once, Pair, timed

STEPS, BATCH, CELLS = 16, 32, 512
VGG, PICTURES = "spiking-vgg:3x32x32-10,depth=16,steps=4", 16
EFFORT = Effort(least=8, most=8, width=0.1)  # a round is two to four seconds


def both_ways(form: Callable[[Tensor], tuple[Tensor, Tensor]], x: Tensor, g: Tensor) -> Callable[[], None]:
    """Spikes of ``x``, and the error ``g`` back to it."""

    def step() -> None:
        leaf = x.detach().requires_grad_()
        form(leaf)[0].backward(g)

    return step


def vs_loop() -> Pair:
    from equipoise import functional as f

    source = torch.Generator().manual_seed(0)
    x, g = torch.randn(2, STEPS, BATCH, CELLS, generator=source)
    return Pair(timed(both_ways(f.lif, x, g)), timed(both_ways(f.lif_loop, x, g)))


class PlainCurrent(nn.Module):
    """An E-I layer from single operations, for excitatory and inhibitory cells apart."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, h: Tensor) -> Tensor:
        from equipoise import functional as f

        layer: Any = self.layer
        e, r = layer._from_below(h, layer.weight_ee), layer._from_below(h, layer.weight_ie).relu()
        s = layer._within(r, layer.weight_ei)
        if layer.gain_i is None:
            return e - s
        d = layer._within(layer._by_unit(layer.gain_i) * r, layer.weight_ei)
        return f.ei_current_plain(e, s, d, layer.gain, layer.bias, unit_dim=layer.unit_dim)


class PlainCells(nn.Module):
    """Spiking cells, a step at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = 1

    def forward(self, x: Tensor) -> Tensor:
        from equipoise import functional as f

        return f.lif_loop(x.unflatten(0, (self.steps, -1)))[0].flatten(0, 1)


def plain(model: Any) -> nn.Module:
    """The same network in plain code."""
    from equipoise import nn as enn

    parts: list[nn.Module] = []
    for part in copy.deepcopy(model).net:
        ei, cells = isinstance(part, (enn.EIConv2d, enn.EILinear)), isinstance(part, enn.LIF)
        parts.append(PlainCurrent(part) if ei else PlainCells() if cells else part)
    return enn.OverTime(nn.Sequential(*parts), model.steps)


def pictures() -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(0)
    return torch.rand(PICTURES, 3, 32, 32, generator=source), torch.randint(10, (PICTURES,), generator=source)


def vgg(options: str = "") -> nn.Module:
    """VGG-16, E-I layers started from data."""
    from equipoise import models
    from equipoise import nn as enn

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = models.make(f"{VGG}{options}")
    if "norm" not in options:
        enn.ei_init_(model, pictures()[0])
    return model


def training(model: nn.Module) -> Callable[[], None]:
    """Forward, cross-entropy, backward, SGD with momentum, constraints."""
    from equipoise import nn as enn

    update = torch.optim.SGD(enn.param_groups(model, LR), lr=LR, momentum=0.9)
    if any(getattr(module, "constraints", None) for module in model.modules()):
        enn.enforce(update, model)
    x, y = pictures()

    def step() -> None:
        F.cross_entropy(model(x), y).backward()
        update.step()
        update.zero_grad(set_to_none=True)

    return step


def products(model: Any, side: int = 32) -> int:
    """Multiply-accumulates of one forward pass of a picture: the least that a step is proportional to."""
    total, times = 0, 1  # the layers before the first cells work once a picture, the others once a step
    for part in model.net:
        side = side // 2 if type(part) is nn.AvgPool2d else side
        times = model.steps if type(part).__name__ == "LIF" else times
        weight: Any = getattr(part, "weight", None)
        inner: Any = getattr(part, "weight_ei", None)
        if weight is not None and weight.ndim > 1:
            total += times * side**2 * (weight.numel() + (0 if inner is None else 2 * inner.numel()))
    return total


def vs_twin() -> Pair:
    ours, twin = vgg(), vgg(",norm=batch")
    floor = products(ours) / products(twin)
    return Pair(timed(training(ours)), timed(training(twin)), floor=floor, effort=EFFORT)


def vs_plain() -> Pair:
    ours = vgg()
    return Pair(timed(training(ours)), timed(training(plain(ours))), effort=EFFORT)


def saved_bytes(model: nn.Module) -> int:
    """Bytes of all that a forward pass keeps for the way back, each piece of memory once, parameters left out."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    sizes: dict[int, int] = {}
    kept: list[Tensor] = []

    def keep(t: Tensor) -> Tensor:
        kept.append(t)  # so that no address is given out twice
        if t.untyped_storage().data_ptr() not in own:
            sizes[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        F.cross_entropy(model(pictures()[0]), pictures()[1])
    return sum(sizes.values())


def cases() -> Iterator[tuple[str, Callable[[], Pair | Once]]]:
    """Names, and what prepares each when its turn comes."""
    yield "eisnn.lif.vs_loop", vs_loop
    yield "eisnn.vgg16.vs_bn", vs_twin
    yield "eisnn.vgg16.vs_plain", vs_plain
    yield "eisnn.vgg16.memory_vs_bn", lambda: Once(lambda: saved_bytes(vgg()) / saved_bytes(vgg(",norm=batch")))
