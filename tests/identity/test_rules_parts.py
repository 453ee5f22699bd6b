"""Feedback's own parts: convolutions of every kind, losses and their errors, and the fixed matrices.

A failure here means that the error reaches a layer through another matrix than the documented one.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from equipoise import rules
from equipoise.functional import as_loss, losses
from nets import EXACT, autograd, grads, image_batch, mlp, same, symmetric, zoo


@pytest.mark.parametrize("layer", [nn.Conv1d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d])
@pytest.mark.parametrize("groups", [1, 2])
def test_every_convolution_with_symmetric_feedback_is_backpropagation(layer: type, groups: int) -> None:
    torch.manual_seed(1)
    axes = int(layer.__name__[-2])
    first = layer(2, 4, 3, padding=1)
    second = layer(4, 4, 2, stride=2, dilation=2, groups=groups)
    model = nn.Sequential(first, nn.Tanh(), second, nn.Flatten(), nn.LazyLinear(4)).double()
    x = torch.randn(3, 2, *(5,) * axes, dtype=torch.float64)
    model(x)
    rule = rules.make("fa", model, example=x)
    symmetric(rule)
    y = torch.arange(3)
    wanted = autograd(model, x, y)
    rule.backward(x, y)
    same(grads(model), wanted)


@pytest.mark.filterwarnings("ignore:Using padding=.same. with even kernel")
@pytest.mark.parametrize("padding", ["same", "valid", 1, (2, 0)])
def test_a_convolution_sends_the_error_through_its_feedback_kernels(padding: object) -> None:
    torch.manual_seed(2)
    weight, feedback = torch.randn(4, 3, 4, 3).double(), torch.randn(4, 3, 4, 3).double()
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 4, (4, 3), padding=padding, bias=False), nn.Flatten())
    model = nn.Sequential(*model, nn.LazyLinear(4)).double()
    x, y = image_batch(2)
    x = x.double()
    model(x)
    model[1].weight.data.copy_(weight)
    rule = rules.make("fa", model, example=x)
    h = model[0](x).detach().requires_grad_()
    padded = h if padding in ("valid",) else None
    if padding == "same":
        padded = F.pad(h, (1, 1, 1, 2))
    elif padded is None:
        vertical, horizontal = (padding, padding) if isinstance(padding, int) else padding
        padded = F.pad(h, (horizontal, horizontal, vertical, vertical))
    z = F.conv2d(padded, weight).flatten(1)
    error = (model[3](z).softmax(-1) - F.one_hot(y, 4)).detach() / 2
    g = (error @ rule.feedback()["3.weight"]).reshape(2, 4, *F.conv2d(padded, weight).shape[2:])
    swapped = {**rule.state_dict(), "1/weight": feedback}
    rule.load_state_dict(swapped)
    torch.autograd.backward(F.conv2d(padded, feedback), g)
    rule.backward(x, y)
    wanted = torch.einsum("nohw,nihw->oi", h.grad, x)[..., None, None]
    torch.testing.assert_close(model[0].weight.grad, wanted, **EXACT)


@pytest.mark.parametrize("name", list(losses))
def test_the_error_of_a_loss_is_its_gradient(name: str) -> None:
    loss = as_loss(name)
    output = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    y = torch.randn(5, 4, dtype=torch.float64) if loss.of_input else torch.arange(5) % 4
    (wanted,) = torch.autograd.grad(loss.value(output, y), output)
    torch.testing.assert_close(loss.error(output.detach(), y), wanted, **EXACT)


def test_a_loss_of_ones_own_gets_its_error_by_differentiation() -> None:
    model, x, y = zoo()["mlp"]
    rules.make("dfa", model, example=x, loss="cross_entropy").backward(x, y)
    wanted = grads(model)
    model.zero_grad()
    rules.make("dfa", model, example=x, loss=lambda o, t: F.cross_entropy(o, t)).backward(x, y)
    same(grads(model), wanted)


def test_feedback_depends_on_the_seed_and_the_name_alone() -> None:
    model, x, _ = zoo()["mlp"]
    torch.manual_seed(11)
    one = rules.make("fa", model, example=x, seed=5).state_dict()
    deeper = nn.Sequential(*model, nn.Tanh(), nn.Linear(4, 4)).double()
    two = rules.make("fa", deeper, example=x, seed=5).state_dict()
    assert all(torch.equal(one[n], two[n]) for n in one)
    other = rules.make("fa", model, example=x, seed=6).state_dict()
    assert all(not torch.equal(one[n], other[n]) for n in one)
    assert not torch.equal(one["2/weight"], model[2].weight)


@pytest.mark.parametrize("name", ["fa", "dfa"])
def test_the_default_law_is_uniform_within_its_bound(name: str) -> None:
    model = mlp(300, 200, 100, 10)
    rule = rules.make(name, model, example=torch.randn(2, 300))
    for b in rule.feedback().values():
        n = b.shape[1] if name == "fa" else b.shape[0]
        bound = (6 / n) ** 0.5
        assert b.abs().max() <= bound
        assert b.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
