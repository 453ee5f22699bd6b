"""How large the first gradients of an E-I network are against its parameters, and where nothing divides.

A failure here means that a factor is missing on the way back, 1/d on W_EI most of all, or that sparse frames break
numbers. The bounds are those measured for the E-I spiking paper's program on CIFAR-10 with five convolutions, |gradient| /
|parameter| at the first step; here for the mean over the layers.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from equipoise import data, models
from equipoise import nn as enn

BOUNDS = {
    "W_EE": (0.09, 0.35),
    "W_IE": (0.05, 0.17),
    "W_EI": (0.0007, 0.0075),
    "g_I": (0.04, 0.09),
    "g_E": (0.001, 0.004),
}
ROOM = 2.5  # other pictures, widths and draws of weights


def digits() -> tuple[Tensor, Tensor, str]:
    train = data.load("digits").train
    x = F.interpolate(train.images[:32].float() / 255, size=(16, 16))
    return x, train.labels[:32], "spiking-vgg:1x16x16-10,depth=8,width=0.25"


def cifar() -> tuple[Tensor, Tensor, str]:
    folder = os.environ.get("EQUIPOISE_DATA")
    if not folder or not (Path(folder) / "cifar10").is_dir():
        pytest.skip("EQUIPOISE_DATA does not hold cifar10")
    train = data.load("cifar10", folder=folder).train
    return train.images[:64].float() / 255, train.labels[:64], "spiking-vgg:3x32x32-10,depth=8,width=0.5"


def ratios(x: Tensor, y: Tensor, text: str) -> tuple[dict[str, list[float]], list[int]]:
    """|gradient| / |parameter| of each hidden layer, with the literal 1/d; and d."""
    model = models.make(f"{text},scaling=gradient")
    enn.ei_init_(model, x)
    F.cross_entropy(model(x), y).backward()
    found: dict[str, list[float]] = {name: [] for name in BOUNDS}
    inputs = []
    for layer in model.modules():
        if isinstance(layer, enn.EIConv2d):
            grad, n = layer.weight.grad, layer.units
            assert grad is not None
            pairs = [(grad[:n], layer.weight[:n]), (grad[n:], layer.weight[n:])]
            others: list[Any] = [layer.weight_ei, layer.gain_i, layer.gain]
            pairs += [(p.grad, p) for p in others]
            for name, (g, p) in zip(BOUNDS, pairs, strict=True):
                found[name].append(float(g.norm() / p.detach().norm()))
            inputs.append(layer.fan_in)
    return found, inputs


@pytest.mark.parametrize("where", [digits, pytest.param(cifar, marks=pytest.mark.slow)])
def test_the_first_gradients_are_as_large_as_the_papers(where: object) -> None:
    found, inputs = ratios(*where())  # type: ignore[operator]
    assert len(inputs) == 5
    for name, (low, high) in BOUNDS.items():
        mean = math.exp(math.fsum(map(math.log, found[name])) / 5)
        assert low / ROOM < mean < high * ROOM, (name, mean)
    slower = [e / i for e, i in zip(found["W_EE"], found["W_EI"], strict=True)]
    assert 3 < slower[0] < 30, "in the first layer W_EI moves about ten times as slowly as W_EE"
    assert min(slower[1:]) > 2 * slower[0]
    undone = [d / s for d, s in zip(inputs, slower, strict=True)]
    assert 1 < math.exp(math.fsum(map(math.log, undone)) / 5) < 6, "without 1/d it would move faster"


def test_sparse_frames_leave_most_cells_nothing_to_divide_by() -> None:
    """Of 18 pixels of probability 0.02 all are off in 0.98^18 = 70 % of places (the program's measure, too)."""
    g = torch.Generator().manual_seed(0)
    frames = (torch.rand(16, 2, 24, 24, generator=g) < 0.02).float()
    layer = enn.EIConv2d(2, 16, 3, padding=1)
    enn.ei_init_(layer, frames)
    with torch.no_grad():
        _, r = layer._drive(frames)
        divisor = layer._within(layer._by_unit(layer.gain_i) * r, layer.weight_ei)  # type: ignore[arg-type]
        assert float((divisor == 0).double().mean()) == pytest.approx(0.98**18, abs=0.02)
        assert bool(layer(frames).isfinite().all())
    layer(frames).sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in layer.parameters())  # type: ignore[union-attr]
