"""The scaling graph of a network: which parameters can be rescaled, by which free log-scales, and what bounds them."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from equipoise.balance.blocks import Classes
from equipoise.balance.builder import Boundary, Builder, Opened
from equipoise.balance.layout import Layout, place
from equipoise.balance.ledger import Rows, Use, compact
from equipoise.balance.table import readable
from equipoise.balance.trace import trace
from equipoise.errors import InputError

__all__ = ["ScalingGraph", "Units", "graph"]


@dataclass(frozen=True, eq=False)
class Units:
    """The units of one layer.

    ``nodes`` are their ids, ``status`` is "scaled" (each has a log-scale of its own), "tied" (some share a log-scale
    with units elsewhere, or theirs is a sum of others), "visible" (all fixed at 1) or "skipped" (fixed, because a
    normalisation behind them makes their scale irrelevant); ``why`` says it in words.
    """

    name: str
    nodes: Tensor
    status: str
    why: str
    weights: tuple[str, ...]
    classes: int


@dataclass(frozen=True, eq=False)
class ScalingGraph:
    """What synaptic balance may do to a model: element e of a parameter becomes w_e exp(v[into_e] - v[out_of_e]).

    v = N z (``rows``), z the free log-scales: any z leaves the model's function as it is. ``uses`` has one entry for
    each parameter with exponents, ``units`` one for each layer, ``boundaries`` the operations that read a signal as
    it is, ``excluded`` the parameters without exponents, with the reason. ``zeros`` marks, by parameter, the elements
    of shared and of frozen weights that were 0 and have to stay so for the graph to hold.
    """

    model: nn.Module
    uses: tuple[Use, ...]
    rows: Rows
    units: tuple[Units, ...]
    boundaries: tuple[Boundary, ...]
    excluded: Mapping[str, str] = field(default_factory=dict)
    zeros: Mapping[str, Tensor] = field(default_factory=dict, repr=False)

    @property
    def scalable(self) -> int:
        """The number of free log-scales; 0 where nothing can be rescaled."""
        return self.rows.free

    @property
    def stale(self) -> str | None:
        """The name of a parameter that has left the zeros that the graph relies on; None while the graph holds."""
        named = dict(self.model.named_parameters())
        for name, zero in self.zeros.items():
            weight = named.get(name)
            if weight is not None and not weight.is_meta and bool(weight.detach()[zero.to(weight.device)].any()):
                return name
        return None

    @functools.cached_property
    def placed(self) -> tuple[Classes, dict[str, Layout]]:
        """The scale classes and, by parameter name, which of them its elements meet; read once, on their device."""
        named = dict(self.model.named_parameters())
        device = next((named[use.name].device for use in self.uses if use.name in named), torch.device("cpu"))
        return place(self.uses, self.rows, {name: w.shape for name, w in named.items()}, device)

    @classmethod
    def declare(cls, builder: Builder) -> ScalingGraph:
        """The graph that a ``Builder`` describes: for networks that do not trace."""
        uses = builder.uses()
        rows = builder.solve(_needed(uses, builder.classes()))
        reasons = builder.reasons()
        free_of_scale = {node for node, why in reasons.items() if why in builder.scale_free}
        units = _units(builder.opened, rows, reasons, free_of_scale)
        excluded = dict(builder.constant)
        kept = []
        for use in uses:
            before = _nodes(use.into)
            idle = not rows.label[use.into].any() and not rows.label[use.out_of].any()
            if idle and before and before <= free_of_scale:
                excluded[use.name] = f"{reasons[min(before)]}: its scale changes nothing"
            else:
                kept.append(use)
        named = {use.name for use in uses} | set(excluded)
        for name in builder.parameters:
            if name not in named:
                excluded[name] = builder.pinned.get(name, "not used by the forward pass")
        return cls(builder.model, tuple(kept), rows, units, tuple(builder.boundaries), excluded, builder.relied)

    def __str__(self) -> str:
        return readable(self)


def graph(model: nn.Module, example: Any = None, frozen: Sequence[str] = ()) -> ScalingGraph:
    """Read from one forward pass how the units of ``model`` can be rescaled without changing its function.

    The pass runs on meta tensors: it costs neither memory nor arithmetic, and the model, its hooks' registration and
    the random state stay as they are. ``example`` is an input (a tensor, a tuple of positional arguments, or a dict
    of named ones); without it the shape is guessed from the first layer. ``frozen`` holds patterns of parameter names
    (``"features.*"``) that must keep their values. Raises ``InputError`` for a model that cannot be traced, with the
    line at which it stopped, and for quantised, integer or uninitialised parameters.
    """
    _check(model)
    return ScalingGraph.declare(trace(model, example, frozen))


def _check(model: nn.Module) -> None:
    if not isinstance(model, nn.Module):
        raise InputError(f"a scaling graph is made of a torch module, not of a {type(model).__name__}")
    named = dict(model.named_parameters())
    for name, value in named.items():
        if is_lazy(value):
            raise InputError(f"'{name}' has no shape yet; run the model once on an example")
        if value.is_quantized or not value.is_floating_point():
            raise InputError(f"'{name}' is {value.dtype}; only real floating-point parameters can be rescaled")
    for name, value in model.named_buffers():
        if value.is_quantized:
            raise InputError(f"'{name}' is {value.dtype}; balance the model before it is quantised")
    for name, module in model.named_modules():
        if ".quantized" in type(module).__module__:
            raise InputError(f"'{name}' is a quantised {type(module).__name__}; balance the model before")
    if not named:
        raise InputError(f"{type(model).__name__} has no parameters, so there is nothing to rescale")


def _nodes(ids: Tensor) -> set[int]:
    return set(torch.unique(compact(ids)).tolist())


def _needed(uses: Sequence[Use], classes: Tensor) -> Tensor:
    """The classes that some exponent really depends on: those of uses whose two nodes differ somewhere."""
    found = [torch.zeros(1, dtype=torch.int64)]
    for use in uses:
        into, out_of = classes[compact(use.into)], classes[compact(use.out_of)]
        apart = not any(min(sizes) > 1 for sizes in zip(into.shape[::-1], out_of.shape[::-1], strict=False))
        if apart and max(into.numel(), out_of.numel()) > 1:
            found += [into.reshape(-1), out_of.reshape(-1)]
        else:
            into, out_of = torch.broadcast_tensors(into, out_of)
            found += [into[into != out_of], out_of[into != out_of]]
    return torch.unique(torch.cat(found))


def _units(opened: Sequence[Opened], rows: Rows, reasons: dict[int, str], free_of_scale: set[int]) -> tuple[Units, ...]:
    owner: dict[int, str] = {}
    seen: dict[str, list[Tensor]] = {}
    result = []
    for one in opened:
        nodes = one.ids.reshape(-1)
        label = rows.label[nodes]
        before = seen.setdefault(one.name, [])
        if any(torch.equal(label, other) for other in before) and not (label == -1).any():
            continue  # the layer runs again, with the classes that it has
        before.append(label)
        name = one.name if len(before) == 1 else f"{one.name} ({len(before)})"
        live = label[label > 0]
        classes = int(live.unique().numel() + (label == -1).sum())
        others = sorted({owner[k] for k in live.unique().tolist() if k in owner})
        for k in live.unique().tolist():
            owner.setdefault(k, name)
        status, why = "scaled", ""
        if not classes:
            first = next((reasons[node] for node in nodes.tolist() if node in reasons), "")
            skipped = set(nodes.tolist()) <= free_of_scale
            status = "skipped" if skipped else "visible"
            why = f"{first}: scale-free" if skipped else first or "the conditions leave no freedom"
        elif others:
            status, why = "tied", f"shares its classes with {', '.join(others[:3])}"
        elif (label == -1).any():
            status, why = "tied", "its log-scales are sums of others"
        elif classes < len(nodes):
            status, why = "tied", f"{len(nodes)} units in {classes} classes"
        result.append(Units(name, nodes, status, why, tuple(one.weights), classes))
    return tuple(result)
