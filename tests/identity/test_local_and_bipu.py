"""Locally connected layers against convolutions and sums by hand; bipower units and the probe against their law.

A failure is a layer that mixes its positions up, or an activation that balance would scale by the wrong power.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from equipoise.balance import is_homogeneous
from equipoise.errors import InputError
from equipoise.functional import bipu
from equipoise.nn import BiPU, LocallyConnected2d


@pytest.fixture(autouse=True)
def _double() -> None:
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)


@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (2, 1), ((1, 2), (0, 1))])
def test_one_kernel_at_every_position_is_a_convolution(stride, padding) -> None:
    conv = nn.Conv2d(3, 4, (2, 3), stride=stride, padding=padding)
    local = LocallyConnected2d(3, 4, (2, 3), (6, 7), stride=stride, padding=padding)
    with torch.no_grad():
        local.weight.copy_(conv.weight.reshape(1, 4, 18).expand_as(local.weight))
        local.bias.copy_(conv.bias.expand_as(local.bias))
    x = torch.randn(5, 3, 6, 7)
    torch.testing.assert_close(local(x), conv(x), rtol=1e-12, atol=1e-12)
    assert tuple(local(x).shape[2:]) == local.output_size


def test_each_position_has_its_own_kernel_and_bias() -> None:
    local, x = LocallyConnected2d(2, 3, 2, (3, 4)), torch.randn(1, 2, 3, 4)
    y = local(x)
    for row in range(2):
        for column in range(3):
            patch = x[0, :, row : row + 2, column : column + 2].reshape(-1)
            p = row * 3 + column
            torch.testing.assert_close(y[0, :, row, column], local.weight[p] @ patch + local.bias[p])


def test_sizes_that_do_not_fit() -> None:
    with pytest.raises(InputError, match=r"kernel \(5, 5\) does not fit into an input of \(4, 4\)"):
        LocallyConnected2d(1, 1, 5, 4)
    with pytest.raises(InputError, match=r"inputs \(1, 4, 4\), not \(1, 5, 5\)"):
        LocallyConnected2d(1, 1, 2, 4)(torch.zeros(1, 1, 5, 5))
    with pytest.raises(InputError, match="channels are at least 1"):
        LocallyConnected2d(0, 1, 2, 4)
    with pytest.raises(InputError, match="stride is one or two integers of at least 1, not 0"):
        LocallyConnected2d(1, 1, 2, 4, stride=0)


def test_the_papers_three_local_layers_have_its_sizes() -> None:
    layers = [(3, 8, 8, 32, 1), (8, 8, 8, 25, 1), (8, 16, 2, 18, 2)]  # 3072-5000-2592-1296
    sizes = []
    for channels, out, kernel, size, stride in layers:
        local = LocallyConnected2d(channels, out, kernel, size, stride=stride)
        sizes.append(out * local.output_size[0] * local.output_size[1])
    assert sizes == [5000, 2592, 1296]


@pytest.mark.parametrize(("c", "C", "D"), [(1, 1, 0), (2, 3, 0), (0.5, 1, -2), (1.7, -1, 2)])
def test_a_bipower_unit_has_its_degree(c: float, C: float, D: float) -> None:
    x = torch.tensor([-2.0, -0.5, 0.0, 0.25, 3.0])
    expected = torch.tensor([D * 2.0**c, D * 0.5**c, 0.0, C * 0.25**c, C * 3.0**c])
    torch.testing.assert_close(bipu(x, c, C, D), expected)
    torch.testing.assert_close(BiPU(c, C, D)(x), expected)
    torch.testing.assert_close(bipu(3.7 * x, c, C, D), 3.7**c * expected)
    assert is_homogeneous(BiPU(c, C, D)) == c


@pytest.mark.parametrize("c", [0, -1, float("nan"), float("inf")])
def test_a_power_that_is_not_positive_is_refused(c: float) -> None:
    for make in (lambda: bipu(torch.ones(2), c), lambda: BiPU(c)):
        with pytest.raises(InputError, match="power c > 0"):
            make()


ONE = (nn.ReLU(), nn.LeakyReLU(), nn.PReLU(dtype=torch.float64), nn.Identity(), nn.Dropout(), torch.abs, F.rrelu)
NONE = (torch.tanh, torch.sigmoid, nn.GELU(), nn.SiLU(), nn.ReLU6(), nn.ELU(), nn.Softplus(), nn.Softmax(-1), torch.exp)


def name_of(fn) -> str:
    return getattr(fn, "__name__", type(fn).__name__)


@pytest.mark.parametrize("fn", ONE, ids=name_of)
def test_bilinear_units_have_degree_one(fn) -> None:
    assert is_homogeneous(fn) == 1.0


@pytest.mark.parametrize("fn", NONE, ids=name_of)
def test_other_activations_have_none(fn) -> None:
    assert is_homogeneous(fn) is None


def test_what_the_probe_says_of_edges() -> None:
    assert is_homogeneous(lambda x: x.relu() ** 2) == 2.0
    assert is_homogeneous(lambda x: x + 1e-6) is None
    assert is_homogeneous(lambda x: x + 1e-6 * x * x) is None
    assert is_homogeneous(lambda x: x.relu() ** 2 - (-x).relu()) is None  # a degree on each side, not the same
    assert is_homogeneous(lambda x: 0 * x) == 1.0
    assert is_homogeneous(lambda x: 1 / x) == -1.0
    assert is_homogeneous(nn.PReLU(dtype=torch.float32)) == 1.0
    dropout = nn.Dropout().train()
    assert is_homogeneous(dropout) == 1.0
    assert dropout.training
