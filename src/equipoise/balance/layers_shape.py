"""Operations that move elements about: run on the node ids themselves, or on the view of a parameter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from equipoise.balance.ledger import compact
from equipoise.balance.signals import Call, handles

__all__: list[str] = []

_SHAPED = frozenset(
    {
        "view",
        "reshape",
        "view_as",
        "reshape_as",
        "flatten",
        "ravel",
        "unflatten",
        "squeeze",
        "unsqueeze",
        "_unsafe_view",
    }
)
_PROPERTIES = frozenset({"T", "mT", "H", "mH"})


@handles(
    *_SHAPED,
    *_PROPERTIES,
    *("permute", "transpose", "t", "swapaxes", "swapdims", "movedim", "moveaxis", "adjoint"),
    *("expand", "expand_as", "broadcast_to", "repeat", "repeat_interleave", "tile", "narrow", "select", "diagonal"),
    *("chunk", "split", "split_with_sizes", "tensor_split", "unbind", "hsplit", "vsplit", "unfold_copy"),
    *("roll", "flip", "fliplr", "flipud", "rot90", "channel_shuffle", "pixel_shuffle", "pixel_unshuffle"),
    "unsafe_chunk",
)
def _moved(call: Call) -> Any:
    source = call.args[0]
    held = call.signals.held(source)
    others = [v for v in tree_leaves((call.args[1:], call.kwargs)) if isinstance(v, Tensor)]
    if any(call.signals.varies(v) for v in others):
        return _mixed(call, source)

    def change(values: Tensor) -> Any:
        if call.name in _SHAPED:
            return _reshaped(values, call.result.shape)
        if call.name in _PROPERTIES:
            return call.function(values)
        rest, named = tree_map(_stand_in, (call.args[1:], call.kwargs))
        return call.function(values, *rest, **named)

    if held is None:
        return _whole(change(call.gains(source)))
    if isinstance(call.result, Tensor):
        return held.viewed(change)
    return [held.viewed(lambda values, k=k: change(values)[k]) for k in range(len(call.result))]


def _reshaped(values: Tensor, shape: torch.Size) -> Tensor:
    """``values`` in another shape; where all samples of a batch are alike, of one of them alone."""
    if values.ndim and shape and values.stride(0) == 0 and values.shape[0] == shape[0] and values.numel():
        return values[0].reshape(shape[1:]).expand(shape)
    return values.reshape(shape)


def _stand_in(value: Any) -> Any:
    """Another tensor argument: of activities a view takes the shape alone, indices keep their values, on the host."""
    if isinstance(value, Tensor) and value.is_floating_point():
        return torch.zeros((), dtype=torch.int64).expand(value.shape)
    return value.cpu() if isinstance(value, Tensor) else value


def _whole(ids: Any) -> Any:
    return list(ids) if isinstance(ids, tuple) else ids


def _mixed(call: Call, source: Any) -> Any:
    """Elements picked by an index that is not known: any may stand anywhere, so all have one class."""
    ids = call.builder.tie_along(call.gains(source), list(range(source.ndim)), "picked among visible signals")
    one = ids.reshape(())
    return tree_map(lambda v: one.expand(v.shape) if isinstance(v, Tensor) else None, call.result)


@handles("unfold")
def _windows(call: Call) -> Any:
    """``x.unfold(axis, size, step)``, or ``F.unfold(images, kernel, ...)``: patches as columns."""
    if call.result.ndim == call.args[0].ndim + 1:
        return _moved(call)
    ids = call.gains(call.args[0])
    small = ids[:1] if ids.ndim == 4 and ids.stride(0) == 0 else ids
    options = [call.get(k, name, v) for k, (name, v) in enumerate(_UNFOLD, 2)]
    patches = F.unfold((small + 1).double(), call.get(1, "kernel_size"), *options).long() - 1
    outside = patches < 0
    if outside.any():
        patches[outside] = call.builder.zeros([int(outside.sum())])
    return patches.expand(call.result.shape)


_UNFOLD = (("dilation", 1), ("padding", 0), ("stride", 1))


@handles("cat", "concat", "concatenate", "stack", "hstack", "vstack", "dstack", "column_stack")
def _joined(call: Call) -> Tensor:
    values = call.get(0, "tensors")
    ids = [call.gains(value).expand(value.shape) for value in values]
    same = all(each.ndim == ids[0].ndim for each in ids)
    axis = call.get(1, "dim", call.kwargs.get("axis", 0))
    flat = same and call.name in ("cat", "concat", "concatenate", "stack") and ids[0].ndim > 0
    if not flat:
        return call.function(ids, *call.args[1:], **call.kwargs)
    joined = axis % ids[0].ndim if call.name != "stack" else -1
    for k in range(ids[0].ndim):
        if k != joined and all(each.stride(k) == 0 for each in ids):
            ids = [each.narrow(k, 0, 1) for each in ids]
    return call.function(ids, dim=axis).expand(call.result.shape)


@handles("__getitem__", "select_scatter", "getitem")
def _picked(call: Call) -> Any:
    source, index = call.args[0], call.args[1]
    if not call.signals.matters(source):
        call.bound([v for v in tree_leaves(index) if isinstance(v, Tensor)], "used as an index")
        return None
    if any(call.signals.varies(v) for v in tree_leaves(index)):
        return _looked_up(call, source, index if isinstance(index, tuple) else (index,))
    index = tree_map(_stand_in, index)
    held = call.signals.held(source)
    if held is not None:
        return held.viewed(lambda values: values[index])
    return call.gains(source)[index]


def _looked_up(call: Call, source: Any, index: tuple[Any, ...]) -> Any:
    """Rows picked by numbers that another input changes: along an axis so indexed all elements carry one scale."""
    if any(isinstance(one, (list, tuple)) or getattr(one, "dtype", None) == torch.bool for one in index):
        return _mixed(call, source)
    given = sum(one is not None and one is not ... for one in index)
    ids, known, axis = call.gains(source), [], 0
    for one in index:
        if call.signals.varies(one):
            ids = call.builder.tie_along(ids, axis, "picked among visible signals").expand(source.shape)
            one = torch.zeros(one.shape, dtype=torch.int64)
        known.append(_stand_in(one))
        axis += 0 if one is None else source.ndim - given if one is ... else 1
    return ids[tuple(known)]


@handles("index_select", "gather", "take_along_dim")
def _selected(call: Call) -> Any:
    source = call.args[0]
    if call.name == "take_along_dim":
        axis, index = call.get(2, "dim"), call.get(1, "indices")
    else:
        axis, index = call.get(1, "dim"), call.get(2, "index")
    if axis is None or not call.signals.matters(source):
        return _mixed(call, source)
    ids = call.gains(source)
    if call.signals.varies(index):
        if call.name == "take_along_dim":
            return _mixed(call, source)
        axis %= source.ndim
        ids = call.builder.tie_along(ids, axis, "picked among visible signals")
        for k, size in enumerate(call.result.shape):
            ids = ids.narrow(k, 0, 1 if k == axis else min(size, ids.shape[k]))
        return ids.expand(call.result.shape)
    if call.name == "take_along_dim":
        return torch.take_along_dim(ids, index.cpu(), axis)
    return (torch.gather if call.name == "gather" else torch.index_select)(ids, axis, index.cpu())


@handles("__setitem__", "copy", "fill")
def _assigned(call: Call) -> Any:
    target = call.args[0]
    call.signals.written(target)
    where, value = (call.args[1], call.args[2]) if call.name == "__setitem__" else (..., call.get(1, "src", 0.0))
    ids = call.gains(value)
    if isinstance(value, (int, float)) and value == 0:
        return call.gains(target)
    if not call.signals.carries(target):
        if not target._is_view():
            call.signals.track(target, call.builder.visible(target.shape))
        call.builder.bound(*call.place, [ids], "written into a constant tensor")
        return call.gains(target)
    if any(call.signals.varies(v) for v in tree_leaves(where)):
        every = range(target.ndim)
        held = call.builder.tie_along(call.gains(target), every, "written among visible signals").reshape(-1)[:1]
    else:
        held = call.gains(target)[tree_map(_stand_in, where)]
    if not call.signals.matters(value):
        call.builder.bound(*call.place, [held], "a constant is written into it")
    call.builder.tie(held, ids, "written into a visible tensor")
    return call.gains(target)


@handles("pad", "constant_pad_nd")
def _padded(call: Call) -> Any:
    """Zeros may stand beside any scale; where nodes differ along a padded axis the zeros have nodes of their own."""
    source, pads = call.args[0], list(call.get(1, "pad"))
    mode, value = call.get(2, "mode", "constant"), call.get(3, "value", 0.0)
    if call.name == "constant_pad_nd":
        mode, value = "constant", call.get(2, "value", 0.0)
    ids = call.gains(source)
    if mode == "constant" and value:
        call.bound([source], "padded with a constant")
        return call.builder.visible(call.result.shape)
    for k in range(len(pads) // 2):
        axis = ids.ndim - 1 - k
        before, after = pads[2 * k : 2 * k + 2]
        size = ids.shape[axis] + before + after
        if ids.stride(axis) == 0 or compact(ids).shape[axis] == 1:
            ids = ids.narrow(axis, 0, 1).expand([size if j == axis else -1 for j in range(ids.ndim)])
        elif mode == "constant":
            ids = _beside(call, ids, axis, before, after)
        else:
            ids = call.builder.tie_along(ids, axis, "padded with its own values")
            ids = ids.expand([size if j == axis else -1 for j in range(ids.ndim)])
    return ids


def _beside(call: Call, ids: Tensor, axis: int, before: int, after: int) -> Tensor:
    """``ids`` with zeros' nodes before and after along ``axis``; a negative number cuts."""
    ids = ids.narrow(axis, max(-before, 0), ids.shape[axis] - max(-before, 0) - max(-after, 0))
    pieces: list[Tensor] = [ids]
    for count, at in ((before, 0), (after, len(pieces))):
        if count > 0:
            shape = [count if k == axis else 1 for k in range(ids.ndim)]
            zeros = call.builder.zeros(shape).expand([count if k == axis else n for k, n in enumerate(ids.shape)])
            pieces.insert(at if at == 0 else len(pieces), zeros)
    small: Sequence[Tensor] = pieces
    for k in range(ids.ndim):
        if k != axis and all(piece.stride(k) == 0 for piece in small):
            small = [piece.narrow(k, 0, 1) for piece in small]
    size = sum(piece.shape[axis] for piece in pieces)
    return torch.cat(list(small), axis).expand([size if k == axis else n for k, n in enumerate(ids.shape)])
