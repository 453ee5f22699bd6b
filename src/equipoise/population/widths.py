"""Members of different widths: tensors padded with zeros to the widest, and what tells real elements from padding.

A padded unit is inert: its weights from below, its bias and its outgoing weights are 0, so that whatever its activation
makes of 0 reaches nobody. Updates leave padding as it is (``mask``), so it stays 0. What sums over the units of a layer
is told how many are real (``contracts.Counted``); whether that was enough is tried, on one member of each width.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn

from equipoise.contracts import Counted, Stacked
from equipoise.population.alike import Refused, widest
from equipoise.rules import Rule

__all__ = ["Place", "blocks", "joined", "kinds", "numbers", "template"]

Blocks = tuple[int, ...]


class Place:
    """Where one tensor of each member lies in their stack (M, ...), as long in each axis as the longest.

    members: for each member and axis the lengths of the blocks that the axis holds, mostly one; every block is padded
    by itself, at its end.
    """

    def __init__(self, members: Sequence[Sequence[Blocks]]) -> None:
        longest = [
            tuple(max(sizes) for sizes in zip(*axis, strict=True)) for axis in zip(*members, strict=True)
        ]  # by axis
        self.shape = tuple(map(sum, longest))
        self._rows = [
            [None if own == whole else _rows(own, whole) for own, whole in zip(member, longest, strict=True)]
            for member in members
        ]
        self._moved: dict[tuple[torch.device, int], list[Tensor | None]] = {}
        self.padded = any(row is not None for rows in self._rows for row in rows)

    @classmethod
    def of(cls, tensors: Sequence[Tensor], first: Sequence[Blocks] | None = None) -> Place:
        """The place of these; ``first``: the blocks of their first axes."""
        return _place(tuple(tensor.shape for tensor in tensors), None if first is None else tuple(first))

    def _on(self, device: torch.device, member: int) -> list[Tensor | None]:
        """By axis the rows of the padded tensor that are the member's; None: all."""
        if (device, member) not in self._moved:
            own = self._rows[member]
            self._moved[device, member] = [None if rows is None else rows.to(device) for rows in own]
        return self._moved[device, member]

    def pad(self, tensor: Tensor, member: int) -> Tensor:
        """A member's tensor among zeros."""
        for axis, rows in enumerate(self._on(tensor.device, member)):
            if rows is not None:
                shape = [*tensor.shape[:axis], self.shape[axis], *tensor.shape[axis + 1 :]]
                tensor = tensor.new_zeros(shape).index_copy_(axis, rows, tensor)
        return tensor

    def cut(self, tensor: Tensor, member: int) -> Tensor:
        """What of a padded ``tensor`` is the member's."""
        for axis, rows in enumerate(self._on(tensor.device, member)):
            if rows is not None:
                tensor = tensor.index_select(axis, rows)
        return tensor

    def stack(self, tensors: Sequence[Tensor]) -> Tensor:
        """All members' tensors (M, ...), padded."""
        return torch.stack([self.pad(tensor, member) for member, tensor in enumerate(tensors)])

    def mask(self, tensors: Sequence[Tensor]) -> Tensor:
        """Where in ``stack(tensors)`` the real elements are."""
        return self.stack([torch.ones_like(tensor, dtype=torch.bool) for tensor in tensors])


@lru_cache(maxsize=64)  # noise has the same shapes at every step
def _place(shapes: tuple[torch.Size, ...], first: tuple[Blocks, ...] | None) -> Place:
    whole = [[(length,) for length in shape] for shape in shapes]
    return Place(whole if first is None else [[one, *rest[1:]] for one, rest in zip(first, whole, strict=True)])


def _rows(own: Blocks, whole: Blocks) -> Tensor:
    starts = [sum(whole[:k]) for k in range(len(whole))]
    return torch.cat([torch.arange(start, start + length) for start, length in zip(starts, own, strict=True)])


def joined(
    members: Sequence[Mapping[str, Tensor]], first: Sequence[Mapping[str, Blocks]] | None = None
) -> tuple[dict[str, Tensor], dict[str, Place]]:
    """The members' tensors stacked by name, and the places of those that are padded.

    ``first``: each member's blocks of first axes, by the name of a parameter (which may follow a prefix and a slash).
    """
    stacks, places = {}, {}
    for name in members[0]:
        tensors = [held[name].detach() for held in members]
        key = name.rpartition("/")[2]
        own = [one[key] for one in first] if first and key in first[0] else None
        if own is not None and any(sum(one) != len(tensor) for one, tensor in zip(own, tensors, strict=True)):
            own = None  # something else of that name
        place = Place.of(tensors, own)
        stacks[name] = place.stack(tensors)
        if place.padded:
            places[name] = place
    return stacks, places


def blocks(rule: Rule) -> dict[str, Blocks]:
    """The parameters whose first axis holds several kinds of cells one behind the other, with how many of each."""
    return {
        name: tuple(module.stacked[attribute])
        for module, _, attribute, name in rule.slots.places
        if isinstance(module, Stacked) and attribute in module.stacked
    }


def kinds(rules: Sequence[Rule]) -> list[int]:
    """The first member of each combination of widths."""
    found: dict[object, int] = {}
    for member, rule in enumerate(rules):
        found.setdefault(_shapes(rule), member)
    return list(found.values())


def _shapes(rule: Rule) -> tuple[torch.Size, ...]:
    return tuple(tensor.shape for tensor in {**rule.slots.parameters(), **rule.slots.buffers()}.values())


def template(rules: Sequence[Rule]) -> Rule:
    """The rule that computes for all members: the first, or a copy of it whose layers know the greatest widths."""
    if len(kinds(rules)) == 1:
        return rules[0]
    _, chosen = copy.deepcopy((rules[0].model, rules[0]))
    layers = [dict(rule.model.named_modules()) for rule in rules]
    for name, layer in chosen.model.named_modules():
        for key, value in widest([one[name] for one in layers]).items():
            setattr(layer, key, value)
    return chosen


def numbers(rules: Sequence[Rule], x: Tensor) -> Iterator[tuple[tuple[str, str], list[float]]]:
    """What members of different widths need to be told, a number each: real units by layer, fan-ins by weight.

    x (1, ...): a sample, to see what every layer is given.
    """
    first = kinds(rules)
    if len(first) == 1:
        return
    seen = {_shapes(rules[member]): _units(rules[member].model, x) for member in first}
    found = [seen[_shapes(rule)] for rule in rules]
    for place in found[0]:
        values = [float(one[place]) for one in found]
        if len(set(values)) > 1:
            yield place, values
    for name, weight in rules[0].slots.parameters().items():
        if weight.ndim > 1:
            values = [float(rule.slots.parameters()[name][0].numel()) for rule in rules]
            if len(set(values)) > 1:
                yield ("fan-in", name), values


@torch.no_grad()
def _units(model: nn.Module, x: Tensor) -> dict[tuple[str, str], int]:
    """How many units every layer that counts them has, by layer and buffer."""
    found: dict[tuple[str, str], int] = {}
    hooks = []

    def listen(name: str, layer: Counted) -> None:
        def heard(_: nn.Module, given: tuple[Tensor, ...]) -> None:
            for key, number in layer.counts(given[0]).items():
                if found.setdefault((f"layer {name}", key), number) != number:
                    raise Refused("widths", f"layer '{name}' has inputs of several widths")

        hooks.append(layer.register_forward_pre_hook(heard))  # type: ignore[attr-defined]

    for name, layer in model.named_modules():
        if isinstance(layer, Counted):
            listen(name, layer)
    before = model.training
    try:
        model.eval()(x)
    finally:
        model.train(before)
        for hook in hooks:
            hook.remove()
    return found
