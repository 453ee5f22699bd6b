"""One unit at a time: scale it, balance it, or only its best scale.

S_lam(i): the weights into unit i, its bias among them, are multiplied by lam, those out of it divided by lam^c, c the
unit's degree (1 for ReLU and its kin). The network's function stays.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from equipoise.balance.apply import apply_scales
from equipoise.balance.costs import Cost, CostRule, Lp, check_rule
from equipoise.balance.flat import FlatSums
from equipoise.balance.scalar import best_step
from equipoise.balance.solve import prepare, traced
from equipoise.errors import InputError, unknown_name

if TYPE_CHECKING:
    from equipoise.balance.graph import ScalingGraph

__all__ = ["balance_unit_", "optimal_scale", "scale_unit_"]


def optimal_scale(incoming: Tensor, outgoing: Tensor, cost: Cost | None = None, *, degree: float = 1.0) -> Tensor:
    """The scale of each unit that costs least: argmin over lam > 0 of sum_IN g(lam w) + sum_OUT g(w / lam^c).

    For g = |w|^p and A, B the costs of IN and OUT: lam = (c B / A)^(1 / (p (c + 1))), the paper's E.6; (B / A)^(1 / 2p)
    for c = 1. For a mixture the root of an increasing function, by safeguarded Newton steps, for all units at once.

    incoming (..., I) and outgoing (..., O): the weights into and out of each unit; those from a unit to itself belong
    to neither. Returns (...), float64; 1 where either side costs nothing, because no scale is the best there.

    Raises: InputError for weights that are not finite and for c <= 0, which has no least cost.
    """
    cost = Lp() if cost is None else cost
    check_rule(cost)
    if not (math.isfinite(degree) and degree > 0):
        raise InputError(f"the degree of a unit must be finite and above 0, got {degree!r}; no scale is best otherwise")
    sides = []
    for name, w in (("incoming", incoming), ("outgoing", outgoing)):
        if not w.is_floating_point() or not bool(torch.isfinite(w).all()):
            raise InputError(f"the {name} weights must be finite floating-point numbers ({w.dtype})")
        size = w.detach().abs().to(torch.float64)
        sides.append([a * size.pow(p).sum(-1) for a, p in cost.terms])
    shape = torch.broadcast_shapes(sides[0][0].shape, sides[1][0].shape)
    sums = torch.stack([s.expand(shape).reshape(-1) for side in sides for s in side], 1)
    powers = [p for _, p in cost.terms]
    exponents = torch.tensor([*powers, *(-degree * p for p in powers)], dtype=torch.float64, device=sums.device)
    return best_step(sums, exponents).exp().reshape(shape)


def scale_unit_(model: nn.Module | ScalingGraph, layer: str, unit: int, scale: float, *, example: Any = None) -> None:
    """Multiply what enters one unit by ``scale`` > 0 and divide what leaves it, in place; the function stays.

    layer, unit: the layer's name in the graph and the unit's number in it. Units whose scale is tied to it (a residual
    stream) move along.

    Raises: InputError where the scale is not above 0, or the unit cannot be scaled.
    """
    if not (isinstance(scale, int | float) and math.isfinite(scale) and scale > 0):
        raise InputError(f"a scale must be a finite number above 0, got {scale!r}")
    ready = prepare(traced(model, example), Lp())
    k = _free_scale(ready, layer, unit)
    z = ready.problem.zero()
    z[k] = math.log(scale)
    apply_scales(ready.weights, ready.layouts, ready.problem.classes.spread(z), None, ready.sizes)


def balance_unit_(
    model: nn.Module | ScalingGraph,
    layer: str,
    unit: int,
    cost: CostRule | None = None,
    *,
    strength: float = 1.0,
    example: Any = None,
) -> float:
    """Give one unit its best scale with all others as they are, in place; returns the scale.

    ``strength`` theta < 1 takes lam^theta, a favourable partial scaling: the cost falls too, by less.

    Raises: InputError where the unit cannot be scaled, or has no best scale because one of its sides costs nothing.
    """
    if not 0 < strength <= 1:
        raise InputError(f"the strength of a favourable partial scaling lies in (0, 1], got {strength!r}")
    ready = prepare(traced(model, example), Lp() if cost is None else cost)
    k = _free_scale(ready, layer, unit)
    if k in ready.why:
        raise InputError(f"unit {unit} of '{layer}' has no best scale: {ready.why[k]}")
    problem = ready.problem
    sums = FlatSums(problem, problem.zero())
    step = strength * float(best_step(sums.of(torch.tensor([k])), sums.exponents))
    z = problem.zero()
    z[k] = step
    apply_scales(ready.weights, ready.layouts, problem.classes.spread(z), None, ready.sizes)
    return math.exp(step)


def _free_scale(ready: Any, layer: str, unit: int) -> int:
    """The index of the free log-scale of one unit."""
    nodes = {units.name: units.nodes.flatten() for units in ready.graph.units}
    if layer not in nodes:
        raise unknown_name("layer", layer, nodes)
    if not 0 <= unit < len(nodes[layer]):
        raise InputError(f"layer '{layer}' has units 0 to {len(nodes[layer]) - 1}, not {unit}")
    classes = ready.problem.classes
    k = int(classes.of_node[nodes[layer][unit]]) - 1
    if k < 0:
        raise InputError(f"unit {unit} of '{layer}' is visible: its scale cannot change")
    if k >= classes.free:
        raise InputError(f"the scale of unit {unit} of '{layer}' follows from others; scale these")
    return k
