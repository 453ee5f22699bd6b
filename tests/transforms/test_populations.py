"""Every member of a population is its solo run: weights, what its optimiser keeps, loss and accuracy.

A failure here means that a sweep's numbers depend on which runs happened to be trained together.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch

from equipoise import population, rules
from equipoise.errors import InputError
from equipoise.population import LINES, Population, Refused, optimisers
from equipoise.population.capture import Captured
from equipoise.train import Machine, Run
from populations import (
    CIRCUITS,
    OPTIMISERS,
    PAGE,
    RULES,
    Alone,
    cells,
    difference,
    documented,
    outcome,
    some_cells,
    written,
)

SMALL = Run(model="mlp:64-8-10", precision="float64", epochs=2, train_limit=64, test_limit=20, batch_size=16)


@pytest.mark.parametrize(
    ("rule", "circuit", "optimiser", "steps"),
    [
        ("bp", "I-Norm", "adam", 24),
        ("bp", "DANN", "momentum", 8),
        ("brsf", "dropout", "sgd", 8),
        ("tp", "square", "adam", 8),
        ("pepita", "layer norm", "momentum", 8),
    ],
)
def test_a_member_is_its_solo_run(rule: str, circuit: str, optimiser: str, steps: int) -> None:
    assert outcome(rule, circuit, optimiser, steps=steps, every=True) == "equal"


@pytest.mark.slow
@pytest.mark.parametrize(("rule", "circuit", "optimiser"), some_cells())
def test_every_cell_is_what_the_page_says(rule: str, circuit: str, optimiser: str) -> None:
    assert outcome(rule, circuit, optimiser) == documented()[rule, circuit, optimiser]


def test_the_page_has_every_rule_and_every_line() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert {given["rule"] for given in RULES.values()} == set(rules.names())
    assert written(text, documented()) == text, "run: python -m tests.populations"
    assert set(documented().values()) - {"equal", "none"} <= LINES.keys()
    assert set(CIRCUITS) == {circuit for _, circuit, _ in cells()}
    assert set(OPTIMISERS) == {optimiser for *_, optimiser in some_cells()}
    assert {cell[:2] for cell in cells()} == {cell[:2] for cell in some_cells()}


def with_(**changes: object) -> Run:
    return dataclasses.replace(SMALL, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("other", "line", "words"),
    [
        ({"model": "mlp:64-8-12"}, "different networks", "one has 10 outputs, another 12"),
        ({"model": "mlp:64-8-10,activation=tanh"}, "different networks", "layers are not the same"),
        ({"model": "mlp:64-8-10,dropout=0.5"}, "different networks", "layers are not the same"),
        ({"batch_size": 8}, "different runs", "'batch_size' is 16 in one and 8 in another"),
        ({"rule": "fa"}, "different runs", "'rule' is 'bp' in one and 'fa' in another"),
        ({"optimizer_options": {"nesterov": True, "momentum": 0.9}}, "different runs", "nesterov"),
        ({"train_limit": 48}, "different runs", "train_limit"),
    ],
)
def test_runs_that_differ_too_much_are_refused(other: dict, line: str, words: str) -> None:
    with pytest.raises(Refused, match=words) as error:
        Population([SMALL, with_(**other)])
    assert error.value.line == line


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"optimizer": "lion" if hasattr(torch.optim, "Lion") else "rprop", "optimizer_options": {}}, "optimizer"),
        ({"optimizer": "adam", "optimizer_options": {"amsgrad": True}}, "optimizer"),
        ({"balance_every": 3}, "balance"),
        ({"measures": ["product"], "measure_every": 2}, "step by step"),
        ({"precision": "bfloat16"}, "autocast"),
    ],
)
def test_what_has_no_form_for_many_members_is_refused_by_name(changes: dict, line: str) -> None:
    with pytest.raises(Refused, match=rf"no population \({line}\)") as error:
        Population([with_(**changes)])
    assert error.value.line == line
    assert line in LINES


def test_layers_may_differ_in_the_weight_of_their_loss_alone() -> None:
    """And an I-Norm layer's own weight, and the rule's, are each member's own."""
    first = with_(model="inorm:64-8-10,local_weight=0.5", lr=0.01)
    runs = [
        first,
        with_(model="inorm:64-8-10,local_weight=2", lr=0.01),
        dataclasses.replace(first, options={"local_weight": 9.0}),
    ]
    together = Population(runs)
    for _ in range(6):
        together.step()
    for member, run in enumerate(runs):
        alone = Alone(run)
        alone.walk(6)
        assert difference(together.release(member), alone.parts) < 1e-12
    assert together.parts[0].rule.options.local_weight == 1.0
    weights = together.tensors.trained["1.weight_ie"]
    assert (weights[0] - weights[1]).abs().max() > 1e-6


def test_feedback_and_fixed_weights_are_each_members_own() -> None:
    """The inhibitory weights of I-Norm do not learn, feedback neither, and both are drawn from the seed."""
    runs = [with_(model="inorm:64-8-8-10", rule="fa", lr=0.01, seed=seed) for seed in range(2)]
    together = Population(runs)
    assert "1.weight_ei" in together.tensors.fixed
    for _ in range(4):
        together.step()
    for member, run in enumerate(runs):
        alone = Alone(run)
        alone.walk(4)
        assert difference(together.release(member), alone.parts) < 1e-12


@pytest.mark.parametrize(
    "options",
    [
        {"momentum": 0.9, "dampening": 0.4, "weight_decay": 0.1},
        {"momentum": 0.9, "nesterov": True},
        {"momentum": 0.0, "dampening": 0.4},
    ],
)
def test_numbers_of_sgd_are_torchs(options: dict) -> None:
    w, g = torch.randn(2, 3, dtype=torch.float64), torch.randn(4, 2, 3, dtype=torch.float64)
    alone = [torch.nn.Parameter(one.clone()) for one in w]
    theirs = [torch.optim.SGD([alone[0]], lr=0.1, **options), torch.optim.SGD([alone[1]], lr=0.3, **options)]
    chosen = optimisers.kind("SGD", options)
    assert not isinstance(chosen, str)
    numbers = {key: torch.full((2, 1), value) for key, value in optimisers.numbers(chosen, options).items()}
    state = {"momentum_buffer": torch.zeros_like(w)}
    for done in range(4):
        rate = torch.tensor([[0.1], [0.3]], dtype=torch.float64)
        w, state = chosen.update(w, g[done], state, numbers, rate, torch.tensor(float(done)))
        for parameter, gradient, optimizer in zip(alone, g[done], theirs, strict=True):
            parameter.grad = gradient
            optimizer.step()
    for mine, parameter in zip(w, alone, strict=True):
        torch.testing.assert_close(mine, parameter.detach(), rtol=1e-7, atol=1e-7)


def test_a_member_that_diverges_is_noted_at_its_step_and_disturbs_nobody() -> None:
    runs = [with_(loss="mse", lr=0.01), with_(loss="mse", lr=1e30), with_(loss="mse", lr=0.01, seed=1)]
    together = Population(runs)
    for _ in range(12):
        together.step()
    assert together.alive.tolist() == [True, False, True]
    bad = int(together.bad[1])
    assert together.bad.tolist() == [0, bad, 0]
    alone = Alone(runs[1])
    with pytest.raises(Exception, match=rf"not finite at step {bad};"):
        alone.walk(12)
    for member in (0, 2):
        alone = Alone(runs[member])
        alone.walk(12)
        assert difference(together.release(member), alone.parts) < 1e-12
    before = together.tensors.trained["1.weight"][1].clone()
    together.step()
    torch.testing.assert_close(together.tensors.trained["1.weight"][1], before, equal_nan=True, rtol=0, atol=0)


@pytest.mark.parametrize("augment", ["none", "crop+flip"])
def test_each_member_sees_its_own_light_and_augmentation(augment: str) -> None:
    runs = [
        with_(augment=augment, data="tests.populations:upright", perturb={"shift": 0.5, "contrast": 0.3}),
        with_(augment=augment, data="tests.populations:upright", seed=1),
    ]
    together = Population(runs)
    x, _ = together.feed.batch(3)
    for member, run in enumerate(runs):
        alone = Alone(run)
        alone.seen.clear()
        alone.walk(4)
        torch.testing.assert_close(x[member], alone.seen[3], rtol=0, atol=1e-7)


def test_a_custom_rule_that_writes_more_than_its_gradients_is_refused() -> None:
    class Louder(type(rules.make("bp", torch.nn.Linear(2, 2)))):  # type: ignore[misc]
        """Backpropagation that doubles what it writes."""

        def _told(self, x, y, step):
            for parameter in self.slots.parameters().values():
                parameter.grad *= 2
            return step

    rules.register("louder")(Louder)
    try:
        with pytest.raises(Refused, match="writes other gradients in training") as error:
            Population([with_(rule="louder")])
    finally:
        rules.make.__globals__["registry"].remove("louder")
    assert error.value.line == "impure"


def test_no_runs_and_bad_ones_are_said_as_they_are() -> None:
    with pytest.raises(InputError, match="needs a run"):
        Population([])
    with pytest.raises(InputError, match="does not take a batch"):
        Population([with_(model="mlp:63-8-10")])


def test_buckets_hold_what_may_train_together() -> None:
    runs = [SMALL, with_(seed=1, lr=0.2), with_(rule="fa"), with_(model="inorm:64-8-10,local_weight=2"), with_(seed=2)]
    runs += [with_(model="inorm:64-8-10,local_weight=3")]
    found = population.buckets(runs)
    assert [[runs.index(run) for run in bucket] for bucket in found] == [[0, 1, 4], [2], [3, 5]]
    many = [with_(seed=seed) for seed in range(population.LIMIT + 1)]
    assert [len(bucket) for bucket in population.buckets(many)] == [population.LIMIT, 1]


class Tape:
    """Stands in for a device's graphs: records what a function does to its inputs by keeping the function."""

    def __init__(self, fails: bool = False) -> None:
        self.fails, self.recorded, self.played = fails, 0, 0

    def record(self, function):
        if self.fails:
            raise RuntimeError("operation not permitted when stream is capturing")
        self.recorded += 1
        output = torch.zeros(2)

        def play():
            self.played += 1
            output.copy_(function())
            return output

        return play


def test_a_captured_step_is_recorded_once_a_shape_and_replayed_on_new_inputs() -> None:
    tape, total = Tape(), torch.zeros(2)
    step = Captured(lambda x, y, noise: total.add_(x.sum(1) + noise["a"]), tape, note=pytest.fail, warm=2)
    for k in range(5):
        step(torch.full((2, 3), float(k)), torch.zeros(2), {"a": torch.ones(2)})
    assert total.tolist() == [3 * 10 + 5] * 2
    assert (tape.recorded, tape.played) == (1, 3)
    step(torch.ones(2, 1), torch.zeros(2), {"a": torch.ones(2)})
    assert total.tolist() == [37.0, 37.0]
    assert tape.recorded == 1


def test_what_a_captured_step_returned_stays_as_it_was() -> None:
    total = torch.zeros(2)
    step = Captured(lambda x, y, noise: total.add_(x.sum(1)), Tape(), note=pytest.fail, warm=0)
    kept = [step(torch.ones(2, 1), torch.zeros(2), {}) for _ in range(3)]
    assert [one.tolist() for one in kept] == [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]


def test_a_step_that_cannot_be_captured_goes_on_as_it_is_with_one_note() -> None:
    notes, total = [], torch.zeros(2)
    step = Captured(lambda x, y, noise: total.add_(x.sum(1)), Tape(fails=True), note=notes.append, warm=1)
    for _ in range(4):
        step(torch.ones(2, 3), torch.zeros(2), {})
    assert total.tolist() == [12.0, 12.0]
    assert len(notes) == 1
    assert "not permitted" in notes[0]


def test_machines_without_a_gpu_capture_nothing() -> None:
    together = Population([SMALL], Machine())
    assert not isinstance(together.stepper, Captured)
