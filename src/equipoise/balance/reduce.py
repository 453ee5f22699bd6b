"""From a model's weights to the reduced problem: |w|^p added up class by class, once, in pieces, in float64."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from equipoise.balance.costs import Terms
from equipoise.balance.problem import Classes, Edges, Problem, Rows, Use
from equipoise.errors import InputError

__all__ = ["Layout", "classes_of", "layout", "reduce"]

PIECE = 2**20  # elements turned into float64 at a time
SALT = 20240607  # of the projection that tells general rows apart


def classes_of(rows: Rows, device: torch.device | str = "cpu") -> Classes:
    """The scale classes of a graph's rows: visible, one per free log-scale, one per distinct general row."""
    label = rows.label.to("cpu")
    of_node = label.clone()
    empty = torch.zeros(0, dtype=torch.int64)
    row, col, coefficient, count = empty, empty, torch.zeros(0, dtype=torch.float64), 0
    if rows.general is not None and bool((label < 0).any()):
        nodes = (label < 0).nonzero().squeeze(1)
        entries = rows.general.to("cpu").to_sparse_coo().coalesce()
        at, by = entries.indices()
        values = entries.values().to(torch.float64)
        place = torch.full((rows.nodes,), -1, dtype=torch.int64)
        place[nodes] = torch.arange(len(nodes))
        kept = place[at] >= 0
        at, by, values = place[at[kept]], by[kept], values[kept]
        salt = torch.randn(rows.free, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(SALT))
        key = torch.zeros(len(nodes), 2, dtype=torch.float64).index_add_(0, at, values[:, None] * salt[by])
        _, group = torch.unique((key * 1e9).round(), dim=0, return_inverse=True)
        count = int(group.max()) + 1
        first = torch.full((count,), len(nodes), dtype=torch.int64)
        first.scatter_reduce_(0, group, torch.arange(len(nodes)), "amin")
        chosen = first[group[at]] == at
        row, col, coefficient = group[at[chosen]], by[chosen], values[chosen]
        of_node[nodes] = 1 + rows.free + group
    return Classes(
        free=rows.free,
        general=count,
        of_node=of_node.to(device),
        row=row.to(device),
        col=col.to(device),
        coefficient=coefficient.to(device),
    )


@dataclass(frozen=True)
class Layout:
    """How the elements of one parameter meet classes: which of its dims tell the class entered, which the one left.

    into, out_of: classes as tensors with the parameter's number of dims, of size 1 where they do not vary.
    """

    into: Tensor
    out_of: Tensor

    @property
    def separate(self) -> bool:
        """Whether no dim tells both: the costs then make a matrix."""
        pairs = zip(self.into.shape, self.out_of.shape, strict=True)
        return all(a == 1 or b == 1 for a, b in pairs)


def _narrow(ids: Tensor, dims: int) -> Tensor:
    """``ids`` with ``dims`` dims, of size 1 wherever they do not vary."""
    ids = ids.reshape((1,) * (dims - ids.dim()) + tuple(ids.shape))
    for d in range(dims):
        if ids.shape[d] > 1 and (ids.stride(d) == 0 or bool((ids == ids.narrow(d, 0, 1)).all())):
            ids = ids.narrow(d, 0, 1)
    return ids


def layout(use: Use, classes: Classes, shape: Sequence[int]) -> Layout:
    """The layout of a parameter of ``shape`` under its use."""
    sides = []
    for ids in (use.into, use.out_of):
        try:
            torch.broadcast_shapes(ids.shape, tuple(shape))
        except RuntimeError:
            raise InputError(
                f"the classes of '{use.name}' have shape {tuple(ids.shape)}; its weights have {tuple(shape)}"
            ) from None
        compact = ids
        for d in range(ids.dim()):
            compact = compact.narrow(d, 0, 1) if compact.shape[d] > 1 and compact.stride(d) == 0 else compact
        sides.append(_narrow(classes.of_node[compact.to(classes.of_node.device)], len(shape)))
    return Layout(*sides)


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

    def matrix(self, power: float, value: Tensor, into: Tensor, out_of: Tensor) -> None:
        """Enter a matrix (D, S) of costs between sorted distinct classes, visible parts and self-loops apart."""
        inflow, outflow = self.flows(power)
        top, left = int(into[0] == 0), int(out_of[0] == 0)
        self.constant += float(value[:top, :left].sum())
        outflow[out_of[left:]] += value[:top, left:].sum(0)
        inflow[into[top:]] += value[top:, :left].sum(1)
        value, into, out_of = value[top:, left:], into[top:], out_of[left:]
        if not value.numel():
            return
        both = torch.isin(into, out_of)
        if bool(both.any()):
            rows, cols = both.nonzero().squeeze(1), torch.searchsorted(out_of, into[both])
            self.constant += float(value[rows, cols].sum())
            value[rows, cols] = 0.0
        self.edges.append(Edges(power, value, into, out_of))

    def single(self, power: float, value: Tensor, into: Tensor, out_of: Tensor) -> None:
        """Enter a list (E,) of edges, each between its own two classes."""
        inflow, outflow = self.flows(power)
        outflow.index_add_(0, out_of, torch.where(into == 0, value, 0.0))
        inflow.index_add_(0, into, torch.where(out_of == 0, value, 0.0))
        self.constant += float(value[into == out_of].sum())
        outflow[0] = inflow[0] = 0.0
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


def reduce(weights: Mapping[str, Tensor], uses: Sequence[Use], rows: Rows, terms: Mapping[str, Terms]) -> Problem:
    """The problem of a model's ``weights`` by name under ``uses``; ``terms`` says what each parameter costs.

    Costs are divided by the largest weight's, so that no |w|^p leaves float64. A parameter is counted once, however
    often it is used. Beyond the blocks themselves the extra memory is a few pieces of a million elements.
    """
    first = next(iter(weights.values()), None)
    classes = classes_of(rows, "cpu" if first is None else first.device)
    once = {use.name: use for use in reversed(uses)}
    sizes = {name: largest_size(weights[name], name) for name in once}
    counted = {name: terms.get(name, ()) for name in once}
    largest = max((sizes[n] for n in once if counted[n]), default=0.0) or 1.0
    scale = max((math.log(a) + p * math.log(largest) for n in once for a, p in counted[n]), default=0.0)
    if scale > math.log(torch.finfo(torch.float64).max):
        raise InputError(f"the cost of the largest weight, {largest:g}, is beyond float64; take a smaller p")
    found = _Collected(classes)
    for use in uses:
        if once.pop(use.name, None) is None or not counted[use.name]:
            continue
        weight = weights[use.name].detach()
        shared = [(p, math.exp(math.log(a) + p * math.log(largest) - scale)) for a, p in counted[use.name]]
        _enter(found, weight, layout(use, classes, weight.shape), largest, shared)
    for p in {p for t in counted.values() for _, p in t}:
        found.flows(p)
    return Problem(classes, found.edges, found.inflow, found.outflow, constant=found.constant, unit=math.exp(scale))


def _enter(found: _Collected, weight: Tensor, where: Layout, largest: float, terms: list[tuple[float, float]]) -> None:
    dims = range(weight.dim())
    rows = [d for d in dims if where.into.shape[d] > 1]
    cols = [d for d in dims if where.out_of.shape[d] > 1]
    if where.separate:
        rest = [d for d in dims if d not in rows and d not in cols]
        entered, row = torch.unique(where.into.flatten(), return_inverse=True)
        left, col = torch.unique(where.out_of.flatten(), return_inverse=True)
        sums = _matrix(
            weight.permute(*rows, *cols, *rest), len(row), len(col), largest, terms, row, col, len(entered), len(left)
        )
        for (p, _), value in zip(terms, sums, strict=True):
            found.matrix(p, value, entered, left)
        return
    kept = [d for d in dims if d in rows or d in cols]
    rest = [d for d in dims if d not in kept]
    shape = torch.broadcast_shapes(where.into.shape, where.out_of.shape)
    into, out_of = (ids.expand(shape).flatten() for ids in (where.into, where.out_of))
    count = len(into)
    none = torch.arange(count, device=into.device)
    sums = _matrix(weight.permute(*kept, *rest), count, 1, largest, terms, none, none[:1], count, 1)
    for (p, _), value in zip(terms, sums, strict=True):
        found.single(p, value[:, 0], into, out_of)


def _matrix(
    weight: Tensor,
    rows: int,
    cols: int,
    largest: float,
    terms: list[tuple[float, float]],
    row: Tensor,
    col: Tensor,
    entered: int,
    left: int,
) -> list[Tensor]:
    """Sums of a (|w| / largest)^p over the elements of each class pair, (entered, left) for each term.

    weight: row dims, column dims, the rest. row (rows,), col (cols,): the class of each row and column, by number.
    """
    sums = [torch.zeros(entered, left, dtype=torch.float64, device=row.device) for _ in terms]
    if not weight.numel():
        return sums
    same_rows, run = entered == rows, _run(col, cols, left)
    cube = weight.reshape(rows, cols, -1)
    step = max(1, PIECE // (weight.numel() // rows))
    for start in range(0, rows, step):
        size = cube[start : start + step].to(device=row.device, dtype=torch.float64, copy=True).abs_().div_(largest)
        here = row[start : start + step]
        for k, (p, a) in enumerate(terms):
            cost = size.square() if p == 2 else size.clone() if p == 1 else size.pow(p)
            cost = cost.sum(2) if cost.shape[2] > 1 else cost[:, :, 0]
            if run > 1:
                cost = cost.reshape(len(here), left, run).sum(2)
            elif not run and left == 1:
                cost = cost.sum(1, keepdim=True)
            elif not run:
                cost = cost.new_zeros(len(here), left).scatter_add_(1, col.expand(len(here), -1), cost)
            if same_rows:
                sums[k][here] = cost.mul_(a)
            else:
                sums[k].index_add_(0, here, cost.mul_(a))
    return sums


def _run(col: Tensor, cols: int, left: int) -> int:
    """The length of the runs where ``col`` is 0, ..., 0, 1, ..., 1, ...: 0 where it is anything else."""
    if left == 0 or cols % left:
        return 0
    run = cols // left
    return run if bool((col.view(left, run) == torch.arange(left, device=col.device)[:, None]).all()) else 0
