"""The square layers that targets pass back through, and what in a model cannot be run backwards.

Target propagation needs a chain whose layers, but for the first, have as many units as inputs (a kernel: as many
channels as its patch has values), and whose activations are one to one. What is not so is refused by its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from equipoise.errors import InputError
from equipoise.rules.links import Link, Part, read_chain
from equipoise.rules.slots import Slots

__all__ = ["Square", "invertible_chain", "squares"]

WIDEN = "widen the model with eq.nn.invertible(model), or use rule 'fa'"
_SHAPES = frozenset({nn.Flatten, nn.Unflatten, nn.Identity})
_UNITS = frozenset({nn.LeakyReLU, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.ELU, nn.CELU, nn.SELU, nn.Softsign, nn.Identity})


@dataclass(frozen=True, eq=False)
class Square:
    """A layer that errors pass back through. number: of its link; units: all of them; used: those the layer shows."""

    number: int
    link: Link
    units: int
    used: int

    def matrix(self, weight: Tensor) -> Tensor:
        """W (n, n): what the layer multiplies its input by, a kernel's patches laid flat."""
        return weight.reshape(len(weight), -1)

    def feedback(self, columns: Tensor, weight: Tensor) -> Tensor:
        """``columns`` (used, n), columns of W^-1 as rows, in the shape of the weight; zeros for auxiliary units."""
        whole = F.pad(columns, (0, 0, 0, self.units - self.used))
        return whole.reshape(weight.shape)


def _refuse(part: Part, why: str, instead: str) -> InputError:
    return InputError(f"layer '{part.name}' ({type(part.module).__name__}) {why}; {instead}")


def _check_between(link: Link, below: Link) -> None:
    """Refuse parts between two links that lose what a target would need."""
    for part in below.after:
        slope = getattr(part.module, "negative_slope", 1)
        if part.number >= 0:
            raise _refuse(part, "drops units, so that targets cannot pass back through it", "leave it out")
        if type(part.module) not in _UNITS or slope <= 0:
            instead = "use nn.LeakyReLU(0.1), or eq.nn.invertible(model), which puts it in"
            raise _refuse(part, "is no activation that target propagation can invert", instead)
    for part in link.before:
        if type(part.module) not in _SHAPES:
            instead = "let a convolution with a stride take its place, or use rule 'fa'"
            raise _refuse(part, "mixes units in a way that cannot be run backwards", instead)


def _square(number: int, link: Link, weight: Tensor) -> Square:
    layer, inputs = link.layer, weight[0].numel()
    kind = f"layer '{link.name}' ({type(layer).__name__})"
    if getattr(layer, "groups", 1) != 1:
        raise InputError(f"{kind} has {layer.groups} groups, and a square kernel sees all channels; use groups=1")
    if len(weight) != inputs:
        what = "inputs" if link.dense else "values in its patch"
        raise InputError(
            f"{kind} has {len(weight)} units for {inputs} {what}, and targets pass back through square layers alone; "
            f"{WIDEN}"
        )
    return Square(number, link, inputs, link.used or inputs)


def invertible_chain(model: nn.Module, slots: Slots) -> tuple[Link, ...]:
    """The links of ``model``, checked; ``InputError`` with the layer's name and the way out."""
    try:
        links = read_chain(model, slots, invertible=True)
    except InputError as error:
        raise InputError(f"target propagation cannot train this model: {error}; use rule 'fa', or change it") from None
    for k in range(1, len(links)):
        _check_between(links[k], links[k - 1])
    return links


def squares(links: Sequence[Link], weights: dict[str, nn.Parameter]) -> tuple[Square, ...]:
    """The layers that errors pass back through: all but the first."""
    return tuple(_square(k, link, weights[link.weight]) for k, link in enumerate(links) if k)
