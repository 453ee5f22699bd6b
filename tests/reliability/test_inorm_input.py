"""What inhibitory circuits refuse, what they survive, and that they say why.

A failure here means that a wrong option trains something else, or that an odd batch ends in NaN.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import equipoise as eq
from equipoise import functional as f
from equipoise import nn as enn
from equipoise import rules
from equipoise.errors import InputError

LINEAR = (enn.INormLinear, enn.DaleLinear, enn.DANNLinear)


@pytest.mark.parametrize("kind", LINEAR)
def test_an_explicit_pool_of_no_cells_is_refused(kind: type) -> None:
    for options in ({"pool": 0}, {"pool": -2}):
        with pytest.raises(InputError, match="at least 1 cell"):
            kind(8, 6, **options)
    with pytest.raises(InputError, match="ratio"):
        kind(8, 6, ratio=0.0)
    assert kind(8, 6, ratio=1e-9).pool == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"divisive_pool": 0}, "at least 1 cell"),
        ({"gradnorm": "centre"}, "did you mean 'center'"),
        ({"gradnorm": ["full", "scael"]}, "did you mean 'scale'"),
        ({"divisive": "rsm"}, "did you mean 'rms'"),
        ({"detach": "substractive"}, "did you mean 'subtractive'"),
        ({"law": "lognormal"}, "did you mean 'log_normal'"),
        ({"form": "prea"}, "did you mean 'pre'"),
        ({"division": "exakt"}, "did you mean 'exact'"),
        ({"bias": "behind"}, "place of the bias"),
        ({"gradnorm": "lateral", "pooling": "unifrom"}, "did you mean 'uniform'"),
        ({"gradnorm": "lateral", "pools": 0}, "one pool"),
        ({"task_trains": "divisive"}, "take divisive out of detach"),
    ],
)
def test_options_that_do_not_exist_are_named_with_the_nearest(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        enn.INormLinear(8, 6, **options)


def test_layers_without_units_to_normalise_over_are_refused() -> None:
    with pytest.raises(InputError, match="at least 2"):
        enn.INormLinear(8, 1)
    with pytest.raises(InputError, match="one input and one unit"):
        enn.DaleLinear(0, 4)
    with pytest.raises(InputError, match="too few"):
        f.ideal(torch.rand(1, 5))
    with pytest.raises(InputError, match="units="):
        enn.GradNorm("lateral")
    with pytest.raises(InputError, match="nu"):
        f.gradnorm(torch.rand(3, 4), frozenset({"lateral"}))
    with pytest.raises(InputError, match="did you mean 'full'"):
        enn.GradNorm("ful")
    with pytest.raises(InputError, match="Identity"):
        enn.Normalise(centre=False, scale=False)
    with pytest.raises(InputError, match="form of the local loss"):
        f.local_loss(torch.rand(2, 3), None, None, form="raw")


@pytest.mark.parametrize("kind", LINEAR)
def test_negative_rates_are_refused_by_the_check_and_under_debug_only(kind: type) -> None:
    layer, batch = kind(8, 6), torch.randn(5, 8)
    layer(batch)
    with pytest.raises(InputError, match="OnOff"):
        layer.check_(batch)
    with pytest.raises(InputError, match="not finite"):
        layer.check_(torch.full((2, 8), torch.nan))
    with eq.debug(), pytest.raises(InputError, match="rates of excitatory cells"):
        layer(batch)
    assert layer.check_(batch.abs()) is not None
    with eq.debug():
        layer(batch.abs())
        kind(16, 6)(enn.OnOff()(batch))


def test_a_rule_in_debug_mode_refuses_negative_rates_too() -> None:
    model = nn.Sequential(enn.INormLinear(8, 6), nn.ReLU(), nn.Linear(6, 3))
    rule = rules.make("bp", model, example=torch.rand(4, 8))
    with eq.debug(), pytest.raises(InputError, match="least of this batch"):
        rule.backward(torch.randn(4, 8), torch.arange(4) % 3)


def test_a_layer_without_dales_law_takes_any_sign() -> None:
    layer = enn.INormLinear(8, 6, dale=False)
    assert layer.constraints == {}
    with eq.debug():
        layer(torch.randn(5, 8))


def test_constraints_broken_by_hand_are_reported_and_restored() -> None:
    model = nn.Sequential(enn.INormLinear(8, 6), nn.ReLU(), enn.DaleLinear(6, 3))
    with torch.no_grad():
        model[0].weight_ie[0, :3] = -1
    with pytest.raises(InputError, match="3 of 8 entries of weight_ie are outside"):
        model[0].check_(torch.rand(2, 8))
    with eq.debug(), pytest.raises(InputError, match="project_"):
        model(torch.rand(2, 8))
    enn.project_(model)
    with eq.debug():
        model(torch.rand(2, 8))
    assert model[0].weight_ie[0, :3].eq(0).all()


BATCHES = {
    "of_one": torch.rand(1, 8),
    "constant": torch.full((4, 8), 0.5),
    "black": torch.zeros(4, 8),
    "white": torch.ones(4, 8),
    "empty": torch.rand(0, 8),
    "without_axis": torch.rand(8),
    "sequence": torch.rand(3, 5, 8),
}


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("divisive", ["rms", "dale", None])
def test_odd_batches_stay_finite_both_ways(batch: str, divisive: str | None) -> None:
    """A batch of one is normalised over units, not over the batch; black images give exactly 0."""
    x: Tensor = BATCHES[batch]
    layer = enn.INormLinear(8, 6, divisive=divisive, gradnorm="full")  # type: ignore[arg-type]
    y = layer(x)
    assert y.shape == (*x.shape[:-1], 6)
    loss = y.square().sum() + (layer.local_loss(x) if x.numel() else 0)
    loss.backward()
    assert all(bool(p.grad.isfinite().all()) for p in layer.parameters() if p.grad is not None)
    if batch == "black":
        assert not y.detach().any()
    if batch == "of_one":
        assert torch.allclose(y[0], layer(torch.cat([x, x * 3]))[0], atol=1e-5)


def test_layers_behind_others_survive_constant_activity() -> None:
    for layer in (
        enn.Normalise(),
        enn.DetachNorm(),
        enn.LateralNorm(6),
        enn.GradNorm("full"),
        enn.LateralInhibition(6),
    ):
        z = torch.full((3, 6), 2.0, requires_grad=True)
        y = layer(z)
        torch.autograd.grad(y, z, torch.randn(3, 6))[0].isfinite().all()
        assert y.isfinite().all()


def test_the_literal_equation_says_what_it_is_by_nan() -> None:
    torch.manual_seed(0)
    layer = enn.INormLinear(50, 30, divisive="literal")
    assert layer(torch.rand(64, 50)).isnan().any()
