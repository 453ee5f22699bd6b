"""A convolution inverted patch by patch, and what becomes of pixels that several patches cover.

A convolution multiplies each patch p of its input by one matrix, s_p = A x_p + b, so that each patch can be had back:
A^-1 (s_p - b). A pixel lies in n_x patches and is had back n_x times. Two ways to put that right:

    subtract   x_hat = sum over patches - (n_x - 1) x        exact for s = forward(x); an error is the SUM over patches
    divide     x_hat = (sum over patches) / n_x              exact for any s that an image gives; an error is the MEAN

x is the layer's input in the forward pass. For A^-1 = A^T the sum is what backpropagation carries down, and the mean
is the image whose output is nearest to s. A pixel that no patch covers (a stride longer than the kernel, or a rest at
the edge) has no influence on the output: it keeps its forward value, and its error is 0.

Shapes: x (B, C, H, W), s (B, O, h, w) with O = C k k, kernels (O, C, k, k), A = kernels.flatten(1).
Source: the scaling paper, section 2.4.2, appendices B and C.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from equipoise.errors import InputError, unknown_name

__all__ = ["OVERLAPS", "as_kernels", "carry_patches", "convolve", "coverage", "inverse_patches", "pads", "sum_patches"]

OVERLAPS = ("subtract", "divide")
Padding = int | Sequence[int] | str
Sizes = int | Sequence[int]


def _pair(value: Sizes) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def pads(shape: Sequence[int], kernel: Sizes, stride: Sizes, padding: Padding) -> tuple[int, int, int, int]:
    """Zeros (left, right, top, bottom) around an image whose last axes are ``shape`` = (H, W), as ``F.pad`` takes them.

    padding: one or two integers for both sides, "valid" (none), or "same": ceil(H / stride) outputs, which takes
    max((ceil(H / stride) - 1) stride + k - H, 0) zeros, the odd one at the bottom and right. With stride 1 that is
    torch's own "same"; with stride 2 it is asymmetric, and TensorFlow's.
    """
    sides: list[int] = []
    for axis in (1, 0):
        size, k, step = shape[axis - 2], _pair(kernel)[axis], _pair(stride)[axis]
        if padding == "same":
            total = max((-(-size // step) - 1) * step + k - size, 0)
            sides += [total // 2, total - total // 2]
        elif isinstance(padding, str):
            if padding != "valid":
                raise unknown_name("padding", padding, ("same", "valid"))
            sides += [0, 0]
        else:
            sides += [_pair(padding)[axis]] * 2
        if size + sides[-1] + sides[-2] < k:
            raise InputError(f"a kernel of {k} does not fit into {size} pixels with {sides[-1] + sides[-2]} of padding")
    return sides[0], sides[1], sides[2], sides[3]


def convolve(
    x: Float[Tensor, "B C H W"],
    kernels: Float[Tensor, "O C k l"],
    bias: Float[Tensor, " O"] | None,
    stride: Sizes,
    padding: Padding,
) -> Float[Tensor, "B O h w"]:
    """The convolution, with ``pads`` around ``x``."""
    left, right, top, bottom = pads(x.shape, kernels.shape[2:], stride, padding)
    if left == right and top == bottom:
        return F.conv2d(x, kernels, bias, _pair(stride), (top, left))
    return F.conv2d(F.pad(x, (left, right, top, bottom)), kernels, bias, _pair(stride))


def coverage(
    shape: Sequence[int], kernel: Sizes, stride: Sizes, padding: Padding, device: torch.device | str | None = None
) -> Int[Tensor, "H W"]:
    """n_x: how many patches cover each pixel of an image whose last axes are ``shape`` = (H, W).

    Along an axis, patch p covers the pixels from p stride - pad to p stride - pad + k - 1; both axes multiply.
    """
    left, right, top, bottom = pads(shape, kernel, stride, padding)
    counts = []
    for axis, before, after in ((0, top, bottom), (1, left, right)):
        size, k, step = shape[axis - 2], _pair(kernel)[axis], _pair(stride)[axis]
        last = (size + before + after - k) // step
        at = torch.arange(size, device=device) + before
        high = torch.div(at, step, rounding_mode="floor").clamp(max=last)
        low = -torch.div(k - 1 - at, step, rounding_mode="floor")
        counts.append((high - low.clamp(min=0) + 1).clamp(min=0))
    return counts[0][:, None] * counts[1]


def as_kernels(inverse: Float[Tensor, "M O"], shape: Sequence[int]) -> Float[Tensor, "O C k l"]:
    """The kernels (O, C, k, l) through which a transposed convolution multiplies each position by ``inverse``.

    shape: of the forward kernels. ``inverse`` may hold the columns of the first O units alone.
    """
    return inverse.T.reshape(inverse.shape[1], *shape[1:])


def sum_patches(
    s: Float[Tensor, "B O h w"],
    kernels: Float[Tensor, "O C k l"],
    shape: Sequence[int],
    stride: Sizes,
    padding: Padding,
) -> Float[Tensor, "B C H W"]:
    """Patches from ``s`` by ``kernels``, added up where they lie in the image with last axes ``shape`` = (H, W)."""
    size = (shape[-2], shape[-1])
    left, _, top, _ = pads(size, kernels.shape[2:], stride, padding)
    steps = _pair(stride)
    # How far the patches reach from the image's first pixel; torch adds a rest (below a stride), an excess is cut off.
    reach = [
        (n - 1) * step + k - 2 * pad
        for n, step, k, pad in zip(s.shape[2:], steps, kernels.shape[2:], (top, left), strict=True)
    ]
    rest = [max(0, wanted - got) for wanted, got in zip(size, reach, strict=True)]
    out = F.conv_transpose2d(s, kernels, None, steps, (top, left), rest)
    return out[..., : size[0], : size[1]]


def carry_patches(
    d: Float[Tensor, "B O h w"],
    kernels: Float[Tensor, "O C k l"],
    shape: Sequence[int],
    stride: Sizes,
    padding: Padding,
    overlap: str = "subtract",
) -> Float[Tensor, "B C H W"]:
    """A small change of the output carried down: what ``inverse_patches`` changes by when s changes by ``d``.

    "subtract": the sum over a pixel's patches, which for A^-1 = A^T is backpropagation's; "divide": their mean.
    kernels: A^-1 as ``as_kernels`` lays it out.
    """
    if overlap not in OVERLAPS:
        raise unknown_name("correction of overlaps", overlap, OVERLAPS)
    total = sum_patches(d, kernels, shape, stride, padding)
    if overlap == "subtract":
        return total
    return total / coverage(shape, kernels.shape[2:], stride, padding, d.device).clamp(min=1).to(d.dtype)


def inverse_patches(
    s: Float[Tensor, "B O h w"],
    x: Float[Tensor, "B C H W"],
    kernels: Float[Tensor, "O C k l"],
    stride: Sizes,
    padding: Padding,
    overlap: str = "subtract",
) -> Float[Tensor, "B C H W"]:
    """The image x_hat whose convolution is ``s`` (less the bias), overlaps corrected as ``overlap`` says.

    x: the forward input, which "subtract" counts on and which pixels that no patch covers keep. kernels: A^-1 as
    ``as_kernels`` lays it out.
    """
    back = carry_patches(s, kernels, x.shape, stride, padding, overlap)
    n = coverage(x.shape, kernels.shape[2:], stride, padding, s.device)
    return back - ((n - 1) if overlap == "subtract" else n.clamp(max=1) - 1).to(x.dtype) * x
