"""The errata's counterexamples: each runs the source's version beside ours and shows that they differ as stated.

A failure here means that docs/errata.md accuses somebody wrongly, or that we have taken the error over.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from equipoise import measure, rules
from equipoise.functional import draw
from nets import grads, mlp


def test_f1_sums_against_means() -> None:
    model, x, y = mlp(6, 7, 4).double(), torch.randn(20, 6, dtype=torch.float64), torch.arange(20) % 4
    rule = rules.make("dfa", model, example=x, hidden_scale=20.0)
    rule.backward(x, y)
    theirs = model[0].weight.grad.clone()
    model.zero_grad()
    rules.make("dfa", model, example=x).backward(x, y)
    h = torch.tanh(model[0](x))
    summed = model[2](h).softmax(-1) - F.one_hot(y, 4)
    wanted = ((summed @ rule.feedback()["2"].T) * (1 - h**2)).T @ x
    torch.testing.assert_close(theirs, wanted)
    torch.testing.assert_close(20 * model[0].weight.grad, wanted)


def test_f2_feedback_equal_to_the_next_layer() -> None:
    seed, shape = 1, (8, 8)
    stream = lambda layer: torch.Generator().manual_seed(seed + layer)  # noqa: E731
    forward = [draw(shape, law="orthogonal", fan_in=8, generator=stream(layer)) for layer in range(3)]
    theirs = [draw(shape, law="orthogonal", fan_in=8, generator=stream(layer + 1)) for layer in range(2)]
    assert all(torch.equal(b, w) for b, w in zip(theirs, forward[1:], strict=True))
    torch.manual_seed(seed)
    model = nn.Sequential(*(nn.Linear(8, 8) for _ in range(3)))
    for layer in model:
        nn.init.orthogonal_(layer.weight)
    ours = rules.make("fa", model, example=torch.randn(2, 8), law="orthogonal", seed=seed).feedback().values()
    for b in ours:
        for layer in model:
            cosine = F.cosine_similarity(b.flatten(), layer.weight.flatten(), dim=0)
            assert abs(cosine.item()) < 0.5


def test_f3_a_zero_update_is_not_aligned() -> None:
    zero, gradient = torch.zeros(5), torch.randn(5)
    cosine = zero @ gradient / (zero.norm() * gradient.norm())
    theirs = torch.nan_to_num(torch.rad2deg(torch.acos(cosine)))
    assert theirs.item() == 0
    assert math.isnan(measure.angle(zero, gradient))
    model, x, y = mlp(6, 7, 4), torch.randn(5, 6), torch.arange(5) % 4
    found = measure.alignment(rules.make("shallow", model, example=x), x, y)
    assert math.isnan(found["0"])
    assert math.isnan(found.hidden)
    assert found["2"] == pytest.approx(0, abs=1e-4)


def test_f4_the_last_batch_may_be_smaller() -> None:
    model = mlp(6, 7, 4)
    rule = rules.make("dfa", model, example=torch.randn(10, 6))
    buffer = torch.zeros(10, 4)
    with pytest.raises(RuntimeError):
        buffer.copy_(torch.randn(3, 4))
    rule.backward(torch.randn(3, 6), torch.tensor([0, 1, 2]))
    assert all(g is not None and g.isfinite().all() for g in grads(model).values())


def test_f5_convolutional_feedback_shrinks_with_the_image() -> None:
    bounds = []
    for size in (8, 16):
        model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * size * size, 10))
        (b,) = rules.make("dfa", model, example=torch.randn(2, 1, size, size)).feedback().values()
        bounds.append(b.abs().max().item())
        assert b.abs().max() <= (6 / (4 * size * size)) ** 0.5
    assert bounds[0] / bounds[1] == pytest.approx(2, rel=0.05)


def test_f6_the_sign_of_a_projected_target() -> None:
    model, x, y = mlp(6, 7, 4).double(), torch.randn(20, 6, dtype=torch.float64), torch.arange(20) % 4
    rule = rules.make("drtp", model, example=x, hidden_scale=20.0)
    rule.backward(x, y)
    found = grads(model)
    # Their hook puts + t B, summed over the batch, where the loss's derivative stood; the readout keeps its own.
    h = torch.tanh(model[0](x))
    replaced = F.one_hot(y, 4).double() @ rule.feedback()["2"].T
    torch.testing.assert_close(found["0.weight"], (replaced * (1 - h**2)).T @ x)
    torch.testing.assert_close(found["2.weight"], ((model[2](h).softmax(-1) - F.one_hot(y, 4)) / 20).T @ h)
    rule.load_state_dict({name: -b for name, b in rule.state_dict().items()})
    model.zero_grad()
    rule.backward(x, y)
    turned = grads(model)
    assert torch.equal(turned["0.weight"], -found["0.weight"])
    assert torch.equal(turned["2.weight"], found["2.weight"])
    b = (
        draw((400, 50), law="kaiming_uniform", fan_in=400, generator=torch.Generator().manual_seed(0))
        .flatten()
        .sort()[0]
    )
    torch.testing.assert_close(b, -b.flip(0), rtol=0, atol=0.05 * float(b.max()))


def test_every_erratum_names_a_test_that_exists(root: Path) -> None:
    named = re.findall(r"test_errata\.py::(test_\w+)", (root / "docs" / "errata.md").read_text())
    assert named
    for prefix in named:
        assert any(name.startswith(f"{prefix}_") for name in globals()), prefix
