"""A chain read into links: each weighted layer, with the parameter-free parts before and behind it.

Rules that run a network twice, or write its gradients out, need its layers one by one. What is no chain of torch's
own weighted layers and parameter-free parts is refused here, by the layer's name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise.contracts import Invertible
from equipoise.errors import InputError
from equipoise.functional.activations import known
from equipoise.functional.patches import pads
from equipoise.functional.pooling import max_pool
from equipoise.rules.slots import Slots
from equipoise.rules.tape import serve_dropout

__all__ = [
    "UNITWISE",
    "Link",
    "Part",
    "add_product",
    "apply",
    "apply_all",
    "bias_gradient",
    "has_own_forward",
    "leaves",
    "read_chain",
    "weight_gradient",
    "weighted",
]

CONVOLUTIONS = {nn.Conv1d: F.conv1d, nn.Conv2d: F.conv2d, nn.Conv3d: F.conv3d}
WEIGHTED = frozenset({nn.Linear, *CONVOLUTIONS})
DROPOUT = frozenset({nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d})
UNITWISE = DROPOUT | {
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.ELU, nn.CELU, nn.SELU, nn.Mish),
    *(nn.Threshold, nn.Hardshrink, nn.Softshrink, nn.Softplus, nn.Softsign, nn.Hardtanh, nn.Hardsigmoid),
    *(nn.Hardswish, nn.LogSigmoid, nn.Tanhshrink, nn.Identity),
}


@dataclass(frozen=True, eq=False)
class Part:
    """A module without parameters. number: of its dropout call, -1 for anything else."""

    name: str
    module: nn.Module
    number: int = -1


@dataclass(frozen=True, eq=False)
class Link:
    """A weighted layer. before: parts between the units below and its input; after: parts that act on its units one
    by one (activation, dropout), so that a unit's activity is what comes out of them. used: how many of its units the
    layer above sees, for layers that have auxiliary ones (0: all)."""

    name: str
    layer: nn.Module
    weight: str
    bias: str | None
    before: tuple[Part, ...]
    after: tuple[Part, ...] = ()
    used: int = 0

    @property
    def dense(self) -> bool:
        """Whether the layer is a matrix, not a kernel."""
        return isinstance(self.layer, nn.Linear) or hasattr(self.layer, "in_features")


def leaves(model: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """(name, module) of a chain's parts, nested ``nn.Sequential``s read through."""
    for name, module in model._modules.items():
        assert module is not None
        if type(module) is nn.Sequential:
            yield from leaves(module, f"{prefix}{name}.")
        else:
            yield prefix + name, module


def _used(module: nn.Module) -> int:
    """The units that ``module`` shows the layer above, where it has auxiliary ones beside them."""
    shown = getattr(module, "out_features", 0) or getattr(module, "out_channels", 0)
    weight = module.weight
    assert isinstance(weight, Tensor)
    return int(shown) if shown < len(weight) else 0


def read_chain(model: nn.Module, slots: Slots, *, invertible: bool = False) -> tuple[Link, ...]:
    """The links of ``model``, an ``nn.Sequential`` (nested ones are read through).

    ``invertible``: layers of the contract ``Invertible`` that have a weight are links too. Raises ``InputError`` naming
    the layer that is none: with parameters of another kind, or with a state.
    """
    if type(model) is not nn.Sequential:
        raise InputError(f"it needs a chain, an nn.Sequential of layers, and this model is a {type(model).__name__}")
    names = {(id(module), attribute): name for module, _, attribute, name in slots.places}
    links: list[Link] = []
    before: list[Part] = []
    after: list[Part] = []
    dropouts = 0

    def close() -> None:
        if links:
            links[-1] = Link(**{**vars(links[-1]), "after": tuple(after)})
        after.clear()

    for name, module in leaves(model):
        kind = type(module)
        if kind in WEIGHTED or (invertible and isinstance(module, Invertible) and hasattr(module, "weight")):
            close()
            if (id(module), "weight") not in names:
                raise InputError(
                    f"layer '{name}' ({kind.__name__}) computes its weight (weight_norm, spectral_norm, pruning?), and "
                    "a chain's layers hold theirs"
                )
            bias = names.get((id(module), "bias"))
            used = _used(module) if kind not in WEIGHTED else 0
            links.append(Link(name, module, names[id(module), "weight"], bias, tuple(before), used=used))
            before.clear()
        elif any(True for _ in module.parameters()) or any(True for _ in module.buffers()):
            raise InputError(
                f"layer '{name}' ({kind.__name__}) has parameters or a state, and a chain's weighted layers are "
                "Linear and Conv1d to Conv3d, without anything else that learns"
            )
        else:
            part = Part(name, module, dropouts if kind in DROPOUT else -1)
            dropouts += kind in DROPOUT
            unitwise = kind in UNITWISE or (invertible and known(module))
            (after if links and unitwise and not before else before).append(part)
    close()
    if len(links) < 2:
        raise InputError("the model has no hidden layer: no weighted layer follows another")
    if before or links[-1].after:
        last = (before or links[-1].after)[-1]
        raise InputError(
            f"layer '{last.name}' ({type(last.module).__name__}) follows the last weighted layer, '{links[-1].name}', "
            "whose output has to be the scores that the loss takes"
        )
    if not links[-1].dense:
        raise InputError(f"the last weighted layer, '{links[-1].name}', is a convolution; end the chain in a Linear")
    return tuple(links)


def apply(part: Part, x: Tensor, noise: Mapping[str, Tensor], *, fresh: bool = False) -> Tensor:
    """The part's output for ``x``; ``fresh``: x is nobody else's and may be overwritten."""
    module = part.module
    if part.number >= 0:
        rate = float(module.p)  # type: ignore[arg-type]
        return serve_dropout(x, noise[f"dropout{part.number}"], rate) if module.training and rate else x
    if type(module) is nn.ReLU:
        return x.relu_() if fresh else x.relu()
    if type(module) is nn.MaxPool2d:
        return max_pool(x, module)
    foreign = not type(module).__module__.startswith("torch.nn.")
    return module(x.clone() if (foreign or getattr(module, "inplace", False)) and not fresh else x)


def has_own_forward(model: nn.Module) -> str | None:
    """The name of a module whose ``forward`` was replaced on the object itself, as wrappers for precision do."""
    return next((name or "the model" for name, m in model.named_modules() if "forward" in vars(m)), None)


def apply_all(parts: tuple[Part, ...], x: Tensor, noise: Mapping[str, Tensor], *, fresh: bool = False) -> Tensor:
    """``parts`` one behind the other."""
    for part in parts:
        x = apply(part, x, noise, fresh=fresh)
    return x


def _padded(layer: Any, x: Tensor) -> tuple[Tensor, tuple[int, ...]]:
    """A convolution's input with what its padding adds where the operation cannot, and the padding left to it."""
    if type(layer) not in CONVOLUTIONS:
        left, right, top, bottom = pads(x.shape, layer.kernel_size, layer.stride, layer.padding)
        even = left == right and top == bottom
        return (x, (top, left)) if even else (F.pad(x, (left, right, top, bottom)), (0, 0))
    padding = layer.padding
    if layer.padding_mode == "zeros" and not isinstance(padding, str):
        return x, padding  # type: ignore[return-value]
    mode = "constant" if layer.padding_mode == "zeros" else str(layer.padding_mode)
    sides = layer._reversed_padding_repeated_twice
    return F.pad(x, sides, mode), (0,) * (x.ndim - 2)  # type: ignore[arg-type]


def _units_first(x: Tensor) -> bool:
    """Whether a product is better had as W x^T: on a CPU with several threads, by a fifth to a third.

    One thread is a tenth faster the other way round. What comes out is laid out unit by unit, and so is what follows.
    """
    compiling = torch.compiler.is_compiling()
    return x.ndim == 2 and x.device.type == "cpu" and not compiling and torch.get_num_threads() > 1


def add_product(sums: Tensor, x: Tensor, weight: Tensor, factor: float) -> Tensor:
    """sums + factor x W^T for rows ``x`` (B, I), in one operation."""
    if _units_first(x):
        return torch.addmm(sums.T, weight, x.T, alpha=factor).T
    return torch.addmm(sums, x, weight.T, alpha=factor)


def weighted(link: Link, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The weighted layer's output for its input ``x``, with these tensors; that of the used units alone."""
    if link.used:
        weight, bias = weight[: link.used], None if bias is None else bias[: link.used]
    if link.dense:
        if _units_first(x):
            return (weight @ x.T if bias is None else torch.addmm(bias[:, None], weight, x.T)).T
        return F.linear(x, weight, bias)
    layer: Any = link.layer
    x, padding = _padded(layer, x)
    run = CONVOLUTIONS.get(type(layer), F.conv2d)
    return run(x, weight, bias, layer.stride, padding, getattr(layer, "dilation", 1), getattr(layer, "groups", 1))


def weight_gradient(link: Link, g: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """sum over samples (and positions) of g x^T: ``g`` at the weighted layer's output, ``x`` its input.

    Zero for auxiliary units, which have no error.
    """
    if link.dense:
        found = g.reshape(-1, g.shape[-1]).T @ x.reshape(-1, x.shape[-1])
    else:
        layer: Any = link.layer
        x, padding = _padded(layer, x)
        n = g.ndim - 2
        dilation, groups = getattr(layer, "dilation", (1,) * n), getattr(layer, "groups", 1)
        back, shown = torch.ops.aten.convolution_backward, weight[: link.used] if link.used else weight
        geometry = (layer.stride, padding, dilation, False, (0,) * n, groups)
        found = back(g, x.to(g.dtype), shown.to(g.dtype), None, *geometry, (False, True, False))[1]
    return torch.cat([found, found.new_zeros(len(weight) - link.used, *found.shape[1:])]) if link.used else found


def bias_gradient(link: Link, g: Tensor, bias: Tensor) -> Tensor:
    """sum over samples and positions of ``g`` at the weighted layer's output; zero for auxiliary units."""
    found = g.reshape(-1, g.shape[-1]).sum(0) if link.dense else g.flatten(2).sum((0, 2))
    return F.pad(found, (0, len(bias) - link.used)) if link.used else found
