"""What PEPITA cannot train is one clear line, when the rule is made or sees its model, and never a wrong update."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise import rules
from equipoise.errors import InputError

X, Y = torch.rand(4, 6), torch.arange(4) % 3


class Free(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.relu(self.a(x)))


class OwnDropout(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.5, self.training)


class OwnNoise(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn_like(x)


def between(*middle: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 5), *middle, nn.Linear(5, 3))


CASES = {
    "no chain": (Free, {}, r"pepita cannot train this model: it needs a chain.*this model is a Free; use rule 'fa'"),
    "batch norm": (lambda: between(nn.BatchNorm1d(5)), {}, r"layer '1' \(BatchNorm1d\) has parameters or a state"),
    "layer norm": (lambda: between(nn.LayerNorm(5)), {}, r"layer '1' \(LayerNorm\) has parameters"),
    "prelu": (lambda: between(nn.PReLU()), {}, r"layer '1' \(PReLU\)"),
    "nested": (lambda: between(nn.Sequential(nn.ReLU(), Free())), {}, r"layer '1\.1' \(Free\)"),
    "no hidden layer": (lambda: nn.Sequential(nn.Linear(6, 3)), {}, r"no hidden layer"),
    "softmax at the end": (
        lambda: nn.Sequential(*between(nn.ReLU()), nn.Softmax(-1)),
        {},
        r"layer '3' \(Softmax\) follows the last weighted layer, '2'",
    ),
    "dropout of its own": (lambda: between(OwnDropout()), {}, r"a layer draws dropout by itself"),
    "noise of its own": (lambda: between(OwnNoise()), {}, r"layer '1' \(OwnNoise\) draws noise of its own"),
    "alpha dropout": (lambda: between(nn.AlphaDropout(0.5)), {}, r"layer '1' \(AlphaDropout\) draws noise"),
    "random relu": (lambda: between(nn.RReLU()), {}, r"layer '1' \(RReLU\) draws noise"),
    "own loss": (between, {"loss": lambda output, y: F.cross_entropy(output, y)}, r"error of the loss '<lambda>'"),
    "inject nowhere": (lambda: between(nn.ReLU()), {"inject": "7"}, r"inject='7' names no hidden layer; .* are 0"),
    "inject at the output": (lambda: between(nn.ReLU()), {"inject": "2"}, r"inject='2' names no hidden layer"),
    "sign": (between, {"sign": 2}, r"option sign of rule 'pepita' takes 1 or -1, not 2"),
    "update": (between, {"update": "later"}, r"takes 'after' or 'during' or 'hebbian', not 'later'"),
    "law": (between, {"law": "cauchy"}, r"cauchy"),
    "option": (between, {"injekt": "0"}, r"injekt.*inject"),
}


@pytest.mark.parametrize("case", list(CASES))
def test_it_is_refused_in_one_line(case: str) -> None:
    build, options, message = CASES[case]
    with pytest.raises(InputError, match=message) as caught:
        rules.make("pepita", build(), example=X, **options)
    assert "\n" not in str(caught.value)


def test_a_last_convolution_is_refused() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 3, 3), nn.Flatten())
    with pytest.raises(InputError, match=r"layer '3' \(Flatten\) follows|is a convolution"):
        rules.make("pepita", model, example=torch.rand(2, 1, 5, 5))


def test_an_f_of_the_wrong_shape_is_refused_wherever_it_comes_from() -> None:
    model = between(nn.ReLU())
    rule = rules.make("pepita", model, example=X)
    message = r"feedback '0' has the shape \(3, 6\); this model needs \(6, 3\)"
    with pytest.raises(InputError, match=message):
        rule.load_state_dict({"0": torch.zeros(3, 6)})
    with pytest.raises(InputError, match=message):
        rule.gradients(dict(model.named_parameters()), X, Y, feedback={"0": torch.zeros(3, 6)})
    early = rules.make("pepita", between(nn.ReLU()))
    early.load_state_dict({"0": torch.zeros(3, 6)})
    with pytest.raises(InputError, match=message):
        early.backward(X, Y)


def test_a_good_f_that_was_loaded_before_the_model_was_seen_is_kept() -> None:
    rule = rules.make("pepita", between(nn.ReLU()))
    rule.load_state_dict({"0": torch.full((6, 3), 0.5)})
    rule.backward(X, Y)
    assert bool((rule.feedback()["0"] == 0.5).all())


def test_a_rate_that_changed_after_the_masks_sizes_were_seen_is_refused() -> None:
    model = between(nn.ReLU(), nn.Dropout(0.5))
    for name in ("pepita", "fa", "dfa"):
        rule = rules.make(name, model, example=X)
        model[2].p = 0.25
        with pytest.raises(InputError, match=r"dropout 0 now has the rate 0\.25"):
            rule.backward(X, Y)
        rule.look(X)
        rule.backward(X, Y)
        model[2].p = 0.5


def test_a_rule_without_its_noise_is_refused() -> None:
    model = between(nn.ReLU())
    for name in ("pepita", "brsf"):
        rule = rules.make(name, model, example=X, **({"perturb": "uniform"} if name == "pepita" else {}))
        with pytest.raises(InputError, match=r"pass noise=rule\.draw\(x, generator\)"):
            rule.gradients(dict(model.named_parameters()), X, Y)
