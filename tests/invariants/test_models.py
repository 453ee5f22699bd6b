"""Networks by a text: a failure here hides weights of another law, a bias that was switched off, or another network."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from equipoise import models
from equipoise.errors import InputError
from equipoise.randomness import derive


@pytest.mark.parametrize(("text", "sizes"), [("mlp:300-200-10", (300, 200)), ("conv:3x16x16-10", (75, 32 * 36))])
@pytest.mark.parametrize("init", ["he_uniform", "he_normal"])
def test_he_initialisation_has_variance_two_over_fan_in(text: str, sizes: tuple[int, int], init: str) -> None:
    model = models.make(f"{text},init={init}", seed=1)
    weights = [p.detach() for p in model.parameters() if p.ndim > 1]
    for weight, fan_in in zip(weights, sizes, strict=True):
        n = weight.numel()
        assert float(weight.double().var()) == pytest.approx(2 / fan_in, rel=4 * math.sqrt(2 / n))
        largest = float(weight.abs().max()) / math.sqrt(6 / fan_in)
        assert (0.98 < largest <= 1) if init == "he_uniform" else largest > 1.3
    assert all(not p.any() for p in model.parameters() if p.ndim == 1)
    assert sum(p.ndim == 1 for p in model.parameters()) == 2


@pytest.mark.parametrize("text", ["mlp:64-20-10,dropout=0.1", "conv:1x8x8-10"])
def test_options_that_are_not_asked_for_change_nothing(text: str) -> None:
    """torch's own layers, made in order under the same seed, have the same weights; ``init=torch`` says it aloud."""
    torch.manual_seed(derive(3, "model"))
    layers = [nn.Linear(64, 20) if text.startswith("mlp") else nn.Conv2d(1, 32, 5)]
    layers.append(nn.Linear(20 if text.startswith("mlp") else 128, 10))
    expected = [p for layer in layers for p in layer.parameters()]
    for spec in (text, f"{text},init=torch", f"{text},bias=yes,activation=relu"):
        found = list(models.make(spec, seed=3).parameters())
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("text", ["mlp:12-9-7-4", "conv:3x8x8-4"])
def test_the_identity_makes_a_network_linear_and_bias_no_takes_all_biases(text: str) -> None:
    model = models.make(f"{text},activation=identity,bias=no").double()
    x, y = torch.randn(2, 5, *((3, 8, 8) if text.startswith("conv") else (12,)), dtype=torch.float64)
    assert all(p.ndim > 1 for p in model.parameters())
    if text.startswith("mlp"):  # max-pooling is not linear
        assert torch.allclose(model(2 * x - y), 2 * model(x) - model(y))
    assert torch.allclose(model(2 * x), 2 * model(x))
    assert not torch.allclose(models.make(f"{text},bias=no").double()(-x), -models.make(f"{text},bias=no").double()(x))


def test_layers_keep_their_places_whatever_the_activation() -> None:
    for text in ("mlp:64-20-10", "conv:1x8x8-10"):
        names = {a: list(models.make(f"{text},activation={a}").state_dict()) for a in ("relu", "tanh", "identity")}
        assert names["relu"] == names["tanh"] == names["identity"]
    assert any(isinstance(m, nn.Tanh) for m in models.make("conv:1x8x8-10,activation=tanh"))


@torch.no_grad()
def test_norm_layer_normalises_what_enters_each_activation_and_adds_no_parameter() -> None:
    model, plain = (models.make(f"mlp:12-40-30-4{more}", seed=1).double() for more in (",norm=layer", ""))
    assert [p.shape for p in model.parameters()] == [p.shape for p in plain.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), plain.parameters(), strict=True))
    x = torch.randn(5, 12, dtype=torch.float64)
    for k, entered in enumerate((model[1](x), model[4](model[:4](x)))):
        z = torch.nn.functional.layer_norm(entered, entered.shape[-1:])
        assert isinstance(model[3 * k + 3], nn.ReLU)
        torch.testing.assert_close(model[: 3 * k + 4](x), z.relu())


WRONG = {
    "mlp:6-5-4,norm=group": "norm=none|layer|batch",
    "conv:1x8x8-10,norm=layer": "options are activation=",
    "mlp:6-5-4,init=he": "init=torch|he_uniform|he_normal",
    "mlp:6-5-4,activation=gelu": "activation=relu|tanh|sigmoid|identity",
    "mlp:6-5-4,bias=none": "bias=yes|no",
    "mlp:6-5-4,dropout=much": "dropout is a rate in [0, 1)",
    "conv:1x8x8-10,dropout=0.1": "options are activation=",
    "conv:1x8x8-10,bias": "options read key=value",
    "conv:1x8x8,bias=no": "does not read as conv:3x32x32-10",
}


@pytest.mark.parametrize("text", list(WRONG))
def test_wrong_options_are_one_line(text: str) -> None:
    with pytest.raises(InputError) as caught:
        models.make(text)
    assert WRONG[text] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_dropout_on_the_input_stands_before_the_first_layer() -> None:
    model = models.make("mlp:6-5-4,dropout=0.5,input_dropout=0.25", seed=0)
    kinds = [(type(layer), getattr(layer, "p", None)) for layer in model]
    assert kinds == [
        *((nn.Flatten, None), (nn.Dropout, 0.25), (nn.Linear, None)),
        *((nn.ReLU, None), (nn.Dropout, 0.5), (nn.Linear, None)),
    ]
    for spec in ("mlp:6-5-4,input_dropout=1", "mlp:6-5-4,input_dropout=x", "conv:1x8x8-10,input_dropout=0.1"):
        with pytest.raises(InputError):
            models.make(spec, seed=0)
