"""The two forward passes of rules that compare a network's activity with its activity under a modulated input.

Pure functions of tensors: no graph, no state, the same under ``vmap``, full-graph compilation and low precision.
What the second pass carries is the difference of the two, so that small modulations are not rounded away.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from equipoise.errors import InputError
from equipoise.rules.links import Link, Part, apply, apply_all, bias_gradient, weight_gradient, weighted

__all__ = ["Passes", "check_parts"]

_HALF = (torch.bfloat16, torch.float16)


def check_parts(links: tuple[Link, ...], x: Tensor) -> list[torch.Size]:
    """The shape of one sample at each link's input; parts run twice on the way.

    Raises ``InputError`` for a part that returns two things for one input: its noise would differ between the passes.
    """
    shapes = []
    devices = [x.device] if x.device.type == "cuda" else []
    with torch.no_grad(), torch.random.fork_rng(devices=devices):
        for link in links:
            x = _twice(link.before, x)
            shapes.append(x.shape[1:])
            x = _twice(link.after, link.layer(x))
    return shapes


def _twice(parts: tuple[Part, ...], x: Tensor) -> Tensor:
    for part in parts:
        if part.number < 0:
            once, again = (apply(part, x.clone(), {}) for _ in range(2))
            if not torch.equal(once, again):
                raise InputError(
                    f"layer '{part.name}' ({type(part.module).__name__}) draws noise of its own, which would differ "
                    "between the two passes; use nn.Dropout, whose masks they share"
                )
            x = once
    return x


class Passes:
    """One batch's two passes over ``links``; the modulation enters at the input of link ``entry``.

    chosen: the rule's options. ``write(name, gradient)`` gets each gradient as soon as its two activities are known.
    fresh: whether the passes may overwrite tensors that they made.
    """

    def __init__(
        self,
        links: tuple[Link, ...],
        entry: int,
        tensors: Mapping[str, Tensor],
        noise: Mapping[str, Tensor],
        chosen: Any,
        write: Callable[[str, Tensor], None],
        *,
        fresh: bool,
    ) -> None:
        self.links, self.entry, self.tensors, self.noise = links, entry, tensors, noise
        self.chosen, self.write = chosen, write
        self.plainly = chosen.presynaptic == "standard"
        # These two need activities that the quick way overwrites.
        self.fresh = fresh and not self.plainly and chosen.update != "hebbian"
        self.kernels = any(not link.dense for link in links)
        self.inputs: list[Tensor | None] = []
        self.sums: list[Tensor | None] = []
        self.rows: Tensor | None = None
        self.spread: Tensor | None = None

    def standard(self, x: Tensor, feedback: Tensor, *, hooked: bool = False) -> Tensor:
        """The output (B, C) for ``x``; kept are sums W h + b, and inputs of layers where they are costly to have again.

        F's columns go through the entry's layer side by side with x: W F e then costs no product with W of its own.
        ``hooked``: layers have hooks and are called as modules.
        """
        for k, link in enumerate(self.links):
            x = apply_all(link.before, x, self.noise)
            self.inputs.append(x if k == self.entry or link.before or self.plainly else None)
            weight, bias = self.tensors[link.weight], None if link.bias is None else self.tensors[link.bias]
            if hooked:
                x = link.layer(x)
            elif k == self.entry and feedback.shape[1] < x.shape[0]:
                x = self._beside(link, x, feedback, weight, bias)
            else:
                x = weighted(link, x, weight, bias)
            self.sums.append(x)
            x = apply_all(link.after, x, self.noise)
        return x

    def _beside(self, link: Link, x: Tensor, feedback: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """W x + b, keeping W F, from one product."""
        rows = torch.cat([x, feedback.T.to(x.dtype).reshape(-1, *x.shape[1:])])
        both = weighted(link, rows, weight)
        sums, self.spread = both[: x.shape[0]], both[x.shape[0] :]
        if link.dense and x.ndim == 2 and not self.plainly and self.chosen.update != "hebbian":
            self.rows = rows
        if bias is None:
            return sums
        shaped = bias if link.dense else bias.reshape(-1, *(1,) * (sums.ndim - 2))
        return sums.add_(shaped) if self.fresh else sums + shaped

    def modulated(self, shown: Tensor, feedback: Tensor) -> Tensor | None:
        """The second pass with F ``shown`` added, and its scores where the output learns from them.

        Writes the gradients of every layer from the entry up, but for the output layer's.
        """
        wants = self.chosen.output_error == "modulated"
        change = self._entrance(shown, feedback)
        for k in range(self.entry, len(self.links) - 1):
            post, units, modulated = self._difference(k, change)
            self._hidden(k, post, units, modulated, shown)
            self.rows = self.spread = None
            down = self._upwards(k + 1, post, units, modulated)
            del post, units, modulated
            above = self.links[k + 1]
            if wants or k + 2 < len(self.links):
                change = -weighted(above, down, self.tensors[above.weight])
        sums = self.sums[-1]
        assert sums is not None
        return sums + change if wants else None

    def output(self, error: Tensor) -> None:
        """Write the last layer's gradients for its ``error`` (B, C)."""
        link, weight = self.links[-1], self.tensors[self.links[-1].weight]
        g = (error / error.shape[0]).to(weight.dtype)
        self._give(link, weight_gradient(link, g, self.below.to(g.dtype), weight), g, 1.0)

    def _entrance(self, shown: Tensor, feedback: Tensor) -> Tensor:
        """The change of the entry's sums, W F e; ``below`` becomes its presynaptic activity."""
        link, x, spread = self.links[self.entry], self.inputs[self.entry], self.spread
        assert x is not None
        if self.rows is None or spread is None:
            added = (shown.to(feedback.dtype) @ feedback.T).to(x.dtype).reshape(x.shape)
            self.below = x if self.plainly else x + added
            if spread is None:
                return weighted(link, added, self.tensors[link.weight])
        flat = shown.to(spread.dtype) @ spread.reshape(spread.shape[0], -1)
        return flat.reshape(-1, *spread.shape[1:])

    def _difference(self, k: int, change: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """h - h', h and h' of link k's units, from the change of its sums."""
        sums, self.sums[k] = self.sums[k], None
        assert sums is not None
        if sums.dtype in _HALF:
            sums, change = sums.float(), change.float()
        after = self.links[k].after
        modulated = change.add_(sums) if self.fresh else sums + change
        units = apply_all(after, sums, self.noise, fresh=self.fresh)
        modulated = apply_all(after, modulated, self.noise, fresh=self.fresh)
        post = units.sub_(modulated) if self.fresh else units - modulated
        kind = self.tensors[self.links[k + 1].weight].dtype
        return post.to(kind), units, modulated.to(kind)

    def _hidden(self, k: int, post: Tensor, units: Tensor, modulated: Tensor, shown: Tensor) -> None:
        """Write the gradients of hidden link k."""
        link, weight = self.links[k], self.tensors[self.links[k].weight]
        released = self.chosen.variant == "released"
        if released and not self.kernels:
            masks = tuple(part for part in link.after if part.number >= 0)
            post = apply_all(masks, post, self.noise)
        scale = self._scale(link, post, released)
        if self.chosen.update == "hebbian":
            first, second = (weight_gradient(link, h.to(post.dtype), self.below, weight) for h in (units, modulated))
            gradient = (first - second) * scale
        elif link.dense:
            post = post * scale
            scale = 1.0
            if k == self.entry and self.rows is not None:
                both = torch.cat([post, shown.T.to(post.dtype) @ post])
                gradient = both.T @ self.rows.to(both.dtype)
            else:
                gradient = weight_gradient(link, post, self.below, weight)
        else:
            gradient = weight_gradient(link, post, self.below, weight) * scale
        self._give(link, gradient, post, scale)

    def _scale(self, link: Link, post: Tensor, released: bool) -> float:
        """What the sum over samples and positions is multiplied by."""
        batch = post.shape[0]
        if link.dense:
            # Positions of a dense layer that is applied along further axes are rows like samples.
            return 1 / batch
        positions = math.prod(post.shape[2:])
        divisor = {"positions": positions, "sqrt": positions**0.5, "none": 1.0}[self.chosen.conv_norm]
        return self.chosen.kernel_rate / (batch * divisor) * (-1 / batch if released else 1.0)

    def _give(self, link: Link, gradient: Tensor, post: Tensor, scale: float) -> None:
        self.write(link.weight, gradient.to(self.tensors[link.weight].dtype))
        if link.bias is not None:
            self.write(link.bias, (bias_gradient(post, link.dense) * scale).to(self.tensors[link.bias].dtype))

    def _upwards(self, k: int, post: Tensor, units: Tensor, modulated: Tensor) -> Tensor:
        """u - u', the inputs of link k in the two passes; ``below`` becomes its presynaptic activity."""
        before = self.links[k].before
        if not before:
            self.below = units.to(post.dtype) if self.plainly else modulated
            return post
        high = apply_all(before, modulated, self.noise)
        low = self.inputs[k]
        assert low is not None
        self.inputs[k] = None
        self.below = low if self.plainly else high
        return low - high
