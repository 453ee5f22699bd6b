"""Rules against what they must equal: autograd where feedback is the weight, closed forms where it is not.

A failure here means that a model learns from something other than the rule whose name is on the paper.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from equipoise import rules
from nets import EXACT, FREE, ORDINARY, Residual, autograd, grads, image_batch, pairs, same, symmetric, zoo

NETS = [name for name in zoo() if name != "local"]
# One of the net's products has the batch on its second axis, which directed errors refuse by name.
REFUSED = [("dfa", "products"), ("drtp", "products")]


@pytest.mark.parametrize("net", NETS)
def test_feedback_alignment_with_symmetric_feedback_is_backpropagation(net: str) -> None:
    model, x, y = zoo()[net]
    rule = rules.make("fa", model, example=x)
    symmetric(rule)
    wanted = autograd(model, x, y)
    rule.backward(x, y)
    same(grads(model), wanted)


def test_backpropagation_is_autograd() -> None:
    for name, (model, x, y) in zoo().items():
        if name != "local":
            wanted = autograd(model, x, y)
            rules.make("bp", model).backward(x, y)
            same(grads(model), wanted)


def test_feedback_alignment_of_a_chain_has_its_closed_form() -> None:
    model, x, y = zoo()["mlp"]
    rule = rules.make("fa", model, example=x, seed=3)
    rule.backward(x, y)
    one, two, out = model[0], model[2], model[4]
    h1 = torch.tanh(one(x))
    h2 = torch.tanh(two(h1))
    error = (out(h2).softmax(-1) - F.one_hot(y, 4)) / len(y)
    d2 = (error @ rule.feedback()["4.weight"]) * (1 - h2**2)
    d1 = (d2 @ rule.feedback()["2.weight"]) * (1 - h1**2)
    for layer, delta, below in ((out, error, h2), (two, d2, h1), (one, d1, x)):
        torch.testing.assert_close(layer.weight.grad, delta.T @ below, **EXACT)
        torch.testing.assert_close(layer.bias.grad, delta.sum(0), **EXACT)


@pytest.mark.parametrize(
    ("options", "send"),
    [
        ({}, lambda e: e),
        ({"sign": True}, lambda e: e.sign() / len(e)),
        ({"hidden_scale": 5.0}, lambda e: 5 * e),
        ({"sign": True, "hidden_scale": 3.0}, lambda e: 3 * e.sign() / len(e)),
    ],
)
def test_direct_feedback_of_a_chain_has_its_closed_form(options: dict, send: object) -> None:
    model, x, y = zoo()["mlp"]
    rule = rules.make("dfa", model, example=x, seed=3, **options)
    rule.backward(x, y)
    one, two, out = model[0], model[2], model[4]
    h1 = torch.tanh(one(x))
    h2 = torch.tanh(two(h1))
    error = (out(h2).softmax(-1) - F.one_hot(y, 4)) / len(y)
    d2 = (send(error) @ rule.feedback()["4"].T) * (1 - h2**2)
    d1 = (send(error) @ rule.feedback()["2"].T) * (1 - h1**2)
    for layer, delta, below in ((out, error, h2), (two, d2, h1), (one, d1, x)):
        torch.testing.assert_close(layer.weight.grad, delta.T @ below, **EXACT)
        torch.testing.assert_close(layer.bias.grad, delta.sum(0), **EXACT)


def test_direct_feedback_of_a_residual_network_equals_replacing_gradients_by_hooks() -> None:
    """Each site's incoming gradient is replaced by B e with tensor hooks, skips included, on a hand-written copy."""
    model, x, y = zoo()["residual"]
    rule = rules.make("dfa", model, example=x)
    output = model(x)
    error = (output.softmax(-1) - F.one_hot(y, 4)).detach() / len(y)
    feedback = iter(rule.feedback().values())

    def site(h: Tensor) -> Tensor:
        delta = (error @ next(feedback).T).reshape(h.shape)
        h.register_hook(lambda _: delta)
        return h

    h = site(F.relu(model.stem(x)))
    h = site(F.relu(h + model.shared(h)))
    h = site(F.relu(h + model.norm(model.also(h))))
    h = site(F.relu(F.conv2d(h, model.kernel, stride=2, padding=1, groups=2)).flatten(1))
    h = site(torch.tanh(model.fc(h)))
    h = site(torch.tanh(h @ model.matrix))
    F.cross_entropy(model.out(h), y).backward()
    wanted = grads(model)
    model.zero_grad()
    rule.backward(x, y)
    same(grads(model), wanted)


def test_a_folded_site_hears_the_error_at_every_time_step() -> None:
    model, x, y = zoo()["folded"]
    rule = rules.make("dfa", model, example=x)
    rule.backward(x, y)
    steps = [x[:, t] for t in range(3)]
    hidden = [torch.tanh(model.one(step)) for step in steps]
    top = [torch.tanh(model.two(h)) for h in hidden]
    output = torch.stack([model.out(h) for h in top]).mean(0)
    error = (output.softmax(-1) - F.one_hot(y, 4)) / len(y)
    wanted = sum(
        ((error @ rule.feedback()["two"].T) * (1 - h**2)).T @ step for h, step in zip(hidden, steps, strict=True)
    )
    torch.testing.assert_close(model.one.weight.grad, wanted, **EXACT)


@pytest.mark.parametrize("net", ["mlp", "residual", "folded"])
@pytest.mark.parametrize("name", FREE)
def test_every_rule_trains_the_output_layer_as_backpropagation_does(net: str, name: str) -> None:
    model, x, y = zoo()[net]
    last = list(dict(model.named_parameters()))[-2:]
    wanted = autograd(model, x, y)
    rules.make(name, model, example=x).backward(x, y)
    found = grads(model)
    same({n: found[n] for n in last}, {n: wanted[n] for n in last})


def test_shallow_gives_hidden_layers_nothing() -> None:
    model, x, y = zoo()["residual"]
    rules.make("shallow", model, example=x).backward(x, y)
    assert {n for n, g in grads(model).items() if g is not None} == {"out.weight", "out.bias"}


def test_direct_feedback_without_feedback_is_shallow() -> None:
    model, x, y = zoo()["residual"]
    rules.make("dfa", model, example=x, scale=0.0).backward(x, y)
    assert all(g is None or not g.any() for n, g in grads(model).items() if not n.startswith("out."))


@pytest.mark.parametrize(("name", "net"), [p for p in pairs(zoo()) if p not in REFUSED])
def test_the_pure_form_equals_backward(name: str, net: str) -> None:
    model, x, y = zoo()[net]
    rule = rules.make(name, model, example=x)
    params = dict(model.named_parameters())
    before = {n: b.clone() for n, b in model.named_buffers()}
    noise = rule.draw(x, torch.Generator().manual_seed(2))
    pure, step, state = rule.gradients(params, x, y, noise=noise)
    assert all(torch.equal(b, before[n]) for n, b in model.named_buffers())
    ordinary = rule.backward(x, y, generator=torch.Generator().manual_seed(2))
    for parameter, (n, g) in zip(params.values(), pure.items(), strict=True):
        torch.testing.assert_close(g, torch.zeros_like(g) if parameter.grad is None else parameter.grad, **EXACT)
        assert n in params
    torch.testing.assert_close(step.loss, ordinary.loss, **EXACT)
    torch.testing.assert_close(step.output, ordinary.output, **EXACT)
    for n, b in model.named_buffers():
        torch.testing.assert_close(state[n], b)


def test_local_objectives_reach_their_own_parameters_alone() -> None:
    """lambda times the gradient of the local loss on its own parameters, and exact zeros everywhere else."""
    for name in FREE:
        model, x, y = zoo()["local"]
        plain = rules.make(name, model, example=x, local_weight=0.0)
        plain.backward(x, y, generator=torch.Generator().manual_seed(2))
        without = grads(model)
        model.zero_grad()
        step = rules.make(name, model, example=x, local_weight=0.5).backward(
            x, y, generator=torch.Generator().manual_seed(2)
        )
        caught = [x, model[0](x).detach()]
        assert list(step.local) == ["0", "1"]
        for k, (n, layer) in enumerate(zip(("0", "1"), model, strict=False)):
            loss = layer.local_loss(caught[k])
            torch.testing.assert_close(step.local[n], loss.detach(), **EXACT)
            own = torch.autograd.grad(0.5 * loss, layer.inhibition)[0]
            torch.testing.assert_close(layer.inhibition.grad, own, **EXACT)
        rest = {n: g for n, g in grads(model).items() if "inhibition" not in n}
        same(rest, {n: g for n, g in without.items() if "inhibition" not in n})
        assert type(model[0]).__name__ == "LocalLayer"


def test_feedback_stays_outside_a_circuit_unless_asked() -> None:
    model, x, _ = zoo()["circuit"]
    exact = rules.make("fa", model, example=x).feedback()
    assert {n for n in exact if "weight_ei" in n} == set()
    assert {n for n in rules.make("fa", model, example=x, inside="random").feedback() if "weight_ei" in n} != set()
    sites = rules.make("dfa", model, example=x).feedback()
    assert list(sites) == ["1", "2"]


def test_gradients_accumulate_and_frozen_parameters_stay_without() -> None:
    model, x, y = zoo()["mlp"]
    for name in ORDINARY:
        model.zero_grad()
        model[0].weight.requires_grad_(False)
        rule = rules.make(name, model, example=x)
        rule.backward(x, y, generator=torch.Generator().manual_seed(2))
        once = grads(model)
        rule.backward(x, y, generator=torch.Generator().manual_seed(2))
        same(grads(model), {n: None if g is None else 2 * g for n, g in once.items()})
        assert once["0.weight"] is None
        model[0].weight.requires_grad_(True)


def test_the_module_and_its_class_stay_as_they_were() -> None:
    model = Residual()
    x, y = image_batch()
    keys, kind = list(model.state_dict()), type(model)
    for name in FREE:
        rules.make(name, model, example=x).backward(x, y)
    assert type(model) is kind
    assert list(model.state_dict()) == keys
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in model.modules())
    assert model.also is model.shared


def test_the_survey_leaves_buffers_weights_and_the_global_state_alone() -> None:
    model = Residual()
    x, _ = image_batch()
    before = {n: t.clone() for n, t in model.state_dict().items()}
    torch.manual_seed(4)
    state = torch.get_rng_state()
    for name in FREE:
        rules.make(name, model, example=x)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
