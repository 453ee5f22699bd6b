"""Write log-scales into a model's weights: in place, in pieces, all of them or none."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from equipoise.balance.layout import Layout
from equipoise.balance.reduce import PIECE
from equipoise.errors import InputError

__all__ = ["apply_scales"]

SAFE = 300.0  # the log-scale up to which float64 holds both factors of an element by themselves


@dataclass(frozen=True)
class _Scaled:
    """One parameter and its elements' log-scales, up - down, each broadcasting to it; ``still`` stays as it is.

    apart: whether a factor may be a product of two, because no class is on both sides, where it is exactly 1.
    """

    name: str
    weight: Tensor
    up: Tensor
    down: Tensor
    still: Tensor | None
    apart: bool

    @functools.cached_property
    def reach(self) -> float:
        """The largest log-scale on either side; an element's log-factor is at most twice that."""
        return max(float(self.up.abs().max()), float(self.down.abs().max()))

    def pieces(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Views of the weight along its first axis, each with its scaled values in float64."""
        weight = self.weight.detach()
        length = weight.shape[0] if weight.dim() else 1
        step = max(1, PIECE // max(1, weight.numel() // max(1, length)))
        for start in range(0, length, step):
            view = weight[start : start + step] if weight.dim() else weight
            yield view, self._values(view, start, start + step)

    def _values(self, view: Tensor, start: int, end: int) -> Tensor:
        def part(t: Tensor) -> Tensor:
            return t[start:end] if t.dim() and t.shape[0] > 1 else t

        up, down = part(self.up), part(self.down)
        values = view.to(torch.float64, copy=True)
        if self.apart and self.still is None and self.reach < SAFE:
            return values.mul_(up.exp()).mul_(down.neg().exp())
        factor = torch.exp(up - down)
        return values.mul_(factor if self.still is None else torch.where(part(self.still), 1.0, factor))


def apply_scales(
    weights: Mapping[str, Tensor],
    layouts: Mapping[str, Layout],
    u: Tensor,
    still: Tensor | None,
    sizes: Mapping[str, float],
) -> None:
    """Replace each element w_e by w_e exp(u[into_e] - u[out_of_e]), u (C,) the log-scales of the classes.

    An edge at a class of the mask ``still`` (C,) stays as it is: such units are skipped, and decide nothing.
    ``sizes`` are the largest |w|. Elements that round to 0 in a low precision do so as in any product.

    Raises: InputError, before anything is written, where a scaled weight does not fit its dtype.
    """
    still = None if still is None or not bool(still.any()) else still
    scaled = []
    for name, where in layouts.items():
        kept = None if still is None else still[where.into] | still[where.out_of]
        one = _Scaled(name, weights[name], u[where.into], u[where.out_of], kept, where.apart)
        if one.reach:
            scaled.append(one)
    for one in scaled:
        _check_fits(one, sizes[one.name])
    with torch.no_grad():
        for one in scaled:
            for view, values in one.pieces():
                view.copy_(values)


def _check_fits(one: _Scaled, largest: float) -> None:
    """Refuse a weight that would leave its dtype: by a bound first, then element by element."""
    most = torch.finfo(one.weight.dtype).max
    if not math.isfinite(one.reach):
        raise InputError(f"the scales of '{one.name}' are not finite; nothing was changed")
    if largest == 0 or math.log(largest) + 2 * one.reach < math.log(most):
        return
    for view, values in one.pieces():
        if not bool(torch.isfinite(values.to(view.dtype)).all()):
            raise InputError(
                f"scaled weights of '{one.name}' reach {float(values.abs().max()):.3g}, beyond {one.weight.dtype} "
                f"(at most {most:.3g}); balance the model in float32 or float64. Nothing was changed"
            )
