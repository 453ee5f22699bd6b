"""Max-pooling by strided slices: on a CPU several times faster than the library's, which looks for indices."""

from __future__ import annotations

from functools import reduce

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["max_pool", "pool_slices"]


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def pool_slices(x: Float[Tensor, "*B H W"], height: int, width: int) -> Float[Tensor, "*B h w"]:
    """The maximum of each ``height`` x ``width`` tile, incomplete tiles left out: h = H // height, w = W // width."""
    h, w = x.shape[-2] // height * height, x.shape[-1] // width * width
    rows = reduce(torch.maximum, (x[..., k:h:height, :w] for k in range(height)))
    return reduce(torch.maximum, (rows[..., k::width] for k in range(width)))


def max_pool(x: Tensor, module: nn.MaxPool2d) -> Tensor:
    """What ``module`` returns for ``x`` (B, C, H, W), by slices on a CPU where its tiles do not overlap."""
    kernel, stride = _pair(module.kernel_size), _pair(module.stride)
    plain = kernel == stride and _pair(module.padding) == (0, 0) and _pair(module.dilation) == (1, 1)
    if plain and not module.ceil_mode and not module.return_indices and x.device.type == "cpu":
        return pool_slices(x, *kernel)
    return module(x)
