"""Measuring a model between epochs: loss and accuracy on whole splits, angles to backpropagation."""

from __future__ import annotations

import math
from collections.abc import Container

import torch
from torch import Tensor

from equipoise import data, measure
from equipoise.errors import InputError
from equipoise.randomness import derive
from equipoise.train.parts import Parts
from equipoise.train.stop import Stopper
from equipoise.train.totals import Totals, named

__all__ = ["angles", "evaluate", "measured", "measured_on"]

_ELEMENTS = 2**22


@torch.no_grad()
def evaluate(parts: Parts, split: data.Split, name: str, *, stopper: Stopper | None = None) -> dict[str, float] | None:
    """``name_loss``, ``name_accuracy`` and, with ``top_k``, ``name_top5``, of the model on ``split``.

    In eval mode and large batches, which ranks share; without labels the loss alone. None when ``stopper`` asks to stop
    on the way. A loss that is not finite is returned as it is.
    """
    rows = max(parts.run.batch_size, min(1024, _ELEMENTS // math.prod(split.shape))) * parts.ranks.size
    top = parts.run.top_k
    totals = Totals(parts.device, labelled=not parts.loss.of_input, top=top)
    parts.model.eval()
    for start in range(0, len(split), rows):
        if stopper is not None and stopper.reason:
            return None
        index, following = (
            torch.arange(first, min(first + rows, len(split)), device=split.labels.device)
            for first in (start, min(start + rows, len(split)))
        )
        ranks = parts.ranks.over(len(index))
        index, following = index[ranks.rows(len(index))], following[ranks.rows(len(following))]
        x, y = parts.batch(split, index)
        split.ahead(following)
        y = parts.target(x, y)
        with parts.autocast():
            output = parts.model(x)
        totals.include(parts.loss.value(output.to(x.dtype), y), output, y, ranks=ranks)
    found = named(name, totals.means())
    return found | ({f"{name}_top{top}": totals.among()} if top and not parts.loss.of_input else {})


def angles(parts: Parts, *, count: int, seed: int) -> dict[str, float]:
    """Degrees between what the rule writes in training and backpropagation, on ``count`` held-out samples.

    ``angle`` is the mean over the hidden layers, ``angle/<layer>`` one layer.
    """
    x, y = _held_out(parts, count)
    parts.model.train()
    noise = torch.Generator(parts.device).manual_seed(seed)
    with parts.autocast():
        found = measure.alignment(parts.rule, x, y, generator=noise)
    return {"angle": float(found.hidden)} | {f"angle/{layer}": float(degrees) for layer, degrees in found.items()}


def measured(parts: Parts, *, last: bool, seed: int, taken: Container[str]) -> dict[str, float]:
    """What the run's ``measures`` say of its rule on held-out samples; ``last``: this is the last epoch.

    The model is in training mode. Raises ``InputError`` for a measure that gives a name in ``taken``, or another
    measure's.
    """
    return _asked(parts, *_held_out(parts, parts.run.measure_batch), last=last, seed=seed, taken=taken)


def measured_on(parts: Parts, x: Tensor, y: Tensor, *, seed: int, taken: Container[str]) -> dict[str, float]:
    """What those of the run's ``measures`` that may be followed say of its rule on the batch (x, y)."""
    return _asked(parts, x, y, last=False, seed=seed, taken=taken)


def _asked(parts: Parts, x: Tensor, y: Tensor, *, last: bool, seed: int, taken: Container[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name in parts.run.measures:
        one = measure.measures[name]
        if one.when == "end" and not last:
            continue
        parts.model.train()
        noise = torch.Generator(parts.device).manual_seed(derive(seed, name))
        with parts.autocast():
            values = one.function(parts.rule, x, y, noise)
        for key, value in values.items():
            if key in taken or key in found:
                raise InputError(f"the measure '{name}' gives '{key}', which a run has already; rename it")
            found[key] = float(value)
    return found


def _held_out(parts: Parts, count: int) -> tuple[Tensor, Tensor]:
    """The first ``count`` samples of the validation split, or of the test set where nothing is held out."""
    split = parts.validation if parts.validation is not None else parts.test
    x, y = parts.batch(split, torch.arange(min(count, len(split)), device=split.labels.device))
    return x, parts.target(x, y)
