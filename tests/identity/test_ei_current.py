"""The integration of excitation and inhibition: one node against single operations, and against numbers by hand.

A failure here means that a cell's current, or the error that passes it, is not that of the stated equation.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from equipoise import functional as f

CLOSE = {"rtol": 1e-11, "atol": 1e-13}


def currents(shape: tuple[int, ...], units: int, seed: int = 0) -> list[Tensor]:
    """e, s, d, gain, bias; a third of d is 0, and the first row is silent."""
    g = torch.Generator().manual_seed(seed)
    e, s, d = torch.rand(3, *shape, generator=g, dtype=torch.float64)
    d = torch.where(d < 1 / 3, 0, d)
    for tensor in (e, s, d):
        tensor[0] = 0
    gain, bias = torch.rand(2, units, generator=g, dtype=torch.float64) + 0.2
    return [e, s, d, gain, bias]


def outcome(form: object, values: list[Tensor | None], **options: object) -> list[Tensor]:
    leaves = [None if v is None else v.clone().requires_grad_() for v in values]
    z = form(*leaves, **options)  # type: ignore[operator]
    weights = torch.linspace(-1, 2, z.numel(), dtype=z.dtype).reshape(z.shape)
    return [z, *torch.autograd.grad((z * weights).sum(), [v for v in leaves if v is not None])]


@pytest.mark.parametrize("subtracts", [True, False])
@pytest.mark.parametrize(("shape", "dim"), [((6, 5), -1), ((3, 2, 5), -1), ((4, 5, 3, 2), -3)])
def test_one_node_equals_single_operations(shape: tuple[int, ...], dim: int, subtracts: bool) -> None:
    values: list[Tensor | None] = [*currents(shape, 5)]
    values[1] = values[1] if subtracts else None
    one = outcome(f.ei_current, values, unit_dim=dim)
    plain = outcome(f.ei_current_plain, values, unit_dim=dim)
    for found, wanted in zip(one, plain, strict=True):
        assert bool(found.isfinite().all())
        torch.testing.assert_close(found, wanted, **CLOSE)


def test_without_zeros_it_is_the_plain_quotient_and_its_derivative() -> None:
    e, s, d, gain, bias = currents((6, 5), 5)
    d = d + 0.1
    found = outcome(f.ei_current, [e, s, d, gain, bias])
    wanted = outcome(lambda e, s, d, gain, bias: gain * (e - s) / d + bias, [e, s, d, gain, bias])
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, **CLOSE)


def test_zeros_take_the_smallest_positive_value_of_their_own_row() -> None:
    d = torch.tensor([[0.0, 3.0, 2.0], [5.0, 0.0, -1e-9], [7.0, 8.0, 9.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    wanted = [[2.0, 3.0, 2.0], [5.0, 5.0, 5.0], [7.0, 8.0, 9.0], [math.inf] * 3]
    assert f.stabilise(d).tolist() == wanted
    image = d.reshape(2, 3, 2, 1)  # a row is a sample: its channels and positions together
    assert f.stabilise(image, unit_dim=-3).flatten().tolist() == [2, 3, 2, 5, 2, 2, 7, 8, 9, 7, 7, 7]


def test_the_error_passes_straight_through_and_the_smallest_value_gets_no_more_than_its_own() -> None:
    """At a place with d = 0: dL/dd = -gain (e - s) / least^2, and the place where least stands keeps its own share."""
    e = torch.tensor([[4.0, 6.0, 1.0]], dtype=torch.float64)
    s, d = torch.ones_like(e), torch.tensor([[0.0, 2.0, 5.0]], dtype=torch.float64)
    gain, bias = torch.tensor([3.0, 1.0, 1.0]).double(), torch.zeros(3, dtype=torch.float64)
    leaf = d.clone().requires_grad_()
    for form in (f.ei_current, f.ei_current_plain):
        (found,) = torch.autograd.grad(form(e, s, leaf, gain, bias).sum(), leaf)
        torch.testing.assert_close(found, torch.tensor([[-3 * 3 / 4, -5 / 4, 0.0]]).double(), **CLOSE)
    exact = f.ei_current_plain(e, s, leaf, gain, bias, through=False)
    (found,) = torch.autograd.grad(exact.sum(), leaf)
    torch.testing.assert_close(found, torch.tensor([[0.0, -5 / 4 - 9 / 4, 0.0]]).double(), **CLOSE)
    with f.exact_backward():
        (edited,) = torch.autograd.grad(f.ei_current(e, s, leaf, gain, bias).sum(), leaf)
    torch.testing.assert_close(edited, found, **CLOSE)


def test_a_silent_row_gives_the_bias_and_no_error_but_the_bias_own() -> None:
    e, s, d, gain, bias = currents((2, 5), 5)
    e[0], s[0] = 1.5, 0.5  # even if excitation were there
    z, de, ds, dd, dgain, dbias = outcome(f.ei_current, [e, s, d, gain, bias])
    assert torch.equal(z[0], bias)
    for gradient in (de, ds, dd):
        assert torch.equal(gradient[0], torch.zeros_like(gradient[0]))
        assert bool(gradient[1].abs().sum() > 0)
    weights = torch.linspace(-1, 2, 10, dtype=torch.float64).reshape(2, 5)
    torch.testing.assert_close(dbias, weights.sum(0), **CLOSE)
    alone = outcome(f.ei_current, [e[1:], s[1:], d[1:], gain, bias])
    assert bool(dgain.isfinite().all())
    assert alone[0].shape == (1, 5)


def test_a_scaled_gradient() -> None:
    w = torch.rand(3, 4, dtype=torch.float64).requires_grad_()
    (found,) = torch.autograd.grad((f.scale_gradient(w, 1 / 8) ** 2).sum(), w)
    torch.testing.assert_close(found, (w / 4).detach(), **CLOSE)
    assert torch.equal(f.scale_gradient(w, 0.5), w)
    with f.exact_backward():
        (found,) = torch.autograd.grad((f.scale_gradient(w, 1 / 8) ** 2).sum(), w)
    torch.testing.assert_close(found, (2 * w).detach(), **CLOSE)


def test_the_division_is_in_float32() -> None:
    e, s, d, gain, bias = (v.bfloat16() for v in currents((6, 5), 5))
    z = f.ei_current(e, s, d, gain, bias)
    wanted = f.ei_current(*(v.float() for v in (e, s, d, gain, bias)))
    assert z.dtype == torch.bfloat16
    assert torch.equal(z, wanted.bfloat16())
