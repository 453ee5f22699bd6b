"""Units that share one scale: whole layers (``method="tied"``), or any sets of units (coordinated balancing).

Sharing is one more equation between log-scales, v_a = v_b; an edge inside a set keeps its cost, because its two ends
move together, so it belongs to no sum. For a chain of layers with costs a_1, ..., a_N = ||A_i||_p^p and no biases

    M_i = Lam_i / Lam_(i-1) = (G / a_i)^(1/p),   G = (a_1 ... a_N)^(1/N):   every matrix then costs G

(the line above J.5; J.5 itself lacks the root). Biases scale by Lam_i instead of M_i, and leave no closed form: then a
small convex problem is solved. The tied optimum is not the one of single units.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from equipoise.balance.flat import flat_edges
from equipoise.balance.ledger import Ledger, Rows
from equipoise.balance.newton import Solution, newton
from equipoise.balance.problem import Marginals, Problem
from equipoise.errors import InputError, unknown_name

if TYPE_CHECKING:
    from equipoise.balance.graph import ScalingGraph

__all__ = ["chain_scales", "coordinate", "tied"]


def chain_scales(costs: Sequence[float], p: float) -> list[float]:
    """Lam_1, ..., Lam_(N-1), the best scales of the hidden layers of a chain: ``costs`` a_i = ||A_i||_p^p, no biases.

    Lam_i = prod_(k <= i) (G / a_k)^(1/p), G the geometric mean of the costs.

    >>> chain_scales([16.0, 1.0], 2)
    [0.5]
    """
    if not costs or not all(math.isfinite(a) and a > 0 for a in costs):
        raise InputError(f"a chain needs finite costs above 0, got {list(costs)!r}")
    if not (math.isfinite(p) and p > 0):
        raise InputError(f"p must be a finite number above 0, got {p!r}")
    logs = [math.log(a) for a in costs]
    mean = math.fsum(logs) / len(logs)
    return [math.exp(math.fsum(mean - a for a in logs[:i]) / p) for i in range(1, len(logs))]


def coordinate(graph: ScalingGraph, groups: Sequence[Any], *, tied: bool = False) -> Rows:
    """The graph's rows with one shared log-scale for each of ``groups``, and for each layer where ``tied``.

    A group is a layer's name, or a list of names and pairs (name, indices of units). A set with a unit that is visible
    stays at scale 1; of a tied layer the visible units are left out.
    """
    rows = graph.rows
    nodes = {units.name: units.nodes.flatten() for units in graph.units}
    ledger = Ledger()
    of_node = rows.label.clone()
    ledger.fresh(rows.free)
    if rows.general is not None:
        entries = rows.general.coalesce()
        terms: dict[int, list[tuple[float, Tensor]]] = {}
        for node, k, c in zip(*entries.indices().tolist(), entries.values().tolist(), strict=True):
            terms.setdefault(node, []).append((c, torch.tensor([k + 1])))
        for node, sums in terms.items():
            of_node[node] = ledger.combine(sums)
    if tied:
        for ids in nodes.values():
            scaled = of_node[ids][of_node[ids] != 0]
            if len(scaled):
                ledger.tie(scaled, scaled[:1].expand_as(scaled))
    for group in groups:
        members = torch.cat([_members(nodes, m) for m in ([group] if _one_member(group) else group)])
        ids = of_node[members]
        if len(ids):
            ledger.tie(ids, ids[:1].expand_as(ids))
    shared = ledger.solve()
    general = None
    if shared.general is not None:
        general = shared.general.index_select(0, of_node.to(shared.label.device)).coalesce()
    return Rows(rows.nodes, shared.free, shared.label[of_node], general)


def _one_member(group: Any) -> bool:
    """Whether a group is a layer name or one pair (layer name, indices), and no collection of these."""
    if isinstance(group, str) or not (isinstance(group, Sequence) and len(group) == 2 and isinstance(group[0], str)):
        return isinstance(group, str)
    second = group[1]
    return not isinstance(second, str) and not (isinstance(second, Sequence) and second and isinstance(second[0], str))


def _members(nodes: dict[str, Tensor], member: Any) -> Tensor:
    """The nodes of a layer, or of some of its units."""
    name, indices = (member, None) if isinstance(member, str) else _pair(member)
    if name not in nodes:
        raise unknown_name("layer in a group", name, nodes)
    if indices is None:
        return nodes[name]
    chosen = torch.as_tensor(indices, dtype=torch.int64).flatten()
    count = len(nodes[name])
    if len(chosen) and not (int(chosen.min()) >= 0 and int(chosen.max()) < count):
        raise InputError(f"layer '{name}' has units 0 to {count - 1}; a group asks for {chosen.tolist()[:6]}")
    return nodes[name][chosen]


def _pair(member: Any) -> tuple[str, Any]:
    if not (isinstance(member, Sequence) and len(member) == 2 and isinstance(member[0], str)):
        raise InputError(f"a group holds layer names and pairs (layer name, indices), not {member!r}")
    return member[0], member[1]


def tied(problem: Problem, z: Tensor, at: Marginals, *, tol: float, max_iterations: int, progress: Any) -> Solution:
    """The best scales of a problem whose units share theirs already: closed form, or a few Newton steps."""
    closed = _chains(problem)
    if closed is not None:
        there = problem.marginals(closed)
        if there.deficit <= tol:
            return Solution(closed, there, 0)
    return newton(problem, z, at, tol=tol, max_iterations=max_iterations, progress=progress)


def _chains(problem: Problem) -> Tensor | None:
    """The closed form where every log-scale has one edge in and one out, all of one power; None elsewhere."""
    if not problem.classes.plain or len(problem.powers) != 1:
        return None
    into, out_of, value, _ = flat_edges(problem)
    live = torch.cat([into.new_zeros(1, dtype=torch.bool), ~problem.skipped])
    count = problem.classes.count
    entering, leaving = (torch.bincount(side, minlength=count)[live] for side in (into, out_of))
    if bool((entering != 1).any() or (leaving != 1).any()):
        return None
    following = {a: (b, m) for a, b, m in zip(out_of.tolist(), into.tolist(), value.tolist(), strict=True) if a}
    z = problem.zero()
    for first, cost in zip(into[out_of == 0].tolist(), value[out_of == 0].tolist(), strict=True):
        chain, costs = [first], [cost]
        while chain[-1]:
            after, m = following[chain[-1]]
            chain.append(after)
            costs.append(m)
        scales = chain_scales(costs, problem.powers[0])
        for k, scale in zip(chain[:-1], scales, strict=True):
            z[k - 1] = math.log(scale)
    return z
