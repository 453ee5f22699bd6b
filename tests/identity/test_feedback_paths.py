"""Feedback through every spelling of a product, masks with their scale, and streams that differ by layer.

A failure here hides a layer that quietly learns by plain backpropagation because of how its product was written, or
by the wrong matrix. The oracle is the same layer written as ``F.linear``, whose closed form test_rules.py holds.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise import rules

EXACT = {"rtol": 1e-10, "atol": 1e-13}
Shape = Callable[[Tensor], Tensor]

# From a matrix (O, I) to the parameter, back again, and how the parameter maps h (B, I) to (B, O).
SPELLINGS: dict[str, tuple[Shape, Shape, Callable[[Tensor, Tensor], Tensor]]] = {
    "matmul": (lambda w: w.T, lambda p: p.T, lambda h, p: h @ p),
    "mm, t": (lambda w: w, lambda p: p, lambda h, p: h.mm(p.t())),
    "T": (lambda w: w, lambda p: p, lambda h, p: h @ p.T),
    "mT": (lambda w: w, lambda p: p, lambda h, p: torch.matmul(h, p.mT)),
    "transpose": (lambda w: w, lambda p: p, lambda h, p: h.matmul(p.transpose(0, 1))),
    "copied": (lambda w: w, lambda p: p, lambda h, p: h @ p.t().contiguous().clone()),
    "addmm": (lambda w: w.T, lambda p: p.T, lambda h, p: torch.addmm(h.new_zeros(5), h, p)),
    "from the left": (lambda w: w, lambda p: p, lambda h, p: (p @ h.T).T),
    "squeezed": (lambda w: w[..., None], lambda p: p[..., 0], lambda h, p: F.linear(h, p.squeeze(-1))),
    "flattened": (lambda w: w.reshape(5, 1, 7), lambda p: p[:, 0], lambda h, p: F.linear(h, p.flatten(1))),
    "a slice": (lambda w: torch.cat([w, w])[1:8], lambda p: p[4:7], lambda h, p: F.linear(h, p[:5].narrow(0, 0, 5))),
    "a kernel": (
        lambda w: w[..., None, None],
        lambda p: p[..., 0, 0],
        lambda h, p: F.conv2d(h[..., None, None], p).flatten(1),
    ),
}


class Spelled(nn.Module):
    """Three layers, the middle one without a bias and written in its own way."""

    def __init__(self, parameter: Tensor, product: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.one, self.out = nn.Linear(6, 7).double(), nn.Linear(5, 4).double()
        self.middle = nn.Parameter(parameter.clone())
        self.product = product

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.product(torch.tanh(self.one(x)), self.middle)))


def trained(model: Spelled, middle: Tensor, x: Tensor, y: Tensor) -> Spelled:
    """``model`` with the gradients of feedback alignment, the middle layer's feedback being ``middle``."""
    torch.manual_seed(1)
    for layer in (model.one, model.out):
        layer.reset_parameters()
    rule = rules.make("fa", model, example=x)
    rule.load_state_dict({**rule.state_dict(), "middle": middle})
    rule.backward(x, y)
    return model


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_of_a_product_carries_its_feedback(spelling: str) -> None:
    into, back, product = SPELLINGS[spelling]
    source = torch.Generator().manual_seed(0)
    x, w, b = (torch.randn(*shape, generator=source).double() for shape in ((9, 6), (5, 7), (5, 7)))
    y = torch.arange(9) % 4
    if spelling == "a slice":
        rows = torch.tensor([1, 2, 3, 4, 0])  # which rows of w the first five rows of the parameter are
        plain = trained(Spelled(w[rows], F.linear), b[rows], x, y)
        found = trained(Spelled(into(w), product), into(b), x, y)
        torch.testing.assert_close(found.middle.grad[:5], plain.middle.grad, **EXACT)
        assert not found.middle.grad[5:].any()
    else:
        plain = trained(Spelled(w, F.linear), b, x, y)
        found = trained(Spelled(into(w), product), into(b), x, y)
        torch.testing.assert_close(back(found.middle.grad), plain.middle.grad, **EXACT)
    torch.testing.assert_close(found.one.weight.grad, plain.one.weight.grad, **EXACT)
    backprop = trained(Spelled(w, F.linear), w, x, y)
    assert not torch.allclose(plain.one.weight.grad, backprop.one.weight.grad, rtol=0.1)


@pytest.mark.parametrize("name", ["bp", "fa", "dfa", "shallow"])
def test_a_served_mask_scales_as_dropout_does(name: str) -> None:
    """The masks are x * mask / (1 - p): the output and every gradient equal those with the product written out."""
    torch.manual_seed(0)
    first, last = nn.Linear(6, 7).double(), nn.Linear(7, 4).double()
    model = nn.Sequential(first, nn.Tanh(), nn.Dropout(0.4), last)
    x, y = torch.randn(9, 6, dtype=torch.float64), torch.arange(9) % 4
    rule = rules.make(name, model, example=x)
    noise = rule.draw(x, torch.Generator().manual_seed(3))
    (mask,) = noise.values()
    params = {n: p.detach() for n, p in model.named_parameters()}
    grads, step, _ = rule.gradients(params, x, y, noise=noise)
    hidden = torch.tanh(first(x)) * mask / 0.6
    torch.testing.assert_close(step.output, last(hidden).detach(), **EXACT)
    loss = F.cross_entropy(last(hidden), y)
    wanted = torch.autograd.grad(loss, [last.weight, first.weight])
    torch.testing.assert_close(grads["3.weight"], wanted[0], **EXACT)
    if name == "bp":
        torch.testing.assert_close(grads["0.weight"], wanted[1], **EXACT)


@pytest.mark.parametrize("name", ["fa", "dfa"])
def test_layers_of_one_shape_have_feedback_of_their_own(name: str) -> None:
    model = nn.Sequential(*[part for _ in range(3) for part in (nn.Linear(4, 4), nn.Tanh())], nn.Linear(4, 4))
    x = torch.randn(5, 4)
    feedback = list(rules.make(name, model, example=x, seed=7).state_dict().values())
    assert len(feedback) >= 3
    for i, one in enumerate(feedback):
        assert not any(torch.allclose(one, other) for other in feedback[:i])


def test_normalisation_over_several_axes_keeps_its_exact_derivative() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.LayerNorm((4, 6, 6)), nn.Flatten(), nn.Linear(144, 4)).double()
    nn.init.normal_(model[1].weight)
    x, y = torch.randn(5, 3, 8, 8, dtype=torch.float64), torch.arange(5) % 4
    rule = rules.make("fa", model, example=x)
    assert set(rule.state_dict()) == {"0/weight", "3/weight"}
    rule.load_state_dict({**rule.state_dict(), "3/weight": model[3].weight.detach()})
    rule.backward(x, y)
    wanted = torch.autograd.grad(F.cross_entropy(model(x), y), list(model.parameters()))
    for parameter, gradient in zip(model.parameters(), wanted, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, **EXACT)
