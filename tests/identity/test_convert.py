"""Conversion of layer normalisation: a failure here hides a model that computes something else after it, a sign
constraint that the weights or inputs do not bear, or a norm that was left in place without a word.
"""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import equipoise.nn as eqnn
from equipoise import rules
from equipoise.errors import InputError


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over channels of (B, C, H, W), as image models have it."""

    def forward(self, input: Tensor) -> Tensor:
        y = F.layer_norm(input.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps)
        return y.permute(0, 3, 1, 2)


def shaken(model: nn.Module, *, seed: int = 0) -> nn.Module:
    """``model`` with gains, biases and norms away from where they start, as after training."""
    stream = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=stream) * (1 if p.ndim == 1 else 0.05))
    return model


def dense(bias: bool = True, affine: bool = True) -> nn.Sequential:
    torch.manual_seed(1)
    hidden = [nn.Linear(20, 30, bias=bias), nn.LayerNorm(30, elementwise_affine=affine), nn.ReLU(), nn.Dropout(0.5)]
    return nn.Sequential(*hidden, nn.Linear(30, 25, bias=bias), nn.LayerNorm(25), nn.ReLU(), nn.Linear(25, 4))


def images() -> nn.Sequential:
    torch.manual_seed(2)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        ChannelNorm(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 12, 3, stride=2, padding=1, bias=False),
        eqnn.Normalise(dim=-3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(12 * 4, 5),
    )


CASES = {
    "dense": (dense(), torch.rand(16, 20)),
    "trained": (shaken(dense()), torch.rand(16, 20)),
    "no bias": (shaken(dense(bias=False)), torch.rand(16, 20)),
    "no affine": (shaken(dense(affine=False)), torch.rand(16, 20)),
    "signed input": (shaken(dense()), torch.randn(16, 20)),
    "images": (shaken(images()), torch.rand(6, 3, 8, 8)),
    "signed images": (shaken(images()), torch.randn(6, 3, 8, 8)),
}


@pytest.mark.parametrize("name", list(CASES))
def test_a_fused_layer_computes_what_the_two_did(name: str) -> None:
    model, x = CASES[name]
    before = copy.deepcopy(model.state_dict())
    new, report = eqnn.convert(model, x)
    assert len(report.converted) == 2
    assert not report.skipped
    with torch.no_grad():
        old, now = copy.deepcopy(model).eval()(x), new.eval()(x)
    assert torch.allclose(now, old, atol=1e-5), float((now - old).abs().max())
    assert report.error == pytest.approx(float((now - old).abs().max()), abs=1e-6)
    assert report.error is not None
    assert report.error < 1e-5
    other = x.roll(1, -1) * 1.3
    with torch.no_grad():
        assert torch.allclose(new(other), copy.deepcopy(model).eval()(other), atol=2e-5), (
            "on any input, not on one batch"
        )
    assert all(torch.equal(p, before[n]) for n, p in model.state_dict().items()), "not in place by default"


@pytest.mark.parametrize("name", list(CASES))
def test_signs_are_constrained_exactly_where_inputs_allow(name: str) -> None:
    model, x = CASES[name]
    new, report = eqnn.convert(model, x)
    circuits = [m for m in new.modules() if isinstance(m, (eqnn.INormLinear, eqnn.INormConv2d))]
    assert [c.dale for c in circuits] == [bool((x >= 0).all()), True]
    assert [one.dale for one in report.converted] == [c.dale for c in circuits]
    for circuit in circuits:
        if circuit.dale:
            assert all(bool((getattr(circuit, n) >= 0).all()) for n in ("weight_ee", "weight_ie", "weight_ei"))
    if not circuits[0].dale:
        assert "input reaches -" in str(report)
        assert bool((circuits[0].weight_ee < 0).any()), "weights keep their signs"
    held = eqnn.project_(copy.deepcopy(new)).state_dict()
    assert all(torch.equal(p, held[n]) for n, p in new.state_dict().items()), "within its constraints"


def test_without_an_example_the_layer_before_decides() -> None:
    _, report = eqnn.convert(dense())
    assert [one.dale for one in report.converted] == [False, True]
    assert report.error is None
    assert "may be negative" in str(report)
    signed = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), nn.Linear(6, 6), nn.LayerNorm(6))
    assert [one.dale for one in eqnn.convert(signed)[1].converted] == [False], "a layer's output has any sign"


class Block(nn.Module):
    """A residual block: one norm behind a layer, one alone, one behind a layer whose output is read twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(12, 12), nn.LayerNorm(12)
        self.alone = nn.LayerNorm(12)
        self.last, self.read = nn.Linear(12, 12), nn.LayerNorm(12)

    def forward(self, x: Tensor) -> Tensor:
        h = x + F.relu(self.norm(self.first(F.relu(x))))
        e = self.last(self.alone(h))
        return e + self.read(e)


def test_any_forward_pass_is_followed() -> None:
    torch.manual_seed(3)
    model, x = shaken(Block()), torch.randn(40, 12)
    new, report = eqnn.convert(model, x, pooling="equal")
    assert {one.name: one.kind for one in report.converted} == {
        "first": "INormLinear",
        "alone": "LateralNorm",
        "read": "LateralNorm",
    }
    assert report.converted[0].dale
    assert torch.allclose(new(x), model(x), atol=1e-5)
    assert isinstance(new.norm, nn.Identity)


def test_pools_of_its_own_units_miss_by_what_the_report_says() -> None:
    torch.manual_seed(4)
    model, x = nn.LayerNorm(400), torch.randn(2000, 400)
    new, report = eqnn.convert(model, x)
    assert isinstance(new, eqnn.LateralNorm)
    assert sum(b.numel() for b in new.buffers()) == 400, "O(n)"
    off = float((new(x) - model(x)).detach().mean(1).std())
    assert off == pytest.approx(math.sqrt(1 / (3 * 400)), rel=0.15)
    (one,) = report.converted
    assert one.error is not None
    assert 0 < one.error < 1
    many, _ = eqnn.convert(model, x, pools=100)
    assert float((many(x) - model(x)).detach().mean(1).std()) < 0.2 * off


def test_what_stays_is_named_with_its_reason() -> None:
    torch.manual_seed(5)
    tied = nn.Linear(6, 6)
    tied.weight = nn.Linear(6, 6).weight
    other = nn.Linear(6, 6)
    other.weight = tied.weight
    model = nn.Sequential(
        nn.Linear(6, 6), nn.BatchNorm1d(6), tied, nn.LayerNorm(6), other, nn.Unflatten(1, (2, 3)), nn.LayerNorm([2, 3])
    )
    _, report = eqnn.convert(model, torch.rand(7, 6))
    text = {one.name: one.reason for one in report.skipped}
    assert "BatchNorm1d is no layer normalisation" in text["1"]
    assert "shared with 4.weight" in text["2"]
    assert "(2, 3)" in text["6"]
    assert {one.name for one in report.converted} == {"3"}, "the norm behind a tied layer is pooled from its own units"
    conv = nn.Sequential(nn.Conv2d(3, 5, 3), nn.LayerNorm(5))
    new, report = eqnn.convert(conv, torch.rand(2, 3, 7, 7))
    assert "channels are not that" in str(report)
    assert isinstance(new.get_submodule("1"), eqnn.LateralNorm), "over the last axis it stands alone"


def test_a_bias_whose_tonic_cell_would_leave_the_image_stays() -> None:
    wide = nn.Sequential(nn.Conv2d(3, 5, 3, padding=2), ChannelNorm(5))
    _, report = eqnn.convert(wide, torch.rand(2, 3, 7, 7))
    assert "reaches past the middle" in str(report)
    free = nn.Sequential(nn.Conv2d(3, 5, 3, padding=2, bias=False), ChannelNorm(5))
    assert eqnn.convert(free, torch.rand(2, 3, 7, 7))[1].error == pytest.approx(0, abs=1e-5)


def test_in_place_and_the_same_for_every_call() -> None:
    model = dense()
    state = torch.random.get_rng_state()
    one, _ = eqnn.convert(model)
    two, _ = eqnn.convert(model)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    assert torch.equal(torch.random.get_rng_state(), state)
    same, _ = eqnn.convert(model, inplace=True)
    assert same is model
    assert isinstance(model[1], nn.Identity)


def test_a_converted_model_learns_by_every_way_that_a_circuit_does() -> None:
    torch.manual_seed(6)
    x = torch.rand(64, 20)
    y = x[:, :4].argmax(1)
    model, _ = eqnn.convert(dense(), x, gradnorm="full")
    rule = rules.make("bp", model, example=x)
    optimizer = torch.optim.SGD(eqnn.param_groups(model, 0.1), lr=0.1)
    eqnn.enforce(optimizer, model)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        losses.append(float(rule.backward(x, y).loss))
        optimizer.step()
    assert sum(losses[-5:]) < 0.85 * sum(losses[:5])
    circuit = next(m for m in model.modules() if isinstance(m, eqnn.INormLinear))
    assert circuit.weight_ie.grad is not None
    assert bool(circuit.weight_ie.grad.any()), "inhibition learns from its own loss"
    assert bool((circuit.weight_ee >= 0).all())


@pytest.mark.parametrize("options", [{"dale": True}, {"bias": None}, {"eps": 1e-3}])
def test_options_that_the_layers_decide_are_refused(options: dict) -> None:
    with pytest.raises(InputError, match="comes from the layer itself"):
        eqnn.convert(dense(), **options)
