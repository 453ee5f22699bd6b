"""The measures of normalisation at networks where the answer is known: a failure here hides a cosine to the wrong
reference, moments of something else than what enters ReLU, or a measure that changes what it measures.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch

from equipoise import measure, models, rules
from equipoise.nn import INormLinear

X, Y = torch.rand(40, 64, generator=torch.Generator().manual_seed(1)), torch.arange(40) % 10


def rule(text: str, name: str = "bp") -> Any:
    return rules.make(name, models.make(text, seed=2).double(), example=X.double()[:2])


def found(text: str, name: str = "bp") -> dict[str, float]:
    return measure.normalising(rule(text, name), X.double(), Y)


@pytest.mark.parametrize("bias", ["inside", "after"])
def test_fresh_circuits_with_full_gradnorm_are_layer_normalisation(bias: str) -> None:
    values = found(f"inorm:64-30-20-10,gradnorm=full,bias={bias}")
    for key in ("output", "gradient", "task"):
        assert values[key] == pytest.approx(1, abs=1e-3), key
    plain = found(f"inorm:64-30-20-10,bias={bias}")
    assert plain["output"] == pytest.approx(1, abs=1e-3)
    assert plain["task"] < 0.9
    assert plain["gradient"] < 0.9


def test_the_task_reference_is_the_gradient_of_a_network_with_layer_normalisation() -> None:
    """Against a dale network with a formula, holding the same excitatory weights: nothing of the measure is used."""
    mine = rule("inorm:64-30-20-10")
    twin = models.make("layernorm:64-30-20-10", seed=2).double()
    weights = [p for n, p in twin.named_parameters() if n.endswith("weight")]
    torch.nn.functional.cross_entropy(twin(X.double()), Y).backward()
    torch.nn.functional.cross_entropy(mine.model(X.double()), Y).backward()
    values = measure.normalising(mine, X.double(), Y)
    circuits = [(n, m) for n, m in mine.model.named_modules() if isinstance(m, INormLinear)]
    for (name, circuit), theirs in zip(circuits, weights, strict=True):
        assert circuit.weight_ee.grad is not None
        assert theirs.grad is not None
        a, b = circuit.weight_ee.grad.flatten(), theirs.grad.flatten()
        assert values[f"task/{name}"] == pytest.approx(float(a @ b / (a.norm() * b.norm())), abs=1e-6)


@pytest.mark.parametrize("bias", ["inside", "after"])
def test_the_task_reference_keeps_the_bias_in_its_place(bias: str) -> None:
    """LN(W h + b) or LN(W h) + b under the same readout, written out."""
    mine = rule(f"inorm:64-30-10,bias={bias}")
    ((name, circuit),) = ((n, m) for n, m in mine.model.named_modules() if isinstance(m, INormLinear))
    with torch.no_grad():
        circuit.bias.copy_(torch.linspace(-3, 3, 30))
    readout = mine.model[-1]
    weight = circuit.weight_ee.detach().clone().requires_grad_()
    drive = X.double() @ weight.T
    z = torch.nn.functional.layer_norm(drive + circuit.bias if bias == "inside" else drive, (30,))
    loss = torch.nn.functional.cross_entropy(readout((z if bias == "inside" else z + circuit.bias).relu()), Y)
    (theirs,) = torch.autograd.grad(loss, weight)
    mine.backward(X.double(), Y)
    a, b = circuit.weight_ee.grad.flatten(), theirs.flatten()
    found_here = measure.normalising(mine, X.double(), Y)[f"task/{name}"]
    assert found_here == pytest.approx(float(a @ b / (a.norm() * b.norm())), abs=1e-6)


def test_lateral_inhibition_is_compared_with_centring() -> None:
    assert found("inorm:64-300-10,gradnorm=lateral,pools=200")["gradient"] > 0.999
    assert found("inorm:64-300-10,gradnorm=center")["gradient"] < 0.99, "and everything else with all of LN"


def test_flips_are_of_the_error_as_it_arrives_whatever_the_circuit_does_to_it() -> None:
    plain, edited = (found(f"inorm:64-30-10{more}") for more in ("", ",gradnorm=center"))
    assert plain["weight_flips"] > 0.01
    assert edited["weight_flips"] == plain["weight_flips"]
    assert edited["error_flips"] == plain["error_flips"]


@torch.no_grad()
def test_the_activitys_cosine_is_of_rates_before_and_after_layer_normalisation() -> None:
    """Where inhibition is far from ideal, so that the cosine is no 1."""
    mine = rule("inorm:64-30-10")
    (circuit,) = (m for m in mine.model.modules() if isinstance(m, INormLinear))
    circuit.weight_ie.mul_(0.5)
    z = circuit(X.double())
    a, b = torch.nn.functional.layer_norm(z, (30,)).relu().flatten(), z.relu().flatten()
    wanted = float(a @ b / (a.norm() * b.norm()))
    assert wanted < 0.9
    assert measure.normalising(mine, X.double(), Y)["output"] == pytest.approx(wanted)


def test_moments_are_of_what_enters_each_relu() -> None:
    one = rule("dale:64-30-20-10,norm=layer")
    values = measure.moments(one, X.double(), Y)
    for k in (1, 2):
        assert values[f"moments/{k}/mean"] == pytest.approx(0, abs=1e-9)
        assert values[f"moments/{k}/variance"] == pytest.approx(1, abs=0.01)
        assert values[f"moments/{k}/second"] == pytest.approx(1, abs=0.01)
    net = rule("dale:64-30-10,norm=none").model
    z = net[:2](X.double()).detach()
    values = measure.moments(rule("dale:64-30-10,norm=none"), X.double(), Y)
    assert values["moments/mean"] == pytest.approx(float(z.mean()))
    assert values["moments/variance"] == pytest.approx(float(z.var(1, correction=0).mean()))
    assert values["moments/second"] == pytest.approx(float(z.square().mean()))


def test_moments_of_unnormalised_activity_tell_variance_and_second_moment_apart_and_leave_no_hook() -> None:
    one = rule("dale:64-30-10")
    with torch.no_grad():
        one.model[1].bias.fill_(2.0)
    z = one.model[:2](X.double()).detach()
    values = measure.moments(one, X.double(), Y)
    assert values["moments/second"] == pytest.approx(float(z.square().mean()))
    assert values["moments/variance"] == pytest.approx(float(z.var(1, correction=0).mean()))
    assert values["moments/second"] > 2 * values["moments/variance"]
    assert not any(m._forward_pre_hooks for m in one.model.modules())


def test_flips_are_counted_by_hand() -> None:
    one = rule("inorm:64-30-10")
    z = one.model[:2](X.double()).detach().requires_grad_()
    torch.nn.functional.cross_entropy(one.model[2:](z), Y).backward()
    assert z.grad is not None
    centred = z.grad - z.grad.mean(1, keepdim=True)
    held = z.grad != 0
    flips = float(((z.grad * centred < 0) & held).sum() / held.sum())
    values = measure.normalising(one, X.double(), Y)
    assert values["error_flips"] == pytest.approx(flips)
    assert 0 < values["error_flips"] < 0.5
    circuit = next(m for m in one.model if isinstance(m, INormLinear))
    plain, moved = (torch.autograd.grad(circuit(X.double()), circuit.weight_ee, g)[0] for g in (z.grad, centred))
    other = float((plain * moved < 0).sum() / (plain != 0).sum())
    assert values["weight_flips"] == pytest.approx(other)
    assert abs(other - flips) > 0.01


@pytest.mark.parametrize("name", ["bp", "fa", "dfa"])
def test_measuring_changes_nothing(name: str) -> None:
    one = rule("inorm:64-30-20-10,gradnorm=center", name)
    before = copy.deepcopy(one.model.state_dict())
    state = torch.random.get_rng_state()
    values = measure.normalising(one, X.double(), Y)
    again = measure.normalising(one, X.double(), Y)
    assert values == again
    assert all(torch.equal(p, before[n]) for n, p in one.model.state_dict().items())
    assert all(p.grad is None for p in one.model.parameters())
    assert all(m.edit.modes == {"center"} for m in one.model.modules() if isinstance(m, INormLinear))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in one.model.modules())
    assert torch.equal(torch.random.get_rng_state(), state)


def test_networks_without_circuits_have_no_cosines_and_images_no_twin() -> None:
    assert found("dale:64-30-10,norm=layer") == {}
    one = rules.make("bp", models.make("inorm:1x8x8-6-10", seed=0), example=X.reshape(40, 1, 8, 8)[:2])
    values = measure.normalising(one, X.reshape(40, 1, 8, 8), Y)
    assert "task" not in values
    assert not any(math.isnan(v) for v in values.values())
