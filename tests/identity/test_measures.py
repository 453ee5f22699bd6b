"""Norms, products, rates and silent units: against closed forms and numbers worked out by hand.

A failure here means that a curve drawn over training shows something else than its label says.
"""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise import measure, rules
from equipoise.measure import Measure, measures
from nets import Residual, image_batch, mlp, vector_batch, zoo


class Fed(rules.Rule):
    """A rule with one feedback matrix that was set by hand."""

    fed_with: dict[str, Tensor]

    def feedback(self) -> dict[str, Tensor]:
        return self.fed_with


def fed(model: nn.Module, x: Tensor, **feedback: Tensor) -> Fed:
    base = rules.make("bp", model, example=x)
    rule = Fed(model, loss=base.loss, seed=0, options=rules.Options())
    rule.look(x)
    rule.fed_with = {name.removeprefix("_"): value for name, value in feedback.items()}
    return rule


def linear_net(*widths: int) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(*(nn.Linear(a, b) for a, b in pairwise(widths))).double()


@pytest.mark.parametrize("widths", [(6, 4), (6, 5, 4), (6, 7, 5, 4)])
def test_the_product_is_the_linear_networks_map(widths: tuple[int, ...]) -> None:
    """P is the Jacobian of the network, so that P x = y(x) - y(0); tr(F P) is the sum of the eigenvalues of F P."""
    model, x = linear_net(*widths), torch.randn(3, 6, dtype=torch.float64)
    f = torch.randn(6, 4, dtype=torch.float64)
    jacobian = torch.func.jacrev(model)(torch.zeros(6, dtype=torch.float64)).detach()
    found = measure.product(fed(model, x, _0=f))
    assert found.trace == pytest.approx(float(torch.linalg.eigvals(f @ jacobian).sum().real), rel=1e-9)
    cosine = float((f * jacobian.T).sum() / f.norm() / jacobian.norm())
    assert found.angle == pytest.approx(math.degrees(math.acos(cosine)), rel=1e-9)


def test_the_product_with_its_own_transpose_is_aligned_and_with_minus_it_opposed() -> None:
    model, x = linear_net(6, 5, 4), torch.randn(3, 6, dtype=torch.float64)
    total = (model[1].weight @ model[0].weight).detach()
    square = float(total.square().sum())
    for sign, degrees in ((1, 0.0), (-1, 180.0)):
        found = measure.product(fed(model, x, _0=sign * 0.01 * total.T))
        assert found.angle == pytest.approx(degrees, abs=1e-6)
        assert found.trace == pytest.approx(sign * 0.01 * square)
    nothing = measure.product(fed(model, x, _0=torch.zeros(6, 4)))
    assert math.isnan(nothing.angle)
    assert nothing.trace == 0


def test_feedback_that_enters_at_a_hidden_layer_meets_the_weights_from_there_on() -> None:
    model, x = linear_net(6, 7, 5, 4), torch.randn(3, 6, dtype=torch.float64)
    later = (model[2].weight @ model[1].weight).detach()
    assert measure.product(fed(model, x, _1=later.T)).angle == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("inject", "first"), [("", 0), ("2", 2)])
def test_pepitas_own_feedback_is_compared_from_the_layer_where_it_enters(inject: str, first: int) -> None:
    model, (x, y) = mlp(6, 7, 5, 4).double(), vector_batch()
    rule = rules.make("pepita", model, example=x.double(), inject=inject)
    (f,) = rule.feedback().values()
    total = torch.eye(4, dtype=torch.float64)
    for k in range(4, first - 1, -2):
        total = total @ model[k].weight.detach()
    found = measures["product"](rule, x.double(), y)
    cosine = float((f * total.T).sum() / f.norm() / total.norm())
    assert found["product_angle"] == pytest.approx(math.degrees(math.acos(cosine)), rel=1e-9)
    assert found["product_trace"] == pytest.approx(float((f @ total).trace()), rel=1e-9)


def test_where_there_is_no_product_the_measure_says_nothing_and_the_function_says_why() -> None:
    f = torch.randn(6, 4, dtype=torch.float64)
    dense, x = linear_net(6, 5, 4), torch.randn(3, 6, dtype=torch.float64)
    images, labels = image_batch()
    conv = nn.Sequential(nn.Conv2d(3, 2, 8), nn.Flatten(), nn.Linear(2, 4))
    cases = [
        (fed(dense, x), x, "this rule has 0"),
        (fed(dense, x, _0=f, _1=f), x, "this rule has 2"),
        (fed(dense, x, a=f), x, "'a' does not enter at the input of a layer: 0, 1"),
        (fed(dense, x, _0=f.T), x, r"multiply up to \(6, 4\); the feedback is \(4, 6\)"),
        (fed(conv, images, _0=torch.randn(192, 4)), images, "'0' is none"),
    ]
    for rule, batch, reason in cases:
        with pytest.raises(ValueError, match=reason):
            measure.product(rule)
        assert measures["product"](rule, batch, labels[:3]) == {}
    with pytest.raises(ValueError, match="has not seen its model run yet"):
        measure.product(rules.make("bp", mlp(6, 5, 4)))


def test_norms_are_the_lengths_of_the_weights_as_vectors() -> None:
    model, x, y = zoo()["residual"]
    found = measures["norms"](rules.make("bp", model), x, y)
    assert list(found) == ["norm/stem", "norm/shared", "norm/kernel", "norm/fc", "norm/matrix", "norm/out"]
    for name in ("stem", "fc", "out"):
        squares = sum(value**2 for value in model.get_parameter(f"{name}.weight").flatten().tolist())
        assert found[f"norm/{name}"] == pytest.approx(math.sqrt(squares), rel=1e-12)
    assert found["norm/kernel"] == pytest.approx(math.sqrt(sum(v * v for v in model.kernel.flatten().tolist())))


def test_angles_are_those_of_alignment() -> None:
    model, x, y = zoo()["mlp"]
    rule = rules.make("dfa", model, example=x)
    wanted = measure.alignment(rule, x, y)
    found = measures["angles"](rule, x, y)
    assert found == {"angle": wanted.hidden, **{f"angle/{layer}": degrees for layer, degrees in wanted.items()}}
    assert 1 < found["angle"] < 179


class ByHand(nn.Module):
    """Four hidden units whose activity on three samples is written down here, by a functional ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(1, 4, bias=False), nn.Linear(4, 2)
        with torch.no_grad():
            self.one.weight.copy_(torch.tensor([[1.0], [-1.0], [0.0], [2.0]]))

    def forward(self, x: Tensor) -> Tensor:
        return self.two(F.relu(self.one(x)))


def test_rates_and_silent_units_by_hand() -> None:
    """x = 1, 2, 0: units 0 and 3 are positive twice in three, unit 1 and 2 never."""
    rule = rules.make("bp", ByHand())
    x = torch.tensor([[1.0], [2.0], [0.0]])
    assert measures["activity"](rule, x, torch.zeros(3, dtype=torch.long)) == {
        "rate/one": pytest.approx(4 / 12),
        "dead/one": pytest.approx(2 / 4),
    }


def test_the_units_of_a_convolution_are_its_channels() -> None:
    conv = nn.Conv2d(1, 3, 1, bias=False)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([1.0, -1.0, 0.0]).reshape(3, 1, 1, 1))
    model = nn.Sequential(conv, nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(3, 2))
    x = torch.tensor([[[[1.0, 0.0], [0.0, -1.0]]], [[[1.0, 1.0], [0.0, 0.0]]]])
    found = measures["activity"](rules.make("bp", model, example=x), x, torch.tensor([0, 1]))
    assert found == {"rate/0": pytest.approx((3 + 1) / 24), "dead/0": pytest.approx(1 / 3)}


def test_activity_is_what_leaves_the_last_nonlinearity_and_a_second_use_has_a_name_of_its_own() -> None:
    model = Residual()
    x, y = image_batch()
    found = measures["activity"](rules.make("bp", model), x, y)
    layers = ["stem", "shared", "shared#2", "kernel", "fc", "matrix"]
    assert list(found) == [f"rate/{layer}" for layer in layers] + [f"dead/{layer}" for layer in layers]
    model.eval()
    h = F.relu(model.stem(x))
    assert found["rate/stem"] == pytest.approx(float((h > 0).float().mean()))
    h = F.relu(h + model.shared(h))
    assert found["rate/shared"] == pytest.approx(float((h > 0).float().mean()))
    h = F.relu(h + model.norm(model.also(h)))
    assert found["rate/shared#2"] == pytest.approx(float((h > 0).float().mean()))
    twice = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.ReLU(), nn.Linear(5, 4))
    with torch.no_grad():
        twice[0].bias.fill_(-100.0)
    assert measures["activity"](rules.make("bp", twice), *vector_batch()) == {"rate/0": 0.0, "dead/0": 1.0}


def test_activity_that_is_not_finite_has_no_rate() -> None:
    model = mlp(6, 5, 4)
    rule = rules.make("bp", model, example=vector_batch()[0])
    with torch.no_grad():
        model[0].weight.fill_(math.nan)
    assert all(math.isnan(value) for value in measures["activity"](rule, *vector_batch()).values())


@pytest.mark.parametrize("name", ["angles", "product", "norms", "activity"])
def test_a_measure_leaves_no_trace(name: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4)
    )
    model[1].eval()  # frozen by the user, inside a model in training
    x, y = vector_batch(9)
    rule = rules.make("fa", model, example=x)
    rule.backward(x, y)
    before = {n: t.clone() for n, t in model.state_dict().items()}
    kept = dict(model.named_buffers())
    written = {n: p.grad.clone() for n, p in model.named_parameters()}
    flags, state = [m.training for m in model.modules()], torch.get_rng_state()
    measures[name](rule, x, y, torch.Generator().manual_seed(3))
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
    assert all(t is kept[n] for n, t in model.named_buffers())
    assert all(torch.equal(p.grad, written[n]) for n, p in model.named_parameters())
    assert [m.training for m in model.modules()] == flags
    assert torch.equal(torch.get_rng_state(), state)


def test_a_measure_joins_by_a_name_and_says_when() -> None:
    assert {"angles", "product", "norms", "activity"} <= set(measures)
    assert all(measures[name].name == name and measures[name].about for name in measures)
    with pytest.raises(ValueError, match="when='always'; it is 'epoch' or 'end'"):
        Measure("mine", lambda rule, x, y, generator: {}, "always")  # pyright: ignore
    with pytest.raises(ValueError, match="unknown measure 'angels'; did you mean 'angles'"):
        measures["angels"]
