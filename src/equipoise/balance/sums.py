"""What enters and what leaves each unit: sums of any value per weight (cost, squared gradient) over IN and OUT."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from equipoise.balance.ledger import Rows, Use, compact
from equipoise.errors import InputError

if TYPE_CHECKING:
    from equipoise.balance.graph import ScalingGraph

__all__ = ["Sums", "UnitSums"]


@dataclass(frozen=True)
class Sums:
    """A value per weight, summed over each unit: ``incoming`` and ``outgoing``, both (units,)."""

    incoming: Tensor
    outgoing: Tensor

    @property
    def difference(self) -> Tensor:
        """D = IN - OUT for each unit, (units,)."""
        return self.incoming - self.outgoing

    @property
    def deficit(self) -> float:
        """The paper's balance deficit, sum over units of (IN - OUT)^2 (section 6)."""
        return float(self.difference.square().sum())

    @property
    def share(self) -> float:
        """A deficit without a scale, sum |IN - OUT| / sum (IN + OUT), in [0, 1]; NaN where nothing enters or leaves."""
        return float(self.difference.abs().sum() / (self.incoming + self.outgoing).sum())

    def of(self, units: Tensor) -> Sums:
        """The same of some units (indices, or a mask)."""
        return Sums(self.incoming[units], self.outgoing[units])


class UnitSums:
    """Sums over the weights of each unit of a scaling graph, its index maps read once.

    A unit k is a free log-scale of the graph. Of a value m_e >= 0 per weight, whose exponent is a_e in the log-scales
    (a_e = +1 into the unit, -1 out of it, other numbers behind units of another degree):

        IN_k = sum_e max(a_ek, 0) m_e        OUT_k = sum_e max(-a_ek, 0) m_e

    A weight from a unit to itself has a_e = 0 and counts nowhere. For signed values read IN - OUT alone.
    """

    def __init__(self, graph: ScalingGraph) -> None:
        self.graph = graph
        rows = graph.rows
        self._uses = [(use, *(_seen(ids, rows) for ids in (use.into, use.out_of))) for use in graph.uses]
        self._loops = [_loops(use, rows) for use in graph.uses]
        self._nodes, self._free = rows.nodes, rows.free
        self._plain = rows.label.clamp_min(0)
        self._general = None if rows.general is None else _signed(rows.general)

    @property
    def layers(self) -> dict[str, Tensor]:
        """The units of each layer that is scaled, as indices, by the layer's name."""
        found: dict[str, Tensor] = {}
        for group in self.graph.units:
            labels = self.graph.rows.label[group.nodes.reshape(-1)]
            mine = (labels[labels > 0] - 1).unique()
            if len(mine) and not any(torch.equal(mine, other) for other in found.values()):
                found[group.name] = mine
        return found

    @torch.no_grad()
    def __call__(self, values: Mapping[str, Tensor]) -> Sums:
        """IN and OUT of ``values``, a tensor of the parameter's shape for each parameter that scales, in float64.

        Raises ``InputError`` for a parameter without values.
        """
        missing = [use.name for use in self.graph.uses if use.name not in values]
        if missing:
            raise InputError(f"the values of '{missing[0]}' are missing; give a tensor for each parameter that scales")
        incoming = torch.zeros(self._nodes, dtype=torch.float64, device=self._plain.device)
        outgoing = torch.zeros_like(incoming)
        for (use, into, out_of), loops in zip(self._uses, self._loops, strict=True):
            value = values[use.name]
            value = value if value.dtype in (torch.float32, torch.float64) else value.float()
            if loops is not None:
                value = value.masked_fill(loops, 0)
            for total, ids in ((incoming, into), (outgoing, out_of)):
                if ids is not None:
                    _add(total, value, ids)
        return self._gathered(incoming, outgoing)

    def weights(self, p: float = 2.0) -> Sums:
        """IN and OUT of the cost |w|^p of the model's weights as they are."""
        params = dict(self.graph.model.named_parameters())
        return self({use.name: _power(params[use.name].detach(), p) for use in self.graph.uses})

    def gradients(self, p: float = 2.0) -> Sums:
        """IN and OUT of |g|^p of the gradients in ``.grad``; a parameter without one counts as zero."""
        params = dict(self.graph.model.named_parameters())
        return self({use.name: _power(_grad(params[use.name]), p) for use in self.graph.uses})

    def euler(self) -> Tensor:
        """How far Euler's identity fails at each unit, (units,): sum_IN w dE/dw - sum_OUT w dE/dw.

        Zero at any weights where the gradients in ``.grad`` are those of a loss of the network's output (Theorem F.1
        in one line: the output does not change with the unit's scale).
        """
        params = dict(self.graph.model.named_parameters())
        held = [(use.name, params[use.name]) for use in self.graph.uses]
        return self({name: w.detach() * _grad(w) for name, w in held}).difference

    def _gathered(self, incoming: Tensor, outgoing: Tensor) -> Sums:
        """From nodes to units: N+^T IN + N-^T OUT, and N+^T OUT + N-^T IN."""
        found = []
        for first, second in ((incoming, outgoing), (outgoing, incoming)):
            total = first.new_zeros(self._free + 1).index_add_(0, self._plain, first)[1:]
            if self._general is not None:
                positive, negative = self._general
                total = total + positive @ first + negative @ second
            found.append(total)
        return Sums(*found)


def _signed(general: Tensor) -> tuple[Tensor, Tensor]:
    """The transposed parts N+^T and N-^T of the rows that are no plain unit, (units, nodes)."""
    rows = general.to_sparse_coo().coalesce()
    (node, unit), size = rows.indices(), (rows.shape[1], rows.shape[0])
    return tuple(
        torch.sparse_coo_tensor(
            torch.stack([unit, node]), (sign * rows.values()).double().clamp_min(0), size, check_invariants=False
        )
        for sign in (1, -1)
    )  # type: ignore[return-value]


def _grad(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.detach()


def _power(values: Tensor, p: float) -> Tensor:
    if p == 2:
        return values.square()
    return values.abs() if p == 1 else values.abs().pow(p)


def _seen(ids: Tensor, rows: Rows) -> Tensor | None:
    """The nodes on one side of a parameter; None where all of them are visible."""
    ids = compact(ids)
    return ids if bool((rows.label[ids] != 0).any()) else None


def _add(total: Tensor, values: Tensor, ids: Tensor) -> None:
    """Add ``values`` at ``ids``, which broadcast to them, after summing over what they do not vary in."""
    ids = ids.reshape((1,) * (values.ndim - ids.ndim) + tuple(ids.shape))
    constant = [dim for dim in range(values.ndim) if ids.shape[dim] == 1 and values.shape[dim] != 1]
    if constant:
        values = values.sum(constant, keepdim=True)
    total.index_add_(0, ids.expand(values.shape).reshape(-1), values.reshape(-1).double())


def _loops(use: Use, rows: Rows) -> Tensor | None:
    """Which elements lead from a unit to itself; None where none does."""
    into, out_of = compact(use.into), compact(use.out_of)
    label = rows.label
    same = (label[into] == label[out_of]) & (label[into] > 0)
    if rows.general is not None:
        same = same | ((into == out_of) & (label[into] < 0))
    return same if bool(same.any()) else None
