"""What every circuit of excitatory and inhibitory cells is built on: widths, laws of weights, geometry, checks."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise.contracts import Constraint, Pointwise, Synapses
from equipoise.debugging import debugging
from equipoise.errors import InputError, unknown_name
from equipoise.functional.constraints import NonNegative

__all__ = ["LAWS", "Circuit", "Convolution", "Dense", "draw_", "pool_size", "read_pathways", "weight_std"]


def _log_normal(weight: Tensor, sigma: float) -> None:
    weight.log_normal_(math.log(sigma / math.sqrt(2)), math.sqrt(math.log(2)))


def _exponential(weight: Tensor, sigma: float) -> None:
    weight.exponential_(1 / sigma)


LAWS: dict[str, Callable[[Tensor, float], None]] = {"log_normal": _log_normal, "exponential": _exponential}


@torch.no_grad()
def draw_(weight: Tensor, law: str, sigma: float) -> None:
    """Fill ``weight`` with positive numbers of mean and standard deviation ``sigma``, from torch's global state."""
    LAWS[law](weight, sigma)


def weight_std(units: int, fan_in: int) -> float:
    """sigma_w = sqrt(2 n_e / (n (n_e - 1))): He's, corrected for the mean over n_e units that inhibition takes away."""
    return math.sqrt(2 * units / (fan_in * max(1, units - 1)))


def pool_size(units: int, ratio: float, pool: int | None) -> int:
    """The width of an inhibitory pool: ``pool`` cells, or max(1, floor(ratio * units))."""
    if not (pool is None or isinstance(pool, int)):
        raise InputError(f"a pool is a whole number of cells, not {pool}; ratio is for shares of the layer's")
    if pool is None:
        if not 0 < ratio < math.inf:
            raise InputError(f"ratio is the pool's width over the layer's, above 0, not {ratio}")
        return max(1, math.floor(ratio * units + 1e-9))
    if pool < 1:
        raise InputError(f"an inhibitory pool needs at least 1 cell, not pool={pool}; without one use ExcitatoryLinear")
    return pool


def one_of(kind: str, value: str | None, known: Collection[str]) -> None:
    """Raise ``InputError`` with the nearest name unless ``value`` is one of ``known``."""
    if value not in known:
        raise unknown_name(kind, str(value), known)


def read_pathways(detach: str | Iterable[str]) -> frozenset[str]:
    """``detach`` as a set of pathways; ``InputError`` for one that does not exist."""
    found = frozenset([detach] if isinstance(detach, str) else detach)
    for name in found - {"subtractive", "divisive"}:
        raise unknown_name("pathway", name, ("subtractive", "divisive"))
    return found


class Circuit(nn.Module):
    """A layer of excitatory cells with inhibition from the layer below. Its weights are non-negative with ``dale``.

    constraints: what ``nn.enforce`` holds them to; projections: the weights that carry signals from below, where
    feedback rules put their feedback, while the way from inhibitory to excitatory cells keeps its exact derivative.
    """

    unit_dim = -1
    projections: tuple[str, ...]
    constraints: dict[str, Constraint]

    def __init__(self, units: int, fan_in: int, *, law: str, dale: bool, positive: Collection[str]) -> None:
        super().__init__()
        if units < 1 or fan_in < 1:
            raise InputError(f"a layer needs at least one input and one unit, not {fan_in} and {units}")
        one_of("law of weights", law, LAWS)
        self.units, self.fan_in, self.law, self.dale = units, fan_in, law, dale
        self.constraints = {name: NonNegative() for name in positive} if dale else {}
        self.projections = ("weight_ee",)

    def _shape(self, cells: int) -> tuple[int, ...]:
        """The shape of the weights onto ``cells`` cells from the layer below."""
        raise NotImplementedError

    def _from_below(self, h: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """The drive of cells by the activity below."""
        raise NotImplementedError

    def _within(self, x: Tensor, weight: Tensor) -> Tensor:
        """The drive of cells by cells of the same layer (and position): weight (post, pre)."""
        raise NotImplementedError

    def _axis(self, weight: Tensor) -> tuple[int | None, int, int]:
        """(number of axes of an input, None: any; its axis that holds the inputs; how many ``weight`` takes there)."""
        raise NotImplementedError

    def _by_unit(self, vector: Tensor) -> Tensor:
        """``vector`` (units,) shaped to broadcast with activities."""
        return vector.reshape(-1, *(1,) * (-self.unit_dim - 1))

    def work(self, input: Tensor, output: Tensor) -> Iterator[Synapses | Pointwise]:
        """What the pass from ``input`` to ``output`` took (``contracts.Costed``): "ee" and "ie" from below, then "ei".

        W_EI costs one product for each of subtraction and division. A divisor costs a gain for each inhibitory cell
        and a division with a gain for each excitatory one; a divisive pool that is squared, its squares and a root
        for each position, counted as a division. exp(alpha) and the like are constants once trained.
        """
        positions, pool = output.numel() // self.units, getattr(self, "pool", 0)
        squared: int = getattr(self, "divisive_pool", 0)
        cells = getattr(self, "cells", None)

        def reach(counts: Tensor) -> Tensor:
            return self._from_below(counts, counts.new_ones(self._shape(1)))

        for part, count in (("ee", self.units), ("ie", pool), ("divisive ie", squared)):
            if count:
                yield Synapses(part, input, count, self.fan_in, reach)
        gained = any(getattr(self, name, None) is not None for name in ("gain_i", "alpha"))
        products = bool(getattr(self, "subtractive", True)) + gained
        if cells is None:
            yield Pointwise("ei", macs=positions * self.units * pool * products)
        else:
            drive = self._from_below(input, self.weight[self.units :])  # type: ignore[index]
            yield Synapses("ei", (cells(drive) > 0).to(input.dtype), self.units * products, pool, self._summed)
            yield Pointwise("inhibitory cells", macs=positions * pool)
        whole = positions * self.units
        divides = gained or squared > 0
        yield Pointwise(
            "gains",
            macs=positions * squared,
            accumulates=whole * (products - gained + (getattr(self, "bias", None) is not None)),
            multiplications=(positions * pool if gained else 0)
            + (whole if getattr(self, "gain", None) is not None else 0),
            divisions=(whole if divides else 0) + (positions if squared else 0),
        )

    def _summed(self, counts: Tensor) -> Tensor:
        return counts.sum(self.unit_dim)

    def check_(self, batch: Tensor) -> Tensor:
        """``batch`` itself, if this layer can take it: finite, non-negative where Dale's law holds, weights in place.

        Raises ``InputError`` otherwise. Under ``equipoise.debug()`` every forward pass calls it.
        """
        if not bool(batch.isfinite().all()):
            raise InputError(f"{type(self).__name__}: the input holds values that are not finite")
        if self.dale and bool((batch < 0).any()):
            raise InputError(
                f"{type(self).__name__}: inputs are rates of excitatory cells, and the least of this batch is "
                f"{float(batch.min()):.3g}; shift pixels to [0, 1], put nn.OnOff() before it, or pass dale=False"
            )
        for name, constraint in self.constraints.items():
            value = getattr(self, name).detach()
            outside = int((constraint.project(value) != value).sum())
            if outside:
                raise InputError(
                    f"{type(self).__name__}: {outside} of {value.numel()} entries of {name} are outside its "
                    "constraint; nn.project_(model) restores them, nn.enforce(optimizer, model) keeps them"
                )
        return batch

    def _enter(self, h: Tensor) -> None:
        """The checks of a forward pass: of the input's shape, and under ``equipoise.debug()`` of values."""
        axes, place, inputs = self._axis(getattr(self, self.projections[0]))
        if h.ndim < 1 or (axes and h.ndim != axes) or h.shape[place] != inputs:
            wanted = f"(batch, {inputs}, height, width)" if axes else f"(..., {inputs})"
            raise InputError(
                f"{type(self).__name__} takes {wanted}, and this input is {tuple(h.shape)}: another size, or "
                "its batch or time on another axis (frames: encoder=None)?"
            )
        if debugging():
            self.check_(h)


class Dense:
    """Geometry of a layer whose every unit sees every input: h (..., I), weights (cells, I)."""

    unit_dim = -1
    fan_in: int

    def _shape(self, cells: int) -> tuple[int, ...]:
        return (cells, self.fan_in)

    def _axis(self, weight: Tensor) -> tuple[int | None, int, int]:
        return None, -1, weight.shape[1]

    def _from_below(self, h: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.linear(h, weight, bias)

    def _within(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.linear(x, weight)


class Convolution:
    """Geometry of a convolution: h (B, C, H, W), weights (cells, C, k, k); the circuit is the same at each position."""

    unit_dim = -3
    fan_in: int

    def _place(
        self,
        in_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int],
        padding: int | tuple[int, int] | str,
    ) -> int:
        """Keep the geometry; the number of inputs of one unit, C * k * k."""
        self.in_channels = in_channels
        self.kernel_size = (kernel_size, kernel_size) if isinstance(kernel_size, int) else tuple(kernel_size)
        self.stride, self.padding = stride, padding
        return in_channels * math.prod(self.kernel_size)

    def _shape(self, cells: int) -> tuple[int, ...]:
        return (cells, self.in_channels, *self.kernel_size)

    def _axis(self, weight: Tensor) -> tuple[int | None, int, int]:
        return 4, -3, weight.shape[1]

    def _from_below(self, h: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.conv2d(h, weight, bias, self.stride, self.padding)

    def _within(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.conv2d(x, weight[:, :, None, None])
