"""Layers that target propagation can run backwards: square ones, with auxiliary units where the next layer is narrower.

A layer with n inputs has n units, of which the next layer sees the first ``out_features``. The others, the auxiliary
units, keep what a narrower layer would forget. They have no error, so no task teaches them; only what keeps the
weights orthogonal does. All units share one weight, so that every parameter has a gradient (0 for auxiliary rows) and
optimisers and ``DistributedDataParallel`` find nothing unused.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise.debugging import debugging
from equipoise.errors import InputError, unknown_name
from equipoise.functional.draws import draw
from equipoise.functional.inverse import invert, require_invertible, solve
from equipoise.functional.patches import OVERLAPS, as_kernels, carry_patches, convolve, inverse_patches
from equipoise.nn.local import pair

__all__ = ["InvertibleConv2d", "InvertibleLinear"]


class _Invertible(nn.Module):
    """What both layers share: units and auxiliary units, the matrix, initialisation. The geometry is theirs.

    outputs: units that the next layer sees; fan_in: inputs of a unit; unit_dim: the axis of units.
    """

    unit_dim = -1
    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(
        self,
        outputs: int,
        fan_in: int,
        shape: tuple[int, ...],
        *,
        bias: bool,
        first: bool,
        generator: torch.Generator | None,
    ) -> None:
        super().__init__()
        if outputs < 1 or fan_in < 1:
            raise InputError(f"a layer needs at least one input and one unit, not {fan_in} and {outputs}")
        if outputs > fan_in and not first:
            raise InputError(
                f"{type(self).__name__}: {outputs} units of {fan_in} inputs each have no inverse, as auxiliary units "
                f"only fill up to {fan_in}; let it have at most {fan_in}, or pass first=True for a first layer"
            )
        self.outputs, self.fan_in, self.first = outputs, fan_in, first
        self.auxiliary = 0 if first else fan_in - outputs
        units = outputs + self.auxiliary
        self.weight = nn.Parameter(torch.empty(units, *shape))
        self.bias = nn.Parameter(torch.empty(units)) if bias else None
        self.reset_parameters(generator)

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """An orthogonal matrix (orthonormal rows or columns where it is not square), and biases 0.

        generator: None draws from torch's global state, as torch's own layers do.
        """
        source = generator or torch.default_generator
        with torch.device("cpu"):
            matrix = draw(tuple(self.weight.shape), law="orthogonal", fan_in=self.fan_in, generator=source)
        self.weight.copy_(matrix)
        if self.bias is not None:
            self.bias.zero_()

    def matrix(self, weight: Tensor | None = None) -> Tensor:
        """The square matrix A by which the layer multiplies, (units, fan_in): of ``weight``, or of its own."""
        return (self.weight if weight is None else weight).flatten(1)

    def _enter(self) -> Tensor:
        """The matrix that is to be inverted; under ``equipoise.debug()`` its condition is checked."""
        if self.first:
            raise InputError(
                f"{type(self).__name__}({self.extra_repr()}): a first layer is not inverted, nothing is below it; "
                "without first=True it has the auxiliary units for that"
            )
        matrix = self.matrix()
        if debugging():
            require_invertible(matrix, f"{type(self).__name__}({self.extra_repr()})")
        return matrix

    def _bias(self, part: slice) -> Tensor | None:
        return None if self.bias is None else self.bias[part]

    def _apply_rows(self, x: Tensor, rows: slice) -> Tensor:
        """The sums of the units ``rows``."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """The sums of the units that the next layer sees."""
        return self._apply_rows(x, slice(self.outputs)) if self.auxiliary else self.units(x)

    def units(self, x: Tensor) -> Tensor:
        """The sums of all units, the auxiliary ones last."""
        return self._apply_rows(x, slice(None))

    def _count(self, output: Tensor) -> int:
        """How many units ``output`` holds: those that the next layer sees, or all."""
        given, units = output.shape[self.unit_dim], self.outputs + self.auxiliary
        if given not in (self.outputs, units):
            raise InputError(
                f"{type(self).__name__}({self.extra_repr()}): what is to be inverted has {given} units, neither the "
                f"{self.outputs} that the next layer sees nor all {units}"
            )
        return given

    def _complete(self, output: Tensor, input: Tensor) -> Tensor:
        """All units' sums less their biases: ``output``, completed by the auxiliary units' sums at ``input``."""
        if self._count(output) < self.outputs + self.auxiliary:
            output = torch.cat([output, self._apply_rows(input, slice(self.outputs, None))], self.unit_dim)
        if self.bias is None:
            return output
        return output - self.bias.reshape(-1, *(1,) * (-self.unit_dim - 1))


class InvertibleLinear(_Invertible):
    """A linear layer of square weight: ``out_features`` units that the next layer sees, then auxiliary ones.

        z = W x + b,    W (in, in);    forward(x) = z[:out],    inverse(s, x) = W^-1 (s - b)

    x (B, in). ``first=True``: a first layer, of any width, without auxiliary units and inverse. W starts orthogonal,
    b at 0. An ``output`` may hold the seen units alone; the auxiliary ones then keep what they are at ``input``.
    generator: of the initial weights; None is torch's global state. Raises ``InputError`` for more units than inputs.
    Source: GAIT-prop 2020; the scaling paper, sections 2.1 and 2.4.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        first: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(out_features, in_features, (in_features,), bias=bias, first=first, generator=generator)
        self.in_features, self.out_features = in_features, out_features

    def _apply_rows(self, x: Tensor, rows: slice) -> Tensor:
        return F.linear(x, self.weight[rows], self._bias(rows))

    def inverse(self, output: Tensor, input: Tensor) -> Tensor:
        """The input (B, in) that gives ``output``, (B, out) or (B, in) with the auxiliary units' sums."""
        return solve(self._enter(), self._complete(output, input))

    def inverse_difference(self, difference: Tensor, input: Tensor) -> Tensor:
        """W^-1 d, with d 0 for auxiliary units where ``difference`` is (B, out); ``input`` does not matter."""
        matrix = self._enter()
        return solve(matrix, F.pad(difference, (0, matrix.shape[0] - self._count(difference))))

    def extra_repr(self) -> str:
        more = ", first=True" if self.first else f", auxiliary={self.auxiliary}"
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}{more}"


class InvertibleConv2d(_Invertible):
    """A convolution whose kernels make a square matrix: C k k channels, of which the next layer sees the first.

        s_p = A x_p + b at each patch,    A = kernels as (C k k, C k k);    inverse: A^-1 (s_p - b), overlaps corrected

    x (B, C, H, W). padding: integers, "valid", or "same", which gives ceil(H / stride) positions and is asymmetric for
    strides (TensorFlow's). overlap: how the ``n_x`` copies of a pixel become one, ``functional.patches`` says it:
    "subtract" (errors of a pixel add up over its patches, as backpropagation has it) or "divide" (their mean). Pixels
    that no patch covers keep their forward value. ``first=True``, generator, errors: as in ``InvertibleLinear``.
    """

    unit_dim = -3

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        *,
        overlap: str = "subtract",
        bias: bool = True,
        first: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        kernel, steps = pair("kernel_size", kernel_size, 1), pair("stride", stride, 1)
        if isinstance(padding, str) and padding not in ("same", "valid"):
            raise unknown_name("padding", padding, ("same", "valid"))
        if overlap not in OVERLAPS:
            raise unknown_name("correction of overlaps", overlap, OVERLAPS)
        sizes = padding if isinstance(padding, str) else pair("padding", padding, 0)
        shape = (in_channels, *kernel)
        super().__init__(out_channels, math.prod(shape), shape, bias=bias, first=first, generator=generator)
        self.in_channels, self.out_channels, self.kernel_size = in_channels, out_channels, kernel
        self.stride, self.padding, self.overlap = steps, sizes, overlap

    def _apply_rows(self, x: Tensor, rows: slice) -> Tensor:
        return convolve(x, self.weight[rows], self._bias(rows), self.stride, self.padding)

    def _inverse_kernels(self, channels: int) -> Tensor:
        """A^-1, its first ``channels`` columns, as the kernels of a transposed convolution."""
        return as_kernels(invert(self._enter())[:, :channels], (self.fan_in, self.in_channels, *self.kernel_size))

    def inverse(self, output: Tensor, input: Tensor) -> Tensor:
        """The image that gives ``output`` (B, out or all, h, w), near ``input`` (B, C, H, W) where several do."""
        s = self._complete(output, input)
        kernels = self._inverse_kernels(s.shape[1])
        return inverse_patches(s, input, kernels, self.stride, self.padding, self.overlap)

    def inverse_difference(self, difference: Tensor, input: Tensor) -> Tensor:
        """A^-1 d at each patch, put together as ``overlap`` says; ``input`` gives the image's size alone."""
        kernels = self._inverse_kernels(self._count(difference))
        return carry_patches(difference, kernels, input.shape, self.stride, self.padding, self.overlap)

    def extra_repr(self) -> str:
        more = "first=True" if self.first else f"auxiliary={self.auxiliary}, overlap={self.overlap}"
        sizes = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        return f"{sizes}, padding={self.padding}, bias={self.bias is not None}, {more}"
