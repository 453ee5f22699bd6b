"""A locally connected layer: a convolution whose kernel is another one at every position."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from equipoise.errors import InputError

__all__ = ["LocallyConnected2d", "pair"]


def pair(name: str, value: int | tuple[int, int], least: int) -> tuple[int, int]:
    """``value`` as two integers of at least ``least``; ``InputError`` for another thing."""
    both = (value, value) if isinstance(value, int) else tuple(value)
    if len(both) != 2 or min(both) < least:
        raise InputError(f"{name} is one or two integers of at least {least}, not {value}")
    return both[0], both[1]


class LocallyConnected2d(nn.Module):
    """An unshared convolution: each output position p has a kernel and a bias of its own.

        y[b, o, p] = sum_k W[p, o, k] x[b, patch p, k] + bias[p, o]

    x (B, C, H, W), y (B, O, h, w) with h = (H + 2 padding - kernel) // stride + 1 and w alike; p runs over the h w
    positions row by row, k over the C * kernel * kernel elements of a patch, channel by channel. ``input_size`` is
    (H, W), or one number for both. Weights and biases start as a convolution's do, U(-1/sqrt(k), 1/sqrt(k)). Raises
    ``InputError`` for a kernel larger than the padded input, and for an input of another size.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        input_size: int | tuple[int, int],
        *,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if in_channels < 1 or out_channels < 1:
            raise InputError(f"channels are at least 1, not {in_channels} and {out_channels}")
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride = pair("kernel_size", kernel_size, 1), pair("stride", stride, 1)
        self.padding, self.input_size = pair("padding", padding, 0), pair("input_size", input_size, 1)
        sizes = zip(self.input_size, self.padding, self.kernel_size, self.stride, strict=True)
        self.output_size = tuple((size + 2 * pad - kernel) // step + 1 for size, pad, kernel, step in sizes)
        if min(self.output_size) < 1:
            raise InputError(f"a kernel {self.kernel_size} does not fit into an input of {self.input_size}")
        positions, patch = self.output_size[0] * self.output_size[1], in_channels * self.kernel_size[0]
        self.weight = nn.Parameter(torch.empty(positions, out_channels, patch * self.kernel_size[1]))
        self.bias = nn.Parameter(torch.empty(positions, out_channels)) if bias else None
        self.reset_parameters()

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """The shape of one input, (C, H, W)."""
        return (self.in_channels, *self.input_size)

    def reset_parameters(self) -> None:
        """Draw weights and biases anew from torch's global state, as torch's own layers do."""
        bound = self.weight.shape[-1] ** -0.5
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.uniform_(-bound, bound)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B O h w"]:
        """The layer's output (B, O, h, w) for an input (B, C, H, W)."""
        if tuple(x.shape[1:]) != self.input_shape:
            raise InputError(f"the layer has kernels for inputs {self.input_shape}, not {tuple(x.shape[1:])}")
        patches = F.unfold(x, self.kernel_size, padding=self.padding, stride=self.stride).permute(2, 1, 0)
        out = torch.bmm(self.weight, patches)
        if self.bias is not None:
            out = out + self.bias.unsqueeze(-1)
        return out.permute(2, 1, 0).reshape(x.shape[0], self.out_channels, *self.output_size)

    def extra_repr(self) -> str:
        sizes = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, input_size={self.input_size}"
        return f"{sizes}, stride={self.stride}, padding={self.padding}, bias={self.bias is not None}"
