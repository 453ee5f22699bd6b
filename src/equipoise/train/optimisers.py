"""Torch's optimisers and learning-rate schedulers by name, with their options checked by signature."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch.optim import lr_scheduler

from equipoise.errors import InputError, unknown_name
from equipoise.train import checks

__all__ = [
    "build_optimizer",
    "build_scheduler",
    "check_optimizer",
    "check_scheduler",
    "optimizer_names",
    "scheduler_names",
    "step_scheduler",
]

# Left out: those that re-evaluate the loss, need sparse gradients, or take functions or other schedulers.
_UNFIT_OPTIMIZERS = {"Optimizer", "LBFGS", "SparseAdam"}
_UNFIT_SCHEDULERS = {
    "LRScheduler",
    "ChainedScheduler",
    "LambdaLR",
    "MultiplicativeLR",
    "ReduceLROnPlateau",
    "SequentialLR",
}
_SHORT = {"cosine": "cosineannealing", "cosinewarmrestarts": "cosineannealingwarmrestarts"}


def _optimizers() -> dict[str, type]:
    found = {name: part for name, part in vars(torch.optim).items() if isinstance(part, type)}
    return {
        name.lower(): part
        for name, part in found.items()
        if issubclass(part, torch.optim.Optimizer) and name not in _UNFIT_OPTIMIZERS
    }


def _schedulers() -> dict[str, type]:
    found = {
        name: part
        for name, part in vars(lr_scheduler).items()
        if isinstance(part, type) and issubclass(part, lr_scheduler.LRScheduler) and not name.startswith("_")
    }
    known = {name.lower().removesuffix("lr"): part for name, part in found.items() if name not in _UNFIT_SCHEDULERS}
    # "constant" alone means no schedule; torch's warm-up factor keeps its full name.
    known["constantlr"] = known.pop("constant")
    return known | {short: known[full] for short, full in _SHORT.items()}


def optimizer_names() -> list[str]:
    """The names that ``Run.optimizer`` accepts, in any capitals."""
    return sorted(_optimizers())


def scheduler_names() -> list[str]:
    """The names that ``Run.scheduler`` accepts, in any capitals and with or without a final "LR"."""
    return sorted(["constant", *_schedulers()])


def _optimizer_class(name: str) -> Any:
    known = _optimizers()
    if name.lower() not in known:
        raise unknown_name("optimizer", name, known)
    return known[name.lower()]


def _scheduler_class(name: str) -> Any:
    """The scheduler's class; None for a constant rate."""
    known = _schedulers()
    short = name.lower()
    if short == "constant":
        return None
    short = short if short in known else short.removesuffix("lr")
    if short not in known:
        raise unknown_name("scheduler", name, scheduler_names())
    return known[short]


def _options(cls: type, *taken: str) -> list[str]:
    return [name for name in inspect.signature(cls).parameters if name not in taken]


def check_optimizer(name: str, options: Mapping[str, Any]) -> None:
    """Refuse an unknown optimiser or an option that its constructor does not have."""
    cls = _optimizer_class(name)
    if "lr" in options:
        raise InputError("'lr' is among the optimizer's options; give it as the run's own field 'lr'")
    checks.known_keys(options, _options(cls, "params", "lr"), kind=f"option of the optimizer {cls.__name__}")


def check_scheduler(name: str, options: Mapping[str, Any]) -> None:
    """Refuse an unknown scheduler or an option that its constructor does not have."""
    cls = _scheduler_class(name)
    known = _options(cls, "optimizer", "last_epoch", "verbose") if cls is not None else []
    checks.known_keys(options, known, kind=f"option of the scheduler {name}")


def build_optimizer(name: str, groups: list[Any], *, lr: float, options: Mapping[str, Any]) -> torch.optim.Optimizer:
    """The optimiser ``name`` over ``groups``; a value that it refuses becomes an ``InputError``."""
    check_optimizer(name, options)
    cls = _optimizer_class(name)
    try:
        return cls(groups, lr=lr, **options)
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"the optimizer {cls.__name__} refuses its options: {_line(error)}") from None


def build_scheduler(
    name: str, optimizer: torch.optim.Optimizer, *, epochs: int, options: Mapping[str, Any]
) -> lr_scheduler.LRScheduler | None:
    """The scheduler ``name``, to be stepped once an epoch; None for a constant rate.

    A length that is left out (``T_max`` of cosine, ``total_iters``, ``total_steps``) is the run's ``epochs``.
    """
    check_scheduler(name, options)
    cls = _scheduler_class(name)
    if cls is None:
        return None
    lengths = {"T_max": epochs, "total_steps": epochs}
    if cls in (lr_scheduler.LinearLR, lr_scheduler.PolynomialLR):
        lengths["total_iters"] = epochs
    if "epochs" in options or "steps_per_epoch" in options:
        lengths.pop("total_steps")
    filled = {key: value for key, value in lengths.items() if key in _options(cls)} | dict(options)
    try:
        return cls(optimizer, **filled)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise InputError(f"the scheduler {cls.__name__} refuses its options: {_line(error)}") from None


def step_scheduler(scheduler: lr_scheduler.LRScheduler | None) -> None:
    """Move the schedule one epoch on.

    Torch warns when this process has not stepped the optimiser yet, which is right after a resume at an
    epoch's end; the steps were taken before it.
    """
    if scheduler is None:
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step", category=UserWarning)
        scheduler.step()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
