"""The promises of speed that can be counted: weight passes of Newton's method, and bytes beyond the weights.

A failure here hides a solver that gets there too, but in hundreds of passes.
"""

from __future__ import annotations

import pytest
import torch
from benchmarks import balance as benches
from benchmarks.bars import BARS
from benchmarks.baselines import balance_neuron_by_neuron, perceptron
from torch import nn

from equipoise import balance
from equipoise.balance import apply, reduce


def test_the_autoencoder_takes_a_quarter_of_its_bar() -> None:
    assert benches.passes(benches.autoencoder()) < BARS["balance.autoencoder.weight_passes"] / 3


def test_a_deep_badly_scaled_network_takes_few_passes() -> None:
    """Twelve layers here, thirty in the benchmark: aggregates make the number nearly independent of depth."""
    torch.manual_seed(0)
    model = perceptron(30, *[64] * 12, 10)
    with torch.no_grad():
        for layer in model[::2]:
            layer.weight *= torch.exp(3 * torch.randn(layer.out_features, 1))
    report = balance.balance_(model, tol=1e-10)
    assert report.weight_passes < 45
    assert report.iterations < 16


def test_the_plain_loop_balances_the_same_network() -> None:
    """What is timed must be the same work: both sides end at the same weights."""
    torch.manual_seed(0)
    ours, loop = perceptron(12, 9, 8, 7).double(), perceptron(12, 9, 8, 7).double()
    loop.load_state_dict(ours.state_dict())
    balance.balance_(ours, tol=1e-12)
    assert balance_neuron_by_neuron(loop, tol=1e-12) > 5
    for a, b in zip(ours.parameters(), loop.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_memory_is_that_of_the_reduced_blocks(monkeypatch) -> None:
    """Convolutions reduce to channels, the layer behind a flattening to channels too: far less than the weights."""
    model = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 64, 300),
        nn.ReLU(),
        nn.Linear(300, 10),
    )
    graph = balance.graph(model, torch.zeros(1, 3, 16, 16))
    for module in (reduce, apply):
        monkeypatch.setattr(module, "PIECE", 2**12)
    balance.balance_(graph, p=1)
    most = benches.most_bytes(lambda: balance.balance_(graph, tol=1e-8))
    blocks = 8 * (32 * 64 + 64 * 300)
    assert most < 3 * blocks + 4 * 8 * reduce.PIECE
    assert most < 0.2 * sum(p.numel() * p.element_size() for p in model.parameters())


@pytest.mark.parametrize("name", [n for n in BARS if n.startswith("balance.")])
def test_every_bar_of_balance_has_its_benchmark(name: str) -> None:
    assert name in dict(benches.cases())
