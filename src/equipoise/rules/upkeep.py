"""What keeps square layers orthogonal, so that the inverse stays close to the transpose.

The penalty of the papers goes through the optimiser, its moments included: it is added to ``.grad``. The others change
the weights themselves after the optimiser's step, and leave its moments to the task.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from equipoise.errors import InputError
from equipoise.functional.orthogonal import penalty, penalty_block, retract, stretch
from equipoise.rules.base import Options

__all__ = ["UpkeepOptions", "keep_", "penalties", "sweep_"]

# Where every squared singular value is this near to 1, so many Newton-Schulz steps reach the nearest orthogonal matrix
# to about 1e-4; else an SVD does.
_NEAR, _STEPS = 0.4, 3


@dataclass(frozen=True)
class UpkeepOptions(Options):
    """Options of rules that keep their square layers orthogonal.

    upkeep: "penalty", strength times the gradient of ||A^T A - I||^2 added to ``.grad`` by every ``backward`` (the
    papers'; they sum losses over the batch, so that their 100 at 256 samples is 0.39 of a mean loss); "decoupled",
    A - strength A (A^T A - I) after every ``every``-th step (0.5 is a Newton-Schulz step, beyond 1 it diverges);
    "probe", the same for some columns of A in turn, ``probes`` a step on average; "retract", the nearest orthogonal
    matrix after every ``every``-th step. off_diagonal: leave the columns' lengths free.
    """

    upkeep: Literal["none", "penalty", "decoupled", "probe", "retract"] = "none"
    strength: float = 0.4
    every: int = 1
    probes: int = 64
    off_diagonal: bool = False

    def __post_init__(self) -> None:
        if self.every < 1 or self.probes < 1 or self.strength < 0:
            raise InputError(
                f"every={self.every} and probes={self.probes} are at least 1, and strength={self.strength} at least 0"
            )
        if self.upkeep in ("decoupled", "probe") and self.strength > 1:
            raise InputError(
                f"strength={self.strength} of upkeep='{self.upkeep}' would tear the weights apart; it is at most 1, "
                "and 0.5 is a whole step to the nearest orthogonal matrix (a penalty's strength is another number)"
            )

    def falls_due(self, step: int) -> bool:
        """Whether all weights are moved after ``step`` (from 0)."""
        return self.upkeep in ("decoupled", "retract") and (step + 1) % self.every == 0

    @property
    def kind(self) -> str:
        """The penalty's name."""
        return "off_diagonal" if self.off_diagonal else "full"


def penalties(options: UpkeepOptions, matrices: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What the penalty adds to the gradient of each matrix; nothing for other kinds of upkeep."""
    if options.upkeep != "penalty" or options.strength == 0:
        return {}
    return {name: options.strength * penalty(a, options.kind)[1] for name, a in matrices.items()}


def keep_(options: UpkeepOptions, matrix: Tensor) -> None:
    """Move ``matrix`` towards an orthogonal one in place: "decoupled" or "retract"."""
    if options.upkeep == "decoupled":
        matrix -= options.strength / 4 * penalty(matrix, options.kind)[1]
    else:
        matrix.copy_(retract(matrix, _STEPS if float(stretch(matrix)) < _NEAR else None))


def sweep_(options: UpkeepOptions, matrix: Tensor, start: int, count: int) -> int:
    """Move ``count`` columns of ``matrix`` from ``start`` on, in place; where to go on, at 0 after the last."""
    count = min(count, len(matrix) - start)
    matrix[:, start : start + count] -= options.strength * penalty_block(matrix, start, count, options.kind)
    return (start + count) % len(matrix)
