"""Backpropagation by hand along a chain of circuits, each of which runs and differentiates itself.

The same numbers as by autograd, without its graph: in networks of small layers the graph of a circuit's thirty
operations costs more than its matrix products.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from equipoise.contracts import Handwritten, Passed
from equipoise.functional.losses import Loss
from equipoise.rules.base import Write
from equipoise.rules.descent import DERIVATIVES, errs
from equipoise.rules.links import Part, apply, leaves
from equipoise.rules.slots import Slots

__all__ = ["Stage", "backpropagate", "read_stages"]

_KNOWN = (nn.Linear, nn.Flatten, *DERIVATIVES)


@dataclass(frozen=True, eq=False)
class Stage:
    """A part of the chain, its name in the model, its parameters' names there by their local ones, and how it runs."""

    name: str
    module: nn.Module
    parameters: dict[str, str]
    run: Callable[[Tensor], Passed | None]


def read_stages(model: nn.Module, slots: Slots) -> tuple[Stage, ...]:
    """The stages of an ``nn.Sequential`` of circuits, ``nn.Linear`` and activations; none for any other model.

    Without a circuit autograd has little to do beside the products, and keeps it.
    """
    if type(model) is not nn.Sequential:
        return ()
    names = {(id(module), attribute): name for module, _, attribute, name in slots.places}
    stages = tuple(
        Stage(name, module, {local: names.get((id(module), local), "") for local in module._parameters}, _way(module))
        for name, module in leaves(model)
    )
    circuits = [stage.module for stage in stages if isinstance(stage.module, Handwritten)]
    known = all(isinstance(s.module, Handwritten) or type(s.module) in _KNOWN for s in stages)
    once = len({id(stage.module) for stage in stages}) == len(stages)
    heard = all(isinstance(listener.inner, Handwritten) for listener in slots.listeners)
    slopes = all(getattr(stage.module, "negative_slope", 1) > 0 for stage in stages)
    return stages if circuits and known and once and heard and slopes else ()


def _linear(layer: nn.Linear, x: Tensor) -> Passed | None:
    if x.ndim != 2:
        return None
    below, bias = x.t(), layer.bias
    y = layer.weight @ below if bias is None else torch.addmm(bias[:, None], layer.weight, below)

    def back(error: Tensor, weight: float, further: bool) -> tuple[dict[str, Tensor], Tensor | None]:
        g = error.t()
        grads = {"weight": g @ x} if bias is None else {"weight": g @ x, "bias": g.sum(1)}
        return grads, (layer.weight.t() @ g).t() if further else None

    return y.t(), None, back


def _activation(part: nn.Module, x: Tensor) -> Passed:
    y = apply(Part("", part), x, {})
    derivative = DERIVATIVES[type(part)]
    return y, None, lambda error, weight, further: ({}, derivative(error, y, part) if further else None)


def _flatten(part: nn.Flatten, x: Tensor) -> Passed:
    return part(x), None, lambda error, weight, further: ({}, error.reshape(x.shape))


def _way(part: nn.Module) -> Callable[[Tensor], Passed | None]:
    if isinstance(part, Handwritten):
        return part.by_hand
    if isinstance(part, nn.Flatten):
        return partial(_flatten, part)
    return partial(_linear, part) if isinstance(part, nn.Linear) else partial(_activation, part)


def backpropagate(
    stages: tuple[Stage, ...], x: Tensor, y: Tensor, loss: Loss, weight: float, write: Write
) -> tuple[Tensor, Tensor, dict[str, Tensor]] | None:
    """Run the chain, write every gradient, and return (loss, output, local losses); None where a stage declines.

    ``weight`` multiplies the local losses in the gradients.
    """
    backs = []
    local: dict[str, Tensor] = {}
    for stage in stages:
        passed = stage.run(x)
        if passed is None:
            return None
        x, own, back = passed
        backs.append(back)
        if own is not None:
            local[stage.name] = own
    value, error = errs(loss, x, y, pure=False)
    g: Tensor | None = error
    first = next(k for k, stage in enumerate(stages) if stage.parameters)
    for k in reversed(range(first, len(stages))):
        assert g is not None
        grads, g = backs[k](g, weight, k > first)
        for attribute, gradient in grads.items():
            write(stages[k].parameters[attribute], gradient)
    return value, x, local
