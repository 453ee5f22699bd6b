"""Torch's optimisers by name, with their options checked by signature."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch

from equipoise.errors import InputError, unknown_name
from equipoise.train import checks

__all__ = ["build_optimizer", "check_optimizer", "in_one_line", "optimizer_names", "options_of"]

# Left out: those that re-evaluate the loss or need sparse gradients.
_UNFIT_OPTIMIZERS = {"Optimizer", "LBFGS", "SparseAdam"}


def _optimizers() -> dict[str, type]:
    found = {name: part for name, part in vars(torch.optim).items() if isinstance(part, type)}
    return {
        name.lower(): part
        for name, part in found.items()
        if issubclass(part, torch.optim.Optimizer) and name not in _UNFIT_OPTIMIZERS
    }


def optimizer_names() -> list[str]:
    """The names that ``Run.optimizer`` accepts, in any capitals."""
    return sorted(_optimizers())


def _optimizer_class(name: str) -> Any:
    known = _optimizers()
    if name.lower() not in known:
        raise unknown_name("optimizer", name, known)
    return known[name.lower()]


def options_of(cls: type, *taken: str) -> list[str]:
    """The names of a constructor's arguments, but for those ``taken``."""
    return [name for name in inspect.signature(cls).parameters if name not in taken]


def check_optimizer(name: str, options: Mapping[str, Any]) -> None:
    """Refuse an unknown optimiser or an option that its constructor does not have."""
    cls = _optimizer_class(name)
    if "lr" in options:
        raise InputError("'lr' is among the optimizer's options; give it as the run's own field 'lr'")
    checks.known_keys(options, options_of(cls, "params", "lr"), kind=f"option of the optimizer {cls.__name__}")


def build_optimizer(name: str, groups: list[Any], *, lr: float, options: Mapping[str, Any]) -> torch.optim.Optimizer:
    """The optimiser ``name`` over ``groups``; a value that it refuses becomes an ``InputError``."""
    check_optimizer(name, options)
    cls = _optimizer_class(name)
    try:
        return cls(groups, lr=lr, **options)
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"the optimizer {cls.__name__} refuses its options: {in_one_line(error)}") from None


def in_one_line(error: Exception) -> str:
    """What an error says, without line breaks."""
    return " ".join(str(error).split())
