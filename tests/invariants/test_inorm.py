"""What inhibitory circuits keep whatever happens: signs, widths, the error of pools that are not ideal.

A failure here means that a network which is said to obey Dale's law does not, or that a width is not the one printed.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from equipoise import nn as enn
from equipoise import rules

LAYERS = {
    "inorm": lambda: enn.INormLinear(20, 15),
    "inorm_dale": lambda: enn.INormLinear(20, 15, divisive="dale", train_ei=True),
    "inorm_conv": lambda: enn.INormConv2d(5, 6, 2),
    "dale": lambda: enn.DaleLinear(20, 15),
    "dale_conv": lambda: enn.DaleConv2d(5, 6, 2),
    "dann": lambda: enn.DANNLinear(20, 15),
    "dann_conv": lambda: enn.DANNConv2d(5, 6, 2),
}
SIGNED = {"inorm": {"divisive_ie"}, "inorm_conv": {"divisive_ie"}, "dann": {"alpha"}, "dann_conv": {"alpha"}}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("optimiser", [torch.optim.SGD, torch.optim.Adam])
def test_training_keeps_every_sign_that_dales_law_wants(name: str, optimiser: type) -> None:
    """All weights but the signed divisive pool, alpha and biases are non-negative after every step of any optimiser."""
    torch.manual_seed(0)
    layer = LAYERS[name]()
    held = {n for n, _ in layer.named_parameters()} - {"bias"} - SIGNED.get(name, set())
    assert set(enn.constraints_of(layer)) == held
    head = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.LazyLinear(4))
    model = nn.Sequential(layer, *head)
    x = torch.rand(8, 20) if layer.unit_dim == -1 else torch.rand(8, 5, 4, 4)
    y = torch.arange(8) % 4
    model(x)
    update = optimiser(enn.param_groups(model, 0.1), lr=0.1)
    enn.enforce(update, model)
    rule = rules.make("bp", model, example=x, local_weight=100.0)
    before = {n: p.detach().clone() for n, p in layer.named_parameters()}
    for _ in range(5):
        update.zero_grad()
        rule.backward(x, y)
        update.step()
        assert all(bool((layer.get_parameter(n) >= 0).all()) for n in held)
    moved = {n for n, p in layer.named_parameters() if not torch.equal(p, before[n])}
    assert moved == {n for n, p in layer.named_parameters() if p.requires_grad}


def test_the_divisive_pool_is_signed_unless_it_is_clamped() -> None:
    torch.manual_seed(0)
    assert bool((enn.INormLinear(40, 30).divisive_ie < 0).any())
    assert bool((enn.INormLinear(40, 30, divisive="dale").divisive_ie >= 0).all())


@pytest.mark.parametrize("units", range(2, 520, 3))
def test_the_subtractive_pool_is_a_tenth_rounded_down_and_at_least_one_cell(units: int) -> None:
    assert enn.DaleLinear(2, units).pool == max(1, units // 10)
    assert enn.DaleLinear(2, units, ratio=0.3).pool == max(1, units * 3 // 10)


def test_widths_are_shown_and_the_uniform_pathway_is_not_stored() -> None:
    layer = enn.INormLinear(20, 30, divisive_pool=12)
    assert "n_i=3" in repr(layer)
    assert "n_d=12" in repr(layer)
    assert tuple(layer.divisive_ie.shape) == (12, 20)
    assert "divisive_ei" not in dict(layer.named_parameters())
    assert not layer.weight_ei.requires_grad
    trained = enn.INormLinear(20, 30, divisive_pool=12, train_ei=True)
    assert tuple(trained.divisive_ei.shape) == (30, 12)
    assert trained.divisive_ei.detach().eq(1 / 12).all()


@pytest.mark.parametrize("cells", [30, 300])
def test_a_pool_of_another_width_has_the_right_variance_on_average(cells: int) -> None:
    """d^2 over Var(e) has mean 1 and standard deviation about sqrt(2 / m)."""
    torch.manual_seed(0)
    h, found = torch.randn(1, 50).relu(), []
    for _ in range(100):
        layer = enn.INormLinear(50, 100, divisive_pool=cells)
        drive = (h @ layer.weight_ee.T).var(correction=0)
        found.append((h @ layer.divisive_ie.T).square().mean() / drive)
    ratios = torch.stack(found).detach()
    assert float(ratios.mean()) == pytest.approx(1, abs=4 * math.sqrt(2 / cells / 100))
    assert float(ratios.std()) == pytest.approx(math.sqrt(2 / cells), rel=0.3)


@pytest.mark.parametrize(("inputs", "units"), [(50, 300), (300, 300), (900, 300), (784, 30)])
def test_a_pool_with_dales_law_starts_near_the_right_variance(inputs: int, units: int) -> None:
    torch.manual_seed(0)
    layer, h = enn.INormLinear(inputs, units, divisive="dale"), torch.randn(200, inputs).relu()
    assert float(layer(h).detach().var(1).mean()) == pytest.approx(1, rel=0.2)


def test_pooling_weights_come_from_their_seed_alone() -> None:
    a, b, c = (enn.LateralInhibition(50, seed=seed).nu for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert float(a.sum()) == pytest.approx(1)
    many = enn.LateralInhibition(50, pools=100).nu
    assert float(many.std()) < float(a.std()) / 5


def test_weights_come_from_torchs_global_state() -> None:
    states = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        states.append(enn.INormLinear(6, 5).weight_ee.detach())
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])
