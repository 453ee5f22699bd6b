"""What bounds a scaling graph, what it leaves alone, and that operations it cannot see through bound it too.

A failure means a network whose function balance changes without a word, or a boundary that nobody is told of.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise.balance import graph
from equipoise.models import ResidualNet
from scaling import Net, draw, exponents, free, unchanged

Linear, Conv = nn.Linear, nn.Conv2d


@pytest.fixture(autouse=True)
def _double() -> None:
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)


def between(act) -> nn.Module:
    """Two linear layers with ``act`` between them: 4 units that it passes or bounds."""
    return Net(lambda s, x: s.o(act(s.a(x))), a=Linear(3, 4), o=Linear(4, 2))


PASSES = {
    "relu": torch.relu,
    "method": lambda h: h.relu(),
    "in place": lambda h: h.relu_(),
    "leaky": lambda h: F.leaky_relu(h, 0.1),
    "abs": abs,
    "negated": lambda h: -h,
    "scaled": lambda h: 0.5 * h / 3,
    "maximum with 0": lambda h: torch.maximum(h, torch.zeros(())),
    "maximum with zeros": lambda h: torch.maximum(h, torch.zeros_like(h)),
    "clamped below by 0": lambda h: h.clamp(min=0),
    "threshold at 0": nn.Threshold(0, 0),
    "where": lambda h: torch.where(h > 0, h, 0.1 * h),
    "masked": lambda h: h * (h > 0),
    "hard attention to signs": lambda h: h * torch.sign(h),
    "dropout": lambda h: F.dropout(h, 0.5, training=False),
    "constant mask": lambda h: h * torch.tensor([1.0, 0.0, 2.0, -1.0]),
    "there and back": lambda h: h.view(-1, 2, 2).transpose(1, 2).flatten(1)[:, [0, 2, 1, 3]],
    "0 added": lambda h: h + 0,
    "root of square": lambda h: h.square().sqrt(),
    "twice": lambda h: h + h,
    "double and back": lambda h: h.float().double() * 0 + h,
    "copied": lambda h: h.contiguous().clone().detach(),
    "flipped": lambda h: h.flip(-1).roll(1, -1),
    "split": lambda h: torch.cat(h.split([1, 3], -1), -1),
    "operator": torch.ops.aten.relu.default,
}

BOUNDS = {
    "gelu": F.gelu,
    "GELU": nn.GELU(),
    "silu": F.silu,
    "tanh": torch.tanh,
    "sigmoid": lambda h: h.sigmoid(),
    "softmax": lambda h: h.softmax(-1),
    "ReLU6": nn.ReLU6(),
    "LayerNorm": nn.LayerNorm(4, dtype=torch.float64),
    "constant added": lambda h: h + 0.5,
    "constant taken away": lambda h: 1 - h,
    "tensor added": lambda h: h + torch.tensor([0.0, 1.0, 0.0, 0.0]),
    "threshold elsewhere": nn.Threshold(0.1, 0),
    "clamped": lambda h: h.clamp(-1, 1),
    "rounded": lambda h: h.round(),
    "compared": lambda h: h * (h > 0.3),
    "exponential": torch.exp,
    "maximum with 1": lambda h: torch.maximum(h, torch.ones(())),
    "one written in": lambda h: h.index_fill(1, torch.tensor([0, 1, 2, 3]), 1.0) + h,
    "normed": lambda h: F.normalize(h + 0, dim=-1) + F.elu(h),
    "softplus": F.softplus,
    "filled": lambda h: h.masked_fill(h < 0, -1.0),
}


@pytest.mark.parametrize("name", PASSES)
def test_what_is_positively_homogeneous_passes_four_classes(name: str) -> None:
    assert free(between(PASSES[name]), draw(5, 3)) == 4


@pytest.mark.parametrize("name", BOUNDS)
def test_what_is_not_bounds_all_four_and_is_reported(name: str) -> None:
    net = between(BOUNDS[name])
    made = unchanged(net, draw(5, 3))
    assert made.scalable == 0
    assert made.boundaries


def test_a_boundary_has_the_modules_name_or_the_functions_beside_the_module_that_calls_it() -> None:
    net = nn.Sequential(Linear(3, 4), nn.GELU(), between(torch.tanh).requires_grad_(), nn.LayerNorm(2), Linear(2, 2))
    net[2].a = Linear(4, 4)
    found = {(boundary.name, boundary.kind) for boundary in graph(net).boundaries}
    assert found == {("1", "GELU"), ("2.tanh", "tanh"), ("3", "LayerNorm")}
    text = str(graph(net))
    assert "feeds GELU '1'" in text
    assert "3.weight" in text.partition("left as they are")[2]


@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU, nn.RNN])
def test_gated_and_tanh_recurrent_layers_are_visible(layer: type[nn.Module]) -> None:
    net = Net(lambda s, x: s.o(s.r(s.i(x).relu())[0]), i=Linear(3, 4), r=layer(4, 5), o=Linear(5, 2))
    made = unchanged(net, draw(6, 2, 3))
    assert made.scalable == 0
    assert [b.kind for b in made.boundaries] == [layer.__name__]
    assert "r.weight_hh_l0" in made.excluded


def test_a_recurrent_weight_keeps_its_diagonal_and_a_given_start_bounds() -> None:
    net = Net(lambda s, x: s.o(s.r(x)[0]), r=nn.RNN(3, 4, nonlinearity="relu"), o=Linear(4, 2))
    made = unchanged(net, draw(6, 2, 3))
    power = exponents(made, torch.arange(1.0, 5.0))["r.weight_hh_l0"]
    assert (power.diagonal() == 0).all()
    assert (power[~torch.eye(4, dtype=torch.bool)] != 0).all()
    given = Net(lambda s, x: s.o(s.r(x, torch.ones(1, 2, 4))[0]), r=nn.RNN(3, 4, nonlinearity="relu"), o=Linear(4, 2))
    assert free(given, draw(6, 2, 3)) == 0


@pytest.mark.parametrize("training", [False, True])
def test_batch_norm_is_the_input_side_of_its_channel_and_what_feeds_it_is_left_alone(training: bool) -> None:
    net = nn.Sequential(Conv(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), Conv(4, 5, 3), nn.BatchNorm2d(5), nn.ReLU())
    net = nn.Sequential(*net, nn.Flatten(), Linear(80, 2)).train(training)
    for norm in (net[1], net[4]):
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.normal_(norm.bias)
        norm.momentum = 0.0
    made = unchanged(net, draw(3, 3, 8, 8))
    assert made.scalable == 4 + 5
    z = torch.linspace(0.1, 0.9, 9)
    powers = exponents(made, z)
    torch.testing.assert_close(powers["1.weight"], z[:4])
    torch.testing.assert_close(powers["1.bias"], z[:4])
    torch.testing.assert_close(powers["3.weight"], -z[:4].view(1, 4, 1, 1).expand(5, 4, 3, 3))
    assert set(made.excluded) == {"0.weight", "0.bias", "3.bias"}
    assert {u.name for u in made.units if u.status == "skipped"} == {"0", "3"}


def test_a_residual_network_with_batch_norm_and_a_shared_convolution() -> None:
    net = ResidualNet(3, 5, 4).eval()
    for name, value in [*net.named_parameters(), *net.named_buffers()]:
        if "norm" in name and value.is_floating_point():
            nn.init.uniform_(value, 0.5, 1.5)
    # The stream of 4 channels is norm0's, norm1 (twice) adds to it; the 8 of the second are the projection's.
    # The shared convolution feeds norm1 both times, and reads the same stream.
    assert free(net, draw(2, 3, 16, 16)) == 4 + 8


def test_an_inverted_residual_block() -> None:
    def block(c: int, wide: int) -> list[nn.Module]:
        return [
            *(Conv(c, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU()),
            *(Conv(wide, wide, 3, padding=1, groups=wide, bias=False), nn.BatchNorm2d(wide), nn.ReLU()),
            *(Conv(wide, c, 1, bias=False), nn.BatchNorm2d(c)),
        ]

    stem = nn.Sequential(Conv(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU())
    net = Net(
        lambda s, x: s.o((lambda h: h + s.b(h))(s.i(x)).mean((2, 3))),
        i=stem, b=nn.Sequential(*block(4, 12)), o=Linear(4, 3),
    ).eval()  # fmt: skip
    assert free(net, draw(2, 3, 8, 8)) == 4 + 12 + 12


class Gate(torch.autograd.Function):
    """A custom function that hands its input on and edits the gradient."""

    @staticmethod
    def forward(ctx, h: Tensor) -> Tensor:
        return h

    @staticmethod
    def backward(ctx, g: Tensor) -> Tensor:
        return 2 * g


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_code_beneath_the_functions_is_seen_too() -> None:
    def shifted(h: Tensor) -> Tensor:
        return torch.relu(h) + 1

    assert free(between(Gate.apply), draw(5, 3)) == 4
    assert free(between(torch.jit.script(shifted)), draw(5, 3)) == 0


def test_buffers_frozen_and_masked_weights() -> None:
    net = nn.Sequential(Linear(3, 4), nn.ReLU(), Linear(4, 5), nn.ReLU(), Linear(5, 2))
    x = draw(5, 3)
    assert graph(net).scalable == 9
    assert graph(net, frozen=["0.*"]).scalable == 5
    made = unchanged(net, x, made=graph(net, frozen=["2.weight"]))
    assert made.scalable == 1  # all weights of one full matrix keep their value: the two layers share one scale
    with torch.no_grad():
        net[2].weight.copy_(torch.block_diag(torch.ones(2, 2), torch.ones(3, 2)))
    net[2].bias = None
    assert graph(net, frozen=["2.weight"]).scalable == 2  # one scale for each block that the zeros leave apart
    unchanged(net, x, made=graph(net, frozen=["2.weight"]))


def test_a_shared_weight_with_zeros_is_freer() -> None:
    net = Net(
        lambda s, x: s.o(F.linear(F.linear(s.i(x).relu(), s.w).relu(), s.w).relu()),
        i=Linear(3, 4, bias=False), w=torch.rand(4, 4) + 0.1, o=Linear(4, 2, bias=False),
    )  # fmt: skip
    assert free(net, draw(5, 3)) == 4 + 1
    with torch.no_grad():
        net.w.copy_(torch.eye(4))
    assert free(net, draw(5, 3)) == 4 + 4  # each unit's own chain of three has a gain of its own


def test_guarded_views_of_one_weight_and_unused_parameters() -> None:
    net = Net(lambda s, x: s.o(F.linear(x, s.w[1:4]).relu()), w=draw(6, 3), o=Linear(3, 2), idle=draw(3))
    made = unchanged(net, draw(5, 3))
    assert made.scalable == 3
    power = exponents(made, torch.ones(3))["w"]
    assert (power[[0, 4, 5]] == 0).all()
    assert (power[1:4] == 1).all()
    assert made.excluded == {"idle": "not used by the forward pass"}
