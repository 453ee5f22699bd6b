"""A run that trains nothing: stochastic balancing of the network at its start, in many random orders at once."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from torch import Tensor

from equipoise.balance.orders import Orders
from equipoise.randomness import generator
from equipoise.train import storage
from equipoise.train.balancing import scaling_graph
from equipoise.train.loop import Loop
from equipoise.train.machine import Machine
from equipoise.train.parts import Parts
from equipoise.train.progress import Progress
from equipoise.train.stop import Stopper

__all__ = ["Sweeps"]


class Sweeps(Loop):
    """``balance_repeats`` random orders side by side; a step is a unit balanced in each, an epoch a sweep over all.

    Sweep e takes its orders from the stream (seed, "orders", e). After each, and in ``trace.jsonl`` every
    ``trace_every`` steps, it tells of the repeats' Euclidean distance to the balanced weights and of their norms: mean,
    standard deviation over the repeats, and the largest. The weights of the result are the first repeat's.
    """

    def __init__(self, parts: Parts, folder: Path, machine: Machine, *, progress: Progress, stopper: Stopper) -> None:
        super().__init__(parts, folder, machine, progress=progress, stopper=stopper)
        run = parts.run
        self.orders = Orders(scaling_graph(parts), p=run.balance_p, repeats=run.balance_repeats)
        self.per_epoch = len(self.orders.units)
        self.total = self.per_epoch * run.epochs
        self.trace: list[dict[str, Any]] = []

    def weights(self) -> dict[str, Tensor]:
        """The state dict with the weights at which the first repeat has arrived."""
        twin = copy.deepcopy(self.parts.model)
        found = self.orders.weights()
        for name, parameter in twin.named_parameters():
            parameter.data = found.get(name, parameter.data)
        return twin.state_dict()

    def _steps(self) -> str:
        epoch, every = len(self.history), self.parts.run.trace_every
        end = (epoch + 1) * self.per_epoch
        order = self.orders.order(generator(self.parts.run.seed, "orders", epoch))
        while self.step < end:
            if every and self.step % every == 0:
                self.trace.append(self._row())
            self.orders.visit(order[:, self.step - epoch * self.per_epoch])
            self.step += 1
            reason = self._between()
            if reason:
                return reason
        return ""

    def _close(self) -> str:
        row = {"epoch": len(self.history) + 1, **self._row(), "seconds": self.seconds}
        self.history.append(row)
        storage.append_line(self.folder / "metrics.jsonl", row)
        if self.parts.run.trace_every:
            last = [self._row()] if len(self.history) == self.parts.run.epochs else []
            storage.write_lines(self.folder / "trace.jsonl", [*self.trace, *last])
        self.progress.epoch(row)
        return ""

    def _row(self) -> dict[str, Any]:
        row: dict[str, Any] = {"step": self.step, "sweep": self.step / self.per_epoch}
        for name, values in (("distance", self.orders.distance()), ("norm", self.orders.norm())):
            sd = float(values.std()) if len(values) > 1 else 0.0
            row |= {name: float(values.mean()), f"{name}_sd": sd, f"{name}_max": float(values.max())}
        return row | {"balanced_norm": self.orders.balanced_norm}

    def _state(self) -> dict[str, Any]:
        return super()._state() | {"log_scales": self.orders.log_scales, "trace": self.trace}

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        super().restore(saved)
        self.orders.log_scales, self.trace = saved["log_scales"], list(saved["trace"])
