"""Operations that put several elements into one, maximum or mean: the elements carry one scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from equipoise.balance.layers_elementwise import same_scale
from equipoise.balance.ledger import compact
from equipoise.balance.signals import Call, handles

__all__: list[str] = []

_WHY = "pooled with visible signals"


def _tuple(value: Any, axes: int) -> tuple[int, ...]:
    return (value,) * axes if isinstance(value, int) else tuple(value)


@handles(*(f"{kind}_pool{n}d" for kind in ("max", "avg", "lp") for n in (1, 2, 3)))
def _pool(call: Call) -> Any:
    """Max-pooling is positively homogeneous and mean pooling linear: each window's elements carry one scale."""
    axes = int(call.name[-2])
    x = call.args[0]
    first = 2 if call.name.startswith("lp") else 1
    kernel = _tuple(call.get(first, "kernel_size"), axes)
    stride = _tuple(call.get(first + 1, "stride") or kernel, axes)
    padding = _tuple(call.get(3, "padding", 0), axes) if first == 1 else (0,) * axes
    dilation = _tuple(call.get(4, "dilation", 1), axes) if call.name.startswith("max") else (1,) * axes
    ceil = bool(call.get(5 if call.name.startswith("max") else 4, "ceil_mode", False))
    return _windows(call, x, axes, (kernel, dilation, padding, stride), ceil)


def _windows(call: Call, x: Tensor, axes: int, geometry: Sequence[tuple[int, ...]], ceil: bool) -> Any:
    """``geometry``: kernel, dilation, padding and stride, an integer an axis."""
    ids = call.gains(x)
    space = list(range(x.ndim - axes, x.ndim))
    values = call.result[0] if isinstance(call.result, tuple) else call.result
    if all(ids.stride(k) == 0 or ids.shape[k] == 1 for k in space):
        return _spread(call, ids, space, values)
    if ceil or axes == 3 or x.ndim != axes + 2:
        return _spread(call, call.builder.tie_along(ids, space, _WHY), space, values)
    small = ids[:1] if ids.stride(0) == 0 else ids
    if axes == 1:
        small = small.unsqueeze(2)
        geometry = [(rest, *sizes) for rest, sizes in zip((1, 1, 0, 1), geometry, strict=True)]
    kernel, dilation, padding, stride = geometry
    patches = F.unfold((small + 1).double(), kernel, dilation, padding, stride).long() - 1
    patches = patches.reshape(small.shape[0], small.shape[1], -1, patches.shape[-1])
    highest = patches.amax(2)
    inside = patches >= 0
    call.builder.tie(patches[inside], highest.unsqueeze(2).expand_as(patches)[inside], _WHY)
    pooled = highest.reshape(*small.shape[:2], *values.shape[2:]).expand(values.shape)
    return (pooled, None) if isinstance(call.result, tuple) else pooled


def _spread(call: Call, ids: Tensor, space: Sequence[int], values: Tensor) -> Any:
    """Nodes that do not vary in space, over the result's space."""
    for k in space:
        ids = ids.narrow(k, 0, 1)
    ids = ids.expand(values.shape)
    return (ids, None) if isinstance(call.result, tuple) else ids


@handles(
    *(f"adaptive_{kind}_pool{n}d" for kind in ("max", "avg") for n in (1, 2, 3)),
    *("interpolate", "upsample", "upsample_nearest", "upsample_bilinear", "fractional_max_pool2d", "grid_sample"),
)
def _over_space(call: Call) -> Any:
    """Pooling to a given size, or up-sampling; exact windows where the size divides, else all of space as one."""
    x = call.args[0]
    if call.name == "grid_sample":
        call.bound([call.get(1, "grid")], "positions")
    axes = int(call.name[-2]) if call.name.endswith("d") and call.name[-2].isdigit() else x.ndim - 2
    values = call.result[0] if isinstance(call.result, tuple) else call.result
    space = list(range(x.ndim - axes, x.ndim))
    sizes = [(x.shape[k], values.shape[k]) for k in space]
    if call.name.startswith("adaptive") and all(size % out == 0 for size, out in sizes):
        window = tuple(size // out for size, out in sizes)
        return _windows(call, x, axes, (window, (1,) * axes, (0,) * axes, window), False)
    return _spread(call, call.builder.tie_along(call.gains(x), space, _WHY), space, values)


@handles("fold")
def _fold(call: Call) -> Tensor:
    ids = call.builder.tie_along(call.gains(call.args[0]), [call.args[0].ndim - 1], "overlaps visible signals")
    channels = call.result.shape[-3]
    columns = ids[..., 0].reshape(*ids.shape[:-2], channels, -1)
    one = call.builder.tie_along(columns, columns.ndim - 1, "overlaps visible signals")
    return one.unsqueeze(-1).expand(call.result.shape)


def _axes(call: Call, position: int) -> list[int]:
    """The axes that a reduction runs over."""
    x = call.args[0]
    axes = call.get(position, "dim", call.kwargs.get("axis"))
    if axes is None or isinstance(axes, bool) or axes == ():
        return list(range(x.ndim))
    return [axis % x.ndim for axis in ([axes] if isinstance(axes, int) else list(axes))]


@handles(
    "sum", "mean", "nansum", "nanmean", "amax", "amin", "max", "min", "median", "std", "var", "norm", "vector_norm"
)
def _reduced(call: Call) -> Any:
    """One number of several that carry the same scale; a variance carries twice their log-scale."""
    x = call.args[0]
    if call.name in ("max", "min") and isinstance(call.get(1, "other"), Tensor):
        return same_scale(call, [x, call.get(1, "other")])
    if call.name in ("norm", "vector_norm") and call.get(1, "p", call.kwargs.get("ord", 2)) == 0:
        call.bound([x], "counts what is not 0")
        return call.builder.visible(call.result.shape)
    axes = _axes(call, 2 if call.name in ("norm", "vector_norm") else 1)
    ids = call.builder.tie_along(call.gains(x), axes, "summed with visible signals")
    values = call.result[0] if isinstance(call.result, tuple) else call.result
    if values.ndim < x.ndim:
        for axis in sorted(axes, reverse=True):
            ids = ids.select(axis, 0)
    ids = call.builder.combine([(2.0 if call.name == "var" else 1.0, ids)])
    return [ids, None] if isinstance(call.result, tuple) else ids


@handles("cumsum", "sort", "topk", "msort", "cummax", "cummin", "kthvalue", "diff")
def _along(call: Call) -> Any:
    """Elements of one axis put together or in another order: they carry one scale."""
    x = call.args[0]
    axis = call.get(2 if call.name in ("topk", "kthvalue", "diff") else 1, "dim", -1)
    axis = axis if isinstance(axis, int) and not isinstance(axis, bool) else -1
    ids = call.builder.tie_along(call.gains(x), axis % x.ndim, "ordered among visible signals")
    values = call.result[0] if isinstance(call.result, tuple) else call.result
    if call.name == "kthvalue":
        ids = compact(ids).select(axis % x.ndim, 0)
    ids = ids.expand(values.shape)
    return [ids, None] if isinstance(call.result, tuple) else ids
