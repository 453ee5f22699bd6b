"""Target propagation against what it must equal: autograd where weights are orthogonal, the exact inverse elsewhere.

A failure here means that GAIT learns from something other than targets carried back through inverses, or that its
quick inverses are not the inverses that they stand for.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from equipoise import measure, rules
from equipoise.randomness import generator
from nets import autograd, grads
from squares import batch, dense, kernels, written

PERTURBED = {"mode": "perturbation"}


def degrees(model: nn.Sequential, name: str = "gait", **options: Any) -> list[float]:
    x, y = batch(model)
    return list(measure.alignment(rules.make(name, model, example=x, **options), x, y).values())


@pytest.mark.parametrize("depth", [3, 6, 12, 50])
@pytest.mark.parametrize("inverse", ["solve", "refine", "track", "transpose"])
def test_orthogonal_matrices_make_it_backpropagation(depth: int, inverse: str) -> None:
    assert max(degrees(dense(depth), inverse=inverse)) < 1e-10
    assert max(degrees(dense(depth, dtype=torch.float32), inverse=inverse)) < 1e-3 * max(1, depth / 12)


@pytest.mark.parametrize("depth", [3, 6, 12])
@pytest.mark.parametrize("inverse", ["solve", "refine", "track"])
def test_orthogonal_kernels_make_it_backpropagation(depth: int, inverse: str) -> None:
    """Overlapping patches, stride, uneven padding, auxiliary channels and units, biases: all of it is autograd's."""
    assert max(degrees(kernels(depth), inverse=inverse)) < 1e-10
    assert max(degrees(kernels(depth, dtype=torch.float32), inverse=inverse)) < 1e-3


@pytest.mark.parametrize("net", [dense(4), kernels(2)])
def test_gradients_have_autograds_size_too_and_auxiliary_units_have_none(net: nn.Sequential) -> None:
    x, y = batch(net)
    wanted = autograd(net, x, y)
    for options in ({}, {"inverse": "solve"}, PERTURBED):
        net.zero_grad()
        rules.make("gait", net, example=x, **options).backward(x, y)
        tolerance = 1e-11 if "mode" not in options else 1e-5
        for name, value in grads(net).items():
            torch.testing.assert_close(value, wanted[name], rtol=tolerance, atol=tolerance * float(value.abs().max()))
        assert not net[-1].weight.grad[10:].any()
        assert not net[-1].bias.grad[10:].any()


@pytest.mark.parametrize(
    "net", [dense(6, apart=0.05), kernels(3, apart=0.05), kernels(2, apart=0.05, overlap="divide")]
)
def test_both_modes_agree_off_orthogonality(net: nn.Sequential) -> None:
    """To three digits, where the angle to backpropagation is some degrees; and directly."""
    carried, perturbed = degrees(net, inverse="solve"), degrees(net, **PERTURBED)
    assert max(carried) > 2
    assert perturbed == pytest.approx(carried, rel=1e-3, abs=1e-3)


def test_the_recursion_is_that_of_the_inverse_written_out() -> None:
    """d_(l-1) = W^-1 (f' d_l), by a matrix inverse of its own; auxiliary units at zero."""
    model = dense(3, 16, apart=0.1)
    x, y = batch(model)
    h, kept = x, []
    for layer in model:
        kept.append(h)
        h = layer(h)
    d = (h.softmax(-1) - F.one_hot(y, 10)) / len(y)
    found = written(model, inverse="solve")
    for k in (6, 4, 2, 0):
        below = kept[k]
        wanted = F.pad(d, (0, len(model[k].weight) - d.shape[1])).T @ below
        torch.testing.assert_close(found[f"{k}.weight"], wanted, rtol=1e-6, atol=1e-9)
        if k:
            d = F.pad(d, (0, 16 - d.shape[1])) @ torch.linalg.inv(model[k].weight.detach()).T
            d = d * torch.where(below > 0, 1.0, 0.1)


@pytest.mark.parametrize("net", [dense(6, apart=0.05), kernels(3, apart=0.05)])
@pytest.mark.parametrize("inverse", ["refine", "track"])
@pytest.mark.parametrize("tolerance", [1e-2, 1e-4])
def test_quick_inverses_agree_within_their_stated_residual(net: nn.Sequential, inverse: str, tolerance: float) -> None:
    """Each of L layers turns an error by at most some residuals, 3 for the worst direction: L 3 tolerance in all."""
    exact, quick = written(net, inverse="solve"), written(net, inverse=inverse, tolerance=tolerance)
    layers = len(list(net.parameters())) / 2
    worst = max(measure.angle(quick[n], exact[n]) for n in exact)
    assert worst < math.degrees(3 * layers * tolerance)
    rough = written(net, inverse="transpose")
    assert max(measure.angle(rough[n], exact[n]) for n in exact) > 3 * worst


def test_a_hooked_model_hears_its_layers_and_gets_the_same_gradients() -> None:
    for net in (dense(3, apart=0.1), kernels(2, apart=0.1)):
        x, y = batch(net)
        for name, options in (("gait", {}), ("gait", PERTURBED), ("tp", {}), ("dtp", {})):
            rule, heard = rules.make(name, net, example=x, **options), []
            net.zero_grad()
            rule.backward(x, y, generator=generator(1))
            plain = grads(net)
            net.zero_grad()
            handle = net[2].register_forward_hook(lambda *args, heard=heard: heard.append(args[2].shape))
            rule.backward(x, y, generator=generator(1))
            handle.remove()
            assert len(heard) == 1
            for n, value in grads(net).items():
                torch.testing.assert_close(value, plain[n], rtol=1e-9, atol=1e-12)


# The precision table: which layers a perturbation reaches. 4 gamma^k is a bound on how small targets get.


def test_vanilla_targets_are_lost_at_six_layers_and_normalised_ones_are_not() -> None:
    """Targets shrink to 1e-3^k of an error of order 1; from k = 5 on that is below float64's 1e-16 of an activity."""
    model = dense(6)
    vanilla = degrees(model, **PERTURBED, normalised=False, gamma=1e-3)
    assert min(vanilla[:2]) > 45
    assert vanilla[2] > 1
    assert max(vanilla[4:]) < 1e-2
    assert max(degrees(dense(3), **PERTURBED, normalised=False, gamma=1e-3)) < 3
    assert max(degrees(model, **PERTURBED)) < 1e-3
    assert max(degrees(dense(6, dtype=torch.float32), **PERTURBED, eta=1e-5)) > 1


def test_large_targets_cross_kinks_unless_they_are_guarded() -> None:
    model = dense(6)
    assert max(degrees(model, **PERTURBED, eta=1e-2)) > 20
    assert max(degrees(model, **PERTURBED, eta=1e-2, kink_guard=True)) < 1e-6


def test_without_the_multiplier_samples_are_weighted_anew() -> None:
    assert max(degrees(dense(6), **PERTURBED)) < 1e-3 < 0.5 < max(degrees(dense(6), **PERTURBED, multiplier=False))


def test_the_literal_normaliser_does_not_fix_the_distance() -> None:
    """eta sqrt(n) / |t - a|^2: the smaller a distance, the longer the step, until it crosses kinks."""
    assert max(degrees(dense(6), **PERTURBED, normaliser="literal")) > 20


@pytest.mark.parametrize("options", [{}, {"normalised": False}, {"normaliser": "literal"}])
def test_a_sample_without_error_moves_nothing(options: dict[str, Any]) -> None:
    """Exactly at its target (mse), where the normaliser would divide by zero."""
    model = dense(3)
    x, y = batch(model)
    kept = model(x).detach()
    exact = F.one_hot(y, 10).double()
    with torch.no_grad():
        x0 = torch.zeros_like(x)
        model[-1].bias.zero_()
        for layer in model[:-1:2]:
            layer.bias.zero_()
        model[-1].bias[:10] = exact[0]
    rule = rules.make("gait", model, example=x, loss="mse", **PERTURBED, **options)
    rule.backward(x0[:4], torch.zeros(4, dtype=torch.long))
    assert all(p.grad is None or (p.grad.isfinite().all() and not p.grad.any()) for p in model.parameters())
    assert kept.shape == (24, 10)


def test_target_propagation_carries_the_whole_target() -> None:
    """t_(l-1) = W^-1 (f^-1(t_l) - b), written out; with mse and step 1 the output's target is the label itself."""
    model = dense(2, 16, apart=0.1)
    x, y = batch(model)
    one, _, two, _, out = model
    with torch.no_grad():
        for layer in (one, two, out):
            layer.bias.copy_(torch.linspace(-0.3, 0.5, len(layer.bias)))
    a1 = F.leaky_relu(one(x), 0.1)
    z2 = two.units(a1)
    a2 = F.leaky_relu(z2, 0.1)
    t3 = torch.cat([F.one_hot(y, 10).double(), out.units(a2)[:, 10:]], 1)
    t2 = (t3 - out.bias) @ torch.linalg.inv(out.weight).T
    back = torch.where(t2 > 0, t2, t2 / 0.1)
    t1 = (back - two.bias) @ torch.linalg.inv(two.weight).T
    rules.make("tp", model, example=x, loss="mse").backward(x, y)
    slopes = lambda a: torch.where(a > 0, 1.0, 0.1)  # noqa: E731
    for layer, wanted in (
        (one, (slopes(a1) * (a1 - t1)).T @ x / len(x)),
        (two, (slopes(a2) * (a2 - t2)).T @ a1 / len(x)),
        (out, (out.units(a2) - t3).T @ a2 / len(x)),
    ):
        torch.testing.assert_close(layer.weight.grad, wanted.detach(), rtol=1e-5, atol=1e-8)
