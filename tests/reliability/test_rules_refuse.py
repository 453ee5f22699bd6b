"""What a rule cannot do, it refuses in one line that names the layer and the way out, and changes nothing.

A failure here means a model that silently trains with another rule than the one asked for.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import equipoise as eq
from equipoise import rules
from equipoise.errors import EquipoiseError, InputError
from nets import mlp


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.out = nn.Linear(6, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.relu(F.linear(x, self.one.weight * torch.eye(6))))


class Einsum(Masked):
    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.einsum("bi,oi->bo", x, self.one.weight))


class Bilinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mix, self.out = nn.Bilinear(6, 6, 5), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.mix(x, x))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention, self.out = nn.MultiheadAttention(6, 2, batch_first=True), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = x.unsqueeze(1)
        return self.out(self.attention(h, h, h, need_weights=False)[0].squeeze(1))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.out = nn.LSTM(6, 5, batch_first=True), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.lstm(x.unsqueeze(1))[0][:, -1])


class Early(nn.Module):
    """A skip that is split off before the last layer is called."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.out = nn.Linear(6, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.one(x))
        skip = 2 * h
        return self.out(h) + skip


class Swapped(Early):
    def forward(self, x: Tensor) -> Tensor:
        return (self.out.weight @ self.one(x).T).T


class Flat(Early):
    def forward(self, x: Tensor) -> Tensor:
        return self.one(x).sum(-1)


X, Y = torch.randn(5, 6), torch.arange(5) % 4
UNSEEN = rules.make("dfa", mlp(6, 5, 4))

CASES: dict[str, tuple[Callable[[], object], str]] = {
    "unknown rule": (lambda: rules.make("dfaa", mlp(6, 5, 4)), r"unknown rule 'dfaa'; did you mean 'dfa'"),
    "unknown option": (
        lambda: rules.make("dfa", mlp(6, 5, 4), hiden_scale=2.0),
        r"'hiden_scale'; did you mean 'hidden_scale'",
    ),
    "option type": (lambda: rules.make("dfa", mlp(6, 5, 4), sign="yes"), r"sign of rule 'dfa' takes bool, not 'yes'"),
    "option choice": (lambda: rules.make("fa", mlp(6, 5, 4), inside="none"), r"takes 'exact' or 'random', not 'none'"),
    "option NaN": (lambda: rules.make("fa", mlp(6, 5, 4), scale=float("nan")), r"scale of rule 'fa' is not a number"),
    "unknown law": (lambda: rules.make("fa", mlp(6, 5, 4), law="kaiming"), r"unknown law 'kaiming'; did you mean"),
    "unknown loss": (lambda: rules.make("bp", mlp(6, 5, 4), loss="cross"), r"unknown loss 'cross'"),
    "loss type": (lambda: rules.make("bp", mlp(6, 5, 4), loss=3), r"loss must be a name, a Loss or a function"),
    "no module": (lambda: rules.make("bp", "mlp"), r"trains a torch.nn.Module, not str"),
    "no parameter": (lambda: rules.make("bp", nn.ReLU()), r"ReLU has no trainable parameter"),
    "lazy": (lambda: rules.make("bp", nn.LazyLinear(3)), r"lazy layers"),
    "data parallel": (lambda: rules.make("fa", nn.DataParallel(mlp(6, 4))), r"DataParallel.*pass model.module"),
    "compiled": (
        lambda: rules.make("fa", torch.compile(mlp(6, 4), backend="eager")),
        r"compiled; pass the plain module",
    ),
    "masked weight": (lambda: rules.make("fa", Masked(), example=X), r"'one.weight' is changed by mul"),
    "einsum": (lambda: rules.make("fa", Einsum(), example=X), r"'one.weight' is used by einsum"),
    "bilinear": (lambda: rules.make("fa", Bilinear(), example=X), r"'mix.weight' is used by bilinear"),
    "attention": (
        lambda: rules.make("fa", Attention(), example=X),
        r"'attention.in_proj_weight' is used by multi_head",
    ),
    "lstm": (lambda: rules.make("fa", Recurrent(), example=X), r"'lstm.weight_ih_l0' is used by lstm"),
    "early skip": (lambda: rules.make("dfa", Early(), example=X), r"input of 'out' also reaches the output"),
    "batch second": (
        lambda: rules.make("dfa", Swapped(), example=X),
        r"'out.weight' has shape \(4, 5\).*keep the batch first",
    ),
    "no hidden layer": (lambda: rules.make("dfa", nn.Linear(6, 4), example=X), r"no hidden layer"),
    "flat output": (lambda: rules.make("bp", Flat(), example=X), r"returns \(batch, classes\).*returns \(5,\)"),
    "input shape": (
        lambda: rules.make("bp", mlp(6, 5, 4), example=torch.randn(2, 7)),
        r"does not accept a batch of shape \(2, 7\)",
    ),
    "input dtype": (
        lambda: rules.make("bp", mlp(6, 5, 4), example=torch.ones(2, 6, dtype=torch.long)),
        r"dtype torch.int64",
    ),
    "example": (lambda: rules.make("bp", mlp(6, 5, 4), example=torch.randn(6)), r"example is a batch"),
    "batch sizes": (lambda: rules.make("fa", mlp(6, 5, 4)).backward(X, Y[:3]), r"same batch on axis 0"),
    "unseen under vmap": (
        lambda: torch.func.vmap(lambda x: UNSEEN.gradients(dict(UNSEEN.model.named_parameters()), x, Y))(
            X.expand(2, 5, 6)
        ),
        r"pass example=x",
    ),
    "no masks": (
        lambda: rules.make(
            "bp", m := nn.Sequential(nn.Linear(6, 5), nn.Dropout(), nn.Linear(5, 4)), example=X
        ).gradients(dict(m.named_parameters()), X, Y),
        r"pass noise=rule.draw",
    ),
    "reference": (
        lambda: eq.measure.alignment(rules.make("fa", mlp(6, 5, 4), example=X), X, Y, "autgrad"),  # type: ignore[arg-type]
        r"reference is 'autograd', 'exact' or 'inverse'",
    ),
    "unknown model": (lambda: eq.models.make("mpl:6-4"), r"unknown model 'mpl'; did you mean 'mlp'"),
    "model sizes": (lambda: eq.models.make("mlp:6-x-4"), r"does not read as mlp:784-300-10"),
    "model width": (lambda: eq.models.make("mlp:6-²-4"), r"does not read as mlp:784-300-10"),
    "model rate": (lambda: eq.models.make("mlp:6-5-4,dropout=1"), r"dropout is a rate in \[0, 1\)"),
    "model rate NaN": (lambda: eq.models.make("mlp:6-5-4,dropout=nan"), r"dropout is a rate in \[0, 1\)"),
    "model outputs": (lambda: eq.models.make("conv:3x32x32-10-5"), r"does not read as conv:3x32x32-10"),
    "model option": (lambda: eq.models.make("mlp:6-4,droput=1"), r"options are dropout=RATE"),
    "image sizes": (lambda: eq.models.make("conv:3x4x4-10"), r"images of 6x6 or more"),
    "user model": (lambda: eq.models.make("nowhere.at_all:build"), r"there is no module .nowhere"),
}


@pytest.mark.parametrize("case", list(CASES))
def test_bad_input_is_one_clear_line(case: str) -> None:
    act, message = CASES[case]
    with pytest.raises(InputError) as caught:
        act()
    text = str(caught.value)
    assert re.search(message, text), text
    assert "\n" not in text
    assert isinstance(caught.value, EquipoiseError)


def test_loaded_feedback_of_the_wrong_shape_is_refused_when_the_model_is_seen() -> None:
    rule = rules.make("dfa", mlp(6, 5, 4))
    rule.load_state_dict({"2": torch.zeros(3, 4)})
    with pytest.raises(InputError, match=r"has the shape \(3, 4\); this model needs \(5, 4\)"):
        rule.backward(X, Y)


@pytest.mark.parametrize("model", [Masked, Einsum, Bilinear, Attention, Recurrent])
def test_what_alignment_refuses_backpropagation_still_trains(model: type[nn.Module]) -> None:
    net = model()
    rules.make("bp", net, example=X).backward(X, Y)
    assert all(p.grad is not None for n, p in net.named_parameters() if n != "one.bias")


def test_debug_checks_values_and_labels() -> None:
    rule = rules.make("fa", mlp(6, 5, 4), example=X)
    bad = X.clone()
    bad[0, 0] = float("nan")
    rule.backward(bad, Y)
    with eq.debug():
        rule.backward(X, Y)
        with pytest.raises(InputError, match="not finite"):
            rule.backward(bad, Y)
        with pytest.raises(InputError, match="labels run from 0 to 7; the model has 4 outputs"):
            rule.backward(X, Y.clone().fill_(0).index_fill_(0, torch.tensor([1]), 7))
