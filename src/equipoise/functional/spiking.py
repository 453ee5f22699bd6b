"""Leaky integrate-and-fire cells: one step, a loop over steps, and a whole sequence with its derivative by hand.

    h[t] = leak v[t-1] + x[t],    s[t] = 1 if h[t] >= theta else 0,
    v[t] = h[t] - theta s[t]  (soft reset)    or    h[t] (1 - s[t])  (hard reset)

x is the current, not divided by the time constant; leak = 1 - 1/tau (steps). Backwards, s passes the error by the
surrogate's F'(h - theta); the spike within the reset passes none unless ``through_reset``. Constants are numbers, or
tensors that broadcast with one step (0-d, or one for each cell), and then they are differentiated too.
The same recursion as u[t+1] = leak (u[t] - theta s[t]) + I[t] of the E-I spiking paper.
Letters: T time (axis 0), S the shape of one step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from equipoise.errors import InputError, unknown_name
from equipoise.functional.lif_sequence import run
from equipoise.functional.moments import wide
from equipoise.functional.surrogates import sharpness_of, spike

__all__ = ["RESETS", "check_constants", "check_state", "lif", "lif_loop", "lif_step"]

RESETS = ("soft", "hard")
Constant = float | int | Tensor


def check_constants(leak: Constant, threshold: Constant, reset: str) -> None:
    """``InputError`` for a reset that does not exist, or numbers no cell can have: leak in [0, 1], threshold > 0."""
    if reset not in RESETS:
        raise unknown_name("reset", reset, RESETS)
    if not isinstance(leak, Tensor) and not 0 <= leak <= 1:
        raise InputError(f"leak is the part of the membrane's potential that stays for a step, 0 to 1, not {leak}")
    if not isinstance(threshold, Tensor) and not threshold > 0:
        raise InputError(f"a threshold must be above 0, not {threshold}; at 0 silent cells would spike")


def check_state(v: Tensor, shape: Sequence[int]) -> None:
    """``InputError`` unless the potential ``v`` has the ``shape`` of one step of the currents."""
    if tuple(v.shape) != tuple(shape):
        raise InputError(
            f"the potential has shape {tuple(v.shape)} and one step of the currents {tuple(shape)}: the state of "
            "another batch or layer? pass None to start from rest"
        )


def lif_step(
    x: Float[Tensor, "*S"],
    v: Tensor,
    *,
    leak: Constant = 0.5,
    threshold: Constant = 1.0,
    reset: Literal["soft", "hard"] = "soft",
    surrogate: str = "sigmoid",
    sharpness: float | int | None = None,
    through_reset: bool = False,
) -> tuple[Float[Tensor, "*S"], Float[Tensor, "*S"]]:
    """(spikes, potential after the reset) of one step with current ``x`` from the potential ``v`` (S)."""
    check_constants(leak, threshold, reset)
    check_state(v, x.shape)
    h = leak * v + x
    s = spike(h - threshold, surrogate, sharpness)
    away = s if through_reset else s.detach()
    return s, (h - threshold * away if reset == "soft" else h * (1 - away))


def _enter(x: Tensor, v: Tensor | None) -> Tensor:
    """The potential before the first step; ``InputError`` unless it has the shape of one step of ``x``."""
    if x.ndim < 1 or x.shape[0] < 1:
        raise InputError(f"a sequence has its time steps on axis 0, at least one; this one is {tuple(x.shape)}")
    if v is None:
        return torch.zeros_like(wide(x[0]))
    check_state(v, x.shape[1:])
    return v


def lif_loop(
    x: Float[Tensor, "T *S"],
    v: Tensor | None = None,
    *,
    leak: Constant = 0.5,
    threshold: Constant = 1.0,
    reset: Literal["soft", "hard"] = "soft",
    surrogate: str = "sigmoid",
    sharpness: float | int | None = None,
    through_reset: bool = False,
) -> tuple[Float[Tensor, "T *S"], Float[Tensor, "*S"]]:
    """``lif_step`` over axis 0: (spikes, last potential). The definition that ``lif`` is held to."""
    state, spikes = _enter(x, v), []
    for current in wide(x).unbind(0):
        s, state = lif_step(
            current,
            state,
            leak=leak,
            threshold=threshold,
            reset=reset,
            surrogate=surrogate,
            sharpness=sharpness,
            through_reset=through_reset,
        )
        spikes.append(s)
    return torch.stack(spikes).to(x.dtype), state


def lif(
    x: Float[Tensor, "T *S"],
    v: Tensor | None = None,
    *,
    leak: Constant = 0.5,
    threshold: Constant = 1.0,
    reset: Literal["soft", "hard"] = "soft",
    surrogate: str = "sigmoid",
    sharpness: float | int | None = None,
    through_reset: bool = False,
) -> tuple[Float[Tensor, "T *S"], Float[Tensor, "*S"]]:
    """``lif_loop`` as one node of the graph, with its derivative in closed form: (spikes, last potential).

    ``v`` (S) is the potential to start from, None: rest. The potential is kept in float32 where x is in less; spikes
    have x's precision. Raises ``InputError`` for constants that no cell can have, or a state of another shape.
    """
    check_constants(leak, threshold, reset)
    start = _enter(x, v)
    a = sharpness_of(surrogate, sharpness)
    spikes, last = run(wide(x), start, leak, threshold, reset == "hard", surrogate, a, through_reset)
    return spikes.to(x.dtype), last
