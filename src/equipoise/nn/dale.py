"""Layers that keep Dale's law: excitatory cells, and a pool of inhibitory cells that subtracts. All of it learns."""

from __future__ import annotations

from typing import TypedDict, Unpack

import torch
from torch import Tensor, nn

from equipoise.contracts import Passed
from equipoise.functional.inhibition import inhibit
from equipoise.nn.circuit import Circuit, Convolution, Dense, draw_, pool_size, weight_std

__all__ = ["DaleConv2d", "DaleLinear"]


class DaleOptions(TypedDict, total=False):
    """The options of a Dale layer; ``DaleLinear`` says what they are."""

    ratio: float
    pool: int | None
    bias: bool
    law: str


class Dale(Circuit):
    """What ``DaleLinear`` and ``DaleConv2d`` share; the geometry is theirs."""

    def __init__(
        self,
        units: int,
        fan_in: int,
        *,
        ratio: float = 0.1,
        pool: int | None = None,
        bias: bool = True,
        law: str = "log_normal",
    ) -> None:
        super().__init__(units, fan_in, law=law, dale=True, positive=("weight_ee", "weight_ie", "weight_ei"))
        self.pool = pool_size(units, ratio, pool)
        self.weight_ee = nn.Parameter(torch.empty(self._shape(units)))
        self.weight_ie = nn.Parameter(torch.empty(self._shape(self.pool)))
        self.weight_ei = nn.Parameter(torch.empty(units, self.pool))
        self.bias = nn.Parameter(torch.empty(units)) if bias else None
        self.projections = ("weight_ee", "weight_ie")
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw all weights anew from torch's global state; inhibition then takes away exactly the mean over units."""
        draw_(self.weight_ee, self.law, weight_std(self.units, self.fan_in))
        self.weight_ie.copy_(self.weight_ee.mean(0).expand_as(self.weight_ie))
        draw_(self.weight_ei, self.law, 1.0)
        self.weight_ei.div_(self.weight_ei.sum(1, keepdim=True))
        if self.bias is not None:
            self.bias.zero_()

    def forward(self, h: Tensor) -> Tensor:
        """The layer's activity before its nonlinearity."""
        self._enter(h)
        e = self._from_below(h, self.weight_ee, self.bias)
        return inhibit(e, self._within(self._from_below(h, self.weight_ie), self.weight_ei), None)

    def by_hand(self, input: Tensor) -> Passed | None:
        """``forward`` without a graph, and its derivative; None where it is not for a matrix of samples."""
        if input.ndim != 2 or self.unit_dim != -1:
            return None
        self._enter(input)
        below, bias = input.t(), None if self.bias is None else self.bias[:, None]
        drive = self.weight_ee @ below if bias is None else torch.addmm(bias, self.weight_ee, below)
        cells = self.weight_ie @ below
        z = torch.addmm(drive, self.weight_ei, cells, alpha=-1)

        def onward(error: Tensor, weight: float, further: bool) -> tuple[dict[str, Tensor], Tensor | None]:
            g = error.t()
            inhibited = -(self.weight_ei.t() @ g)
            ee, ie = (torch.cat([g, inhibited]) @ input).split((len(g), len(inhibited)))
            grads = {"weight_ee": ee, "weight_ie": ie, "weight_ei": -(g @ cells.t())}
            if self.bias is not None:
                grads["bias"] = g.sum(1)
            if not further:
                return grads, None
            return grads, torch.addmm(self.weight_ee.t() @ g, self.weight_ie.t(), inhibited).t()

        return z.t(), None, onward

    def extra_repr(self) -> str:
        return f"{self.fan_in} inputs a unit, n_e={self.units}, n_i={self.pool}, bias={self.bias is not None}"


class DaleLinear(Dense, Dale):
    """A linear layer of excitatory and inhibitory cells; nothing is detached, the task trains all of it.

        z = W_EE h - W_EI (W_IE h) + b,    W_EE (O, I), W_IE (n_i, I), W_EI (O, n_i), all >= 0 (``nn.enforce``)

    h (..., I) rates, z (..., O), put ReLU behind it. n_i = max(1, floor(ratio * O)), or ``pool``. law: "log_normal" or
    "exponential" weights of mean and standard deviation sqrt(2 O / (I (O - 1))); rows of W_IE start as the mean row of
    W_EE and rows of W_EI sum to 1, so that z has mean 0 over units. Source: I-Norm paper, section 4.3.
    """

    def __init__(self, in_features: int, out_features: int, **options: Unpack[DaleOptions]) -> None:
        super().__init__(out_features, in_features, **options)


class DaleConv2d(Convolution, Dale):
    """A convolution of excitatory and inhibitory channels: ``DaleLinear`` at each position.

    Both kinds of channels have kernels of one geometry on h (B, C, H, W); W_EI acts across channels at a position.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        *,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        **options: Unpack[DaleOptions],
    ) -> None:
        super().__init__(out_channels, self._place(in_channels, kernel_size, stride, padding), **options)
