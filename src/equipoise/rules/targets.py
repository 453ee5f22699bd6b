"""Targets themselves, passed down through the layers' inverses; each layer learns from its own, a - t.

Pure functions of tensors: no graph, no state, the same under ``vmap`` and full-graph compilation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from equipoise.functional.activations import Unit, unit
from equipoise.rules.links import Link, Part, apply_all, bias_gradient, weight_gradient, weighted
from equipoise.rules.square import Square

__all__ = ["Disturb", "Law", "Layer", "ascend", "below", "composed", "jitter", "per_sample", "teach"]

# (t - a of all units, their slopes) -> what each is multiplied by, and by what of it each sample's error is: (B, 1...).
Law = Callable[[Tensor, Tensor], tuple[Tensor | None, Tensor | None]]
# (number of a link, the target at its input, the activity there) -> the target as the layer below has it.
Disturb = Callable[[int, Tensor, Tensor], Tensor]


class Layer(NamedTuple):
    """What the forward pass leaves at a link. shape: of the signal below, before parts that reshape it; h: the weighted
    layer's input; a: activities of all units (of the used ones alone where nothing is inverted); f: their function."""

    link: Link
    square: Square | None
    shape: torch.Size
    h: Tensor
    a: Tensor
    f: Unit

    @property
    def shown(self) -> Tensor:
        """The activities that the layer above sees."""
        return self.a if self.square is None else self.a[:, : self.square.used]


def composed(parts: Sequence[Part]) -> Unit:
    """The activations ``parts``, one behind the other, as one."""
    found = Unit(lambda z: z, lambda a: a, torch.ones_like, True)
    for part in parts:
        found = _behind(found, unit(part.module))
    return found


def _behind(first: Unit, then: Unit) -> Unit:
    return Unit(
        lambda z: then.value(first.value(z)),
        lambda a: first.inverse(then.inverse(a)),
        lambda a: then.slope(a) * first.slope(then.inverse(a)),
        first.piecewise_linear and then.piecewise_linear,
        then.low,
        then.high,
    )


def ascend(
    links: Sequence[Link],
    units: Sequence[Unit],
    squares: Mapping[int, Square],
    x: Tensor,
    tensors: Mapping[str, Tensor],
) -> tuple[list[Layer], Tensor]:
    """The forward pass, with the auxiliary units of the layers that are inverted; (layers, output)."""
    layers: list[Layer] = []
    for k, (link, f) in enumerate(zip(links, units, strict=True)):
        shape = x.shape
        h = apply_all(link.before, x, {})
        weight, bias = tensors[link.weight], None if link.bias is None else tensors[link.bias]
        square = squares.get(k)
        z = weighted(link, h, weight, bias) if square is None else square.sums(h, weight, bias)
        layers.append(Layer(link, square, shape, h, f.value(z), f))
        x = layers[-1].shown
    return layers, x


@torch.no_grad()
def below(links: Sequence[Link], x: Tensor, tensors: Mapping[str, Tensor]) -> list[int]:
    """How many values of a sample each link has at its input."""
    found = []
    for link in links:
        h = apply_all(link.before, x, {})
        found.append(h[0].numel())
        bias = None if link.bias is None else tensors[link.bias]
        x = apply_all(link.after, weighted(link, h, tensors[link.weight], bias), {})
    return found


def jitter(unit_noise: Tensor, activity: Tensor, level: float) -> Tensor:
    """Noise in a layer's activities h, (B, ...): level rms(h) times ``unit_noise`` (B, n)."""
    return unit_noise.reshape(activity.shape) * (level * activity.square().mean().sqrt())


def per_sample(value: Tensor, like: Tensor) -> Tensor:
    """``value`` (B,) with the further axes of ``like``, each of length 1."""
    return value.reshape(-1, *(1,) * (like.ndim - 1))


def _moved(layer: Layer, t: Tensor, law: Law, guard: bool) -> tuple[Tensor, Tensor | None]:
    """The sums z of all units that give s, between a and the target, and by what of it each sample's error is."""
    f, a = layer.f, layer.a
    away = F.pad(t - layer.shown, (0, 0) * (a.ndim - 2) + (0, a.shape[1] - t.shape[1]))
    slopes = f.slope(a)
    share, gamma = law(away, slopes)
    change = away if share is None else share * away
    z = f.inverse(a + change)
    if guard and f.piecewise_linear:
        z = torch.where((a > 0) != (a + change > 0), f.inverse(a) + change / slopes, z)
    return z, gamma


def teach(
    layers: Sequence[Layer],
    t: Tensor,
    tensors: Mapping[str, Tensor],
    write: Callable[[str, Tensor], None],
    law: Law,
    *,
    scale: float,
    multiplier: bool,
    guard: bool,
    disturb: Disturb | None = None,
) -> None:
    """Write each layer's gradient from its target, from the output's ``t`` (B, C) down.

        dW_l = scale sum_n m_l f'(z_l) (.) (a_l - t_l) h_l^T,    t_(l-1) = W_l^-1 (f^-1(s_l) - b_l)
        s_l = a_l + share_l (.) (t_l - a_l),    m_(l-1) = m_l / gamma_l,    m_L = 1

    disturb: what becomes of a target by the number of the link above it, its activity given.
    guard: sums move on along a kinked unit's own branch, where s lies beyond the kink.
    """
    m = torch.ones_like(t[:, 0])
    for layer in reversed(layers):
        link, weight = layer.link, tensors[layer.link.weight]
        bias = None if link.bias is None else tensors[link.bias]
        g = layer.f.slope(layer.shown) * (layer.shown - t) * (per_sample(m, t) * scale)
        write(link.weight, weight_gradient(link, g, layer.h, weight))
        if bias is not None:
            write(link.bias or "", bias_gradient(link, g, bias))
        if layer.square is None:
            break
        z, gamma = _moved(layer, t, law, guard)
        t = layer.square.inverse(z, layer.h, weight, bias).reshape(layer.shape)
        if disturb is not None:
            t = disturb(layer.square.number, t, layer.h)
        if multiplier and gamma is not None:
            m = m / gamma
