"""Models by a short text: ``mlp:784-300-10``, ``conv:3x32x32-10``, ``residual:3x32x32-10``, or your own function."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

from equipoise.errors import InputError
from equipoise.randomness import derive
from equipoise.registry import Registry
from equipoise.user_code import call

__all__ = ["describe", "make", "names", "register", "registry"]

Maker = TypeVar("Maker", bound=Callable[[str], nn.Module])
registry: Registry[Callable[[str], nn.Module]] = Registry("model")


def register(name: str) -> Callable[[Maker], Maker]:
    """Enter a function from the text after the colon to an ``nn.Module`` under ``name``."""

    def enter(make: Maker) -> Maker:
        registry.register(name)(make)
        return make

    return enter


def names() -> list[str]:
    """The built-in models."""
    return list(registry)


def describe(name: str) -> str:
    """One line about the model ``name``."""
    return (registry[name].__doc__ or "").strip().splitlines()[0]


def _own(spec: str) -> nn.Module:
    """The model that the function ``package.module:function`` returns."""
    model = call(spec)
    if not isinstance(model, nn.Module):
        raise InputError(f"model '{spec}' returned {type(model).__name__}, not a torch.nn.Module")
    return model


def make(spec: str, *, seed: int = 0) -> nn.Module:
    """The model that ``spec`` describes, initialised from ``seed`` alone (torch's global state is left as it was).

    spec: a built-in name and its sizes, or ``package.module:function`` for a function of no arguments that returns
    a model. Raises ``InputError`` for an unknown name, sizes that do not fit, or an import that fails.
    """
    name, _, sizes = spec.partition(":")
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(derive(seed, "model"))
        if name not in registry and sizes.isidentifier():
            return _own(spec)
        return registry[name](sizes)
