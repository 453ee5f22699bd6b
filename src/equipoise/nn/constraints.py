"""Keeping constrained parameters in their sets while any torch optimiser trains them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.contracts import Constrained, Constraint, RateScaled
from equipoise.errors import InputError
from equipoise.functional.constraints import project

__all__ = ["constraints_of", "enforce", "param_groups", "project_"]


def _declared(model: nn.Module, contract: type, attribute: str) -> Iterator[tuple[str, Any]]:
    """(full parameter name, declared value) over every module of ``model`` that keeps ``contract``."""
    for prefix, module in model.named_modules():
        if isinstance(module, contract):
            for local, value in getattr(module, attribute).items():
                if not isinstance(getattr(module, local, None), Tensor):
                    where = f"{type(module).__name__} '{prefix}'"
                    raise InputError(f"{where}: {attribute} names '{local}', which is no parameter of it")
                yield (f"{prefix}.{local}" if prefix else local), value


def constraints_of(model: nn.Module) -> dict[str, Constraint]:
    """Every constraint in ``model``, by full parameter name."""
    return dict(_declared(model, Constrained, "constraints"))


def project_(model: nn.Module) -> nn.Module:
    """Move each constrained parameter of ``model`` to the nearest point of its set, in place."""
    _project(model, constraints_of(model))
    return model


@torch.no_grad()
def _project(model: nn.Module, constraints: Mapping[str, Constraint]) -> None:
    held = {name: model.get_parameter(name) for name in constraints}
    for name, value in project(held, constraints).items():
        held[name].copy_(value)


def enforce(optimizer: torch.optim.Optimizer, model: nn.Module) -> torch.utils.hooks.RemovableHandle:
    """Project ``model`` after every step of ``optimizer``, whichever it is; ``handle.remove()`` ends it.

    The constraints are looked up here, once: the search through the model costs more than the projection.
    """
    constraints = constraints_of(model)

    def after_step(*_: Any) -> None:
        _project(model, constraints)

    return optimizer.register_step_post_hook(after_step)


def param_groups(model: nn.Module, lr: float) -> list[dict[str, Any]]:
    """Optimiser groups of the trainable parameters, each with the learning rate that its circuit asks for.

    A module's ``rate_factors`` multiply ``lr`` (DANN's corrections, the 1/d of E-I Prop); every other parameter
    learns at ``lr``. One group per distinct rate, the plain one first.
    """
    factors = dict(_declared(model, RateScaled, "rate_factors"))
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault(float(factors.get(name, 1.0)), []).append(parameter)
    ordered = sorted(groups, key=lambda factor: (factor != 1.0, factor))
    return [{"params": groups[factor], "lr": lr * factor} for factor in ordered]
