"""What a network over time knows after each frame, run a frame at a time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from equipoise.errors import InputError
from equipoise.measure.activity import untouched
from equipoise.measure.catalogue import Measure, measures

__all__ = ["streaming"]


def streaming(rule: Any, x: Tensor, y: Tensor, generator: torch.Generator | None = None) -> dict[str, float]:
    """Accuracy on the batch x (B, ...), y (B,) after each frame, the states of all cells carried from one to the next.

    ``streaming/<t>``: by the mean of the outputs at frames 1 to t (``OverTime.stream``), in [0, 1]; ``streaming``: by
    all of them, the accuracy of whole sequences. In eval mode. A network without ``frames`` and ``stream`` has no
    numbers. Raises ``InputError`` for y that are no labels.
    """
    model = rule.model
    if not (hasattr(model, "stream") and hasattr(model, "frames")):
        return {}
    if y.ndim != 1 or y.is_floating_point():
        raise InputError(f"the measure 'streaming' scores classes, and the targets are {tuple(y.shape)} {y.dtype}")
    found: dict[str, float] = {}
    with untouched(model, x), torch.no_grad():
        model.eval()
        total, states = torch.zeros(()), None
        for t, frame in enumerate(model.frames(x), 1):
            scores, states = model.stream(frame, states)
            total = total + scores
            found[f"streaming/{t}"] = float((total.argmax(1) == y).double().mean())
    return found | {"streaming": found[f"streaming/{len(found)}"]}


_ABOUT = "accuracy after each frame of a network over time that is run a frame at a time"
measures.register("streaming")(Measure("streaming", streaming, "epoch", _ABOUT))
