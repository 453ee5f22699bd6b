"""Paired comparisons: every condition at the same draws, ranges and seed."""

from __future__ import annotations

from dataclasses import dataclass, field

from equipoise.papers.inorm.conditions import Scale, draws, plain
from equipoise.train import Run

__all__ = ["Paired"]


@dataclass(frozen=True)
class Paired:
    """Conditions side by side; a run is trained once, whichever experiment asks for it.

    Args:
        conditions: their names
        scale: how much is trained
    """

    conditions: tuple[str, ...] = ("ln", "none", "inorm", "center", "lateral", "full")
    scale: Scale = field(default_factory=Scale)

    def runs(self, seed: int) -> list[Run]:
        """Draw by draw, so that what has finished at any time is whole pairs."""
        scale = self.scale
        return [
            plain(name, draw, shift, seed, scale)
            for draw in draws(scale.draws, seed=scale.draw_seed, upper=scale.upper)
            for shift in scale.ranges
            for name in self.conditions
        ]
