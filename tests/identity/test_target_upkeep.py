"""What GAIT decides on the host, what keeps weights orthogonal, and inverses that are learned.

A failure here means that a run drifts away from the inverse that it claims to use, or that upkeep does something else.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise import measure, rules
from equipoise.errors import InputError
from equipoise.functional.orthogonal import distance
from equipoise.randomness import generator
from equipoise.rules.inverses import Inverted
from equipoise.rules.upkeep import UpkeepOptions, sweep_
from nets import grads
from squares import batch, dense, kernels, orthogonal_, written

# Upkeep.


def kept(upkeep: str, steps: int, model: nn.Sequential, **options: Any) -> Inverted:
    """A rule that maintained ``model``, whose weights nothing else moves, for so many steps."""
    rule = rules.make("gait", model, example=batch(model)[0], upkeep=upkeep, **options)
    for _ in range(steps):
        rule.maintain()
    return rule  # type: ignore[return-value]


def far(model: nn.Module) -> float:
    return max(float(distance(p.detach().flatten(1))) for p in list(model.parameters())[2:] if p.ndim >= 2)


@pytest.mark.parametrize(
    ("upkeep", "steps", "options"),
    [("decoupled", 6, {}), ("retract", 2, {}), ("probe", 60, {"probes": 8}), ("decoupled", 12, {"every": 2})],
)
@pytest.mark.parametrize("net", [dense, kernels])
def test_upkeep_brings_weights_back_to_orthogonal_ones(upkeep: str, steps: int, options: dict, net: Any) -> None:
    model = net(2, apart=0.05)
    before = far(model)
    first = model[0].weight.clone()
    kept(upkeep, steps, model, **options)
    assert far(model) < 0.02 * before
    assert torch.equal(first, model[0].weight)


@pytest.mark.parametrize("largest", [1.05, 2.0, 3.0])
def test_retraction_takes_the_nearest_orthogonal_matrix_however_far_one_direction_is_off(largest: float) -> None:
    model = dense(2, apart=0.0)
    weight = model[2].weight
    u, s, vh = torch.linalg.svd(weight.detach())
    with torch.no_grad():
        weight.copy_((u * torch.cat([s.new_tensor([largest]), s[1:]])) @ vh)
    kept("retract", 1, model)
    assert torch.allclose(weight, u @ vh, atol=1e-3)


def test_a_sweep_visits_every_column_in_turn() -> None:
    matrix = torch.eye(6, dtype=torch.float64) + 0.1 * torch.ones(6, 6, dtype=torch.float64).tril()
    start, visited = 0, []
    for _ in range(3):
        before = matrix.clone()
        start = sweep_(UpkeepOptions(upkeep="probe", strength=0.5), matrix, start, 2)
        visited.append((matrix != before).any(0).nonzero().flatten().tolist())
    assert visited == [[0, 1], [2, 3], [4, 5]]
    assert start == 0


def test_nothing_is_kept_that_was_not_asked_for() -> None:
    model = dense(2, apart=0.05)
    before = far(model)
    kept("none", 8, model)
    kept("decoupled", 1, model, every=2)
    model.requires_grad_(False)
    model[0].requires_grad_(True)
    kept("decoupled", 3, model)
    assert far(model) == before


@pytest.mark.parametrize("net", [dense(2, apart=0.1), kernels(2, apart=0.1)])
@pytest.mark.parametrize("off_diagonal", [False, True])
def test_the_penalty_is_added_to_the_task_and_not_to_what_alignment_sees(
    net: nn.Sequential, off_diagonal: bool
) -> None:
    x, y = batch(net)
    net.zero_grad()
    plain = written(net)
    rule = rules.make("gait", net, example=x, upkeep="penalty", strength=0.3, off_diagonal=off_diagonal)
    rule.backward(x, y)
    squares = {s.name for s in rule.squares}
    assert "0.weight" not in squares
    for name, p in net.named_parameters():
        more = torch.zeros_like(p)
        if name in squares:
            leaf = p.detach().flatten(1).requires_grad_()
            gram = leaf.T @ leaf - torch.eye(len(leaf), dtype=torch.float64)
            gram = gram - gram.diagonal().diag() if off_diagonal else gram
            more = 0.3 * torch.autograd.grad(gram.square().sum(), leaf)[0].reshape(p.shape)
        torch.testing.assert_close(p.grad, plain[name] + more, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(written(net, upkeep="penalty")["0.weight"], plain["0.weight"])


# What is decided on the host.


def train(model: nn.Sequential, rule: rules.Rule, steps: int, lr: float = 3e-3) -> None:
    x, y = batch(model)
    optimizer = torch.optim.Adam(model.parameters(), lr)
    for _ in range(steps):
        rule.backward(x, y)
        optimizer.step()
        rule.maintain()
        optimizer.zero_grad()


@pytest.mark.parametrize("net", [dense, kernels])
def test_a_tracked_inverse_follows_its_weights(net: Any) -> None:
    model = net(3)
    rule = rules.make("gait", model, example=batch(model)[0], upkeep="probe", probes=4)
    start = {n: p.detach().clone() for n, p in model.named_parameters()}
    train(model, rule, 40)
    assert measure.angle(model[-1].weight, start[f"{len(model) - 1}.weight"]) > 1
    x, y = batch(model)
    params = {n: p.detach() for n, p in model.named_parameters()}
    found, exact = rule.gradients(params, x, y)[0], rule.exact().gradients(params, x, y)[0]
    assert max(measure.angle(found[n], exact[n]) for n in params) < 3
    assert all(v == 1 for v in rule.turns.values()) or max(rule.turns.values()) <= 4


def test_an_inverse_that_is_lost_is_solved_for_again() -> None:
    model = dense(2)
    x, y = batch(model)
    rule = rules.make("gait", model, example=x)
    rule.backward(x, y)
    for square in rule.squares:
        rule.get_buffer(square.name.replace(".", "/")).fill_(torch.nan)
    rule.steps = max(rule.due.values())
    rule.maintain()
    assert set(rule.turns.values()) == {1}
    params = {n: p.detach() for n, p in model.named_parameters()}
    found, exact = rule.gradients(params, x, y)[0], rule.exact().gradients(params, x, y)[0]
    assert max(measure.angle(found[n], exact[n]) for n in params) < 1


def test_alignment_compares_with_the_exact_inverse_where_asked() -> None:
    model = dense(3, apart=0.1)
    x, y = batch(model)
    angles = {
        kind: measure.alignment(rules.make("gait", model, example=x, inverse=kind), x, y, "inverse")
        for kind in ("solve", "transpose")
    }
    assert max(angles["solve"].values()) == 0
    rough = measure.alignment(rules.make("gait", model, example=x), x, y)
    assert angles["transpose"]["0"] == pytest.approx(rough["0"], rel=0.02)
    with pytest.raises(InputError, match="rules that invert their layers, not TargetPropagation"):
        measure.alignment(rules.make("tp", model, example=x), x, y, "inverse")


def test_weights_that_changed_behind_its_back_are_measured_before_the_next_step() -> None:
    for inverse in ("track", "refine"):
        model = dense(3)
        x, y = batch(model)
        rule = rules.make("gait", model, example=x, inverse=inverse)
        orthogonal_(model, 0.1)
        rule.backward(x, y)
        wanted = written(model, inverse="solve")
        assert max(measure.angle(g, wanted[n]) for n, g in grads(model).items()) < 0.5


def test_refinements_are_as_few_as_the_residual_asks_for() -> None:
    counts = lambda apart, tolerance: rules.make(  # noqa: E731
        "gait", dense(2, apart=apart), inverse="refine", tolerance=tolerance
    ).counts.values()
    assert set(counts(0.0, 1e-3)) == {0}
    few, many = counts(0.05, 1e-2), counts(0.05, 1e-6)
    assert 1 <= min(few) <= max(few) < min(many)


def test_a_layer_that_refinement_cannot_invert_is_solved_and_said(caplog: pytest.LogCaptureFixture) -> None:
    model = dense(3, apart=1.5)
    rule = rules.make("gait", model, inverse="refine")
    assert -1 in rule.counts.values()
    assert "refinements leave a residual of" in caplog.text
    assert "condition number" in caplog.text
    found, wanted = written(model, inverse="refine"), written(model, inverse="solve")
    for n, value in wanted.items():
        torch.testing.assert_close(found[n], value, rtol=1e-6, atol=1e-9)


def test_the_step_says_how_far_from_orthogonal_its_layers_are() -> None:
    """An estimate from four vectors of ||A A^T - I||: within a third of it."""
    model = dense(2, apart=0.05)
    x, y = batch(model)
    step = rules.make("gait", model, example=x).backward(x, y)
    for k in (2, 4):
        found = float(step.diagnostics[f"orthogonality/{k}"])
        assert found == pytest.approx(float(distance(model[k].weight.detach())), rel=0.34)


# Learned inverses.


def test_learned_inverses_reconstruct_better_and_carry_credit() -> None:
    torch.manual_seed(0)
    widths = (48, 40, 30, 24, 10)
    layers = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.Tanh())]
    model = nn.Sequential(*layers[:-1])
    x, y = batch(model, 60)
    rule = rules.make("dtp", model, example=x)
    before = measure.alignment(rule, x, y)
    learn = torch.optim.Adam(rule.feedback_parameters(), 1e-2)
    losses = []
    for k in range(200):
        step = rule.backward(x, y, generator=generator(k))
        learn.step()
        learn.zero_grad()
        losses.append({n: float(v) for n, v in step.local.items()})
    after = measure.alignment(rule, x, y)
    assert list(losses[0]) == ["2", "4"]
    assert all(losses[-1][n] < 0.5 * losses[0][n] for n in losses[0])
    assert max(after["0"], after["2"]) < 70 < min(before["0"], before["2"])
    assert after["4"] == pytest.approx(0, abs=0.01)
    assert len(rule.feedback_parameters()) == 4


def test_learned_inverses_have_the_gradient_of_their_own_loss() -> None:
    model = kernels(2)
    x, y = batch(model)
    rule = rules.make("dtp", model, example=x)
    noise = rule.draw(x, generator(5))
    rule.backward(x, y, generator=generator(5))
    total = torch.zeros((), dtype=torch.float64)
    h, weighted = x, [k for k, layer in enumerate(model) if hasattr(layer, "weight")]
    for k, layer in enumerate(model):
        if k in weighted[1:-1]:
            shown = h.detach() + noise[f"corruption/{k}.weight"]
            a = F.leaky_relu(layer(shown), 0.1).detach()
            matrix, offset = (rule.get_parameter(f"{k}/weight/{what}") for what in ("inverse", "offset"))
            back = adjoint(layer, h, matrix, a)
            back = back + (offset if h.ndim == 2 else offset[:, None, None])
            total = total + (F.leaky_relu(back, 0.1) - shown).square().sum() / 2 / len(x)
        h = layer(h)
    params = rule.feedback_parameters()
    for p, wanted in zip(params, torch.autograd.grad(total, params), strict=True):
        torch.testing.assert_close(p.grad, wanted, rtol=1e-9, atol=1e-12)


def adjoint(layer: Any, h: Tensor, matrix: Tensor, a: Tensor) -> Tensor:
    """What the transpose of ``layer`` with the weight ``matrix`` makes of ``a``, by autograd."""
    leaf = torch.zeros_like(h).requires_grad_()
    held = torch.cat([matrix, matrix.new_zeros(len(layer.weight) - len(matrix), *matrix.shape[1:])])
    found = torch.func.functional_call(layer, {"weight": held, "bias": torch.zeros_like(layer.bias)}, (leaf,))
    return torch.autograd.grad(found, leaf, a, create_graph=True)[0]
