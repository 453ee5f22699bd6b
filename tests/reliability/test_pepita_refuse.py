"""What PEPITA cannot train is one clear line, when the rule is made or sees its model, and never a wrong update."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import prune

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


class TrainingNoise(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * (1 + torch.rand_like(x)) if self.training else x


class Ring(nn.Module):
    """Units on a ring, each with its neighbour added: the same for every unit, and mixed."""

    def forward(self, x: Tensor) -> Tensor:
        return x + x.roll(1, -1)


class Favourite(nn.Module):
    """The last unit is added to the others: the first two are treated alike."""

    def forward(self, x: Tensor) -> Tensor:
        return x + x[..., -1:]


def pruned() -> nn.Sequential:
    model = between(nn.ReLU())
    prune.identity(model[2], "weight")
    return model


def local() -> nn.Sequential:
    model = between(nn.ReLU())
    model[0].local_loss = lambda x: x.sum()
    return model


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
    "activation behind a pool": (
        lambda: between(nn.Unflatten(1, (1, 5)), nn.MaxPool1d(1), nn.ReLU(), nn.Flatten()),
        {},
        r"layer '3' \(ReLU\) is the activation of units that '1' \(Unflatten\) has mixed",
    ),
    "activation behind a ring": (
        lambda: between(Ring(), nn.ReLU()),
        {},
        r"'2' \(ReLU\) is .* that '1' \(Ring\) has mixed",
    ),
    "activation behind a favourite": (lambda: between(Favourite(), nn.ReLU()), {}, r"that '1' \(Favourite\) has mixed"),
    "center": (between, {"center": "batch"}, r"option center of rule 'pepita' takes 'none' or 'units', not 'batch'"),
    "pruning": (lambda: pruned(), {}, r"layer '2' \(Linear\) computes its weight \(weight_norm"),
    "noise in training alone": (lambda: between(TrainingNoise()).eval(), {}, r"layer '1' \(TrainingNoise\) draws"),
    "local objective": (lambda: local(), {}, r"layer '0' has a local objective"),
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


def test_a_forward_that_was_replaced_on_an_object_is_called_or_refused() -> None:
    for name in ("bp", "fa", "dfa", "drtp", "usf"):
        model = between(nn.ReLU())
        rule = rules.make(name, model, example=X)
        layer = model[0]
        layer.forward = lambda x, layer=layer: 3 * F.linear(x, layer.weight, layer.bias)
        torch.testing.assert_close(rule.backward(X, Y).output, model(X))
    rule = rules.make("pepita", model, example=X)
    with pytest.raises(InputError, match=r"the forward of '0' was replaced"):
        rule.backward(X, Y)


def test_hooks_of_every_part_are_heard_in_the_first_pass() -> None:
    model = between(nn.ReLU())
    rule = rules.make("pepita", model, example=X)
    heard: list[int] = []
    for k, layer in enumerate(model):
        layer.register_forward_hook(lambda *_, k=k: heard.append(k))
    rule.backward(X, Y)
    assert heard == [0, 1, 2]


def test_what_a_gradient_hook_keeps_or_returns_stays_its_own() -> None:
    for name in ("fa", "pepita"):
        model = between(nn.ReLU())
        rule = rules.make(name, model, example=X)
        mine, kept = torch.ones(5, 6), []
        model[0].weight.register_hook(lambda g, kept=kept, mine=mine: kept.append(g) or mine)
        model[2].weight.register_hook(lambda g, kept=kept: kept.append(g))
        model[2].bias.register_post_accumulate_grad_hook(lambda p: p.sub_(p.grad))
        rule.backward(X, Y)
        copies = [g.clone() for g in kept]
        rule.backward(X, Y)
        assert bool((mine == 1).all())
        assert all(torch.equal(a, b) for a, b in zip(kept, copies, strict=False))
        assert bool((model[0].weight.grad == 2).all())


def test_a_model_that_changed_its_precision_after_the_rule_was_made_still_trains() -> None:
    for name in ("fa", "usf", "frsf", "brsf", "dfa", "drtp", "pepita"):
        model = between(nn.ReLU())
        rule = rules.make(name, model, example=X)
        model.double()
        rule.backward(X.double(), Y)
        assert all(p.grad.dtype == torch.float64 for p in model.parameters())


def test_a_custom_loss_is_evaluated_once_and_may_be_stochastic() -> None:
    calls = []

    def loss(output: Tensor, y: Tensor) -> Tensor:
        calls.append(1)
        return F.cross_entropy(output * torch.rand(()), y)

    rules.make("fa", between(nn.ReLU()), example=X, loss=loss).backward(X, Y)
    assert calls == [1]
