"""What the members of a population see: each its own order, augmentation, light and noise, as it would alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from equipoise import data
from equipoise.data import Luminance
from equipoise.population import widths
from equipoise.population.views import View
from equipoise.randomness import derive
from equipoise.train.parts import Parts

__all__ = ["Feed"]


class Feed:
    """The batches of all members: step s of member k is what its solo run would see at step s."""

    def __init__(self, parts: Sequence[Parts]) -> None:
        self.parts = parts
        lead = parts[0]
        self.device, self.size, self.count = lead.device, lead.run.batch_size, len(lead.train)
        self.per_epoch = -(-self.count // self.size)
        splits = [one.train for one in parts]
        views = [split for split in splits if isinstance(split, View)]
        # One gather for all members, where they cut up one set of images.
        self.source = views[0].source if len(views) == len(splits) else None
        if any(view.source is not self.source for view in views):
            self.source = None
        self.views = views
        self._cpu, self._noise = torch.Generator(), torch.Generator(self.device)
        self._epoch, self._rows = -1, torch.empty(0)
        self._silent = False
        self._blocks = [widths.blocks(one.rule) for one in parts]

    def _begin(self, epoch: int) -> None:
        """The rows (M, N) in the order in which each member visits them in this epoch."""
        where = self.parts[0].train.labels.device
        rows = [data.order(self.count, seed=one.run.seed, epoch=epoch).to(where) for one in self.parts]
        if self.source is not None:
            rows = [view.index.index_select(0, row) for view, row in zip(self.views, rows, strict=True)]
        self._epoch, self._rows = epoch, torch.stack(rows)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """x (M, B, ...) and what the loss compares the output with, y (M, B, ...), of step ``step`` (from 0)."""
        epoch, place = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            self._begin(epoch)
        index = self._rows[:, place * self.size : (place + 1) * self.size]
        lead, members = self.parts[0], len(self.parts)
        if self.source is not None:
            x, y = lead.batch(self.source, index.reshape(-1))
            x, y = x.unflatten(0, (members, -1)), y.unflatten(0, (members, -1))
        else:
            pairs = [one.batch(one.train, rows) for one, rows in zip(self.parts, index, strict=True)]
            x, y = (torch.stack(both) for both in zip(*pairs, strict=True))
        x = self._changed(x, step)
        return x, (x.flatten(2) if lead.loss.of_input else y)

    def _changed(self, x: Tensor, step: int) -> Tensor:
        """``x`` augmented and lit, each member by its own streams."""
        if self.parts[0].augment is not None:
            return torch.stack([self._alone(one, rows, step) for one, rows in zip(self.parts, x, strict=True)])
        laws = [one.light or Luminance() for one in self.parts]
        widest = max(laws, key=lambda law: law.contrast)
        if all(one.light is None for one in self.parts):
            return x
        drawn = [
            law.draw(x.shape[1], self._cpu.manual_seed(derive(one.run.seed, "light", step)))
            for law, one in zip(laws, self.parts, strict=True)
        ]
        return widest.apply(x.flatten(0, 1), torch.cat(drawn, 1)).view(x.shape)

    def _alone(self, one: Parts, x: Tensor, step: int) -> Tensor:
        assert one.augment is not None
        x = one.augment(x, self._cpu.manual_seed(derive(one.run.seed, "augment", step)))
        if one.light is not None:
            x = one.light(x, self._cpu.manual_seed(derive(one.run.seed, "light", step)))
        return x

    def noise(self, x: Tensor, step: int) -> dict[str, Tensor]:
        """Every member's noise of this step, stacked; a rule and a network without any are asked once."""
        if self._silent:
            return {}
        drawn = [
            one.rule.draw(rows, self._noise.manual_seed(derive(one.run.seed, "noise", step)))
            for one, rows in zip(self.parts, x, strict=True)
        ]
        self._silent = not drawn[0]
        return widths.joined(drawn, self._blocks)[0]
