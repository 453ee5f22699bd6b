"""The square layers that targets pass back through, and what in a model cannot be run backwards.

Target propagation needs a chain whose layers, but for the first, have as many units as inputs (a kernel: as many
channels as its patch has values), and whose activations are one to one. What is not so is refused by its name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise.contracts import Invertible
from equipoise.errors import InputError
from equipoise.functional.activations import unit
from equipoise.functional.inverse import solve
from equipoise.functional.patches import as_kernels, carry_patches, convolve, inverse_patches
from equipoise.rules.links import Link, Part, read_chain
from equipoise.rules.slots import Slots

__all__ = ["Square", "invertible_chain", "squares"]

_SHAPES = frozenset({nn.Flatten, nn.Unflatten, nn.Identity})
_ELSE = "eq.nn.invertible(model) makes an invertible twin, and rule 'fa' needs no inverse"


@dataclass(frozen=True, eq=False)
class Square:
    """A layer that errors pass back through, z = A h + b. number: of its link; units: all of them, n; used: those that
    the layer above sees. Columns of A^-1 are kept as rows, (used, n), for the used units alone: the others, auxiliary
    ones, have no error."""

    number: int
    link: Link
    units: int
    used: int

    @property
    def name(self) -> str:
        """The name of its weight."""
        return self.link.weight

    @property
    def overlap(self) -> str:
        """What becomes of pixels that several patches cover."""
        return str(getattr(self.link.layer, "overlap", "subtract"))

    def matrix(self, weight: Tensor) -> Tensor:
        """A (n, n): what the layer multiplies its input by, a kernel's patches laid flat."""
        return weight.reshape(self.units, -1)

    def feedback(self, columns: Tensor, weight: Tensor) -> Tensor:
        """``columns`` in the shape of the weight; zeros for auxiliary units."""
        return F.pad(columns, (0, 0, 0, self.units - self.used)).reshape(weight.shape)

    def _geometry(self) -> tuple[Any, Any]:
        layer: Any = self.link.layer
        return layer.stride, layer.padding

    def down(self, columns: Tensor, g: Tensor, h: Tensor) -> Tensor:
        """A^-1 g, the change of the input ``h`` that changes the used units by ``g``; a pixel's patches are added."""
        if self.link.dense:
            return g @ columns
        kernels = as_kernels(columns.T, (self.units, *h.shape[1:2], *self.link.layer.kernel_size))  # type: ignore[misc]
        return carry_patches(g, kernels, h.shape, *self._geometry(), self.overlap)

    def sums(self, h: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """z of all units, auxiliary ones included."""
        if self.link.dense:
            return F.linear(h, weight, bias)
        return convolve(h, weight, bias, *self._geometry())

    def inverse(self, z: Tensor, h: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The input that gives ``z`` (all units); ``h``, the forward input, says what overlapping patches share."""
        if bias is not None:
            z = z - bias.reshape(-1, *(1,) * (z.ndim - 2))
        if self.link.dense:
            return solve(weight, z)
        eye = torch.eye(self.units, dtype=weight.dtype, device=weight.device)
        kernels = as_kernels(solve(self.matrix(weight), eye).T, weight.shape)
        return inverse_patches(z, h, kernels, *self._geometry(), self.overlap)


def _refuse(part: Part, why: str) -> InputError:
    return InputError(f"layer '{part.name}' ({type(part.module).__name__}) {why}; {_ELSE}")


def _check_between(link: Link, below: Link) -> None:
    """Refuse parts between two links that lose what a target would need."""
    for part in below.after:
        if part.number >= 0:
            raise _refuse(part, "drops units, and no target could pass back through those")
        try:
            unit(part.module)
        except InputError as error:
            raise InputError(f"layer '{part.name}': {error}, or eq.nn.invertible(model), which puts it in") from None
    for part in link.before:
        if type(part.module) not in _SHAPES:
            raise _refuse(part, "mixes units in a way that cannot be run backwards")


def _check_kernel(link: Link) -> None:
    """Refuse convolutions that do not multiply each patch of an image by one matrix."""
    layer: Any = link.layer
    if link.dense or isinstance(layer, Invertible):
        return
    found = {"groups": layer.groups, "dilation": set(layer.dilation), "padding_mode": layer.padding_mode}
    wanted = {"groups": 1, "dilation": {1}, "padding_mode": "zeros"}
    wrong = [key for key in found if found[key] != wanted[key]]
    if not isinstance(layer, nn.Conv2d) or wrong:
        given = f"{wrong[0]}={getattr(layer, wrong[0])!r}" if wrong else type(layer).__name__
        raise InputError(
            f"layer '{link.name}' has {given}, and targets pass back through plain Conv2d alone (one group, no "
            f"dilation, padded by zeros); {_ELSE}"
        )


def _square(number: int, link: Link, weight: Tensor) -> Square:
    inputs = weight[0].numel()
    _check_kernel(link)
    if len(weight) != inputs:
        what = "inputs" if link.dense else "values in its patch"
        raise InputError(
            f"layer '{link.name}' ({type(link.layer).__name__}) has {len(weight)} units for {inputs} {what}, and "
            f"targets pass back through square layers alone; {_ELSE}"
        )
    return Square(number, link, inputs, link.used or inputs)


def invertible_chain(name: str, model: nn.Module, slots: Slots) -> tuple[Link, ...]:
    """The links of ``model``, checked; ``InputError`` with the layer's name and the way out for the rule ``name``."""
    try:
        links = read_chain(model, slots, invertible=True)
        for k in range(1, len(links)):
            _check_between(links[k], links[k - 1])
    except InputError as error:
        raise InputError(f"{name} cannot train this model: {error}") from None
    return links


def squares(name: str, links: Sequence[Link], weights: Mapping[str, Tensor]) -> tuple[Square, ...]:
    """The layers that errors pass back through: all but the first."""
    try:
        return tuple(_square(k, link, weights[link.weight]) for k, link in enumerate(links) if k)
    except InputError as error:
        raise InputError(f"{name} cannot train this model: {error}") from None
