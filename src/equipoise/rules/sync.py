"""Averaging gradients over ranks, because DistributedDataParallel's hooks never see a gradient written by a rule."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

__all__ = ["accumulate", "mean_over_ranks", "world_size"]


def world_size() -> int:
    """How many ranks train together; 1 without an initialised process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


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
