"""The parts beside I-Norm: normalisation in halves, lateral normalisation, ON and OFF cells, against closed forms.

A failure here means that a control of an experiment is not the control that it is called.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from equipoise import nn as enn

TIGHT = {"rtol": 1e-10, "atol": 1e-12}
EPS = 1e-5


def signed(*shape: int, seed: int = 0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=g, dtype=torch.float64)


CASES = [(c, s) for c in (True, False) for s in (True, False) if c or s]


@pytest.mark.parametrize(("centre", "scale"), CASES)
@pytest.mark.parametrize("shape", [(5, 8), (2, 8, 3, 3)])
def test_normalise_switches_each_direction_by_itself(centre: bool, scale: bool, shape: tuple[int, ...]) -> None:
    dim = -1 if len(shape) == 2 else -3
    z, g = signed(*shape).mul(2).add(1), signed(*shape, seed=1)

    def plain(x: Tensor) -> Tensor:
        m, v = x.mean(dim, keepdim=True), x.var(dim, correction=0, keepdim=True)
        x = x - m if centre else x
        return x / (v + EPS).sqrt() if scale else x

    x = z.clone().requires_grad_()
    value, jacobian = plain(z), torch.autograd.grad(plain(x), x, g)[0]
    for forward, backward in ((True, True), (True, False), (False, True), (False, False)):
        x = z.clone().requires_grad_()
        layer = enn.Normalise(centre=centre, scale=scale, forward=forward, backward=backward, dim=dim)
        y = layer(x)
        torch.testing.assert_close(y, value if forward else z, **TIGHT)
        torch.testing.assert_close(torch.autograd.grad(y, x, g)[0], jacobian if backward else g, **TIGHT)


def test_lateral_norm_with_equal_weights_is_layer_norm() -> None:
    layer, stock = enn.LateralNorm(8, law="equal").double(), nn.LayerNorm(8).double()
    with torch.no_grad():
        for p, q in zip(layer.parameters(), stock.parameters(), strict=True):
            p.copy_(signed(8, seed=3))
            q.copy_(p)
    layer.nu.fill_(1 / 8)
    z, g = signed(5, 8).mul(2), signed(5, 8, seed=1)
    x, y = z.clone().requires_grad_(), z.clone().requires_grad_()
    torch.testing.assert_close(layer(x), stock(y), **TIGHT)
    ours, theirs = torch.autograd.grad(layer(x), x, g)[0], torch.autograd.grad(stock(y), y, g)[0]
    torch.testing.assert_close(ours, theirs, **TIGHT)


def test_lateral_norm_takes_the_moments_of_its_pool() -> None:
    layer = enn.LateralNorm(8, affine=False, seed=2).double()
    z, nu = signed(5, 8).mul(2), layer.nu
    m = z @ nu
    v = ((z - m[:, None]) ** 2) @ nu
    torch.testing.assert_close(layer(z), (z - m[:, None]) / (v[:, None] + 1e-5).sqrt(), **TIGHT)


def test_on_and_off_cells_hold_the_signed_input() -> None:
    for shape in ((4, 5), (4, 3, 2, 2)):
        x = signed(*shape)
        y = enn.OnOff(0.3)(x)
        assert float(y.min()) == 0
        on, off = y.chunk(2, 1)
        torch.testing.assert_close(on - off, x - 0.3, **TIGHT)
        assert float((on * off).abs().max()) == 0
