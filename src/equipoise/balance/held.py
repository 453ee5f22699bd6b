"""Views of a parameter inside a forward pass, and how exponents found for a view are the parameter's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from equipoise.balance.builder import Builder
from equipoise.balance.conditions import same_exponent
from equipoise.balance.ledger import Use, compact

__all__ = ["Held"]


@dataclass(frozen=True)
class Held:
    """A parameter as the forward pass holds it: whole, permuted, or through other views.

    ``order`` says which axis of the parameter each axis of the view is, for a permutation. Otherwise ``positions``
    (the view's shape) holds the flat index of each element.
    """

    name: str
    shape: torch.Size
    order: tuple[int, ...] | None
    positions: Tensor | None = None

    @classmethod
    def whole(cls, name: str, parameter: Tensor) -> Held:
        """The parameter itself."""
        return cls(name, parameter.shape, tuple(range(parameter.ndim)))

    def index(self) -> Tensor:
        """The flat index in the parameter of each element of the view."""
        if self.positions is not None:
            return self.positions
        assert self.order is not None
        whole = [0] * len(self.order)
        for axis, source in enumerate(self.order):
            whole[source] = self.shape[axis]
        return torch.arange(self.shape.numel()).reshape(whole).permute(self.order)

    def viewed(self, change: Callable[[Tensor], Tensor]) -> Held:
        """What ``change`` (a function that moves elements about) makes of the view."""
        if self.order is not None:
            probe = torch.empty_strided(self.shape, _codes(self.shape), device="meta")
            result = change(probe)
            codes = result.stride()
            moved = sorted(codes) == sorted(probe.stride()) and result.numel() == probe.numel()
            if moved and result._is_view() and len(set(codes)) == len(codes):
                axes = [probe.stride().index(code) for code in codes]
                if [probe.shape[axis] for axis in axes] == list(result.shape):
                    return replace(self, shape=result.shape, order=tuple(self.order[axis] for axis in axes))
        positions = change(self.index())
        return Held(self.name, positions.shape, None, positions)

    def use(self, builder: Builder, into: Tensor, out_of: Tensor, bias: bool = False) -> None:
        """Enter the exponents v[into] - v[out_of], given for the view's axes, as the parameter's."""
        ndim = len(self.shape)
        into, out_of = (ids.reshape((1,) * (ndim - ids.ndim) + tuple(ids.shape)) for ids in (into, out_of))
        if self.order is not None:
            back = [self.order.index(axis) for axis in range(ndim)]
            builder.use_part(self.name, into.permute(back), out_of.permute(back), None, bias)
            return
        parameter, index = builder.parameters[self.name], self.index().reshape(-1)
        cover = torch.zeros(parameter.numel(), dtype=torch.bool)
        cover[index] = True
        whole = []
        for ids in (into, out_of):
            flat = ids.expand(self.shape).reshape(-1)
            full = torch.zeros(parameter.numel(), dtype=torch.int64)
            full[index] = flat
            whole.append(full)
        if int(cover.sum()) < index.numel():
            seen = [ids.expand(self.shape).reshape(-1) for ids in (into, out_of)]
            differ = (seen[0] != whole[0][index]) | (seen[1] != whole[1][index])
            if differ.any():
                kept = Use(self.name, whole[0][index][differ], whole[1][index][differ])
                same_exponent(builder, kept, Use(self.name, seen[0][differ], seen[1][differ]), None)
        new_into, new_out_of, covered = (ids.reshape(parameter.shape) for ids in (*whole, cover))
        builder.use_part(self.name, new_into, new_out_of, covered, bias)

    def narrowed(self) -> Held:
        """The view with each expanded axis, along which one element is repeated, at length 1."""
        if self.positions is None:
            return self
        positions = compact(self.positions)
        return replace(self, shape=positions.shape, positions=positions)


def _codes(shape: torch.Size) -> tuple[int, ...]:
    """Strides of a contiguous tensor, each axis with one of its own even where an axis has length 1."""
    codes, step = [], 1
    for size in reversed(shape):
        codes.append(step)
        step *= max(size, 2)
    return tuple(reversed(codes))
