"""The paper's three simulations as studies: regularised training, unregularised training, stochastic balancing."""

from __future__ import annotations

from dataclasses import dataclass, field

from equipoise.papers.balance.networks import Scale, network, plain
from equipoise.train import Run

__all__ = ["PAPER", "Convergence", "Regularised", "Unbalanced"]

PAPER = ("autoencoder", "local")


@dataclass(frozen=True)
class Regularised:
    """SGD on the error alone and on the error with a regulariser (Figure 3).

    Args:
        networks: their names
        scale: how much is trained
    """

    networks: tuple[str, ...] = PAPER
    scale: Scale = field(default_factory=Scale)

    def runs(self, seed: int) -> list[Run]:
        """For each network: no regulariser, L2, L1."""
        name = "balance/regularised"
        return [
            plain(one, seed, self.scale, experiment=name, decay=decay)
            for one in self.networks
            for decay in ({}, {"l2": network(one).l2}, {"l1": network(one).l1})
        ]


@dataclass(frozen=True)
class Unbalanced:
    """SGD on the error alone from a balanced start, at several learning rates (Figure 4).

    Args:
        networks: their names
        rates: learning rates; each network's own if none are given
        scale: how much is trained
    """

    networks: tuple[str, ...] = PAPER
    rates: tuple[float, ...] = ()
    scale: Scale = field(default_factory=Scale)

    def runs(self, seed: int) -> list[Run]:
        """For each network, one run at each rate."""
        changes = {"experiment": "balance/unbalanced", "balance_start": "balance"}
        return [
            plain(one, seed, self.scale, lr=rate, **changes)
            for one in self.networks
            for rate in self.rates or network(one).rates
        ]


@dataclass(frozen=True)
class Convergence:
    """Stochastic balancing from one random start, repeated in other orders (Figure 5). Nothing is trained.

    A sweep balances every unit once, in an order of its own in each repeat; the paper, which only speaks of random
    visits, leaves this open.

    Args:
        networks: their names
        repeats: random orders, for each network
        sweeps: over all units
        points: of the curves, in each sweep
    """

    networks: tuple[str, ...] = PAPER
    repeats: tuple[int, ...] = (1000, 1000)
    sweeps: int = 60
    points: int = 4

    def runs(self, seed: int) -> list[Run]:
        """One run for each network; ``repeats`` are given in the order of ``networks``, the last one for those left."""
        counts = [self.repeats[min(place, len(self.repeats) - 1)] for place in range(len(self.networks))]
        return [
            plain(
                one,
                seed,
                Scale(epochs=self.sweeps),
                experiment="balance/convergence",
                balance_repeats=count,
                trace_every=max(1, network(one).units // self.points),
            )
            for one, count in zip(self.networks, counts, strict=True)
        ]
