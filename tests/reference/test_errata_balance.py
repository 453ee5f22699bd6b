"""The errata of the synaptic balance paper that change a result: the paper's version beside ours.

A failure here means that docs/errata.md accuses somebody wrongly, or that we have taken the error over.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise import balance, data
from equipoise.nn import BiPU


def chain(*widths: int, bias: bool = False, seed: int = 0) -> nn.Sequential:
    """A network of linear layers with ReLU between them, in float64."""
    torch.manual_seed(seed)
    layers = [nn.Linear(n, m, bias=bias) for n, m in pairwise(widths)]
    parts = [part for layer in layers for part in (layer, nn.ReLU())]
    return nn.Sequential(*parts[:-1]).double()


def costs(model: nn.Module) -> list[float]:
    """The squared norm of every parameter."""
    return [float(p.detach().square().sum()) for p in model.parameters()]


def lowest(f: Callable[[np.ndarray], np.ndarray]) -> list[float]:
    """The scales at which ``f`` has a local minimum, on a fine grid of their logarithms."""
    scales = np.exp(np.linspace(-3, 3, 600_001))
    values = f(scales)
    inside = (values[1:-1] < values[:-2]) & (values[1:-1] < values[2:])
    return [float(s) for s in scales[1:-1][inside]]


def test_b1_the_tied_closed_form_lacks_a_square_root() -> None:
    model = chain(6, 6, 6, 6, 6)
    with torch.no_grad():
        for p, size in zip(model.parameters(), (1 / 8, 1.0, 1.0, 1.0), strict=True):
            p.mul_(math.sqrt(size) / p.norm())
    a = np.array(costs(model))
    g = a.prod() ** (1 / 4)
    printed, right = g / a, np.sqrt(g / a)
    assert printed.prod() == pytest.approx(1)
    assert right.prod() == pytest.approx(1)
    # Both leave the function alone, but the printed one ends with a larger norm than it began with.
    assert (printed**2 * a).sum() > 1.2 * a.sum()
    assert (right**2 * a) == pytest.approx(np.full(4, g))
    assert 4 * g < a.sum()
    x = torch.randn(5, 6, dtype=torch.float64)
    before = model(x)
    balance.balance_(model, method="tied")
    torch.testing.assert_close(model(x), before)
    assert costs(model) == pytest.approx([g] * 4)


@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.AvgPool2d(2), nn.AdaptiveMaxPool2d(3), nn.AdaptiveAvgPool2d(2)])
def test_b2_pooling_is_positively_homogeneous(pool: nn.Module) -> None:
    x = torch.randn(3, 4, 8, 8, dtype=torch.float64)
    scale = torch.tensor([0.01, 0.5, 2.0, 300.0], dtype=torch.float64)[:, None, None]
    torch.testing.assert_close(pool(scale * x), scale * pool(x), rtol=1e-13, atol=1e-13)
    assert balance.is_homogeneous(lambda v: pool(v[:, None, None] * x[0, :1])) == 1
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), pool, nn.Flatten(), nn.LazyLinear(3)).double()
    x = torch.randn(3, 2, 10, 10, dtype=torch.float64)
    before = model(x)
    report = balance.balance_(model, example=x)
    torch.testing.assert_close(model(x), before, rtol=1e-12, atol=1e-12)
    assert report.cost_after < report.cost_before


def per_channel(conv: nn.Conv2d, readout: nn.Linear, of: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Sums of ``of(weight, gradient)`` over what enters each channel, and over what leaves it."""

    def at(p: Tensor) -> Tensor:
        return of(p.detach(), torch.zeros_like(p) if p.grad is None else p.grad)

    channels = conv.out_channels
    into = at(conv.weight).flatten(1).sum(1) + at(conv.bias)
    return into, at(readout.weight).reshape(readout.out_features, channels, -1).sum((0, 2))


def test_b3_channels_of_a_convolutional_network_do_balance() -> None:
    torch.manual_seed(0)
    conv, readout, decay = nn.Conv2d(1, 5, 3), nn.Linear(5 * 9, 10), 0.02
    model = nn.Sequential(conv, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), readout).double()
    x, y = data.load("digits").train.batch(torch.arange(150))
    x = x.double()

    def deficit() -> Tensor:
        into, out = per_channel(conv, readout, lambda w, _: w**2)
        return (into - out).abs() / (into + out)

    # The error's gradient obeys the balance equation at any weights, so where E + R is stationary R alone must.
    F.cross_entropy(model(x), y).backward()
    into, out = per_channel(conv, readout, lambda w, g: w * g)
    torch.testing.assert_close(into, out, rtol=1e-10, atol=1e-14)
    assert into.abs().max() > 1e-3
    assert deficit().max() > 0.3
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=400, history_size=30, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y) + decay * sum(p.square().sum() for p in model.parameters()) / 2
        loss.backward()
        return loss

    optimizer.step(closure)
    assert deficit().max() < 1e-3
    found = balance.deficit(model, example=x)
    assert found.max_relative == pytest.approx(deficit().max().item(), rel=1e-6, abs=1e-12)


def wavy(x: np.ndarray) -> np.ndarray:
    """A regulariser as the paper asks for: from 0, strictly growing, without bound."""
    return x + 0.9 * np.sin(x)


def test_b4_a_growing_regulariser_has_several_best_scales() -> None:
    cost = lambda s: wavy(2 * s) + wavy(2 / s)  # noqa: E731
    assert (np.diff(wavy(np.linspace(0, 50, 10_001))) > 0).all()
    found = lowest(cost)
    assert found == pytest.approx([0.506, 1.975], abs=1e-3)
    assert cost(found[0]) == pytest.approx(cost(found[1]), rel=1e-9)
    assert cost(found[0]) < cost(1.0) - 0.5
    # Without *strict* growth not even the scale of theorem D.2, where both sides cost the same, is one.
    flat = lambda x: np.minimum(x, 1) + np.maximum(x - 3, 0)  # noqa: E731
    assert all(flat(2 * s) == flat(2 / s) == 1 for s in (0.7, 1.0, 1.4))
    # Of mixtures of Lp, which are what the solvers take, there is one: x g'(x) grows.
    mixture = balance.Mixture([(1.0, 2.0), (0.5, 1.0)])
    w, v = (torch.rand(6, generator=torch.Generator().manual_seed(s), dtype=torch.float64) for s in (1, 2))
    square, size = (lambda t: float((t**2).sum())), (lambda t: float(t.sum()))
    (best,) = lowest(lambda s: s**2 * square(w) + square(v) / s**2 + 0.5 * (s * size(w) + size(v) / s))
    assert float(balance.optimal_scale(w, v, mixture)) == pytest.approx(best, rel=1e-4)


def test_b5_the_balanced_weights_are_not_unique_for_every_regulariser() -> None:
    # One hidden unit with weights 2 and 2: both best scales of B4 end in weights that no balancing moves any more.
    for scale in lowest(lambda s: wavy(2 * s) + wavy(2 / s)):
        w, v = 2 * scale, 2 / scale
        again = lowest(lambda s, w=w, v=v: wavy(w * s) + wavy(v / s))
        assert any(s == pytest.approx(1, abs=1e-4) for s in again)
        assert w * v == pytest.approx(4)
    # For Lp every order ends in the same weights.
    ends = []
    for method, seed in (("newton", 0), ("cyclic", 0), ("stochastic", 1), ("stochastic", 2)):
        model = chain(3, 5, 4, 2, bias=True)
        balance.balance_(model, p=1, method=method, seed=seed, tol=1e-11)
        ends.append([p.detach() for p in model.parameters()])
    for other in ends[1:]:
        torch.testing.assert_close(other, ends[0], rtol=1e-8, atol=1e-10)


def test_b6_paths_through_every_unit_are_too_few() -> None:
    layers = ("x",), ("a", "b"), ("c", "d"), ("y",)
    edges = [pair for low, high in pairwise(layers) for pair in product(low, high)]
    hidden = "abcd"

    def rows(paths: list[str]) -> np.ndarray:
        return np.array([[float(j + i in path) for j, i in edges] for path in paths])

    every = ["x" + u + v + "y" for u in "ab" for v in "cd"]
    few = ["xacy", "xbdy"]
    assert set("".join(few)) >= set(hidden)
    needed = len(edges) - len(hidden)
    assert (len(edges), needed) == (8, 4)
    assert np.linalg.matrix_rank(rows(every)) == needed
    assert np.linalg.matrix_rank(rows(few)) == 2
    # So there are numbers that obey the few and belong to no scales, and among them the minimum is another one.
    made = np.array([[float(u == i) - float(u == j) for u in hidden] for j, i in edges])
    odd = np.array([float(edge == ("a", "d")) for edge in edges])
    assert not (rows(few) @ odd).any()
    assert np.linalg.matrix_rank(np.column_stack([made, odd])) == 5 > np.linalg.matrix_rank(made)
    assert (rows(every) @ odd).any()
    # A bias comes from a visible unit of its own: without the paths from there, one hidden unit has too few as well.
    paths = np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])  # edges x-h, bias-h, h-y
    assert np.linalg.matrix_rank(paths[:1]) < 3 - 1 == np.linalg.matrix_rank(paths)
    assert balance.graph(chain(1, 2, 2, 1)).scalable == len(hidden)


def test_b7_the_sum_along_a_path_has_the_other_sign() -> None:
    log = {"i": 0.3, "k": -1.1, "j": 2.0}
    along = sum(log[to] - log[start] for start, to in (("i", "k"), ("k", "j")))  # L = log(into / out of), section 5
    assert along == pytest.approx(log["j"] - log["i"])
    assert along == pytest.approx(-(log["i"] - log["j"]))
    model, scale = chain(2, 3, 2, seed=3), 1.7
    first, second = (p.detach().clone() for p in model.parameters())
    balance.scale_unit_(model, "0", 1, scale)
    torch.testing.assert_close(model[0].weight.detach()[1], first[1] * scale)
    torch.testing.assert_close(model[2].weight.detach()[:, 1], second[:, 1] / scale)


def test_b8_a_logarithm_is_missing_where_two_paths_meet() -> None:
    log = {"x": 0.0, "a": 0.4, "b": -0.7, "i": 1.3}
    for path in ("xai", "xbi"):
        summed = sum(log[to] - log[start] for start, to in pairwise(path))
        assert summed == pytest.approx(log["i"])
        assert summed != pytest.approx(math.exp(log["i"]))


def test_b9_drops_that_add_up_do_not_make_scales_converge() -> None:
    n = np.arange(1, 200_001)
    steps = 1 / n  # log lambda at the n-th visit of a unit with IN = 1 and OUT = exp(4 log lambda), p = 2
    drops = (1 - np.exp(2 * steps)) ** 2  # eq. H.3
    assert drops[1000:].sum() < 0.01 * drops.sum()
    assert steps[1000:].sum() > 5
    assert np.cumsum(steps)[-1] - np.cumsum(steps)[len(n) // 10] == pytest.approx(math.log(10), abs=1e-3)


def test_b10_outgoing_weights_are_divided_by_the_power() -> None:
    c, scale = 2.0, 1.5
    x, w, v = 0.8, 1.2, -0.7
    out = lambda w, v: v * max(w * x, 0.0) ** c  # noqa: E731
    printed = out(w * scale, v / (1 / scale**c))
    assert printed / out(w, v) == pytest.approx(scale ** (2 * c))
    assert out(w * scale, v / scale**c) == pytest.approx(out(w, v))
    model, inputs = chain(3, 4, 2, bias=True), torch.randn(5, 3, dtype=torch.float64)
    model[1] = BiPU(c)
    before = model(inputs)
    balance.balance_(model)
    torch.testing.assert_close(model(inputs), before)
    into = model[0].weight.square().sum(1) + model[0].bias.square()
    torch.testing.assert_close(into, c * model[2].weight.square().sum(0))  # eq. E.7


def test_every_erratum_names_a_test_that_exists(root: Path) -> None:
    folder = Path(__file__).parent
    text = (root / "docs" / "errata.md").read_text()
    named = re.findall(r"(test_errata_balance\w*\.py)::(test_\w+)", text)
    assert {f"test_b{k}" for k in range(1, 21)} <= {prefix for _, prefix in named}
    for file, prefix in named:
        assert f"def {prefix}_" in (folder / file).read_text(), prefix
