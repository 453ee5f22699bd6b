"""The ledger of scale classes: which log-scales are equal, which are 0, and which are sums of others.

Every class (*node*) has a log-scale v; node 0 is visible, v_0 = 0. A layer opens nodes for its units, and each
condition under which the network's function stays as it is is one linear equation between nodes:

    v_a = v_b        two signals are added                  (``tie``)
    v_a = 0          a signal is read as it is              (``fix``)
    v_a = sum c v    branches are multiplied, powers taken  (``combine``)

``solve`` writes every node over free variables, v = N z. Node ids are int64 tensors; an axis along which they are
constant is best left expanded (stride 0), because only the elements that are stored are worked on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from equipoise.balance.elimination import components, eliminate
from equipoise.errors import InputError

__all__ = ["Ledger", "Rows", "Use", "compact"]


@dataclass(frozen=True)
class Use:
    """One parameter's exponents: element e is replaced by w_e exp(v[into_e] - v[out_of_e]).

    ``into`` and ``out_of`` hold node ids (int64) and broadcast to the parameter's shape; ``bias`` marks what a cost
    may leave out. ``name`` is the parameter's name in ``model.named_parameters()``.
    """

    name: str
    into: Tensor
    out_of: Tensor
    bias: bool = False

    def exponent(self, v: Tensor, still: Tensor | None = None) -> Tensor:
        """v[into] - v[out_of], broadcasting to the parameter; 0 at nodes of the mask ``still`` (nodes,)."""
        into, out_of = self.into.to(v.device), self.out_of.to(v.device)
        exponent = v[into] - v[out_of]
        return exponent if still is None else exponent.masked_fill(still[into] | still[out_of], 0.0)


@dataclass(frozen=True)
class Rows:
    """The log-scale of each node over the free variables, v = N z.

    ``label`` (nodes,) is 1 + the index of the one variable that a node equals, 0 for a node that is 0, and -1 for a
    node whose row stands in ``general``: sparse COO (nodes, free), None where every node is a variable or 0.
    """

    nodes: int
    free: int
    label: Tensor
    general: Tensor | None = None

    def expand(self, z: Tensor) -> Tensor:
        """N z: the log-scales (..., nodes) for variables (..., free)."""
        padded = torch.cat([z.new_zeros((*z.shape[:-1], 1)), z], -1)
        v = padded[..., self.label.clamp(min=0)]
        if self.general is not None:
            (node, variable), weight = self.general.indices(), self.general.values().to(z.dtype)
            v = v.index_add(-1, node, z[..., variable] * weight)
        return v

    def gather(self, gradient: Tensor) -> Tensor:
        """N^T g: what a gradient by the log-scales (..., nodes) is by the variables (..., free)."""
        padded = gradient.new_zeros((*gradient.shape[:-1], self.free + 1))
        padded = padded.index_add(-1, self.label.clamp(min=0), gradient)
        if self.general is not None:
            (node, variable), weight = self.general.indices(), self.general.values().to(gradient.dtype)
            padded = padded.index_add(-1, variable + 1, gradient[..., node] * weight)
        return padded[..., 1:]

    def to(self, device: torch.device | str) -> Rows:
        """The same rows on another device."""
        general = None if self.general is None else self.general.to(device).coalesce()
        return Rows(self.nodes, self.free, self.label.to(device), general)


def compact(ids: Tensor) -> Tensor:
    """``ids`` with each expanded axis (stride 0) cut to length 1: what broadcasts back to the same."""
    return ids[tuple(slice(0, 1) if step == 0 else slice(None) for step in ids.stride())]


def _aligned(*ids: Tensor) -> list[Tensor]:
    """The tensors compacted and brought to the same number of axes."""
    axes = max((t.ndim for t in ids), default=0)
    return [compact(t).reshape((1,) * (axes - t.ndim) + compact(t).shape) for t in ids]


class Ledger:
    """The nodes of one network and the equations between them."""

    def __init__(self) -> None:
        self.nodes = 1
        self._ties: list[tuple[Tensor, Tensor]] = []
        self._fixed: list[tuple[Tensor, str]] = []
        self._sums: list[tuple[Tensor, tuple[float, ...]]] = []
        self._defined: list[Tensor] = []
        self._idle: list[Tensor] = []

    def fresh(self, shape: int | Sequence[int]) -> Tensor:
        """New nodes in a tensor of ``shape``."""
        sizes = (shape,) if isinstance(shape, int) else tuple(shape)
        ids = torch.arange(self.nodes, self.nodes + torch.Size(sizes).numel()).reshape(sizes)
        self.nodes += ids.numel()
        return ids

    def zeros(self, shape: int | Sequence[int]) -> Tensor:
        """Nodes for values that are 0, which any scale leaves as they are: they follow what they are tied to."""
        ids = self.fresh(shape)
        self._idle.append(ids.reshape(-1))
        return ids

    def idle(self) -> Tensor:
        """Which nodes are those of values that are 0, (nodes,)."""
        mask = torch.zeros(self.nodes, dtype=torch.bool)
        for ids in self._idle:
            mask[ids] = True
        return mask

    def visible(self, shape: int | Sequence[int] = ()) -> Tensor:
        """Node 0 in a tensor of ``shape`` that takes no memory."""
        return torch.zeros((), dtype=torch.int64).expand((shape,) if isinstance(shape, int) else tuple(shape))

    def tie(self, a: Tensor, b: Tensor, why: str = "tied to a visible signal") -> None:
        """Set v_a = v_b elementwise, under broadcasting."""
        a, b = _aligned(a, b)
        for axis in range(a.ndim):
            if b.shape[axis] == 1 < a.shape[axis]:
                a = self.tie_along(a, axis, why)
            elif a.shape[axis] == 1 < b.shape[axis]:
                b = self.tie_along(b, axis, why)
        self._pairs(a.reshape(-1), b.reshape(-1), why)

    def tie_along(self, ids: Tensor, axes: int | Sequence[int], why: str = "tied to a visible signal") -> Tensor:
        """Make the nodes equal along ``axes``; the result keeps these axes at length 1."""
        for axis in (axes,) if isinstance(axes, int) else axes:
            size = ids.shape[axis]
            if size > 1 and ids.stride(axis) != 0:
                held = compact(ids)
                rest = held.narrow(axis, 1, size - 1)
                self._pairs(rest.reshape(-1), held.narrow(axis, 0, 1).expand_as(rest).reshape(-1), why)
            ids = ids.narrow(axis, 0, min(size, 1))
        return ids

    def _pairs(self, a: Tensor, b: Tensor, why: str) -> None:
        differ = a != b
        a, b = a[differ], b[differ]
        zero = (a == 0) | (b == 0)
        if zero.any():
            self._fixed.append((torch.maximum(a, b)[zero], why))
        if not zero.all():
            self._ties.append((a[~zero], b[~zero]))

    def fix(self, ids: Tensor, why: str = "visible") -> None:
        """Set v = 0; ``why`` is what the graph's table says of these nodes."""
        flat = compact(ids).reshape(-1)
        if (flat != 0).any():
            self._fixed.append((flat[flat != 0], why))

    def combine(self, terms: Sequence[tuple[float, Tensor]]) -> Tensor:
        """Nodes whose log-scale is the sum of coefficient times log-scale, under broadcasting.

        Nothing new is opened where the sum is one node with coefficient 1, or 0.
        """
        shape = torch.broadcast_shapes(*(ids.shape for _, ids in terms))
        merged: list[tuple[float, Tensor]] = []
        for c, ids in ((c, t) for (c, _), t in zip(terms, _aligned(*(t for _, t in terms)), strict=True)):
            same = next((k for k, (_, other) in enumerate(merged) if torch.equal(other, ids)), None)
            if same is None:
                merged.append((float(c), ids))
            else:
                merged[same] = (merged[same][0] + c, ids)
        merged = [(c, ids) for c, ids in merged if c != 0 and (ids != 0).any()]
        if not merged:
            return self.visible(shape)
        if len(merged) == 1 and merged[0][0] == 1:
            return merged[0][1].expand(shape)
        coefficients = tuple(c for c, _ in merged)
        stacked = torch.stack(torch.broadcast_tensors(*(ids for _, ids in merged)), -1)
        rows, inverse = torch.unique(stacked.reshape(-1, len(merged)), dim=0, return_inverse=True)
        return self._nodes_of(rows, coefficients)[inverse].reshape(stacked.shape[:-1]).expand(shape)

    def _nodes_of(self, rows: Tensor, coefficients: tuple[float, ...]) -> Tensor:
        """A node for each row of ids (N, k): the row's own where it has one with coefficient 1, else a new one."""
        terms = rows != 0
        alone = terms.sum(1) == 1
        plain = alone & (terms * torch.tensor(coefficients, dtype=torch.float64)).sum(1).eq(1)
        result = torch.where(plain, rows.sum(1), torch.zeros_like(rows[:, 0]))
        new = terms.any(1) & ~plain
        result[new] = self.fresh(int(new.sum()))
        self._defined.append(result[new])
        self._sums.append((torch.cat([rows[new], result[new, None]], 1), (*coefficients, -1.0)))
        return result

    def equate(self, terms: Sequence[tuple[float, Tensor]]) -> None:
        """Set the sum of coefficient times log-scale to 0, elementwise under broadcasting."""
        for c, _ in terms:
            if not torch.isfinite(torch.tensor(float(c))):
                raise InputError(f"a coefficient of a scaling equation must be finite, not {c}")
        ids = torch.stack(torch.broadcast_tensors(*_aligned(*(t for _, t in terms))), -1)
        rows = torch.unique(ids.reshape(-1, len(terms)), dim=0)
        self._sums.append((rows, tuple(float(c) for c, _ in terms)))

    def reasons(self) -> dict[int, str]:
        """For each node that was set to 0, or is equal to one that was, the first reason given."""
        root = components(self.nodes, self._ties)
        first: dict[int, str] = {}
        for ids, why in self._fixed:
            for node in torch.unique(root[ids]).tolist():
                first.setdefault(node, why)
        return {node: first[r] for node, r in enumerate(root.tolist()) if r in first}

    def classes(self) -> Tensor:
        """For each node the first node that ties make it equal to, 0 where that is fixed (sums left aside)."""
        root = components(self.nodes, self._ties)
        zero = torch.zeros(self.nodes, dtype=torch.bool)
        for ids, _ in self._fixed:
            zero[root[ids]] = True
        return root.masked_fill(zero[root], 0)

    def solve(self, needed: Tensor | None = None) -> Rows:
        """Every node over free variables.

        ``needed``: the nodes that some parameter's exponent holds; a variable that none of them depends on is 0, and so
        is one of values that are 0 alone.
        """
        root = self.classes()
        live = torch.zeros(self.nodes, dtype=torch.bool)
        live[root[~self.idle()]] = True
        first = ~live
        for ids in self._defined:
            first[root[ids]] = True
        pivots = eliminate([(root[rows], c) for rows, c in self._sums], first)
        wanted = torch.arange(self.nodes) if needed is None else torch.unique(needed)
        return _rows(root, pivots, root[wanted].unique().tolist(), live.tolist())


def _rows(root: Tensor, pivots: dict[int, dict[int, float]], wanted: list[int], live: list[bool]) -> Rows:
    """Number the live variables that the wanted classes depend on, and write each class over them."""
    variables = {variable for node in wanted if node for variable in pivots.get(node, (node,)) if live[variable]}
    index = {node: k for k, node in enumerate(sorted(variables))}
    label = torch.zeros(len(root), dtype=torch.int64)
    label[torch.tensor(list(index), dtype=torch.int64)] = torch.arange(1, len(index) + 1)
    general: dict[int, list[tuple[int, float]]] = {}
    for node, row in pivots.items():
        kept = [(index[variable], c) for variable, c in row.items() if variable in index]
        if len(kept) == 1 and kept[0][1] == 1:
            label[node] = kept[0][0] + 1
        elif kept:
            label[node] = -1
            general[node] = kept
    label = label[root]
    members = torch.nonzero(label == -1)[:, 0].tolist()
    entries = [(node, k, c) for node, r in zip(members, root[label == -1].tolist(), strict=True) for k, c in general[r]]
    sparse = None
    if entries:
        nodes, columns, values = zip(*entries, strict=True)
        sparse = torch.sparse_coo_tensor(
            torch.tensor([nodes, columns]),
            torch.tensor(values, dtype=torch.float64),
            (len(root), len(index)),
            check_invariants=True,
        ).coalesce()
    return Rows(len(root), len(index), label, sparse)
