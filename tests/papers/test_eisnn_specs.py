"""The specs of the spiking experiments against the paper's configurations, copied here once more by hand.

A failure here means that a run labelled "paper" trains something else, or that two conditions differ in more than they say.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from equipoise import data, models, sweep
from equipoise.data import Augmentation
from equipoise.errors import InputError
from equipoise.papers import load_all, published
from equipoise.papers.eisnn.conditions import CONDITIONS, Scale, condition_of, plain
from equipoise.papers.eisnn.figures import EXHIBITS
from equipoise.papers.eisnn.figures_compared import accuracies
from equipoise.papers.eisnn.layers import layers, network_of
from equipoise.papers.eisnn.networks import NETWORKS
from equipoise.papers.eisnn.offline import digit_events
from equipoise.papers.eisnn.studies import Compared, Starts, Variants
from equipoise.papers.exhibits import Table
from equipoise.train import Run, experiments

load_all()

# Section by section of the configurations: T, epochs, warm-up, batch, learning rate, and the rate that warm-up starts at.
PROGRAM = {
    "vgg8": (4, 300, 10, 128, 2e-3, 1e-7),
    "vgg11": (4, 300, 10, 128, 2e-3, 1e-7),
    "vgg16": (4, 300, 30, 128, 1e-3, 1e-7),
    "vgg19": (4, 300, 30, 128, 1e-3, 1e-7),
    "resnet18": (4, 300, 30, 128, 1e-3, 1e-7),
    "cifar100-vgg16": (4, 300, 30, 128, 1e-3, 1e-7),
    "cifar100-vgg19": (4, 300, 30, 128, 1e-3, 1e-7),
    "tinyimagenet": (4, 300, 10, 128, 3e-3, 1e-3),
    "gesture-vgg8": (16, 300, 10, 32, 1e-3, 1e-7),
    "dvs-vgg8": (10, 300, 10, 32, 1e-3, 1e-7),
    "dvs-vgg11": (10, 300, 10, 32, 1e-3, 1e-7),
}
RELEASED = {
    "vgg8": 87.03,
    "vgg11": 88.43,
    "vgg16": 91.01,
    "vgg19": 91.36,
    "resnet18": 92.05,
    "cifar100-vgg16": 65.90,
    "cifar100-vgg19": 64.06,
    "tinyimagenet": 50.29,
    "gesture-vgg8": 94.86,
    "dvs-vgg8": 77.66,
    "dvs-vgg11": 78.40,
}
NAMES = [name for name in experiments if name.startswith("eisnn/")]


def test_there_are_fourteen() -> None:
    own = {"cifar10", "cifar100", "tinyimagenet", "dvs-gesture", "cifar10-dvs", "mnist", "fashion", "moving-digits"}
    own |= {"sequence", "ablation", "init", "ratio", "dynamics", "rules"}
    assert set(NAMES) == {f"eisnn/{name}" for name in own}


@pytest.mark.parametrize("where", list(PROGRAM))
def test_the_paper_preset_is_the_papers_configuration(where: str) -> None:
    steps, epochs, warmup, batch, rate, start = PROGRAM[where]
    one = NETWORKS[where]
    assert not one.ours
    planned = {condition_of(sweep.flat(run)): run for run in _paper(one.home) if run.model.startswith(one.model)}
    run, twin = planned["literal"], planned["batch"]
    assert run.model == f"{one.model},steps={steps},scaling=gradient"
    assert (run.epochs, run.batch_size, run.lr, run.init_batch) == (epochs, batch, rate, batch)
    assert run.optimizer_options == {"momentum": 0.9, "weight_decay": 5e-4}
    assert run.scheduler == "warmup_cosine"
    assert run.scheduler_options == {"warmup": warmup, "start": pytest.approx(start / rate, rel=1e-5)}
    assert (twin.lr, twin.optimizer_options["weight_decay"], twin.scheduler_options, twin.init_batch) == (
        0.1,
        1e-4,
        {},
        0,
    )
    assert twin.model == f"{one.model},steps={steps},norm=batch"
    for each in (run, twin):
        assert (each.optimizer, each.loss, each.rule, each.precision) == ("sgd", "cross_entropy", "bp", "float32")
        assert (each.validation, each.select, each.seed, each.clip_norm) == (0, "last", 5, None)
        assert (each.train_limit, each.test_limit, each.whiten, each.data) == (None, None, None, one.data)


def _paper(home: str) -> list[Run]:
    return experiments[home].preset("paper").runs(5)


def test_augmentation_is_the_papers_and_never_mirrors_gestures() -> None:
    said = {
        "cifar10": "crop+cutout+flip",
        "cifar100": "crop+cutout+flip",
        "tinyimagenet": "resized_crop=0.08+flip+jitter=0.4+cutout",
        "dvs-gesture": "resized_crop=0.5+temporal_delete",
        "cifar10-dvs": "resized_crop=0.7+flip+roll=5/rotate=30/hole=16",
    }
    for where in PROGRAM:
        one = NETWORKS[where]
        assert one.augment == said[one.home.partition("/")[2]]
        shape = (one.steps, 2, 48, 48) if "encoder=frames" in one.model else (3, 32, 32)
        read = Augmentation.read(one.augment)
        assert read is not None
        read.check(shape, handed=one.home == "eisnn/dvs-gesture")
    assert all(one.augment == "none" for name, one in NETWORKS.items() if name not in PROGRAM)


def test_the_published_accuracies_are_copied_right() -> None:
    found, numbers = {}, published()
    for where in PROGRAM:
        run = plain(where, "literal", 0, Scale())
        (number,) = [one for one in numbers if one.matches(sweep.flat(run))]
        assert (number.metric, number.factor, number.unit) == ("test_accuracy", 100, "%")
        found[where] = number.value
        assert not [one for one in numbers if one.matches(sweep.flat(plain(where, "ei", 0, Scale())))]
    assert found == RELEASED


def test_conditions_read_back_and_differ_in_one_thing_each() -> None:
    runs = {name: plain("fashion", name, 0, Scale()) for name in CONDITIONS}
    for name, run in runs.items():
        assert condition_of(sweep.flat(run)) == name
        assert network_of(sweep.flat(run)) == "MLP 784-500-500-10"
    assert condition_of(sweep.flat(Run())) == ""
    plainest = runs["ei"]
    for name, run in runs.items():
        other = dataclasses.replace(run, model=plainest.model, rule="bp", init_batch=plainest.init_batch)
        if CONDITIONS[name].batchnorm:
            recipe = {"lr": 0.1, "optimizer_options": {"momentum": 0.9, "weight_decay": 1e-4}, "scheduler_options": {}}
            assert other == dataclasses.replace(plainest, **recipe)
        else:
            assert other == plainest
        changes = [run.model != plainest.model, run.rule != "bp", run.init_batch != plainest.init_batch]
        twice = {"no-init", "none", "no-division", "no-subtraction", "batch", "batch-fa", "batch-dfa"}
        assert sum(changes) == (0 if name == "ei" else 3 if name.startswith("batch-") else 2 if name in twice else 1)


def test_each_variant_is_what_its_name_says() -> None:
    sizes = "spiking-mlp:12-16-16-4,steps=2"

    def first(name: str) -> Any:
        model = models.make(",".join([sizes, *([CONDITIONS[name].options] if CONDITIONS[name].options else [])]))
        return model.get_submodule("net.1")

    plainest = first("ei")
    told = {"stabilise": "no-stabilisation", "straight": "no-straight", "divisive": "no-division"}
    for switch, name in {**told, "subtractive": "no-subtraction"}.items():
        assert getattr(plainest, switch)
        assert not getattr(first(name), switch)
    assert [first(name).scaling for name in ("ei", "literal", "no-scaling")] == ["rate", "gradient", None]
    pools = {"ratio=1": 16, "ratio=0.5": 8, "ei": 4, "ratio=0.125": 2, "ratio=0.0625": 1}
    assert {name: first(name).pool for name in pools} == pools
    assert bool((first("no-init").gain_i == 1).all())
    assert not bool((first("presumed").gain_i == 1).any())
    assert type(first("recurrent")).__name__ == "RecurrentEI"
    assert first("spiking-inhibition").cells is not None
    assert [type(first(name)).__name__ for name in ("batch", "none")] == ["Linear", "Linear"]
    with pytest.raises(InputError, match="unit_gains"):
        models.make(f"{sizes},unit_gains=yes,divisive=no")


def test_scale_shortens_and_shrinks_and_keeps_warm_ups_share() -> None:
    scale = Scale(30, width=0.25, steps=6, rate=3, clip=1, validation=0.1, train_limit=50, test_limit=40, looks=7)
    run = plain("vgg8", "ei", 1, scale)
    assert run.model == "spiking-vgg:3x32x32-10,depth=8,width=0.25,steps=6"
    assert (run.epochs, run.scheduler_options["warmup"], run.lr) == (30, 1, pytest.approx(6e-3))
    assert (run.validation, run.train_limit, run.test_limit, run.measure_batch) == (0.1, 50, 40, 7)
    assert run.clip_norm == 1
    assert plain("vgg8", "batch", 1, scale).lr == pytest.approx(0.3)
    assert network_of(sweep.flat(run)) == "VGG-8, width 0.25, T = 6"
    cases: list[dict[str, Any]] = [{"epochs": 0}, {"width": 0.0}, {"rate": -1.0}, {"steps": 0}]
    for bad in cases:
        with pytest.raises(InputError, match=next(iter(bad))):
            Scale(**bad)
    for name, where in (("network", "vgg9"), ("condition", "vgg8")):
        with pytest.raises(InputError, match=name):
            Compared((where,), ("eii",)).runs(0)


def test_starts_train_nothing_and_deep_networks_build() -> None:
    for run in Starts(("mlp-4", "vgg-19"), width=0.02, samples=16).runs(0):
        assert (run.lr, run.epochs, run.batch_size, run.train_limit, run.scheduler) == (0, 1, 16, 16, "constant")
        model = models.make(run.model)
        assert model(torch.rand(2, 3, 32, 32)).shape == (2, 10)
    assert Starts(("mlp-4",), shape="1x8x8").runs(0)[0].model.startswith("spiking-mlp:64-10,depth=4")
    with pytest.raises(InputError, match="vgg-16"):
        Starts(("vgg16",)).runs(0)


def test_variants_share_the_plain_circuit_with_the_ablations() -> None:
    for preset in ("quick", "paper"):
        ours, theirs = (experiments[f"eisnn/{name}"].preset(preset).runs(2) for name in ("ratio", "ablation"))
        shared = {run.hash for run in ours} & {run.hash for run in theirs}
        assert [condition_of(sweep.flat(run)) for run in ours if run.hash in shared] == ["ei"]
        assert all(experiments["eisnn/ratio"].shows(sweep.flat(run)) for run in ours)
    followed = Variants("fashion", measures=("spiking", "synapses"), first=True).runs(0)[0]
    assert (followed.measures, followed.measure_every > 10**6) == (["spiking", "synapses"], True)


@pytest.mark.parametrize(
    "name", ["cifar100", "tiny-imagenet,size=32", "dvs-gesture,frames=16", "cifar10-dvs,frames=10"]
)
def test_data_that_are_absent_are_named_in_one_line(name: str, tmp_path: Path) -> None:
    assert name in {one.data for one in NETWORKS.values()}
    with pytest.raises(InputError) as caught:
        data.load(name, folder=tmp_path)
    said = str(caught.value)
    assert "\n" not in said
    assert str(tmp_path) in said


def test_offline_events_are_events_and_the_same_every_time() -> None:
    found = digit_events()
    digit_events.cache_clear()
    again = digit_events()
    assert found.train.shape == (5, 2, 12, 12)
    assert (len(found.train), len(found.test)) == (300, 100)
    assert torch.equal(found.train.images, again.train.images)
    per_step = found.test.images.float().sum((0, 2, 3, 4))
    assert bool((per_step > 0).all())
    assert not torch.equal(found.train.images[0], found.train.images[1])


def _row(run: Run, **measured: Any) -> dict[str, Any]:
    return {**sweep.flat(run), "hash": run.hash, "preset": "paper", "train_accuracy": 0.9, **measured}


def test_the_table_has_published_numbers_beside_ours_and_counts_what_diverged(tmp_path: Path) -> None:
    silent = {"silent/net.10": 0.25, "silent/net.2": 0.5, "current/net.2": -0.1, "current/net.10": 0.4}
    rows = [_row(plain("vgg8", "literal", seed, Scale()), test_accuracy=0.85, **silent) for seed in (0, 1)]
    rows.append(_row(plain("vgg8", "literal", 2, Scale())))
    rows.append(_row(plain("vgg8", "batch", 0, Scale())))
    (table,) = [one for one in EXHIBITS["eisnn/cifar10"](rows, {}, tmp_path) if isinstance(one, Table)]
    lines = {str(line[1]): dict(zip(table.columns, line, strict=True)) for line in table.rows}
    ours, twin = lines[CONDITIONS["literal"].label], lines["BN"]
    assert getattr(ours["published, %"], "value", None) == 87.03
    assert "(1 diverged)" in str(ours["test, %"])
    assert "85.00" in str(ours["test, %"])
    assert getattr(ours["silent, %"], "value", None) == 50
    assert [part.value for part in ours["mean current"] if hasattr(part, "value")] == [-0.1, 0.4]  # type: ignore[union-attr]
    assert (twin["test, %"], twin["published, %"]) == ("diverged", None)


def test_layers_come_in_their_order_and_ratios_too(tmp_path: Path) -> None:
    assert layers({"spikes/net.10": 1, "spikes/net.2": 1, "spikes": 1, "spikes/net.3": None}, "spikes") == [
        "net.2",
        "net.10",
    ]
    rows = [
        _row(plain("vgg8", name, 0, Scale(), experiment="eisnn/ablation"), test_accuracy=0.5, spikes=0.1)
        for name in ("ei", "ratio=1", "ratio=0.0625", "no-division")
    ]
    found = EXHIBITS["eisnn/ratio"](rows, {}, tmp_path)
    (table,) = [one for one in found if isinstance(one, Table)]
    assert [line[1] for line in table.rows] == ["16:1", "4:1", "1:1"]


def test_angles_are_told_by_layer_and_backpropagations_as_one_mean(tmp_path: Path) -> None:
    angles = {"surrogate/net.1.weight": 60.0, "surrogate/net.1.weight_ei": 90.0, "surrogate/net.3.weight": 0.0}
    rows = [
        _row(plain("fashion", name, 0, Scale(), experiment="eisnn/rules"), test_accuracy=0.5, surrogate=60.0, **angles)
        for name in ("ei", "fa")
    ]
    tables = [one for one in EXHIBITS["eisnn/rules"](rows, {}, tmp_path) if isinstance(one, Table)]
    told = [(str(line[1]), line[2], getattr(line[3], "value", math.nan)) for line in tables[-1].rows]
    assert told == [
        ("E-I", "hidden layers, mean", 60),
        ("E-I, FA", "layer 1", 60),
        ("E-I, FA", "layer 1, W_EI", 90),
        ("E-I, FA", "layer 2", 0),
        ("E-I, FA", "hidden layers, mean", 60),
    ]


@pytest.mark.parametrize("name", list(EXHIBITS))
def test_exhibits_make_nothing_of_nothing(name: str, tmp_path: Path) -> None:
    assert EXHIBITS[name]([], {}, tmp_path) == []


def test_adam_trains_circuits_and_twins_at_one_rate_and_the_page_says_so() -> None:
    scale = Scale(optimizer="adam", rate=2.0)
    runs = [plain("vgg8", name, 0, scale) for name in ("ei", "batch")]
    assert [(r.optimizer, r.lr, r.optimizer_options) for r in runs] == [("adam", 0.002, {})] * 2
    assert runs[0].scheduler_options["warmup"] > 0
    rows = [{**sweep.flat(run), "hash": run.hash, "test_accuracy": 0.5} for run in runs]
    rows += [{**sweep.flat(run), "hash": run.hash, "test_accuracy": 0.6} for run in [plain("vgg8", "ei", 0, Scale())]]
    table = next(one for one in accuracies(rows, {}, Path("nowhere")) if isinstance(one, Table))
    rates = {str(line[1]): line[-3] for line in table.rows}
    assert [getattr(cell, "text", None) for cell in rates.values()] == ["0.002, Adam", "0.002", "0.002, Adam"]
    with pytest.raises(InputError, match="know sgd and adam"):
        Scale(optimizer="rmsprop")
