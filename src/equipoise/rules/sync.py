"""Averaging gradients over ranks, because DistributedDataParallel's hooks never see a gradient written by a rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

__all__ = ["Part", "accumulate", "drawn", "few", "mean_over_ranks", "placed", "sum_over_ranks", "world_size"]


class Part(NamedTuple):
    """Which rows of the joint batch this rank holds: those from ``first`` on, of ``whole``."""

    first: int
    whole: int


def world_size() -> int:
    """How many ranks train together; 1 without an initialised process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def placed(x: Tensor) -> Part:
    """The place of this rank's rows ``x`` in the joint batch, which holds the ranks' rows in their order."""
    counts = torch.zeros(world_size(), dtype=torch.int64, device=x.device)
    counts[dist.get_rank()] = x.shape[0]
    dist.all_reduce(counts)
    return Part(int(counts[: dist.get_rank()].sum()), int(counts.sum()))


def few(rows: Tensor, samples: int, count: int, part: Part | None) -> Tensor:
    """At most ``count`` of the ``rows`` (k rows a sample, evenly spread) of the errors of a batch's mean loss.

    Of a ``part`` those rows that the joint batch would keep, each at its place among ``count``, and zeros elsewhere:
    the sum over ranks is what the joint batch keeps.
    """
    if part is None:
        return rows[:: max(1, len(rows) // count)][:count].clone()
    first, whole = (n * len(rows) // samples for n in part)
    every = max(1, whole // count)
    place = min(count, -(-first // every))
    own = rows[place * every - first :: every][: count - place] if place < count else rows[:0]
    kept = rows.new_zeros(count, rows.shape[1])
    kept[place : place + len(own)] = own * (len(rows) / whole)  # the mean over the joint batch is over more samples
    return kept


def sum_over_ranks(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The sums over ranks of tensors of one dtype and device, in one all-reduce."""
    if not tensors:
        return []
    flat = torch.cat([t.reshape(-1) for t in tensors])
    dist.all_reduce(flat)
    pieces = torch.split(flat, [t.numel() for t in tensors])
    return [piece.view_as(t) for piece, t in zip(pieces, tensors, strict=True)]


def drawn(rule: Any, x: Tensor, generator: torch.Generator | None, part: Part | bool) -> dict[str, Tensor]:
    """The rule's noise for the batch ``x``; where that is a known ``part``, these rows of what the joint batch draws.

    Noise has k rows a sample (T B where time is folded), the samples within: its first axis is (k, B). What the rule
    names in ``of_the_batch`` has no samples.
    """
    if not isinstance(part, Part):
        return rule.draw(x, generator)
    rows = slice(part.first, part.first + len(x))
    whole = rule.draw(x[:1].expand(part.whole, *x.shape[1:]), generator)
    return {
        n: t if n.startswith(rule.of_the_batch) else t.unflatten(0, (-1, part.whole))[:, rows].flatten(0, 1)
        for n, t in whole.items()
    }


def mean_over_ranks(gradients: Sequence[Tensor | None], params: Sequence[Tensor], count: int) -> list[Tensor | None]:
    """The gradient of the joint batch's mean loss: sum_r n_r g_r / sum_r n_r, in one all-reduce.

    ``gradients`` are this rank's batch means over ``count`` samples (0 for an empty rank, whose gradients do not
    matter); one that is None on every rank stays None. Ranks may hold batches of different sizes.
    """
    if not params:
        return []
    wide = torch.float64 if any(p.dtype == torch.float64 for p in params) else torch.float32
    pieces = [torch.tensor([float(count)])]
    pieces.append(torch.tensor([float(g is not None) for g in gradients]))
    pieces += [
        torch.zeros(p.numel()) if g is None or count == 0 else g.reshape(-1).to(wide) * count
        for g, p in zip(gradients, params, strict=True)
    ]
    flat = torch.cat([piece.to(params[0].device, wide) for piece in pieces])
    dist.all_reduce(flat)
    total, present, values = flat[0], flat[1 : 1 + len(params)].tolist(), flat[1 + len(params) :]
    split = torch.split(values / total, [p.numel() for p in params])
    return [
        piece.view_as(p).to(p.dtype) if here else None for piece, p, here in zip(split, params, present, strict=True)
    ]


@torch.no_grad()
def accumulate(params: Sequence[nn.Parameter], gradients: Sequence[Tensor | None]) -> None:
    """Add ``gradients`` into ``.grad``, and call the parameters' hooks, as ``loss.backward()`` does."""
    for parameter, gradient in zip(params, gradients, strict=True):
        if gradient is not None:
            for hook in (parameter._backward_hooks or {}).values():
                changed = hook(gradient)
                # A hook may keep what it is given, or what it returns; .grad is changed in place later.
                gradient = (gradient if changed is None else changed).clone()
            parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
            for hook in (getattr(parameter, "_post_accumulate_grad_hooks", None) or {}).values():
                hook(parameter)
