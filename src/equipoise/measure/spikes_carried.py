"""Which operations leave spikes countable: those that move them, add them to others, or average them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from equipoise.measure.activity import tensors_of

__all__ = ["carried"]

_MOVES = frozenset(
    {
        *(torch.flatten, Tensor.flatten, torch.reshape, Tensor.reshape, Tensor.view, Tensor.view_as, Tensor.contiguous),
        *(
            torch.transpose,
            Tensor.transpose,
            torch.permute,
            Tensor.permute,
            Tensor.movedim,
            torch.movedim,
            Tensor.expand,
        ),
        *(torch.squeeze, Tensor.squeeze, torch.unsqueeze, Tensor.unsqueeze, Tensor.unflatten, Tensor.to, Tensor.float),
        *(Tensor.__getitem__, Tensor.unbind, torch.unbind, Tensor.split, torch.split, Tensor.chunk, torch.chunk),
        *(torch.cat, torch.stack, Tensor.detach, Tensor.clone, torch.clone, Tensor.repeat, Tensor.flip, torch.roll),
        *(F.dropout, F.dropout2d, torch.dropout, F.max_pool2d, torch.max_pool2d, Tensor.double),
        *(torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__),
    }
)
_AVERAGES = frozenset({F.avg_pool2d, F.adaptive_avg_pool2d, torch.adaptive_avg_pool1d})


def carried(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any], out: Any) -> None:
    """Mark the result(s) ``out`` as counts of spikes, in the attribute ``_spikes``: the size of one spike, 1 at first.

    Results of moving and adding have the smallest of their sources' sizes; a mean over k entries, 1 / k of it. One
    source that counts no spikes, and the result counts none.
    """
    moves = function in _MOVES
    if not (moves or function in _AVERAGES):
        return
    sources = list(tensors_of((args, dict(kwargs))))
    units = [getattr(source, "_spikes", None) for source in sources]
    known = [unit for unit in units if unit is not None]
    if not known or len(known) < len(units):
        return
    made = [out] if isinstance(out, Tensor) else [one for one in out if isinstance(one, Tensor)]
    for one in made:
        one._spikes = min(known) if moves else min(known) / _averaged(function, args, kwargs, one)  # type: ignore[attr-defined]


def _averaged(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any], out: Tensor) -> float:
    """How many entries a mean is taken over."""
    if function is F.avg_pool2d:
        size = kwargs["kernel_size"] if "kernel_size" in kwargs else args[1]
        return float(size**2 if isinstance(size, int) else size[0] * size[-1])
    return args[0].numel() / out.numel()
