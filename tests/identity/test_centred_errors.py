"""Errors that lose their mean over units: feedback alignment's before they enter a circuit, PEPITA's own difference.

A failure means that "the delivered error, centred" is something else than what the experiment inorm/rules says.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise import nn as enn
from equipoise import rules
from pepita_nets import batch, dense, kernels, loop, oracle, written

EXACT = {"rtol": 1e-9, "atol": 1e-12}


def less_its_mean(values: list[float]) -> list[float]:
    return [v - sum(values) / len(values) for v in values]


def circuits(**options: object) -> nn.Sequential:
    """Two circuits whose inhibition is not ideal, and a readout."""
    torch.manual_seed(4)
    made = nn.Sequential(
        enn.INormLinear(12, 10, **options), nn.ReLU(), enn.INormLinear(10, 8, **options), nn.ReLU(), nn.Linear(8, 4)
    ).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(1 + 0.5 * torch.rand_like(parameter))
    return made


def delivered(
    name: str, fed: dict[str, Tensor], e: list[float], carried: list[float] | None, place: int
) -> list[float]:
    """What the rule brings to the units of the circuit ``place``, for one sample, element by element."""
    if name == "dfa":
        matrix, came = fed["2" if place == 0 else "4"], e
    elif carried is None:
        matrix, came = fed["4.weight"].T, e
    else:
        matrix, came = fed["2.weight_ee"].T, carried
    return [sum(b * one for b, one in zip(row, came, strict=True)) for row in matrix.tolist()]


@pytest.mark.parametrize("bias", ["after", "inside"])
@pytest.mark.parametrize("name", ["fa", "dfa"])
def test_gradnorm_center_is_the_delivered_error_less_its_mean_over_units(name: str, bias: str) -> None:
    """dW_EE = (1/d) (g - mean g) h^T, g = delivered error where the ReLU is open: of each sample, as plain sums."""
    model, (x, y) = circuits(gradnorm="center", bias=bias), (torch.rand(5, 12).double(), torch.arange(5) % 4)
    rule = rules.make(name, model, example=x, seed=2)
    rule.backward(x, y)
    fed = rule.feedback()
    with torch.no_grad():
        inputs = [x, model[:2](x)]
        z = [model[0](x), model[:3](x)]
        d = [
            (((h @ m.divisive_ie.T) ** 2).mean(1) + m.eps).sqrt()
            for h, m in zip(inputs, (model[0], model[2]), strict=True)
        ]
        error = (F.softmax(model(x), 1) - F.one_hot(y, 4)) / len(y)
    wanted = [torch.zeros(10, 12).double(), torch.zeros(8, 10).double()]
    for sample in range(5):
        carried = None
        for place in (1, 0):
            came = delivered(name, fed, error[sample].tolist(), carried, place)
            g = less_its_mean([v if float(u) > 0 else 0.0 for v, u in zip(came, z[place][sample], strict=True)])
            carried = [v / float(d[place][sample]) for v in g]
            for k, v in enumerate(carried):
                wanted[place][k] += v * inputs[place][sample]
    for place, layer in enumerate((model[0], model[2])):
        torch.testing.assert_close(layer.weight_ee.grad, wanted[place], **EXACT)


def centred_by_hand(post: Tensor) -> Tensor:
    """Each sample's (and position's) values less their mean over units or channels, one by one."""
    found = post.clone()
    rows = found.reshape(len(found), found.shape[1], -1)
    for n in range(rows.shape[0]):
        for position in range(rows.shape[2]):
            rows[n, :, position] = torch.tensor(less_its_mean(rows[n, :, position].tolist()), dtype=torch.float64)
    return rows.reshape(post.shape)


def twice(model: nn.Sequential, x: Tensor, y: Tensor, f: Tensor, noise: dict[str, Tensor]) -> list[tuple[Tensor, ...]]:
    """Of each weighted layer: presynaptic activity in the second pass, and h - h' of its units."""

    def run(h: Tensor) -> list[list[Tensor]]:
        found, number = [], 0
        for layer in model:
            if isinstance(layer, (nn.Linear, nn.Conv2d)):
                found.append([h])
            h = h * noise[f"dropout{number}"] / (1 - layer.p) if isinstance(layer, nn.Dropout) else layer(h)
            number += isinstance(layer, nn.Dropout)
            if isinstance(layer, (nn.ReLU, nn.Dropout)):
                found[-1][1:] = [h]
        return [*found[:-1], [found[-1][0], h]]

    first = run(x)
    e = first[-1][1].softmax(-1) - F.one_hot(y, 4)
    second = run(x + (e @ f.T).reshape(x.shape))
    pairs = [(b[0], a[1] - b[1]) for a, b in zip(first, second, strict=True)]
    return [*pairs[:-1], (pairs[-1][0], e)]


@pytest.mark.parametrize("update", ["after", "during", "hebbian"])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("kind", ["dense", "kernels"])
def test_pepitas_difference_loses_its_mean_over_units_before_it_meets_the_input(
    kind: str, dropout: float, update: str
) -> None:
    """dW = (d - mean d) h'^T, the bias's d - mean d; over channels at each position; the output layer learns as ever."""
    model = (dense if kind == "dense" else kernels)(dropout=dropout, bias=True)
    x, y = batch(kind)
    found, noise, rule = written(model, x, y, center="units", update=update)
    plain, *_ = written(model, x, y, update=update)
    layers = [(n, m) for n, m in model.named_children() if isinstance(m, (nn.Linear, nn.Conv2d))]
    with torch.no_grad():
        pairs = twice(model, x, y, next(iter(rule.feedback().values())), noise)
    for (name, layer), (pre, post) in zip(layers[:-1], pairs, strict=False):
        post = centred_by_hand(post)
        if isinstance(layer, nn.Conv2d):
            wanted, bias = loop(layer, post, pre), post.mean((0, 2, 3))
        else:
            wanted, bias = sum(torch.outer(a, b) for a, b in zip(post, pre, strict=True)) / len(x), post.mean(0)
        torch.testing.assert_close(found[f"{name}.weight"], wanted, **EXACT)
        torch.testing.assert_close(found[f"{name}.bias"], bias, **EXACT)
        assert not torch.allclose(found[f"{name}.weight"], plain[f"{name}.weight"], rtol=0.01)
    for part in ("weight", "bias"):
        torch.testing.assert_close(found[f"{layers[-1][0]}.{part}"], plain[f"{layers[-1][0]}.{part}"], **EXACT)
    pure, *_ = rule.gradients({n: p.detach() for n, p in model.named_parameters()}, x, y, noise=noise)
    for name, gradient in found.items():
        torch.testing.assert_close(pure[name], gradient, **EXACT)


def test_the_released_code_masks_before_the_mean_is_taken() -> None:
    model, (x, y) = dense(dropout=0.4), batch("dense")
    found, noise, rule = written(model, x, y, center="units", variant="released")
    with torch.no_grad():
        _, (pre, post), _ = twice(model, x, y, next(iter(rule.feedback().values())), noise)
    masked = centred_by_hand(post * noise["dropout1"] / 0.6)
    torch.testing.assert_close(found["4.weight"], masked.T @ pre / len(x), **EXACT)


NORMALISED = {
    "torch": lambda: nn.LayerNorm(9, elementwise_affine=False),
    "ours": enn.Normalise,
    "root mean square": lambda: nn.RMSNorm(9, elementwise_affine=False),
}


@pytest.mark.parametrize("kind", list(NORMALISED))
def test_layer_normalisation_without_affine_map_stands_before_the_activation(kind: str) -> None:
    """The units are relu(LN(W h)): both passes normalise, and their difference teaches."""
    torch.manual_seed(6)
    model = nn.Sequential(
        nn.Linear(12, 9), NORMALISED[kind](), nn.ReLU(), nn.Linear(9, 7), nn.ReLU(), nn.Linear(7, 4)
    ).double()
    x, y = batch("dense")
    found, noise, rule = written(model, x, y)
    expected = oracle(model, x, y, next(iter(rule.feedback().values())), noise)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, **EXACT)
    assert [part.name for part in rule.links[0].after] == ["1", "2"]


def test_images_are_normalised_over_channels() -> None:
    torch.manual_seed(7)
    norm = enn.Normalise(dim=-3)
    head = (nn.MaxPool2d(2), nn.Flatten(), nn.Linear(5 * 81, 4))
    model = nn.Sequential(nn.Conv2d(2, 5, 3), norm, nn.ReLU(), *head).double()
    x, y = batch("kernels", 3)
    found, noise, rule = written(model, x, y)
    expected = oracle(model, x, y, next(iter(rule.feedback().values())), noise)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, **EXACT)
