"""Running loss and accuracy, and the watch for a loss that is not finite, without waiting for the device."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from equipoise.errors import RunError
from equipoise.train.ranks import ALONE, Ranks

__all__ = ["NotFinite", "Totals", "all_finite", "bad_loss", "bad_weights", "named", "watched"]


class NotFinite(RunError):
    """The loss or the weights became NaN or infinite."""


class Totals:
    """Sums over the samples seen so far in an epoch: loss times count, right answers, count.

    A sample counts among the ``top`` k where fewer than k other classes score as high as its own, or higher.

    On the CPU ``add`` raises ``NotFinite`` at once. Elsewhere the first bad step stays in a tensor until
    ``check``, because reading it would make every step wait for the device. Without ``labelled`` there is nothing to
    be right about.
    """

    def __init__(self, device: torch.device, *, labelled: bool = True, top: int = 0) -> None:
        self._labelled, self._top, self._device = labelled, top, device
        wide = torch.float32 if device.type == "mps" else torch.float64  # MPS has no float64
        self._loss = torch.zeros((), dtype=wide, device=device)
        self._right = torch.zeros((), dtype=wide, device=device)
        self._among = torch.zeros((), dtype=wide, device=device)
        self._first_bad = torch.full((), -1, dtype=torch.int64, device=device)
        self._immediate = device.type == "cpu"
        self.count = 0

    def reset(self) -> None:
        """Start the next epoch."""
        self._loss.zero_()
        self._right.zero_()
        self._among.zero_()
        self.count = 0

    def add(self, loss: Tensor, output: Tensor, y: Tensor, *, step: int, ranks: Ranks = ALONE) -> Tensor:
        """Add one batch: its mean loss (scalar), output (B, C) and labels (B,) or target; ``step`` counts from 1.

        Each of ``ranks`` gives its part of the batch, and counts the whole; returns the whole batch's mean loss.
        """
        loss = self.include(loss, output, y, ranks=ranks)
        if self._immediate:
            if not math.isfinite(loss.item()):
                raise bad_loss(step)
        else:
            bad = (self._first_bad < 0) & ~torch.isfinite(loss)
            self._first_bad.masked_fill_(bad, step)
        return loss

    def include(self, loss: Tensor, output: Tensor, y: Tensor, *, ranks: Ranks = ALONE) -> Tensor:
        """Add one batch without watching its loss."""
        if ranks.several:
            part = Totals(self._device, labelled=self._labelled, top=self._top)
            part.include(loss, output, y)
            total, right, among, count = ranks.sum_(
                torch.stack([part._loss, part._right, part._among, part._loss.new_tensor(part.count)])
            )
            self._loss.add_(total)
            self._right.add_(right)
            self._among.add_(among)
            self.count += int(count)
            return total / count
        self._loss.add_(loss, alpha=len(y))
        if self._labelled:
            self._right.add_((output.argmax(1) == y).sum())
            if self._top:
                own = output.gather(1, y[:, None])
                self._among.add_(((~(output < own)).sum(1) <= self._top).sum())  # NaN is never among them
        self.count += len(y)
        return loss

    def check(self) -> None:
        """Raise ``NotFinite`` naming the first bad step, if there was one (waits for the device)."""
        first = int(self._first_bad)
        if first >= 0:
            raise bad_loss(first)

    def means(self) -> tuple[float, float]:
        """Mean loss and accuracy so far (waits for the device); NaN before the first batch, and without labels."""
        if self.count == 0:
            return math.nan, math.nan
        return self._loss.item() / self.count, self._right.item() / self.count if self._labelled else math.nan

    def among(self) -> float:
        """The share of samples whose class is among the ``top`` highest scores (waits for the device)."""
        return self._among.item() / self.count if self.count and self._top else math.nan

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"loss": self._loss.item(), "right": self._right.item(), "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._loss.fill_(state["loss"])
        self._right.fill_(state["right"])
        self.count = int(state["count"])


def named(name: str, means: tuple[float, float]) -> dict[str, float]:
    """``name_loss`` and ``name_accuracy``; without labels the loss alone."""
    loss, accuracy = means
    return {f"{name}_loss": loss} | ({} if math.isnan(accuracy) else {f"{name}_accuracy": accuracy})


def bad_loss(step: int) -> NotFinite:
    """The error for a loss that was not finite at step ``step`` (from 1)."""
    return NotFinite(f"the loss is not finite at step {step}; lower lr or set clip_norm")


def bad_weights(step: int) -> NotFinite:
    """The error for weights that are not finite when ``step`` steps are done."""
    return NotFinite(f"the weights are not finite after step {step}; lower lr or set clip_norm")


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether no tensor holds NaN or infinity (waits for the device once)."""
    checks = [torch.isfinite(tensor).all() for tensor in tensors]
    return not checks or bool(torch.stack(checks).all())


@contextlib.contextmanager
def watched(weights: Callable[[], Iterable[Tensor]], step: int) -> Iterator[None]:
    """Within the block, whatever fails at weights that are not finite raises ``NotFinite`` for ``step``.

    A decomposition of such weights says something else of them; its words come behind. A lack of memory stays one.
    """
    try:
        yield
    except (NotFinite, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        whole = True
        with contextlib.suppress(RuntimeError):  # of a device that is gone
            whole = all_finite(weights())
        if whole:
            raise
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise NotFinite(f"{bad_weights(step)} (it said {said})") from error
