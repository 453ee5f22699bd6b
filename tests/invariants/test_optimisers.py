"""Optimisers and schedules by name: a failure here hides a name that builds something else, or nothing."""

from __future__ import annotations

import io
import math
from typing import Any

import pytest
import torch
from torch import nn

from equipoise.errors import InputError
from equipoise.train import Run, optimisers, schedules

NEEDED: dict[str, dict[str, Any]] = {
    "exponential": {"gamma": 0.9},
    "multistep": {"milestones": [2]},
    "step": {"step_size": 2},
    "constantlr": {"total_iters": 2},
    "cyclic": {"base_lr": 0.01, "max_lr": 0.1, "cycle_momentum": False},
    "onecycle": {"max_lr": 0.1, "cycle_momentum": False},
    "cosinewarmrestarts": {"T_0": 2},
    "cosineannealingwarmrestarts": {"T_0": 2},
}


def parameter() -> nn.Parameter:
    return nn.Parameter(torch.ones(3, 2))


@pytest.mark.parametrize("name", optimisers.optimizer_names())
def test_every_optimiser_steps_and_its_state_comes_back(name: str) -> None:
    weight = parameter()
    steps = optimisers.build_optimizer(name, [{"params": [weight]}], lr=0.1, options={})
    assert type(steps).__name__.lower() == name
    for _ in range(2):
        weight.grad = torch.full_like(weight, 0.5)
        steps.step()
    assert not torch.equal(weight, torch.ones(3, 2))
    buffer = io.BytesIO()
    torch.save(steps.state_dict(), buffer)
    buffer.seek(0)
    again = optimisers.build_optimizer(name.upper(), [{"params": [parameter()]}], lr=0.1, options={})
    again.load_state_dict(torch.load(buffer, weights_only=True))
    assert again.param_groups[0]["lr"] == steps.param_groups[0]["lr"]


@pytest.mark.parametrize("name", schedules.scheduler_names())
def test_every_schedule_steps_once_an_epoch(name: str) -> None:
    weight = parameter()
    steps = optimisers.build_optimizer("sgd", [{"params": [weight]}], lr=0.1, options={})
    options = NEEDED.get(name, {})
    schedule = schedules.build_scheduler(name, steps, epochs=4, options=options)
    rates = []
    for _ in range(4):
        weight.grad = torch.zeros_like(weight)
        steps.step()
        rates.append(float(steps.param_groups[0]["lr"]))
        schedules.step_scheduler(schedule, epoch=False)
        schedules.step_scheduler(schedule, epoch=True)
    if name == "constant":
        assert schedule is None
        assert rates == [0.1] * 4
    else:
        assert len(set(rates)) > 1


def test_short_and_long_names_are_the_same() -> None:
    for names in (("cosine", "CosineAnnealingLR", "cosineannealing"), ("step", "StepLR"), ("multistep", "MultiStepLR")):
        built = set()
        for name in names:
            steps = optimisers.build_optimizer("sgd", [parameter()], lr=0.1, options={})
            options = NEEDED.get(names[0], {})
            built.add(type(schedules.build_scheduler(name, steps, epochs=3, options=options)))
        assert len(built) == 1
    steps = optimisers.build_optimizer("sgd", [parameter()], lr=0.1, options={})
    assert schedules.build_scheduler("ConstantLR", steps, epochs=3, options={}) is not None


def test_cosine_ends_with_the_run_unless_told_otherwise() -> None:
    for options, last in (({}, 0.0), ({"T_max": 8}, 0.05), ({"eta_min": 0.02}, 0.02)):
        steps = optimisers.build_optimizer("sgd", [parameter()], lr=0.1, options={})
        schedule = schedules.build_scheduler("cosine", steps, epochs=4, options=options)
        for _ in range(4):
            steps.step()
            schedules.step_scheduler(schedule, epoch=True)
        assert steps.param_groups[0]["lr"] == pytest.approx(last)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: optimisers.build_optimizer("sgd", [parameter()], lr=0.1, options={"momentum": -1.0}), "momentum"),
        (lambda: optimisers.build_optimizer("adam", [parameter()], lr=0.1, options={"betas": 3}), "Adam refuses"),
        (lambda: Run(scheduler="step", scheduler_options={"stepsize": 3}), "did you mean 'step_size'"),
        (
            lambda: Run(optimizer="adam", optimizer_options={"momentum": 0.9}),
            "unknown option of the optimizer Adam 'momentum'",
        ),
    ],
)
def test_values_that_torch_refuses_are_one_line(build: Any, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        build()
    assert "\n" not in str(caught.value)


def test_a_schedule_that_lacks_an_option_is_one_line() -> None:
    steps = optimisers.build_optimizer("sgd", [parameter()], lr=0.1, options={})
    with pytest.raises(InputError, match="step_size"):
        schedules.build_scheduler("step", steps, epochs=3, options={})


def test_a_warm_up_climbs_to_the_rate_step_by_step_and_half_a_cosine_ends_at_nothing() -> None:
    steps = optimisers.build_optimizer(
        "sgd", [{"params": [parameter()]}, {"params": [parameter()], "lr": 0.02}], lr=0.1, options={}
    )
    options = {"warmup": 1.5, "start": 0.1}
    schedule = schedules.build_scheduler("warmup_cosine", steps, epochs=5, per_epoch=4, options=options)
    found = []
    for _ in range(20):
        found.append([group["lr"] for group in steps.param_groups])
        steps.step()
        schedules.step_scheduler(schedule, epoch=True)
        schedules.step_scheduler(schedule, epoch=False)
    warm = [0.1 + 0.9 * s / 6 for s in range(6)]
    fall = [0.5 + 0.5 * math.cos(math.pi * s / 14) for s in range(14)]
    assert found == [[pytest.approx(0.1 * share), pytest.approx(0.02 * share)] for share in warm + fall]
    assert [group["lr"] for group in steps.param_groups] == [pytest.approx(0.0), pytest.approx(0.0)]


@pytest.mark.parametrize(("options", "words"), [({"warmup": 3}, "fewer than the run"), ({"start": 2}, "share of lr")])
def test_a_warm_up_that_cannot_be_is_one_line(options: dict[str, Any], words: str) -> None:
    steps = optimisers.build_optimizer("sgd", [parameter()], lr=0.1, options={})
    with pytest.raises(InputError, match=words):
        schedules.build_scheduler("warmup_cosine", steps, epochs=3, per_epoch=4, options=options)
