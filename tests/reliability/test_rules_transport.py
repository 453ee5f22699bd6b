"""No error passes back through a forward weight unnoticed: such a model is refused by name, or trained by the rule.

A failure here hides a layer that learns by plain backpropagation under the name of another rule. The oracle of the
accepted models is backpropagation itself (symmetric feedback) or exact zeros (no feedback below the readout).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from equipoise import rules
from equipoise.errors import InputError
from nets import autograd, grads, same, symmetric

X, Y = torch.randn(5, 6, generator=torch.Generator().manual_seed(0)).double(), torch.arange(5) % 4


class OwnLinear(torch.autograd.Function):
    """A memory-saving linear layer, as people write them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(x, weight)
        return x @ weight.t()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        return g @ weight, g.t() @ x


class Middle(nn.Module):
    """one -> tanh -> the case -> tanh -> out, the case using ``w``, ``v`` or a module ``m``."""

    def __init__(self, middle: Callable[[Any, Tensor], Tensor], w: tuple, v: tuple, m: nn.Module | None) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.one, self.out, self.middle = nn.Linear(6, 7), nn.Linear(7, 4), middle
        if w:
            self.w = nn.Parameter(torch.randn(*w) / 2)
        if v:
            self.v = nn.Parameter(torch.randn(*v) / 2)
        if m is not None:
            self.m = m

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.middle(self, torch.tanh(self.one(x)))))


def net(middle: Callable[[Any, Tensor], Tensor], w: tuple = (), v: tuple = (), m: nn.Module | None = None) -> Middle:
    return Middle(middle, w, v, m).double()


def attention(self: Any, h: Tensor) -> Tensor:
    return self.m(*[h.unsqueeze(1)] * 3, need_weights=False)[0].squeeze(1)


# What the middle does, and what "fa" and "dfa" say of it ("": trains it).
UNSEEN, AGAIN = "by code that a rule cannot see", "again in its backward pass"
MODELS: dict[str, tuple[Callable[[], Middle], str, str]] = {
    "flat weight": (lambda: net(lambda s, h: F.linear(h, s.w.view(7, 7)), (49,)), "'w' is changed by view", ""),
    "flat product": (lambda: net(lambda s, h: h @ s.w.view(7, 7), (49,)), "'w' is used by matmul", "by matmul"),
    "vector": (lambda: net(lambda s, h: h * (h @ s.w)[:, None], (7,)), "'w' is used by matmul", "by matmul"),
    "changed twice": (lambda: net(lambda s, h: F.linear(h, (s.w * 2).tanh()), (7, 7)), "'w' is changed by tanh", ""),
    "outer": (lambda: net(lambda s, h: F.linear(h, torch.outer(s.w, s.v)), (7,), (7,)), "'v' is changed by", ""),
    "factors": (
        lambda: net(lambda s, h: F.linear(h, s.w @ s.v), (7, 2), (2, 7)),
        "'v' is changed by mm",
        "keep the batch first",
    ),
    "generated": (
        lambda: net(lambda s, h: F.linear(h, s.m(s.w).view(7, 7)), (3,), m=nn.Linear(3, 49)),
        "is changed by view",
        "keep the batch first",
    ),
    "weight norm": (
        lambda: net(lambda s, h: s.m(h), m=parametrizations.weight_norm(nn.Linear(7, 7))),
        "'m.parametrizations.weight.original0' is changed",
        "",
    ),
    "batched": (lambda: net(lambda s, h: (h @ s.w).mean(0), (3, 7, 7)), "'w' is used by matmul", "cannot cut"),
    "einsum": (lambda: net(lambda s, h: torch.einsum("bi,oi->bo", h, s.w), (7, 7)), "'w' is used by einsum", "einsum"),
    "bmm": (lambda: net(lambda s, h: torch.bmm(h[None], s.w)[0], (1, 7, 7)), "'w' is used by bmm", "by bmm"),
    "gru": (
        lambda: net(lambda s, h: s.m(h), m=nn.GRUCell(7, 7)),
        "'m.weight_ih' is used by gru_cell",
        "'m.weight_ih' is used by gru_cell",
    ),
    "attention": (
        lambda: net(attention, m=nn.MultiheadAttention(7, 1, batch_first=True)),
        "'m.in_proj_weight' is used by multi_head",
        "'m.in_proj_weight' is used by multi_head",
    ),
    "own function": (
        lambda: net(lambda s, h: OwnLinear.apply(h, s.w), (7, 7)),
        "'w' is used by OwnLinear",
        "'w' is used by OwnLinear",
    ),
    "traced": (
        lambda: net(lambda s, h: s.m(h), m=torch.jit.trace(nn.Linear(7, 7), torch.randn(2, 7))),
        f"'m.weight' reaches the output {UNSEEN}",
        UNSEEN,
    ),
    "checkpointed": (
        lambda: net(lambda s, h: checkpoint(s.m, h, use_reentrant=False), m=nn.Linear(7, 7)),
        f"'m.weight' {AGAIN}",
        f"'m.weight' {AGAIN}",
    ),
    "checkpointed, reentrant": (
        lambda: net(lambda s, h: checkpoint(s.m, h, use_reentrant=True), m=nn.Linear(7, 7)),
        "cannot be differentiated",
        "cannot be differentiated",
    ),
    "by keyword": (lambda: net(lambda s, h: torch.matmul(other=s.w, input=h), (7, 7)), "", ""),
    "scaled sum": (lambda: net(lambda s, h: torch.addmm(s.v, h, s.w, beta=2, alpha=0.5), (7, 7), (7,)), "", ""),
    "data": (lambda: net(lambda s, h: F.linear(h, s.w.data) + F.linear(h, s.w), (7, 7)), "", ""),
    "detached vector": (lambda: net(lambda s, h: h - (h @ s.w.detach())[:, None], (7,)), "", ""),
}
JITS = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")


@JITS
@pytest.mark.parametrize("rule", ["fa", "dfa"])
@pytest.mark.parametrize("case", MODELS)
def test_an_error_passes_by_feedback_or_not_at_all(case: str, rule: str) -> None:
    build, fa, dfa = MODELS[case]
    refusal = fa if rule == "fa" else dfa
    model = build()
    before = {n: t.clone() for n, t in model.state_dict().items()}
    if refusal:
        with pytest.raises(InputError, match=re.escape(refusal)) as caught:
            rules.make(rule, model, example=X)
        assert "\n" not in str(caught.value)
    else:
        made = rules.make(rule, model, example=X)
        own = made.state_dict()
        made.load_state_dict({n: b if n.startswith("out") else torch.zeros_like(b) for n, b in own.items()})
        made.backward(X, Y)
        below = model.one.weight.grad
        assert below is None or case == "detached vector" or not below.any()
        assert model.out.weight.grad.any()
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())


@JITS
@pytest.mark.parametrize("case", MODELS)
def test_backpropagation_refuses_none_of_them(case: str) -> None:
    model = MODELS[case][0]()
    wanted = autograd(model, X, Y)
    rules.make("bp", model, example=X).backward(X, Y)
    same(grads(model), wanted)


class Blocks(nn.Module):
    """A learned token, learned positions, attention by products, and an embedding whose table is the readout too."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.table, self.qkv, self.mix = nn.Embedding(4, 6), nn.Linear(6, 18), nn.Linear(6, 6)
        self.out = nn.Linear(6, 4, bias=False)
        self.out.weight = self.table.weight
        self.token, self.places = nn.Parameter(torch.randn(1, 1, 6)), nn.Parameter(torch.randn(1, 4, 6))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.cat([self.token.expand(len(x), -1, -1), self.table(x)], 1) + self.places
        q, k, v = self.qkv(h).chunk(3, -1)
        h = h + self.mix((q @ k.mT / 3).softmax(-1) @ v)
        return self.out(h[:, 0])


def test_learned_tokens_positions_and_tied_embeddings_are_no_transport() -> None:
    model, x = Blocks().double(), torch.arange(15).reshape(5, 3) % 4
    rule = rules.make("fa", model, example=x)
    symmetric(rule)
    wanted = autograd(model, x, Y)
    rule.backward(x, Y)
    same(grads(model), wanted)
    model.zero_grad()
    direct = rules.make("dfa", model, example=x)
    assert list(direct.feedback()) == ["qkv", "mix", "table"]


class Dropped(Middle):
    """Dropout inside a part that runs again in the backward pass."""

    def forward(self, x: Tensor) -> Tensor:
        return self.out(checkpoint(lambda h: F.dropout(torch.tanh(h)), self.one(x), use_reentrant=False))


def test_masks_cannot_be_served_to_a_part_that_runs_again() -> None:
    model = Dropped(lambda s, h: h, (), (), None).double()
    with pytest.raises(InputError, match="uses dropout again in its backward pass"):
        rules.make("bp", model, example=X)
