"""The start of deep spiking networks: rates and currents that neither die out nor blow up with depth.

A failure here means that a deep network starts silent, saturated or out of balance, and will not train. The bounds are
those measured for the E-I spiking paper's program on CIFAR-10, wider where samples and draws of weights differ.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from equipoise import data, models
from equipoise import nn as enn


class Start(NamedTuple):
    """Firing rate, mean, standard deviation and largest size of the current of each layer of cells; scores' deviation."""

    rates: Tensor
    means: Tensor
    spreads: Tensor
    largest: Tensor
    scores: float
    report: enn.EIInitReport


def started(text: str, x: Tensor, seed: int = 0) -> Start:
    model = models.make(text, seed=seed)
    report = enn.ei_init_(model, x, seed=seed)
    rows: list[tuple[float, ...]] = []

    def hear(module: object, args: tuple[Tensor, ...], spikes: Tensor) -> None:
        current = args[0]
        rows.append((float(spikes.mean()), float(current.mean()), float(current.std()), float(current.abs().max())))

    for module in model.modules():
        if isinstance(module, enn.LIF):
            module.register_forward_hook(hear)  # type: ignore[arg-type]
    with torch.no_grad():
        scores = float(model(x).std())
    rates, means, spreads, largest = torch.tensor(rows).unbind(1)
    return Start(rates, means, spreads, largest, scores, report)


@pytest.fixture(scope="module")
def digits() -> Tensor:
    return data.load("digits").train.images[:128].float() / 255


@pytest.fixture(scope="module")
def cifar() -> Tensor:
    folder = os.environ.get("EQUIPOISE_DATA")
    if not folder or not (Path(folder) / "cifar10").is_dir():
        pytest.skip("EQUIPOISE_DATA does not hold cifar10")
    return data.load("cifar10", folder=folder).train.images[:16].float() / 255


def test_sixteen_layers_start_alive_and_balanced_on_digits(digits: Tensor) -> None:
    start = started("spiking-mlp:64-10,depth=16", digits)
    assert len(start.rates) == 15
    assert 0.1 < float(start.rates.min()) < float(start.rates.max()) < 0.3
    assert 0.7 < float(start.spreads.min()) < float(start.spreads.max()) < 1.1
    assert float(start.means.abs().max()) < 0.25
    assert len(start.report.layers) == 16


def test_without_the_start_from_data_a_plain_network_falls_silent(digits: Tensor) -> None:
    """What normalisation is for: the twin with nothing, of torch's own start, has no spikes in its upper half."""
    model = models.make("spiking-mlp:64-10,depth=16,norm=none")
    rates: list[float] = []
    for module in model.modules():
        if isinstance(module, enn.LIF):
            module.register_forward_hook(lambda m, a, s: rates.append(float(s.mean())))  # type: ignore[arg-type]
    with torch.no_grad():
        model(digits)
    assert sum(rates[7:]) == 0


# Layers of cells, the lowest rate, and the scores' standard deviation in the paper's program, from 64 pictures. A 1x1
# shortcut has few inputs, so its rate depends most on the draw of its weights.
DEEP = {
    "spiking-vgg:3x32x32-10,depth=8": (5, 0.1, 0.118),
    "spiking-vgg:3x32x32-10,depth=19": (16, 0.1, 0.185),
    "spiking-resnet:3x32x32-10": (20, 0.05, 0.171),
}


@pytest.mark.slow
@pytest.mark.parametrize("text", DEEP)
def test_published_networks_start_as_published_on_cifar(text: str, cifar: Tensor) -> None:
    layers, lowest, scores = DEEP[text]
    start = started(text, cifar)
    assert len(start.rates) == layers
    assert lowest < float(start.rates.min()) < float(start.rates.max()) < 0.3
    assert 0.75 < float(start.spreads.min()) < float(start.spreads.max()) < 1.5
    assert float(start.means.abs().max()) < 0.45
    assert 4 < float(start.largest.min()) < float(start.largest.max()) < 12
    assert scores / 2 < start.scores < 2 * scores
    first = start.report.layers[0]
    assert first.first == pytest.approx(0.48, abs=0.05)
    assert first.beta == pytest.approx(0.0805, rel=0.15)
    assert first.gamma == pytest.approx(0.240, rel=0.1)
