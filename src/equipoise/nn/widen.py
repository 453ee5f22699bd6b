"""Widening an ordinary chain into its invertible twin, and the report of what that took."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from equipoise.errors import InputError, unknown_name
from equipoise.functional.activations import unit
from equipoise.functional.inverse import require_invertible
from equipoise.functional.orthogonal import distance, retract
from equipoise.nn.conversions import outputs
from equipoise.nn.invertible import InvertibleConv2d, InvertibleLinear

__all__ = ["InvertibleReport", "Widened", "invertible"]

WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, InvertibleLinear, InvertibleConv2d)
POOLS = (nn.MaxPool2d, nn.AvgPool2d)
SHAPES = (nn.Flatten, nn.Unflatten, nn.Identity)
DROPOUT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)


@dataclass(frozen=True)
class Widened:
    """One layer that can be inverted now. units: all of them, ``auxiliary`` of them new; parameters: how many are new.

    condition: the condition number of its matrix, 1 where it is orthogonal; distance: ||A A^T - I||.
    """

    name: str
    kind: str
    units: int
    auxiliary: int
    parameters: int
    condition: float
    distance: float


@dataclass(frozen=True)
class InvertibleReport:
    """What ``invertible`` did. changed: pairs (name, what became of it) of the other parts.

    error: the largest difference of the model's outputs on the example, in eval mode; None without an example.
    """

    layers: tuple[Widened, ...]
    changed: tuple[tuple[str, str], ...]
    error: float | None

    @property
    def parameters(self) -> int:
        """How many parameters were added."""
        return sum(layer.parameters for layer in self.layers)

    def __str__(self) -> str:
        lines = [
            f"{one.name} -> {one.kind}, {one.units} units, {one.auxiliary} of them auxiliary (+{one.parameters} "
            f"parameters), condition number {one.condition:.3g}, ||AA^T - I|| {one.distance:.2g}"
            for one in self.layers
        ]
        lines += [f"{name}: {what}" for name, what in self.changed]
        if self.error is not None:
            lines.append(f"largest difference of the model's outputs on the example: {self.error:.1e}")
        return "\n".join(lines)


class _Leaf(NamedTuple):
    name: str
    parent: nn.Module
    key: str
    module: nn.Module

    def __str__(self) -> str:
        return f"layer '{self.name}' ({type(self.module).__name__})"

    def put(self, new: nn.Module) -> None:
        self.parent._modules[self.key] = new.train(self.module.training)


@torch.no_grad()
def invertible(
    model: nn.Module,
    example: Tensor | None = None,
    *,
    inplace: bool = False,
    weights: str = "keep",
    slope: float = 0.1,
    pooling: str = "refuse",
    overlap: str = "subtract",
    limit: float = 1e4,
) -> tuple[nn.Module, InvertibleReport]:
    """``model``, an ``nn.Sequential`` of linear layers and convolutions, so that it can be run backwards, and a report.

    Each weighted layer but the first, through which nothing is carried down, becomes an ``InvertibleLinear`` or
    ``InvertibleConv2d`` of the same outputs. Its auxiliary units get orthonormal weights that are orthogonal to all
    that it had, so that the singular values of its matrix are its old ones and ones; their biases are 0.

    weights: "keep" the layers' own, so that each computes what it did; or "orthogonal": the nearest orthogonal matrix,
    with which target propagation follows backpropagation. slope: ReLU becomes LeakyReLU(slope). pooling: "refuse", or
    "stride": the convolution before it takes steps as wide, for which an ``example`` is needed. overlap: of
    ``InvertibleConv2d``. limit: the condition number from which on a layer is refused. A copy is widened unless
    ``inplace``; make the optimiser afterwards.

    Raises ``InputError`` by the layer's name for what has no inverse: more units than inputs, pooling, normalisation,
    dropout, an activation that is not one-to-one, a singular or ill-conditioned weight.
    """
    for kind, given, known in (
        ("choice of weights", weights, ("keep", "orthogonal")),
        ("choice for pooling", pooling, ("refuse", "stride")),
    ):
        if given not in known:
            raise unknown_name(kind, given, known)
    if type(model) is not nn.Sequential:
        raise InputError(f"only a chain can be run backwards, an nn.Sequential, and this is a {type(model).__name__}")
    if pooling == "stride" and example is None:
        raise InputError("pooling='stride' needs an example batch, to see that images keep their sizes; pass one")
    target = model if inplace else copy.deepcopy(model)
    before = outputs(target, example)
    leaves = list(_leaves(target))
    first = next((k for k, leaf in enumerate(leaves) if isinstance(leaf.module, WEIGHTED)), None)
    if first is None:
        raise InputError("the model has no weighted layer, linear or convolutional, and nothing to widen")
    planned: list[tuple[_Leaf, nn.Module]] = []
    layers: list[Widened] = []
    changed = [(leaves[first].name, "stays as it is: a first layer, nothing is carried down through it")]
    steps = _strides(leaves, first, pooling)
    for k, leaf in enumerate(leaves[first:], start=first):
        if isinstance(leaf.module, WEIGHTED):
            if k == first and leaf.name not in steps:
                continue
            new = _widen(target, leaf, weights, overlap) if k > first else copy.copy(leaf.module)
            if leaf.name in steps:
                new.stride = steps[leaf.name]  # type: ignore[assignment]
                changed.append((leaf.name, f"takes steps of {new.stride} in place of pooling"))
            if k > first:
                layers.append(_measured(leaf, new, limit, weights))
        elif isinstance(leaf.module, POOLS):
            new = nn.Identity()
            changed.append((leaf.name, f"{type(leaf.module).__name__} left out"))
        elif type(leaf.module) is nn.ReLU:
            new = nn.LeakyReLU(slope)
            changed.append((leaf.name, f"ReLU -> LeakyReLU({slope:g})"))
        else:
            _check_part(leaf)
            continue
        planned.append((leaf, new))
    for leaf, new in planned:
        leaf.put(new)
    try:
        after = _run(target, example, before)
    except InputError:
        for leaf, _ in planned:
            leaf.put(leaf.module)
        raise
    error = None if before is None or after is None else float((after - before).abs().max())
    return target, InvertibleReport(tuple(layers), tuple(changed), error)


def _leaves(model: nn.Module, prefix: str = "") -> Iterator[_Leaf]:
    for key, module in model._modules.items():
        assert module is not None
        if type(module) is nn.Sequential:
            yield from _leaves(module, f"{prefix}{key}.")
        else:
            yield _Leaf(prefix + key, model, key, module)


def _run(target: nn.Module, example: Tensor | None, before: Tensor | None) -> Tensor | None:
    """The outputs of the widened model; ``InputError`` where strides made its images another size."""
    try:
        after = outputs(target, example)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"strides in place of pooling give images of another size ({reason}); pad them alike"
        ) from error
    if before is not None and after is not None and before.shape != after.shape:
        raise InputError(
            f"strides in place of pooling give outputs {tuple(after.shape)}, not {tuple(before.shape)}; pad them alike"
        )
    return after


def _strides(leaves: list[_Leaf], first: int, pooling: str) -> dict[str, tuple[int, int]]:
    """The new strides of convolutions that take over a pooling layer's; ``InputError`` for a pool that stays."""
    steps: dict[str, tuple[int, int]] = {}
    behind: _Leaf | None = None
    for leaf in leaves[first:]:
        module: Any = leaf.module
        if isinstance(module, WEIGHTED):
            behind = leaf if isinstance(module, (nn.Conv2d, InvertibleConv2d)) else None
        elif isinstance(module, SHAPES) and type(module) is not nn.Identity:
            behind = None
        elif isinstance(module, POOLS):
            if pooling != "stride" or behind is None:
                raise InputError(
                    f"{leaf} forgets all but one value of each window and has no inverse; let the convolution before "
                    "it take the steps (pooling='stride')"
                )
            conv: Any = behind.module
            wide = (module.stride, module.stride) if isinstance(module.stride, int) else tuple(module.stride)
            old: tuple[int, ...] = steps.get(behind.name, tuple(conv.stride))
            steps[behind.name] = (old[0] * wide[0], old[1] * wide[1])
    return steps


def _check_part(leaf: _Leaf) -> None:
    """Raise ``InputError`` for a part, behind the first weighted layer, that cannot be run backwards."""
    module: Any = leaf.module
    if isinstance(module, SHAPES) or (isinstance(module, DROPOUT) and module.p == 0):
        return
    if isinstance(module, DROPOUT):
        raise InputError(f"{leaf} drops units, which no inverse brings back; leave it out")
    if next(module.parameters(), None) is not None or next(module.buffers(), None) is not None:
        raise InputError(f"{leaf} has no inverse that is known here; leave it out, or fold it into the layer before it")
    try:
        unit(module)
    except InputError as error:
        raise InputError(f"layer '{leaf.name}': {error}") from error


def _widen(model: nn.Module, leaf: _Leaf, weights: str, overlap: str) -> InvertibleLinear | InvertibleConv2d:
    """The layer's invertible twin."""
    layer: Any = leaf.module
    if isinstance(layer, (InvertibleLinear, InvertibleConv2d)):
        new = copy.deepcopy(layer)
        if new.first:
            raise InputError(f"{leaf} was made with first=True and is not the first; it needs its auxiliary units")
    else:
        _check_layer(model, leaf)
        rows, inputs = layer.weight.shape[0], layer.weight[0].numel()
        if rows > inputs:
            raise InputError(
                f"{leaf} grows from {inputs} inputs a unit to {rows} units, which no auxiliary unit makes invertible; "
                f"let it have at most {inputs} units, or widen the layers before it"
            )
        new = _twin(layer, overlap).to(layer.weight.device, layer.weight.dtype)
        old = layer.weight.detach().flatten(1)
        basis = torch.linalg.qr(old.T.double(), mode="complete")[0]
        new.weight.copy_(torch.cat([old, basis.T[rows:].to(old.dtype)]).reshape(new.weight.shape))
        if layer.bias is not None and new.bias is not None:
            new.bias.zero_()[:rows] = layer.bias
            new.bias.requires_grad_(layer.bias.requires_grad)
        new.weight.requires_grad_(layer.weight.requires_grad)
    if weights == "orthogonal":
        new.weight.copy_(retract(new.matrix().double()).reshape(new.weight.shape))
    return new


def _twin(layer: nn.Linear | nn.Conv2d, overlap: str) -> InvertibleLinear | InvertibleConv2d:
    bias: Any = layer.bias is not None
    stream = torch.Generator()
    if isinstance(layer, nn.Linear):
        return InvertibleLinear(layer.in_features, layer.out_features, bias=bias, generator=stream)
    sizes: Any = (layer.kernel_size, layer.stride, layer.padding)
    return InvertibleConv2d(layer.in_channels, layer.out_channels, *sizes, overlap=overlap, bias=bias, generator=stream)


def _check_layer(model: nn.Module, leaf: _Leaf) -> None:
    layer: Any = leaf.module
    if not isinstance(layer, (nn.Linear, nn.Conv2d)):
        raise InputError(f"{leaf} is not inverted here; linear layers and two-dimensional convolutions are")
    if isinstance(layer, nn.Conv2d) and (layer.groups != 1 or set(layer.dilation) != {1}):
        raise InputError(f"{leaf} is grouped or dilated, and only patches that see all channels are inverted here")
    if isinstance(layer, nn.Conv2d) and layer.padding_mode != "zeros":
        raise InputError(f"{leaf} pads with '{layer.padding_mode}', and only zeros are undone here; use 'zeros'")
    if "weight" not in layer._parameters or layer._forward_hooks or layer._forward_pre_hooks:
        raise InputError(f"{leaf} computes its weight (a parametrisation) or has hooks; take them off first")
    names = [name for name, one in model.named_parameters(remove_duplicate=False) if one is layer.weight]
    if len(names) > 1:
        raise InputError(f"{leaf} shares its weight ({', '.join(names)}); give each layer its own")


def _measured(leaf: _Leaf, layer: Any, limit: float, weights: str) -> Widened:
    matrix = layer.matrix().detach().double()
    try:
        number = require_invertible(matrix, leaf.name, limit=limit)
    except InputError as error:
        more = " with weights='orthogonal'" if weights == "keep" else ""
        raise InputError(f"{error}{more}") from error
    old = sum(p.numel() for p in leaf.module.parameters())
    grown = sum(p.numel() for p in layer.parameters()) - old
    units = matrix.shape[0]
    return Widened(
        leaf.name, type(layer).__name__, units, units - layer.outputs, grown, number, float(distance(matrix))
    )
