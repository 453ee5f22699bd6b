"""Difference target propagation: targets pass down through inverses that the network learns beside itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from equipoise.errors import InputError
from equipoise.functional.activations import Unit
from equipoise.functional.draws import draw
from equipoise.randomness import generator
from equipoise.rules.base import Options, Rule, Step, Write
from equipoise.rules.descent import announce, errs
from equipoise.rules.links import Link, bias_gradient, weight_gradient, weighted
from equipoise.rules.make import registry
from equipoise.rules.square import Square, invertible_chain
from equipoise.rules.survey import Survey
from equipoise.rules.sync import accumulate, mean_over_ranks
from equipoise.rules.targets import Layer, ascend, composed

__all__ = ["DifferenceOptions", "DifferenceTargets"]


@dataclass(frozen=True)
class DifferenceOptions(Options):
    """Options of ``dtp``.

    step: the last hidden layer's target is its activity less step times its gradient (a sample's). corruption: the
    standard deviation of the noise under which inverses learn. law, scale: distribution of their first weights.
    """

    step: float = 0.5
    corruption: float = 0.1
    law: str = "orthogonal"
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not self.step > 0 or self.corruption < 0:
            raise InputError(f"step={self.step} is above 0, and corruption={self.corruption} not below 0")


@registry.register("dtp")
class DifferenceTargets(Rule):
    """Difference target propagation: learned inverses carry targets down, corrected by what they get wrong.

        t_(l-1) = a_(l-1) + G_l(t_l) - G_l(a_l),   G_l(a) = f_(l-1)(V_l^T a + c_l),   t_(L-1) = a_(L-1) - step W_L^T e
        dW_l = f'(z_l) (.) (a_l - t_l) h_l^T / step;   G_l learns by   min |G_l(F_l(h + noise)) - h - noise|^2 / 2

    V_l is shaped like W_l, so that no layer has to be square. ``feedback_parameters()`` are the V_l and c_l, for an
    optimiser group of their own; ``backward`` fills their ``.grad``, and reports the loss of each inverse in ``local``.
    Trains chains of linear layers and convolutions; the two uppermost layers learn as by backpropagation.
    Source: Lee, Zhang, Fischer and Bengio 2015, eq. 11-15.
    """

    Options: ClassVar[type[Options]] = DifferenceOptions
    forward_only = True
    inverts = True
    options: DifferenceOptions

    def __init__(self, model: nn.Module, **given: Any) -> None:
        super().__init__(model, **given)
        self.refuse_local_objectives("dtp does not train; use rule 'fa' or 'dfa'")
        self.links = invertible_chain("dtp", model, self.slots)
        self.units = [composed(link.after) for link in self.links]
        params = self.slots.parameters()
        self.inverses: dict[int, Square] = {}
        for k, link in enumerate(self.links[1:-1], 1):
            weight = params[link.weight]
            shown = link.used or len(weight)
            self.inverses[k] = Square(k, link, len(weight), shown)
            source = generator(self.seed, "feedback", link.weight)
            fan_in, shape = weight[0].numel(), (shown, *weight.shape[1:])
            value = draw(shape, law=self.options.law, fan_in=fan_in, generator=source) * self.options.scale
            self.register_parameter(_key(link, "inverse"), nn.Parameter(value.to(weight)))
            self.register_parameter(_key(link, "offset"), nn.Parameter(weight.new_zeros(weight.shape[1])))

    def prepare(self, found: Survey, x: Tensor) -> None:
        """Note the shapes of the activities that are to be corrupted."""
        with torch.no_grad():
            layers, _ = ascend(self.links, self.units, {}, x, self.slots.parameters())
        self.shapes = {k: layers[k].h.shape[1:] for k in self.inverses}

    def draw(self, x: Tensor, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """The noise under which each inverse learns, by its layer's weight."""
        noise = super().draw(x, generator)
        for k, shape in self.shapes.items():
            like = self.like(self.links[k].weight)
            drawn = torch.randn(x.shape[0], *shape, generator=generator, device=x.device, dtype=torch.float32)
            noise[f"corruption/{self.links[k].weight}"] = (drawn * self.options.corruption).to(like.dtype)
        return noise

    def by_hand(
        self,
        x: Tensor,
        y: Tensor,
        tensors: Mapping[str, Tensor],
        feedback: Mapping[str, Tensor],
        noise: Mapping[str, Tensor],
        write: Write,
        *,
        fresh: bool,
    ) -> tuple[Tensor, Tensor]:
        announce(self.model, x, fresh=fresh)
        layers, output = ascend(self.links, self.units, {}, x, tensors)
        value, error = errs(self.loss, output, y, not fresh)
        size = self.options.step * x.shape[0]
        # (t - a) / -size at the units of the layer in hand, so that the output layer's is the error itself.
        away = error
        for k in reversed(range(len(layers))):
            layer, link = layers[k], layers[k].link
            weight = tensors[link.weight]
            g = layer.f.slope(layer.a) * away
            write(link.weight, weight_gradient(link, g, layer.h, weight))
            if link.bias is not None:
                write(link.bias, bias_gradient(link, g, tensors[link.bias]))
            if k == 0:
                break
            if k == len(layers) - 1:
                away = g @ (weight[: link.used] if link.used else weight)
            else:
                below = layers[k - 1].f
                here, there = (self._undo(k, a, layer.h, below, feedback) for a in (layer.a, layer.a - size * away))
                away = (here - there) / size
            away = away.reshape(layer.shape)
        if fresh:
            self.learned = self._learn(layers, tensors, feedback, noise)
        return value, output

    def _undo(self, k: int, a: Tensor, h: Tensor, below: Unit, feedback: Mapping[str, Tensor]) -> Tensor:
        """G_k(a): what the inverse of link ``k`` takes its input, shaped like ``h``, to be."""
        link = self.links[k]
        matrix, offset = feedback[_name(link, "inverse")].to(a.dtype), feedback[_name(link, "offset")].to(a.dtype)
        back = self.inverses[k].down(matrix.flatten(1), a, h)
        return below.value(back + offset.reshape(-1, *(1,) * (h.ndim - 2)))

    def _learn(
        self,
        layers: list[Layer],
        tensors: Mapping[str, Tensor],
        feedback: Mapping[str, Tensor],
        noise: Mapping[str, Tensor],
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The gradients of half the mean squared distance |G_l(F_l(h + noise)) - h - noise|^2, and its value."""
        grads: dict[str, Tensor] = {}
        losses: dict[str, Tensor] = {}
        for k in self.inverses:
            layer, link, below = layers[k], self.links[k], layers[k - 1].f
            h = layer.h + noise[f"corruption/{link.weight}"].to(layer.h.dtype)
            a = layer.f.value(
                weighted(link, h, tensors[link.weight], None if link.bias is None else tensors[link.bias])
            )
            found = self._undo(k, a, h, below, feedback)
            away = (found - h) / len(h)
            g = below.slope(found) * away
            matrix, offset = feedback[_name(link, "inverse")], feedback[_name(link, "offset")]
            back = replace(link, used=0)
            grads[_key(link, "inverse")] = weight_gradient(back, a, g, matrix).to(matrix.dtype)
            grads[_key(link, "offset")] = bias_gradient(back, g, offset).to(matrix.dtype)
            losses[link.name] = (away * (found - h)).sum() / 2
        return grads, losses

    def _written(
        self,
        x: Tensor,
        y: Tensor,
        tensors: Mapping[str, Tensor],
        trained: Mapping[str, nn.Parameter],
        noise: Mapping[str, Tensor],
        together: bool,
    ) -> Step | None:
        """The step, and the inverses' gradients in ``.grad``, averaged over ranks as the network's are."""
        step = super()._written(x, y, tensors, trained, noise, together)
        grads, losses = self.learned
        params = self.feedback_parameters()
        found = [grads[n] if p.requires_grad else None for n, p in self.named_parameters()]
        accumulate(params, mean_over_ranks(found, params, x.shape[0]) if together else found)
        return None if step is None else step._replace(local=losses)

    def _empty(self, x: Tensor) -> Step:
        step, params = super()._empty(x), self.feedback_parameters()
        accumulate(params, mean_over_ranks([None] * len(params), params, 0))
        return step


def _name(link: Link, what: str) -> str:
    return f"{link.weight}.{what}"


def _key(link: Link, what: str) -> str:
    """The name under which a rule holds the ``what`` of a link's learned inverse."""
    return _name(link, what).replace(".", "/")
