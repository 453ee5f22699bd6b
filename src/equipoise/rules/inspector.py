"""The mode under which a survey runs a model: it notes sites and dropout calls, and refuses hidden weight transport.

A weight may reach an activity through a product that feedback can stand in for, or unit by unit. Any other way would
carry the error back through the weight itself, unnoticed, so it is refused by the weight's name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode, resolve_name

from equipoise.errors import InputError
from equipoise.rules.operations import DROPOUTS, LOOKUPS, PLAIN, VIEWS, WEIGHTED, is_product, read
from equipoise.rules.origins import Origins, of_weights_alone
from equipoise.rules.tape import Keys, dropout_arguments

__all__ = ["DropoutInfo", "Inspector", "Needs", "SiteInfo", "Unseen"]


@dataclass(frozen=True)
class SiteInfo:
    """The input of a weighted operation: the weight's name, rows per sample (0: the batch is not its first axis), its
    own shape, and whether it depends on earlier weights."""

    name: str
    rows: int
    shape: tuple[int, ...]
    hidden: bool

    @property
    def values(self) -> int:
        """Values in a row."""
        return math.prod(self.shape[1:])


@dataclass(frozen=True)
class DropoutInfo:
    """One dropout call: its number, rows per sample, the mask's shape behind the first axis, the rate, the input's
    whole shape."""

    number: int
    rows: int
    shape: tuple[int, ...]
    rate: float
    whole: tuple[int, ...]


@dataclass(frozen=True)
class Needs:
    """What a rule asks of a model. transport: feedback stands in for ``matrices``; sites: errors enter at sites.

    matrices: the weights that carry a signal between layers; inner: parameters inside circuits, left exact; exact:
    those of embeddings and normalisation. Without transport and sites nothing is refused.
    """

    transport: bool = False
    sites: bool = False
    matrices: frozenset[str] = frozenset()
    inner: frozenset[str] = frozenset()
    exact: frozenset[str] = frozenset()


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)


def _label(function: Any) -> str:
    return (resolve_name(function) or getattr(function, "__name__", str(function))).split(".")[-1]


class Inspector(TorchFunctionMode):
    """Notes each weighted input and dropout call, and refuses what ``needs`` excludes."""

    def __init__(self, keys: Keys, origins: Origins, batch: int, needs: Needs) -> None:
        super().__init__()
        self.keys, self.origins, self.batch, self.needs = keys, origins, batch, needs
        self.sites: list[SiteInfo] = []
        self.dropouts: list[DropoutInfo] = []
        self.met: dict[str, None] = {}
        self.seen: list[Tensor] = []

    def __torch_function__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function in DROPOUTS:
            self._dropout(function, args, kwargs)
        given = [*_tensors(list(args)), *_tensors(list(kwargs.values()))]
        call = None
        if function in WEIGHTED:
            call = read(function, args, kwargs, lambda t: self.keys.find(t) is not None)
        if call is not None:
            self._weighted(call.input, call.weight)
        result = function(*args, **kwargs)
        if function in VIEWS:
            self.keys.view(function, args, kwargs, result)
        elif any(t.requires_grad for t in _tensors(result)):
            self.met |= {entry.name: None for t in given if (entry := self.keys.find(t)) is not None}
            if function in LOOKUPS:
                self.origins.learned_lookup(result)
            elif call is None and function not in PLAIN:
                self._judge(function, given)
        return result

    def _dropout(self, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        x, rate, _ = dropout_arguments(args, kwargs)
        free = DROPOUTS[function]
        shape = tuple(x.shape[1:]) if free == 0 else (x.shape[1], *(1,) * free)
        self.dropouts.append(DropoutInfo(len(self.dropouts), 0, shape, rate, tuple(x.shape)))

    def _own(self, names: frozenset[str]) -> list[str]:
        """The parameters that a tensor of this origin consists of, if it consists of weights alone."""
        return sorted(names - self.needs.inner - self.needs.exact) if of_weights_alone(names) else []

    def _weighted(self, x: Tensor, weight: Tensor) -> None:
        entry = self.keys.find(weight)
        own = [entry.name] if entry is not None else self._own(self.origins.of(weight))
        if entry is None and own and self.needs.transport:
            raise self._changed(own[0], weight)
        if (entry is not None and entry.inner) or any(x is other for other in self.seen):
            return
        self.seen.append(x)
        name = own[0] if own else f"operation {len(self.sites)}"
        self.sites.append(SiteInfo(name, 0, tuple(x.shape), bool(self.origins.of(x) - {""})))

    def _changed(self, name: str, weight: Tensor) -> InputError:
        change = re.sub(r"Backward\d*$", "", type(weight.grad_fn).__name__).lower()
        return InputError(
            f"'{name}' is changed by {change} before it is used as a weight, so feedback cannot take its place in the "
            "backward pass; use rule 'dfa' or 'bp', or apply the change outside the forward pass"
        )

    def _arrives(self, names: frozenset[str]) -> bool:
        """Whether an error that reaches a tensor of this origin would be this rule's to replace."""
        return "" in names and (self.needs.transport or len(names) > 1)

    def _judge(self, function: Any, given: Sequence[Tensor]) -> None:
        """Refuse an operation through which an error would pass back by a weight itself."""
        if not (self.needs.transport or self.needs.sites):
            return
        origins = [self.origins.of(t) for t in given]
        if any(self._arrives(names) for names in origins):
            for tensor, names in zip(given, origins, strict=True):
                own = self._own(names)
                if own and (tensor.ndim >= 2 or is_product(function)):
                    raise self._untransported(own[0], _label(function))

    def _untransported(self, name: str, label: str) -> InputError:
        rule = "feedback alignment cannot transport" if self.needs.transport else "direct feedback cannot cut"
        return InputError(
            f"'{name}' is used by {label}, which {rule}: it knows linear, convolution and matrix products with a "
            "weight of two dimensions. Write the layer with those, or use rule 'bp'"
        )

    def judge_custom(self, output: Tensor) -> None:
        """Refuse a user's own ``autograd.Function`` that takes a weight and an activity."""
        self.origins.of(output)
        for node, inputs in self.origins.custom():
            weights = [n for names in inputs for n in self._own(names) if n in self.needs.matrices]
            if weights and any(self._arrives(names) for names in inputs):
                raise self._untransported(weights[0], type(node).__name__.removesuffix("Backward"))

    def judge_unmet(self, names: Sequence[str]) -> None:
        """Refuse weights with a gradient that no torch function was seen to use."""
        for name in names:
            if name in self.needs.matrices and name not in self.met:
                raise InputError(
                    f"'{name}' reaches the output by code that a rule cannot see (a scripted or traced module?); "
                    "pass the plain module, or use rule 'bp'"
                )


class Unseen(TorchFunctionMode):
    """Around a survey's backward pass: refuses weights or dropout that run again there.

    Activation checkpointing repeats the forward pass within the backward pass, outside the tape, and so by the plain
    rules of autograd.
    """

    def __init__(self, keys: Keys | None) -> None:
        super().__init__()
        self.keys = keys

    def __torch_function__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        given = [*_tensors(list(args)), *_tensors(list(kwargs.values()))]
        weight = next((e for t in given if self.keys is not None and (e := self.keys.find(t)) is not None), None)
        if weight is not None or function in DROPOUTS:
            what = f"'{weight.name}'" if weight is not None else "dropout"
            raise InputError(
                f"the model uses {what} again in its backward pass (activation checkpointing?), where a rule cannot "
                "follow; switch that off, or use rule 'bp' without dropout in the repeated part"
            )
        return function(*args, **kwargs)
