"""Angles: against closed forms, and zero only where the rule really writes the gradient.

A failure here means that the number everybody quotes, the angle to backpropagation, is wrong.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from equipoise import measure, rules
from equipoise.functional import backward_edits
from nets import Residual, grads, image_batch, mlp, vector_batch, zoo


@pytest.mark.parametrize("degrees", [0.0, 1e-6, 0.1, 30.0, 90.0, 179.9999, 180.0])
def test_an_angle_is_exact_however_small(degrees: float) -> None:
    radians = math.radians(degrees)
    a = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64) * 3
    b = torch.tensor([math.cos(radians), math.sin(radians), 0.0], dtype=torch.float64) * 0.01
    assert measure.angle(a, b) == pytest.approx(degrees, rel=1e-9, abs=1e-9)


def test_a_vector_without_direction_has_no_angle() -> None:
    one = torch.ones(3)
    for other in (torch.zeros(3), torch.full((3,), math.nan), torch.full((3,), math.inf)):
        assert math.isnan(measure.angle(one, other))


@pytest.mark.parametrize("net", ["mlp", "residual", "folded", "circuit", "local"])
def test_backpropagation_is_aligned_with_itself(net: str) -> None:
    model, x, y = zoo()[net]
    found = measure.alignment(rules.make("bp", model, example=x), x, y)
    assert max(found.values()) < 1e-5


@pytest.mark.parametrize("name", ["fa", "dfa"])
def test_the_angle_is_that_of_what_the_rule_writes(name: str) -> None:
    model, x, y = zoo()["residual"]
    rule = rules.make(name, model, example=x)
    found = measure.alignment(rule, x, y)
    assert all(p.grad is None for p in model.parameters())
    rule.backward(x, y)
    written = grads(model)
    model.zero_grad()
    rules.make("bp", model).backward(x, y)
    true = grads(model)
    for layer, parameter in (("stem", "stem.weight"), ("kernel", "kernel"), ("out", "out.weight")):
        a, b = written[parameter].flatten(), true[parameter].flatten()
        cosine = (a @ b / a.norm() / b.norm()).clamp(-1, 1)
        assert found[layer] == pytest.approx(math.degrees(math.acos(cosine)), abs=1e-5)
    assert 1 < found["stem"] < 179
    assert found.hidden == pytest.approx(sum(list(found.values())[:-1]) / (len(found) - 1))


def test_measuring_changes_nothing() -> None:
    model = Residual()
    x, y = image_batch()
    rule = rules.make("fa", model, example=x)
    before = {n: t.clone() for n, t in model.state_dict().items()}
    state = torch.get_rng_state()
    measure.alignment(rule, x, y)
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in model.parameters())


class Edited(nn.Module):
    """A layer that flips the error on its way back, as a deliberate edit."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x.detach() - x if backward_edits() else x


def test_the_exact_reference_switches_backward_edits_off() -> None:
    x, y = vector_batch()
    model = nn.Sequential(nn.Linear(6, 5), Edited(), nn.Tanh(), nn.Linear(5, 4))
    rule = rules.make("bp", model, example=x)
    assert measure.alignment(rule, x, y)["0"] == pytest.approx(0, abs=1e-4)
    assert measure.alignment(rule, x, y, "exact")["0"] == pytest.approx(180, abs=1e-4)
    assert backward_edits()


def test_cost_is_the_ratio_of_times_and_leaves_gradients_alone() -> None:
    ticks = iter(range(10_000))

    def clock() -> float:
        return float(next(ticks))

    model = mlp(6, 5, 4)
    x, y = vector_batch()
    rule = rules.make("dfa", model, example=x)
    kept = torch.ones_like(model[0].weight)
    model[0].weight.grad = kept
    assert measure.step_cost(rule, x, y, rounds=4, clock=clock) == 1.0
    assert model[0].weight.grad is kept
    assert model[2].weight.grad is None
    with pytest.raises(ValueError, match="rounds is 0"):
        measure.step_cost(rule, x, y, rounds=0)
