"""DRTP and the sign-symmetric rules against their closed forms, and chains by hand against autograd's roots.

A failure means that a hidden layer hears something else than its target, or signs that are not its weights'.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise import rules
from nets import FREE, ORDINARY, autograd, grads, mlp, same, zoo


def net() -> tuple[nn.Sequential, Tensor, Tensor]:
    torch.manual_seed(0)
    model = mlp(6, 7, 5, 4).double()
    x = torch.randn(6, 6, generator=torch.Generator().manual_seed(1)).double()
    return model, x, torch.arange(6) % 4


@pytest.mark.parametrize("hidden_scale", [1.0, 24.0])
@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy"])
def test_drtp_projects_the_target_on_every_hidden_layer(loss: str, hidden_scale: float) -> None:
    """dW_l = mean over samples of (B_l t (.) f'(z_l)) h_{l-1}^T, times hidden_scale; the output learns from its error."""
    model, x, y = net()
    rule = rules.make("drtp", model, example=x, loss=loss, hidden_scale=hidden_scale)
    rule.backward(x, y)
    t = F.one_hot(y, 4).double()
    h = x
    for name, above in (("0", "2"), ("2", "4")):
        layer = model.get_submodule(name)
        out = torch.tanh(layer(h))
        delta = hidden_scale * (t @ rule.feedback()[above].T) * (1 - out**2) / len(x)
        torch.testing.assert_close(layer.weight.grad, delta.T @ h)
        torch.testing.assert_close(layer.bias.grad, delta.sum(0))
        h = out.detach()
    z = model[4](h)
    e = (z.softmax(-1) if loss == "cross_entropy" else z.sigmoid()) - t
    torch.testing.assert_close(model[4].weight.grad, e.T @ h / len(x))


def test_drtp_knows_nothing_of_the_output() -> None:
    """Hidden gradients stay when the readout changes: no layer waits for the one above."""
    model, x, y = net()
    rule = rules.make("drtp", model, example=x)
    rule.backward(x, y)
    before = grads(model)
    model.zero_grad()
    with torch.no_grad():
        model[4].weight.mul_(-3)
    rule.backward(x, y)
    for name in ("0.weight", "0.bias", "2.weight", "2.bias"):
        torch.testing.assert_close(grads(model)[name], before[name])
    assert not torch.allclose(grads(model)["4.weight"], before["4.weight"])


def closed_form(model: nn.Sequential, x: Tensor, y: Tensor, matrices: dict[str, Tensor]) -> dict[str, Tensor]:
    """Backpropagation through ``matrices`` in place of the weights."""
    h1 = torch.tanh(model[0](x))
    h2 = torch.tanh(model[2](h1))
    g = (model[4](h2).softmax(-1) - F.one_hot(y, 4)) / len(x)
    found = {"4.weight": g.T @ h2}
    g = (g @ matrices["4.weight"]) * (1 - h2**2)
    found["2.weight"] = g.T @ h1
    g = (g @ matrices["2.weight"]) * (1 - h1**2)
    return found | {"0.weight": g.T @ x}


@pytest.mark.parametrize("name", ["usf", "frsf", "brsf"])
def test_feedback_has_the_weights_signs_and_its_own_sizes(name: str) -> None:
    model, x, y = net()
    for options in ({}, {"scale": 0.5}, {"magnitude": "one"} if name == "usf" else {"law": "kaiming_normal"}):
        rule = rules.make(name, model, example=x, **options)
        noise = rule.draw(x, torch.Generator().manual_seed(4))
        matrices = {}
        for n, p in model.named_parameters():
            if p.ndim == 2:
                he = 1.0 if "magnitude" in options else (2 / p.shape[1]) ** 0.5
                uniform = torch.as_tensor(options.get("scale", 1.0) * he, dtype=p.dtype)
                sizes = {"usf": uniform, "frsf": rule.feedback().get(n), "brsf": noise.get(f"magnitude/{n}")}[name]
                assert sizes is not None
                matrices[n] = sizes.abs() * p.detach().sign()
        model.zero_grad()
        rule.backward(x, y, generator=torch.Generator().manual_seed(4))
        for n, wanted in closed_form(model, x, y, matrices).items():
            torch.testing.assert_close(model.get_parameter(n).grad, wanted)


def test_signs_are_those_of_the_weights_as_they_are_now() -> None:
    model, x, y = net()
    rule = rules.make("usf", model, example=x, magnitude="one")
    with torch.no_grad():
        model[4].weight.neg_()
    rule.backward(x, y)
    matrices = {n: p.detach().sign() for n, p in model.named_parameters() if p.ndim == 2}
    torch.testing.assert_close(model[0].weight.grad, closed_form(model, x, y, matrices)["0.weight"])


def test_uniform_feedback_of_weights_of_one_size_is_backpropagation() -> None:
    model, x, y = zoo()["residual"]
    fan_in = {n: p.shape[1:].numel() for n, p in model.named_parameters()}
    with torch.no_grad():
        for n, p in model.named_parameters():
            if p.ndim >= 2 and n != "matrix":
                p.copy_(p.sign() * (2 / fan_in[n]) ** 0.5)
            elif n == "matrix":
                p.copy_(p.sign() * (2 / p.shape[1:].numel()) ** 0.5)
    wanted = autograd(model, x, y)
    rules.make("usf", model, example=x).backward(x, y)
    same(grads(model), wanted)


def test_fixed_sizes_stay_and_batch_sizes_change() -> None:
    model, x, y = net()
    found = {}
    for name in ("frsf", "brsf"):
        rule = rules.make(name, model, example=x)
        for k in range(2):
            model.zero_grad()
            rule.backward(x, y, generator=torch.Generator().manual_seed(k))
            found[name, k] = model[0].weight.grad.clone()
    assert torch.equal(found["frsf", 0], found["frsf", 1])
    assert not torch.allclose(found["brsf", 0], found["brsf", 1])


def test_drtp_without_an_option_for_signs_refuses_it() -> None:
    with pytest.raises(ValueError, match="sign"):
        rules.make("drtp", mlp(6, 5, 4), sign=True)


CHAIN = {
    "relu": lambda: (nn.ReLU(), nn.ReLU(inplace=True)),
    "tanh": lambda: (nn.Tanh(), nn.Tanh()),
    "sigmoid": lambda: (nn.Sigmoid(), nn.Identity()),
    "two": lambda: (nn.Sequential(nn.Tanh(), nn.LeakyReLU(0.3)), nn.Sequential(nn.LeakyReLU(0.2), nn.ReLU())),
    "leaky": lambda: (nn.LeakyReLU(0.2), nn.LeakyReLU(0.1, inplace=True)),
}


@pytest.mark.parametrize("activation", list(CHAIN))
@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", [n for n in FREE if n not in ("bp", "shallow")])
def test_a_dense_chain_by_hand_equals_the_same_chain_by_autograd(
    name: str, bias: bool, dropout: float, activation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = CHAIN[activation]()
    drop = [nn.Dropout(dropout)] if dropout else []
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Flatten(),
        nn.Linear(12, 9, bias=bias),
        nn.Sequential(first, *drop),
        nn.Linear(9, 7, bias=bias),
        second,
        *drop,
        nn.Linear(7, 4, bias=bias),
    ).double()
    x = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(1)).double()
    y = torch.arange(5) % 4
    rule = rules.make(name, model, example=x)
    calls = []
    by_hand = type(rule).by_hand
    monkeypatch.setattr(type(rule), "by_hand", lambda self, *a, **k: calls.append(by_hand(self, *a, **k)) or calls[-1])
    step = rule.backward(x, y, generator=torch.Generator().manual_seed(3))
    assert calls[0] is not None
    hand = grads(model)
    model.zero_grad()
    monkeypatch.setattr(type(rule), "by_hand", lambda *a, **k: None)
    wanted = rule.backward(x, y, generator=torch.Generator().manual_seed(3))
    same(hand, grads(model))
    torch.testing.assert_close(step.loss, wanted.loss)
    torch.testing.assert_close(step.output, wanted.output)


def test_whoever_listens_to_a_layer_hears_it_under_every_rule() -> None:
    for name in FREE:
        model, x, y = net()
        rule = rules.make(name, model, example=x)
        heard = []
        model[2].register_forward_hook(lambda *args, heard=heard: heard.append(args[2].shape))
        rule.backward(x, y)
        assert heard == [(6, 5)], name


def test_gradient_hooks_run_and_may_change_the_gradient() -> None:
    for name in ORDINARY:
        model, x, y = net()
        rule = rules.make(name, model, example=x)
        rule.backward(x, y, generator=torch.Generator().manual_seed(0))
        plain = grads(model)["4.weight"]
        model.zero_grad()
        done = []
        model[4].weight.register_hook(lambda g: 2 * g)
        model[4].weight.register_post_accumulate_grad_hook(lambda p, done=done: done.append(p.grad.clone()))
        rule.backward(x, y, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(done[0], 2 * plain)
        assert len(done) == 1


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", ORDINARY)
def test_several_threads_lay_products_out_otherwise_and_compute_the_same(name: str, bias: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(12, 9, bias=bias),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(9, 7, bias=bias),
        nn.ReLU(),
        nn.Linear(7, 4, bias=bias),
    ).double()
    x, y = torch.randn(6, 12, generator=torch.Generator().manual_seed(1)).double(), torch.arange(6) % 4
    rule = rules.make(name, model, example=x)
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        model.zero_grad()
        step = rule.backward(x, y, generator=torch.Generator().manual_seed(2))
        found.append({**grads(model), "loss": step.loss, "output": step.output})
        assert all(p.grad is None or p.grad.is_contiguous() for p in model.parameters())
    same(*found)
