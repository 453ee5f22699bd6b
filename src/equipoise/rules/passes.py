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

from equipoise.functional.moments import centred
from equipoise.rules.links import (
    Link,
    Part,
    add_product,
    apply,
    apply_all,
    bias_gradient,
    weight_gradient,
    weighted,
)

__all__ = ["Passes"]

_HALF = (torch.bfloat16, torch.float16)


def _sum(sums: Tensor, change: Tensor) -> Tensor:
    """sums + change, in float32 where rounding to eight bits would lose the change."""
    return sums.float() + change.float() if sums.dtype in _HALF else sums + change


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
        # Whether the sums are the units themselves, so that inputs above may be views of them.
        self.shared: list[bool] = []
        self.spread: Tensor | None = None

    def standard(self, x: Tensor, feedback: Tensor, *, hooked: bool = False) -> Tensor:
        """The output (B, C) for ``x``; kept are sums W h + b, and inputs of layers where they are costly to have again.

        F's columns go through the entry's layer side by side with x: W F e then costs no product with W of its own.
        ``hooked``: layers have hooks and are called as modules.
        """
        for k, link in enumerate(self.links):
            x = self._called(link.before, x) if hooked else apply_all(link.before, x, self.noise)
            self.inputs.append(x if k == self.entry or link.before or self.plainly else None)
            weight, bias = self.tensors[link.weight], None if link.bias is None else self.tensors[link.bias]
            if hooked:
                x = link.layer(x)
            elif k == self.entry and feedback.shape[1] < x.shape[0]:
                x = self._beside(link, x, feedback, weight, bias)
            else:
                x = weighted(link, x, weight, bias)
            self.sums.append(x)
            before = x
            x = self._called(link.after, x) if hooked else apply_all(link.after, x, self.noise)
            self.shared.append(x is before)
        return x

    def _called(self, parts: tuple[Part, ...], x: Tensor) -> Tensor:
        """``parts`` as modules, so that their hooks run; dropout keeps its given masks."""
        for part in parts:
            x = apply(part, x, self.noise) if part.number >= 0 else part.module(x.clone())
        return x

    def _beside(self, link: Link, x: Tensor, feedback: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """W x + b, keeping W F, from one product; both are copied, so that neither keeps the other's memory."""
        both = weighted(link, torch.cat([x, feedback.T.to(x.dtype).reshape(-1, *x.shape[1:])]), weight)
        self.spread = both[x.shape[0] :].clone()
        sums = both[: x.shape[0]]
        if bias is None:
            return sums.clone()
        return sums + (bias if link.dense else bias.reshape(-1, *(1,) * (sums.ndim - 2)))

    def modulated(self, shown: Tensor, feedback: Tensor) -> Tensor | None:
        """The second pass with F ``shown`` added, and its scores where the output learns from them.

        Writes the gradients of every layer from the entry up, but for the output layer's.
        """
        wants = self.chosen.output_error == "modulated"
        moved: Tensor | None = self._entrance(shown, feedback)
        del shown
        for k in range(self.entry, len(self.links) - 1):
            assert moved is not None
            post, units, modulated = self._difference(k, moved)
            moved = None
            post, scale = self._hidden(k, post, units, modulated)
            down = self._upwards(k + 1, post, units, modulated, scale)
            del post, units, modulated
            if wants or k + 2 < len(self.links):
                moved = self._shifted(k + 1, down, scale)
        return moved

    def _shifted(self, k: int, down: Tensor, scale: float) -> Tensor:
        """W h' + b of link k from W h + b and ``scale`` times the fall of its input, h - h'."""
        link, sums = self.links[k], self.sums[k]
        weight = self.tensors[link.weight]
        assert sums is not None
        if link.dense and down.ndim == 2 and sums.dtype == weight.dtype:
            return add_product(sums, down, weight, -1 / scale)
        change = weighted(link, down, weight) / -scale
        return _sum(sums, change)

    def output(self, error: Tensor) -> None:
        """Write the last layer's gradients for its ``error`` (B, C)."""
        link, weight = self.links[-1], self.tensors[self.links[-1].weight]
        g = (error / error.shape[0]).to(weight.dtype)
        self._give(link, weight_gradient(link, g, self.below.to(g.dtype), weight), g, 1.0)

    def _entrance(self, shown: Tensor, feedback: Tensor) -> Tensor:
        """W (h + F e) + b of the entry; ``below`` becomes its presynaptic activity."""
        link, x, sums, spread = self.links[self.entry], self.inputs[self.entry], self.sums[self.entry], self.spread
        assert x is not None
        assert sums is not None
        self.inputs[self.entry] = self.spread = None
        matrix = feedback.T.to(x.dtype)
        if spread is not None and x.ndim == sums.ndim == 2 and x.dtype == sums.dtype == shown.dtype:
            self.below = x if self.plainly else torch.addmm(x, shown, matrix)
            return torch.addmm(sums, shown, spread)
        added = (shown.to(x.dtype) @ matrix).reshape(x.shape)
        self.below = x if self.plainly else x + added
        if spread is None:
            change = weighted(link, added, self.tensors[link.weight])
        else:
            change = (shown.to(spread.dtype) @ spread.reshape(spread.shape[0], -1)).reshape(-1, *spread.shape[1:])
        return _sum(sums, change)

    def _difference(self, k: int, moved: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """h - h', h and h' of link k's units, from its ``moved`` sums."""
        sums, self.sums[k] = self.sums[k], None
        assert sums is not None
        after = self.links[k].after
        fresh = self.fresh and moved.dtype == sums.dtype and not self.shared[k]
        units = apply_all(after, sums.to(moved.dtype), self.noise, fresh=fresh)
        modulated = apply_all(after, moved, self.noise, fresh=fresh)
        post = units.sub_(modulated) if fresh else units - modulated
        return post.to(self.tensors[self.links[k + 1].weight].dtype), units, modulated

    def _hidden(self, k: int, post: Tensor, units: Tensor, modulated: Tensor) -> tuple[Tensor, float]:
        """Write the gradients of hidden link k; the difference as it was left, and what it was multiplied by."""
        link, weight = self.links[k], self.tensors[self.links[k].weight]
        scale = self._scale(link, post, self.chosen.variant == "released")
        scaled, left = self._signal(link, post), 1.0
        if self.chosen.update == "hebbian":
            taught = (self._signal(link, h).to(post.dtype) for h in (units, modulated))
            first, second = (weight_gradient(link, h, self.below, weight) for h in taught)
            gradient = (first - second) * scale
        elif link.dense and self.fresh and scaled is post:
            # In place, and undone by the next product: a pass over the activity, not over the weights.
            scaled, left, scale = post.mul_(scale), scale, 1.0
            gradient = weight_gradient(link, scaled, self.below, weight)
        elif link.dense:
            scaled, scale = scaled * scale, 1.0
            gradient = weight_gradient(link, scaled, self.below, weight)
        else:
            gradient = weight_gradient(link, scaled, self.below, weight) * scale
        self._give(link, gradient, scaled, scale)
        return post, left

    def _signal(self, link: Link, h: Tensor) -> Tensor:
        """What of ``h``, an activity or a difference of two, meets the presynaptic activity; ``h`` itself if all."""
        if self.chosen.variant == "released" and not self.kernels:
            h = apply_all(tuple(part for part in link.after if part.number >= 0), h, self.noise)
        return h if self.chosen.center == "none" else centred(h, dim=-1 if link.dense else 1)

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
            self.write(
                link.bias,
                (bias_gradient(link, post, self.tensors[link.bias]) * scale).to(self.tensors[link.bias].dtype),
            )

    def _upwards(self, k: int, post: Tensor, units: Tensor, modulated: Tensor, scale: float) -> Tensor:
        """``scale`` times u - u', inputs of link k in the two passes; ``below`` becomes its presynaptic activity."""
        before, kind = self.links[k].before, post.dtype
        if not before:
            self.below = (units if self.plainly else modulated).to(kind)
            return post
        high = apply_all(before, modulated, self.noise)
        low, self.inputs[k] = self.inputs[k], None
        assert low is not None
        if low.dtype != high.dtype:
            low = apply_all(before, units, self.noise)
        self.below = (low if self.plainly else high).to(kind)
        return (low - high).to(kind) * scale if scale != 1 else (low - high).to(kind)
