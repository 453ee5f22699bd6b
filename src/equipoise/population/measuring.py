"""Loss and accuracy of all members on their splits, each as a solo run would measure it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from equipoise.data import Split
from equipoise.population.core import Core, Tensors
from equipoise.population.views import View
from equipoise.train.parts import Parts
from equipoise.train.stop import Stopper
from equipoise.train.totals import named

__all__ = ["evaluate"]

_ELEMENTS = 2**22
# Values of images that all members together are given at once.
_AT_ONCE = 2**27


@torch.no_grad()
def evaluate(
    core: Core, held: Tensors, parts: Sequence[Parts], name: str, *, stopper: Stopper | None = None
) -> list[dict[str, float]] | None:
    """Each member's ``name_loss``, ``name_accuracy`` (and top k) on its split: train_set, validation or test.

    In eval mode and large batches. None when ``stopper`` asks to stop on the way.
    """
    splits = [one.train if name == "train_set" else getattr(one, name) for one in parts]
    lead, members, common = parts[0], len(parts), _one_split(splits)
    top, labelled, count = lead.run.top_k, not lead.loss.of_input, len(splits[0])
    size = math.prod(splits[0].shape)
    rows = max(lead.run.batch_size, min(1024, _ELEMENTS // size))
    rows = rows if common else max(1, min(rows, _AT_ONCE // (size * members)))
    wide = torch.float32 if lead.device.type == "mps" else torch.float64
    loss, right, among = (torch.zeros(members, dtype=wide, device=lead.device) for _ in range(3))
    for start in range(0, count, rows):
        if stopper is not None and stopper.reason:
            return None
        index = torch.arange(start, min(start + rows, count), device=splits[0].labels.device)
        if common:
            x, y = lead.batch(splits[0], index)
            target = lead.target(x, y).expand(members, *lead.target(x, y).shape)
        else:
            pairs = [one.batch(split, index) for one, split in zip(parts, splits, strict=True)]
            x, y = (torch.stack(both) for both in zip(*pairs, strict=True))
            target = y if labelled else x.flatten(2)
        output = core.scores(held, x, shared=common)
        loss.add_(torch.func.vmap(lead.loss.value)(output.to(x.dtype), target).to(wide), alpha=len(index))
        if labelled:
            right.add_((output.argmax(-1) == target).sum(-1))
            own = output.gather(-1, target[..., None])
            among.add_(((~(output < own)).sum(-1) <= top).sum(-1))
    found = []
    for k in range(members):
        accuracy = float(right[k]) / count if labelled else math.nan
        row = named(name, (float(loss[k]) / count, accuracy))
        found.append(row | ({f"{name}_top{top}": float(among[k]) / count} if top and labelled else {}))
    return found


def _one_split(splits: Sequence[Split]) -> bool:
    """Whether all of these are the same rows of the same images."""
    first = splits[0]
    return all(
        isinstance(split, View)
        and isinstance(first, View)
        and split.source is first.source
        and torch.equal(split.index, first.index)
        for split in splits
    )
