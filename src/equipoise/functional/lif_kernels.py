"""Leaky integrate-and-fire cells over time as two Triton kernels: a lane takes a cell through all time steps.

Letters and equations as in ``functional.lif_sequence``, which calls these for tensors on a CUDA device where Triton is
installed; ``functional.ei_sequence`` does so with the samples before time. float64 is reckoned in float64, all else in
float32. The interpreter of Triton runs the same code on a CPU, for tests.
"""

from __future__ import annotations

import functools
import importlib.util
from typing import Any

import torch
from torch import Tensor

__all__ = ["carry", "serves", "walk"]

BLOCK = 256  # cells of a program
DEVICES = {"cuda"}
SURROGATES = ("sigmoid", "arctangent", "triangle", "fast_sigmoid")


@functools.cache
def _installed() -> bool:
    return importlib.util.find_spec("triton") is not None


def serves(x: Tensor, surrogate: str = "sigmoid") -> bool:
    """Whether the kernels are for cells whose currents are ``x``: on their device, with a surrogate that they know."""
    return x.device.type in DEVICES and surrogate in SURROGATES and x.is_floating_point() and _installed()


@functools.cache
def _kernels() -> Any:
    from equipoise.functional import lif_triton

    return lif_triton


def _constant(value: float | int | Tensor, like: Tensor) -> Tensor:
    """A constant as a tensor of one element, or of one for each cell; made on the device, so that nothing waits."""
    wide = torch.float64 if like.dtype == torch.float64 else torch.float32
    if isinstance(value, Tensor):
        return value.to(wide).contiguous()
    return torch.full((), value, dtype=wide, device=like.device)


def _sizes(x: Tensor) -> tuple[int, int, int, int]:
    """(B, T, I, J) of a tensor (T, J) or (B, T, I, J)."""
    return (1, x.shape[0], 1, x.shape[1]) if x.ndim == 2 else tuple(x.shape)  # type: ignore[return-value]


def _strides(x: Tensor) -> tuple[int, int, int, int]:
    if x.ndim == 2:
        return 0, x.stride(0), 0, x.stride(1)
    b, t, i, j = x.stride()
    return b, t if x.shape[1] > 1 else 0, i, j


# Operators of torch, as graphs can hold; their schemas are written out, for torch cannot read annotations as text.
@torch.library.custom_op(
    "equipoise::lif_walk",
    mutates_args=("h", "s", "last"),
    schema="(Tensor x, Tensor? v, Tensor leak, Tensor theta, bool hard, Tensor(a!) h, Tensor(b!) s, Tensor(c!)? last)"
    " -> ()",
)
def _walk(
    x: Tensor, v: Tensor | None, leak: Tensor, theta: Tensor, hard: bool, h: Tensor, s: Tensor, last: Tensor | None
) -> None:
    _kernels().walk(x, v, leak, theta, hard, h, s, last, _sizes(h), [_strides(one) for one in (x, h, s)], BLOCK)


def walk(
    x: Tensor,
    v: Tensor | None,
    leak: float | int | Tensor,
    theta: float | int | Tensor,
    hard: bool,
    h: Tensor,
    s: Tensor,
    last: Tensor | None = None,
) -> None:
    """h and s (T, M) or (B, T, I, J) of the currents ``x`` alike, or (B, 1, I, J) for all steps.

    v: potentials (M,) before the first step, None for 0; last: filled with those after the last. leak and theta: a
    number, 0-d, or (M,). ``h`` may be ``x``.
    """
    _walk(x, v, _constant(leak, x), _constant(theta, x), hard, h, s, last)


@torch.library.custom_op(
    "equipoise::lif_carry",
    mutates_args=("to_leak", "to_theta"),
    schema="(Tensor g, Tensor? g_last, Tensor h, Tensor? v, Tensor leak, Tensor theta, bool hard, str surrogate, "
    "float sharpness, bool through, Tensor(a!)? to_leak, Tensor(b!)? to_theta) -> Tensor",
)
def _carry(
    g: Tensor,
    g_last: Tensor | None,
    h: Tensor,
    v: Tensor | None,
    leak: Tensor,
    theta: Tensor,
    hard: bool,
    surrogate: str,
    sharpness: float,
    through: bool,
    to_leak: Tensor | None,
    to_theta: Tensor | None,
) -> Tensor:
    delta = torch.empty_like(h, memory_format=torch.contiguous_format)
    strides = [_strides(one) for one in (g, h, delta)]
    _kernels().carry(
        *(g, g_last, h, v, leak, theta, hard, surrogate, torch.full((), sharpness, dtype=leak.dtype, device=h.device)),
        *(through, delta, to_leak, to_theta, _sizes(h), strides, BLOCK),
    )
    return delta


@_carry.register_fake
def _(g: Tensor, g_last: Any, h: Tensor, *rest: Any) -> Tensor:
    return torch.empty_like(h, memory_format=torch.contiguous_format)


def carry(
    g: Tensor,
    g_last: Tensor | None,
    h: Tensor,
    v: Tensor | None,
    leak: float | int | Tensor,
    theta: float | int | Tensor,
    hard: bool,
    surrogate: str,
    sharpness: float,
    through: bool = False,
    to_leak: Tensor | None = None,
    to_theta: Tensor | None = None,
) -> Tensor:
    """delta, contiguous and of the shape of ``h``, from the errors ``g`` at the spikes and ``g_last`` at the end.

    to_leak, to_theta (M,): filled with the errors at the constants, if given.
    """
    return _carry(
        *(g, g_last, h, v, _constant(leak, h), _constant(theta, h), hard, surrogate, sharpness, through),
        *(to_leak, to_theta),
    )
