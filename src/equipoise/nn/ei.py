"""Layers of excitatory and inhibitory cells for spiking networks, where inhibition subtracts and divides."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise.errors import InputError
from equipoise.functional.edits import backward_edits
from equipoise.functional.ei_current import ei_current, ei_current_plain, scale_gradient
from equipoise.functional.ei_scales import binary_scales, ei_scales
from equipoise.functional.ei_sequence import ei_spikes
from equipoise.functional.inhibition import inhibit
from equipoise.nn.circuit import Circuit, Convolution, Dense, one_of, pool_size
from equipoise.nn.ei_options import EIOptions, InhibitoryLIF, mean_over, refuse_idle
from equipoise.nn.spiking import LIF

__all__ = ["EIConv2d", "EILinear"]

PRESUMED_RATE = 0.2  # of the cells below, until ``ei_init_`` has seen a batch


class EI(Circuit):
    """What ``EILinear`` and ``EIConv2d`` share; the geometry is theirs."""

    initialised: Tensor
    rate_factors: dict[str, float]

    def __init__(
        self,
        units: int,
        fan_in: int,
        *,
        ratio: float | None = None,
        pool: int | None = None,
        readout: bool = False,
        subtractive: bool = True,
        divisive: bool = True,
        rectify: bool = True,
        stabilise: bool = True,
        straight: bool = True,
        scaling: Literal["rate", "gradient"] | None = "rate",
        inhibition: Literal["instant", "spiking"] = "instant",
        tau_inhibitory: float | None = None,
    ) -> None:
        given: EIOptions = {"readout": readout, "divisive": divisive, "stabilise": stabilise, "straight": straight}
        refuse_idle({**given, "inhibition": inhibition, "tau_inhibitory": tau_inhibitory, "ratio": ratio, "pool": pool})
        divisive = divisive and not readout
        held = ["weight", "weight_ei", *(["gain_i"] if divisive else []), *([] if readout else ["gain"])]
        super().__init__(units, fan_in, law="exponential", dale=True, positive=held)
        if not (subtractive or divisive):
            raise InputError("inhibition that neither subtracts nor divides does nothing; use ExcitatoryLinear")
        if scaling is not None:
            one_of("scaling of the gradient of W_EI", scaling, ("rate", "gradient"))
        one_of("inhibition", inhibition, ("instant", "spiking"))
        self.pool = pool_size(units, 0.25 if ratio is None else ratio, pool)
        self.readout, self.subtractive, self.divisive = readout, subtractive, divisive
        self.rectify, self.stabilise, self.straight, self.scaling = rectify, stabilise, straight, scaling
        self.weight = nn.Parameter(torch.empty(self._shape(units + self.pool)))
        self.weight_ei = nn.Parameter(torch.empty(units, self.pool))
        self.gain_i = nn.Parameter(torch.empty(self.pool)) if divisive else None
        self.gain = None if readout else nn.Parameter(torch.empty(units))
        self.bias = None if readout else nn.Parameter(torch.empty(units))
        tau = 1.25 if tau_inhibitory is None else tau_inhibitory
        self.cells = InhibitoryLIF(tau) if inhibition == "spiking" else None
        self.register_buffer("initialised", torch.zeros((), dtype=torch.bool))
        self.projections = ("weight",)
        self.rate_factors = {"weight_ei": 1 / fan_in} if scaling == "rate" else {}
        self.reset_parameters()

    @property
    def stacked(self) -> dict[str, tuple[int, int]]:
        """The parameters whose rows are two kinds of cells, and how many of each (``contracts.Stacked``)."""
        return {"weight": (self.units, self.pool)}

    @property
    def weight_ee(self) -> Tensor:
        """W_EE, the rows of ``weight`` that excite this layer's excitatory cells; a view."""
        return self.weight[: self.units]

    @property
    def weight_ie(self) -> Tensor:
        """W_IE, the rows of ``weight`` that excite its inhibitory cells; a view."""
        return self.weight[self.units :]

    def reset_parameters(self) -> None:
        """Draw all weights anew from torch's global state, for spikes of probability 0.2 below; undoes ``ei_init_``."""
        self._fill(*binary_scales(PRESUMED_RATE, self.fan_in), None)
        if self.cells is not None:
            self.cells.unit.fill_(self.fan_in * PRESUMED_RATE * binary_scales(PRESUMED_RATE, self.fan_in)[0])
        self.initialised.fill_(False)

    @torch.no_grad()
    def _fill(self, beta: float, gamma: float, stream: torch.Generator | None) -> None:
        drawn = torch.empty(self.weight.shape, dtype=torch.float64).exponential_(1 / beta, generator=stream)
        self.weight.copy_(drawn)
        self.weight_ei.fill_(1 / self.pool)
        for vector, value in ((self.gain_i, gamma), (self.gain, 1.0), (self.bias, 0.0)):
            if vector is not None:
                vector.fill_(value)

    @torch.no_grad()
    def initialise_(
        self, first: float, second: float, within: float, stream: torch.Generator, inputs: Iterable[Tensor]
    ) -> float:
        """Start from the moments of the input (``ei_scales``); returns beta.

        ``inputs``: the batches themselves, to be gone through several times, for cells that spike.
        """
        beta, gamma = ei_scales(first, second, within, self.fan_in)
        self._fill(beta, gamma, stream)
        if self.cells is not None:
            cells = self.cells
            excitation, drive = mean_over(map(self._drive, inputs))
            cells.unit.fill_(drive)
            (sent,) = mean_over((cells(self._drive(h)[1]),) for h in inputs)
            if not sent > 0:
                raise InputError("no inhibitory cell spiked in this batch; take a smaller tau_inhibitory or more steps")
            self.weight_ei.mul_(excitation / sent)
        self.initialised.fill_(True)
        return beta

    def _drive(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """The drive of the excitatory and of the inhibitory cells by the layer below: one product for both."""
        e, i = self._from_below(h, self.weight).split([self.units, self.pool], self.unit_dim)
        return e, i

    def _both(self, r: Tensor, g: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """(W_EI r, W_EI (g r)) in one product."""
        raise NotImplementedError

    def _weight_ei(self) -> Tensor:
        """W_EI, its gradient divided by the fan-in where that is asked for."""
        return scale_gradient(self.weight_ei, 1 / self.fan_in) if self.scaling == "gradient" else self.weight_ei

    def _inhibited(self, e: Tensor, r: Tensor) -> Tensor:
        """The current of the excitatory cells with drive ``e`` while the inhibitory ones send ``r``."""
        r = r.relu() if self.rectify else r
        w = self._weight_ei()
        if self.gain_i is None:
            return inhibit(e, self._within(r, w), None, self._each(self.gain), self._each(self.bias))
        g = self._by_unit(self.gain_i)
        s, d = self._both(r, g, w) if self.subtractive else (None, self._within(g * r, w))
        assert self.gain is not None
        assert self.bias is not None
        if self.stabilise and self.straight:
            return ei_current(e, s, d, self.gain, self.bias, unit_dim=self.unit_dim)
        return ei_current_plain(
            e, s, d, self.gain, self.bias, unit_dim=self.unit_dim, adaptive=self.stabilise, through=self.straight
        )

    def _each(self, vector: Tensor | None) -> Tensor | None:
        return None if vector is None else self._by_unit(vector)

    def forward(self, h: Tensor) -> Tensor:
        """The current of the excitatory cells, or the scores of a readout."""
        self._enter(h)
        e, i = self._drive(h)
        return self._inhibited(e, i if self.cells is None else self.cells(i))

    @property
    def row_wise(self) -> bool:
        """Whether the same input at every time step gives the same current at every time step."""
        return self.cells is None

    def joined(self, h: Tensor, neuron: LIF, still: bool) -> Tensor | None:
        """The spikes of ``neuron`` behind this layer, both in one node (``functional.ei_spikes``), rows as there.

        None where there is no such node: with anything switched off but ``scaling``, cells whose constants are tensors,
        under ``exact_backward`` and autocast, and in precisions that need a wider division.
        """
        constants, weights = neuron.numbers(), (self.weight, self.weight_ei, self.gain_i, self.gain, self.bias)
        whole = self.subtractive and self.rectify and self.stabilise and self.straight and self.cells is None
        if not (whole and constants and neuron.steps and backward_edits() and type(self).forward is EI.forward):
            return None
        if h.ndim != 1 - self.unit_dim or (not still and h.shape[0] % neuron.steps) or not h.numel():
            return None
        narrow = h.dtype not in (torch.float32, torch.float64) or torch.is_autocast_enabled(h.device.type)
        if narrow or any(w is None or w.dtype != h.dtype for w in weights):
            return None
        assert self.gain_i is not None
        assert self.gain is not None
        assert self.bias is not None
        self._enter(h)
        drive, timed = self._from_below(h, self.weight), {"steps": neuron.steps, "still": still, **constants}
        return ei_spikes(drive, self._weight_ei(), self.gain_i, self.gain, self.bias, **timed)

    def step(self, h: Tensor, v: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """One time step: (the current, the potential of inhibitory cells that spike, else None)."""
        self._enter(h)
        e, i = self._drive(h)
        if self.cells is not None:
            i, v = self.cells.step(i, v)
        return self._inhibited(e, i), v

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:  # type: ignore[override]
        missing = f"{prefix}gain_i" not in state_dict and f"{prefix}weight_ei" in state_dict
        if missing != (self.gain_i is None) and f"{prefix}weight_ei" in state_dict:
            with_gain, without = "divides by inhibition", "does not divide (divisive=False, or a readout)"
            there, here = (without, with_gain) if missing else (with_gain, without)
            raise InputError(
                f"'{prefix[:-1]}' of the checkpoint {there}, and the layer {here}; build it as it was saved"
            )
        found = state_dict.get(f"{prefix}weight_ei")
        if found is not None and tuple(found.shape) != (self.units, self.pool):
            cells = "n_e={}, n_i={}".format(*found.shape) if found.ndim == 2 else f"shape {tuple(found.shape)}"
            raise InputError(
                f"'{prefix}weight_ei' of the checkpoint has {cells}, and the layer n_e={self.units}, n_i={self.pool}: "
                "another width or ratio; build the layer with the checkpoint's (pool=n_i)"
            )
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def extra_repr(self) -> str:
        parts = [name for name in ("readout", "subtractive", "divisive") if getattr(self, name)]
        return f"{self.fan_in} inputs a cell, n_e={self.units}, n_i={self.pool}, {'+'.join(parts)}"


class EILinear(Dense, EI):
    """A linear layer of excitatory cells with lateral inhibition by a pool that the layer below drives too.

        I_EE = W_EE h,   r = max(0, W_IE h),   I_sub = W_EI r,   I_div = W_EI (g_I r)
        z = g_E (I_EE - I_sub) / stab(I_div) + b_E;    put ``LIF`` behind it

    h (..., I) >= 0, z (..., O), a row of z is one sample at one time step (``functional.ei_current``).
    ``weight`` (O + n_i, I) holds W_EE above W_IE, so that both are one product; W_EI (O, n_i), g_I (n_i,), g_E (O,),
    all >= 0 (``nn.enforce``); b_E (O,). n_i = max(1, floor(ratio * O)), or ``pool``: ratio 0.25 is E:I = 4:1.

    readout: z = I_EE - I_sub, scores, without gains and bias. Switches: subtractive, divisive; rectify: the max above
    (nothing changes while h >= 0); stabilise: stab, else a plain quotient, inf and NaN included; straight: the error
    passes stab as the identity, else by its derivative; scaling: W_EI learns 1/I as fast, as a learning-rate factor
    ("rate", ``nn.param_groups``), as the paper's division of its gradient ("gradient"), or None.
    inhibition: "instant", or "spiking" cells of time constant ``tau_inhibitory``, 1.25 (in ``nn.OverTime``). Raises
    ``InputError`` for an option that would change nothing.

    ``nn.ei_init_(model, batch)`` sets the weights from data; before it, they suit spikes of probability 0.2.
    Source: E-I spiking paper (ICLR 2026).
    """

    def __init__(self, in_features: int, out_features: int, **options: Unpack[EIOptions]) -> None:
        super().__init__(out_features, in_features, **options)

    def _both(self, r: Tensor, g: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        s, d = F.linear(torch.stack([r, g * r]), w).unbind(0)
        return s, d


class EIConv2d(Convolution, EI):
    """A convolution of excitatory and inhibitory channels: ``EILinear`` at each position, I = C * k * k.

    Both kinds of channels have kernels of one geometry on h (B, C, H, W); W_EI acts across channels at a position, and
    a row is all channels and positions of one sample at one time step.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        *,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        **options: Unpack[EIOptions],
    ) -> None:
        super().__init__(out_channels, self._place(in_channels, kernel_size, stride, padding), **options)

    def _both(self, r: Tensor, g: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        together = self._within(torch.stack([r, g * r]).reshape(-1, *r.shape[-3:]), w)
        s, d = together.reshape(2, *r.shape[:-3], *together.shape[1:]).unbind(0)
        return s, d
