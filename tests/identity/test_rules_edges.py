"""Rules at the edges: batches that look like time, networks that change their path, odd containers, odd calls.

A failure here hides an error that enters at the wrong rows or the wrong layer, or a step that silently does nothing.
The oracles are the same network written plainly, and exact refusals.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise import measure, rules
from equipoise.errors import InputError
from equipoise.rules.chain import is_chain
from nets import EXACT, ORDINARY, LocalLayer, autograd, grads, image_batch, mlp, same, symmetric, vector_batch

X, Y = vector_batch()


class TimeFirst(nn.Module):
    """(B, T, I) handled as (T, B, I): the first axis is time alone."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.out = nn.Linear(6, 7), nn.Linear(7, 7), nn.Linear(7, 4)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.drop(torch.tanh(self.one(x.transpose(0, 1))))
        return self.out(torch.tanh(self.two(h)).mean(0))


@pytest.mark.parametrize("times", [3, 5, 10])
def test_time_as_long_as_the_batch_is_not_taken_for_it(times: int) -> None:
    example = torch.randn(5, times, 6)
    with pytest.raises(InputError, match=r"'two.weight'.*keep the batch first"):
        rules.make("dfa", TimeFirst(), example=example)
    assert rules.make("bp", TimeFirst(), example=example).draw(example) == {}


class Branching(nn.Module):
    """Takes the branch that ``path`` says."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.left, self.right, self.out = nn.Linear(6, 7), nn.Linear(7, 7), nn.Linear(7, 7), nn.Linear(7, 4)
        self.path = ("left",)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.one(x))
        for branch in self.path:
            h = torch.tanh(getattr(self, branch)(h))
        return self.out(h)


@pytest.mark.parametrize("path", [("right",), ("left", "right"), ()])
def test_direct_feedback_refuses_another_path_and_alignment_follows_it(path: tuple[str, ...]) -> None:
    model = Branching()
    direct, aligned = rules.make("dfa", model, example=X), rules.make("fa", model, example=X)
    model.path = path
    with pytest.raises(InputError, match="another path than when the rule first saw it"):
        direct.backward(X, Y)
    symmetric(aligned)
    wanted = autograd(model, X, Y)
    aligned.backward(X, Y)
    for n, g in grads(model).items():
        assert (g is None) == (wanted[n] is None)
        assert g is None or torch.allclose(g, wanted[n], atol=1e-6)


class Pair(NamedTuple):
    first: Tensor
    second: Tensor


class Contained(nn.Module):
    """A site's tensor is used again from within a named tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.out = nn.Linear(6, 7), nn.Linear(7, 7), nn.Linear(14, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.one(x))
        return self.out(torch.cat(Pair(h, torch.tanh(self.two(h))), 1).reshape(torch.Size([len(x), 14])))


def test_a_cut_tensor_in_a_named_tuple_is_cut() -> None:
    model = Contained().double()
    rules.make("dfa", model, example=X.double(), scale=0.0).backward(X.double(), Y)
    assert {n for n, g in grads(model).items() if g is not None and g.any()} == {"out.weight", "out.bias"}


class Single(nn.Module):
    """Convolutions one sample at a time, and a residual added by addmm."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding="same", stride=1)
        self.matrix, self.out = nn.Parameter(torch.randn(256, 256) / 16), nn.Linear(256, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.stack([self.two(torch.tanh(self.one(image))) for image in x]).flatten(1)
        return self.out(torch.tanh(torch.addmm(h, h, self.matrix)))


def test_single_samples_and_added_products_carry_feedback() -> None:
    torch.manual_seed(0)
    model, (x, y) = Single().double(), image_batch()
    x = x.double()
    rule = rules.make("fa", model, example=x)
    own = {n: b.clone() for n, b in rule.state_dict().items()}
    symmetric(rule)
    wanted = autograd(model, x, y)
    rule.backward(x, y)
    same(grads(model), wanted)
    model.zero_grad()
    rule.load_state_dict(own)
    rule.backward(x, y)
    assert not torch.allclose(model.one.weight.grad, wanted["one.weight"], rtol=0.1)


@pytest.mark.parametrize("name", ORDINARY)
def test_a_step_that_could_not_learn_says_so(name: str) -> None:
    model = mlp(6, 5, 4)
    rule = rules.make(name, model, example=X)
    with torch.no_grad(), pytest.raises(InputError, match=r"nothing to train: torch\.no_grad"):
        rule.backward(X, Y)
    with pytest.raises(InputError, match="batch is empty"):
        rule.backward(X[:0], Y[:0])
    with pytest.raises(InputError, match="batch is empty"):
        rules.make(name, model, example=X[:0])
    with pytest.raises(InputError, match=r"params names what the model has not: 0\.wieght"):
        rule.gradients({"0.wieght": model[0].weight}, X, Y)


@pytest.mark.compiles  # without the tests' own type checks
@pytest.mark.parametrize("name", ORDINARY)
def test_targets_of_another_shape_are_refused_where_they_would_broadcast(name: str) -> None:
    rule = rules.make(name, mlp(6, 5, 4), example=X, loss="mse")
    for y in (torch.eye(4), torch.arange(4)[:, None]):
        with pytest.raises(InputError, match=r"labels y have the shape \(4, "):
            rule.backward(X[:4], y)


def test_an_example_that_requires_a_gradient_is_no_hidden_layer() -> None:
    example = X.clone().requires_grad_()
    assert list(rules.make("dfa", mlp(6, 5, 4), example=example).feedback()) == ["2"]
    assert example.grad is None


@pytest.mark.parametrize("name", ["fa", "dfa"])
def test_feedback_that_is_not_given_is_the_rules_own(name: str) -> None:
    model = mlp(6, 7, 5, 4)
    rule = rules.make(name, model, example=X)
    params = {n: p.detach() for n, p in model.named_parameters()}
    last = list(rule.feedback())[-1]
    whole, *_ = rule.gradients(params, X, Y)
    part, *_ = rule.gradients(params, X, Y, feedback={last: rule.feedback()[last]})
    assert all(torch.equal(whole[n], part[n]) for n in params)


def test_a_dropout_rate_that_changed_is_refused_until_the_rule_looks_again() -> None:
    model = nn.Sequential(nn.Linear(6, 2000), nn.Dropout(0.5), nn.Linear(2000, 4))
    rule = rules.make("bp", model, example=X)
    model[1].p = 0.9
    with pytest.raises(InputError, match=r"dropout 0 now has the rate 0.9.*call rule.look"):
        rule.backward(X, Y)
    rule.look(X)
    assert rule.draw(X)["dropout0"].double().mean().item() == pytest.approx(0.1, abs=0.02)
    model[1].p = 1.0
    rule.look(X)
    assert torch.allclose(rule.backward(X, Y).output, model[2].bias.expand(5, 4))


class Backwards(nn.Module):
    """Registers its layers in another order than it uses them, and calls one by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.out, self.two, self.one = nn.Linear(7, 4), nn.Linear(7, 7), LocalLayer(6, 7)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.two(self.one(x=x))))


def test_angles_follow_the_forward_pass_so_that_the_mean_leaves_out_the_readout() -> None:
    torch.manual_seed(0)
    model = Backwards()
    rule = rules.make("fa", model, example=X)
    found = measure.alignment(rule, X, Y)
    assert list(found) == ["one.linear", "two", "out"]
    assert found["out"] == pytest.approx(0, abs=0.05)
    assert found.hidden == pytest.approx((found["one.linear"] + found["two"]) / 2)
    torch.testing.assert_close(rule.backward(X, Y).local["one"], model.one.local_loss(X).detach())


def test_feedback_takes_the_dtype_of_its_weight_and_no_foreign_names() -> None:
    model = nn.Sequential(mlp(6, 5, 4))
    model.counts = nn.Parameter(torch.arange(3), requires_grad=False)
    assert {b.dtype for b in rules.make("fa", model, example=X).buffers()} == {torch.float32}
    assert {b.dtype for b in rules.make("dfa", model, example=X).buffers()} == {torch.float32}
    for name in ("bp", "fa", "shallow"):
        rule = rules.make(name, mlp(6, 5, 4))
        with pytest.raises(RuntimeError, match="Unexpected key"):
            rule.load_state_dict({**rule.state_dict(), "9/weight": torch.zeros(3, 3)})
    rule = rules.make("dfa", mlp(6, 5, 4))
    rule.load_state_dict({"2": torch.ones(5, 4, dtype=torch.float64)})
    assert rule.feedback()["2"].dtype == torch.float32


def test_a_frozen_readout_still_lets_hidden_layers_hear() -> None:
    model, x = mlp(6, 5, 4).double(), X.double()
    model[2].requires_grad_(False)
    rule = rules.make("dfa", model, example=x)
    rule.backward(x, Y)
    hidden = torch.tanh(model[0](x))
    error = (model[2](hidden).softmax(-1) - F.one_hot(Y, 4)) / len(Y)
    wanted = ((error @ rule.feedback()["2"].T) * (1 - hidden**2)).T @ x
    torch.testing.assert_close(model[0].weight.grad, wanted, **EXACT)


def test_a_tie_that_broke_is_refused() -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6))
    model[2].weight = model[0].weight
    rule = rules.make("fa", model, example=X)
    model.load_state_dict({n: t.clone() for n, t in model.state_dict().items()}, assign=True)
    with pytest.raises(InputError, match=r"'0\.weight' was one tensor in two places"):
        rule.backward(X, Y)


class Watched(nn.Sequential):
    """A chain that is not recognised as one."""


@pytest.mark.parametrize("name", ["dfa", "shallow"])
def test_the_short_way_through_a_chain_is_the_way_under_the_tape(name: str) -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Flatten()]
    layers += [nn.Linear(36, 6), nn.Tanh(), nn.Linear(6, 4)]
    chain, watched = nn.Sequential(*layers).double(), Watched(*copy.deepcopy(layers)).double()
    x, y = image_batch()
    found = []
    for model in (chain, watched):
        rule = rules.make(name, model, example=x.double())
        assert is_chain(model, len(rule.survey.sites)) == (model is chain)
        rule.backward(x.double(), y)
        found.append(grads(model))
    same(found[0], found[1])
    assert not is_chain(chain, 2)
    assert not is_chain(nn.Sequential(nn.Linear(6, 4), nn.Dropout(), nn.Linear(4, 4)), 2)
