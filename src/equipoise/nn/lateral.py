"""Lateral inhibition with fixed random weights: it centres the error of a layer, or normalises its activity.

One inhibitory cell pools a layer's units with weights nu that sum to 1, and gives the same number back to all of
them. nu is a buffer, drawn from a seed and never learned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from equipoise.errors import InputError
from equipoise.functional.gradnorm import gradnorm, read_modes
from equipoise.functional.inhibition import inhibit, inorm
from equipoise.functional.moments import wide
from equipoise.nn.circuit import one_of, read_pathways
from equipoise.randomness import generator

__all__ = ["POOLING", "LateralInhibition", "LateralNorm", "pooling_weights"]

POOLING: dict[str, Callable[[Tensor], Tensor]] = {
    "uniform": lambda u: u,
    "exponential": lambda u: -torch.log1p(-u),
    "log_normal": lambda u: torch.exp(torch.special.ndtri(u.clamp(1e-12, 1 - 1e-12))),
    "equal": torch.ones_like,
}


def pooling_weights(units: int, *, pools: int = 1, law: str = "uniform", seed: int = 0) -> Tensor:
    """What ``pools`` inhibitory cells with independent weights give back together: nu (units,), which sums to 1.

        nu = mean over pools of omega / sum omega,   omega_i i.i.d.: U(0, 1), Exp(1), a standard log-normal, or equal

    The pooled mean of errors that do not depend on nu misses their mean by CV(omega) / sqrt(units * pools) of their
    standard deviation, CV being 1/sqrt(3), 1, sqrt(e - 1), 0. Source: I-Norm paper, section 2.5 and Theorem 1.
    """
    if units < 1 or pools < 1:
        raise InputError(f"lateral inhibition needs at least one unit and one pool, not {units} and {pools}")
    one_of("law of pooling weights", law, POOLING)
    stream = generator(seed, "lateral", units, pools)
    omega = POOLING[law](torch.rand(pools, units, generator=stream, dtype=torch.float64))
    return (omega / omega.sum(1, keepdim=True)).mean(0).to(torch.get_default_dtype())


class LateralInhibition(nn.Module):
    """Behind any layer: the activity passes, and the error that comes back loses its pooled mean.

        y = z;    dL/dz_k = g_k - sum_i nu_i g_i,    g = dL/dy

    z (B, units), or (B, units, H, W) with ``dim=-3``. ``nu`` is drawn as ``pooling_weights`` says.
    Source: I-Norm paper, section 2.5; one pool and U(0, 1) are theirs.
    """

    nu: Tensor
    count: Tensor | None

    def __init__(self, units: int, pools: int = 1, law: str = "uniform", *, seed: int = 0, dim: int = -1) -> None:
        super().__init__()
        self.pools, self.law, self.dim = pools, law, dim
        self.register_buffer("nu", pooling_weights(units, pools=pools, law=law, seed=seed))
        self.register_buffer("count", None, persistent=False)

    def forward(self, z: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
        """``z``."""
        return gradnorm(z, frozenset({"lateral"}), nu=self.nu, count=self.count, dim=self.dim)

    def counts(self, input: Tensor) -> dict[str, int]:
        """The units that statistics are taken over (``contracts.Counted``)."""
        return {"count": input.shape[self.dim]}

    def extra_repr(self) -> str:
        return f"{len(self.nu)}, pools={self.pools}, law={self.law!r}"


class LateralNorm(nn.Module):
    """Layer normalisation by fixed pools of a layer's own units: O(n) weights, none of which is learned.

        z = (x - s) / d,    s = sum_i nu_i x_i,    d = sqrt(sum_i nu_i (x_i - s)^2 + eps),    y = gain z + bias

    x (..., units). With ``law="equal"`` it *is* layer normalisation; with random nu it misses the mean by about
    CV / sqrt(units pools) standard deviations. detach: which of "subtractive" and "divisive" inhibition passes no
    error; gradnorm: modes of ``functional.gradnorm`` for the error (``lateral`` pools with the same nu). affine: a
    learned gain and bias for each unit, as ``nn.LayerNorm`` has them.
    """

    nu: Tensor

    def __init__(
        self,
        units: int,
        pools: int = 1,
        law: str = "uniform",
        *,
        eps: float = 1e-5,
        affine: bool = True,
        detach: Iterable[str] = (),
        modes: str | Iterable[str] = (),
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.pools, self.law, self.eps = pools, law, eps
        self.detach = read_pathways(detach)
        self.modes = read_modes(modes)
        self.register_buffer("nu", pooling_weights(units, pools=pools, law=law, seed=seed))
        self.weight = nn.Parameter(torch.ones(units)) if affine else None
        self.bias = nn.Parameter(torch.zeros(units)) if affine else None

    def forward(self, x: Float[Tensor, "*B N"]) -> Float[Tensor, "*B N"]:
        """The normalised activity (..., units)."""
        z, nu = wide(x), wide(self.nu)
        s = (nu * z).sum(-1, keepdim=True)
        d = ((nu * (z - s).square()).sum(-1, keepdim=True) + self.eps).sqrt()
        y = gradnorm(inorm(z, s, d, detach=self.detach).to(x.dtype), self.modes, nu=self.nu, eps=self.eps)
        return inhibit(y, None, None, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"{len(self.nu)}, pools={self.pools}, law={self.law!r}, affine={self.weight is not None}"
