"""Figures 3 to 5 and Table 1 of the GAIT-prop scaling paper, and questions that its comparison leaves open."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from equipoise.papers.gait.conditions import CONTROLS, LAMBDAS, PAPER, Scale, condition_of
from equipoise.papers.gait.figures import EXHIBITS
from equipoise.papers.gait.studies import Compared, Depth, Noise, Precision
from equipoise.train import Experiment, experiments

__all__ = ["EXPERIMENTS"]

_PAPER = "Dalm, Ahmad, Ambrogioni and van Gerven, Scaling gradient-adjusted incremental target propagation"
_NONE = "no paper: the scaling paper leaves it open"
_SMOKE = Scale(epochs=2, every=5, looks=64)
_FEW = Scale(epochs=1, every=4, train_limit=512, test_limit=200, looks=64)
_QUICK = Scale(epochs=2, every=10, train_limit=10_000, test_limit=2_000)
_ALL = (*PAPER, "difference")
_UPKEEP = ("free", *(f"lambda={one:g}" for one in LAMBDAS), "off-diagonal", "decoupled", "probe", "retract")
_CONTROLLED = ("bp", "difference", *CONTROLS)


def _at_home(name: str, where: str, conditions: tuple[str, ...]) -> Callable[[Mapping[str, Any]], bool]:
    """Its own runs, and those of these conditions that belong to ``where``."""

    def shown(row: Mapping[str, Any]) -> bool:
        home = row.get("experiment")
        return home == name or (home in (where, "gait/controls") and condition_of(row) in conditions)

    return shown


EXPERIMENTS = (
    Experiment(
        name="gait/shallow",
        version=1,
        title="GAIT-prop, backpropagation and feedback alignment on CIFAR-10, three hidden layers",
        source=f"{_PAPER}, Figure 3 and Table 1",
        presets={
            "smoke": Compared("shallow-digits", _ALL, _SMOKE),
            "quick": Compared("shallow", _ALL, _QUICK),
            "paper": Compared("shallow", _ALL),
        },
    ),
    Experiment(
        name="gait/deep",
        version=1,
        title="GAIT-prop, backpropagation and feedback alignment on CIFAR-10, six hidden layers",
        source=f"{_PAPER}, Figure 4 and Table 1",
        presets={
            "smoke": Compared("deep-digits", _ALL, _SMOKE),
            "quick": Compared("deep", _ALL, _QUICK),
            "paper": Compared("deep", _ALL),
        },
    ),
    Experiment(
        name="gait/imagenet",
        version=1,
        title="GAIT-prop through seven convolutions",
        source=f"{_PAPER}, Figure 5 and Table 1 (top-5)",
        presets={
            "smoke": Compared("imagenet-digits", ("bp", "fa", "gp", "difference", "mixed"), _FEW),
            "quick": Compared(
                *("imagenet-cifar10", ("bp", "fa", "difference")),
                dataclasses.replace(_QUICK, train_limit=2_560, test_limit=1_000),
            ),
            "paper": Compared("imagenet", ("bp", "fa", "gp", "difference", "mixed")),
        },
    ),
    Experiment(
        name="gait/precision",
        version=1,
        title="How deep each form of GAIT-prop reaches in each number format",
        source=f"{_NONE}; its section 3.1 names precision as what vanilla GAIT-prop fails by",
        presets={
            "smoke": Precision("deep-digits", layers=(3, 6), width=48, samples=64),
            "quick": Precision(layers=(3, 6), width=256),
            "paper": Precision(),
        },
    ),
    Experiment(
        name="gait/controls",
        version=1,
        title="Is it the rule, or the auxiliary units and the penalty?",
        source=f"{_NONE}: its GAIT-prop networks have auxiliary units and a penalty, its others neither",
        presets={
            "smoke": Compared("shallow-digits", _CONTROLLED, _SMOKE),
            "quick": Compared("shallow", _CONTROLLED, _QUICK),
            "paper": Compared("shallow", _CONTROLLED),
        },
        rows=_at_home("gait/controls", "gait/shallow", _CONTROLLED),
    ),
    Experiment(
        name="gait/orthogonality",
        version=1,
        title="Which upkeep keeps the angle and gives the training accuracy back?",
        source=f"{_PAPER}, Table 1: training accuracies of 61 to 65 % against 92 to 99 %, by the penalty, it says",
        presets={
            "smoke": Compared("shallow-digits", ("bp", "difference", *_UPKEEP), _SMOKE),
            "quick": Compared("shallow", ("bp", "difference", *_UPKEEP), _QUICK),
            "paper": Compared("shallow", ("bp", "difference", *_UPKEEP)),
        },
        rows=_at_home("gait/orthogonality", "gait/shallow", ("bp", "difference", *_UPKEEP)),
    ),
    Experiment(
        name="gait/depth",
        version=1,
        title="Angles to backpropagation at three to fifty layers",
        source=_NONE,
        presets={
            "smoke": Depth("deep-digits", (3, 12), scale=dataclasses.replace(_SMOKE, epochs=1)),
            "quick": Depth(width=256, scale=dataclasses.replace(_QUICK, epochs=1)),
            "paper": Depth(),
        },
    ),
    Experiment(
        name="gait/noise",
        version=1,
        title="How much noise between activity and target each form of GAIT-prop bears",
        source=_NONE,
        presets={
            "smoke": Noise("deep-digits", layers=(3,), width=48, levels=(0.0, 1e-8, 1e-2), samples=64),
            "quick": Noise(layers=(3,), width=256),
            "paper": Noise(),
        },
    ),
)

for _experiment in EXPERIMENTS:
    experiments.register(_experiment.name)(dataclasses.replace(_experiment, exhibits=EXHIBITS[_experiment.name]))
