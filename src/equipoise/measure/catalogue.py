"""The measures by name: what a run, or ``watch``, can follow while a rule trains a network.

A measure is a function of (rule, x, y, generator) that returns numbers by name and changes nothing. A new one joins
with ``measures.register("name")(Measure("name", function, "epoch", "what it tells"))``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast

import torch
from torch import Tensor, nn

from equipoise.errors import InputError
from equipoise.measure.activity import activity
from equipoise.measure.alignment import Comparable, alignment, angle, layer_names
from equipoise.measure.cost import upkept_cost
from equipoise.measure.weights import weight_statistics
from equipoise.registry import Registry

__all__ = ["Measurable", "Measure", "Product", "measures", "product"]

Function = Callable[[Any, Tensor, Tensor, torch.Generator | None], dict[str, float]]


class Measurable(Comparable, Protocol):
    """What measures need of a rule."""

    def feedback(self) -> dict[str, Tensor]: ...
    def look(self, x: Tensor) -> Any: ...


@dataclass(frozen=True)
class Measure:
    """A named measure: ``function(rule, x, y, generator)`` gives numbers by key, for the batch (x, y).

    when: "epoch" for what is cheap enough to follow, "end" for what is measured once, after the last epoch. The
    generator draws dropout masks where the measure needs any. Raises ``InputError`` for another ``when``.
    """

    name: str
    function: Function
    when: Literal["epoch", "end"] = "epoch"
    about: str = ""

    def __post_init__(self) -> None:
        if self.when not in ("epoch", "end"):
            raise InputError(f"the measure '{self.name}' has when={self.when!r}; it is 'epoch' or 'end'")

    def __call__(
        self, rule: Measurable, x: Tensor, y: Tensor, generator: torch.Generator | None = None
    ) -> dict[str, float]:
        return self.function(rule, x, y, generator)


@dataclass(frozen=True)
class Product:
    """The forward weights multiplied up, against the feedback F: an angle in degrees, and the trace tr(F P)."""

    angle: float
    trace: float


measures: Registry[Measure] = Registry("measure")


def layer_weights(rule: Measurable, x: Tensor | None = None) -> dict[str, Tensor]:
    """The rule's weights (two or more dimensions) by layer, in the order of the forward pass.

    A rule that has not seen its model yet looks at ``x``; raises ``InputError`` without one.
    """
    if rule.survey is None:
        if x is None:
            raise InputError("this rule has not seen its model run yet; pass example=x to rules.make")
        rule.look(x)
    params, seen = dict(rule.model.named_parameters()), cast(Any, rule.survey).weights
    return {layer: params[name] for name, layer in layer_names(seen).items()}


def product(rule: Measurable) -> Product:
    """How the product of the forward weights lies to the feedback: an angle, and a trace.

    P = W_L ... W_k, (C, n), from the layer k at whose input the feedback F (n, C) enters; for PEPITA that is the
    first. angle = acos(<P^T, F> / (|P| |F|)) in degrees, NaN where either is zero; trace = tr(F P) = <P^T, F>.
    In float64. DellaFerrera and Kreiman 2022, sections 4.1 and 4.3, appendix E.

    Raises ``InputError`` unless the rule has one feedback matrix, at the input of a layer, and every layer from
    there on is an ``nn.Linear``.
    """
    weights = {layer: w.detach().double() for layer, w in layer_weights(rule).items()}
    feedback = rule.feedback()
    if len(feedback) != 1:
        raise InputError(f"the product is compared with one feedback matrix; this rule has {len(feedback)}")
    ((entrance, f),) = feedback.items()
    layers = list(weights)
    if entrance not in layers:
        raise InputError(f"the feedback '{entrance}' does not enter at the input of a layer: {', '.join(layers)}")
    path = layers[layers.index(entrance) :]
    modules = dict(rule.model.named_modules())
    wrong = [layer for layer in path if not isinstance(modules.get(layer), nn.Linear)]
    if wrong:
        raise InputError(f"weights multiply up through linear layers only; '{wrong[0]}' is none")
    total = weights[path[-1]]
    for layer in reversed(path[:-1]):
        if total.shape[1] != weights[layer].shape[0]:
            raise InputError(f"the layers are no chain: '{layer}' gives {len(weights[layer])}, not {total.shape[1]}")
        total = total @ weights[layer]
    if total.T.shape != f.shape:
        raise InputError(f"the weights multiply up to {tuple(total.T.shape)}; the feedback is {tuple(f.shape)}")
    return Product(angle(total.T, f), float((total.T * f.detach().double()).sum()))


def _angles(rule: Measurable, x: Tensor, y: Tensor, generator: torch.Generator | None) -> dict[str, float]:
    found = alignment(rule, x, y, generator=generator)
    return {"angle": found.hidden} | {f"angle/{layer}": degrees for layer, degrees in found.items()}


def _product(rule: Measurable, x: Tensor, y: Tensor, generator: torch.Generator | None) -> dict[str, float]:
    layer_weights(rule, x)
    try:
        found = product(rule)
    except InputError:
        return {}
    return {"product_angle": found.angle, "product_trace": found.trace}


def _norms(rule: Measurable, x: Tensor, y: Tensor, generator: torch.Generator | None) -> dict[str, float]:
    return {f"norm/{layer}": float(w.detach().double().norm()) for layer, w in layer_weights(rule, x).items()}


def _activity(rule: Measurable, x: Tensor, y: Tensor, generator: torch.Generator | None) -> dict[str, float]:
    return activity(rule.model, x, layer_weights(rule, x))


def _weights(rule: Measurable, x: Tensor, y: Tensor, generator: torch.Generator | None) -> dict[str, float]:
    return {
        f"weights/{layer}/{name}": value
        for layer, w in layer_weights(rule, x).items()
        for name, value in weight_statistics(w).items()
    }


def _cost(rule: Measurable, x: Tensor, y: Tensor, generator: torch.Generator | None) -> dict[str, float]:
    return {"step_cost": upkept_cost(rule, x, y)}


_DEGREES = "degrees between what the rule writes and backpropagation, per layer and over the hidden ones"
_AGAINST = "degrees and trace between the product of the forward weights and the feedback; none without one such matrix"
for _measure in (
    Measure("angles", _angles, "epoch", _DEGREES),
    Measure("product", _product, "epoch", _AGAINST),
    Measure("norms", _norms, "epoch", "Frobenius norm of each layer's weight"),
    Measure("activity", _activity, "epoch", "share of positive activities, and of silent units, per layer"),
    Measure("weights", _weights, "end", "moments of each layer's weights, and how well four laws fit them"),
    Measure("step_cost", _cost, "end", "time of a step's gradients and upkeep, over backpropagation's in this process"),
):
    measures.register(_measure.name)(_measure)
