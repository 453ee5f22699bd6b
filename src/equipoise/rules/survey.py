"""One look at a model before a rule trains it: what it can train, where sites are, what dropout needs.

The survey runs the model on an example batch with copies of its tensors, so nothing of the model changes. Everything
that a rule refuses, it refuses here, by the name of the layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from equipoise.errors import InputError
from equipoise.rules.inspector import DropoutInfo, Inspector, Needs, SiteInfo, Unseen
from equipoise.rules.origins import Origins
from equipoise.rules.slots import Slots
from equipoise.rules.tape import Entry, Keys

__all__ = ["Survey", "entries", "survey"]


@dataclass(frozen=True)
class Survey:
    """What one forward pass showed. weights: every weight of two or more dimensions, in the order of first use."""

    sites: tuple[SiteInfo, ...]
    dropouts: tuple[DropoutInfo, ...]
    classes: int
    weights: tuple[str, ...]


def entries(tensors: Mapping[str, Tensor], feedback: Mapping[str, Tensor], inner: frozenset[str] = frozenset()) -> Keys:
    """The keys of a pass: each weight of two or more dimensions, with its feedback where there is one."""
    return Keys(Entry(t, n, feedback.get(n), n in inner) for n, t in tensors.items() if t.ndim >= 2)


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _gradients(total: Tensor, inputs: tuple[Tensor, ...]) -> tuple[Tensor | None, ...]:
    """``torch.autograd.grad`` by the engine itself, so that a mode around it sees what runs within."""
    engine: Any = torch.autograd.Variable._execution_engine
    seed = (torch.ones_like(total),)
    return engine.run_backward((total,), seed, False, False, inputs, allow_unreachable=True, accumulate_grad=False)


def _look(slots: Slots, x: Tensor, needs: Needs) -> tuple[Inspector, Tensor]:
    """One inspected pass over ``x``, and the checks of its graph."""
    tensors = slots.copies()
    leaf = x.detach().requires_grad_(x.is_floating_point() and (needs.transport or needs.sites))
    inspector = Inspector(entries(tensors, {}, needs.inner), Origins(tensors, leaf), x.shape[0], needs)
    with slots.filled(tensors), torch.enable_grad():
        try:
            with inspector:
                output = slots.model(leaf.clone())
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"the model does not accept a batch of shape {tuple(x.shape)} and dtype {x.dtype}: {_reason(error)}"
            ) from error
        if not isinstance(output, Tensor) or output.ndim != 2 or output.shape[0] != x.shape[0]:
            seen = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise InputError(f"a model returns (batch, classes), here ({x.shape[0]}, C); this one returns {seen}")
        if output.requires_grad and (needs.matrices or inspector.dropouts):
            inspector.judge_custom(output)
            wanted = {n: t for n, t in tensors.items() if t.requires_grad}
            try:
                with Unseen(inspector.keys if needs.matrices else None):
                    grads = _gradients(output.sum(), tuple(wanted.values()))
            except RuntimeError as error:
                raise InputError(f"the model cannot be differentiated by a rule: {_reason(error)}") from error
            inspector.judge_unmet([n for n, g in zip(wanted, grads, strict=True) if g is not None])
    return inspector, output


def _rows(shapes: tuple[tuple[int, ...], tuple[int, ...]], batches: tuple[int, int]) -> int:
    """k where the first axis is k rows a sample for both batches and no other axis depends on the batch, else 0."""
    (first, *rest), (other, *others) = shapes
    rows = first // batches[0]
    return rows if (first, other, rest) == (rows * batches[0], rows * batches[1], others) else 0


def survey(slots: Slots, x: Tensor, needs: Needs) -> Survey:
    """Run ``slots.model`` on ``x`` (B, ...) with copies of its tensors, and report.

    Where the batch axis matters, a second run on B + 1 samples tells it from axes that happen to be as long. Raises
    ``InputError`` where the model does not accept ``x``, does not return (B, classes), or does what ``needs`` excludes.
    """
    devices = [x.device] if x.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        found, output = _look(slots, x, needs)
        sites, dropouts = found.sites, found.dropouts
        if dropouts or (needs.sites and any(site.hidden for site in sites)):
            other, _ = _look(slots, torch.cat([x, x[:1]]), needs)
            sizes = (x.shape[0], x.shape[0] + 1)
            if needs.sites and [s.name for s in sites] != [s.name for s in other.sites]:
                raise InputError("the model takes another path through its layers from one batch to the next")
            both = zip(sites, other.sites, strict=False)
            sites = [replace(a, rows=_rows((a.shape, b.shape), sizes)) for a, b in both]
            calls = zip(dropouts, other.dropouts, strict=False)
            dropouts = [replace(a, rows=_rows((a.whole, b.whole), sizes)) for a, b in calls]
    return Survey(tuple(sites), tuple(d for d in dropouts if d.rows), output.shape[1], tuple(found.met))
