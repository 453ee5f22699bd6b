"""I-Norm: inhibition learns, by a loss of its own, to do what layer normalisation does."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, Unpack

import torch
from torch import Tensor, nn

from equipoise.contracts import Passed
from equipoise.errors import InputError
from equipoise.functional.edits import backward_edits
from equipoise.functional.gradnorm import gradnorm
from equipoise.functional.inhibition import ideal, inorm, local_loss, pooled
from equipoise.functional.inorm_step import Weights, inorm_by_hand, inorm_step
from equipoise.nn.circuit import (
    Circuit,
    Convolution,
    Dense,
    draw_,
    one_of,
    pool_size,
    read_pathways,
    weight_std,
)
from equipoise.nn.gradnorm import GradNorm
from equipoise.nn.inorm_options import INormOptions

__all__ = ["INormConv2d", "INormLinear"]

DIVISIVE = ("rms", "dale", "literal")


class INorm(Circuit):
    """What ``INormLinear`` and ``INormConv2d`` share; the geometry is theirs."""

    count: Tensor | None
    divisive_count: Tensor | None

    def __init__(
        self,
        units: int,
        fan_in: int,
        *,
        ratio: float = 0.1,
        pool: int | None = None,
        divisive_pool: int | None = None,
        bias: Literal["after", "inside"] | None = "after",
        law: str = "log_normal",
        detach: str | Iterable[str] = ("subtractive", "divisive"),
        task_trains: str | Iterable[str] = (),
        divisive: Literal["rms", "dale", "literal"] | None = "rms",
        train_ei: bool = False,
        gradnorm: str | Iterable[str] = (),
        pools: int = 1,
        pooling: str = "uniform",
        local_weight: float = 0.01,
        form: Literal["pre", "post"] = "pre",
        dale: bool = True,
        division: Literal["exact", "straight"] = "exact",
        eps: float = 1e-5,
        seed: int = 0,
    ) -> None:
        held = ["weight_ee", "weight_ie", "weight_ei"]
        held += ["divisive_ei"] if divisive and train_ei else []
        held += ["divisive_ie"] if divisive == "dale" else []
        super().__init__(units, fan_in, law=law, dale=dale, positive=held)
        if units < 2:
            raise InputError("a layer is normalised over its units, so it needs at least 2, not 1")
        if bias is not None:
            one_of("place of the bias", bias, ("after", "inside"))
        if divisive is not None:
            one_of("divisive pool", divisive, DIVISIVE)
        one_of("form of the local loss", form, ("pre", "post"))
        one_of("division", division, ("exact", "straight"))
        self.detach, self.task_trains = read_pathways(detach), read_pathways(task_trains)
        if self.task_trains & self.detach:
            names = ", ".join(sorted(self.task_trains & self.detach))
            raise InputError(f"the task cannot train a pathway that is detached: take {names} out of detach")
        self.pool = pool_size(units, ratio, pool)
        self.divisive_pool = 0 if divisive is None else pool_size(units, 1.0, divisive_pool)
        self.place, self.divisive, self.train_ei = bias, divisive, train_ei
        self.local_weight, self.eps = local_weight, eps
        self.form: Literal["pre", "post"] = form
        self.division: Literal["exact", "straight"] = division
        self.weight_ee = nn.Parameter(torch.empty(self._shape(units)))
        self.weight_ie = nn.Parameter(torch.empty(self._shape(self.pool)))
        self.weight_ei = nn.Parameter(torch.empty(units, self.pool), requires_grad=train_ei)
        self.divisive_ie = nn.Parameter(torch.empty(self._shape(self.divisive_pool))) if divisive else None
        uniform = torch.empty(units, self.divisive_pool) if divisive and train_ei else None
        self.divisive_ei = None if uniform is None else nn.Parameter(uniform)
        self.bias = nn.Parameter(torch.empty(units)) if bias else None
        self.edit = GradNorm(gradnorm, units=units, pools=pools, law=pooling, seed=seed, eps=eps, dim=self.unit_dim)
        self.projections = tuple(
            name
            for name, pathway in (("weight_ee", ""), ("weight_ie", "subtractive"), ("divisive_ie", "divisive"))
            if pathway not in self.detach and getattr(self, name) is not None
        )
        self.register_buffer("count", None, persistent=False)
        self.register_buffer("divisive_count", None, persistent=False)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw all weights anew from torch's global state; the layer then *is* layer normalisation of its drive."""
        draw_(self.weight_ee, self.law, weight_std(self.units, self.fan_in))
        draw_(self.weight_ei, self.law, 1.0)
        if self.bias is not None:
            self.bias.zero_()
        self.idealise_()

    @torch.no_grad()
    def idealise_(self) -> INorm:
        """Set inhibition to what normalises the present ``weight_ee``: ``functional.ideal``, in closed form.

        Rows of ``weight_ei`` are divided by their sum. Exact with a divisive pool of n_e cells and no bias in the
        drive. Another width m gets a random projection, U = G (W_EE - row) / sqrt(n_e) with G ~ N(0, 1): d^2 has the
        right expectation and a relative error of about sqrt(2 / m). "dale" cannot hold signed weights: each cell then
        takes a share of the inputs, so that sum_k D_k^2 stands for |h|^2. "literal" takes Sigma V^T of the SVD, as the
        paper does: without the square V's arbitrary signs matter, and U = W_EE - row would give d = sqrt(eps).
        """
        row, spread = ideal(self.weight_ee)
        self.weight_ei.div_(self.weight_ei.sum(1, keepdim=True))
        self.weight_ie.copy_(row.expand_as(self.weight_ie))
        if self.divisive_ei is not None:
            self.divisive_ei.fill_(1 / self.divisive_pool)
        if self.divisive_ie is not None:
            self.divisive_ie.copy_(self._divisive(spread.flatten(1)).reshape(self.divisive_ie.shape))
        return self

    def _divisive(self, spread: Tensor) -> Tensor:
        """U_IE (m, fan_in) for ``spread`` = W_EE - 1 row."""
        cells, inputs = self.divisive_pool, self.fan_in
        if self.divisive == "dale":
            owner = torch.arange(inputs, device=spread.device) * cells // max(inputs, cells)
            share = max(1.0, inputs / cells)
            correlated = 1 + (share - 1) / torch.pi  # of rectified Gaussian rates: mean^2 / mean square = 1 / pi
            sigma = spread.square().mean().sqrt()
            return torch.nn.functional.one_hot(owner, cells).T.to(spread) * sigma * (cells / correlated) ** 0.5
        if self.divisive == "literal":
            _, sigma, v = torch.linalg.svd(spread.double(), full_matrices=False)
            whole = spread.new_zeros(self.units, inputs)
            whole[: len(sigma)] = (sigma[:, None] * v).to(spread)
            spread = whole
        if cells == self.units:
            return spread
        return torch.randn(cells, self.units, device=spread.device).to(spread) @ spread / self.units**0.5

    def _drive(self, h: Tensor) -> Tensor:
        return self._from_below(h, self.weight_ee, self.bias if self.place == "inside" else None)

    def _inhibition(self, subtractive: Tensor, divisive: Tensor, *, frozen: bool) -> tuple[Tensor, Tensor | None]:
        """(s, d) of the pools that these inputs drive; frozen: weights that the task does not train are held."""

        def held(weight: Tensor, pathway: str) -> Tensor:
            return weight.detach() if frozen and pathway not in self.task_trains else weight

        cells = self._from_below(subtractive, held(self.weight_ie, "subtractive"))
        s = self._within(cells, held(self.weight_ei, "subtractive"))
        if self.divisive_ie is None:
            return s, None
        cells = self._from_below(divisive, held(self.divisive_ie, "divisive"))
        u_ei = None if self.divisive_ei is None else held(self.divisive_ei, "divisive")
        literal = self.divisive == "literal"
        return s, pooled(cells, u_ei, self.eps, literal=literal, count=self.divisive_count, dim=self.unit_dim)

    def forward(self, h: Tensor) -> Tensor:
        """The layer's activity before its nonlinearity."""
        self._enter(h)
        edits = backward_edits()
        e = self._drive(h)  # first: a rule that cuts the graph here cuts what inhibition reads, too
        below = [h.detach() if edits and pathway in self.detach else h for pathway in ("subtractive", "divisive")]
        s, d = self._inhibition(*below, frozen=edits)
        z = inorm(e, s, d, detach=self.detach, division=self.division)
        z = gradnorm(z, self.edit.modes, nu=self.edit.nu, eps=self.eps, count=self.count, dim=self.unit_dim)
        return z if self.place != "after" or self.bias is None else z + self._by_unit(self.bias)

    def forward_with_loss(self, input: Tensor) -> tuple[Tensor, Tensor] | None:
        """(``forward``, ``local_loss``), the pools' drives worked out once; None where the two do not share them."""
        if not self._shares(input):
            return None
        assert self.divisive_ie is not None
        self._enter(input)
        e, h = self._drive(input), input.detach()
        z, loss = inorm_step(e, h, self.weight_ie, self.weight_ei, self.divisive_ie, **self._manner())
        z = z if self.place != "after" or self.bias is None else z + self.bias
        return z, self.local_weight * loss

    def by_hand(self, input: Tensor) -> Passed | None:
        """``forward_with_loss`` without a graph, and its derivative; None where it is not for a matrix of samples."""
        if input.ndim != 2 or self.train_ei or not self._shares(input):
            return None
        assert self.divisive_ie is not None
        self._enter(input)
        inside = self.bias if self.place == "inside" else None
        weights = Weights(self.weight_ee, inside, self.weight_ie, self.weight_ei, self.divisive_ie)
        z, loss, back = inorm_by_hand(input, weights, weight=self.local_weight, **self._manner())

        def onward(error: Tensor, factor: float, further: bool) -> tuple[dict[str, Tensor], Tensor | None]:
            found = back(error, factor, further)
            grads = {"weight_ee": found.ee, "weight_ie": found.ie, "divisive_ie": found.divisive}
            if self.bias is not None:
                grads["bias"] = error.sum(0) if found.bias is None else found.bias
            return grads, found.below

        return z if self.place != "after" or self.bias is None else z + self.bias, loss, onward

    def _manner(self) -> dict[str, Any]:
        """How the shared pass normalises, and what it does to the error."""
        straight = self.division == "straight"
        return {"modes": self.edit.modes, "nu": self.edit.nu, "eps": self.eps, "straight": straight}

    def _shares(self, input: Tensor) -> bool:
        """Whether ``functional.inorm_step`` computes this layer: detached, dense, uniform, unpadded, not rounded."""
        plain = self.unit_dim == -1 and len(self.detach) == 2 and self.form == "pre" and self.count is None
        usual = self.divisive in ("rms", "dale") and self.divisive_ei is None
        exact = input.dtype in (torch.float32, torch.float64) and not torch.is_autocast_enabled(input.device.type)
        return plain and usual and exact and self.divisive_count is None and backward_edits()

    def local_loss(self, input: Tensor) -> Tensor:
        """``local_weight`` times the local loss at ``input``, which trains inhibition alone."""
        with torch.no_grad():
            e = self._drive(input)
        s, d = self._inhibition(input, input, frozen=False)
        return self.local_weight * local_loss(e, s, d, form=self.form, count=self.count, dim=self.unit_dim)

    def counts(self, input: Tensor) -> dict[str, int]:
        """The excitatory and the divisive cells that the layer normalises by (``contracts.Counted``)."""
        return {"count": self.units, "divisive_count": self.divisive_pool}

    def _widths(self) -> str:
        widths = f"n_i={self.pool}, divisive={self.divisive!r}, n_d={self.divisive_pool}, bias={self.place!r}"
        return f"{widths}, detach={sorted(self.detach)}, local_weight={self.local_weight}, dale={self.dale}"


class INormLinear(Dense, INorm):
    """A linear layer of excitatory cells whose inhibition normalises it, and learns to from a loss of its own.

        e = W_EE h,   s = W_EI (W_IE h),   d = sqrt(U_EI (U_IE h)^2 + eps)          (elementwise square)
        z = (e - stopgrad s) / stopgrad d,   y = GradNorm(z) + b                     (bias "inside": e = W_EE h + b)

    h (..., I) rates, y (..., O), put ReLU behind it. The task loss trains W_EE and b; W_IE and U_IE learn from
    ``local_loss``, which every rule of ``equipoise.rules`` adds (weighted by ``local_weight``). W_EI and U_EI are fixed
    unless ``train_ei``; the uniform U_EI is then not stored. W_EE, W_IE, W_EI >= 0 with ``dale`` (``nn.enforce``);
    U_IE is signed. Freshly drawn, the layer is layer normalisation of e without affine map, exactly.

    ratio, pool: the subtractive pool is max(1, floor(ratio * O)) cells, or ``pool``; divisive_pool: O cells, or as many
    as said. law: "log_normal" or "exponential" weights, whose mean is their standard deviation. detach: pathways that
    carry no error down; task_trains: pathways not detached whose weights the task trains as well. divisive: "rms",
    "dale" (U_IE >= 0), "literal" (the paper's eq. 1 without the square: radicands can be negative, z is then NaN) or
    None (subtractive alone). gradnorm: modes of ``nn.GradNorm``; pools, pooling, seed: the fixed weights of "lateral".
    form: of the local loss. division: "straight" divides forwards alone. dale=False: weights of any sign.
    Source: I-Norm paper, eq. 1 with the square of its program, section 4.3; pool widths and detaching as its program.
    """

    def __init__(self, in_features: int, out_features: int, **options: Unpack[INormOptions]) -> None:
        self.in_features, self.out_features = in_features, out_features
        super().__init__(out_features, in_features, **options)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, {self._widths()}"


class INormConv2d(Convolution, INorm):
    """A convolution whose inhibition normalises over channels, at each position by itself.

    ``INormLinear``'s equations with convolutions in place of products from below: W_EE (O, C, k, k), W_IE (n_i, C, k,
    k), U_IE (n_d, C, k, k) share one geometry; W_EI and U_EI act across channels at a position. h (B, C, H, W), y
    (B, O, H', W'). Freshly drawn, it is layer normalisation over channels at each position. Options are the same.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        *,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        **options: Unpack[INormOptions],
    ) -> None:
        self.out_channels = out_channels
        super().__init__(out_channels, self._place(in_channels, kernel_size, stride, padding), **options)

    def extra_repr(self) -> str:
        place = f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"
        return f"{self.in_channels}, {self.out_channels}, {place}, {self._widths()}"
