"""Weighted layers: what goes into a weight's row is its unit's class, what comes along its column the class below.

    y_o = sum_i W_oi x_i + b_o :   W_oi -> W_oi exp(v_o - v_i),   b_o -> b_o exp(v_o)

Every product of activities and weights is a sum over labelled axes (``contract``); convolutions add the channel groups.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

from equipoise.balance.held import Held
from equipoise.balance.signals import Call, handles

__all__ = ["add_bias", "contract", "weigh"]

Labels = Sequence[Hashable]


def _layer(held: Held) -> str:
    """The layer that a parameter belongs to: "fc1" for "fc1.weight"."""
    path, _, last = held.name.rpartition(".")
    return path or last


def weigh(call: Call, x: Tensor, x_labels: Labels, held: Held, w_labels: Labels, out_labels: Labels) -> Tensor:
    """The nodes of sum x w over the labels that are not in ``out_labels``; w is a parameter, x's nodes are given.

    x's nodes may differ along the weight's axes alone; along the others (batch, positions) the weight is shared.
    """
    builder = call.builder
    small = held.narrowed()
    kept = [
        label if size == whole else None for label, size, whole in zip(w_labels, small.shape, held.shape, strict=True)
    ]
    others = [axis for axis, label in enumerate(x_labels) if label not in kept]
    x = builder.tie_along(x, others, f"meets '{held.name}' beside visible signals")
    own = [label if label in out_labels else None for label in kept]
    sizes = [size if label is not None else 1 for size, label in zip(small.shape, own, strict=True)]
    into = builder.units(_layer(held), sizes, [held.name])
    small.use(builder, into, _arranged(x, x_labels, kept))
    return _arranged(into, [label if label is not None else object() for label in own], out_labels)


def _arranged(ids: Tensor, labels: Labels, wanted: Labels) -> Tensor:
    """``ids`` with its axes in the order ``wanted``, of length 1 where it lacks one; other axes must have length 1."""
    dropped = [axis for axis, label in enumerate(labels) if label not in wanted]
    for axis in reversed(dropped):
        ids = ids.select(axis, 0)
    left = [label for label in labels if label in wanted]
    ids = ids.permute([left.index(label) for label in wanted if label in left])
    for axis, label in enumerate(wanted):
        if label not in left:
            ids = ids.unsqueeze(axis)
    return ids


def contract(call: Call, operands: Sequence[tuple[Any, Labels]], out_labels: Labels) -> Tensor:
    """The nodes of a sum of products over labelled axes, of activities, parameters and constants.

    Each term of a sum must carry the same scale: the sum of its factors' log-scales is equal along what is summed.
    The last parameter among the operands is the weight; others count as activities, element by element.
    """
    signals, builder = call.signals, call.builder
    weights = [k for k, (value, _) in enumerate(operands) if signals.held(value) is not None]
    weight = weights[-1] if weights else -1
    factors = [(call.gains(value), labels) for k, (value, labels) in enumerate(operands) if k != weight]
    held = signals.held(operands[weight][0]) if weights else None
    if held is not None and len(factors) == 1:
        return weigh(call, *factors[0], held, operands[weight][1], out_labels)
    union = list(dict.fromkeys(label for _, labels in factors for label in labels))
    terms = builder.combine([(1.0, _arranged(ids, labels, union)) for ids, labels in factors])
    if held is not None:
        return weigh(call, terms, union, held, operands[weight][1], out_labels)
    summed = [axis for axis, label in enumerate(union) if label not in out_labels]
    return _arranged(builder.tie_along(terms, summed, "summed with visible signals"), union, out_labels)


def add_bias(call: Call, ids: Tensor, bias: Any, axis: int) -> Tensor:
    """The nodes of a layer's output (``ids``) once ``bias`` (O,) is added along ``axis``."""
    if bias is None:
        return ids
    held = call.signals.held(bias)
    axis %= ids.ndim
    if held is None:
        if not call.signals.carries(bias):
            call.builder.bound(*call.place, [ids], "a constant is added")
        call.builder.tie(ids, call.gains(bias).reshape([-1 if k == axis else 1 for k in range(ids.ndim)]))
        return ids
    others = [k for k in range(ids.ndim) if k != axis]
    row = call.builder.tie_along(ids, others, "shares a bias").reshape(-1)
    held.use(call.builder, row.expand(held.shape), call.builder.visible(), bias=True)
    if call.builder.opened and held.name not in (weights := call.builder.opened[-1].weights):
        weights.append(held.name)
    return ids


@handles("linear")
def _linear(call: Call) -> Tensor:
    x, weight, bias = call.args[0], call.get(1, "weight"), call.get(2, "bias")
    lead = list(range(x.ndim - 1))
    columns = ["in"] if weight.ndim == 1 else ["out", "in"]
    out = contract(call, [(x, [*lead, "in"]), (weight, columns)], [*lead, *columns[:-1]])
    return add_bias(call, out.expand(call.result.shape), bias, -1)


def _product(call: Call, a: Any, b: Any) -> Tensor:
    """a @ b, as torch.matmul broadcasts it."""
    lead = max(a.ndim, b.ndim) - 2
    rows = [*_lead(a, lead), "n", "k"] if a.ndim > 1 else ["k"]
    columns = [*_lead(b, lead), "k", "m"] if b.ndim > 1 else ["k"]
    shared = [k for k in range(lead) if k in rows or k in columns]
    out = [*shared, *(["n"] if a.ndim > 1 else []), *(["m"] if b.ndim > 1 else [])]
    return contract(call, [(a, rows), (b, columns)], out)


def _lead(value: Tensor, lead: int) -> list[Hashable]:
    """Labels of the leading axes, counted from the last; an axis of length 1 is broadcast and has one of its own."""
    axes = value.ndim - 2
    return [lead - axes + k if value.shape[k] > 1 else object() for k in range(axes)]


@handles("matmul", "__matmul__", "mm", "bmm", "mv", "dot", "__rmatmul__")
def _matmul(call: Call) -> Tensor:
    a, b = call.args[0], call.get(1, "mat2", call.kwargs.get("other"))
    return _product(call, b, a) if call.name == "__rmatmul__" else _product(call, a, b)


@handles("addmm", "baddbmm", "addmv")
def _addmm(call: Call) -> Tensor:
    out = _product(call, call.get(1, "mat1"), call.get(2, "mat2")).expand(call.result.shape)
    if call.kwargs.get("beta", 1) == 0:
        return out
    if call.args[0].ndim == 1:
        return add_bias(call, out, call.args[0], -1)
    call.builder.tie(out, call.gains(call.args[0]), "added to a visible signal")
    return out


@handles("einsum")
def _einsum(call: Call) -> Tensor:
    equation, values = call.args[0], call.args[1:]
    values = values[0] if len(values) == 1 and isinstance(values[0], (list, tuple)) else values
    inputs, _, output = equation.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if "." in equation or any(len(set(term)) < len(term) for term in terms):
        return _ellipsis(call, terms, output, values) if "..." in equation else _refused(call, values)
    if "->" not in equation:
        output = "".join(sorted(c for c in set(inputs) if inputs.count(c) == 1 and c != ","))
    return contract(call, list(zip(values, map(list, terms), strict=True)), list(output)).expand(call.result.shape)


def _ellipsis(call: Call, terms: list[str], output: str, values: Sequence[Any]) -> Tensor:
    """An einsum with an ellipsis: its axes are labelled from the last."""
    labelled = []
    for term, value in zip(terms, values, strict=True):
        head, dots, tail = term.partition("...")
        count = value.ndim - len(head) - len(tail) if dots else 0
        labelled.append((value, [*head, *(("...", count - k) for k in range(count)), *tail]))
    head, _, tail = output.partition("...")
    most = max(sum(isinstance(label, tuple) for label in labels) for _, labels in labelled)
    if any(len(set(labels)) < len(labels) for _, labels in labelled):
        return _refused(call, values)
    return contract(call, labelled, [*head, *(("...", most - k) for k in range(most)), *tail]).expand(call.result.shape)


def _refused(call: Call, values: Sequence[Any]) -> Tensor:
    call.bound(values, "an index that appears twice in one operand")
    return call.builder.visible(call.result.shape)


@handles("bilinear")
def _bilinear(call: Call) -> Tensor:
    a, b, weight = call.args[:3]
    lead = list(range(a.ndim - 1))
    out = contract(call, [(a, [*lead, "i"]), (b, [*lead, "j"]), (weight, ["out", "i", "j"])], [*lead, "out"])
    return add_bias(call, out.expand(call.result.shape), call.get(3, "bias"), -1)


@handles("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def _convolution(call: Call) -> Tensor:
    x, weight, bias = call.args[0], call.get(1, "weight"), call.get(2, "bias")
    transposed = "transpose" in call.name
    groups = call.get(6, "groups", 1)
    channel = x.ndim - weight.ndim + 1
    why = "meets one kernel beside visible signals"
    below = call.builder.tie_along(call.gains(x), [k for k in range(x.ndim) if k != channel], why).reshape(-1)
    width = weight.shape[1] * groups if transposed else weight.shape[0]
    held = call.signals.held(weight)
    if held is None:
        out = _constant_kernel(call, below, weight, width, groups)
    else:
        out = call.builder.units(_layer(held), width, [held.name])
        axes = [1] * (weight.ndim - 2)
        fan = len(below) // groups  # inputs, or outputs of a transposed one, that a channel of its group meets
        if transposed:
            group = torch.arange(len(below)) // fan
            held.use(
                call.builder, out.reshape(groups, -1)[group].reshape(len(below), -1, *axes), below.reshape(-1, 1, *axes)
            )
        else:
            group = torch.arange(width if groups > 1 else 1) // (width // groups)
            held.use(call.builder, out.reshape(-1, 1, *axes), below.reshape(groups, fan)[group].reshape(-1, fan, *axes))
    shape = [width if k == channel else 1 for k in range(x.ndim)]
    return add_bias(call, out.reshape(shape).expand(call.result.shape), bias, channel)


def _constant_kernel(call: Call, below: Tensor, weight: Any, width: int, groups: int) -> Tensor:
    """A kernel that is no parameter: what it adds up has one class; one that is computed is read as it is."""
    if call.signals.carries(weight):
        call.bound([weight], "a kernel that is computed")
    grouped = call.builder.tie_along(below.reshape(groups, -1), 1, "summed by a fixed kernel")
    return grouped.expand(groups, width // groups).reshape(-1)


@handles("embedding")
def _embedding(call: Call) -> Tensor:
    weight = call.get(1, "weight")
    held = call.signals.held(weight)
    if held is None or call.get(3, "max_norm") is not None:
        call.bound([weight], "renormalised rows")
        return call.builder.visible(call.result.shape)
    ids = call.builder.units(_layer(held), weight.shape[1], [held.name])
    held.use(call.builder, ids[None, :], call.builder.visible())
    return ids.expand(call.result.shape)
