"""Schedules of the learning rate by name: torch's, stepped once an epoch, and a warm-up with cosine, every step."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch.optim import lr_scheduler

from equipoise.errors import InputError, unknown_name
from equipoise.train import checks
from equipoise.train.optimisers import in_one_line, options_of

__all__ = ["WarmupCosine", "build_scheduler", "check_scheduler", "scheduler_names", "step_scheduler"]

# Left out: those that take functions, other schedulers or a metric.
_UNFIT_SCHEDULERS = {
    "LRScheduler",
    "ChainedScheduler",
    "LambdaLR",
    "MultiplicativeLR",
    "ReduceLROnPlateau",
    "SequentialLR",
}
_SHORT = {"cosine": "cosineannealing", "cosinewarmrestarts": "cosineannealingwarmrestarts"}


class WarmupCosine(lr_scheduler.LRScheduler):
    """A linear warm-up, then half a cosine down to zero, moved on every step.

        rate(s) = lr (start + (1 - start) s / W)            for s < W = warmup * per_epoch
        rate(s) = lr (1 + cos(pi (s - W) / (N - W))) / 2    for W <= s < N = epochs * per_epoch

    s: steps done, from 0. warmup: epochs, a fraction too; start: the first step's rate as a share of lr.
    Raises ``ValueError`` for a warm-up that leaves nothing of the run, or a start outside [0, 1].
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        epochs: int,
        per_epoch: int,
        warmup: float = 0.0,
        start: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        if not 0 <= warmup < epochs:
            raise ValueError(f"warmup={warmup} of {epochs} epochs; give 0 or more, and fewer than the run has")
        if not 0 <= start <= 1:
            raise ValueError(f"start={start}; give a share of lr in [0, 1]")
        self.warm, self.start, self.total = round(warmup * per_epoch), start, epochs * per_epoch
        super().__init__(optimizer, last_epoch)

    def factor(self, step: int) -> float:
        """The rate of step ``step`` (from 0) as a share of lr."""
        if step < self.warm:
            return self.start + (1 - self.start) * step / self.warm
        return (1 + math.cos(math.pi * min(1.0, (step - self.warm) / (self.total - self.warm)))) / 2

    def get_lr(self) -> list[Any]:  # type: ignore[override]
        """Each group's rate now."""
        return [base * self.factor(self.last_epoch) for base in self.base_lrs]


def _schedulers() -> dict[str, type]:
    found = {
        name: part
        for name, part in vars(lr_scheduler).items()
        if isinstance(part, type) and issubclass(part, lr_scheduler.LRScheduler) and not name.startswith("_")
    }
    known = {name.lower().removesuffix("lr"): part for name, part in found.items() if name not in _UNFIT_SCHEDULERS}
    # "constant" alone means no schedule; torch's warm-up factor keeps its full name.
    known["constantlr"] = known.pop("constant")
    return known | {short: known[full] for short, full in _SHORT.items()} | {"warmup_cosine": WarmupCosine}


def scheduler_names() -> list[str]:
    """The names that ``Run.scheduler`` accepts, in any capitals and with or without a final "LR"."""
    return sorted(["constant", *_schedulers()])


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


def check_scheduler(name: str, options: Mapping[str, Any]) -> None:
    """Refuse an unknown scheduler or an option that its constructor does not have."""
    cls = _scheduler_class(name)
    taken = ("optimizer", "last_epoch", "verbose", *(("epochs", "per_epoch") if cls is WarmupCosine else ()))
    known = options_of(cls, *taken) if cls is not None else []
    checks.known_keys(options, known, kind=f"option of the scheduler {name}")


def build_scheduler(
    name: str, optimizer: torch.optim.Optimizer, *, epochs: int, per_epoch: int = 1, options: Mapping[str, Any]
) -> lr_scheduler.LRScheduler | None:
    """The scheduler ``name`` for epochs of ``per_epoch`` steps; None for a constant rate.

    A length that is left out (``T_max`` of cosine, ``total_iters``, ``total_steps``) is the run's ``epochs``.
    """
    check_scheduler(name, options)
    cls = _scheduler_class(name)
    if cls is None:
        return None
    lengths = {"T_max": epochs, "total_steps": epochs}
    if cls is WarmupCosine:
        lengths = {"epochs": epochs, "per_epoch": per_epoch}
    if cls in (lr_scheduler.LinearLR, lr_scheduler.PolynomialLR):
        lengths["total_iters"] = epochs
    if "epochs" in options or "steps_per_epoch" in options:
        lengths.pop("total_steps")
    filled = {key: value for key, value in lengths.items() if key in options_of(cls)} | dict(options)
    try:
        return cls(optimizer, **filled)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise InputError(f"the scheduler {cls.__name__} refuses its options: {in_one_line(error)}") from None


def step_scheduler(scheduler: lr_scheduler.LRScheduler | None, *, epoch: bool) -> None:
    """Move the schedule on, at the end of an ``epoch`` or of a step, if that is what it counts.

    Torch warns when this process has not stepped the optimiser yet, which is right after a resume at an
    epoch's end; the steps were taken before it.
    """
    if scheduler is None or isinstance(scheduler, WarmupCosine) == epoch:
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step", category=UserWarning)
        scheduler.step()
