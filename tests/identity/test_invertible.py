"""Square layers with auxiliary units, and chains widened into them: a failure here hides a layer that does not come
back to its input, a widened model that computes something else, or a report that says what was not done.
"""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from equipoise.contracts import Invertible
from equipoise.functional.activations import unit
from equipoise.functional.orthogonal import distance, retract
from equipoise.nn import InvertibleConv2d, InvertibleLinear, hold_orthogonal_, invertible
from equipoise.randomness import generator

EXACT = {"rtol": 0, "atol": 1e-10}


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed, "invertible"), dtype=torch.float64)


def shaken(layer: nn.Module, by: float = 0.1) -> nn.Module:
    with torch.no_grad():
        for p in layer.double().parameters():
            p.add_(by * randn(*p.shape, seed=p.ndim) / p.shape[-1] ** 0.5)
    return layer


def dense(in_features: int = 12, out_features: int = 5, **options: bool) -> InvertibleLinear:
    return shaken(InvertibleLinear(in_features, out_features, generator=generator(0), **options))  # type: ignore[return-value]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("seen", [12, 5, 1])
def test_a_linear_layer_comes_back_to_its_input(seen: int, bias: bool) -> None:
    layer, x = dense(out_features=seen, bias=bias), randn(3, 12)
    assert isinstance(layer, Invertible)
    assert layer.auxiliary == 12 - seen
    assert torch.equal(layer(x), layer.units(x)[:, :seen]) or torch.allclose(
        layer(x), layer.units(x)[:, :seen], **EXACT
    )
    assert torch.allclose(layer.inverse(layer(x), x), x, **EXACT)
    assert torch.allclose(layer.inverse(layer.units(x), randn(3, 12, seed=8)), x, **EXACT)


def test_auxiliary_units_keep_what_they_are_at_the_input() -> None:
    """W x_hat + b = (the sums asked for, the auxiliary sums at x)."""
    layer, x, wanted = dense(), randn(3, 12), randn(3, 5, seed=4)
    back = layer.inverse(wanted, x)
    assert torch.allclose(layer(back), wanted, **EXACT)
    assert torch.allclose(layer.units(back)[:, 5:], layer.units(x)[:, 5:], **EXACT)


def test_the_difference_inverse_is_the_transpose_exactly_where_the_weight_is_orthogonal() -> None:
    layer, x, d = dense(), randn(3, 12), randn(3, 5, seed=4)
    change = layer.inverse(layer(x) + d, x) - x
    assert torch.allclose(layer.inverse_difference(d, x), change, **EXACT)
    assert not torch.allclose(layer.inverse_difference(d, x), d @ layer.weight[:5], atol=1e-3)
    with torch.no_grad():
        layer.weight.copy_(retract(layer.weight))
    leaf = x.clone().requires_grad_()
    backwards = torch.autograd.grad(layer(leaf), leaf, d)[0]
    assert torch.allclose(layer.inverse_difference(d, x), backwards, **EXACT)


@pytest.mark.parametrize(
    "layer",
    [
        InvertibleLinear(30, 7),
        InvertibleLinear(8, 8),
        InvertibleConv2d(3, 10, 3, 2, "same"),
        InvertibleLinear(9, 20, first=True),
        InvertibleLinear(20, 9, first=True),
        InvertibleConv2d(3, 24, 5, 4, "same", first=True),
    ],
    ids=str,
)
def test_weights_start_orthogonal_and_biases_at_zero(layer: InvertibleLinear | InvertibleConv2d) -> None:
    assert float(distance(layer.matrix().detach())) < 1e-5
    assert layer.bias is not None
    assert not bool(layer.bias.any())
    assert layer.first or layer.matrix().shape[0] == layer.matrix().shape[1]


def test_initial_weights_come_from_the_generator_or_from_torchs_own_seed() -> None:
    one, same, other = (InvertibleLinear(6, 3, generator=generator(seed)).weight for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    torch.manual_seed(3)
    first, second = InvertibleLinear(6, 3).weight, InvertibleLinear(6, 3).weight
    torch.manual_seed(3)
    assert torch.equal(first, InvertibleLinear(6, 3).weight)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_the_task_teaches_no_auxiliary_unit_and_leaves_no_parameter_without_gradient(kind: str) -> None:
    layer = dense() if kind == "linear" else shaken(InvertibleConv2d(2, 5, 3, padding=1))
    x = randn(3, 12) if kind == "linear" else randn(3, 2, 4, 4)
    before = copy.deepcopy(layer.state_dict())
    optimiser = torch.optim.Adam(layer.parameters(), lr=0.1)
    layer(x).square().sum().backward()
    assert all(p.grad is not None for p in layer.parameters())
    optimiser.step()
    for name, p in layer.named_parameters():
        assert torch.equal(p[5:], before[name][5:])
        assert not torch.equal(p[:5], before[name][:5])


def mlp(slope: float = 0.1) -> nn.Sequential:
    torch.manual_seed(1)
    units = nn.LeakyReLU(slope) if slope else nn.ReLU()
    inner = nn.Sequential(nn.Linear(20, 20), nn.Tanh())
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 20), units, inner, nn.Linear(20, 12, bias=False), nn.Linear(12, 4))


def cnn(slope: float = 0.1) -> nn.Sequential:
    torch.manual_seed(2)
    units = [nn.LeakyReLU(slope) if slope else nn.ReLU() for _ in range(3)]
    layers = [
        nn.Conv2d(3, 4, 5, padding=2),
        nn.Conv2d(4, 6, 3, stride=2, padding=1),
        nn.Conv2d(6, 8, 2, padding="same"),
    ]
    body = [part for pair in zip(layers, units, strict=True) for part in pair]
    return nn.Sequential(*body, nn.Flatten(), nn.Linear(8 * 4 * 4, 3))


MODELS = {"mlp": (mlp, (4, 3, 4, 4)), "cnn": (cnn, (4, 3, 8, 8))}


@pytest.mark.parametrize("name", list(MODELS))
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_a_widened_chain_of_invertible_parts_computes_the_same(name: str) -> None:
    build, shape = MODELS[name]
    model, x = build().double(), randn(*shape)
    before = copy.deepcopy(model.state_dict())
    twin, report = invertible(model, x, limit=1e8)
    assert torch.allclose(twin(x), model(x), **EXACT)
    assert report.error is not None
    assert report.error < 1e-10
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    added = sum(p.numel() for p in twin.parameters()) - sum(p.numel() for p in model.parameters())
    assert report.parameters == added > 0
    kinds = [type(m).__name__ for m in twin.modules() if isinstance(m, (InvertibleLinear, InvertibleConv2d))]
    assert [one.kind for one in report.layers] == kinds
    assert len(kinds) == 3
    assert all(p.dtype == torch.float64 for p in twin.parameters())


def test_auxiliary_weights_complete_a_layers_own_by_singular_values_of_one() -> None:
    twin, report = invertible(mlp().double(), weights="keep", limit=1e8)
    for one, own in zip(report.layers, (20, 12, 4), strict=True):
        layer = twin.get_submodule(one.name)
        matrix = layer.matrix().detach()  # type: ignore[operator]
        old = torch.linalg.svdvals(matrix[:own])
        wanted = torch.cat([old, old.new_ones(one.auxiliary)]).sort(descending=True)[0]
        assert torch.allclose(torch.linalg.svdvals(matrix), wanted, **EXACT)
        assert one.condition == pytest.approx(float(wanted[0] / wanted[-1]), rel=1e-6)
        assert one.distance == pytest.approx(math.sqrt(float((wanted.square() - 1).square().sum())), rel=1e-6)
        assert (one.units, one.auxiliary) == (matrix.shape[0], matrix.shape[0] - own)


def test_orthogonal_weights_are_the_nearest_to_the_layers_own() -> None:
    model = mlp().double()
    twin, report = invertible(model, weights="orthogonal")
    for one, old in zip(report.layers, (model[3][0], model[4], model[5]), strict=True):  # type: ignore[index]
        layer = twin.get_submodule(one.name)
        assert one.condition == pytest.approx(1, abs=1e-9)
        assert one.distance < 1e-9
        u, _, vh = torch.linalg.svd(old.weight.detach(), full_matrices=False)
        assert torch.allclose(layer.weight[: len(u)], u @ vh, **EXACT)  # type: ignore[index]


def test_what_else_changes_is_reported() -> None:
    twin, report = invertible(mlp(slope=0.0), torch.rand(4, 48), limit=1e8)
    assert isinstance(twin[2], nn.LeakyReLU)
    assert twin[2].negative_slope == 0.1
    assert ("2", "ReLU -> LeakyReLU(0.1)") in report.changed
    assert report.error is not None
    assert report.error > 1e-4
    assert report.changed[0][0] == "1"
    assert type(twin[1]) is nn.Linear
    text = str(report)
    for word in ("3.0 -> InvertibleLinear, 20 units, 0 of them auxiliary", "8 of them auxiliary", "condition number"):
        assert word in text
    assert f"{report.error:.1e}" in text


def test_strides_take_the_place_of_pooling() -> None:
    torch.manual_seed(3)
    body = [nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 8, 3, padding=1), nn.AvgPool2d(2)]
    model = nn.Sequential(*body, nn.Flatten(), nn.Linear(32, 3))
    twin, report = invertible(model, torch.rand(2, 3, 8, 8), pooling="stride")
    assert [twin[0].stride, twin[3].stride] == [(2, 2), (2, 2)]
    assert [type(twin[k]).__name__ for k in (0, 2, 3, 4)] == ["Conv2d", "Identity", "InvertibleConv2d", "Identity"]
    assert model[0].stride == (1, 1)
    assert {name for name, _ in report.changed} == {"0", "1", "2", "3", "4"}


def test_in_place_keeps_flags_and_modes() -> None:
    model = mlp().eval()
    model[5].weight.requires_grad_(False)
    twin, _ = invertible(model, inplace=True, limit=1e8)
    assert twin is model
    assert not any(m.training for m in model.modules())
    assert [p.requires_grad for p in model[5].parameters()] == [False, True]
    again, report = invertible(model, limit=1e8)
    assert report.parameters == 0
    x = torch.rand(2, 48)
    assert torch.equal(again(x), model(x))


@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_a_layer_that_is_held_stays_orthogonal_whatever_it_learns(kind: str) -> None:
    layer: InvertibleLinear | InvertibleConv2d
    if kind == "linear":
        layer, x = dense(), randn(3, 12)
    else:
        layer, x = shaken(InvertibleConv2d(2, 5, 3, 2, "same")), randn(3, 2, 5, 5)  # type: ignore[assignment]
    nearest = retract(layer.matrix().detach())
    model = nn.Sequential(nn.Identity(), layer, InvertibleLinear(5, 7, first=True))
    assert hold_orthogonal_(model) == hold_orthogonal_(model) == ["1"]
    assert torch.allclose(layer.matrix(), nearest, **EXACT)
    optimiser = torch.optim.Adam(layer.parameters(), lr=0.1)
    for _ in range(5):
        optimiser.zero_grad()
        loss = (layer(x) - 1).square().sum()
        loss.backward()
        optimiser.step()
    assert float(distance(layer.matrix().detach())) < 1e-12
    assert float((layer.matrix() - nearest).detach().norm()) > 0.1
    assert float((layer(x) - 1).detach().square().sum()) < float(loss.detach())
    leaf, d = x.clone().requires_grad_(), randn(*layer(x).shape, seed=4)
    assert torch.allclose(layer.inverse_difference(d, x), torch.autograd.grad(layer(leaf), leaf, d)[0], **EXACT)
    assert torch.allclose(layer.inverse(layer(x), x), x, **EXACT)
    assert torch.equal(copy.deepcopy(layer)(x), layer(x))


def run(model: nn.Sequential, x: Tensor) -> list[tuple[nn.Module, Tensor, Tensor]]:
    """Each part of a chain with its input, and all that comes out of it."""
    seen = []
    for part in model:
        out = part.units(x) if isinstance(part, (InvertibleLinear, InvertibleConv2d)) else part(x)
        seen.append((part, x, out))
        x = out[:, : part.outputs] if isinstance(part, (InvertibleLinear, InvertibleConv2d)) else out
    return seen


@settings(max_examples=25)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=5),
    st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3), st.sampled_from((0, 1, "same"))), max_size=3),
    st.sampled_from(("subtract", "divide")),
    st.integers(0, 99),
)
def test_a_whole_chain_runs_backwards(
    widths: list[int], convolutions: list[tuple[int, int, int | str]], overlap: str, seed: int
) -> None:
    """From the top's units down to the image, each layer from what came out above: auxiliary units remembered."""
    parts: list[nn.Module] = []
    x = randn(2, 2, 9, 8, seed=seed)
    with torch.no_grad():
        size = x
        for kernel, stride, padding in convolutions:
            if padding != "same" and min(size.shape[2:]) + 2 * int(padding) < kernel:
                continue
            layer = shaken(
                InvertibleConv2d(2, 2, kernel, stride, padding, overlap=overlap) if kernel > 1 else nn.Identity()
            )
            parts += [layer, nn.LeakyReLU(0.1)]
            size = layer(size)
        parts.append(nn.Flatten())
        inputs = size[0].numel()
        for width in sorted(widths, reverse=True):
            width = min(width, inputs)
            parts += [dense(inputs, width), nn.LeakyReLU(0.3)]
            inputs = width
        back = None
        for part, entered, out in reversed(run(nn.Sequential(*parts), x)):
            if isinstance(part, (InvertibleLinear, InvertibleConv2d)):
                whole = out if back is None else torch.cat([back, out[:, part.outputs :]], 1)
                back = part.inverse(whole, entered)
            elif isinstance(part, nn.LeakyReLU):
                back = unit(part).inverse(out if back is None else back)
            elif isinstance(part, nn.Flatten):
                assert back is not None
                back = back.reshape(entered.shape)
        assert back is not None
        assert torch.allclose(back, x, rtol=0, atol=1e-8)
