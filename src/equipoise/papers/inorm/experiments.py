"""Every figure of the I-Norm paper, and questions that its confounds raise, as experiments."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from equipoise.papers.inorm.conditions import ACCURACY, CONDITIONS, LAMBDAS, Scale, condition_of
from equipoise.papers.inorm.figures import EXHIBITS
from equipoise.papers.inorm.studies import COMPARED, Contrast, Convolutional, Paired, Rules, Stability
from equipoise.train import Experiment, experiments

__all__ = ["EXPERIMENTS"]

_PAPER = "Inhibitory normalization of error signals"
_NONE = "no paper: the I-Norm paper leaves it open"
_SMOKE = Scale(data="digits", draws=2, upper=True, ranges=(0.75,), epochs=1, train_limit=400)
_QUICK = Scale(draws=3, upper=True, ranges=(0.75,), epochs=2, train_limit=20_000)
_LONG = Scale()
_ONE = dataclasses.replace(_SMOKE, draws=1)
_ALL = (0.0, 0.25, 0.5, 0.75)


def _at_home(conditions: tuple[str, ...]) -> Callable[[Mapping[str, Any]], bool]:
    """Rows that trained one of the conditions in the experiment that it is at home in."""

    def shown(row: Mapping[str, Any]) -> bool:
        name = condition_of(row)
        return name in conditions and row.get("experiment") == CONDITIONS[name].home

    return shown


def _task(row: Mapping[str, Any]) -> bool:
    long = row.get("experiment") == ACCURACY and str(row.get("preset")).startswith("paper")
    return row.get("experiment") == "inorm/task" or (long and condition_of(row) in ("ln", "none"))


def _paired(name: str, title: str, source: str, *conditions: str, smoke: tuple[str, ...] = ()) -> Experiment:
    return Experiment(
        name=name,
        version=1,
        title=title,
        source=source,
        presets={
            "smoke": Paired(smoke or conditions, scale=_SMOKE),
            "quick": Paired(conditions, scale=_QUICK),
            "paper": Paired(conditions, scale=_LONG),
        },
        rows=_at_home(conditions),
    )


def _task_scale(scale: Scale) -> Paired:
    return Paired(("none", "ln"), "inorm/task", dataclasses.replace(scale, draws=1, ranges=_ALL))


EXPERIMENTS = (
    _paired(
        ACCURACY,
        "Does inhibition replace layer normalisation, and is it the error that must be normalised?",
        f"{_PAPER}, Figures 2a, 4a and 5c",
        *COMPARED,
    ),
    _paired(
        "inorm/layernorm",
        "What layer normalisation does for E-I networks, and what inhibition adds to it",
        f"{_PAPER}, Figures 2a and 2b",
        *("ln", "none", "e-ln"),
    ),
    Experiment(
        name="inorm/task",
        version=1,
        title="The task: clothes in changing light",
        source=f"{_PAPER}, Figure 1b",
        presets={
            "smoke": _task_scale(_SMOKE),
            "quick": _task_scale(_QUICK),
            "paper": Paired(("none", "ln"), scale=_LONG),
        },
        rows=_task,
    ),
    _paired(
        "inorm/moments",
        "Does inhibition learn to normalise?",
        f"{_PAPER}, Figure 3b (ours are of pre-activations, as its program's loss is)",
        *("none", "subtractive", "inorm"),
    ),
    _paired(
        "inorm/alignment",
        "How near activity and gradients are to those of layer normalisation",
        f"{_PAPER}, Figures 4b, 5b and 6b (as its program measures them), and the task's own gradient",
        *("inorm", "full", "center", "decorrelate", "scale"),
    ),
    _paired(
        "inorm/components",
        "Which part of layer normalisation's backward pass is it?",
        f"{_PAPER}, Figure 6a",
        *("ln", "inorm", "scale", "decorrelate", "center", "full"),
    ),
    _paired(
        "inorm/lateral",
        "Lateral inhibition with fixed weights in place of centring",
        f"{_PAPER}, Figure 7b and Theorem 1",
        *("ln", "full", "center", "lateral", "lateral-10", "lateral-exponential"),
    ),
    _paired(
        "inorm/lambda",
        "How strong the local loss has to be",
        f"{_PAPER}, section 4.4 (it names the values and shows no result)",
        *("inorm", "center"),
        *(f"{kind}lambda={one:g}" for kind in ("", "center-") for one in LAMBDAS),
        smoke=("inorm", "center", "lambda=1e-05", "center-lambda=1"),
    ),
    _paired(
        "inorm/confounds",
        "What the division, detached statistics, the place of the bias and each direction of LN do by themselves",
        _NONE,
        *("ln", "inorm", "scale", "center"),
        *("straight", "straight-scale", "straight-decorrelate", "straight-center"),
        *("detachnorm", "forward", "backward", "through-subtractive", "through", "trained-ei", "after", "after-center"),
    ),
    _paired(
        "inorm/dale",
        "A divisive pool that keeps Dale's law, and narrower ones",
        _NONE,
        *("ln", "center", "signed-0.3", "signed-0.1", "dale-1", "dale-0.3", "dale-0.1"),
    ),
    _paired(
        "inorm/init",
        "Exponential and log-normal weights, the loss as printed, equation 1 as printed (whose radicands are negative)",
        f"{_PAPER}, equation 1 and section 4.3",
        *("ln", "inorm", "center", "exponential", "exponential-center", "post", "literal"),
        smoke=("ln", "inorm", "center", "exponential", "exponential-center", "post"),
    ),
    Experiment(
        name="inorm/stability",
        version=1,
        title="Which learning rates each network bears",
        source=_NONE,
        presets={
            "smoke": Stability(rates=(0.01, 0.1), scale=_ONE),
            "quick": Stability(rates=(0.01, 0.03, 0.1), scale=_QUICK),
            "paper": Stability(scale=dataclasses.replace(_LONG, ranges=(0.0, 0.75))),
        },
    ),
    Experiment(
        name="inorm/contrast",
        version=1,
        title="Changing contrast in place of changing brightness",
        source=_NONE,
        presets={
            "smoke": Contrast(contrasts=(1.0,), scale=_ONE),
            "quick": Contrast(contrasts=(1.0,), scale=_QUICK),
            "paper": Contrast(scale=_LONG),
        },
    ),
    Experiment(
        name="inorm/rules",
        version=1,
        title="Centring the errors that feedback alignment delivers, and the differences that teach in PEPITA",
        source=_NONE,
        presets={
            "smoke": Rules(scale=_ONE),
            "quick": Rules(scale=_QUICK),
            "paper": Rules(scale=dataclasses.replace(_LONG, ranges=(0.0, 0.75))),
        },
    ),
    Experiment(
        name="inorm/conv",
        version=1,
        title="Convolutions normalised over channels",
        source=_NONE,
        presets={
            "smoke": Convolutional(sizes="1x8x8-6-10", scale=_ONE),
            "quick": Convolutional(sizes="3x32x32-16-32-10", scale=dataclasses.replace(_QUICK, data="cifar10")),
            "paper": Convolutional(scale=dataclasses.replace(_LONG, data="cifar10", ranges=(0.0, 0.5))),
        },
    ),
)

for _experiment in EXPERIMENTS:
    experiments.register(_experiment.name)(dataclasses.replace(_experiment, exhibits=EXHIBITS[_experiment.name]))
