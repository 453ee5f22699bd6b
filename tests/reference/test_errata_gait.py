"""The errata of GAIT-prop, paper and programs: each test runs the source's version beside ours.

A failure here means that docs/errata.md accuses somebody wrongly, or that we have taken the error over.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise import measure, models, rules
from equipoise.functional.orthogonal import penalty
from equipoise.papers.gait.conditions import Scale, plain
from equipoise.rules.target import Gait

SHALLOW, DEEP = "invertible:20-16-16-16-4", "invertible:64-" + "48-" * 6 + "10"


def angles(
    text: str = SHALLOW, *, dtype: torch.dtype = torch.float64, samples: int = 32, **options: Any
) -> list[float]:
    """Degrees to backpropagation per layer, on orthogonal weights."""
    rule, x, y = made(text, dtype=dtype, samples=samples, **options)
    return list(measure.alignment(rule, x, y).values())


def made(
    text: str = SHALLOW, *, dtype: torch.dtype = torch.float64, samples: int = 32, **options: Any
) -> tuple[Any, Tensor, Tensor]:
    stream = torch.Generator().manual_seed(3)
    inputs, classes = (int(text.partition(":")[2].split("-")[k].split(",")[0]) for k in (0, -1))
    x = torch.rand(samples, inputs, generator=stream, dtype=dtype)
    y = torch.randint(classes, (samples,), generator=stream)
    rule = rules.make("gait", models.make(text, seed=1).to(dtype), example=x[:2], **options)
    assert isinstance(rule, Gait)
    return rule, x, y


def test_g1_the_square_does_not_fix_the_distance() -> None:
    away = torch.randn(5, 40, dtype=torch.float64) * torch.logspace(-3, 1, 5, dtype=torch.float64)[:, None]
    eta, ones = 1e-2, torch.ones_like(away)
    reached = {}
    for normaliser in ("literal", "rms"):
        rule, *_ = made(mode="perturbation", eta=eta, normaliser=normaliser)
        share, _ = rule._law(away, ones)
        reached[normaliser] = (share * away).square().mean(1).sqrt()
    assert torch.allclose(reached["rms"], torch.full((5,), eta, dtype=torch.float64))
    squared = eta / away.norm(dim=1) ** 2 * away.norm(dim=1)  # as eq. 5 is printed
    assert torch.allclose(reached["literal"] * 40**0.5, squared * 40**0.5, rtol=1e-9)
    assert float(reached["literal"].max() / reached["literal"].min()) > 1e3, (
        "the smaller an error, the further the target"
    )
    deep = [max(angles(DEEP, mode="perturbation", eta=1e-7, normaliser=n)) for n in ("literal", "rms")]
    assert deep[0] > 20 > 0.1 > deep[1]


def test_g2_images_read_back_in_another_order_are_scrambled() -> None:
    """Height, width, colour written; colour, height, width read, by a reshape alone."""
    picture = torch.zeros(8, 8, 3)
    picture[:, :4, 0] = 1  # red on the left
    theirs, right = picture.reshape(3, 8, 8), picture.permute(2, 0, 1)
    assert not right[1:].any()
    assert theirs[1:].any(), "a red picture has green and blue in it now"
    edges = [float((image[:, :, 1:] != image[:, :, :-1]).sum()) for image in (right, theirs)]
    assert edges[1] > 5 * edges[0], "one border in the picture, and many in what is read"


def test_g3_the_last_map_is_four_by_four() -> None:
    model, x = models.make("gait-imagenet:3x224x224-4,width=0.02"), torch.zeros(1, 3, 224, 224)
    assert isinstance(model, nn.Sequential)
    for layer in model[:-2]:
        x = layer(x)
    assert x.shape[2:] == (4, 4)
    targets = torch.zeros(5, 192 * 4 * 4)
    with pytest.raises(RuntimeError):
        targets.reshape(-1, 192, 3, 3)
    assert targets.reshape(-1, 192, 4, 4).shape[0] == 5


def test_g4_without_m_samples_are_weighted_anew() -> None:
    with_m, without = (angles(mode="perturbation", multiplier=m) for m in (True, False))
    assert max(with_m) < 0.01
    assert without[-1] == pytest.approx(0, abs=1e-6), "the output layer has m = 1"
    assert min(without[:-1]) > 0.5
    rule, x, y = made(mode="perturbation", multiplier=False)
    params = {n: p.detach() for n, p in rule.model.named_parameters()}
    one = [rule.gradients(params, x[k : k + 1], y[k : k + 1])[0]["1.weight"].norm() for k in range(8)]
    true = [rule.reference().gradients(params, x[k : k + 1], y[k : k + 1])[0]["1.weight"].norm() for k in range(8)]
    ratios = torch.stack(one) / torch.stack(true)
    assert float(ratios.max() / ratios.min()) > 1.2, "each sample counts by its own gammas"


def test_g5_the_comparison_changes_more_than_the_rule() -> None:
    bp, gp = (plain("shallow", name, 0, Scale()) for name in ("bp", "gp"))
    assert bp.model != gp.model
    assert (gp.options["upkeep"], bp.options.get("upkeep")) == ("penalty", None)
    control = plain("shallow", "bp-penalty", 0, Scale())
    assert (control.model, control.options["strength"]) == (gp.model, gp.options["strength"])
    rule, x, y = made(f"{SHALLOW},spread=0.1", inverse="transpose", upkeep="penalty", strength=100 / 256)
    params = {n: p.detach() for n, p in rule.model.named_parameters()}
    true = rule.reference().gradients(params, x, y)[0]["3.weight"]
    rule.backward(x, y)
    written = rule.model.get_parameter("3.weight").grad
    assert written is not None
    assert measure.angle(written, true) > 45, "what moves the weights is the penalty, whatever the rule"


def test_g6_a_cosine_above_one_becomes_perfect_alignment() -> None:
    u = torch.full((7,), 0.1, dtype=torch.float32)
    found = 0
    for k in range(200):
        u = torch.randn(50, generator=torch.Generator().manual_seed(k))
        v = u * (1 + 1e-4 * torch.randn(50, generator=torch.Generator().manual_seed(k + 999)))
        cosine = (u @ v) / (u.norm() * v.norm())
        theirs = torch.nan_to_num(torch.rad2deg(torch.acos(cosine)), nan=0.0)
        assert 1e-3 < measure.angle(u, v) < 0.1
        found += bool(cosine > 1) and theirs.item() == 0
    assert found > 0


def test_g7_a_perfectly_fitted_sample_divides_by_zero() -> None:
    a = torch.tensor([[800.0, 0, 0, 0]], dtype=torch.float64)
    distance = F.softmax(a, 1) - F.one_hot(torch.tensor([0]), 4)
    assert float(distance.norm()) == 0
    gamma = 1e-7 * 4**0.5 / distance.norm(dim=1)
    assert not (gamma * distance.T).isfinite().all(), "theirs"
    rule, x, _ = made(mode="perturbation")
    with torch.no_grad():
        rule.model.get_parameter("7.bias")[0] = 800
    found, *_ = rule.gradients({n: p.detach() for n, p in rule.model.named_parameters()}, x, torch.zeros(32).long())
    assert all(bool(g.isfinite().all()) for g in found.values())


def test_g8_precision_is_lost_in_a_difference_that_need_not_be_taken() -> None:
    normalised = angles(DEEP, mode="perturbation", dtype=torch.float32)
    vanilla = angles(DEEP, mode="perturbation", normalised=False)
    assert max(normalised[:-1]) > 30, "normalised targets in float32"
    assert max(vanilla[:3]) > 30, "vanilla targets in float64"
    assert max(angles(DEEP, dtype=torch.float32)) < 0.01


def test_g9_updates_that_lost_their_direction_are_also_far_too_large() -> None:
    rule, x, y = made(DEEP, mode="perturbation", normalised=False)
    params = {n: p.detach() for n, p in rule.model.named_parameters()}
    found, true = (one.gradients(params, x, y)[0] for one in (rule, rule.reference()))
    ratio = {n: float(found[n].norm() / true[n].norm()) for n in ("1.weight", "13.weight")}
    assert ratio["1.weight"] > 10
    assert ratio["13.weight"] == pytest.approx(1, abs=1e-6)


def test_g10_a_penalty_beside_a_sum_grows_as_the_batch_shrinks() -> None:
    """The last batch of 50,000 images in steps of 256 has 80, and lambda stays 100."""
    last = 50_000 % 256
    assert last == 80
    task = {n: torch.ones(n).sum() for n in (256, last)}  # the size of a summed gradient, one a sample
    assert float((100 / task[last]) / (100 / task[256])) == pytest.approx(3.2)
    ours = plain("shallow", "gp", 0, Scale()).options["strength"]
    assert ours == 100 / 256, "of a mean, whatever the batch holds"


def test_g11_the_distance_is_brought_to_eta_for_each_sample_not_for_a_batch() -> None:
    rule, *_ = made(mode="perturbation", eta=1e-3)
    away = torch.randn(6, 30, dtype=torch.float64) * torch.arange(1, 7, dtype=torch.float64)[:, None]
    share, gamma = rule._law(away, torch.ones_like(away))
    assert torch.allclose((share * away).norm(dim=1), torch.full((6,), 1e-3 * 30**0.5, dtype=torch.float64))
    batch = 1e-3 * away.numel() ** 0.5 / away.norm()
    assert float((gamma / batch - 1).abs().max()) > 0.5
    assert float((batch * away).norm(dim=1).max() / (batch * away).norm(dim=1).min()) > 3


def test_g12_columns_of_free_length_have_no_penalty_and_another_inverse() -> None:
    model = models.make(SHALLOW, seed=1).double()
    stretch = torch.linspace(0.5, 2, 16, dtype=torch.float64)
    for name in ("3.weight", "5.weight", "7.weight"):
        w = model.get_parameter(name)
        w.data *= stretch
        assert float(penalty(w.detach(), "off_diagonal")[0]) < 1e-10
        assert float(penalty(w.detach())[0]) > 1
    x, y = torch.rand(32, 20, dtype=torch.float64), torch.arange(32) % 4
    rule: Any = rules.make("gait", model, example=x[:2], inverse="solve")
    assert measure.alignment(rule, x, y).hidden > 20


def test_g13_a_mean_of_batch_means_is_not_the_mean() -> None:
    right = torch.zeros(50_000)
    right[-80:] = 1
    theirs = torch.stack([part.mean() for part in right.split(256)]).mean()
    assert float(theirs) == pytest.approx(1 / 196)
    assert float(right.mean()) == pytest.approx(80 / 50_000)


def test_g14_adams_epsilon_stands_before_the_correction_of_the_bias() -> None:
    """Keras: lr sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + eps); torch's eps is sqrt(1 - b2^t) times smaller in that."""
    lr, b1, b2, eps, g = 0.1, 0.9, 0.99, 1e-2, torch.tensor([0.02, -1.0], dtype=torch.float64)
    w = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    torch_adam = torch.optim.Adam([w], lr=lr, betas=(b1, b2), eps=eps)
    theirs, m, v, gaps = torch.zeros(2, dtype=torch.float64), 0.0, 0.0, []
    for t in range(1, 901):
        m, v, before = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2, w.detach().clone()
        step = lr * (1 - b2**t) ** 0.5 / (1 - b1**t) * m / (v.sqrt() + eps)
        theirs -= step
        w.grad = g.clone()
        torch_adam.step()
        gaps.append(float(((before - w.detach()) / step)[0]))
    assert gaps[0] > 1.5, "the first steps differ"
    assert gaps[-1] == pytest.approx(1, abs=1e-3), "later ones do not"


def test_g15_the_last_shard_stays_empty() -> None:
    drawn = np.random.default_rng(0).integers(0, 500 - 1, 100_000)  # an upper bound that is exclusive
    assert set(range(499)) == set(drawn.tolist())
