"""The spiking paper's tables, its ablations, and the questions that it leaves open, as experiments."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from equipoise.papers.eisnn.conditions import BASELINE, Scale, condition_of
from equipoise.papers.eisnn.figures import EXHIBITS
from equipoise.papers.eisnn.studies import Compared, Starts, Variants
from equipoise.train import Experiment, experiments

__all__ = ["EXPERIMENTS"]

_PAPER = "E-I spiking paper (ICLR 2026, arXiv 2509.23253)"
_NONE = "no paper: the E-I spiking paper leaves it open"
_MLP = "no paper: the spiking paper's program has such a network and no result of it"
_TINY = Scale(epochs=1, train_limit=96, test_limit=64, looks=16)
_THIN = dataclasses.replace(_TINY, width=0.05)
# Of 1, 3 and 10 times their rates, three times was best for both twins on Fashion-MNIST, on validation images (20,000
# of training, five epochs, one seed).
_SHORT = Scale(epochs=5, rate=3.0, train_limit=20_000)
_SMALL = Scale(epochs=5, width=0.125, train_limit=10_000, test_limit=2_000)
_TWINS = (BASELINE, "batch")
_PUBLISHED = ("literal", "batch")
_ABLATED = (
    *("ei", "literal", "presumed", "no-init", "no-stabilisation", "no-straight"),
    *("no-scaling", "no-division", "no-subtraction"),
)
_RATIOS = ("ratio=1", "ratio=0.5", BASELINE, "ratio=0.125", "ratio=0.0625")
_RULES = (BASELINE, "fa", "dfa", "batch", "batch-fa", "batch-dfa")
_DEEP = ("mlp-4", "mlp-8", "mlp-16", "vgg-8", "vgg-11", "vgg-16", "vgg-19")
_DISTRIBUTIONS = ("spiking", "synapses")
_ANGLES = ("spiking", "surrogate")


def _compared(name: str, title: str, source: str, *networks: str, **own: Any) -> Experiment:
    """Twins on the paper's networks: ``smoke`` on embedded data, ``quick`` as given, ``paper`` by its recipe."""
    followed = own.get("followed", ("spiking",))
    return Experiment(
        name=f"eisnn/{name}",
        version=1,
        title=title,
        source=source,
        presets={
            "smoke": Compared((f"digits-{name}",), own.get("smoke", _TWINS), own.get("tiny", _THIN), followed),
            "quick": Compared(networks[:1], own.get("twins", _TWINS), own["quick"], followed),
            "paper": Compared(networks, own.get("paper", _PUBLISHED), own.get("whole", Scale()), followed),
        },
    )


def _variants(name: str, title: str, source: str, smoke: Variants, quick: Variants, paper: Variants) -> Experiment:
    home = f"eisnn/{name}"
    presets = {"smoke": smoke, "quick": quick, "paper": paper}
    own = {preset: dataclasses.replace(study, experiment=home) for preset, study in presets.items()}
    return Experiment(name=home, version=1, title=title, source=source, presets=dict(own))


def _with_baseline(row: Mapping[str, Any]) -> bool:
    """The runs of ``eisnn/ratio``, and those of the ablations whose ratio is the paper's."""
    home = row.get("experiment")
    return home == "eisnn/ratio" or (home == "eisnn/ablation" and condition_of(row) == BASELINE)


_PHOTOS = Scale(2, width=0.25, train_limit=4_000, test_limit=1_000)
_CAMERA = Scale(2, width=0.25, train_limit=500, test_limit=200)

EXPERIMENTS = (
    _compared(
        "cifar10",
        "Spiking networks with inhibition in place of batch normalisation on CIFAR-10",
        f"{_PAPER}: its results on CIFAR-10, and those of its released networks",
        *("vgg8", "vgg11", "vgg16", "vgg19", "resnet18"),
        quick=_PHOTOS,
    ),
    _compared(
        "cifar100",
        "Spiking networks with inhibition in place of batch normalisation on CIFAR-100",
        f"{_PAPER}: its released networks for CIFAR-100",
        *("cifar100-vgg16", "cifar100-vgg19"),
        quick=_PHOTOS,
    ),
    _compared(
        "tinyimagenet",
        "A spiking residual network with inhibition on Tiny ImageNet, at 32 x 32 pixels as in the paper",
        f"{_PAPER}: its result on Tiny ImageNet",
        "tinyimagenet",
        quick=_PHOTOS,
    ),
    _compared(
        "dvs-gesture",
        "Gestures before an event camera",
        f"{_PAPER}: its result on DVS-Gesture",
        "gesture-vgg8",
        quick=_CAMERA,
    ),
    _compared(
        "cifar10-dvs",
        "CIFAR-10 before an event camera",
        f"{_PAPER}: its result on CIFAR10-DVS",
        *("dvs-vgg8", "dvs-vgg11"),
        quick=_CAMERA,
    ),
    _compared(
        "mnist",
        "Small spiking networks on MNIST: inhibition in place of batch normalisation",
        _MLP,
        "mnist",
        quick=_SHORT,
        tiny=_TINY,
    ),
    _compared(
        "fashion",
        "Small spiking networks on Fashion-MNIST: inhibition in place of batch normalisation",
        _MLP,
        "fashion",
        quick=_SHORT,
        tiny=_TINY,
    ),
    _compared(
        "moving-digits",
        "Digits in motion, as events: an event camera's task that needs no recording",
        _NONE,
        "moving-digits",
        quick=Scale(3, width=0.125, train_limit=4_000, test_limit=1_000),
        paper=_TWINS,
    ),
    _compared(
        "sequence",
        "Pictures a row at a time: does the circuit learn what takes time?",
        f"{_NONE}: it names sequences as its limit",
        "sequence",
        smoke=(BASELINE, "recurrent", "batch"),
        twins=(BASELINE, "recurrent", "batch"),
        paper=(BASELINE, "recurrent", "batch"),
        quick=Scale(3, train_limit=10_000, test_limit=2_000, looks=1_000),
        whole=Scale(looks=1_000),
        tiny=_TINY,
        followed=("spiking", "streaming"),
    ),
    _variants(
        "ablation",
        "What each part of the circuit, of its start and of its gradient does",
        f"{_PAPER}: its ablations, of which we know words and no numbers",
        Variants("digits-ablation", ("ei", "no-init", "no-division"), _THIN),
        Variants("fashion-vgg8", _ABLATED, _SMALL),
        Variants("vgg8", _ABLATED),
    ),
    Experiment(
        name="eisnn/init",
        version=1,
        title="Rates and currents by depth, before any training",
        source=f"{_PAPER}: E-I Init",
        presets={
            "smoke": Starts(("mlp-4",), "digits", "1x8x8", ("ei", "no-init"), samples=32, width=0.1),
            "quick": Starts(_DEEP, samples=32),
            "paper": Starts(_DEEP),
        },
    ),
    dataclasses.replace(
        _variants(
            "ratio",
            "How many inhibitory cells are enough?",
            f"{_NONE}: it has 4:1 throughout",
            Variants("digits-ablation", (BASELINE, "ratio=1", "ratio=0.0625"), _THIN, baseline="eisnn/ablation"),
            Variants("fashion-vgg8", _RATIOS, _SMALL, baseline="eisnn/ablation"),
            Variants("vgg8", _RATIOS, baseline="eisnn/ablation"),
        ),
        rows=_with_baseline,
    ),
    _variants(
        "dynamics",
        "How weights and currents are distributed while a network learns: do two peaks appear?",
        f"{_PAPER}: bimodal distributions emerge in training, its program's page says",
        Variants("digits-dynamics", (BASELINE,), _TINY, _DISTRIBUTIONS, first=True),
        Variants("fashion", (BASELINE, "literal"), _SHORT, _DISTRIBUTIONS, first=True),
        Variants("vgg8", ("literal",), measures=_DISTRIBUTIONS, first=True),
    ),
    _variants(
        "rules",
        "Feedback alignment and direct feedback in spiking networks",
        _NONE,
        Variants("digits-rules", _RULES, _TINY, _ANGLES),
        Variants("fashion", _RULES, _SHORT, _ANGLES),
        Variants("fashion", _RULES, measures=_ANGLES),
    ),
)

for _experiment in EXPERIMENTS:
    experiments.register(_experiment.name)(dataclasses.replace(_experiment, exhibits=EXHIBITS[_experiment.name]))
