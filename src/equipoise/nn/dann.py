"""DANN: Dale's law with inhibition that subtracts and divides, and learning rates that make up for it."""

from __future__ import annotations

import math
from typing import Literal, TypedDict, Unpack

import torch
from torch import Tensor, nn

from equipoise.contracts import Constraint
from equipoise.functional.constraints import NonNegative
from equipoise.functional.inhibition import inhibit
from equipoise.nn.circuit import Circuit, Convolution, Dense, draw_, one_of, pool_size

__all__ = ["DANNConv2d", "DANNLinear"]


class DANNOptions(TypedDict, total=False):
    """The options of a DANN layer; ``DANNLinear`` says what they are."""

    ratio: float
    pool: int | None
    divisive: bool
    first: bool
    inhibition: Literal["iid", "mean"]
    corrections: bool
    eps: float


class DANN(Circuit):
    """What ``DANNLinear`` and ``DANNConv2d`` share; the geometry is theirs."""

    rate_factors: dict[str, float]

    def __init__(
        self,
        units: int,
        fan_in: int,
        *,
        ratio: float = 0.1,
        pool: int | None = None,
        divisive: bool = True,
        first: bool = False,
        inhibition: Literal["iid", "mean"] = "iid",
        corrections: bool = True,
        eps: float = 1e-8,
    ) -> None:
        super().__init__(units, fan_in, law="exponential", dale=True, positive=("weight_ee", "weight_ie", "weight_ei"))
        one_of("start of inhibition", inhibition, ("iid", "mean"))
        self.pool = pool_size(units, ratio, pool)
        self.first, self.start, self.eps = first, inhibition, eps
        self.weight_ee = nn.Parameter(torch.empty(self._shape(units)))
        self.weight_ie = nn.Parameter(torch.empty(self._shape(self.pool)))
        self.weight_ei = nn.Parameter(torch.empty(units, self.pool))
        self.alpha = nn.Parameter(torch.empty(self.pool)) if divisive else None
        self.gain = nn.Parameter(torch.empty(units)) if divisive else None
        self.bias = nn.Parameter(torch.empty(units))
        self.projections = ("weight_ee", "weight_ie")
        if divisive:
            gain: dict[str, Constraint] = {"gain": NonNegative()}
            self.constraints = {**self.constraints, **gain}
        self.rate_factors = {}
        if corrections:
            self.rate_factors = {"weight_ie": units**-0.5, "weight_ei": 1 / fan_in}
            self.rate_factors |= {"alpha": 1 / (fan_in * units**0.5)} if divisive else {}
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw all weights anew from torch's global state; the divisor is then about 1."""
        d = self.fan_in
        scale = math.sqrt(1 / (2 * d)) if self.first else math.sqrt(2 * math.pi / (d * (2 * math.pi - 1)))
        draw_(self.weight_ee, self.law, scale)
        if self.pool == 1 or self.start == "mean":
            self.weight_ie.copy_(self.weight_ee.mean(0).expand_as(self.weight_ie))
        else:
            draw_(self.weight_ie, self.law, scale)
        self.weight_ei.fill_(1 / self.pool)
        self.bias.zero_()
        if self.alpha is not None and self.gain is not None:
            self.alpha.fill_(0.5 * math.log((2 * math.pi - 1) / d))
            self.gain.fill_(1)

    def forward(self, h: Tensor) -> Tensor:
        """The layer's activity before its nonlinearity."""
        self._enter(h)
        e = self._from_below(h, self.weight_ee)
        cells = self._from_below(h, self.weight_ie)
        s, bias = self._within(cells, self.weight_ei), self._by_unit(self.bias)
        if self.alpha is None or self.gain is None:
            return inhibit(e, s, None, None, bias)
        divisor = self._within(self._by_unit(self.alpha.exp()) * cells, self.weight_ei) + self.eps
        return inhibit(e, s, divisor, self._by_unit(self.gain), bias)

    def extra_repr(self) -> str:
        kind = f"divisive={self.alpha is not None}, corrections={bool(self.rate_factors)}"
        return f"{self.fan_in} inputs a unit, n_e={self.units}, n_i={self.pool}, {kind}"


class DANNLinear(Dense, DANN):
    """A linear layer of excitatory and inhibitory cells that subtract and divide.

        c = W_IE h,   gamma = W_EI (exp(alpha) c) + eps,   z = g (W_EE h - W_EI c) / gamma + b

    h (..., I) rates, z (..., O), put ReLU behind it. W_EE (O, I), W_IE (n_i, I), W_EI (O, n_i) and g are >= 0
    (``nn.enforce``); alpha (n_i,) is free. n_i = max(1, floor(ratio * O)), or ``pool``.

    Start: exponential weights of scale sqrt(2 pi / (I (2 pi - 1))), for ``first`` layers sqrt(1 / (2 I)); W_EI = 1/n_i;
    alpha = ln sqrt((2 pi - 1) / I), so that gamma is about 1 for rectified Gaussian h. inhibition: rows of W_IE "iid"
    of W_EE's law, or its "mean" row (always for one cell). divisive=False: z = (W_EE - W_EI W_IE) h + b.

    corrections: ``nn.param_groups`` gives W_IE the learning rate over sqrt(O), W_EI over I, alpha over I sqrt(O), which
    makes up for how much more the output depends on these (Fisher information); with plain SGD the same as dividing
    the gradients, as the authors do. Source: Cornford et al. 2021.
    """

    def __init__(self, in_features: int, out_features: int, **options: Unpack[DANNOptions]) -> None:
        super().__init__(out_features, in_features, **options)


class DANNConv2d(Convolution, DANN):
    """A convolution of excitatory and inhibitory channels: ``DANNLinear`` at each position, I = C * k * k.

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
        **options: Unpack[DANNOptions],
    ) -> None:
        super().__init__(out_channels, self._place(in_channels, kernel_size, stride, padding), **options)
