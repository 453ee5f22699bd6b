"""What target propagation cannot run backwards is refused by the layer's name, with the way out.

A failure here means that somebody gets a wrong gradient, or an error that does not say what to change.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import equipoise as eq
from equipoise import rules
from equipoise.errors import InputError
from nets import INVERTING, grads, zoo
from squares import batch, dense

GAIT = ("gait", "tp")


def chain(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 8), *layers)


@pytest.mark.parametrize("name", INVERTING)
@pytest.mark.parametrize(
    ("model", "says"),
    [
        (chain(nn.ReLU(), nn.Linear(8, 8)), r"layer '2': ReLU sends many sums to one.*LeakyReLU.*eq\.nn\.invertible"),
        (chain(nn.LeakyReLU(0.0), nn.Linear(8, 8)), r"layer '2': LeakyReLU\(0\)"),
        (chain(nn.Dropout(0.5), nn.Linear(8, 8)), r"layer '2' \(Dropout\) drops units"),
        (chain(nn.LayerNorm(8), nn.Linear(8, 8)), r"layer '2' \(LayerNorm\) has parameters"),
        (nn.ModuleList([nn.Linear(8, 8)]), r"a chain, an nn\.Sequential"),
        (
            nn.Sequential(nn.Conv2d(2, 8, 3), nn.Tanh(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 8)),
            r"layer '2' \(MaxPool2d\) mixes units.*eq\.nn\.invertible",
        ),
    ],
)
def test_what_has_no_inverse_is_refused_by_name(name: str, model: nn.Module, says: str) -> None:
    with pytest.raises(InputError, match=rf"{name} cannot train this model: .*{says}"):
        rules.make(name, model)


@pytest.mark.parametrize("name", GAIT)
@pytest.mark.parametrize(
    ("layer", "says"),
    [
        (nn.Linear(8, 4), r"layer '3' \(Linear\) has 4 units for 8 inputs"),
        (nn.Linear(8, 12), r"layer '3' \(Linear\) has 12 units for 8 inputs.*eq\.nn\.invertible"),
    ],
)
def test_layers_that_are_not_square_are_refused(name: str, layer: nn.Module, says: str) -> None:
    with pytest.raises(InputError, match=rf"{name} cannot train this model: {says}"):
        rules.make(name, chain(nn.Tanh(), layer))
    with pytest.raises(InputError, match=r"layer '2' has groups=2, and targets pass back through plain Conv2d"):
        rules.make(
            name, nn.Sequential(nn.Conv2d(2, 4, 1), nn.Tanh(), nn.Conv2d(4, 4, 1, groups=2), nn.Flatten(), layer)
        )


def test_the_twin_that_the_refusal_names_trains() -> None:
    model = nn.Sequential(nn.Linear(48, 20), nn.ReLU(), nn.Linear(20, 12), nn.ReLU(), nn.Linear(12, 10))
    twin, _ = eq.nn.invertible(model)
    x, y = batch(dense(2))
    rules.make("gait", twin, example=x.float()).backward(x.float(), y)
    assert all(g is not None for g in grads(twin).values())


@pytest.mark.parametrize(
    "options",
    [
        {"gamma": 0.0},
        {"eta": -1.0},
        {"tolerance": 0.0},
        {"max_refinements": -1},
        {"every": 0},
        {"probes": 0},
        {"upkeep": "decoupled", "strength": 1.5},
        {"strength": -0.1},
        {"noise": -1.0},
    ],
)
def test_options_out_of_range_are_refused(options: dict) -> None:
    with pytest.raises(InputError, match=next(iter(options)) if "upkeep" not in options else "strength=1.5"):
        rules.make("gait", dense(2), **options)


@pytest.mark.parametrize("mode", ["difference", "perturbation"])
def test_local_objectives_train_beside_it_or_are_refused(mode: str) -> None:
    model, x, _ = zoo()["local"]
    with pytest.raises(InputError, match="gait cannot train this model"):
        rules.make("gait", model, example=x, mode=mode)


def test_a_singular_weight_is_named() -> None:
    model = dense(2)
    with torch.no_grad():
        model[2].weight.zero_()
    with pytest.raises(InputError, match=r"singular \(condition number inf\).*orthogonally"):
        rules.make("gait", model)


def test_a_resumed_rule_takes_the_same_steps() -> None:
    """Held inverses, their turns and the upkeep's place are the rule's state."""
    model = dense(3, apart=0.05)
    x, y = batch(model)
    rule = rules.make("gait", model, example=x, upkeep="probe", probes=4)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def steps(rule: rules.Rule, optimizer: torch.optim.Optimizer, count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad()
            rule.backward(x, y)
            optimizer.step()
            rule.maintain()

    steps(rule, optimizer, 7)
    weights, state = copy.deepcopy(model.state_dict()), copy.deepcopy(rule.state_dict())
    steps(rule, optimizer, 6)
    other = dense(3)
    again = rules.make("gait", other, example=x, upkeep="probe", probes=4)
    other.load_state_dict(weights)
    again.load_state_dict(state)
    steps(again, torch.optim.SGD(other.parameters(), 0.1), 6)
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
