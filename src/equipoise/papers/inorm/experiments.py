"""Every figure of the I-Norm paper, and questions that its confounds raise, as experiments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from equipoise.papers.inorm.conditions import ACCURACY, CONDITIONS, Scale, condition_of
from equipoise.papers.inorm.studies import Paired
from equipoise.train import Experiment, experiments

__all__ = ["EXPERIMENTS"]

_PAPER = "Inhibitory normalization of error signals (I-Norm)"
_SMOKE = Scale(data="digits", draws=2, upper=True, ranges=(0.75,), epochs=2, train_limit=600)
_QUICK = Scale(draws=3, upper=True, ranges=(0.75,), epochs=2, train_limit=20_000)
_LONG = Scale()


def _presets(conditions: tuple[str, ...], *, smoke: tuple[str, ...] | None = None) -> dict[str, Any]:
    return {
        "smoke": Paired(smoke or conditions, _SMOKE),
        "quick": Paired(conditions, _QUICK),
        "paper": Paired(conditions, _LONG),
    }


def _shows(conditions: tuple[str, ...]) -> Callable[[Mapping[str, Any]], bool]:
    """Rows that trained one of the conditions in the experiment that it is at home in."""

    def shown(row: Mapping[str, Any]) -> bool:
        name = condition_of(row)
        return name in conditions and row.get("experiment") == CONDITIONS[name].home

    return shown


def _paired(name: str, title: str, source: str, *conditions: str) -> Experiment:
    return Experiment(
        name=name, version=1, title=title, source=source, presets=_presets(conditions), rows=_shows(conditions)
    )


EXPERIMENTS = (
    _paired(
        ACCURACY,
        "Does inhibition replace layer normalisation?",
        f"{_PAPER}, Figures 4a and 5c",
        *("ln", "none", "inorm", "center", "lateral", "full"),
    ),
)

for _experiment in EXPERIMENTS:
    experiments.register(_experiment.name)(_experiment)
