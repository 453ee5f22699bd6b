"""Which runs of a sweep may train together, told from their specs alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from equipoise.population.alike import FREE, SCALARS
from equipoise.train import Run, checks

__all__ = ["LIMIT", "buckets"]

# Members of one population at most: each keeps a locked file open.
LIMIT = 256


def buckets(runs: Sequence[Run]) -> list[list[Run]]:
    """``runs`` in groups of up to ``LIMIT`` that may be a population each, in the order of their first members."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(_kind(run), []).append(run)
    return [group[start : start + LIMIT] for group in groups.values() for start in range(0, len(group), LIMIT)]


def _kind(run: Run) -> str:
    """One text for all runs that share what members share."""
    fields: dict[str, Any] = {name: value for name, value in run.to_dict().items() if name not in FREE}
    fields["options"] = {key: value for key, value in run.options.items() if key not in SCALARS}
    fields["nesterov"] = bool(run.optimizer_options.get("nesterov"))
    fields["model"] = re.sub(rf",({'|'.join(sorted(SCALARS))})=[^,]*", "", run.model)
    return checks.canonical(fields)
