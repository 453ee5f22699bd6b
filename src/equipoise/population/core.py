"""The pure heart of a population: one network's gradients and scores, under ``vmap`` over all members' tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from equipoise.rules import Rule
from equipoise.rules.report import Step

__all__ = ["Core", "Tensors"]


@dataclass(frozen=True)
class Tensors:
    """Every member's tensors by name, stacked on a first axis (M, ...).

    trained: parameters that learn; fixed: those that do not; buffers: the network's; feedback: the rule's.
    """

    trained: dict[str, Tensor]
    fixed: dict[str, Tensor]
    buffers: dict[str, Tensor]
    feedback: dict[str, Tensor]

    @classmethod
    @torch.no_grad()
    def of(cls, rules: Sequence[Rule]) -> Tensors:
        """The tensors of these rules and their networks, copied."""
        params = [rule.slots.parameters() for rule in rules]
        trained = [n for n, p in params[0].items() if p.requires_grad]
        return cls(
            {n: torch.stack([held[n].detach() for held in params]) for n in trained},
            {n: torch.stack([held[n].detach() for held in params]) for n in params[0] if n not in trained},
            _stacked([rule.slots.buffers() for rule in rules]),
            _stacked([rule.feedback() for rule in rules]),
        )

    @torch.no_grad()
    def release(self, member: int, rule: Rule) -> None:
        """Copy one member's parameters and buffers into the network that ``rule`` holds."""
        for held, stacks in ((rule.slots.parameters(), self.trained), (rule.slots.buffers(), self.buffers)):
            for name, stack in stacks.items():
                held[name].copy_(stack[member])


def _stacked(members: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {n: torch.stack([held[n].detach() for held in members]) for n in members[0]}


class Core:
    """``rule``, the template, computes for every member: its layers and switches are all that is used of it.

    weights: weights of losses (M,) by place, where members differ in them (``alike.scalars``).
    """

    def __init__(self, rule: Rule, weights: Mapping[str, Tensor]) -> None:
        self.rule, self.weights = rule, dict(weights)

    def gradients(
        self, held: Tensors, x: Tensor, y: Tensor, noise: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], Step, dict[str, Tensor]]:
        """Every member's gradients, report and new buffers for its own batch: x (M, B, ...), y (M, B, ...)."""

        def one(p: Any, f: Any, b: Any, feedback: Any, noise: Any, weights: Any, x: Tensor, y: Tensor) -> Any:
            with self._weighted(weights):
                return self.rule.gradients(p, x, y, feedback=feedback, noise=noise, state={**b, **f})

        self.rule.model.train()
        return torch.func.vmap(one)(
            held.trained, held.fixed, held.buffers, held.feedback, dict(noise), self.weights, x, y
        )

    @torch.no_grad()
    def scores(self, held: Tensors, x: Tensor, *, shared: bool) -> Tensor:
        """Every member's output (M, B, C) in eval mode, for x (M, B, ...), or (B, ...) where it is ``shared``."""

        def one(tensors: Any, x: Tensor) -> Tensor:
            with self.rule.slots.filled(tensors):
                return self.rule.model(x)

        before = self.rule.model.training
        self.rule.model.eval()
        try:
            tensors = {**held.trained, **held.fixed, **held.buffers}
            return torch.func.vmap(one, in_dims=(0, None if shared else 0))(tensors, x)
        finally:
            self.rule.model.train(before)

    @contextmanager
    def _weighted(self, weights: Mapping[str, Tensor]) -> Iterator[None]:
        """Within the block the template has one member's weights of losses."""
        options, layers, before = self.rule.options, dict(self.rule.model.named_modules()), {}
        for place, weight in weights.items():
            if place == "options":
                self.rule.options = dataclasses.replace(options, local_weight=weight)  # type: ignore[arg-type]
            else:
                layer = layers[place.removeprefix("layer ")]
                before[place] = (layer, layer.local_weight)
                layer.local_weight = weight
        try:
            yield
        finally:
            self.rule.options = options
            for layer, weight in before.values():
                layer.local_weight = weight
