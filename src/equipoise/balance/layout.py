"""Which scale classes the elements of a parameter meet: rows of a matrix of costs, its columns, or single edges."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from equipoise.balance.blocks import Classes
from equipoise.balance.ledger import Rows, Use, compact
from equipoise.errors import InputError

__all__ = ["Layout", "Side", "classes_of", "layout", "place"]

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
class Side:
    """A list of classes: the distinct ones, sorted, and the place of each entry among them.

    run: the length of the runs where the places are 0, ..., 0, 1, ..., 1, ...; 0 where they are anything else.
    visible: whether the visible class, 0, is the first of them.
    """

    distinct: Tensor
    place: Tensor
    run: int
    visible: bool

    @classmethod
    def of(cls, ids: Tensor) -> Side:
        """The side of ``ids`` (n,)."""
        if len(ids) < 2 or bool((ids[1:] > ids[:-1]).all()):
            return cls(ids, torch.arange(len(ids), device=ids.device), 1, len(ids) > 0 and int(ids[0]) == 0)
        distinct, place = torch.unique(ids, return_inverse=True)
        count = len(distinct)
        run = 0 if len(ids) % count else len(ids) // count
        if run and bool((place.view(count, run) != torch.arange(count, device=ids.device)[:, None]).any()):
            run = 0
        return cls(distinct, place, run, int(distinct[0]) == 0)


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

    @functools.cached_property
    def apart(self) -> bool:
        """Whether no hidden class is both entered and left by elements of the parameter."""
        into, out_of = self.into.flatten(), self.out_of.flatten()
        return not bool(torch.isin(into[into != 0], out_of[out_of != 0]).any())

    @functools.cached_property
    def sides(self) -> tuple[Side, Side]:
        """Rows and columns of that matrix."""
        return Side.of(self.into.flatten()), Side.of(self.out_of.flatten())

    @functools.cached_property
    def pairs(self) -> tuple[Tensor, Tensor]:
        """The class entered and the class left by each element of the dims that vary, flat."""
        shape = [max(a, b) for a, b in zip(self.into.shape, self.out_of.shape, strict=True)]
        return self.into.expand(shape).flatten(), self.out_of.expand(shape).flatten()


def _fits(ids: Tensor, shape: Sequence[int]) -> bool:
    own = tuple(ids.shape)
    return len(own) <= len(shape) and all(a in (1, b) for a, b in zip(own[::-1], tuple(shape)[::-1], strict=False))


def layout(use: Use, classes: Classes, shape: Sequence[int]) -> Layout:
    """The layout of a parameter of ``shape`` under its use."""
    sides = []
    for ids in (use.into, use.out_of):
        if not _fits(ids, shape):
            raise InputError(
                f"the classes of '{use.name}' have shape {tuple(ids.shape)}, its weights {tuple(shape)}; trace it again"
            )
        found = classes.of_node[compact(ids).to(classes.of_node.device)]
        found = found.reshape((1,) * (len(shape) - found.dim()) + tuple(found.shape))
        for d in range(len(shape)):
            ends = (found.select(d, 0), found.select(d, -1))
            if found.shape[d] > 1 and torch.equal(*ends) and bool((found == found.narrow(d, 0, 1)).all()):
                found = found.narrow(d, 0, 1)
        sides.append(found)
    return Layout(*sides)


def place(
    uses: Sequence[Use], rows: Rows, shapes: Mapping[str, Sequence[int]], device: torch.device | str
) -> tuple[Classes, dict[str, Layout]]:
    """The classes of ``rows``, and the layout of every parameter that scales by name; its first use counts."""
    classes = classes_of(rows, device)
    layouts: dict[str, Layout] = {}
    for use in uses:
        if use.name not in shapes:
            raise InputError(f"the graph names a parameter '{use.name}' that the model does not have; trace it again")
        if use.name not in layouts:
            layouts[use.name] = layout(use, classes, shapes[use.name])
    return classes, layouts
