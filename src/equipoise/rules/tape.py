"""The one mode under which a model's forward pass runs: it sees every torch call, and changes three kinds.

* an operation with a weight that has feedback runs as its feedback-alignment twin;
* the input of a weighted operation is cut from the graph, where direct feedback wants a site;
* dropout takes its mask from the noise that it is given.

Everything else passes through. The mode works eagerly, under ``torch.func`` and in full-graph compilation; what it
finds out goes into lists that the caller passed in, because dynamo loses writes to a mode's attributes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from equipoise.errors import InputError
from equipoise.rules.operations import DROPOUTS, VIEWS, WEIGHTED, Call, read

__all__ = ["Entry", "Keys", "Tape", "another_path", "changed_rate", "serve_dropout"]


@dataclass(frozen=True)
class Entry:
    """A weight of the model, the name it has there, and its feedback where the rule replaces it."""

    tensor: Tensor
    name: str
    feedback: Tensor | None
    inner: bool = False


class Keys:
    """The model's weights, found by identity: a parameter, or a view of one made during the pass."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.entries = list(entries)
        self.by_id = {id(entry.tensor): entry for entry in self.entries}

    def add(self, entry: Entry) -> None:
        """Enter a tensor made during the pass (kept alive here, so that its identity stays its own)."""
        self.entries.append(entry)
        if not torch.compiler.is_compiling():
            self.by_id[id(entry.tensor)] = entry

    def find(self, tensor: Any) -> Entry | None:
        """The entry that *is* ``tensor``, or None."""
        if not torch.compiler.is_compiling():
            return self.by_id.get(id(tensor))
        for entry in self.entries:
            if entry.tensor is tensor:
                return entry
        return None

    def view(self, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> None:
        """Enter ``result``, the same view of the weight ``args[0]`` as ``function`` makes of its feedback."""
        entry = self.find(args[0]) if args else None
        if entry is not None:
            feedback = entry.feedback
            if feedback is not None:
                feedback = function(feedback, *args[1:], **kwargs)
            self.add(Entry(result, entry.name, feedback, entry.inner))


def serve_dropout(x: Tensor, mask: Tensor, rate: float) -> Tensor:
    """x times ``mask`` / (1 - rate): dropout with a mask (1 keeps, 0 drops) that was drawn beforehand."""
    return x * (mask.to(x.dtype) / (1 - rate if rate < 1 else 1))


def another_path(wanted: str, found: str) -> InputError:
    """The error for a forward pass whose layers are not those of the survey."""
    return InputError(
        f"the model took another path than when the rule first saw it ('{found}' where '{wanted}' was used), so an "
        "error would enter at another layer; direct feedback needs the same layers in every pass; use rule 'fa'"
    )


def changed_rate(number: int, now: float, then: float) -> InputError:
    """The error for a dropout whose masks were drawn for another rate."""
    return InputError(
        f"dropout {number} now has the rate {now}, and its mask was drawn for {then}; "
        "call rule.look(x) after a rate has changed"
    )


def dropout_arguments(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Tensor, float, bool]:
    """(input, rate, training) of a call of ``F.dropout`` or its channel-wise kin."""
    given = {**dict(zip(("input", "p", "training"), args, strict=False)), **kwargs}
    return given["input"], given.get("p", 0.5), given.get("training", True)


class Tape(TorchFunctionMode):
    """See the module. ``cuts[k]``: the weight at the k-th weighted input, and whether to cut there; ``heard`` gets the
    tensors before the cuts; ``rates``: dropout rates that the noise was drawn for."""

    def __init__(
        self,
        keys: Keys,
        *,
        cuts: Sequence[tuple[str, bool]] | None = None,
        heard: list[Tensor] | None = None,
        noise: Mapping[str, Tensor] | None = None,
        rates: Mapping[int, float] | None = None,
    ) -> None:
        super().__init__()
        self.keys = keys
        self.cuts = cuts
        self.heard = heard
        self.noise = noise
        self.rates = rates or {}
        self.dropped = 0
        self.twins: list[tuple[Tensor, Tensor]] = []
        self.seen: list[Tensor] = []

    def __torch_function__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self.twins:
            args = tuple(self._twin(a) for a in args)
            kwargs = {k: self._twin(a) for k, a in kwargs.items()}
        if function in WEIGHTED:
            call = read(function, args, kwargs, self._is_weight)
            if call is not None:
                return self._weighted(call)
        elif function in VIEWS:
            result = function(*args, **kwargs)
            self.keys.view(function, args, kwargs, result)
            return result
        elif self.noise and function in DROPOUTS:
            number, self.dropped = self.dropped, self.dropped + 1
            mask = self.noise.get(f"dropout{number}")
            if mask is not None:
                x, rate, training = dropout_arguments(args, kwargs)
                if training and rate != self.rates.get(number, rate):
                    raise changed_rate(number, rate, self.rates[number])
                return serve_dropout(x, mask, rate) if training else x
        return function(*args, **kwargs)

    def _is_weight(self, tensor: Any) -> bool:
        return self.keys.find(tensor) is not None

    def _weighted(self, call: Call) -> Tensor:
        entry = self.keys.find(call.weight)
        x = call.input
        if self.cuts is not None and not (entry is not None and entry.inner):
            x = self._site(x, entry)
        if entry is None or entry.feedback is None:
            return call.plain(x)
        return call.fed_back(x, entry.feedback)

    def _site(self, x: Tensor, entry: Entry | None) -> Tensor:
        """Cut ``x`` from the graph if its turn in ``cuts`` says so; a tensor met before has had its turn."""
        if any(x is other for other in self.seen):
            return x
        assert self.cuts is not None
        name, cut = self.cuts[len(self.seen)] if len(self.seen) < len(self.cuts) else ("nothing", False)
        if name == "nothing" or (entry is not None and entry.name != name):
            raise another_path(name, entry.name if entry is not None else "an operation")
        twin = x.detach() if cut else x
        self.seen.append(twin)
        if cut:
            assert self.heard is not None
            self.heard.append(x)
            self.twins.append((x, twin))
        return twin

    def _twin(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            for original, twin in self.twins:
                if original is value:
                    return twin
        elif isinstance(value, (tuple, list)):
            twins = [self._twin(v) for v in value]
            return type(value)(*twins) if hasattr(value, "_fields") else type(value)(twins)
        return value
