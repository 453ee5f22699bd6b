"""PEPITA against its definition, written out as two plain forward passes; what it tends to; what its switches change.

A failure means that training by ``pepita`` is not the rule of the paper, or not the variant that was asked for.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from equipoise import rules
from pepita_nets import batch, dense, kernels, oracle, written

OPTIONS = (
    {},
    {"sign": -1},
    {"output_error": "modulated"},
    {"presynaptic": "standard"},
    {"update": "during"},
    {"update": "hebbian"},
    {"update": "hebbian", "presynaptic": "standard", "output_error": "modulated"},
    {"perturb": "uniform", "k": 0.3},
    {"perturb": "positive", "k": 0.7},
)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("n", [6, 3])
@pytest.mark.parametrize("kind", ["dense", "kernels"])
def test_it_is_the_two_passes_as_printed(kind: str, n: int, dropout: float, bias: bool, options: dict) -> None:
    model = dense(dropout=dropout, bias=bias) if kind == "dense" else kernels(dropout=dropout, bias=bias)
    x, y = batch(kind, n)
    found, noise, rule = written(model, x, y, **options)
    expected = oracle(model, x, y, next(iter(rule.feedback().values())), noise, **options)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-12)
    pure, step, _ = rule.gradients({n: p.detach() for n, p in model.named_parameters()}, x, y, noise=noise)
    for name, gradient in expected.items():
        torch.testing.assert_close(pure[name], gradient, rtol=1e-9, atol=1e-12)
    assert step.output.shape == (n, 4)


@pytest.mark.parametrize("kind", ["dense", "kernels"])
def test_the_hebbian_pair_of_updates_has_the_same_sum(kind: str) -> None:
    model = dense(dropout=0.4) if kind == "dense" else kernels(dropout=0.4)
    x, y = batch(kind)
    plain, *_ = written(model, x, y)
    pair, *_ = written(model, x, y, update="hebbian")
    for name, gradient in plain.items():
        torch.testing.assert_close(pair[name], gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", ["dense", "kernels"])
def test_without_f_the_output_layer_is_backpropagations_and_the_rest_stays(kind: str) -> None:
    model = dense(bias=True) if kind == "dense" else kernels(bias=True)
    x, y = batch(kind)
    found, *_ = written(model, x, y, scale=0.0)
    last = f"{len(model) - 1}."
    model.zero_grad()
    F.cross_entropy(model(x), y).backward()
    for name, parameter in model.named_parameters():
        if name.startswith(last):
            torch.testing.assert_close(found[name], parameter.grad, rtol=1e-10, atol=1e-13)
        else:
            assert not found[name].any()


def test_a_small_f_gives_direct_feedback_through_the_weights_and_f() -> None:
    """dW_l -> -(D_l W_l ... D_1 W_1 F) e h^T: direct feedback with the matrix -(W_l D_{l-1} ... W_1 F), then D_l."""
    model = dense()
    x, y = batch("dense")
    found, _, rule = written(model, x, y, scale=1e-6)
    feedback = rule.feedback()["1"]
    assert feedback.abs().max() <= 1e-6
    with torch.no_grad():
        e = model(x).softmax(-1) - F.one_hot(y, 4)
        h, moved = x, e @ feedback.T
        for name in ("1", "3"):
            layer = model.get_submodule(name)
            z = layer(h)
            assert z.abs().min() > 1e-5, "a unit at its kink"
            moved = (moved @ layer.weight.T) * (z > 0)
            expected = -moved.T @ h / len(x)
            error = (found[f"{name}.weight"] - expected).norm() / expected.norm()
            assert 0 < error <= 1e-3
            h = z.relu()


def test_in_a_linear_network_the_update_is_exact_and_not_a_limit() -> None:
    """Appendix E, eq. 17: dA = A F e x^T for the presynaptic activity of the first pass, whatever the size of F."""
    model = nn.Sequential(nn.Linear(12, 9, bias=False), nn.Identity(), nn.Linear(9, 4, bias=False)).double()
    x, y = batch("dense")
    rule = rules.make("pepita", model, example=x, loss="mse", presynaptic="standard", scale=3.0)
    output = rule.backward(x, y).output
    e = output - F.one_hot(y, 4)
    a = model[0].weight.detach()
    expected = -a @ rule.feedback()["0"] @ e.T @ x / len(x)
    torch.testing.assert_close(model[0].weight.grad, expected, rtol=1e-10, atol=1e-13)
