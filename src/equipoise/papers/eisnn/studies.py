"""Variants of spiking networks side by side, as lists of runs."""

from __future__ import annotations

from dataclasses import dataclass, field

from equipoise.papers.eisnn.conditions import Scale, plain
from equipoise.train import Run

__all__ = ["Compared"]


@dataclass(frozen=True)
class Compared:
    """Conditions side by side on networks.

    Args:
        networks: their names, as vgg8 or resnet18
        conditions: their names, as ei, batch or no-division
        scale: how much is trained
        experiment: what the runs belong to; the network's own if not given
    """

    networks: tuple[str, ...] = ("vgg8",)
    conditions: tuple[str, ...] = ("ei", "batch")
    scale: Scale = field(default_factory=Scale)

    def runs(self, seed: int) -> list[Run]:
        """For each network, every condition."""
        return [plain(where, what, seed, self.scale) for where in self.networks for what in self.conditions]
