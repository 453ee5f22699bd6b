"""The specs of the balance experiments against what the paper prints, copied here once more by hand from its section 6.

A failure here means that a run labelled "paper" trains another network than the paper's, or another study than it says.
"""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from equipoise import models
from equipoise.balance.graph import graph
from equipoise.errors import InputError
from equipoise.nn import LocallyConnected2d
from equipoise.papers import load_all, published
from equipoise.papers.balance.networks import NETWORKS, Scale, label_of, network, plain
from equipoise.papers.balance.studies import Convergence, Regularised, Unbalanced
from equipoise.papers.balance.variants import Starts, Stopping
from equipoise.train import Run, experiments

load_all()

# Section 6: "The number of neurons in consecutive layers, from input to output, is ...".
FIRST = [784, 200, 100, 50, 100, 200, 784]
SECOND = [3072, 5000, 2592, 1296, 300, 100, 10]
NAMES = [name for name in experiments if name.startswith("balance/")]


def paper(name: str, seed: int = 0) -> list[Run]:
    return experiments[name].preset("paper").runs(seed)


def sizes(model: nn.Sequential, x: torch.Tensor) -> list[int]:
    """The number of values of one sample at the input and behind each layer with weights."""
    found = [x[0].numel()]
    for layer in model:
        x = layer(x)
        if next(layer.parameters(), None) is not None:
            found.append(x[0].numel())
    return found


def test_there_are_nine_and_no_number_to_compare_with() -> None:
    own = {"regularised", "unbalanced", "convergence", "cnn", "init", "stopping", "range", "bipu", "mixed"}
    assert set(NAMES) == {f"balance/{name}" for name in own}
    assert not [number for number in published() if number.experiment.startswith("balance/")], "the paper prints none"


def test_the_autoencoder_is_the_papers() -> None:
    model = models.make(network("autoencoder").model)
    assert sizes(model, torch.rand(2, 1, 28, 28)) == FIRST
    kinds = [type(layer).__name__ for layer in model]
    assert kinds == ["Flatten", *["Linear", "ReLU"] * 6], "ReLU activation functions in all layers"
    assert all(layer.bias is not None for layer in model if isinstance(layer, nn.Linear))


def test_the_second_network_is_the_papers() -> None:
    model = models.make(network("local").model)
    assert sizes(model, torch.rand(2, 3, 32, 32)) == SECOND
    local = [layer for layer in model if isinstance(layer, LocallyConnected2d)]
    dense = [layer for layer in model if isinstance(layer, nn.Linear)]
    assert [(one.kernel_size, one.stride, one.out_channels) for one in local] == [
        ((8, 8), (1, 1), 8), ((8, 8), (1, 1), 8), ((2, 2), (2, 2), 16),
    ]  # fmt: skip
    assert (len(local), len(dense), sum(isinstance(m, nn.LeakyReLU) for m in model)) == (3, 3, 5)
    assert not any(isinstance(m, nn.ReLU) for m in model)


@pytest.mark.parametrize("name", list(NETWORKS))
def test_every_hidden_unit_has_a_scale_of_its_own(name: str) -> None:
    one = network(name)
    shape = {"mnist": (1, 28, 28), "cifar10": (3, 32, 32), "digits": (1, 8, 8)}[one.data]
    scaling = graph(models.make(one.model), torch.rand(2, *shape))
    assert scaling.rows.free == one.units
    assert label_of({"model": one.model}) == one.label
    assert label_of({"model": "mlp:3-2"}) == "mlp:3-2"


@pytest.mark.parametrize("name", ["balance/regularised", "balance/unbalanced", "balance/convergence"])
def test_the_papers_protocol(name: str) -> None:
    runs = paper(name, seed=4)
    assert {run.data for run in runs} == {"mnist", "cifar10"}
    for run in runs:
        first = run.data == "mnist"
        assert run.loss == ("reconstruction" if first else "cross_entropy"), "sum of squares; softmax cross-entropy"
        assert run.batch_size == (200 if first else 5)
        assert (run.optimizer, run.optimizer_options, run.scheduler, run.rule) == ("sgd", {}, "constant", "bp")
        assert (run.validation, run.augment, run.train_limit, run.test_limit, run.seed) == (0, "none", None, None, 4)
        assert (run.precision, run.clip_norm, run.select) == ("float32", None, "last")


def test_figure_3_changes_the_regulariser_alone() -> None:
    for name in Regularised().networks:
        none, l2, l1 = Regularised((name,)).runs(0)
        assert (none.decay, list(l2.decay), list(l1.decay)) == ({}, ["l2"], ["l1"])
        assert all(dataclasses.replace(run, decay={}) == none for run in (l2, l1))
        assert none.balance_start == "none"
        assert none.trace_every > 0


def test_figure_4_starts_balanced_and_changes_the_rate_alone() -> None:
    for name in Unbalanced().networks:
        runs = Unbalanced((name,)).runs(0)
        rates = [run.lr for run in runs]
        assert max(rates) >= 40 * min(rates), "one large, one tiny"
        assert all(run.balance_start == "balance" and run.decay == {} and run.balance_every == 0 for run in runs)
        assert all(dataclasses.replace(run, lr=rates[0]) == runs[0] for run in runs)
    assert [run.lr for run in Unbalanced(("local",), rates=(0.5,)).runs(0)] == [0.5]


def test_figure_5_repeats_a_thousand_times_and_trains_nothing() -> None:
    runs = paper("balance/convergence")
    assert [run.balance_repeats for run in runs] == [1000, 1000]
    assert [run.epochs for run in runs] == [60, 60]
    assert [run.trace_every for run in runs] == [650 // 4, 9288 // 4]
    assert [run.balance_repeats for run in Convergence(repeats=(7,)).runs(0)] == [7, 7]
    with pytest.raises(InputError, match="trains nothing"):
        dataclasses.replace(runs[0], decay={"l2": 0.1})


def test_what_the_other_studies_change() -> None:
    starts = Starts(rates=(0.1,)).runs(0)
    assert [(run.balance_start, run.balance_p) for run in starts] == [
        ("none", 2), ("balance", 2), ("norms", 2), ("balance", 1), ("norms", 1),
    ]  # fmt: skip
    assert len(paper("balance/init")) == 5 * len(network("dense").rates)
    for name in ("balance/cnn", "balance/bipu", "balance/range"):
        groups: dict[str, list[Run]] = {}
        for run in paper(name):
            groups.setdefault(run.model, []).append(run)
        for none, l2 in groups.values():
            assert (none.decay, list(l2.decay)) == ({}, ["l2"])
            assert dataclasses.replace(l2, decay={}) == none
    assert all("squared_relu" in run.model for run in paper("balance/bipu"))
    assert all("cnn:" in run.model for run in paper("balance/cnn"))
    assert all("int8" in run.measures for run in paper("balance/range"))
    strengths = [(run.decay.get("l1", 0), run.decay.get("l2", 0)) for run in paper("balance/mixed")]
    assert [(l1 > 0, l2 > 0) for l1, l2 in strengths] == [(False, False), (False, True), (True, False), (True, True)]
    assert all(run.measures == ["balance"] for run in Stopping().runs(0))


def test_scale_reaches_the_runs_and_an_unknown_network_is_named() -> None:
    run = plain("dense", 3, Scale(2, 100, 50, 7), experiment="balance/cnn", lr=0.5)
    assert (run.epochs, run.train_limit, run.test_limit, run.trace_every, run.lr, run.seed) == (2, 100, 50, 7, 0.5, 3)
    with pytest.raises(InputError, match="did you mean 'autoencoder'"):
        Regularised(("autoencodr",)).runs(0)


def test_old_hashes_stay_and_new_fields_count() -> None:
    plain_run = Run(experiment="x")
    assert plain_run.hash == Run.from_json({"experiment": "x", "decay": {}, "balance_p": 2, "trace_every": 0}).hash
    changes = ({"decay": {"l2": 0.1}}, {"balance_start": "norms"}, {"balance_every": 5}, {"trace_every": 1})
    assert len({Run(experiment="x", **change).hash for change in changes} | {plain_run.hash}) == 5
    for bad in ({"balance_start": "later"}, {"balance_every": -1}, {"balance_p": 0.0}, {"decay": {"w": 1}}):
        with pytest.raises(InputError):
            Run(**bad)
