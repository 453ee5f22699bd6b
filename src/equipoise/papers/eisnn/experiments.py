"""The spiking paper's tables, its ablations, and the questions that it leaves open, as experiments."""

from __future__ import annotations

from equipoise.papers.eisnn.conditions import Scale
from equipoise.papers.eisnn.studies import Compared
from equipoise.train import Experiment, experiments

__all__ = ["EXPERIMENTS"]

_PAPER = "E-I spiking paper (ICLR 2026, arXiv 2509.23253)"
_TINY = Scale(epochs=1, train_limit=128, test_limit=64, looks=16)
_TWINS = ("ei", "batch")
_PUBLISHED = ("literal", "batch")

EXPERIMENTS = (
    Experiment(
        name="eisnn/cifar10",
        version=1,
        title="Spiking networks with inhibition in place of batch normalisation on CIFAR-10",
        source=f"{_PAPER}: results on CIFAR-10",
        presets={
            "smoke": Compared(("digits-vgg",), _TWINS, Scale(1, width=0.05, train_limit=128, test_limit=64, looks=16)),
            "quick": Compared(("vgg8",), _TWINS, Scale(2, width=0.25, train_limit=4_000, test_limit=1_000)),
            "paper": Compared(("vgg8", "vgg11", "vgg16", "vgg19", "resnet18"), _PUBLISHED),
        },
    ),
    Experiment(
        name="eisnn/mnist",
        version=1,
        title="Small spiking networks on MNIST: inhibition in place of batch normalisation",
        source="no paper: the spiking paper's program has such a network and no result of it",
        presets={
            "smoke": Compared(("digits-mnist",), _TWINS, _TINY),
            "quick": Compared(("mnist",), _TWINS, Scale(epochs=5)),
            "paper": Compared(("mnist",), _PUBLISHED),
        },
    ),
    Experiment(
        name="eisnn/fashion",
        version=1,
        title="Small spiking networks on Fashion-MNIST: inhibition in place of batch normalisation",
        source="no paper: the spiking paper's program has such a network and no result of it",
        presets={
            "smoke": Compared(("digits-fashion",), _TWINS, _TINY),
            "quick": Compared(("fashion",), _TWINS, Scale(epochs=5)),
            "paper": Compared(("fashion",), _PUBLISHED),
        },
    ),
)

for _experiment in EXPERIMENTS:
    experiments.register(_experiment.name)(_experiment)
