"""Networks that can be run backwards: a failure here hides a layer of another size than the paper's, weights that are
not orthogonal, a lean twin that starts elsewhere, or angles that are not those of the network that was asked for.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from equipoise import measure, models, rules
from equipoise.errors import InputError
from equipoise.nn import InvertibleConv2d, InvertibleLinear

# Of the scaling paper's programs: channels that a layer sees, its kernel and stride, its maps at 224 x 224, all channels.
IMAGENET = [
    (3, 9, 4, 56, 24, 24),
    (24, 3, 2, 28, 24, 216),
    (24, 5, 2, 14, 48, 600),
    (48, 3, 2, 7, 48, 432),
    (48, 3, 1, 7, 96, 432),
    (96, 3, 2, 4, 96, 864),
    (96, 3, 1, 4, 192, 864),
]


def made(text: str, seed: int = 0) -> nn.Sequential:
    model = models.make(text, seed=seed)
    assert isinstance(model, nn.Sequential)
    return model


def weights(model: nn.Module) -> list[tuple[int, ...]]:
    return [tuple(p.shape) for p in model.parameters() if p.ndim > 1]


@pytest.mark.slow
def test_the_dense_networks_are_the_papers() -> None:
    square = (1024, 1024)
    for hidden in (3, 6):
        sizes = "-".join(["3072", *["1024"] * hidden, "10"])
        assert weights(made(f"invertible:{sizes}")) == [(1024, 3072), *[square] * hidden]
        assert weights(made(f"invertible:{sizes},auxiliary=no")) == [
            (1024, 3072), *[square] * (hidden - 1), (10, 1024),
        ]  # fmt: skip
    assert weights(made("invertible:")) == weights(made("invertible:3072-1024-1024-1024-10"))


def test_layers_keep_what_the_next_one_does_not_see() -> None:
    assert weights(made("invertible:78-78-50-20-10")) == [(78, 78), (78, 78), (50, 50), (20, 20)]


@pytest.mark.slow
def test_the_imagenet_network_is_the_papers() -> None:
    model = made("gait-imagenet:")
    x, found = torch.zeros(1, 3, 224, 224), []
    for layer in model:
        before, x = x, layer(x)
        if isinstance(layer, InvertibleConv2d):
            (kernel, _), (stride, _) = layer.kernel_size, layer.stride
            found.append((before.shape[1], kernel, stride, x.shape[2], x.shape[1], len(layer.weight)))
    assert found == IMAGENET
    readout = model[-1]
    assert isinstance(readout, InvertibleLinear)
    assert (tuple(readout.weight.shape), x.shape) == ((3072, 3072), (1, 1000))
    lean = made("gait-imagenet:3x224x224-1000,auxiliary=no")
    assert weights(lean) == [(used, c, k, k) for c, k, _, _, used, _ in IMAGENET] + [(1000, 3072)]


@pytest.mark.parametrize("text", ["invertible:50-30-30-20-5", "gait-imagenet:1x17x12-6,width=0.25"])
def test_a_lean_twin_computes_the_same_sizes_from_the_same_weights(text: str) -> None:
    x = torch.rand(2, 1, 17, 12) if "x" in text else torch.rand(2, 50)
    whole, lean = (made(text + more, seed=3) for more in ("", ",auxiliary=no"))
    assert whole(x).shape == lean(x).shape
    pairs = [p for p in zip(whole.parameters(), lean.parameters(), strict=True) if p[0].shape == p[1].shape]
    assert len(pairs) > 1
    assert all(torch.equal(*pair) for pair in pairs)
    assert not torch.equal(made(text, seed=4).get_parameter(next(iter(dict(whole.named_parameters())))), pairs[0][0])
    for model in (whole, lean):
        for w in (p.detach().double().flatten(1) for p in model.parameters() if p.ndim > 1):
            gram = w @ w.T if len(w) <= w.shape[1] else w.T @ w
            assert torch.allclose(gram, torch.eye(len(gram), dtype=gram.dtype), atol=1e-5)
        assert not any(p.any() for p in model.parameters() if p.ndim == 1)


def test_the_lean_convolutions_pad_as_the_square_ones_do() -> None:
    """With the used channels' kernels copied, the two networks are one function."""
    text = "gait-imagenet:2x23x16-5,width=0.2"
    whole, lean = made(text, seed=1), made(f"{text},auxiliary=no", seed=2)
    for (_, mine), (_, theirs) in zip(lean.named_parameters(), whole.named_parameters(), strict=True):
        mine.data = theirs.data[: len(mine)].clone()
    x = torch.rand(3, 2, 23, 16)
    assert torch.allclose(whole(x), lean(x), atol=1e-5)


@pytest.mark.parametrize("text", ["invertible:20-16-16-16-4", "gait-imagenet:2x9x9-4,width=0.1"])
def test_gait_is_backpropagation_there_and_is_not_with_spread(text: str) -> None:
    x, y = (torch.rand(5, 2, 9, 9) if "x" in text else torch.rand(5, 20)), torch.tensor([0, 1, 2, 3, 0])
    angles = {}
    for spread in ("", ",spread=0.1"):
        rule: Any = rules.make("gait", made(text + spread), example=x[:2])
        angles[spread] = measure.alignment(rule, x, y)
    assert max(angles[""].values()) < 0.01
    assert 0.5 < angles[",spread=0.1"].hidden < 45
    found = measure.measures["orthogonality"].function(rule, x, y, None)
    layers = [n for n, m in rule.model.named_modules() if getattr(m, "auxiliary", None) is not None and not m.first]
    assert list(found) == ["orthogonality", *(f"orthogonality/{layer}" for layer in layers)]
    assert found["orthogonality"] == pytest.approx(math.fsum(found[f"orthogonality/{n}"] for n in layers) / len(layers))


def test_orthogonality_of_a_matrix_that_is_stretched_in_one_direction() -> None:
    model = made("invertible:4-3-3-2")
    model.get_parameter("3.weight").data[:] = torch.diag(torch.tensor([1.0, 1.0, 1.5]))
    rule: Any = rules.make("bp", model, example=torch.rand(2, 4))
    found = measure.orthogonality(rule)
    assert found["3"] == pytest.approx(1.25)
    assert found["5"] == pytest.approx(0, abs=1e-6)
    assert "1" not in found, "the first layer is not square"
    square = rules.make("bp", made("invertible:4-4-3-2"), example=torch.rand(2, 4))
    assert list(measure.orthogonality(square)) == ["3", "5"], "nor inverted where it is"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("invertible:9-5-6-4", "only the first layer may widen, and one does to 6"),
        ("invertible:9", "needs an input and an output width"),
        ("invertible:9-8-4,slope=0", "a slope is in (0, 1]"),
        ("invertible:9-8-4,auxiliary=maybe", "'maybe' is no value of auxiliary"),
        ("invertible:9-8-4,width=2", "options are key=value, of auxiliary, slope, spread, activation"),
        ("invertible:9-8-4,spread=0.1,auxiliary=no", "auxiliary=no does without"),
        ("gait-imagenet:3x8x8-1000,width=0.5", "have no room for 1000 classes; raise width"),
        ("gait-imagenet:3x8x8", "does not read as gait-imagenet:3x224x224-1000"),
    ],
)
def test_what_cannot_be_is_one_line(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        models.make(text)
    assert message in str(caught.value)
