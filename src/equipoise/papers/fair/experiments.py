"""The comparisons that no paper has, each with its first stage as an experiment of its own."""

from __future__ import annotations

import dataclasses

from equipoise.papers.fair.columns import columns
from equipoise.papers.fair.conditions import NETWORKS
from equipoise.papers.fair.figures import EXHIBITS
from equipoise.papers.fair.studies import Circuits, Compared, Rules, Scale, Tuning
from equipoise.train import Experiment, experiments

__all__ = ["EXPERIMENTS"]

_NONE = "no paper: rules have been compared on networks, budgets and rates of each author's own"
_SMOKE = Scale(width=32, draws=1, tune_epochs=1, tune_seed=0, epochs=2, train_limit=640, test_limit=100)
_QUICK = Scale(draws=6, tune_epochs=3, tune_limit=10_000, epochs=8, train_limit=20_000)
_FEW = ("bp", "fa", "pepita", "shallow", "drtp-tanh", "gait")
_ALL = ("mnist", "fashion-mnist", "cifar10")
_TWO = ("mnist", "fashion-mnist")


def _with_one_optimiser(scale: Scale) -> Scale:
    """As many draws of one optimiser as ``fair/rules`` has of two, so that all lines have one budget of tuning."""
    return dataclasses.replace(scale, draws=2 * scale.draws)


_PRESETS: dict[str, dict[str, Compared]] = {
    "fair/rules": {
        "smoke": Rules(("digits",), ("sgd",), _SMOKE, methods=_FEW),
        "quick": Rules(_TWO, scale=_QUICK),
        "paper": Rules(_ALL, networks=tuple(NETWORKS)),
    },
    "fair/circuits": {
        "smoke": Circuits(("digits",), scale=_SMOKE, circuits=("none", "dann", "lateral"), rules=("bp", "dfa")),
        "quick": Circuits(("fashion-mnist",), scale=_with_one_optimiser(_QUICK)),
        "paper": Circuits(_ALL, scale=_with_one_optimiser(Scale())),
    },
}
_TITLES = {
    "fair/rules": "Every rule on the same networks at one budget of tuning",
    "fair/circuits": "Every circuit under every rule at one budget of tuning",
}

EXPERIMENTS = tuple(
    one
    for name, presets in _PRESETS.items()
    for one in (
        Experiment(name=name, version=1, title=_TITLES[name], source=_NONE, presets=dict(presets), columns=columns),
        Experiment(
            name=f"{name}-tuning",
            version=1,
            title=f"{_TITLES[name]}: the rates that were tried, on held-out images",
            source=_NONE,
            presets={preset: Tuning(study) for preset, study in presets.items()},
        ),
    )
)

for _experiment in EXPERIMENTS:
    experiments.register(_experiment.name)(dataclasses.replace(_experiment, exhibits=EXHIBITS.get(_experiment.name)))
