"""From a model's weights to the reduced problem: |w|^p added up class by class, once, in pieces, in float64."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from equipoise.balance.blocks import span
from equipoise.balance.costs import Terms
from equipoise.balance.layout import Layout, Side
from equipoise.balance.problem import Classes, Edges, Problem
from equipoise.errors import InputError

__all__ = ["PIECE", "largest_size", "reduce"]

PIECE = 2**20  # elements turned into float64 at a time


@dataclass
class _Collected:
    """What the reduction adds up."""

    classes: Classes
    edges: list[Edges] = field(default_factory=list)
    inflow: dict[float, Tensor] = field(default_factory=dict)
    outflow: dict[float, Tensor] = field(default_factory=dict)
    constant: float = 0.0

    def flows(self, power: float) -> tuple[Tensor, Tensor]:
        for flow in (self.inflow, self.outflow):
            if power not in flow:
                device = self.classes.of_node.device
                flow[power] = torch.zeros(self.classes.count, dtype=torch.float64, device=device)
        return self.inflow[power], self.outflow[power]

    def vector(self, weight: Tensor, where: Layout, largest: float, terms: list[tuple[float, float]]) -> None:
        """Enter a vector of weights that leave one class: a bias, as a rule."""
        size = weight.to(torch.float64).abs() / largest
        into = where.into.expand(len(size))
        out_of = where.out_of.expand(len(size))
        for p, a in terms:
            self.single(p, a * size.pow(p), into, out_of)

    def single(self, power: float, value: Tensor, into: Tensor, out_of: Tensor) -> None:
        """Enter a list (E,) of edges, each between its own two classes."""
        inflow, outflow = self.flows(power)
        if not bool(out_of.any()):
            inflow.index_add_(0, into, value)
        else:
            outflow.index_add_(0, out_of, torch.where(into == 0, value, 0.0))
            inflow.index_add_(0, into, torch.where(out_of == 0, value, 0.0))
            self._between(power, value, into, out_of)
            inflow[0] = 0.0  # what is visible on both sides stands in outflow already
        self.constant += float(inflow[0] + outflow[0])
        inflow[0] = outflow[0] = 0.0

    def matrix(self, power: float, value: Tensor, into: Side, out_of: Side) -> None:
        """Enter a matrix (D, S) of costs between classes, visible parts and self-loops apart."""
        inflow, outflow = self.flows(power)
        top, left = int(into.visible), int(out_of.visible)
        if top and left:
            self.constant += float(value[0, 0])
        entered, departed = into.distinct[top:], out_of.distinct[left:]
        if top and len(departed):
            outflow[span(departed)] += value[0, left:]
        if left and len(entered):
            inflow[span(entered)] += value[top:, 0]
        if not len(entered) or not len(departed):
            return
        value = value[top:, left:]
        if int(entered[0]) <= int(departed[-1]) and int(departed[0]) <= int(entered[-1]):
            both = torch.isin(entered, departed)
            rows, cols = both.nonzero().squeeze(1), torch.searchsorted(departed, entered[both])
            self.constant += float(value[rows, cols].sum())
            value[rows, cols] = 0.0
        self.edges.append(Edges(power, value, entered, departed))

    def _between(self, power: float, value: Tensor, into: Tensor, out_of: Tensor) -> None:
        """The hidden ones of a list of edges: those of one pair of classes added up, self-loops apart."""
        self.constant += float(value[(into == out_of) & (into != 0)].sum())
        live = (into != 0) & (out_of != 0) & (into != out_of)
        if not bool(live.any()):
            return
        count = self.classes.count
        pairs, where = torch.unique(into[live] * count + out_of[live], return_inverse=True)
        summed = torch.zeros(len(pairs), dtype=torch.float64, device=value.device).index_add_(0, where, value[live])
        entered, rows = torch.unique(pairs // count, return_inverse=True)
        left, cols = torch.unique(pairs % count, return_inverse=True)
        self.edges.append(Edges(power, summed, entered, left, rows, cols))


def largest_size(weight: Tensor, name: str) -> float:
    """max |w|; refuses what is no floating-point tensor and what is not finite."""
    if not weight.is_floating_point():
        raise InputError(f"'{name}' has dtype {weight.dtype}; only float16 to float64 weights can be balanced")
    if not weight.numel():
        return 0.0
    low, high = (float(v) for v in torch.aminmax(weight.detach()))
    if not (math.isfinite(low) and math.isfinite(high)):
        raise InputError(f"'{name}' holds values that are not finite ({low:g} to {high:g}); nothing was changed")
    return max(-low, high)


def reduce(
    weights: Mapping[str, Tensor],
    layouts: Mapping[str, Layout],
    classes: Classes,
    terms: Mapping[str, Terms],
    sizes: Mapping[str, float],
) -> Problem:
    """The problem of a model's ``weights`` by name, ``layouts`` of those that scale; ``terms``: what each one costs,
    ``sizes``: its largest |w|.

    Costs are divided by the largest weight's, so that no |w|^p leaves float64; a weight below 10^(-300 / p) of the
    largest counts as 0. Beyond the blocks themselves the extra
    memory is a few pieces of a million elements.
    """
    counted = {name: terms.get(name, ()) for name in layouts}
    largest = max((sizes[n] for n in layouts if counted[n]), default=0.0) or 1.0
    scale = max((math.log(a) + p * math.log(largest) for n in layouts for a, p in counted[n]), default=0.0)
    if scale > math.log(torch.finfo(torch.float64).max):
        raise InputError(f"the cost of the largest weight, {largest:g}, is beyond float64; take a smaller p")
    found = _Collected(classes)
    for name, where in layouts.items():
        if counted[name]:
            shared = [(p, math.exp(math.log(a) + p * math.log(largest) - scale)) for a, p in counted[name]]
            _enter(found, weights[name].detach(), where, largest, shared)
    for p in {p for t in counted.values() for _, p in t}:
        found.flows(p)
    return Problem(classes, found.edges, found.inflow, found.outflow, constant=found.constant, unit=math.exp(scale))


def _enter(found: _Collected, weight: Tensor, where: Layout, largest: float, terms: list[tuple[float, float]]) -> None:
    dims = range(weight.dim())
    rows = [d for d in dims if where.into.shape[d] > 1]
    cols = [d for d in dims if where.out_of.shape[d] > 1]
    if weight.dim() == 1 and where.out_of.numel() == 1:
        found.vector(weight, where, largest, terms)
        return
    if where.separate:
        rest = [d for d in dims if d not in rows and d not in cols]
        row, col = where.sides
        for (p, _), value in zip(
            terms, _matrix(weight.permute(*rows, *cols, *rest), largest, terms, row, col), strict=True
        ):
            found.matrix(p, value, row, col)
        return
    kept = [d for d in dims if d in rows or d in cols]
    rest = [d for d in dims if d not in kept]
    into, out_of = where.pairs
    row, col = (Side.of(torch.arange(n, device=into.device)) for n in (len(into), 1))
    for (p, _), value in zip(terms, _matrix(weight.permute(*kept, *rest), largest, terms, row, col), strict=True):
        found.single(p, value[:, 0], into, out_of)


def _matrix(weight: Tensor, largest: float, terms: list[tuple[float, float]], row: Side, col: Side) -> list[Tensor]:
    """Sums of a (|w| / largest)^p over the elements of each class pair, a matrix for each term.

    weight: dims of the rows, dims of the columns, the rest.
    """
    rows, cols, left = len(row.place), len(col.place), len(col.distinct)
    sums = [weight.new_zeros(len(row.distinct), left, dtype=torch.float64) for _ in terms]
    if not weight.numel():
        return sums
    cube = weight.reshape(rows, cols, -1)
    step = max(1, PIECE // (weight.numel() // rows))
    for start in range(0, rows, step):
        size = cube[start : start + step].to(torch.float64, copy=True).abs_().div_(largest)
        here = row.place[start : start + step]
        for k, (p, a) in enumerate(terms):
            own = size if k == len(terms) - 1 else size.clone()
            cost = own.square_() if p == 2 else own if p == 1 else own.pow_(p)
            if col.run:
                cost = cost.reshape(len(here), left, -1)
                cost = cost.sum(2) if cost.shape[2] > 1 else cost[:, :, 0]
            else:
                cost = cost.sum(2)
                cost = cost.new_zeros(len(here), left).scatter_add_(1, col.place.expand(len(here), -1), cost)
            if row.run == 1:
                sums[k][start : start + step] = cost.mul_(a)
            else:
                sums[k].index_add_(0, here, cost.mul_(a))
    return sums
