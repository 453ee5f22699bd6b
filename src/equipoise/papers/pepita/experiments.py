"""Every table and figure of the PEPITA paper, and two questions that it leaves open, as experiments."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from equipoise.papers.pepita import table1
from equipoise.papers.pepita.figures import EXHIBITS
from equipoise.papers.pepita.table1 import Grid, Scale, column_of
from equipoise.papers.pepita.variants import Controls, Depth, Dynamics, FrozenConv, Linear, Target, Weights, Whitening
from equipoise.train import Experiment, experiments

__all__ = ["EXPERIMENTS"]

_PAPER = "DellaFerrera and Kreiman, ICML 2022"
_LOOK = Scale(epochs=8)
_SHORT = Scale(epochs=5, train_limit=10_000, test_limit=2_000)


def _shows(name: str, columns: tuple[str, ...], rules: tuple[str, ...]) -> Callable[[Mapping[str, Any]], bool]:
    """Which runs an experiment shows that shares cells with Table 1: its own, and these cells."""

    def rows(row: Mapping[str, Any]) -> bool:
        shared = row.get("experiment") == table1.NAME and column_of(row) in columns and row.get("rule") in rules
        return shared or row.get("experiment") == name

    return rows


_DENSE = ("fc-mnist", "fc-cifar10", "fc-cifar100")
_ONE = ("pepita",)

EXPERIMENTS = (
    Experiment(
        name=table1.NAME,
        version=table1.VERSION,
        title="Test accuracy of five rules, dense and convolutional",
        source=f"{_PAPER}, Table 1 and appendix A (it has no direct feedback alignment: ours trains at FA's rates)",
        presets={
            "smoke": Grid(("fc-digits", "conv-digits"), scale=_LOOK),
            "quick": Grid(("fc-mnist", "fc-cifar10", "conv-mnist"), scale=_SHORT),
            "paper": Grid(),
        },
    ),
    Experiment(
        name="pepita/curves",
        version=1,
        title="Learning curves on CIFAR-10",
        source=f"{_PAPER}, Figure 7; the numbers by epoch are those of the log in the authors' tutorial",
        presets={
            "smoke": Grid(("fc-digits",), scale=_LOOK),
            "quick": Grid(("fc-cifar10",), scale=_SHORT),
            "paper": Grid(("fc-cifar10",)),
        },
        rows=_shows("pepita/curves", ("fc-cifar10", "fc-digits"), table1.RULES),
    ),
    Experiment(
        name="pepita/dynamics",
        version=1,
        title="How weights and feedback come to lie to each other under PEPITA",
        source=f"{_PAPER}, Figure 3; --extended True is Figure 9",
        presets={
            "smoke": Dynamics("fc-digits", _LOOK),
            "quick": Dynamics(scale=_SHORT),
            "paper": Dynamics(),
        },
        rows=_shows("pepita/dynamics", ("fc-mnist", "fc-digits"), _ONE),
    ),
    Experiment(
        name="pepita/embedding",
        version=1,
        title="The hidden layer before and after training with PEPITA, in two dimensions",
        source=f"{_PAPER}, Figure 4",
        presets={
            "smoke": Grid(("fc-digits",), _ONE, _LOOK),
            "quick": Grid(("fc-mnist",), _ONE, _SHORT),
            "paper": Grid(("fc-mnist",), _ONE),
        },
        rows=_shows("pepita/embedding", ("fc-mnist", "fc-digits"), _ONE),
    ),
    Experiment(
        name="pepita/controls",
        version=1,
        title="PEPITA without feedback, with random perturbations, and with the feedback's sign turned",
        source=f"{_PAPER}, Figure 5 and appendix D",
        presets={
            "smoke": Controls("fc-digits", _LOOK),
            "quick": Controls(scale=_SHORT),
            "paper": Controls(),
        },
        rows=_shows("pepita/controls", ("fc-cifar10", "fc-digits"), _ONE),
    ),
    Experiment(
        name="pepita/weights",
        version=1,
        title="Distributions of trained weights",
        source=f"{_PAPER}, Figures 6 and 10",
        presets={
            "smoke": Weights("fc-digits", scale=_LOOK),
            "quick": Weights(scale=_SHORT),
            "paper": Weights(),
        },
    ),
    Experiment(
        name="pepita/slowness",
        version=1,
        title="How fast the rules learn",
        source=f"{_PAPER}, Figure 8 and Table 3",
        presets={
            "smoke": Grid(("fc-digits",), scale=_LOOK),
            "quick": Grid(("fc-mnist",), scale=_SHORT),
            "paper": Grid(_DENSE),
        },
        rows=_shows("pepita/slowness", (*_DENSE, "fc-digits"), table1.RULES),
    ),
    Experiment(
        name="pepita/whitening",
        version=1,
        title="PEPITA on whitened images",
        source=f"{_PAPER}, Table 4",
        presets={
            "smoke": Whitening("fc-digits", _LOOK, eps=0.1, slower=1.0),
            "quick": Whitening(scale=_SHORT),
            "paper": Whitening(),
        },
        rows=_shows("pepita/whitening", ("fc-mnist", "fc-digits"), _ONE),
    ),
    Experiment(
        name="pepita/drtp",
        version=1,
        title="DRTP with its authors' dropout on the input",
        source=f"{_PAPER}, Table 1, whose DRTP runs on its authors' code, where dropout also meets the input",
        presets={
            "smoke": Target("fc-digits", _LOOK),
            "quick": Target(scale=_SHORT),
            "paper": Target(),
        },
        rows=_shows("pepita/drtp", ("fc-mnist", "fc-digits"), ("drtp",)),
    ),
    Experiment(
        name="pepita/linear",
        version=1,
        title="The trace tr(F W A) in a linear network",
        source=f"{_PAPER}, appendix E",
        presets={
            "smoke": Linear("fc-digits", _LOOK, eps=0.1, lr=0.01),
            "quick": Linear(scale=_SHORT),
            "paper": Linear(),
        },
    ),
    Experiment(
        name="pepita/frozen-conv",
        version=1,
        title="Do PEPITA's convolutional kernels learn?",
        source="no paper: a control that Table 1's convolutional columns lack",
        presets={
            "smoke": FrozenConv(("conv-digits",), _LOOK),
            "quick": FrozenConv(("conv-mnist",), _SHORT),
            "paper": FrozenConv(),
        },
        rows=_shows("pepita/frozen-conv", ("conv-mnist", "conv-cifar10", "conv-digits"), _ONE),
    ),
    Experiment(
        name="pepita/depth",
        version=1,
        title="Two to six layers",
        source="no paper: the published networks have one hidden layer",
        presets={
            "smoke": Depth("fc-digits", layers=(2, 3), scale=_LOOK),
            "quick": Depth(layers=(2, 3, 4), scale=_SHORT),
            "paper": Depth(),
        },
        rows=_shows("pepita/depth", ("fc-mnist", "fc-digits"), table1.RULES),
    ),
)

for _experiment in EXPERIMENTS:
    experiments.register(_experiment.name)(dataclasses.replace(_experiment, exhibits=EXHIBITS.get(_experiment.name)))
