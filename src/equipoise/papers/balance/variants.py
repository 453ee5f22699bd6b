"""Studies that the balance paper leaves open: convolutions, starts, stopping, ranges, powers, mixed regularisers."""

from __future__ import annotations

from dataclasses import dataclass, field

from equipoise.papers.balance.networks import Scale, network, plain
from equipoise.train import Run

__all__ = ["Channels", "Mixed", "Powers", "Range", "Starts", "Stopping"]


@dataclass(frozen=True)
class Channels:
    """Do the channels of a convolutional network come to balance under weight decay? The paper says no (G.3).

    Args:
        networks: their names
        scale: how much is trained
    """

    networks: tuple[str, ...] = ("convolutional",)
    scale: Scale = field(default_factory=Scale)

    def runs(self, seed: int) -> list[Run]:
        """For each network: no regulariser, L2."""
        return [
            plain(one, seed, self.scale, experiment="balance/cnn", decay=decay)
            for one in self.networks
            for decay in ({}, {"l2": network(one).l2})
        ]


@dataclass(frozen=True)
class Starts:
    """Is a balanced start a better one, or only one that suits a learning rate? Every start at every rate.

    Beside the network as it is drawn and its balanced twin stands a control: each weight and bias has the balanced
    one's norm, and nothing else of it.

    Args:
        networks: their names
        powers: p of the costs |w|^p that the starts are balanced under
        rates: learning rates; each network's own if none are given
        scale: how much is trained
    """

    networks: tuple[str, ...] = ("dense",)
    powers: tuple[float, ...] = (2.0, 1.0)
    rates: tuple[float, ...] = ()
    scale: Scale = field(default_factory=Scale)

    def runs(self, seed: int) -> list[Run]:
        """For each network and rate: as drawn, then balanced and the control under each cost."""
        starts = [("none", 2.0), *((start, float(p)) for p in self.powers for start in ("balance", "norms"))]
        return [
            plain(
                one,
                seed,
                self.scale,
                experiment="balance/init",
                lr=rate,
                balance_start=start,
                balance_p=p,
                trace_every=0,
            )
            for one in self.networks
            for rate in self.rates or network(one).rates
            for start, p in starts
        ]


@dataclass(frozen=True)
class Stopping:
    """Does balance tell when a regularised training may stop? Followed after each epoch, beside the test loss.

    Args:
        networks: their names
        factors: of each network's own strength of L2
        scale: how much is trained
    """

    networks: tuple[str, ...] = ("dense",)
    factors: tuple[float, ...] = (0.3, 1.0)
    scale: Scale = field(default_factory=Scale)

    def runs(self, seed: int) -> list[Run]:
        """One run for each network and strength, to its last epoch: where it would have stopped is read off."""
        changes = {"experiment": "balance/stopping", "measures": ["balance"], "trace_every": 0}
        return [
            plain(one, seed, self.scale, decay={"l2": factor * network(one).l2}, **changes)
            for one in self.networks
            for factor in self.factors
        ]


@dataclass(frozen=True)
class Range:
    """What balancing does for the range of trained weights, and for their rounding to eight bits.

    Args:
        networks: their names
        samples: held-out images on which the rounded network is compared
        scale: how much is trained
    """

    networks: tuple[str, ...] = ("dense", "convolutional-mnist")
    samples: int = 10_000
    scale: Scale = field(default_factory=Scale)

    def runs(self, seed: int) -> list[Run]:
        """For each network: no regulariser, L2."""
        changes = {"experiment": "balance/range", "measures": ["int8"], "measure_batch": self.samples, "trace_every": 0}
        return [
            plain(one, seed, self.scale, decay=decay, **changes)
            for one in self.networks
            for decay in ({}, {"l2": network(one).l2 / 10})
        ]


@dataclass(frozen=True)
class Powers:
    """Do units of another degree find their own balance, IN = c OUT, under weight decay? Squared ReLU has c = 2 (E.6).

    Args:
        networks: their names
        scale: how much is trained
    """

    networks: tuple[str, ...] = ("squares",)
    scale: Scale = field(default_factory=Scale)

    def runs(self, seed: int) -> list[Run]:
        """For each network: no regulariser, L2."""
        return [
            plain(one, seed, self.scale, experiment="balance/bipu", decay=decay)
            for one in self.networks
            for decay in ({}, {"l2": network(one).l2})
        ]


@dataclass(frozen=True)
class Mixed:
    """Under which cost does a network balance that is trained with L1, with L2, or with both at once?

    Args:
        networks: their names
        scale: how much is trained
    """

    networks: tuple[str, ...] = ("dense",)
    scale: Scale = field(default_factory=Scale)

    def runs(self, seed: int) -> list[Run]:
        """For each network: no regulariser, L2, L1, both at half their strength."""
        runs = []
        for one in self.networks:
            l2, l1 = network(one).l2, network(one).l1
            for decay in ({}, {"l2": l2}, {"l1": l1}, {"l1": l1 / 2, "l2": l2 / 2}):
                runs.append(plain(one, seed, self.scale, experiment="balance/mixed", decay=decay))
        return runs
