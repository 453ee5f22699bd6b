"""Watching a rule while it trains: measures every k steps, in any training loop, without changing the training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Protocol

import torch
from torch import Tensor

from equipoise.errors import InputError
from equipoise.measure.activity import untouched
from equipoise.measure.catalogue import Measurable, Measure
from equipoise.measure.catalogue import measures as registry
from equipoise.randomness import generator

__all__ = ["Watch", "watch"]


class Watchable(Measurable, Protocol):
    """What watching needs of a rule: a list of functions (x, y, step) that every ``backward`` calls at its end."""

    seed: int
    callbacks: list[Callable[..., None]]


class Watch:
    """Measures of a rule in training, as they come; made by ``watch``.

    rows: one dict a measured step, with "step" (the updates done before it), "loss", and what the measures gave.
    """

    def __init__(
        self, rule: Watchable, every: int, measures: Sequence[Measure], batch: tuple[Tensor, Tensor] | None
    ) -> None:
        self.rule, self.every, self.measures, self.batch = rule, every, tuple(measures), batch
        self.rows: list[dict[str, float]] = []
        self.step = 0
        self._losses: list[float] = []
        self._waiting: list[Tensor] = []
        rule.callbacks.append(self._hear)

    @property
    def losses(self) -> list[float]:
        """The loss of every step so far, measured or not."""
        self._read()
        return list(self._losses)

    def series(self, name: str) -> list[float]:
        """The values of ``name`` over the rows that have it; "step" gives the steps.

        Raises ``InputError`` where no row has it.
        """
        found = [row[name] for row in self.rows if name in row]
        if not found:
            known = sorted({key for row in self.rows for key in row})
            raise InputError(f"nothing is named '{name}' in {len(self.rows)} rows; there is: {', '.join(known) or '-'}")
        return found

    def stop(self) -> None:
        """Watch no longer; the rows stay. A second call does nothing."""
        if self._hear in self.rule.callbacks:
            self.rule.callbacks.remove(self._hear)

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _hear(self, x: Tensor, y: Tensor, step: Any) -> None:
        self._waiting.append(step.loss.detach())
        if self.step % self.every == 0:
            x, y = self.batch or (x, y)
            if x.shape[0]:
                self._read()
                self.rows.append({"step": self.step, "loss": self._losses[-1], **self._measured(x.detach(), y)})
        self.step += 1

    def _read(self) -> None:
        """Losses become numbers in one go, as each wait for a device costs time."""
        if self._waiting:
            self._losses += torch.stack(self._waiting).tolist()
            self._waiting.clear()

    def _measured(self, x: Tensor, y: Tensor) -> dict[str, float]:
        """What each measure gives, with dropout masks of a stream of its own for every step."""
        found: dict[str, float] = {}
        for measure in self.measures:
            noise = generator(self.rule.seed, "watch", measure.name, self.step, device=x.device)
            with untouched(self.rule.model, x):
                found |= measure(self.rule, x, y, noise)
        return found


def watch(
    rule: Any,
    every: int = 1,
    measures: Sequence[str | Measure] = ("angles", "activity", "norms"),
    batch: tuple[Tensor, Tensor] | None = None,
) -> Watch:
    """Measure ``rule`` at every ``every``-th of its ``backward`` calls, from the first on, whatever loop calls them.

    ::

        with measure.watch(rule, every=100) as seen:
            train()
        seen.series("angle")

    Watching begins at once and ends with the block, or with ``.stop()``. A row is taken at the end of ``backward``,
    before the optimiser's step, on the batch that is being trained, or on ``batch`` = (x, y) where one is given.
    Training goes on to the same bits as without: weights, gradients, buffers, flags and the global random state stay
    untouched. measures: names in ``measure.measures``, or measures of your own. "angles" costs two gradients a row.

    Raises ``InputError`` for an ``every`` below 1, an unknown measure, a batch of two lengths, or a rule without
    ``callbacks``.
    """
    if isinstance(every, bool) or not isinstance(every, int) or every < 1:
        raise InputError(f"every is {every!r}; give a whole number of steps, 1 or more")
    if not isinstance(getattr(rule, "callbacks", None), list):
        raise InputError(f"a rule from rules.make can be watched; {type(rule).__name__} has no list 'callbacks'")
    if batch is not None and len(batch[0]) != len(batch[1]):
        raise InputError(f"the batch to watch has {len(batch[0])} samples and {len(batch[1])} labels")
    names = [measures] if isinstance(measures, (str, Measure)) else measures
    return Watch(rule, every, [m if isinstance(m, Measure) else registry[m] for m in names], batch)
