"""Hidden activity, its picture and the number beside it: against the layers called one by one, and known geometry.

A failure here means that a picture shows another layer, or that classes are called apart that are not.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise import EquipoiseError, measure
from nets import Residual, image_batch


def chain() -> nn.Sequential:
    torch.manual_seed(0)
    block = nn.Sequential(nn.Linear(8, 7), nn.BatchNorm1d(7), nn.ReLU(inplace=True), nn.Dropout(0.5))
    conv = nn.Conv2d(3, 2, 3)
    return nn.Sequential(conv, nn.ReLU(), nn.MaxPool2d(3), nn.Flatten(), block, nn.Linear(7, 5), nn.Linear(5, 4))


def test_activity_in_a_chain_is_what_leaves_the_tail_of_the_layer() -> None:
    model, (x, _) = chain(), image_batch()
    model.train()
    with torch.no_grad():
        model[4][1].running_mean.normal_()
    before = {n: t.clone() for n, t in model.state_dict().items()}
    state, x = torch.get_rng_state(), torch.cat([x, x])[:, :, :8, :8]
    found = {name: measure.hidden_activity(model, x, name) for name in ("0", "1", "4.0", "4", "5")}
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
    assert not any(h.requires_grad for h in found.values())
    assert not any(module._forward_hooks for module in model.modules())
    model.eval()
    with torch.no_grad():
        kernel = F.relu(model[0](x))
        dense = F.relu(model[4][1](model[4][0](F.max_pool2d(kernel, 3).flatten(1))))
    assert torch.equal(found["0"], kernel.flatten(1))  # before the pooling, which is no part of the tail
    assert torch.equal(found["1"], found["0"])
    assert torch.equal(found["4.0"], dense)
    assert torch.equal(found["4"], dense)
    assert torch.equal(found["5"], model[5](dense).detach())


def test_activity_elsewhere_is_what_the_named_module_returns() -> None:
    model, (x, _) = Residual().eval(), image_batch()
    with torch.no_grad():
        stem = model.stem(x)  # the model goes on to change it in place, by a function
    assert not torch.equal(stem, F.relu(stem))
    assert torch.equal(measure.hidden_activity(model, x, "stem"), stem.flatten(1))
    assert measure.hidden_activity(model, x, "norm").shape == (5, 4 * 64)


class Odd(nn.Module):
    """One layer that never runs and one that returns two tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.unused, self.pair = nn.Linear(6, 4), nn.LSTM(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.pair(x)[0]


def test_a_layer_without_activity_is_refused() -> None:
    x = torch.randn(5, 6)
    for layer, reason in (
        ("stem2", "unknown layer 'stem2'"),
        ("", "unknown layer ''"),
        ("unused", "'unused' has no activity to show: it did not run"),
        ("pair", "it returned tuple"),
    ):
        with pytest.raises(EquipoiseError, match=reason):
            measure.hidden_activity(Odd(), x, layer)


def heaps(apart: float) -> tuple[Tensor, Tensor]:
    labels = torch.arange(600) % 3
    noise = torch.randn(600, 4, generator=torch.Generator().manual_seed(0))
    return noise + apart * F.one_hot(labels, 4), labels


def test_separation_is_one_for_classes_apart_and_chance_for_classes_that_are_not() -> None:
    assert measure.separation(*heaps(50.0)) == 1
    x, labels = heaps(0.0)
    assert measure.separation(x, labels) == pytest.approx(3 * 200 * 199 / (600 * 599), abs=0.02)
    between = [measure.separation(*heaps(apart)) for apart in (0.0, 1.0, 2.0, 4.0)]
    assert between == sorted(between)
    assert between[1] - between[0] > 0.05


def test_separation_by_hand() -> None:
    """On a line: 0 1 3 | 7 of classes a a b | b. The nearest of each: 1, 0, 1, 3, so a, a, a, b match a, a, b, b."""
    x = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    assert measure.separation(x, torch.tensor([0, 0, 1, 1]), neighbours=1) == 3 / 4
    assert measure.separation(x, torch.tensor([0, 0, 1, 1]), neighbours=2) == (1 + 1 + 0 + 1) / 8
    assert measure.separation(x, torch.tensor([0, 0, 1, 1]), neighbours=3) == 1 / 3


def test_separation_is_a_matter_of_distances_alone() -> None:
    x, labels = heaps(1.5)
    plain = measure.separation(x, labels)
    turn = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64))[0]
    assert measure.separation(1e6 + 7 * x.double() @ turn, labels) == pytest.approx(plain, abs=1e-3)
    order = torch.randperm(600)
    assert measure.separation(x[order], labels[order]) == pytest.approx(plain, abs=1e-12)
    twins = torch.zeros(600, 4)
    assert measure.separation(twins, torch.zeros(600)) == 1  # itself never counts, its twins do


def test_the_picture_keeps_heaps_apart_and_is_the_seeds() -> None:
    x, labels = heaps(30.0)
    x, labels = x[:90], labels[:90]
    state = torch.get_rng_state()
    found = measure.embed(x, seed=3, perplexity=10)
    assert found.shape == (90, 2)
    assert measure.separation(found, labels, neighbours=5) == 1
    assert torch.equal(found, measure.embed(x, seed=3, perplexity=10))
    assert torch.equal(torch.get_rng_state(), state)


def test_what_cannot_be_pictured_is_refused() -> None:
    x, labels = heaps(1.0)
    broken = x.clone()
    broken[0, 0] = torch.nan
    for call, reason in (
        (lambda: measure.embed(x[:20], seed=0), "perplexity is 30 for 20 samples"),
        (lambda: measure.embed(x, seed=0, perplexity=0.5), "perplexity is 0.5"),
        (lambda: measure.embed(broken, seed=0), "not finite"),
        (lambda: measure.embed(x[0], seed=0), r"here of shape \(4,\)"),
        (lambda: measure.separation(broken, labels), "not finite"),
        (lambda: measure.separation(x, labels[:9]), r"600 samples need 600 labels, here of shape \(9,\)"),
        (lambda: measure.separation(x, labels, neighbours=0), "0 neighbours of 600"),
        (lambda: measure.separation(x, labels, neighbours=600), "600 neighbours of 600"),
    ):
        with pytest.raises(EquipoiseError, match=reason):
            call()
