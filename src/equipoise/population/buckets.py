"""Which runs of a sweep may train together, told from their specs, and from the layers where models' texts differ."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from torch import nn

from equipoise import models
from equipoise.population.alike import FREE, SCALARS, Refused, check_models
from equipoise.train import Run, checks

__all__ = ["LIMIT", "SLACK", "buckets", "by_width"]

# Members of one population at most: each keeps a locked file open.
LIMIT = 256
# Parameters of a population, padding included, for one that is not padding, at most.
SLACK = 4


def buckets(runs: Sequence[Run]) -> list[list[Run]]:
    """``runs`` in groups of up to ``LIMIT`` that may be a population each, in the order of their first members.

    Runs whose models differ in widths alone share a group, neighbours in size first, as long as padding is no more
    than ``SLACK`` allows.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(_kind(run), []).append(run)
    places = {run.hash: place for place, run in reversed(list(enumerate(runs)))}
    found = [bucket for group in groups.values() for alike in _alike(group) for bucket in _split(alike)]
    return sorted(found, key=lambda bucket: min(places[run.hash] for run in bucket))


def by_width(runs: Sequence[Run]) -> list[list[Run]]:
    """``runs`` in groups of one model each."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(_text(run), []).append(run)
    return list(groups.values())


def _kind(run: Run) -> str:
    """One text for all runs that share what members share, the model aside."""
    fields: dict[str, Any] = {name: value for name, value in run.to_dict().items() if name not in FREE}
    fields["options"] = {key: value for key, value in run.options.items() if key not in SCALARS}
    fields["nesterov"] = bool(run.optimizer_options.get("nesterov"))
    return checks.canonical(fields)


def _text(run: Run) -> str:
    """The model's text without the weights of losses, in which members may differ."""
    return re.sub(rf",({'|'.join(sorted(SCALARS))})=[^,]*", "", run.model)


def _alike(runs: Sequence[Run]) -> list[list[tuple[Run, int]]]:
    """``runs`` with their models' sizes, in groups of one architecture each; sizes of a single model are all 1."""
    texts = by_width(runs)
    if len(texts) == 1:
        return [[(run, 1) for run in runs]]
    found: list[tuple[nn.Module | None, list[tuple[Run, int]]]] = []
    for group in texts:
        model = _model(group[0])
        size = 1 if model is None else sum(parameter.numel() for parameter in model.parameters())
        homes = [members for other, members in found if _one_architecture(other, model)]
        if not homes:
            found.append((model, []))
        (homes or [found[-1][1]])[0].extend((run, size) for run in group)
    return [members for _, members in found]


def _model(run: Run) -> nn.Module | None:
    """The run's network, or None where its text makes none, which its training will say."""
    try:
        return models.make(run.model, seed=run.seed)
    except Exception:  # a user's function may raise anything
        return None


def _one_architecture(one: nn.Module | None, two: nn.Module | None) -> bool:
    if one is None or two is None:
        return False
    try:
        check_models([one, two])
    except Refused:
        return False
    return True


def _split(members: Sequence[tuple[Run, int]]) -> list[list[Run]]:
    """Groups within the limits, from the smallest network to the largest."""
    found: list[list[Run]] = []
    total = 0
    for run, size in sorted(members, key=lambda member: member[1]):
        total += size
        if not found or len(found[-1]) == LIMIT or (len(found[-1]) + 1) * size > SLACK * total:
            found.append([])
            total = size
        found[-1].append(run)
    return found
