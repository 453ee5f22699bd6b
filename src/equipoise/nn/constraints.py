"""Keeping constrained parameters in their sets while any torch optimiser trains them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.contracts import Constrained, Constraint, RateScaled
from equipoise.errors import InputError
from equipoise.functional.constraints import NonNegative

__all__ = ["constraints_of", "enforce", "param_groups", "project_"]


def _declared(model: nn.Module, contract: type, attribute: str) -> Iterator[tuple[str, nn.Module, str, Any]]:
    """(full parameter name, module, local name, declared value) over every module that keeps ``contract``."""
    for prefix, module in model.named_modules():
        if isinstance(module, contract):
            for local, value in getattr(module, attribute).items():
                if not isinstance(getattr(module, local, None), Tensor):
                    where = f"{type(module).__name__} '{prefix}'"
                    raise InputError(f"{where}: {attribute} names '{local}', which is no parameter of it")
                yield (f"{prefix}.{local}" if prefix else local), module, local, value


def _by_name(model: nn.Module, contract: type, attribute: str) -> dict[str, Any]:
    return {name: value for name, _, _, value in _declared(model, contract, attribute)}


def constraints_of(model: nn.Module) -> dict[str, Constraint]:
    """Every constraint in ``model``, by full parameter name."""
    return _by_name(model, Constrained, "constraints")


def project_(model: nn.Module) -> nn.Module:
    """Move each constrained parameter of ``model`` to the nearest point of its set, in place."""
    _project(list(_declared(model, Constrained, "constraints")))
    return model


@torch.no_grad()
def _project(held: Sequence[tuple[str, nn.Module, str, Constraint]]) -> None:
    positive = [getattr(module, local) for _, module, local, kind in held if type(kind) is NonNegative]
    if positive:
        torch._foreach_clamp_min_(positive, 0)  # type: ignore[arg-type]
    for _, module, local, kind in held:
        if type(kind) is not NonNegative:
            value = getattr(module, local)
            value.copy_(kind.project(value))


def enforce(optimizer: torch.optim.Optimizer, model: nn.Module) -> torch.utils.hooks.RemovableHandle:
    """Project ``model`` after every step of ``optimizer``, whichever it is; ``handle.remove()`` ends it.

    The constraints are looked up here, once: the search through the model costs more than the projection. Logs a
    warning where a group of the optimiser mixes parameters whose ``rate_factors`` differ: it was not made by
    ``param_groups``, and some of them will learn too fast.
    """
    _warn_of_rates(optimizer, model)
    held = list(_declared(model, Constrained, "constraints"))

    def after_step(*_: Any) -> None:
        _project(held)

    return optimizer.register_step_post_hook(after_step)


def _warn_of_rates(optimizer: torch.optim.Optimizer, model: nn.Module) -> None:
    factors = _by_name(model, RateScaled, "rate_factors")
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    mixed: dict[str, float] = {}
    for group in optimizer.param_groups:
        asked = {name: factors.get(name, 1.0) for name in map(names.get, map(id, group["params"])) if name}
        if len(set(asked.values())) > 1:
            mixed |= {name: factor for name, factor in asked.items() if factor != 1}
    if mixed:
        name, factor = next(iter(mixed.items()))
        logging.getLogger("equipoise").warning(
            "%d parameters share the learning rate of others and ask for one of their own, '%s' for %.3g times the "
            "rate; build the optimiser from nn.param_groups(model, lr)",
            *(len(mixed), name, factor),
        )


def param_groups(model: nn.Module, lr: float, rates: Mapping[str, float] | None = None) -> list[dict[str, Any]]:
    """Optimiser groups of the trainable parameters, each with the learning rate that its circuit asks for.

    A module's ``rate_factors`` multiply ``lr`` (DANN's corrections, the 1/d of E-I Prop); every other parameter
    learns at ``lr``. ``rates`` gives other rates by pattern of the full name, ``{"*_ie": 0.6}``; the first that fits
    counts, and factors multiply it too. One group per distinct rate, the plain one first. Raises ``InputError`` for a
    pattern that no trainable parameter fits.
    """
    factors = _by_name(model, RateScaled, "rate_factors")
    rates = rates or {}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    fits: set[str] = set()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            found = [pattern for pattern in rates if fnmatchcase(name, pattern)]
            fits.update(found)
            rate = rates[found[0]] if found else lr
            groups.setdefault((float(rate), float(factors.get(name, 1.0))), []).append(parameter)
    for pattern in rates:
        if pattern not in fits:
            names = ", ".join(
                sorted({name.rpartition(".")[2] for name, p in model.named_parameters() if p.requires_grad})
            )
            raise InputError(f"no trainable parameter fits '{pattern}'; their last names are {names}")
    ordered = sorted(groups, key=lambda key: (key != (lr, 1.0), key[1] != 1.0, key[1], key[0]))
    return [{"params": groups[key], "lr": key[0] * key[1]} for key in ordered]
