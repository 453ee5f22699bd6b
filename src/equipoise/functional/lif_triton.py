"""The Triton kernels behind ``functional.lif_kernels``, and their launches. Imported only where Triton is installed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, no_type_check

import torch
import triton  # type: ignore[import-not-found]
import triton.language as tl  # type: ignore[import-not-found]
from torch import Tensor

__all__ = ["carry", "walk"]

Strides = Sequence[tuple[int, int, int, int]]


@triton.jit
@no_type_check
def _place(cell, inner, last, b_stride, i_stride, j_stride):
    """Where the first step of a cell is, among B samples of I x J cells."""
    rest = cell % (inner * last)
    return (cell // (inner * last)) * b_stride + (rest // last) * i_stride + (rest % last) * j_stride


@triton.jit
@no_type_check
def _walk_kernel(
    x, v, leak, theta, h, s, last,
    cells, steps, inner, width,
    x_b, x_t, x_i, x_j, h_b, h_t, h_i, h_j, s_b, s_t, s_i, s_j,
    HARD: tl.constexpr, LEAKS: tl.constexpr, THETAS: tl.constexpr, START: tl.constexpr, LAST: tl.constexpr,
    WIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    cell = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = cell < cells
    at_x = x + _place(cell, inner, width, x_b, x_i, x_j)
    at_h = h + _place(cell, inner, width, h_b, h_i, h_j)
    at_s = s + _place(cell, inner, width, s_b, s_i, s_j)
    kind = tl.float64 if WIDE else tl.float32
    a = tl.load(leak + cell, mask=live, other=0.0) if LEAKS else tl.load(leak)
    threshold = tl.load(theta + cell, mask=live, other=0.0) if THETAS else tl.load(theta)
    potential = tl.zeros((BLOCK,), kind)
    if START:
        potential = tl.load(v + cell, mask=live, other=0.0).to(kind)
    for _ in range(steps):
        now = tl.load(at_x, mask=live, other=0.0).to(kind) + a * potential
        now = now.to(at_h.dtype.element_ty).to(kind)
        fired = (now >= threshold).to(kind)
        tl.store(at_h, now.to(at_h.dtype.element_ty), mask=live)
        tl.store(at_s, fired.to(at_s.dtype.element_ty), mask=live)
        potential = now * (1 - fired) if HARD else now - threshold * fired
        at_x += x_t
        at_h += h_t
        at_s += s_t
    if LAST:
        tl.store(last + cell, potential.to(last.dtype.element_ty), mask=live)


@triton.jit
@no_type_check
def _slope(u, a, SURROGATE: tl.constexpr):
    """F'(u)."""
    if SURROGATE == "sigmoid":
        # Of the negative of |u|: the exponential cannot overflow, and the slope is even.
        e = tl.exp(-a * tl.abs(u))
        return a * e / ((1 + e) * (1 + e))
    if SURROGATE == "arctangent":
        z = u * a * 1.5707963267948966
        return a / 2 / (1 + z * z)
    if SURROGATE == "triangle":
        return tl.maximum(a - a * a * tl.abs(u), 0.0)
    z = 1 + a * tl.abs(u)
    return a / 2 / (z * z)


@triton.jit
@no_type_check
def _carry_kernel(
    g, g_last, h, v, leak, theta, sharpness, delta, to_leak, to_theta,
    cells, steps, inner, width,
    g_b, g_t, g_i, g_j, h_b, h_t, h_i, h_j, d_b, d_t, d_i, d_j,
    HARD: tl.constexpr, THROUGH: tl.constexpr, SURROGATE: tl.constexpr, LEAKS: tl.constexpr, THETAS: tl.constexpr,
    START: tl.constexpr, LAST: tl.constexpr, TO_LEAK: tl.constexpr, TO_THETA: tl.constexpr,
    WIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    cell = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = cell < cells
    end = tl.zeros((BLOCK,), tl.int64) + steps - 1  # wide: an offset may not fit 32 bits
    at_g = g + _place(cell, inner, width, g_b, g_i, g_j) + end * g_t
    at_h = h + _place(cell, inner, width, h_b, h_i, h_j) + end * h_t
    at_d = delta + _place(cell, inner, width, d_b, d_i, d_j) + end * d_t
    kind = tl.float64 if WIDE else tl.float32
    a = tl.load(leak + cell, mask=live, other=0.0) if LEAKS else tl.load(leak)
    threshold = tl.load(theta + cell, mask=live, other=0.0) if THETAS else tl.load(theta)
    sharp = tl.load(sharpness)
    above, by_leak, by_theta = tl.zeros((BLOCK,), kind), tl.zeros((BLOCK,), kind), tl.zeros((BLOCK,), kind)
    if LAST:
        above = tl.load(g_last + cell, mask=live, other=0.0).to(kind)
    now = tl.load(at_h, mask=live, other=0.0).to(kind)
    for back in range(steps):
        fired = (now >= threshold).to(kind)
        slope = _slope(now - threshold, sharp, SURROGATE)
        straight = tl.load(at_g, mask=live, other=0.0).to(kind) * slope
        own = tl.zeros((BLOCK,), kind)
        if THROUGH:
            own = (now if HARD else threshold) * slope
        keep = (1 - fired if HARD else 1.0) - own
        error = straight + above * keep
        tl.store(at_d, error.to(at_d.dtype.element_ty), mask=live)
        by_theta += above * (own if HARD else own - fired) - straight
        at_g -= g_t
        at_h -= h_t
        at_d -= d_t
        earlier = live & (back < end)
        now = tl.load(at_h, mask=earlier, other=0.0).to(kind)
        if TO_LEAK:
            fired = (now >= threshold).to(kind)
            before = now * (1 - fired) if HARD else now - threshold * fired
            if START:
                before = tl.where(back < end, before, tl.load(v + cell, mask=live, other=0.0).to(kind))
            else:
                before = tl.where(back < end, before, 0.0)
            by_leak += error * before
        above = a * error
    if TO_LEAK:
        tl.store(to_leak + cell, by_leak.to(to_leak.dtype.element_ty), mask=live)
    if TO_THETA:
        tl.store(to_theta + cell, by_theta.to(to_theta.dtype.element_ty), mask=live)


def _launch(
    kernel: Any, tensors: Sequence[Tensor | None], sizes: Sequence[int], strides: Strides, **kinds: Any
) -> None:
    samples, steps, inner, width = sizes
    cells = samples * inner * width
    if not (cells and steps):
        return
    # Of no matter to the kernel, which is told that it is not there; a pointer it must be.
    anything = next(one for one in tensors if one is not None)
    numbers = [number for one in strides for number in one]
    with torch.cuda.device(anything.device) if anything.is_cuda else torch.no_grad():
        kernel[(triton.cdiv(cells, kinds["BLOCK"]),)](
            *(anything if one is None else one for one in tensors), cells, steps, inner, width, *numbers, **kinds
        )


def walk(
    x: Tensor,
    v: Tensor | None,
    leak: Tensor,
    theta: Tensor,
    hard: bool,
    h: Tensor,
    s: Tensor,
    last: Tensor | None,
    sizes: Sequence[int],
    strides: Strides,
    block: int,
) -> None:
    """``lif_kernels.walk``, with the sizes (B, T, I, J) and the strides of x, h and s."""
    _launch(
        _walk_kernel,
        (x, v, leak, theta, h, s, last),
        sizes,
        strides,
        HARD=hard,
        LEAKS=leak.ndim > 0,
        THETAS=theta.ndim > 0,
        START=v is not None,
        LAST=last is not None,
        WIDE=x.dtype == torch.float64,
        BLOCK=block,
    )


def carry(
    g: Tensor,
    g_last: Tensor | None,
    h: Tensor,
    v: Tensor | None,
    leak: Tensor,
    theta: Tensor,
    hard: bool,
    surrogate: str,
    sharpness: Tensor,
    through: bool,
    delta: Tensor,
    to_leak: Tensor | None,
    to_theta: Tensor | None,
    sizes: Sequence[int],
    strides: Strides,
    block: int,
) -> None:
    """``lif_kernels.carry``, with the sizes (B, T, I, J) and the strides of g, h and delta."""
    _launch(
        _carry_kernel,
        (g, g_last, h, v, leak, theta, sharpness, delta, to_leak, to_theta),
        sizes,
        strides,
        HARD=hard,
        THROUGH=through,
        SURROGATE=surrogate,
        LEAKS=leak.ndim > 0,
        THETAS=theta.ndim > 0,
        START=v is not None,
        LAST=g_last is not None,
        TO_LEAK=to_leak is not None,
        TO_THETA=to_theta is not None,
        WIDE=h.dtype == torch.float64,
        BLOCK=block,
    )
