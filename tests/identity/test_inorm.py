"""I-Norm layers against layer normalisation, and GradNorm against its Jacobian.

A failure here means that inhibition would be compared with something that it does not do: a layer that starts out as
another normaliser, or an error that no layer normalisation would send back.
"""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from equipoise import functional as f
from equipoise import nn as enn
from equipoise.functional.gradnorm import read_modes
from equipoise.nn.lateral import pooling_weights

TIGHT = {"rtol": 1e-10, "atol": 1e-12}
EPS = 1e-5


def rates(*shape: int, seed: int = 0) -> Tensor:
    """Non-negative activity in float64, some of it zero."""
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=g, dtype=torch.float64).relu()


def signed(*shape: int, seed: int = 0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=g, dtype=torch.float64)


def dense(inputs: int, units: int, seed: int = 0, **options: object) -> enn.INormLinear:
    """A layer in float64, inhibition ideal to that precision."""
    torch.manual_seed(seed)
    layer = enn.INormLinear(inputs, units, **options).double()  # type: ignore[arg-type]
    layer.idealise_()
    return layer


@pytest.mark.parametrize("inputs", [3, 20, 50])
@pytest.mark.parametrize("law", ["log_normal", "exponential"])
@pytest.mark.parametrize("pool", [1, 7, 20])
def test_at_initialisation_the_layer_is_layer_normalisation_of_its_drive(inputs: int, law: str, pool: int) -> None:
    """Also with fewer inputs than units, where an SVD of the weights would not do; eps is layer_norm's own."""
    layer = dense(inputs, 20, law=law, pool=pool)
    h = rates(6, inputs)
    wanted = F.layer_norm(F.linear(h, layer.weight_ee), (20,))
    torch.testing.assert_close(layer(h), wanted, **TIGHT)


@pytest.mark.parametrize("seed", range(3))
def test_in_single_precision_it_is_as_near_to_the_truth_as_layer_norm_is(seed: int) -> None:
    """All weights are positive, so the drive's mean is about 20 of its deviations, and whatever takes a mean away in
    float32 loses as much: torch's own layer normalisation of the float32 drive misses float64's by 1e-5.

    Of e and of s, sums of n products of one sign, each is off by less than sqrt(n) 2^-24 of its value.
    """
    torch.manual_seed(seed)
    layer, n = enn.INormLinear(784, 300), 784
    h, w = rates(64, n, seed=seed).float(), layer.weight_ee.detach()
    e = F.linear(h.double(), w.double())
    truth = F.layer_norm(e, (300,))
    ours, torchs = layer(h).detach() - truth, F.layer_norm(F.linear(h, w), (300,)) - truth
    assert float(torchs.abs().max()) > 2e-6
    assert float(ours.square().mean()) < 4 * float(torchs.square().mean())
    bound = 2 * n**0.5 * 2.0**-24 * e.mean(1) / e.std(1, correction=0)
    assert bool((ours.abs().amax(1) < bound).all())
    assert float(bound.max()) < 1e-4


@pytest.mark.parametrize("place", [{}, {"stride": 2, "padding": 1}, {"padding": "same"}])
def test_a_fresh_convolution_is_layer_normalisation_over_channels_at_each_position(place: dict) -> None:
    torch.manual_seed(0)
    layer = enn.INormConv2d(3, 9, 3, **place).double()
    layer.idealise_()
    h = rates(2, 3, 7, 6)
    e = F.conv2d(h, layer.weight_ee, None, **place)
    wanted = F.layer_norm(e.movedim(1, -1), (9,)).movedim(-1, 1)
    torch.testing.assert_close(layer(h), wanted, **TIGHT)


def test_the_fixed_weights_onto_excitatory_cells_need_only_sum_to_one() -> None:
    layer = dense(12, 20, pool=4)
    assert float(layer.weight_ei.detach().std()) > 0.05
    torch.testing.assert_close(layer.weight_ei.detach().sum(1), torch.ones(20, dtype=torch.float64))


@pytest.mark.parametrize(("law", "ratio"), [("log_normal", 1.0), ("exponential", 1.0)])
def test_weights_have_a_mean_equal_to_their_standard_deviation(law: str, ratio: float) -> None:
    """sigma_w^2 = 2 n_e / (n (n_e - 1)), and the sum of squared centred weights onto a unit is 2: He's variance."""
    torch.manual_seed(0)
    layer = enn.INormLinear(400, 500, law=law)
    w, sigma = layer.weight_ee.detach(), math.sqrt(2 * 500 / (400 * 499))
    assert float(w.mean()) == pytest.approx(ratio * sigma, rel=0.02)
    assert float(w.std()) == pytest.approx(sigma, rel=0.05)
    assert float((w - w.mean(0)).square().mean()) * 400 == pytest.approx(2, rel=0.1)


def jacobian_of_layer_norm(e: Tensor, g: Tensor) -> Tensor:
    x = e.detach().requires_grad_()
    return torch.autograd.grad(F.layer_norm(x, (e.shape[-1],), eps=EPS), x, g)[0]


@pytest.mark.parametrize("modes", ["full", "center+decorrelate+scale"])
def test_full_gradnorm_is_the_exact_jacobian_of_layer_norm(modes: str) -> None:
    z, g = signed(5, 13).mul(3).add(2), signed(5, 13, seed=1)
    x = z.clone().requires_grad_()
    back = torch.autograd.grad(enn.GradNorm(modes, eps=EPS)(x), x, g)[0]
    torch.testing.assert_close(back, jacobian_of_layer_norm(z, g), **TIGHT)


def test_full_gradnorm_then_division_is_the_jacobian_of_layer_norm_of_the_drive() -> None:
    """z = (e - s) / d is LN(e); GradNorm on z gives the Jacobian of LN at z, where sigma is 1, and d gives the rest."""
    layer = dense(15, 11, gradnorm="full", eps=1e-12, bias=None)
    h, g = rates(4, 15), signed(4, 11, seed=1)
    x = h.clone().requires_grad_()
    back, weight = torch.autograd.grad(layer(x), (x, layer.weight_ee), g)
    y = h.clone().requires_grad_()
    wanted = F.layer_norm(F.linear(y, layer.weight_ee), (11,), eps=1e-12)
    for found, exact in zip((back, weight), torch.autograd.grad(wanted, (y, layer.weight_ee), g), strict=True):
        torch.testing.assert_close(found, exact, rtol=1e-8, atol=1e-9)


def moments(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(centred z, 1 / sqrt(v + eps), zhat), written out."""
    n = z.shape[-1]
    around = z - z.sum(-1, keepdim=True) / n
    inverse = 1 / (around.pow(2).sum(-1, keepdim=True) / n + EPS).sqrt()
    return around, inverse, around * inverse


@pytest.mark.parametrize("dim", [-1, -3])
def test_each_mode_of_gradnorm_is_its_closed_form_and_leaves_the_activity_alone(dim: int) -> None:
    z, g = signed(3, 6, 4, 4).mul(2).add(1), signed(3, 6, 4, 4, seed=1)
    nu = torch.arange(1.0, 1 + z.shape[dim], dtype=torch.float64)
    nu /= nu.sum()
    zl, gl = (t.movedim(dim, -1) for t in (z, g))
    around, inverse, hat = moments(zl)
    n = zl.shape[-1]
    wanted = {
        "center": gl - gl.mean(-1, keepdim=True),
        "scale": gl * inverse,
        "decorrelate": gl - hat * (gl * hat).sum(-1, keepdim=True) / n,
        "decorrelate_raw": gl - around * (gl * around).sum(-1, keepdim=True) / n,
        "lateral": gl - (gl * nu).sum(-1, keepdim=True),
    }
    for mode, exact in wanted.items():
        x = z.clone().requires_grad_()
        y = f.gradnorm(x, frozenset({mode}), nu=nu, eps=EPS, dim=dim)
        assert torch.equal(y, z)
        back = torch.autograd.grad(y, x, g)[0]
        torch.testing.assert_close(back, exact.movedim(-1, dim), **TIGHT, msg=lambda m, mode=mode: f"{mode}: {m}")


def test_subsets_of_gradnorm_compose_in_the_stated_order() -> None:
    """lateral, then decorrelate, then scale: the projections of pooling and of decorrelation do not commute."""
    z, g = signed(3, 6).mul(2), signed(3, 6, seed=1)
    nu = torch.tensor([0.5, 0.1, 0.1, 0.1, 0.1, 0.1], dtype=torch.float64)
    _, inverse, hat = moments(z)
    pooled = g - (g * nu).sum(-1, keepdim=True)
    wanted = (pooled - hat * (pooled * hat).mean(-1, keepdim=True)) * inverse
    found = f.edit_error(g, z, read_modes(["scale", "decorrelate", "lateral"]), nu=nu)
    torch.testing.assert_close(found, wanted, **TIGHT)
    other = (g - hat * (g * hat).mean(-1, keepdim=True)) * inverse
    assert not torch.allclose(found, other - (other * nu).sum(-1, keepdim=True))


@pytest.mark.parametrize(("law", "cv"), [("uniform", 3**-0.5), ("exponential", 1.0), ("equal", 0.0)])
@pytest.mark.parametrize("pools", [1, 4])
def test_the_error_of_lateral_pooling_falls_as_cv_over_the_root_of_n(law: str, cv: float, pools: int) -> None:
    """std(sum nu_i delta_i - mean delta) / std(delta) = CV(omega) / sqrt(n pools), for errors independent of nu."""
    for n in (100, 400):
        errors = signed(4000, n)
        errors = (errors - errors.mean(1, keepdim=True)) / errors.std(1, correction=0, keepdim=True)
        nus = torch.stack([pooling_weights(n, pools=pools, law=law, seed=k) for k in range(40)]).double()
        measured = float((errors @ nus.T).square().mean().sqrt())
        torch.testing.assert_close(nus.sum(1), torch.ones(40, dtype=torch.float64), rtol=1e-6, atol=1e-6)
        assert measured == pytest.approx(cv / math.sqrt(n * pools), rel=0.06, abs=1e-8)


def test_the_ideal_inhibition_gives_no_local_loss_and_is_a_stationary_point() -> None:
    layer = dense(9, 14, local_weight=1.0, eps=1e-14, train_ei=True)
    h = rates(6, 9).add(0.1)
    loss = layer.local_loss(h)
    assert float(loss.detach()) < 1e-20
    trained = [layer.weight_ie, layer.divisive_ie, layer.weight_ei, layer.divisive_ei]
    for gradient in torch.autograd.grad(loss, trained):
        assert float(gradient.abs().max()) < 1e-9
    with torch.no_grad():
        layer.weight_ie.mul_(1.05)
    assert float(layer.local_loss(h).detach()) > 1e-4


def test_the_local_loss_is_its_closed_form() -> None:
    e, s, d = signed(5, 8).mul(2), signed(5, 8, seed=1), signed(5, 1, seed=2).abs() + 0.5
    z = (e - s) / d
    m, v = z.mean(1), z.var(1, correction=0)
    assert float(f.local_loss(e, s, d)) == pytest.approx(float((m**2 + (v - 1) ** 2).mean()), rel=1e-12)
    e.requires_grad_(), s.requires_grad_()
    reached = torch.autograd.grad(f.local_loss(e, s, d), (e, s), allow_unused=True)
    assert reached[0] is None
    assert reached[1] is not None
    e, s = e.detach(), s.detach()
    r = z.relu()
    wanted = (r.mean(1) ** 2 + (r.pow(2).mean(1) - 1) ** 2).mean()
    assert float(f.local_loss(e, s, d, form="post")) == pytest.approx(float(wanted), rel=1e-12)


def test_ideal_inhibition_that_passes_no_error_is_detachnorm() -> None:
    layer = dense(9, 14, bias=None)
    h, g = rates(6, 9), signed(6, 14, seed=1)
    x = h.clone().requires_grad_()
    y = h.clone().requires_grad_()
    plain = enn.DetachNorm()(F.linear(y, layer.weight_ee))
    torch.testing.assert_close(layer(x), plain, **TIGHT)
    found = torch.autograd.grad(layer(x), (x, layer.weight_ee), g)
    for a, b in zip(found, torch.autograd.grad(plain, (y, layer.weight_ee), g), strict=True):
        torch.testing.assert_close(a, b, **TIGHT)


def test_back_through_frozen_subtractive_inhibition_the_error_is_centred() -> None:
    """(W_EE - 1 m^T)^T delta = W_EE^T (delta - mean delta), so dL/dh is that of centring; W_IE itself gets nothing."""
    layer = dense(9, 14, bias=None, detach="divisive")
    centring = dense(9, 14, bias=None, gradnorm="center")
    h, g = rates(6, 9), signed(6, 14, seed=1)
    x, y = h.clone().requires_grad_(), h.clone().requires_grad_()
    d = f.divisive(h, layer.divisive_ie, None, layer.eps)
    delta = g / d
    back = torch.autograd.grad(layer(x), x, g)[0]
    torch.testing.assert_close(back, (delta - delta.mean(1, keepdim=True)) @ layer.weight_ee, **TIGHT)
    torch.testing.assert_close(back, torch.autograd.grad(centring(y), y, g)[0], **TIGHT)
    held = torch.autograd.grad(layer(h).sum(), (layer.weight_ie, layer.divisive_ie), allow_unused=True)
    assert held == (None, None)


def test_back_through_both_frozen_pathways_the_error_is_layer_norms() -> None:
    layer = dense(9, 14, bias=None, detach=())
    h, g = rates(6, 9), signed(6, 14, seed=1)
    x, y = h.clone().requires_grad_(), h.clone().requires_grad_()
    wanted = torch.autograd.grad(F.layer_norm(F.linear(y, layer.weight_ee.detach()), (14,)), y, g)[0]
    torch.testing.assert_close(torch.autograd.grad(layer(x), x, g)[0], wanted, **TIGHT)


def test_straight_through_division_leaves_the_scale_to_gradnorm() -> None:
    """dL/de is g without 1/d; with GradNorm's scale it is g / sigma(z), whatever d."""
    for modes, factor in (("off", 1.0), ("scale", None)):
        layer = dense(9, 14, bias=None, division="straight", gradnorm=modes)
        with torch.no_grad():
            layer.divisive_ie.mul_(3)
        h, g = rates(6, 9), signed(6, 14, seed=1)
        z = layer(h)
        exact = dense(9, 14, bias=None)
        exact.load_state_dict(layer.state_dict())
        torch.testing.assert_close(z, exact(h), rtol=0, atol=0)
        scale = factor or 1 / (z.detach().var(1, correction=0, keepdim=True) + EPS).sqrt()
        found = torch.autograd.grad(z, layer.weight_ee, g)[0]
        torch.testing.assert_close(found, (g * scale).T @ h, **TIGHT)
