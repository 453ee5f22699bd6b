"""Measuring a model between epochs: loss and accuracy on whole splits, angles to backpropagation."""

from __future__ import annotations

import math

import torch

from equipoise import data, measure
from equipoise.train.parts import Parts
from equipoise.train.stop import Stopper
from equipoise.train.totals import Totals

__all__ = ["angles", "evaluate"]

_ELEMENTS = 2**22
Result = tuple[float, float]


@torch.no_grad()
def evaluate(parts: Parts, split: data.Split, *, stopper: Stopper | None = None) -> tuple[float, float] | None:
    """Mean loss and accuracy of the model on ``split``, in eval mode and large batches.

    None when ``stopper`` asks to stop on the way. A loss that is not finite is returned as it is.
    """
    rows = max(parts.run.batch_size, min(1024, _ELEMENTS // math.prod(split.shape)))
    totals = Totals(parts.device)
    parts.model.eval()
    for start in range(0, len(split), rows):
        if stopper is not None and stopper.reason:
            return None
        index = torch.arange(start, min(start + rows, len(split)), device=split.labels.device)
        x, y = parts.batch(split, index)
        with parts.autocast():
            output = parts.model(x)
        totals.include(parts.loss(output.to(x.dtype), y), output, y)
    return totals.means()


def angles(parts: Parts, *, count: int, seed: int) -> dict[str, float]:
    """Degrees between what the rule writes in training and backpropagation, on ``count`` held-out samples.

    ``angle`` is the mean over the hidden layers, ``angle/<layer>`` one layer. The samples come from the
    validation split, or from the test set where nothing is held out.
    """
    split = parts.validation if parts.validation is not None else parts.test
    index = torch.arange(min(count, len(split)), device=split.labels.device)
    x, y = parts.batch(split, index)
    parts.model.train()
    noise = torch.Generator(parts.device).manual_seed(seed)
    with parts.autocast():
        found = measure.alignment(parts.rule, x, y, generator=noise)
    return {"angle": float(found.hidden)} | {f"angle/{layer}": float(degrees) for layer, degrees in found.items()}
