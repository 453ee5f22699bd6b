"""Lateral inhibition in the strict sense: the inhibitory cells of a layer hear its excitatory ones, a step later."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from equipoise.contracts import Constraint, Pointwise, Synapses
from equipoise.errors import InputError
from equipoise.functional.constraints import NonNegative
from equipoise.functional.spiking import check_state
from equipoise.nn.ei import EI
from equipoise.nn.ei_options import mean_over
from equipoise.nn.spiking import LIF, folded, unfolded

__all__ = ["RecurrentEI"]


class RecurrentEI(nn.Module):
    """An E-I layer and its spiking cells, with a path back from these to the layer's inhibitory cells.

        I_I[t] = W_IE h[t] + W_IR s_E[t-1],    r = max(0, I_I),    then as in ``EILinear`` and ``LIF``

    In and out (T B, ...), time-major, as ``OverTime`` has it. W_IR (n_i, n_e) >= 0 starts at 0: the feed-forward layer;
    ``ei_init_`` gives it the part ``share`` of what W_IE sends, and W_EI 1 / (1 + share) of its size. The ``layer``'s
    own inhibition is instant. Steps cannot be worked off together, so this costs a loop over time.
    """

    projections: tuple[str, ...] = ()

    def __init__(self, layer: EI, neuron: LIF, *, share: float = 0.5) -> None:
        super().__init__()
        if layer.cells is not None or layer.readout:
            raise InputError("recurrent inhibition needs a hidden layer whose inhibitory cells are instant")
        if not share >= 0:
            raise InputError(
                f"share is the part of inhibition's drive that comes from the layer itself, >= 0, not {share}"
            )
        self.layer, self.neuron, self.share = layer, neuron, share
        self.steps: int | None = None
        self.weight_ir = nn.Parameter(torch.zeros(layer.pool, layer.units))
        self.constraints: dict[str, Constraint] = {"weight_ir": NonNegative()}

    @property
    def initialised(self) -> Tensor:
        """Whether ``ei_init_`` has set the layer."""
        return self.layer.initialised

    @torch.no_grad()
    def initialise_(
        self, first: float, second: float, within: float, stream: torch.Generator, inputs: Iterable[Tensor]
    ) -> float:
        """Start from the moments of the input, and from the cells' own rate on all batches of ``inputs``; beta."""
        beta = self.layer.initialise_(first, second, within, stream, inputs)
        self.weight_ir.zero_()
        if self.share:
            rate, drive = mean_over((self.forward(h), self.layer._drive(h)[1]) for h in inputs)
            if not rate > 0:
                raise InputError(
                    "no excitatory cell spiked in this batch, so recurrent inhibition has nothing to go by"
                )
            mean = self.share * drive / (self.layer.units * rate)
            drawn = torch.empty(self.weight_ir.shape, dtype=torch.float64).exponential_(1 / mean, generator=stream)
            self.weight_ir.copy_(drawn)
            self.layer.weight_ei.div_(1 + self.share)
        return beta

    def _next(self, e: Tensor, i: Tensor, state: tuple[Tensor, Tensor | None]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        spikes, v = state
        current = self.layer._inhibited(e, i + self.layer._within(spikes, self.weight_ir))
        spikes, v = self.neuron.step(current, v)
        return spikes, (spikes, v)

    def step(
        self, h: Tensor, state: tuple[Tensor, Tensor | None] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor | None]]:
        """One time step: (spikes, (spikes, potential))."""
        self.layer._enter(h)
        e, i = self.layer._drive(h)
        if state is not None:
            check_state(state[0], e.shape)
        return self._next(e, i, (torch.zeros_like(e), None) if state is None else state)

    def forward(self, h: Tensor) -> Tensor:
        """Spikes (T B, ...)."""
        if self.steps is None:
            raise InputError("recurrent inhibition needs to know time: put the layer into nn.OverTime(net, steps)")
        self.layer._enter(h)
        e, i = (unfolded(part, self.steps, "RecurrentEI") for part in self.layer._drive(h))
        state: tuple[Tensor, Tensor | None] = (torch.zeros_like(e[0]), None)
        spikes = []
        for excitation, drive in zip(e.unbind(0), i.unbind(0), strict=True):
            now, state = self._next(excitation, drive, state)
            spikes.append(now)
        return folded(torch.stack(spikes))

    def work(self, input: Tensor, output: Tensor) -> Iterator[Synapses | Pointwise]:
        """What the layer, its cells and the path back took (``contracts.Costed``)."""
        yield from self.layer.work(input, output)
        before = unfolded(output, self.steps or 1, "RecurrentEI")[:-1]
        yield Synapses("ir", folded(before), self.layer.pool, self.layer.units, self.layer._summed)
        yield Pointwise("cells", macs=output.numel())
