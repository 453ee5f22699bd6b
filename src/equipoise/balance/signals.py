"""What the tensors of a watched forward pass are: activities with scale nodes, views of parameters, or constants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.balance.builder import Builder
from equipoise.balance.held import Held
from equipoise.errors import InputError

__all__ = ["Call", "Signals", "handlers", "handles"]


@dataclass
class Call:
    """One operation of the forward pass: its name, its arguments as the model gave them, and its result (meta)."""

    signals: Signals
    name: str
    place: tuple[str, str]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any
    function: Callable[..., Any]

    @property
    def builder(self) -> Builder:
        """The ledger that the operation's conditions go into."""
        return self.signals.builder

    def get(self, position: int, name: str, default: Any = None) -> Any:
        """An argument by position or name."""
        return self.args[position] if position < len(self.args) else self.kwargs.get(name, default)

    def gains(self, value: Any) -> Tensor:
        """The nodes of an argument, 0 for a constant."""
        return self.signals.gains(value)

    def bound(self, values: Sequence[Any], why: str, kind: str = "", *, scale_free: bool = False) -> None:
        """The arguments ``values`` are read as they are here; parameters among them keep their values."""
        name, found = self.place
        activities = [self.gains(v) for v in values if self.signals.carries(v)]
        self.builder.bound(name, kind or found, activities, why, scale_free=scale_free)
        for value in values:
            held = self.signals.held(value)
            if held is not None:
                self.builder.pin(held.name, f"read as it is by {kind or found}" + (f" '{name}'" if name else ""))


_MOST_ELEMENTS = 1_000_000

handlers: dict[str, Callable[[Call], Any]] = {}


def handles(*names: str) -> Callable[[Callable[[Call], Any]], Callable[[Call], Any]]:
    """Enter the decorated function as the handler of these operations: a ``Call`` to the nodes of its result."""

    def enter(handler: Callable[[Call], Any]) -> Callable[[Call], Any]:
        handlers.update(dict.fromkeys(names, handler))
        return handler

    return enter


def _place(value: Tensor) -> int:
    """The address of the memory that a tensor is a view of; 0 where it has none."""
    return value.untyped_storage().data_ptr() if value.layout == torch.strided and not value.is_meta else 0


class Signals:
    """The nodes of each activity, the views of each parameter, and the meta twin of each real tensor."""

    def __init__(self, model: nn.Module, frozen: Sequence[str]) -> None:
        self.builder = Builder(model, frozen)
        self._ids: dict[int, Tensor] = {}
        self._held: dict[int, Held] = {}
        self._metas: dict[int, Tensor] = {}
        self._known: set[int] = set()
        self._alive: list[Tensor] = []  # an id is a tensor's for as long as the tensor lives
        self._zeros: set[int] = set()
        self._varying: set[int] = set()
        self._elementwise: dict[str, Tensor] = {}
        self._owned = {id(tensor) for tensor in [*model.parameters(), *model.buffers()]}
        self._places = {_place(tensor) for tensor in [*model.parameters(), *model.buffers()]} - {0}
        for name, parameter in self.builder.parameters.items():
            self.hold(parameter, Held.whole(name, parameter))

    def held(self, value: Any) -> Held | None:
        """The view of a parameter that ``value`` is, if it is one."""
        return self._held.get(id(value)) if isinstance(value, Tensor) else None

    def carries(self, value: Any) -> bool:
        """Whether ``value`` is an activity with nodes of its own."""
        return isinstance(value, Tensor) and id(value) in self._ids

    def matters(self, value: Any) -> bool:
        """Whether ``value`` is an activity or a parameter, no constant."""
        return self.carries(value) or self.held(value) is not None

    def owned(self, value: Tensor) -> bool:
        """Whether ``value`` is a parameter or a buffer of the model, or lies in the memory of one (``.data``)."""
        return id(value) in self._owned or _place(value) in self._places

    def gains(self, value: Any) -> Tensor:
        """The nodes of ``value``: an activity's, a parameter's taken element by element, 0 for a constant."""
        if self.carries(value):
            return self._ids[id(value)]
        held = self.held(value)
        if held is not None:
            return self.elementwise(held)
        return self.builder.visible(value.shape if isinstance(value, Tensor) else ())

    def elementwise(self, held: Held) -> Tensor:
        """The nodes of a parameter that is used as an activity is: one for each element."""
        parameter = self.builder.parameters[held.name]
        if parameter.numel() > _MOST_ELEMENTS:
            self.builder.pin(held.name, "used element by element, in more elements than have classes")
            return self.builder.visible(held.shape)
        if held.name not in self._elementwise:
            self._elementwise[held.name] = self.builder.units(held.name, parameter.shape, [held.name])
        ids = self._elementwise[held.name]
        ids = ids.permute(held.order) if held.order is not None else ids.reshape(-1)[held.index()]
        held.use(self.builder, ids, self.builder.visible())
        return ids

    def track(self, value: Tensor, ids: Tensor) -> None:
        """``value`` is an activity with these nodes."""
        self._held.pop(id(value), None)
        self._ids[id(value)] = ids if ids.shape == value.shape else ids.expand(value.shape)
        self.remember(value)

    def zeros(self, value: Tensor) -> None:
        """``value`` was made of zeros, which have nodes of their own until something is written into them."""
        self.track(value, self.builder.zeros(value.shape))
        self._zeros.add(id(self.meta(value)))

    def is_zero(self, value: Any) -> bool:
        """Whether ``value`` is the number 0, or a tensor of zeros that nothing was written into."""
        if isinstance(value, Tensor):
            return id(self.meta(value)) in self._zeros
        return isinstance(value, (int, float)) and value == 0

    def written(self, value: Tensor) -> None:
        """Something was written into ``value``, and with it into what it is a view of."""
        twin = self.meta(value)
        self._zeros -= {id(twin), id(twin._base)}

    def vary(self, value: Any) -> None:
        """``value`` is an input of whole numbers, or made of one: another input has others."""
        if isinstance(value, Tensor):
            self._varying.add(id(value))
            self.remember(value)

    def varies(self, value: Any) -> bool:
        """Whether ``value`` holds whole numbers that are another input's or that nobody knows."""
        return (
            isinstance(value, Tensor)
            and not value.is_floating_point()
            and (value.is_meta or id(value) in self._varying)
        )

    def hold(self, value: Tensor, held: Held) -> None:
        """``value`` is this view of a parameter."""
        self._held[id(value)] = held
        self.remember(value)

    def remember(self, value: Tensor) -> None:
        """``value`` was seen to be made; with nothing else said it is a constant."""
        self._alive.append(value)
        self._known.add(id(value))

    def settle(self, result: Any, ids: Any) -> None:
        """Give an operation's result its nodes; ``ids`` has the result's structure, None for a constant."""
        if isinstance(result, Tensor):
            if isinstance(ids, Held):
                self.hold(result, ids)
            elif ids is not None and result.is_floating_point():
                self.track(result, ids)
            else:
                self.remember(result)
        elif isinstance(result, (list, tuple)):
            for k, one in enumerate(result):
                self.settle(one, ids[k] if isinstance(ids, (list, tuple)) else ids)

    def meta(self, value: Any) -> Any:
        """The meta twin of a tensor; anything else as it is."""
        if not isinstance(value, Tensor):
            return value
        if value.is_meta and id(value) not in self._owned:
            if id(value) not in self._known:
                raise InputError("the trace lost a tensor, which code that it cannot see made (torch.func, C++)")
            return value
        if id(value) not in self._metas:
            twin = torch.empty(value.shape, dtype=value.dtype, device="meta")
            self._metas[id(value)] = twin
            self.remember(twin)
            self.remember(value)
        return self._metas[id(value)]
