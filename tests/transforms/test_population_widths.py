"""Members of different widths: each is its solo run, whatever it was padded to.

A failure here means that a sweep over widths gives other numbers when its networks train together.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from equipoise import models, population, rules
from equipoise.contracts import Counted
from equipoise.functional.constraints import Interval
from equipoise.functional.losses import losses
from equipoise.nn import DetachNorm, GradNorm, INormLinear, LateralInhibition, Normalise
from equipoise.population import Population, Refused
from equipoise.population.widths import Place, joined
from equipoise.train import Run
from populations import Alone, difference, outcome

SMALL = Run(
    model="mlp:64-8-10", precision="float64", epochs=2, train_limit=48, test_limit=20, batch_size=16, validation=0
)


@pytest.mark.parametrize(
    ("rule", "circuit", "optimiser"),
    [
        ("bp", "Dale", "adam"),
        ("fa", "I-Norm", "momentum"),
        ("usf", "DANN", "adam"),
        ("brsf", "dropout", "sgd"),
        ("pepita", "layer norm", "momentum"),
    ],
)
def test_members_of_two_widths_are_their_solo_runs(rule: str, circuit: str, optimiser: str) -> None:
    assert outcome(rule, f"{circuit}, widths", optimiser, steps=4) == "equal"


def trained(runs: list[Run], steps: int = 6) -> Population:
    """A population of these after some steps; every member is compared with its solo run."""
    together = Population(runs)
    for _ in range(steps):
        together.step()
    for member, run in enumerate(runs):
        alone = Alone(run)
        alone.walk(steps)
        assert difference(together.release(member), alone.parts) < 1e-11
    return together


class Held(nn.Module):
    """Sigmoid units, whose activity for no input is 1/2, behind weights that are held away from 0."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.below = nn.Linear(64, width)
        self.fixed = nn.Parameter(torch.full((width,), 0.3), requires_grad=False)
        self.out = nn.Linear(width, 10)
        self.constraints = {"fixed": Interval(0.5, 1.0)}
        self.below.constraints = {"weight": Interval(0.01, 1.0), "bias": Interval(0.2, 1.0)}  # type: ignore[assignment]

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.sigmoid(self.below(x.flatten(1))) * self.fixed)


def held() -> nn.Module:
    return Held(9)


def held_wider() -> nn.Module:
    return Held(14)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_padding_stays_exactly_zero(optimizer: str) -> None:
    """Under momentum, weight decay, two penalties and clipping, and where the constraint does not contain 0."""
    options: dict[str, Any] = {"weight_decay": 0.1, **({"momentum": 0.9} if optimizer == "sgd" else {"eps": 0.0})}
    more = {"decay": {"l1": 1e-3, "l2.5": 0.1}, "clip_norm": 0.5, "optimizer_options": options, "lr": 0.01}
    here = "tests.transforms.test_population_widths"
    runs = [dataclasses.replace(SMALL, model=f"{here}:{name}", optimizer=optimizer, **more) for name in NAMES]
    together = trained([runs[0], runs[1]])
    found = {n: w[~together.tensors.masks[n]] for n, w in everything(together).items() if n in together.tensors.masks}
    assert set(found) == {"below.weight", "below.bias", "out.weight", "fixed"}
    assert {n: len(w) for n, w in found.items()} == {
        "below.weight": 5 * 64,
        "below.bias": 5,
        "out.weight": 50,
        "fixed": 5,
    }
    assert all(bool((w == 0).all()) for w in found.values())
    kept = together.updates.state["out.weight"]
    assert all(bool((value[~together.tensors.masks["out.weight"]] == 0).all()) for value in kept.values())
    assert together.weights_finite() == [True, True]


NAMES = ("held", "held_wider")


def everything(together: Population) -> dict[str, Tensor]:
    return {**together.tensors.trained, **together.tensors.fixed}


def test_blocks_are_padded_each_at_its_end_and_cut_out_again() -> None:
    narrow, wide = torch.arange(1.0, 9.0).reshape(4, 2), torch.ones(5, 3)
    place = Place.of([narrow, wide], [(3, 1), (3, 2)])
    stack = place.stack([narrow, wide])
    assert stack[0].tolist() == [[1, 2, 0], [3, 4, 0], [5, 6, 0], [7, 8, 0], [0, 0, 0]]
    taller = Place.of([narrow, wide], [(1, 3), (3, 2)]).stack([narrow, torch.ones(5, 3)])
    assert taller[0, :, 0].tolist() == [1, 0, 0, 3, 5, 7]
    assert taller[1, :, 0].tolist() == [1, 1, 1, 1, 1, 0]
    torch.testing.assert_close(place.cut(stack[0], 0), narrow, rtol=0, atol=0)
    assert place.mask([narrow, wide])[0].tolist() == (stack[0] > 0).tolist()
    assert not Place.of([narrow, narrow]).padded


def test_two_kinds_of_cells_are_told_apart_where_their_sum_is_the_same() -> None:
    rows = torch.arange(1.0, 5.0)[:, None]
    stacks, places = joined([{"a.w": rows}, {"a.w": rows}], [{"a.w": (3, 1)}, {"a.w": (2, 2)}])
    assert stacks["a.w"][..., 0].tolist() == [[1, 2, 3, 4, 0], [1, 2, 0, 3, 4]]
    assert places["a.w"].padded
    assert joined([{"m/a.w": rows}, {"m/a.w": rows}], [{"a.w": (3, 1)}, {"a.w": (2, 2)}])[0]["m/a.w"].shape == (2, 5, 1)
    assert joined([{"a.w": rows[:3]}] * 2, [{"a.w": (3, 1)}] * 2)[0]["a.w"].shape == (2, 3, 1)


@pytest.mark.parametrize("layer", [Normalise(), DetachNorm(), GradNorm(), LateralInhibition(7)])
def test_layers_say_how_many_units_they_count(layer: nn.Module) -> None:
    assert isinstance(layer, Counted)
    assert layer.counts(torch.ones(3, 7)) == {"count": 7}
    circuit = INormLinear(5, 7, divisive_pool=4)
    assert circuit.counts(torch.ones(3, 5)) == {"count": 7, "divisive_count": 4}
    assert all(getattr(circuit, name) is None for name in circuit.counts(torch.ones(3, 5)))


def test_uniform_magnitudes_are_those_of_the_real_fan_in() -> None:
    trained([dataclasses.replace(SMALL, rule="usf", model=f"mlp:64-{n}-{m}-10") for n, m in ((5, 9), (8, 6))])


class Unaware(nn.Module):
    """Takes the mean over units, padded or not."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(1, keepdim=True)


def unaware(width: int = 9) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), Unaware(), nn.Linear(width, 10))


def unaware_wider() -> nn.Module:
    return unaware(10)


def torchs() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 9), nn.LayerNorm(9), nn.Linear(9, 10))


def torchs_wider() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 11), nn.LayerNorm(11), nn.Linear(11, 10))


@pytest.mark.parametrize(
    ("one", "other", "fields", "line", "words"),
    [
        ("unaware", "unaware_wider", {}, "widths", "padding would change the gradient of '1.weight'"),
        ("torchs", "torchs_wider", {}, "different networks", "normalized_shape"),
        ("invertible:64-12-10", "invertible:64-16-10", {}, "different networks", "auxiliary"),
        (
            "mlp:64-8-10",
            "mlp:64-9-10",
            {"rule": "pepita", "options": {"center": "units"}},
            "widths",
            "padding would change",
        ),
    ],
)
def test_what_padding_would_change_is_refused(one: str, other: str, fields: dict, line: str, words: str) -> None:
    texts = [text if ":" in text else f"tests.transforms.test_population_widths:{text}" for text in (one, other)]
    with pytest.raises(Refused, match=words) as error:
        Population([dataclasses.replace(SMALL, model=text, **fields) for text in texts])
    assert error.value.line == line
    assert ("population of each width" in str(error.value)) == (line == "widths")


def test_a_bucket_holds_several_widths_the_narrow_first() -> None:
    texts = [
        "mlp:64-30-10",
        "mlp:64-8-10",
        "mlp:64-8-8-10",
        "mlp:64-16-10",
        "mlp:64-8-10",
        "mlp:64-8-10,activation=tanh",
    ]
    runs = [dataclasses.replace(SMALL, model=text, seed=seed) for seed, text in enumerate(texts)]
    found = population.buckets(runs)
    assert [[runs.index(run) for run in bucket] for bucket in found] == [[1, 4, 3, 0], [2], [5]]
    assert [[run.seed for run in bucket] for bucket in population.by_width(found[0])] == [[1, 4], [3], [0]]


def test_buckets_are_split_by_size_where_padding_would_outgrow_the_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    widths = [300, 4, 5, 4, 300, 6]
    runs = [dataclasses.replace(SMALL, model=f"mlp:64-{n}-10", seed=seed) for seed, n in enumerate(widths)]
    assert [[run.seed for run in bucket] for bucket in population.buckets(runs)] == [[0, 4], [1, 3, 2, 5]]
    monkeypatch.setitem(population.buckets.__globals__, "LIMIT", 3)
    assert [[run.seed for run in bucket] for bucket in population.buckets(runs)] == [[5, 0, 4], [1, 3, 2]]


def test_models_that_cannot_be_made_are_buckets_of_their_own() -> None:
    runs = [dataclasses.replace(SMALL, model=text) for text in ("mlp:64-8-10", "nowhere:make", "mlp:64-9-10", "mlp:0")]
    assert [len(bucket) for bucket in population.buckets(runs)] == [2, 1, 1]


@pytest.mark.parametrize("text", ["dale:64-12-10", "dann:64-12-10"])
def test_uniform_feedback_teaches_nothing_but_rounding_behind_a_fresh_dale_readout(text: str) -> None:
    """Why the cells of ``usf`` have a smooth penalty.

    All weights of the readout are positive, so its feedback is one number m, and softmax errors sum to 0 over the
    classes: m sum_k e_k = 0. Its one inhibitory cell sends W_EI = 1, and m sum_k e_k W_EI,k = 0 as well.
    """
    x, y = torch.rand(8, 1, 8, 8, dtype=torch.float64), torch.arange(8)
    rule = rules.make("usf", models.make(text, seed=1).double(), example=x)
    rule.backward(x, y)
    hidden, readout = (dict(rule.model[k].named_parameters()) for k in (1, 3))
    error = losses["cross_entropy"].error(rule.model(x).detach(), y)
    assert float(error.sum(1).abs().max()) < 1e-15
    assert bool((readout["weight_ei"] == 1).all())
    assert bool((readout["weight_ee"] > 0).all())
    taught = [float(p.grad.abs().max()) for p in hidden.values() if p.grad is not None]
    assert 0 < max(taught) < 1e-13
    assert float(readout["weight_ee"].grad.abs().max()) > 1e-3
