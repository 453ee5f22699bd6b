"""The errata of the PEPITA paper and its code: each test runs the source's version, in our own words, beside ours.

A failure here means that docs/errata.md accuses somebody wrongly, or that we have taken the error over.
"""

from __future__ import annotations

import math
import re
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise import data, models, rules
from equipoise.errors import InputError
from equipoise.papers import load_all
from equipoise.train import experiments
from equipoise.train.optimisers import build_optimizer, optimizer_names

KEEP, CLASSES = 0.6, 4


def dense(dropout: float = 0.0) -> nn.Sequential:
    torch.manual_seed(1)
    hidden = [nn.Linear(12, 9, bias=False), nn.ReLU(), *([nn.Dropout(dropout)] if dropout else [])]
    return nn.Sequential(*hidden, nn.Linear(9, CLASSES, bias=False)).double()


def kernels(*hidden: int) -> nn.Sequential:
    """A convolution with pooling, dense hidden layers of these widths, a readout."""
    torch.manual_seed(2)
    layers: list[nn.Module] = [nn.Conv2d(2, 5, 3, bias=False), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    for n, m in pairwise((45, *hidden)):
        layers += [nn.Linear(n, m, bias=False), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear((45, *hidden)[-1], CLASSES, bias=False)).double()


def batch(*shape: int) -> tuple[Tensor, Tensor]:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return x, torch.arange(shape[0]) % CLASSES


def ours(model: nn.Module, x: Tensor, y: Tensor, **options: object) -> tuple[list[Tensor], Tensor, Tensor]:
    """What the rule writes, layer by layer; F; and the dropout mask that it drew."""
    rule = rules.make("pepita", model, example=x[:2], **{"scale": 0.5, **options})
    model.zero_grad()
    rule.backward(x, y, generator=torch.Generator().manual_seed(7))
    mask = rule.draw(x, torch.Generator().manual_seed(7)).get("dropout0", torch.ones(()))
    return [p.grad.clone() for p in model.parameters()], next(iter(rule.feedback().values())), mask.double()


def cosine(a: Tensor, b: Tensor) -> float:
    return F.cosine_similarity(a.flatten(), b.flatten(), dim=0).item()


def theirs_dense(
    model: nn.Sequential, x: Tensor, y: Tensor, f: Tensor, mask: Tensor, keep: float
) -> tuple[list[Tensor], list[Tensor]]:
    """The dense script: the hidden difference is masked once more, and the output learns from either error."""
    first, last = (p.detach() for p in model.parameters())
    t, mask = F.one_hot(y, CLASSES).double(), mask / keep
    h = (x @ first.T).relu() * mask
    e = (h @ last.T).softmax(1) - t
    pushed = x + e @ f.T
    h2 = (pushed @ first.T).relu() * mask
    e2 = (h2 @ last.T).softmax(1) - t
    hidden = [((h - h2) * again).T @ pushed / len(x) for again in (torch.ones(()), mask)]
    return hidden, [error.T @ h2 / len(x) for error in (e, e2)]


def theirs_kernels(model: nn.Sequential, x: Tensor, y: Tensor, f: Tensor) -> tuple[Tensor, Tensor]:
    """The convolutional script's kernels, patch by patch (a mean over samples and positions), and its readout."""
    with torch.no_grad():
        e = model(x).softmax(1) - F.one_hot(y, CLASSES)
        pushed = x + (e @ f.T).reshape(x.shape)
        kernel = model[0]
        difference = (kernel(x).relu() - kernel(pushed).relu()).flatten(2)
        patches = F.unfold(pushed, kernel.kernel_size)
        mean = torch.einsum("bop,bkp->ok", difference, patches) / (len(x) * difference.shape[2])
        return mean.reshape(kernel.weight.shape), e.T @ model[:-1](pushed) / len(x)


def test_p1_which_error_the_output_learns_from() -> None:
    model, (x, y) = dense(), batch(6, 12)
    released, f, mask = ours(model, x, y, variant="released")
    _, (standard, modulated) = theirs_dense(model, x, y, f, mask, 1.0)
    assert not torch.allclose(standard, modulated, rtol=1e-2)
    torch.testing.assert_close(released[-1], modulated)
    torch.testing.assert_close(ours(model, x, y)[0][-1], standard)
    torch.testing.assert_close(ours(model, x, y, output_error="modulated")[0][-1], modulated)
    model, (x, y) = kernels(), batch(6, 2, 8, 8)
    released, f, _ = ours(model, x, y, variant="released")
    torch.testing.assert_close(released[-1], theirs_kernels(model, x, y, f)[1])


def test_p2_the_sign_of_the_kernels() -> None:
    model, (x, y) = kernels(), batch(6, 2, 8, 8)
    mean = theirs_kernels(model, x, y, ours(model, x, y)[1])[0]
    torch.testing.assert_close(ours(model, x, y)[0][0], mean)
    # W + eta G in the script: with the batch size taken out (P3), the opposite of the paper's.
    torch.testing.assert_close(ours(model, x, y, variant="released")[0][0] * len(x), -mean)
    # To first order in F this is -F ...
    for scale in (1e-2, 1e-4):
        plus, minus = (ours(model, x, y, scale=scale, sign=s)[0][0] for s in (1, -1))
        assert (plus + minus).norm() < 10 * scale * plus.norm()
    # ... but for hidden dense layers behind them, which the script does not turn, and -F does.
    model = kernels(7)
    paper, released, turned = (
        ours(model, x, y, scale=1e-4, **o)[0] for o in ({}, {"variant": "released"}, {"sign": -1})
    )
    assert [cosine(a, b) for a, b in zip(paper[:2], released, strict=False)] == pytest.approx([-1, 1])
    assert [cosine(a, b) for a, b in zip(paper[:2], turned, strict=False)] == pytest.approx([-1, -1], abs=1e-3)


def test_p3_the_kernels_are_divided_by_the_batch_size_twice() -> None:
    model = kernels()
    for n in (4, 12):
        x, y = batch(n, 2, 8, 8)
        paper, f, _ = ours(model, x, y)
        mean = theirs_kernels(model, x, y, f)[0]
        torch.testing.assert_close(ours(model, x, y, variant="released")[0][0], -mean / n)
        torch.testing.assert_close(paper[0], mean)


def test_p4_the_dropout_mask_counts_twice() -> None:
    model, (x, y) = dense(1 - KEEP), batch(6, 12)
    paper, f, mask = ours(model, x, y)
    (once, twice), _ = theirs_dense(model, x, y, f, mask, KEEP)
    torch.testing.assert_close(paper[0], once)
    torch.testing.assert_close(ours(model, x, y, variant="released")[0][0], twice)
    torch.testing.assert_close(twice, once / KEEP)


def test_p5_samples_that_are_left_over() -> None:
    model, (x, y), size = dense(), batch(10, 12), 4
    _, f, _ = ours(model, x, y)
    rule = rules.make("pepita", model, example=x)
    rule.load_state_dict({"0": f})
    weights = {n: p.detach() for n, p in model.named_parameters()}
    single = [rule.gradients(weights, x[k : k + 1], y[k : k + 1])[0]["2.weight"] for k in range(10)]
    # Samples are summed up until there are four of them; an epoch's end does not empty the sum.
    updates, total, count = [], torch.zeros_like(single[0]), 0
    for k in [*range(10), *range(10)]:
        total, count = total + single[k], count + 1
        if count == size:
            updates.append(total / size)
            total, count = torch.zeros_like(total), 0
    of = lambda *index: rule.gradients(weights, x[list(index)], y[list(index)])[0]["2.weight"]  # noqa: E731
    torch.testing.assert_close(updates[1], of(4, 5, 6, 7))
    torch.testing.assert_close(updates[2], of(8, 9, 0, 1))
    # The torch scripts divide the short batch by the full size; ours is a mean over the samples that are there.
    torch.testing.assert_close((single[8] + single[9]) / size, of(8, 9) / 2)
    torch.testing.assert_close((single[8] + single[9]) / 2, of(8, 9))


def test_p6_one_permutation_for_ever() -> None:
    fixed = torch.randperm(200, generator=torch.Generator().manual_seed(42))
    theirs = {seed: [fixed, fixed[fixed], fixed[fixed][fixed]] for seed in (0, 1)}
    assert all(torch.equal(a, b) for a, b in zip(*theirs.values(), strict=True))
    ours = [tuple(data.order(200, seed=s, epoch=e).tolist()) for s in (0, 1) for e in (0, 1, 2)]
    assert len(set(ours)) == 6
    again = torch.tensor(ours[0])[torch.tensor(ours[0])]
    assert again.tolist() != list(ours[1])
    first, second = (next(models.make("mlp:12-9-4", seed=seed).parameters()) for seed in (0, 1))
    assert not torch.equal(first, second)


def test_p7_the_convolutional_command() -> None:
    pooled = F.max_pool2d(torch.zeros(2, 32, 24, 24), 2).flatten(1)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        nn.Linear(32 * 24 * 24, 10)(pooled)
    for spec, shape, features in (("conv:1x28x28-10", (1, 28, 28), 4608), ("conv:3x32x32-10", (3, 32, 32), 6272)):
        model = models.make(f"{spec},bias=no", seed=0)
        rule = rules.make("pepita", model, example=torch.rand(2, *shape))
        assert model[-1].in_features == features
        assert rule.backward(torch.rand(3, *shape), torch.arange(3)).output.shape == (3, 10)
    load_all()
    names = [name for name in experiments if name.startswith("pepita/")]
    assert names
    assert all("smoke" in experiments[name].presets for name in names)  # tests/papers/test_smoke.py runs them all


@pytest.mark.parametrize("name", optimizer_names())
def test_p8_an_optimiser_that_does_nothing(name: str) -> None:
    def theirs(chosen: str, weight: Tensor, gradient: Tensor) -> Tensor:
        assert chosen in ("sgd", "momentum", "nag", "rmsprop", "adam")
        return weight - 0.1 * gradient if chosen in ("sgd", "momentum") else weight

    weight = torch.ones(3)
    assert torch.equal(theirs("adam", weight, weight), weight)
    model, (x, y) = dense(), batch(6, 12)
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = build_optimizer(name, list(model.parameters()), lr=0.1, options={})
    rules.make("pepita", model, example=x).backward(x, y)
    optimizer.step()
    assert all(not torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))
    with pytest.raises(InputError, match="unknown optimizer"):
        build_optimizer("nag2", list(model.parameters()), lr=0.1, options={})


def test_p9_softmax_twice() -> None:
    scores, y = torch.tensor([[30.0] + 9 * [0.0]], requires_grad=True), torch.tensor([0])
    perfect = F.cross_entropy(scores.softmax(1), y).item()
    assert perfect == pytest.approx(math.log(math.e + 9) - 1)
    assert F.cross_entropy(scores, y).item() == pytest.approx(0, abs=1e-9)
    wrong = torch.tensor([1])
    (theirs,) = torch.autograd.grad(F.cross_entropy(scores.softmax(1), wrong), scores)
    (single,) = torch.autograd.grad(F.cross_entropy(scores, wrong), scores)
    assert theirs.norm() < 1e-6 < 1 < single.norm()
    (wider,) = torch.autograd.grad(F.cross_entropy((scores / 10).softmax(1), wrong), scores)
    (single,) = torch.autograd.grad(F.cross_entropy(scores / 10, wrong), scores)
    assert wider.norm() < 0.5 * single.norm()
    with pytest.raises(InputError, match=r"'3' \(Softmax\) follows the last weighted layer"):
        rules.make("pepita", nn.Sequential(*dense(), nn.Softmax(1)))


def test_every_erratum_names_a_test_that_exists(root: Path) -> None:
    folder = Path(__file__).parent
    named = re.findall(r"(test_errata_pepita\w*\.py)::(test_\w+)", (root / "docs" / "errata.md").read_text())
    assert named
    for file, prefix in named:
        assert f"def {prefix}_" in (folder / file).read_text(), prefix
