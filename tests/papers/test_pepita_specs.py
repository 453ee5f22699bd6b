"""The specs of the PEPITA experiments against what the paper prints, copied here once more by hand from its appendix A.

A failure here means that a run labelled "paper" trains something else than the paper did.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from equipoise import models, rules
from equipoise.errors import InputError
from equipoise.papers import load_all, published
from equipoise.papers.pepita.table1 import Grid, Scale, cell, column_of
from equipoise.papers.pepita.variants import Controls, Depth, Dynamics, FrozenConv, Linear, Weights, Whitening
from equipoise.train import Run, experiments

load_all()

# Table 2 of the paper: learning rates of BP, FA, DRTP, PEPITA; epochs at which they are divided by ten; batch size.
TABLE2 = {
    "fc-mnist": ((0.1, 0.1, 0.01, 0.1), [60], 64),
    "fc-cifar10": ((0.01, 0.001, 0.001, 0.01), [60, 90], 64),
    "fc-cifar100": ((0.01, 0.001, 0.001, 0.01), [60, 90], 64),
    "conv-mnist": ((0.1, 0.1, 0.01, 0.1), [10, 30, 50], 100),
    "conv-cifar10": ((0.01, 0.01, 0.01, 0.1), [10, 30, 50], 100),
    "conv-cifar100": ((0.01, 0.01, 0.01, 0.1), [10, 30, 50], 100),
}
WHOLE = Scale()


def paper(name: str) -> list[Run]:
    return experiments[name].preset("paper").runs(0)


@pytest.mark.parametrize("column", list(TABLE2))
def test_table1_is_appendix_a(column: str) -> None:
    found = {run.rule: run for run in paper("pepita/table1") if column_of(run.to_dict()) == column}
    assert list(found) == ["bp", "fa", "dfa", "drtp", "pepita"]
    rates, milestones, batch = TABLE2[column]
    classes = 100 if column.endswith("100") else 10
    assert [found[rule].lr for rule in ("bp", "fa", "pepita")] == [rates[0], rates[1], rates[3]]
    assert found["drtp"].lr == pytest.approx(rates[2] / classes)
    assert found["dfa"].lr == found["fa"].lr
    for rule, run in found.items():
        assert (run.epochs, run.batch_size, run.validation, run.augment, run.select) == (100, batch, 0, "none", "last")
        assert (run.optimizer, run.optimizer_options) == ("sgd", {"momentum": 0.9})
        assert (run.scheduler, run.scheduler_options) == ("multistep", {"milestones": milestones, "gamma": 0.1})
        assert (run.train_limit, run.test_limit, run.whiten) == (None, None, None)
        assert run.loss == ("binary_cross_entropy" if rule == "drtp" else "cross_entropy")
        model = models.make(run.model)
        kinds = [type(m).__name__ for m in model]
        act = "Tanh" if rule == "drtp" else "ReLU"
        if column.startswith("fc"):
            assert kinds == ["Flatten", "Linear", act, "Dropout", "Linear"]
            assert model[3].p == 0.1
        else:
            assert kinds == ["Conv2d", act, "MaxPool2d", "Flatten", "Linear"]
        shapes = [tuple(p.shape) for p in model.parameters()]
        image, pixels = ((1, 784) if "mnist" in column else (3, 3072)), (4608 if "mnist" in column else 6272)
        dense = [(1024, image[1]), (classes, 1024)]
        assert shapes == (dense if column.startswith("fc") else [(32, image[0], 5, 5), (classes, pixels)])


def test_drtp_steps_as_its_authors_rate_says() -> None:
    """Rate r: the output layer by the mean over samples and outputs, the hidden one by the sum over the batch."""
    run = cell("fc-digits", "drtp", 0, WHOLE)
    model = models.make(run.model).double()
    torch.manual_seed(0)
    x, y = torch.rand(64, 64, dtype=torch.float64), torch.arange(64) % 10
    rule: Any = rules.make("drtp", model, example=x, loss=run.loss, **run.options)
    params = {n: p.detach() for n, p in model.named_parameters()}
    grads, *_ = rule.gradients(params, x, y, noise=(noise := rule.draw(x)))
    kept = next(iter(noise.values())).double() / 0.9
    hidden = torch.tanh(x @ params["1.weight"].T)
    target = torch.nn.functional.one_hot(y, 10).double()
    output = torch.sigmoid((hidden * kept) @ params["4.weight"].T)
    (b,) = rule.feedback().values()
    sent = target @ (b.T if b.shape[0] != 10 else b)
    r = 0.01
    assert torch.allclose(run.lr * grads["4.weight"], r * (output - target).T @ (hidden * kept) / (64 * 10))
    slope = 1 - hidden**2
    close = [torch.allclose(run.lr * grads["1.weight"], r * (sent * k * slope).T @ x) for k in (1, kept)]
    assert any(close)


def test_the_controls_are_those_of_figure_5() -> None:
    plain, *others = Controls(positive=True).runs(0)
    assert plain.hash == cell("fc-cifar10", "pepita", 0, WHOLE).hash
    assert [run.options for run in others] == [
        {"scale": 0.0},
        *({"perturb": law, "k": k} for law in ("uniform", "positive") for k in (0.01, 0.1, 1.0)),
        {"sign": -1},
    ]
    same = {run.hash for run in others} | {plain.hash}
    assert len(same) == 9
    for run in others:
        assert Run.from_json(run.to_dict() | {"options": {}, "experiment": plain.experiment}).hash == plain.hash


def test_what_each_study_changes() -> None:
    plain = cell("fc-mnist", "pepita", 2, WHOLE)
    assert [run.hash for run in Dynamics().runs(2)] == [plain.hash]
    assert [run.epochs for run in Dynamics(extended=True).runs(2)] == [100, 1000]
    first, whitened = Whitening().runs(2)
    assert first.hash == plain.hash
    assert (whitened.lr, whitened.whiten, whitened.model) == (0.01, 1e-5, plain.model)
    assert [(run.rule, "dropout=0.1" in run.model, "init=he_normal" in run.model) for run in Weights().runs(2)] == [
        ("bp", False, True), ("bp", True, True), ("pepita", False, True), ("pepita", True, True),
    ]  # fmt: skip
    assert all("weights" in run.measures for run in Weights().runs(2))
    (linear,) = Linear().runs(2)
    kinds = [type(m).__name__ for m in models.make(linear.model)]
    assert kinds == ["Flatten", "Linear", "Identity", "Linear"]
    assert (linear.loss, linear.options, linear.whiten is None) == ("mse", {"presynaptic": "standard"}, False)
    assert {"product", "norms"} <= set(linear.measures)
    kernels = [run.options for run in FrozenConv(("conv-mnist",)).runs(2)]
    assert kernels == [{}, {"kernel_rate": 0.0}, {"conv_norm": "sqrt"}, {"conv_norm": "none"}]
    deep = {(run.rule, run.model.split(",")[0]) for run in Depth(layers=(2, 4)).runs(2)}
    assert {sizes for _, sizes in deep} == {"mlp:784-1024-10", "mlp:784-1024-1024-1024-10"}
    assert len(deep) == 12
    assert all("activation=tanh" in run.model for run in Depth().runs(2) if run.rule == "drtp")


SHARED = ["pepita/curves", "pepita/slowness", "pepita/dynamics", "pepita/embedding"]


@pytest.mark.parametrize("name", SHARED)
@pytest.mark.parametrize("preset", ["smoke", "quick", "paper"])
def test_cells_of_table1_are_trained_once(name: str, preset: str) -> None:
    runs = experiments[name].preset(preset).runs(1)
    assert {run.experiment for run in runs} == {"pepita/table1"}
    assert {run.hash for run in runs} <= {r.hash for r in experiments["pepita/table1"].preset(preset).runs(1)}
    assert all(experiments[name].shows(run.to_dict()) for run in runs)


def test_an_experiment_shows_its_own_runs_and_no_stranger() -> None:
    planned = {n: {run.hash: run.to_dict() for run in paper(n)} for n in experiments if n.startswith("pepita/")}
    every = {hash_: row for rows in planned.values() for hash_, row in rows.items()}
    assert len(planned) == 12
    for name, mine in planned.items():
        assert {hash_ for hash_, row in every.items() if experiments[name].shows(row)} == set(mine), name


def test_seeds_options_and_rates_reach_the_cells() -> None:
    grid = Grid(("fc-mnist",), ("bp", "drtp"), rates={"drtp": 0.5}, rule_options={"drtp.scale": 2.0})
    bp, drtp = grid.runs(4)
    assert (bp.lr, bp.options, bp.seed) == (0.1, {}, 4)
    assert (drtp.lr, drtp.options) == (0.5, {"hidden_scale": 640.0, "scale": 2.0})
    assert cell("fc-cifar10", "usf", 0, WHOLE).lr == 0.001
    assert cell("fc-cifar10", "shallow", 0, WHOLE).lr == 0.01
    with pytest.raises(InputError, match="did you mean 'fc-mnist'"):
        Grid(("fc-mnits",)).runs(0)


def test_every_number_of_tables_1_3_and_4_is_there() -> None:
    numbers = [n for n in published() if n.experiment.startswith("pepita/")]
    count = {name: sum(n.experiment == name for n in numbers) for name in {n.experiment for n in numbers}}
    assert count == {
        "pepita/table1": 24, "pepita/curves": 6, "pepita/slowness": 12, "pepita/whitening": 2,
        "pepita/controls": 2, "pepita/dynamics": 1,
    }  # fmt: skip
    found = {n.quantity: (n.value, n.sd) for n in numbers}
    assert found["pepita, CIFAR-10, convolutional"] == (56.33, 1.35)
    assert found["fa, MNIST, dense"] == (98.42, 0.07)
    assert found["drtp, CIFAR-100, dense"] == (18.32, 0.18)
    assert found["pepita, whitened MNIST"] == (92.08, 0.14)
    assert found["slowness of pepita, CIFAR-10, dense"][0] == 0.785


def test_the_drtp_study_changes_the_dropout_of_the_input_alone() -> None:
    plain, dropped = experiments["pepita/drtp"].preset("paper").runs(3)
    assert plain == cell("fc-mnist", "drtp", 3, Scale())
    assert dropped.experiment == "pepita/drtp"
    assert dropped.model == plain.model + ",input_dropout=0.1"
    assert dataclasses.replace(dropped, experiment=plain.experiment, model=plain.model) == plain
