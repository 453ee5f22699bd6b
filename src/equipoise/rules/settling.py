"""Whose part of a chain every parameter-free module is, found by a trial run.

What acts on units one by one belongs to the units below it, and so does what treats all of them alike (layer
normalisation without affine map) where their activation comes behind it. Everything else leads up to the next layer.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from equipoise.errors import InputError
from equipoise.rules.links import UNITWISE, Link, Part, apply

__all__ = ["settle"]


def settle(links: tuple[Link, ...], x: Tensor) -> tuple[tuple[Link, ...], list[torch.Size]]:
    """The links with every part in its place, and the shape of one sample at each link's input, from a trial run.

    A part of an unknown kind that acts on units one by one belongs to the units below it. Raises ``InputError`` for a
    part that returns two things for one input in training (its noise would differ between the passes), and for an
    activation behind a part that mixes units.
    """
    shapes, found = [], list(links)
    modes = [(part.module, part.module.training) for link in links for part in (*link.before, *link.after)]
    devices = [x.device] if x.device.type == "cuda" else []
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=devices):
            for module, _ in modes:
                module.train()
            # What multiplies by noise shows nothing of it on an input of zeros.
            x = x + torch.rand_like(x)
            for k, link in enumerate(links):
                before, after = list(link.before), []
                if k:
                    x = _unitwise_parts(before, after, x)
                    if not any(part.number < 0 for part in (*found[k - 1].after, *after)):
                        x = _up_to_activation(before, after, x)
                        x = _unitwise_parts(before, after, x)
                if after:
                    found[k - 1] = replace(found[k - 1], after=(*found[k - 1].after, *after))
                    found[k] = replace(found[k], before=tuple(before))
                for part in before:
                    x = _twice(part, x)
                shapes.append(x.shape[1:])
                x = link.layer(x)
                for part in link.after:
                    x = _twice(part, x)
    finally:
        for module, mode in modes:
            module.train(mode)
    return tuple(found), shapes


def _unitwise_parts(before: list[Part], after: list[Part], x: Tensor) -> Tensor:
    """Move the first parts of ``before`` that act on units one by one to ``after``; ``x`` behind them."""
    while before and (before[0].number >= 0 or _unitwise(before[0], x)):
        after.append(before.pop(0))
        x = _twice(after[-1], x)
    return x


def _up_to_activation(before: list[Part], after: list[Part], x: Tensor) -> Tensor:
    """Move what leads up to the units' activation, where there is one, to ``after``; ``x`` behind it."""
    places = [k for k, part in enumerate(before) if part.number < 0 and _activation(part.module)]
    lead = before[: places[0] + 1] if places else []
    for part in lead:
        if part.number < 0 and not _activation(part.module) and not _alike(part, x):
            raise InputError(
                f"layer '{lead[-1].name}' ({type(lead[-1].module).__name__}) is the activation of units that "
                f"'{part.name}' ({type(part.module).__name__}) has mixed before; put it directly behind its weighted "
                "layer"
            )
        after.append(before.pop(0))
        x = _twice(part, x)
    return x


def _activation(module: nn.Module) -> bool:
    return type(module) in UNITWISE and type(module) is not nn.Identity


def _unitwise(part: Part, x: Tensor) -> bool:
    """Whether each unit's output depends on that unit alone, tried by changing half of the units."""
    if type(part.module) in (nn.Flatten, nn.Unflatten):
        return False
    kept = torch.rand_like(x) < 0.5
    other = torch.where(kept, x, x + torch.randn_like(x))
    state = torch.get_rng_state()
    once = apply(part, x.clone(), {})
    torch.set_rng_state(state)
    again = apply(part, other, {})
    return once.shape == again.shape == x.shape and torch.equal(once[kept], again[kept])


def _alike(part: Part, x: Tensor) -> bool:
    """Whether the part treats all units alike: along every axis it commutes with each exchange of units.

    A cycle of all units and the exchange of two make every other order.
    """
    if type(part.module) in (nn.Flatten, nn.Unflatten):
        return False
    once = apply(part, x.clone(), {})
    if once.shape != x.shape:
        return False
    near = {"rtol": 0.0, "atol": torch.finfo(x.dtype).eps ** 0.5 * float(once.abs().max())}
    for axis in range(1, x.ndim):
        units = torch.arange(x.shape[axis], device=x.device)
        exchanged = units.clone()
        exchanged[:2] = units[:2].flip(0)
        for order in (units.roll(1), exchanged):
            again = apply(part, x.index_select(axis, order), {})
            if not torch.allclose(again, once.index_select(axis, order), **near):
                return False
    return True


def _twice(part: Part, x: Tensor) -> Tensor:
    """The part's output; dropout passes its input on."""
    if part.number >= 0:
        return x
    once, again = (apply(part, x.clone(), {}) for _ in range(2))
    if not torch.equal(once, again):
        raise InputError(
            f"layer '{part.name}' ({type(part.module).__name__}) draws noise of its own, which would differ between "
            "the two passes; use nn.Dropout, whose masks they share"
        )
    return once
