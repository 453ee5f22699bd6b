"""One look at a model before a rule trains it: what it can train, where sites are, what dropout needs.

The survey runs the model once on an example batch with copies of its tensors, so nothing of the model changes.
Everything that a rule refuses, it refuses here, by the name of the layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode, resolve_name

from equipoise.errors import InputError
from equipoise.rules.operations import DROPOUTS, ELEMENTWISE, VIEWS, WEIGHTED, is_product, read
from equipoise.rules.slots import Slots
from equipoise.rules.tape import Entry, Keys, dropout_arguments

__all__ = ["Inspector", "SiteInfo", "Survey", "survey"]


@dataclass(frozen=True)
class SiteInfo:
    """The input of a weighted operation: the weight's name, its own shape, rows per sample (0: the batch is not its
    first axis), and whether it depends on earlier weights."""

    name: str
    rows: int
    shape: tuple[int, ...]
    hidden: bool

    @property
    def values(self) -> int:
        """Values in a row."""
        return torch.Size(self.shape[1:]).numel()


@dataclass(frozen=True)
class DropoutInfo:
    """One dropout call: its number, rows per sample, the mask's shape behind the first axis, the rate."""

    number: int

    rows: int
    shape: tuple[int, ...]
    rate: float


@dataclass(frozen=True)
class Survey:
    """What one forward pass showed."""

    sites: tuple[SiteInfo, ...]
    dropouts: tuple[DropoutInfo, ...]
    classes: int
    weights: tuple[str, ...]


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)


class Inspector(TorchFunctionMode):
    """Notes each weighted input and dropout call, and refuses a use of a keyed weight that no rule can transport."""

    def __init__(self, keys: Keys, batch: int, *, strict: bool) -> None:
        super().__init__()
        self.keys, self.batch, self.strict = keys, batch, strict
        self.sites: list[SiteInfo] = []
        self.dropouts: list[DropoutInfo] = []
        self.dropped = 0
        self.weights: list[str] = []
        self.seen: list[Tensor] = []
        self.changed: list[tuple[Tensor, str, str]] = []

    def __torch_function__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function in DROPOUTS:
            self._dropout(function, args, kwargs)
        if function in WEIGHTED:
            call = read(function, args, kwargs, lambda t: self.keys.find(t) is not None)
            if call is not None:
                self._weighted(call.input, call.weight)
            elif self.strict and is_product(function):
                self._refuse_changed(args)
            return function(*args, **kwargs)
        result = function(*args, **kwargs)
        if function in VIEWS:
            self.keys.view(function, args, kwargs, result)
        if self.strict and any(True for _ in _tensors(result)):
            self._judge(function, [*_tensors(list(args)), *_tensors(list(kwargs.values()))], result)
        return result

    def _rows(self, shape: Sequence[int]) -> int:
        rows, rest = divmod(shape[0], self.batch)
        return 0 if rest else rows

    def _dropout(self, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        x, rate, _ = dropout_arguments(args, kwargs)
        free = DROPOUTS[function]
        shape = tuple(x.shape[1:]) if free == 0 else (x.shape[1], *(1,) * free)
        rows = self._rows(x.shape)
        if rows:
            self.dropouts.append(DropoutInfo(self.dropped, rows, shape, rate))
        self.dropped += 1

    def _weighted(self, x: Tensor, weight: Tensor) -> None:
        entry = self.keys.find(weight)
        name = entry.name if entry is not None else self._changed_name(weight) or f"operation {len(self.weights)}"
        if self.strict and entry is None:
            self._refuse_changed([weight])
        if entry is not None and entry.inner:
            return
        self.weights.append(name)
        if any(x is other for other in self.seen):
            return
        self.seen.append(x)
        self.sites.append(SiteInfo(name, self._rows(x.shape), tuple(x.shape), x.requires_grad))

    def _changed_name(self, tensor: Any) -> str | None:
        return next((name for other, name, _ in self.changed if other is tensor), None)

    def _refuse_changed(self, tensors: Sequence[Any]) -> None:
        for other, name, by in self.changed:
            if any(other is tensor for tensor in tensors):
                raise InputError(
                    f"'{name}' is changed by {by} before it is used as a weight, so feedback cannot take its place "
                    "in the backward pass; use rule 'dfa', or apply the change outside the forward pass"
                )

    def _judge(self, function: Any, tensors: Sequence[Tensor], result: Any) -> None:
        """Refuse an untransportable use of a weight; remember what elementwise changes made of one."""
        if function in VIEWS:
            source = next((c for c in self.changed if any(c[0] is t for t in tensors)), None)
            if source is not None:
                self.changed.extend((t, source[1], source[2]) for t in _tensors(result))
            return
        for tensor in tensors:
            entry = self.keys.find(tensor)
            name = entry.name if entry is not None else self._changed_name(tensor)
            if name is None:
                continue
            label = (resolve_name(function) or getattr(function, "__name__", str(function))).split(".")[-1]
            if function in ELEMENTWISE:
                self.changed.extend((t, name, label) for t in _tensors(result))
            elif entry is not None and entry.feedback is not None:
                raise InputError(
                    f"'{name}' is used by {label}, which feedback alignment cannot transport: it knows linear, "
                    "convolution and matrix products with a weight of two dimensions. Write the layer with those, "
                    "freeze it, or use rule 'dfa' or 'bp'"
                )


def survey(slots: Slots, keys: Keys, tensors: Mapping[str, Tensor], x: Tensor, *, strict: bool) -> Survey:
    """Run ``slots.model`` once on ``x`` (B, ...) with ``tensors`` in place of its own, and report.

    ``keys`` holds those tensors; ``strict`` refuses what feedback alignment cannot transport. Raises
    ``InputError`` where the model does not accept ``x``, or does not return (B, classes).
    """
    inspector = Inspector(keys, x.shape[0], strict=strict)
    devices = [x.device] if x.device.type == "cuda" else []
    with slots.filled(tensors), torch.random.fork_rng(devices=devices), torch.enable_grad():
        try:
            with inspector:
                output = slots.model(x)
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            if isinstance(error, InputError):
                raise
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise InputError(
                f"the model does not accept a batch of shape {tuple(x.shape)} and dtype {x.dtype}: {reason}"
            ) from error
    if not isinstance(output, Tensor) or output.ndim != 2 or output.shape[0] != x.shape[0]:
        seen = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise InputError(f"a model returns (batch, classes), here ({x.shape[0]}, C); this one returns {seen}")
    return Survey(
        tuple(inspector.sites),
        tuple(inspector.dropouts),
        output.shape[1],
        tuple(dict.fromkeys(inspector.weights)),
    )


def entries(tensors: Mapping[str, Tensor], feedback: Mapping[str, Tensor], inner: frozenset[str] = frozenset()) -> Keys:
    """The keys of a pass: each weight of two or more dimensions, with its feedback where there is one."""
    return Keys(Entry(t, n, feedback.get(n), n in inner) for n, t in tensors.items() if t.ndim >= 2)
