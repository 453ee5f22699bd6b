"""What a rule takes and gives: its options, where it lets errors enter, and its report of one batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

__all__ = ["Credit", "Options", "Step"]


class Step(NamedTuple):
    """What one call of a rule reports: detached tensors, by module name where there are several."""

    loss: Tensor
    output: Tensor
    local: dict[str, Tensor]
    diagnostics: dict[str, Tensor]


class Credit(NamedTuple):
    """A rule's answer for one batch: the loss, the output, and where which error enters (None: the root's own 1)."""

    loss: Tensor
    output: Tensor
    roots: list[tuple[Tensor, Tensor | None]]


@dataclass(frozen=True)
class Options:
    """Options that every rule has. ``local_weight`` multiplies modules' own objectives (the papers' lambda)."""

    local_weight: float = 1.0
