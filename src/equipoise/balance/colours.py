"""Colours: sets of log-scales of which no two meet in one edge, so that all of a colour move at once and exactly.

Layers h and h + 2 of a chain share no weights: two colours, odd and even. Classes with the same part in every block are
coloured together; a group with edges inside (a recurrent layer) is coloured class by class.
"""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.balance.problem import Problem

__all__ = ["colour_matrix", "colours"]

SALT = 20240608


def colours(problem: Problem) -> list[Tensor]:
    """The colours of a plain problem: indices of free log-scales, skipped ones left out."""
    classes = problem.classes
    device = classes.of_node.device
    key = torch.zeros(classes.count, dtype=torch.float64, device=device)
    salt = torch.rand(2 * len(problem.edges), dtype=torch.float64, generator=torch.Generator().manual_seed(SALT))
    for k, e in enumerate(problem.edges):
        key[e.into] += salt[2 * k]
        key[e.out_of] += salt[2 * k + 1]
    key[0] = -1.0
    live = ~problem.skipped
    _, group = torch.unique(key, return_inverse=True)
    pairs: set[tuple[int, int]] = set()
    for e in problem.edges:
        above, below = torch.unique(group[e.into]).tolist(), torch.unique(group[e.out_of]).tolist()
        pairs |= {(a, b) for a in above for b in below}
    inside = {a for a, b in pairs if a == b}
    neighbours: dict[int, set[int]] = {}
    for a, b in pairs:
        if a not in inside and b not in inside and a != b:
            neighbours.setdefault(a, set()).add(b)
            neighbours.setdefault(b, set()).add(a)
    colour: dict[int, int] = {}
    found: list[Tensor] = []
    whole = [g for g in torch.unique(group[1:]).tolist() if g not in inside]
    for g in sorted(whole, key=lambda g: int((group == g).nonzero()[0])):
        taken = {colour[n] for n in neighbours.get(g, ()) if n in colour}
        colour[g] = next(c for c in range(len(taken) + 1) if c not in taken)
    member = group[1:]
    for c in sorted(set(colour.values())):
        chosen = torch.isin(member, torch.tensor([g for g in colour if colour[g] == c], device=device)) & live
        if bool(chosen.any()):
            found.append(chosen.nonzero().squeeze(1))
    alone = torch.isin(member, torch.tensor(sorted(inside), dtype=torch.int64, device=device)) & live
    return found + _one_by_one(problem, alone.nonzero().squeeze(1))


def _one_by_one(problem: Problem, ids: Tensor) -> list[Tensor]:
    """Colours of the log-scales ``ids`` among themselves."""
    if not len(ids):
        return []
    from scipy import sparse

    place = torch.full((problem.classes.count,), -1, dtype=torch.int64, device=ids.device)
    place[ids + 1] = torch.arange(len(ids), device=ids.device)
    joined = sparse.csr_matrix((len(ids), len(ids)))
    for e in problem.edges:
        into, out_of, _ = e.flat()
        a, b = place[into], place[out_of]
        kept = (a >= 0) & (b >= 0)
        a, b = a[kept].cpu().numpy(), b[kept].cpu().numpy()
        joined = joined + sparse.csr_matrix((abs(a - b) * 0 + 1.0, (a, b)), shape=joined.shape)
    return [ids[torch.from_numpy(chosen).to(ids.device)] for chosen in colour_matrix(joined + joined.T)]


def colour_matrix(joined):
    """Greedy colours of a symmetric sparse pattern (n, n): arrays of indices, one for each colour."""
    import numpy as np

    joined = joined.tocsr()
    colour = np.full(joined.shape[0], -1)
    for k in range(joined.shape[0]):
        near = joined.indices[joined.indptr[k] : joined.indptr[k + 1]]
        taken = set(colour[near[near != k]].tolist())
        colour[k] = next(c for c in range(len(taken) + 1) if c not in taken)
    return [np.flatnonzero(colour == c) for c in range(int(colour.max(initial=-1)) + 1)]
