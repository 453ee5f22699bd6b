"""What square layers and the widening of a chain refuse: by the layer's name, why, and what to do, in one line.

A failure here means a network that seems to run backwards and forgets what it would need for that.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

import equipoise as eq
from equipoise import nn as enn
from equipoise.errors import InputError
from equipoise.functional import activations, inverse, orthogonal, patches


def said(error: pytest.ExceptionInfo[InputError], *words: str) -> None:
    text = str(error.value)
    assert "\n" not in text
    for word in words:
        assert word in text, text


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: enn.InvertibleLinear(3, 4), ("4 units of 3 inputs", "first=True")),
        (lambda: enn.InvertibleConv2d(2, 19, 3), ("19 units of 18 inputs", "at most 18", "first=True")),
        (lambda: enn.InvertibleLinear(3, 0), ("at least one",)),
        (lambda: enn.InvertibleConv2d(0, 3, 3), ("at least one",)),
        (lambda: enn.InvertibleConv2d(2, 3, 0), ("kernel_size", "at least 1")),
        (lambda: enn.InvertibleConv2d(2, 3, 3, stride=0), ("stride", "at least 1")),
        (lambda: enn.InvertibleConv2d(2, 3, 3, padding=-1), ("padding", "at least 0")),
        (lambda: enn.InvertibleConv2d(2, 3, 3, padding="sane"), ("did you mean 'same'",)),
        (lambda: enn.InvertibleConv2d(2, 3, 3, overlap="substract"), ("did you mean 'subtract'",)),
    ],
)
def test_a_layer_that_cannot_be_is_refused(build: Any, words: tuple[str, ...]) -> None:
    with pytest.raises(InputError) as error:
        build()
    said(error, *words)


def test_a_first_layer_may_have_any_width_and_is_not_inverted() -> None:
    x = torch.rand(2, 3)
    for width in (2, 3, 7):
        layer = enn.InvertibleLinear(3, width, first=True)
        assert layer(x).shape == (2, width)
        assert layer.weight.shape == (width, 3)
        for call in (layer.inverse, layer.inverse_difference):
            with pytest.raises(InputError) as error:
                call(layer(x), x)
            said(error, "first layer", f"3, {width}")


@pytest.mark.parametrize("units", [1, 4, 7])
def test_an_output_of_another_width_is_refused(units: int) -> None:
    layer = enn.InvertibleLinear(6, 3)
    with pytest.raises(InputError) as error:
        layer.inverse(torch.rand(2, units), torch.rand(2, 6))
    said(error, f"has {units} units", "the 3 that the next layer sees", "all 6")
    with pytest.raises(InputError, match=f"has {units} units"):
        layer.inverse_difference(torch.rand(2, units), torch.rand(2, 6))
    conv = enn.InvertibleConv2d(2, 3, 2)
    with pytest.raises(InputError, match="all 8"):
        conv.inverse_difference(torch.rand(2, 4, 3, 3), torch.rand(2, 2, 4, 4))


def test_a_kernel_larger_than_the_image_is_refused() -> None:
    with pytest.raises(InputError) as error:
        enn.InvertibleConv2d(2, 3, 5)(torch.rand(1, 2, 4, 8))
    said(error, "kernel of 5", "4 pixels")
    with pytest.raises(InputError, match="did you mean 'same'"):
        patches.coverage((4, 4), 3, 1, "sane")


def test_a_singular_weight_is_told_with_its_condition_number_and_the_remedy() -> None:
    for layer, x in (
        (enn.InvertibleLinear(6, 3), torch.rand(2, 6)),
        (enn.InvertibleConv2d(2, 3, 2), torch.rand(2, 2, 4, 4)),
    ):
        with torch.no_grad():
            layer.weight.zero_()
        for call in (layer.inverse, layer.inverse_difference):
            with pytest.raises(InputError) as error:
                call(layer(x), x)
            said(error, "singular", "condition number inf", "orthogonal")


def test_a_nearly_singular_weight_is_told_under_debug() -> None:
    layer, x = enn.InvertibleLinear(6, 3), torch.rand(2, 6)
    with torch.no_grad():
        layer.weight[5] = layer.weight[4] + 1e-5 * layer.weight[5]
    layer.inverse(layer(x), x)
    with eq.debug(), pytest.raises(InputError) as error:
        layer.inverse(layer(x), x)
    said(error, "InvertibleLinear(6, 3", "ill-conditioned", "condition number", "above 1e+04", "orthogonal")


def test_a_matrix_that_is_not_fit_is_told_by_its_layers_name() -> None:
    u = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64))[0]
    bad = u @ torch.diag(torch.tensor([1.0, 1, 1, 1, 1e-6], dtype=torch.float64))
    for matrix, words in (
        (bad, ("ill-conditioned", "condition number 1e+06", "above 1e+04")),
        (bad * torch.tensor([1.0, 1, 1, 1, 0], dtype=torch.float64), ("singular", "condition number inf")),
        (torch.full((5, 5), torch.nan), ("not finite", "condition number nan")),
        (torch.ones(4, 5), ("(4, 5)", "not square", "eq.nn.invertible")),
    ):
        with pytest.raises(InputError) as error:
            inverse.require_invertible(matrix, "body.3")
        said(error, "layer 'body.3'", *words)
    assert inverse.require_invertible(bad, "body.3", limit=1e7) == pytest.approx(1e6)


def test_unknown_names_are_told_with_the_nearest() -> None:
    eye = torch.eye(3)
    for call in (lambda: orthogonal.penalty(eye, "of_diagonal"), lambda: orthogonal.penalty_block(eye, 0, 1, "ful")):
        with pytest.raises(InputError, match="did you mean"):
            call()
    with pytest.raises(InputError, match="did you mean 'divide'"):
        patches.carry_patches(torch.rand(1, 4, 2, 2), torch.rand(4, 1, 2, 2), (3, 3), 1, 0, "divde")


@pytest.mark.parametrize(
    ("module", "remedy"),
    [
        (nn.ReLU(), "LeakyReLU(0.1)"),
        (nn.LeakyReLU(0.0), "LeakyReLU(0.1)"),
        (nn.LeakyReLU(-0.2), "LeakyReLU(0.1)"),
        (nn.ELU(-1.0), "LeakyReLU(0.1)"),
        (nn.GELU(), "LeakyReLU(0.1)"),
        (nn.Hardtanh(), "LeakyReLU(0.1)"),
        (nn.MaxPool2d(2), "stride"),
        (nn.AdaptiveAvgPool2d(1), "stride"),
        (nn.Softmax(-1), "unit.register"),
    ],
    ids=repr,
)
def test_an_activation_without_inverse_is_refused_by_its_name(module: nn.Module, remedy: str) -> None:
    with pytest.raises(InputError) as error:
        activations.unit(module)
    said(error, type(module).__name__, "inverse", remedy)


def tied() -> nn.Sequential:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    model[2].weight = model[1].weight
    return model


def normed() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 4), nn.utils.parametrizations.orthogonal(nn.Linear(4, 4)))


def singular(value: float) -> nn.Sequential:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    with torch.no_grad():
        model[1].weight.copy_(torch.diag(torch.tensor([1.0, 1, 1, value])))
    return model


def between(*parts: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), *parts, nn.Conv2d(4, 4, 3, padding=1), nn.Flatten())


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (nn.Linear(3, 3), ("nn.Sequential", "Linear")),
        (nn.Sequential(nn.Flatten()), ("no weighted layer",)),
        (nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.Linear(4, 6))), ("layer '1.0' (Linear)", "from 4", "to 6")),
        (between(nn.Conv2d(4, 37, 3)), ("layer '1' (Conv2d)", "from 36", "to 37", "at most 36")),
        (between(nn.ReLU(), nn.MaxPool2d(2)), ("layer '2' (MaxPool2d)", "inverse", "pooling='stride'")),
        (between(nn.AdaptiveAvgPool2d(3)), ("layer '1'", "AdaptiveAvgPool2d", "stride")),
        (between(nn.BatchNorm2d(4)), ("layer '1' (BatchNorm2d)", "leave it out")),
        (between(nn.InstanceNorm2d(4)), ("layer '1'", "InstanceNorm2d", "inverse")),
        (between(nn.PReLU()), ("layer '1' (PReLU)", "inverse")),
        (between(nn.GELU()), ("layer '1'", "GELU", "LeakyReLU(0.1)")),
        (between(nn.Dropout(0.2)), ("layer '1' (Dropout)", "leave it out")),
        (between(nn.Conv2d(4, 4, 3, groups=2)), ("layer '1' (Conv2d)", "grouped")),
        (between(nn.Conv2d(4, 4, 3, dilation=2)), ("layer '1' (Conv2d)", "dilated")),
        (between(nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")), ("layer '1' (Conv2d)", "reflect", "zeros")),
        (nn.Sequential(nn.Conv1d(2, 2, 3), nn.Conv1d(2, 2, 3)), ("layer '1' (Conv1d)", "two-dimensional")),
        (nn.Sequential(nn.Linear(3, 3), enn.InvertibleLinear(3, 2, first=True)), ("layer '1'", "first=True")),
        (tied(), ("layer '1' (Linear)", "shares its weight", "2.weight")),
        (normed(), ("layer '1'", "parametrisation")),
        (singular(0.0), ("layer '1'", "singular", "condition number inf", "weights='orthogonal'")),
        (singular(1e-5), ("layer '1'", "ill-conditioned", "condition number 1e+05", "weights='orthogonal'")),
    ],
)
def test_a_chain_that_cannot_be_widened_is_refused_and_left_alone(model: nn.Module, words: tuple[str, ...]) -> None:
    kinds = [type(m) for m in model.modules()]
    with pytest.raises(InputError) as error:
        enn.invertible(model, inplace=True)
    said(error, *words)
    assert [type(m) for m in model.modules()] == kinds


def test_the_remedy_for_an_ill_conditioned_weight_works() -> None:
    for model in (singular(1e-5), singular(0.0)):
        _, report = enn.invertible(model, weights="orthogonal")
        assert report.layers[0].condition == pytest.approx(1, abs=1e-5)


def test_strides_that_would_change_the_sizes_are_refused_and_undone() -> None:
    """Pooling 7 pixels by 2 leaves 3, a stride of 2 with padding leaves 4."""
    head = [nn.Conv2d(2, 4, 3, padding=1), nn.MaxPool2d(2), nn.Flatten()]
    x = torch.rand(2, 2, 7, 7)
    for model in (nn.Sequential(*head, nn.Linear(36, 3)), nn.Sequential(*head)):
        before = copy.deepcopy(model)
        with pytest.raises(InputError) as error:
            enn.invertible(model, x, pooling="stride", inplace=True)
        said(error, "another size" if len(model) == 4 else "(2, 64)", "pad")
        assert repr(model) == repr(before)
        assert torch.equal(model(x), before(x))
    with pytest.raises(InputError, match="needs an example"):
        enn.invertible(nn.Sequential(*head), pooling="stride")
    for wrong in ({"weights": "kept"}, {"pooling": "strides"}):
        with pytest.raises(InputError, match="did you mean"):
            enn.invertible(nn.Sequential(*head), **wrong)  # type: ignore[arg-type]


def test_a_model_without_square_layers_is_not_held_orthogonal() -> None:
    with pytest.raises(InputError, match=r"nn\.invertible"):
        enn.hold_orthogonal_(nn.Sequential(nn.Linear(3, 3), enn.InvertibleLinear(3, 3, first=True)))
