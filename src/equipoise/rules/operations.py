"""The operations that carry a signal through weights, read into one form.

``read`` turns a call of ``linear``, a convolution or a matrix product into (input, weight, how to run it with
another input or with feedback). Everything about torch's many spellings of these operations is here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from equipoise.functional.feedback import feedback_convolution, feedback_linear

__all__ = ["DROPOUTS", "LOOKUPS", "PLAIN", "VIEWS", "WEIGHTED", "Call", "is_product", "read"]

_CONVOLUTIONS = {F.conv1d: 1, F.conv2d: 2, F.conv3d: 3}
_TRANSPOSED = {F.conv_transpose1d: 1, F.conv_transpose2d: 2, F.conv_transpose3d: 3}
_PRODUCTS = {torch.matmul, torch.mm, Tensor.matmul, Tensor.mm, Tensor.__matmul__}
_REVERSED = {Tensor.__rmatmul__}
_ADDED = {torch.addmm, Tensor.addmm}

WEIGHTED: frozenset[Any] = frozenset({F.linear, *_CONVOLUTIONS, *_TRANSPOSED, *_PRODUCTS, *_REVERSED, *_ADDED})

VIEWS: frozenset[Any] = frozenset(
    {
        *(
            torch.t,
            torch.transpose,
            torch.permute,
            torch.reshape,
            torch.flatten,
            torch.squeeze,
            torch.unsqueeze,
        ),
        *(Tensor.t, Tensor.transpose, Tensor.permute, Tensor.reshape, Tensor.flatten, Tensor.squeeze),
        *(Tensor.unsqueeze, Tensor.view, Tensor.contiguous, Tensor.detach, Tensor.clone, Tensor.__getitem__),
        *(Tensor.to, Tensor.float, Tensor.double, Tensor.half, Tensor.bfloat16, torch.clone, torch.narrow),
        *(Tensor.narrow, Tensor.T.__get__, Tensor.mT.__get__, Tensor.data.__get__, torch.swapaxes, Tensor.swapaxes),  # type: ignore[attr-defined]
    }
)

LOOKUPS: frozenset[Any] = frozenset({F.embedding, F.embedding_bag})

# Operations that join a weight to an activity unit by unit, so that they transport no weight between layers.
PLAIN: frozenset[Any] = LOOKUPS | frozenset(
    getattr(owner, name)
    for owner in (torch, Tensor)
    for name in (
        *("add", "sub", "mul", "div", "true_divide", "__add__", "__radd__", "__mul__", "__rmul__", "__sub__"),
        *("__rsub__", "__truediv__", "__rtruediv__", "add_", "sub_", "mul_", "div_", "__iadd__", "__isub__"),
        *("__imul__", "__itruediv__", "maximum", "minimum", "lerp", "addcmul", "where", "cat", "concat", "stack"),
        *("hstack", "vstack", "copy_", "__setitem__"),
    )
    if hasattr(owner, name)
)

DROPOUTS: dict[Any, int] = {F.dropout: 0, F.dropout1d: 1, F.dropout2d: 2, F.dropout3d: 3}


@dataclass(frozen=True)
class Call:
    """One weighted operation: ``plain(input)`` runs it, ``fed_back(input, B)`` runs it with feedback B."""

    input: Tensor
    weight: Tensor
    plain: Callable[[Tensor], Tensor]
    fed_back: Callable[[Tensor, Tensor], Tensor]


def is_product(function: Any) -> bool:
    """Whether ``function`` is a matrix product: weighted only where one side is a weight."""
    return function in _PRODUCTS or function in _REVERSED or function in _ADDED


def _bind(names: Sequence[str], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    return {**dict(zip(names, args, strict=False)), **kwargs}


def _integers(value: int | Sequence[int], n: int) -> tuple[int, ...]:
    return (value,) * n if isinstance(value, int) else tuple(value)


def _padded(x: Tensor, padding: Any, kernel: Sequence[int], dilation: Sequence[int]) -> tuple[Tensor, Any]:
    """The input and the integer padding that "same", "valid" or numbers stand for."""
    n = len(kernel)
    if padding == "valid":
        return x, (0,) * n
    if padding != "same":
        return x, _integers(padding, n)
    total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    if all(t % 2 == 0 for t in total):
        return x, tuple(t // 2 for t in total)
    sides = [side for t in reversed(total) for side in (t // 2, t - t // 2)]
    return F.pad(x, sides), (0,) * n


def _read_linear(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call:
    given = _bind(("input", "weight", "bias"), args, kwargs)
    weight, bias = given["weight"], given.get("bias")
    return Call(
        given["input"],
        weight,
        lambda x: F.linear(x, weight, bias),
        lambda x, feedback: feedback_linear(x, weight, bias, feedback),
    )


def _read_convolution(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call:
    transposed = function in _TRANSPOSED
    n = _TRANSPOSED[function] if transposed else _CONVOLUTIONS[function]
    order = ("output_padding", "groups", "dilation") if transposed else ("dilation", "groups")
    given = _bind(("input", "weight", "bias", "stride", "padding", *order), args, kwargs)
    weight, bias = given["weight"], given.get("bias")
    stride = _integers(given.get("stride", 1), n)
    dilation = _integers(given.get("dilation", 1), n)
    output_padding = _integers(given.get("output_padding", 0), n)
    groups = given.get("groups", 1)

    def fed_back(x: Tensor, feedback: Tensor) -> Tensor:
        if x.ndim < weight.ndim:  # one sample without a batch axis
            return fed_back(x.unsqueeze(0), feedback).squeeze(0)
        padded, padding = _padded(x, given.get("padding", 0), weight.shape[2:], dilation)
        return feedback_convolution(
            padded, weight, bias, feedback, stride, padding, dilation, transposed, output_padding, groups
        )

    rest = {k: v for k, v in given.items() if k != "input"}
    return Call(given["input"], weight, lambda x: function(x, **rest), fed_back)


def _product(x: Tensor, weight: Tensor, feedback: Tensor | None, bias: Tensor | None, alpha: float) -> Tensor:
    """alpha x @ weight + bias, for a weight (I, O)."""
    fused = bias if bias is not None and bias.ndim == 1 and alpha == 1 else None
    y = F.linear(x, weight.t(), fused) if feedback is None else feedback_linear(x, weight.t(), fused, feedback.t())
    y = y if alpha == 1 else alpha * y
    return y if bias is None or fused is not None else bias + y


def _read_product(
    function: Any, args: Sequence[Any], kwargs: Mapping[str, Any], is_weight: Callable[[Any], bool]
) -> Call | None:
    bias, alpha = None, 1
    if function in _ADDED:
        given = _bind(("input", "mat1", "mat2"), args, kwargs)
        bias, left, right = given["input"], given["mat1"], given["mat2"]
        alpha, beta = given.get("alpha", 1), given.get("beta", 1)
        bias = bias if beta == 1 else beta * bias
    else:
        given = _bind(("input", "other"), args, kwargs)
        left, right = given["input"], given["mat2"] if "mat2" in given else given["other"]
        if function in _REVERSED:
            left, right = right, left
    if is_weight(right) and right.ndim == 2:
        return Call(
            left,
            right,
            lambda x: _product(x, right, None, bias, alpha),
            lambda x, feedback: _product(x, right, feedback, bias, alpha),
        )
    if is_weight(left) and left.ndim == 2 and right.ndim >= 2 and bias is None:
        return Call(
            right,
            left,
            lambda x: left @ x,
            lambda x, feedback: feedback_linear(x.mT, left, None, feedback).mT,
        )
    return None


def read(
    function: Any, args: Sequence[Any], kwargs: Mapping[str, Any], is_weight: Callable[[Any], bool]
) -> Call | None:
    """The call as input, weight and two ways to run it; None for a product without a weight of two dimensions.

    ``is_weight`` tells whether a tensor is one of the model's weights (or a view of one).
    """
    if function is F.linear:
        return _read_linear(args, kwargs)
    if is_product(function):
        return _read_product(function, args, kwargs, is_weight)
    return _read_convolution(function, args, kwargs)
