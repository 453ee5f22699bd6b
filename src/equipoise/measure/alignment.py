"""How close a rule is to backpropagation: the angle between what it writes and the true gradient."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from equipoise.errors import InputError
from equipoise.functional.edits import exact_backward

__all__ = ["Alignment", "alignment", "angle", "layer_names"]


class Comparable(Protocol):
    """What alignment needs of a rule. survey.weights: the model's weights in the order of the forward pass."""

    survey: Any

    def draw(self, x: Tensor, generator: torch.Generator | None = None) -> dict[str, Tensor]: ...
    def gradients(self, params: Mapping[str, Tensor], x: Tensor, y: Tensor, **given: object) -> tuple: ...
    def reference(self) -> Comparable: ...

    @property
    def model(self) -> torch.nn.Module: ...


@dataclass(frozen=True)
class Alignment(Mapping[str, float]):
    """Degrees per layer, in the order of the forward pass; NaN where one of the two gradients is zero."""

    degrees: dict[str, float]

    def __getitem__(self, layer: str) -> float:
        return self.degrees[layer]

    def __iter__(self) -> Iterator[str]:
        return iter(self.degrees)

    def __len__(self) -> int:
        return len(self.degrees)

    @property
    def hidden(self) -> float:
        """The mean over all layers but the last, which every rule trains exactly; NaN without one."""
        hidden = list(self.degrees.values())[:-1]
        return math.fsum(hidden) / len(hidden) if hidden else math.nan


def angle(a: Tensor, b: Tensor) -> float:
    """The angle between two tensors as vectors, in degrees: acos(a . b / (|a| |b|)).

    In float64, from half-angles (2 atan2(|u - v|, |u + v|) for unit vectors u, v), which is exact for small angles
    where the cosine is not. NaN, never 0, where either is zero or not finite.
    """
    u, v = a.detach().reshape(-1).double(), b.detach().reshape(-1).double()
    lengths = u.norm(), v.norm()
    if not all(bool(n > 0) and bool(n.isfinite()) for n in lengths):
        return math.nan
    u, v = u / lengths[0], v / lengths[1]
    return math.degrees(2 * math.atan2(float((u - v).norm()), float((u + v).norm())))


def layer_names(weights: Iterable[str]) -> dict[str, str]:
    """The layer of each weight by its name: the module that owns it, or the weight itself where one owns several."""
    layers = {n: n.rsplit(".", 1)[0] if "." in n else n for n in weights}
    repeated = len(set(layers.values())) < len(layers)
    return {n: n for n in layers} if repeated else layers


def alignment(
    rule: Comparable,
    x: Tensor,
    y: Tensor,
    reference: Literal["autograd", "exact", "inverse"] = "autograd",
    *,
    generator: torch.Generator | None = None,
) -> Alignment:
    """Degrees per layer between what ``rule`` would write on (x, y) and the reference gradient.

    Both on the same network, batch, dropout masks and loss; nothing is written to ``.grad`` or to buffers. A layer
    is its weight (biases and normalisation are left out). reference: "autograd" is backpropagation as the model
    would do it; "exact" also switches off every deliberate edit of the backward pass (``functional.exact_backward``),
    without which circuits that edit it would score 0 by construction; "inverse" is the rule itself with exact inverses,
    for rules that approximate them (``gait``). Raises ``InputError`` for another reference.
    """
    if reference not in ("autograd", "exact", "inverse"):
        raise InputError(f"reference is 'autograd', 'exact' or 'inverse', not {reference!r}")
    if reference == "inverse" and not hasattr(rule, "exact"):
        raise InputError(f"reference='inverse' is for rules that invert their layers, not {type(rule).__name__}")
    params = {n: p.detach() for n, p in rule.model.named_parameters() if p.requires_grad}
    noise = rule.draw(x, generator)
    written, *_ = rule.gradients(params, x, y, noise=noise)
    other: Any = rule.exact() if reference == "inverse" else rule.reference()  # type: ignore[attr-defined]
    with exact_backward() if reference == "exact" else nullcontext():
        true, *_ = other.gradients(params, x, y, noise=noise)
    order = {name: k for k, name in enumerate(rule.survey.weights)}
    params = dict(sorted(params.items(), key=lambda item: order.get(item[0], -1)))
    layers = layer_names([n for n, p in params.items() if p.ndim >= 2])
    return Alignment({layer: angle(written[n], true[n]) for n, layer in layers.items()})
