"""Operations on one element at a time: what is positively homogeneous passes a scale on, or a power of it."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from equipoise.balance.held import Held
from equipoise.balance.signals import Call, handles

__all__ = ["same_scale"]


def _one(call: Call, power: float, value: Any = None) -> Tensor:
    ids = call.gains(call.args[0] if value is None else value)
    return call.builder.combine([(power, ids)]).expand(call.result.shape)


def _number(value: Any) -> float | None:
    """The value of a constant number, None for a tensor."""
    return float(value) if isinstance(value, (int, float)) else None


def _kept(call: Call, value: Any) -> Any:
    """The nodes of ``value``, or the view of a parameter that it is, unchanged."""
    return call.signals.held(value) or call.gains(value).expand(call.result.shape)


@handles(
    *("relu", "leaky_relu", "rrelu", "abs", "absolute", "__abs__", "neg", "negative", "__neg__", "positive", "__pos__"),
    *("dropout", "dropout1d", "dropout2d", "dropout3d", "feature_dropout", "identity", "contiguous", "clone", "detach"),
    *("to", "type", "type_as", "float", "double", "half", "bfloat16", "cpu", "cuda", "data", "real", "requires_grad"),
    *("tril", "triu", "lift_fresh", "lift", "_to_copy", "alias", "zero", "zero_"),
)
def _pass(call: Call) -> Any:
    if not isinstance(call.result, Tensor):  # x.requires_grad
        return None
    if not call.signals.matters(call.args[0]):  # a constant brought to an activity's type
        return None
    if not call.result.is_floating_point() and call.result.dtype != torch.bool:
        return _bounded(call, "rounded to whole numbers")
    return call.signals.held(call.args[0]) or _one(call, 1.0)


@handles("prelu", "_prelu_kernel")
def _prelu(call: Call) -> Tensor:
    slope = call.get(1, "weight")
    held = call.signals.held(slope)
    if call.signals.carries(slope):
        call.bound([slope], "a slope that is computed")
    if held is not None:
        call.builder.constant[held.name] = "the slope of a PReLU has no scale"
        call.builder.pin(held.name, "the slope of a PReLU")
    return _one(call, 1.0)


@handles("threshold", "_threshold")
def _threshold(call: Call) -> Tensor:
    if call.get(1, "threshold") == 0 and call.get(2, "value") == 0:
        return _one(call, 1.0)
    return _bounded(call, "a threshold other than 0")


def _bounded(call: Call, why: str) -> Tensor:
    call.bound([v for v in (*call.args, *call.kwargs.values()) if isinstance(v, Tensor)], why)
    return call.builder.visible(call.result.shape)


@handles("clamp", "clip", "clamp_min", "clamp_max", "hardtanh")
def _clamp(call: Call) -> Tensor:
    if call.name == "clamp_max":
        limits = [call.get(1, "max")]
    elif call.name == "clamp_min":
        limits = [call.get(1, "min")]
    elif call.name == "hardtanh":
        limits = [call.get(1, "min_val", -1.0), call.get(2, "max_val", 1.0)]
    else:
        limits = [call.get(1, "min"), call.get(2, "max")]
    if any(isinstance(limit, Tensor) for limit in limits):
        return same_scale(call, [call.args[0], *(limit for limit in limits if limit is not None)])
    if all(limit is None or limit == 0 or math.isinf(limit) for limit in limits):
        return _one(call, 1.0)
    return _bounded(call, "limits other than 0")


def same_scale(call: Call, values: list[Any]) -> Tensor:
    """Signals that are added or compared: they carry the same scale; a constant other than 0 carries none."""
    terms = [value for value in values if not call.signals.is_zero(value)] or values[:1]
    moving = [value for value in terms if call.signals.carries(value)]
    weights = [held for value in terms if (held := call.signals.held(value)) is not None]
    if len(moving) + len(weights) < len(terms):
        call.bound(moving or terms, "a constant is added" if call.name != "where" else "a constant stands beside it")
        if not moving:
            return call.builder.visible(call.result.shape)
    if not moving:
        moving, weights = terms[:1], [held for held in weights if held is not call.signals.held(terms[0])]
    ids = [call.gains(value) for value in moving]
    for other in ids[1:]:
        call.builder.tie(ids[0], other, "added to a visible signal")
    best = max(ids, key=lambda each: (each.shape == call.result.shape, each.ndim)).expand(call.result.shape)
    for held in weights:
        _added(call, best, held)
    return best


def _added(call: Call, ids: Tensor, held: Held) -> None:
    """A parameter added to nodes ``ids``: a bias, which takes the classes of what it is added to."""
    shape = (1,) * (ids.ndim - len(held.shape)) + tuple(held.shape)
    shared = [axis for axis, size in enumerate(ids.shape) if shape[axis] < size]
    row = call.builder.tie_along(ids, shared, f"shares '{held.name}'")
    held.use(call.builder, row.expand(shape).reshape(held.shape), call.builder.visible(), bias=True)
    for one in call.builder.opened:
        if one.name == held.name.rpartition(".")[0] and held.name not in one.weights:
            one.weights.append(held.name)


@handles(
    *("add", "__add__", "__radd__", "__iadd__", "sub", "subtract", "__sub__", "__rsub__", "__isub__", "rsub"),
    *("maximum", "minimum", "fmax", "fmin", "hypot"),
)
def _add(call: Call) -> Tensor:
    return same_scale(call, [call.args[0], call.get(1, "other")])


@handles("where")
def _where(call: Call) -> Tensor:
    if len(call.args) + len(call.kwargs) < 3:
        return _bounded(call, "positions of what is not 0")
    if call.signals.carries(call.args[0]):
        call.bound([call.args[0]], "a condition")
    return same_scale(call, [call.get(1, "input", call.kwargs.get("self")), call.get(2, "other")])


@handles("masked_fill")
def _masked_fill(call: Call) -> Tensor:
    value = _number(call.get(2, "value"))
    if value is not None and (value == 0 or math.isinf(value)):
        return _one(call, 1.0)
    return same_scale(call, [call.args[0], call.get(2, "value")])


@handles("mul", "multiply", "__mul__", "__rmul__", "__imul__")
def _mul(call: Call) -> Any:
    a, b = call.args[0], call.get(1, "other")
    for one, other in ((a, b), (b, a)):
        if not call.signals.matters(other):
            held = call.signals.held(one)
            same = held is not None and call.result.shape == one.shape
            return held if same else call.gains(one).expand(call.result.shape)
    return call.builder.combine([(1.0, call.gains(a)), (1.0, call.gains(b))]).expand(call.result.shape)


@handles("div", "divide", "true_divide", "__div__", "__truediv__", "__itruediv__", "__rdiv__", "__rtruediv__")
def _div(call: Call) -> Any:
    a, b = call.args[0], call.get(1, "other")
    if call.kwargs.get("rounding_mode") is not None:
        return _bounded(call, "rounds")
    if call.name in ("__rdiv__", "__rtruediv__"):
        a, b = b, a
    if not call.signals.matters(b) and isinstance(a, Tensor):
        return _kept(call, a) if call.result.shape == a.shape else call.gains(a).expand(call.result.shape)
    return call.builder.combine([(1.0, call.gains(a)), (-1.0, call.gains(b))]).expand(call.result.shape)


@handles("reciprocal")
def _reciprocal(call: Call) -> Tensor:
    return _one(call, -1.0)


@handles("square")
def _square(call: Call) -> Tensor:
    return _one(call, 2.0)


@handles("sqrt")
def _sqrt(call: Call) -> Tensor:
    return _one(call, 0.5)


@handles("rsqrt")
def _rsqrt(call: Call) -> Tensor:
    return _one(call, -0.5)


@handles("pow", "__pow__", "__ipow__", "float_power")
def _pow(call: Call) -> Tensor:
    power = _number(call.get(1, "exponent"))
    if power is None or not isinstance(call.args[0], Tensor):
        return _bounded(call, "a power that is no fixed number")
    return _one(call, power)


@handles("gt", "lt", "ge", "le", "eq", "ne", "__gt__", "__lt__", "__ge__", "__le__", "__eq__", "__ne__")
def _compare(call: Call) -> None:
    other = call.get(1, "other")
    if _number(other) != 0:
        both = [call.args[0], other]
        ids = [call.gains(value) for value in both]
        if ids[0].shape != ids[1].shape or not torch.equal(*ids):
            call.bound([v for v in both if isinstance(v, Tensor)], "compared with something other than 0")


@handles("sign", "sgn", "signbit", "isnan", "isinf", "isfinite")
def _sign(call: Call) -> Tensor:
    return call.builder.visible(call.result.shape)


@handles("zeros_like", "new_zeros", "empty_like", "new_empty")
def _zeros_like(call: Call) -> Tensor | None:
    if not call.result.is_floating_point():
        return None
    call.signals.zeros(call.result)
    return call.gains(call.result)


@handles("ones_like", "rand_like", "randn_like", "full_like", "new_ones", "new_full", "new_tensor", "bernoulli_like")
def _constants_like(call: Call) -> None:
    return None
