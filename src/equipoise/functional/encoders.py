"""From a static picture to a sequence of frames: time first, (B, ...) -> (T, B, ...).

Intensities lie in [0, 1]. ON and OFF cells for signed input are ``nn.OnOff``.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from equipoise.errors import InputError

__all__ = ["direct_code", "latency_code", "rate_code"]


def _at_least_one(steps: int) -> int:
    if steps < 1:
        raise InputError(f"a sequence needs at least one time step, not steps={steps}")
    return steps


def direct_code(x: Float[Tensor, "B *S"], steps: int) -> Float[Tensor, "T B *S"]:
    """The picture itself at every step, as a current; a view, no copy."""
    return x.unsqueeze(0).expand(_at_least_one(steps), *x.shape)


def rate_code(x: Float[Tensor, "B *S"], noise: Float[Tensor, "T B *S"]) -> Float[Tensor, "T B *S"]:
    """A spike with probability x at each step, apart from one another: 1 where ``noise``, uniform on [0, 1), is < x."""
    return (noise < x).to(x.dtype)


def latency_code(x: Float[Tensor, "B *S"], steps: int) -> Float[Tensor, "T B *S"]:
    """One spike a pixel, the earlier the brighter: at step round((1 - x) (T - 1)); none where x <= 0."""
    when = ((1 - x.clamp(max=1)) * (_at_least_one(steps) - 1)).round()
    now = torch.arange(steps, device=x.device, dtype=x.dtype).reshape(-1, *(1,) * x.ndim)
    return ((when == now) & (x > 0)).to(x.dtype)
