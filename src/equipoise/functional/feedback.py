"""Feedback alignment's two operations, and the projection of an error that direct feedback uses.

The forward value is the ordinary one. Backwards, the weights see their exact gradient, and the input sees the
error through a fixed matrix in place of the weights (Lillicrap et al. 2016):

    y = x W^T + b,   dL/dW = g^T x,   dL/db = sum g,   dL/dx := g B     (plain backpropagation: B = W)

Letters: B batch, I in, O out; g is dL/dy. The two operations are single nodes of the graph, so that what is
behind them may change y in place.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

__all__ = ["feedback_convolution", "feedback_linear", "project_error"]

_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


class _FeedbackLinear(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None, feedback: Tensor) -> Tensor:
        return F.linear(x, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, _, feedback = inputs
        ctx.save_for_backward(x, feedback)
        ctx.weight_dtype = weight.dtype

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, feedback = ctx.saved_tensors
        dx = dw = db = None
        rows = g.reshape(-1, g.shape[-1])
        if ctx.needs_input_grad[0]:
            dx = (g @ feedback.to(g.dtype)).to(x.dtype)
        if ctx.needs_input_grad[1]:
            dw = (rows.T @ x.reshape(-1, x.shape[-1]).to(g.dtype)).to(ctx.weight_dtype)
        if ctx.needs_input_grad[2]:
            db = rows.sum(0).to(ctx.weight_dtype)
        return dx, dw, db, None


class _FeedbackConvolution(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        feedback: Tensor,
        stride: tuple[int, ...],
        padding: tuple[int, ...],
        dilation: tuple[int, ...],
        transposed: bool,
        output_padding: tuple[int, ...],
        groups: int,
    ) -> Tensor:
        n = weight.ndim - 2
        if transposed:
            return _TRANSPOSED[n](x, weight, bias, stride, padding, output_padding, groups, dilation)
        return _CONVOLUTIONS[n](x, weight, bias, stride, padding, dilation, groups)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, bias, feedback, *ctx.geometry = inputs
        ctx.bias_sizes = None if bias is None else list(bias.shape)
        ctx.save_for_backward(x, weight, feedback)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, weight, feedback = ctx.saved_tensors
        needs_x, needs_w, needs_b = ctx.needs_input_grad[:3]
        back, dtype = torch.ops.aten.convolution_backward, g.dtype
        dx = dw = db = None
        if needs_x:
            through = feedback.to(dtype)
            dx = back(g, x.to(dtype), through, ctx.bias_sizes, *ctx.geometry, (True, False, False))[0]
            dx = dx.to(x.dtype)
        if needs_w or needs_b:
            wanted = (False, needs_w, needs_b)
            _, dw, db = back(g, x.to(dtype), weight.to(dtype), ctx.bias_sizes, *ctx.geometry, wanted)
            dw = dw.to(weight.dtype) if needs_w else None
            db = db.to(weight.dtype) if needs_b else None
        return dx, dw, db, None, None, None, None, None, None, None


# ``Function.apply`` reads these signatures at every call; working them out would cost more than a small layer.
for _function in (_FeedbackLinear, _FeedbackConvolution):
    _function.forward.__signature__ = inspect.signature(_function.forward)  # type: ignore[attr-defined]


@torch.compiler.allow_in_graph
def feedback_linear(
    x: Float[Tensor, "*B I"],
    weight: Float[Tensor, "O I"],
    bias: Float[Tensor, " O"] | None,
    feedback: Float[Tensor, "O I"],
) -> Float[Tensor, "*B O"]:
    """A linear map whose input gradient passes through ``feedback`` instead of ``weight``.

    Source: Lillicrap et al. 2016; feedback = weight is plain backpropagation.
    """
    return _FeedbackLinear.apply(x, weight, bias, feedback)


@torch.compiler.allow_in_graph
def feedback_convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    feedback: Tensor,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    transposed: bool,
    output_padding: tuple[int, ...],
    groups: int,
) -> Tensor:
    """A 1-, 2- or 3-d convolution whose input gradient passes through kernels ``feedback`` shaped like ``weight``.

    ``x`` (B, C, *space); the geometry is spelled out, one integer per spatial axis.
    """
    return _FeedbackConvolution.apply(
        x, weight, bias, feedback, stride, padding, dilation, transposed, output_padding, groups
    )


def project_error(
    error: Float[Tensor, "B C"], feedback: Float[Tensor, "N C"], like: Float[Tensor, "R *S"]
) -> Float[Tensor, "R *S"]:
    """Direct feedback's error at a site: delta = B e for each sample, shaped like the site's activity.

    ``like`` has R = k B rows of N values: a site that folds k time steps, time-major, hears the same error k times.
    Source: Nokland 2016.
    """
    delta = error.to(like.dtype) @ feedback.to(like.dtype).T
    times = like.shape[0] // error.shape[0]
    if times > 1:
        delta = delta.repeat(times, 1)
    return delta.reshape(like.shape)
