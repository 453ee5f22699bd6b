"""Chains of circuits that backpropagation runs by hand, against autograd of the same chains.

A failure here means that the quick way trains a network by other gradients than the general one, or takes a network
that it does not know.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise import functional as f
from equipoise import nn as enn
from equipoise import rules
from nets import EXACT


def batch(n: int = 6, width: int = 12) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(n)
    return torch.rand(n, width, generator=g, dtype=torch.float64), torch.arange(n) % 4


CHAINS = {
    "paper": lambda: [
        enn.INormLinear(12, 10, bias="inside", gradnorm="center"),
        nn.ReLU(),
        enn.INormLinear(10, 8, bias="inside", gradnorm="center"),
        nn.ReLU(),
        enn.DaleLinear(8, 4),
    ],
    "flat": lambda: [nn.Flatten(), enn.INormLinear(12, 10, gradnorm="full"), nn.ReLU(inplace=True), nn.Linear(10, 4)],
    "wide_pool": lambda: [enn.INormLinear(12, 10, divisive_pool=17, bias=None), nn.LeakyReLU(0.2), nn.Linear(10, 4)],
    "narrow_input": lambda: [enn.INormLinear(12, 30, gradnorm="lateral+scale"), nn.Tanh(), enn.DaleLinear(30, 4)],
    "nested": lambda: [
        nn.Sequential(nn.Linear(12, 9, bias=False), nn.Sigmoid()),
        nn.Sequential(enn.INormLinear(9, 8, division="straight"), nn.Identity()),
        enn.DaleLinear(8, 4, bias=False),
    ],
    "dale": lambda: [enn.DaleLinear(12, 9, pool=3), nn.ReLU(), enn.DaleLinear(9, 4)],
}


def chain(name: str) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(*CHAINS[name]()).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1 + 0.5 * torch.rand_like(parameter)).add_(0.01)
    return model


def spied(rule: Any, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each further step of ``rule`` was by hand."""
    calls: list[bool] = []
    original = type(rule).by_hand

    def spy(self: Any, *args: Any, **kwargs: Any) -> Any:
        done = original(self, *args, **kwargs)
        calls.append(done is not None)
        return done

    monkeypatch.setattr(type(rule), "by_hand", spy)
    return calls


def gradients(model: nn.Module) -> dict[str, Tensor]:
    found = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_the_chain_by_hand_is_the_chain_by_autograd(name: str, loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, (x, y) = chain(name), batch()
    x = x.reshape(6, 3, 4) if name == "flat" else x
    rule = rules.make("bp", model, example=x, loss=loss, local_weight=0.7)
    calls = spied(rule, monkeypatch)
    step = rule.backward(x, y)
    found = gradients(model)
    monkeypatch.setattr(type(rule), "by_hand", lambda *a, **k: None)
    exact = rule.backward(x, y)
    wanted = gradients(model)
    assert calls == [True]
    assert set(found) == set(wanted)
    for n, gradient in wanted.items():
        assert found[n].is_contiguous()
        torch.testing.assert_close(found[n], gradient, **EXACT, msg=lambda m, n=n: f"{n}: {m}")
    torch.testing.assert_close(step.loss, exact.loss, **EXACT)
    torch.testing.assert_close(step.output, exact.output, **EXACT)
    assert set(step.local) == set(exact.local)
    for n, value in exact.local.items():
        torch.testing.assert_close(step.local[n], value, **EXACT)


def test_what_autograd_has_to_see_is_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hooks, dropout, layer normalisation, a layer that is there twice, inhibition that passes errors or trains."""
    x, y = batch()
    twice = enn.INormLinear(12, 12)
    watched = chain("paper")
    watched[0].register_forward_hook(lambda module, given, output: 2 * output)
    others = [
        watched,
        nn.Sequential(enn.INormLinear(12, 10), nn.Dropout(0.5), nn.Linear(10, 4)),
        nn.Sequential(enn.INormLinear(12, 10), nn.LayerNorm(10), nn.Linear(10, 4)),
        nn.Sequential(twice, nn.ReLU(), twice, nn.ReLU(), nn.Linear(12, 4)),
        nn.Sequential(enn.INormLinear(12, 10, train_ei=True), nn.Linear(10, 4)),
        nn.Sequential(enn.INormLinear(12, 10, detach=()), nn.Linear(10, 4)),
        nn.Sequential(nn.Linear(12, 10), nn.ReLU(), nn.Linear(10, 4)),
    ]
    for model in others:
        rule = rules.make("bp", model.double(), example=x)
        with monkeypatch.context() as patch:
            calls = spied(rule, patch)
            rule.backward(x, y)
        assert calls == [False], model
        assert model[0].weight_ee.grad is not None if hasattr(model[0], "weight_ee") else True
    rule = rules.make("bp", chain("paper"), example=x)
    calls = spied(rule, monkeypatch)
    with f.exact_backward():
        rule.backward(x, y)
    assert calls == [False]


def test_gradients_add_up_frozen_weights_get_none_and_copies_train_themselves() -> None:
    model, (x, y) = chain("paper"), batch()
    rule = rules.make("bp", model, example=x)
    rule.backward(x, y)
    once = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    rule.backward(x, y)
    for n, gradient in once.items():
        torch.testing.assert_close(model.get_parameter(n).grad, 2 * gradient, **EXACT)
    model.zero_grad()
    twin, own = copy.deepcopy((model, rule))
    twin[0].weight_ie.requires_grad_(False)
    own.backward(x, y)
    assert all(p.grad is None for p in model.parameters())
    assert twin[0].weight_ie.grad is None
    torch.testing.assert_close(twin[0].weight_ee.grad, once["0.weight_ee"], **EXACT)


def test_gradients_that_share_a_product_are_apart() -> None:
    """Changing one in place, as clipping does, leaves the others alone."""
    model, (x, y) = chain("paper"), batch()
    rules.make("bp", model, example=x).backward(x, y)
    layer = model[0]
    before = layer.weight_ie.grad.clone(), layer.divisive_ie.grad.clone()
    layer.weight_ee.grad.zero_()
    assert torch.equal(layer.weight_ie.grad, before[0])
    assert torch.equal(layer.divisive_ie.grad, before[1])


def test_cross_entropy_and_its_error_in_one() -> None:
    output, (_, y) = torch.randn(6, 4, dtype=torch.float64), batch()
    for labels in (y, torch.where(y == 2, -100, y)):
        leaf = output.clone().requires_grad_()
        wanted = F.cross_entropy(leaf, labels)
        both = f.losses["cross_entropy"].both
        assert both is not None
        value, error = both(output, labels)
        torch.testing.assert_close(value, wanted.detach(), **EXACT)
        torch.testing.assert_close(error, torch.autograd.grad(wanted, leaf)[0], **EXACT)
