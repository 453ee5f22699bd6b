"""The pure heart of a population: one network's gradients and scores, under ``vmap`` over all members' tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from equipoise.population import widths
from equipoise.population.alike import scalars
from equipoise.population.optimisers import along
from equipoise.population.widths import Place
from equipoise.rules import Rule
from equipoise.rules.report import Step

__all__ = ["Core", "Tensors"]


@dataclass(frozen=True)
class Tensors:
    """Every member's tensors by name, stacked on a first axis (M, ...), padded where their widths differ.

    trained: parameters that learn; fixed: those that do not; buffers: the network's; feedback: the rule's. places: of
    the network's tensors that are padded; masks: where in these the real elements are.
    """

    trained: dict[str, Tensor]
    fixed: dict[str, Tensor]
    buffers: dict[str, Tensor]
    feedback: dict[str, Tensor]
    places: dict[str, Place]
    masks: dict[str, Tensor]

    @classmethod
    @torch.no_grad()
    def of(cls, rules: Sequence[Rule]) -> Tensors:
        """The tensors of these rules and their networks, copied."""
        params = [rule.slots.parameters() for rule in rules]
        held = [{**own, **rule.slots.buffers()} for own, rule in zip(params, rules, strict=True)]
        first = [widths.blocks(rule) for rule in rules]
        stacks, places = widths.joined(held, first)
        feedback, _ = widths.joined([rule.feedback() for rule in rules], first)
        learns = {name: parameter.requires_grad for name, parameter in params[0].items()}
        return cls(
            {name: stacks[name] for name, yes in learns.items() if yes},
            {name: stacks[name] for name, yes in learns.items() if not yes},
            {name: stack for name, stack in stacks.items() if name not in learns},
            feedback,
            places,
            {name: place.mask([one[name] for one in held]) for name, place in places.items()},
        )

    def own(self, name: str, tensor: Tensor, member: int) -> Tensor:
        """What of ``tensor``, one of the stack ``name`` or shaped like it, is the member's."""
        return self.places[name].cut(tensor, member) if name in self.places else tensor

    def active(self, name: str, stack: Tensor, alive: Tensor) -> Tensor:
        """Which elements of ``stack``, called ``name``, may move where the members ``alive`` (M,) may."""
        alive = along(alive, stack)
        return alive & self.masks[name] if name in self.masks else alive

    @torch.no_grad()
    def release(self, member: int, rule: Rule) -> None:
        """Copy one member's parameters and buffers into the network that ``rule`` holds."""
        held = {**rule.slots.parameters(), **rule.slots.buffers()}
        for name, stack in {**self.trained, **self.fixed, **self.buffers}.items():
            held[name].copy_(self.own(name, stack[member], member))


class Core:
    """``rule``, the template, computes for every member: its layers and switches are all that is used of it.

    numbers: (M,) by place and attribute, where members differ in them: weights of losses (``alike.scalars``), and what
    layers and rule are told of widths (``widths.numbers``).
    """

    def __init__(self, rule: Rule, numbers: Mapping[tuple[str, str], Tensor]) -> None:
        self.rule, self.numbers = rule, dict(numbers)

    @classmethod
    def of(cls, rules: Sequence[Rule], x: Tensor) -> Core:
        """The core of the networks that ``rules`` hold; x (1, ...): a sample."""
        like = next(iter(rules[0].slots.parameters().values()))
        found = {**scalars(rules), **dict(widths.numbers(rules, x))}
        rows = {place: like.new_tensor(values) for place, values in found.items()}
        return cls(widths.template(rules), rows)

    def gradients(
        self, held: Tensors, x: Tensor, y: Tensor, noise: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], Step, dict[str, Tensor]]:
        """Every member's gradients, report and new buffers for its own batch: x (M, B, ...), y (M, B, ...)."""

        def one(p: Any, f: Any, b: Any, feedback: Any, noise: Any, numbers: Any, x: Tensor, y: Tensor) -> Any:
            with self._told(numbers):
                return self.rule.gradients(p, x, y, feedback=feedback, noise=noise, state={**b, **f})

        self.rule.model.train()
        return torch.func.vmap(one)(
            held.trained, held.fixed, held.buffers, held.feedback, dict(noise), self.numbers, x, y
        )

    @torch.no_grad()
    def scores(self, held: Tensors, x: Tensor, *, shared: bool) -> Tensor:
        """Every member's output (M, B, C) in eval mode, for x (M, B, ...), or (B, ...) where it is ``shared``."""

        def one(tensors: Any, numbers: Any, x: Tensor) -> Tensor:
            with self._told(numbers), self.rule.slots.filled(tensors):
                return self.rule.model(x)

        before = self.rule.model.training
        self.rule.model.eval()
        try:
            tensors = {**held.trained, **held.fixed, **held.buffers}
            return torch.func.vmap(one, in_dims=(0, 0, None if shared else 0))(tensors, self.numbers, x)
        finally:
            self.rule.model.train(before)

    @contextmanager
    def _told(self, numbers: Mapping[tuple[str, str], Tensor]) -> Iterator[None]:
        """Within the block the template has one member's numbers."""
        options, fan_ins = self.rule.options, self.rule.fan_ins
        layers, before = dict(self.rule.model.named_modules()), []
        for (place, name), number in numbers.items():
            if place == "options":
                self.rule.options = dataclasses.replace(self.rule.options, **{name: number})  # type: ignore[arg-type]
            elif place == "fan-in":
                self.rule.fan_ins = {**self.rule.fan_ins, name: number}
            else:
                layer = layers[place.removeprefix("layer ")]
                before.append((layer, name, getattr(layer, name)))
                setattr(layer, name, number)
        try:
            yield
        finally:
            self.rule.options, self.rule.fan_ins = options, fan_ins
            for layer, name, value in before:
                setattr(layer, name, value)
