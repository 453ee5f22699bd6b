"""From the drive of a layer's cells to spikes over time in one node: E-I current and leaky integrate-and-fire together.

    r = max(0, i),   d = W_EI (g_I r),   q = (e - W_EI r) / stab(d),   h[t] = leak v[t-1] + gain q[t] + bias,
    s[t] = 1 if h[t] >= theta,   v[t] = h[t] - theta s[t]  (soft reset)  or  h[t] (1 - s[t])  (hard reset)

``functional.ei_current`` and ``functional.lif`` one after the other, to rounding, backwards too: straight through stab,
the surrogate's slope at h - theta, none through the reset. With delta = dL/d(gain q + bias) of ``lif_sequence``,

    dL/de = gain delta / stab(d) = -dL/ds,    dL/dd = -q dL/de,    dL/dr = W_EI^T dL/ds + g_I W_EI^T dL/dd

Kept are q, stab(d) and r, 2.25 numbers a cell at four excitatory cells to an inhibitory one; h is walked again. Samples
do not meet, so they are worked off a few at a time, while they are in the processor's cache. One derivative.
Letters: e, i (S B, ...) with S = T time steps, time-major, or 1: the same drive at all T; E, I excitatory and
inhibitory cells; P positions. Inside, samples come first: (B, S, E, P), or (B, S, P, E) where P is small.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from equipoise.errors import InputError
from equipoise.functional import lif_kernels
from equipoise.functional.spiking import check_constants
from equipoise.functional.surrogates import sharpness_of, surrogates

__all__ = ["ei_spikes"]

PIECE = 1 << 16  # cells that each thread works off together on a CPU, over all steps
FEW = 16  # below so many positions a product has the cells on its last axis


@dataclass(frozen=True)
class _Cells:
    """The sizes of a layer and the constants of its cells."""

    units: int
    steps: int
    leak: float
    theta: float
    hard: bool
    surrogate: str
    sharpness: float

    def pull(self, g: Tensor, u: Tensor) -> Tensor:
        """g F'(u); uses up ``u``."""
        step = surrogates[self.surrogate]
        return (step.pull_ or step.pull)(g, u, self.sharpness)

    def walk(self, x: Tensor, h: Tensor, s: Tensor) -> None:
        """h and s (B, T, ...) of the currents ``x`` (B, S, ...); ``h`` may be ``x``."""
        if lif_kernels.serves(x):
            lif_kernels.walk(x, None, self.leak, self.theta, self.hard, h, s)
            return
        for t in range(self.steps):
            now = h[:, t]
            if t:
                before = h[:, t - 1]
                v = before * (1 - s[:, t - 1]) if self.hard else torch.sub(before, s[:, t - 1], alpha=self.theta)
                torch.add(x[:, t if x.shape[1] > 1 else 0], v, alpha=self.leak, out=now)
            elif h is not x:
                now.copy_(x[:, 0])
            torch.ge(now, self.theta, out=s[:, t])

    def carry(self, g: Tensor, h: Tensor) -> Tensor:
        """delta (B, T, ...) of the errors ``g`` at the spikes; uses up ``h``."""
        if lif_kernels.serves(h, self.surrogate):
            return lif_kernels.carry(g, None, h, None, self.leak, self.theta, self.hard, self.surrogate, self.sharpness)
        u = h.sub_(self.theta)
        stays = (u < 0).to(u.dtype) if self.hard else None
        delta = self.pull(g, u).contiguous()
        for t in range(self.steps - 2, -1, -1):
            if stays is None:
                delta[:, t].add_(delta[:, t + 1], alpha=self.leak)
            else:
                delta[:, t].addcmul_(delta[:, t + 1], stays[:, t], value=self.leak)
        return delta


class _Layout:
    """How the rows of a layer lie: ``last``, whether cells are on the last axis, and the products that follow."""

    def __init__(self, shape: torch.Size, units: int, steps: int, still: bool) -> None:
        self.times = 1 if still else steps
        self.samples = shape[0] // self.times
        self.positions = math.prod(shape[2:])
        self.last = self.positions < FEW
        self.units, self.steps, self.pool = units, steps, shape[1] - units

    def shape(self, cells: int) -> tuple[int, int, int, int]:
        inner = (self.positions, cells) if self.last else (cells, self.positions)
        return (self.samples, self.times, *inner)

    def samples_first(self, x: Tensor, times: int) -> Tensor:
        """(times B, cells, ...) as a view with the samples first, and the cells where products want them."""
        rows = x.reshape(times, self.samples, x.shape[1], self.positions).transpose(0, 1)
        return rows.transpose(2, 3) if self.last else rows

    def part(self, x: Tensor, inhibitory: bool) -> Tensor:
        """The excitatory or the inhibitory cells of ``x``."""
        start, length = (self.units, self.pool) if inhibitory else (0, self.units)
        return x.narrow(-1 if self.last else -2, start, length)

    def map(self, vector: Tensor) -> Tensor:
        """A number of each cell, at all positions."""
        return vector.repeat(self.positions, 1) if self.last else vector[:, None].repeat(1, self.positions)

    def of_map(self, total: Tensor) -> Tensor:
        """The sum over positions."""
        return total.sum(0 if self.last else 1)

    def add(self, out: Tensor, weight: Tensor, x: Tensor, *, beta: float, alpha: float) -> None:
        """out = beta out + alpha W x at each position; W (post, pre)."""
        if self.last:
            out.view(-1, out.shape[-1]).addmm_(x.view(-1, x.shape[-1]), weight.t(), beta=beta, alpha=alpha)
        else:
            rows = x.flatten(0, 1)
            out.view(-1, *out.shape[2:]).baddbmm_(weight.expand(rows.shape[0], -1, -1), rows, beta=beta, alpha=alpha)

    def add_outer(self, total: Tensor, g: Tensor, x: Tensor) -> None:
        """total += sum over rows and positions of g x^T."""
        if self.last:
            total.addmm_(g.view(-1, g.shape[-1]).t(), x.view(-1, x.shape[-1]))
        else:
            total.addbmm_(g.flatten(0, 1), x.flatten(0, 1).transpose(1, 2))

    def pieces(self, device: torch.device) -> list[slice]:
        cells = max(1, self.units * self.positions)
        size = max(1, PIECE * torch.get_num_threads() // cells if device.type == "cpu" else self.samples)
        return [slice(start, min(start + size, self.samples)) for start in range(0, self.samples, size)]


class _Node(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, drive: Tensor, weight: Tensor, gain_i: Tensor, gain: Tensor, bias: Tensor, cells: _Cells, still: bool
    ) -> Tensor:
        rows = _Layout(drive.shape, cells.units, cells.steps, still)
        divide, gains, biases = weight * gain_i, rows.map(gain), rows.map(bias)
        ratio, stable = drive.new_empty(2, *rows.shape(cells.units)).unbind(0)
        sent = drive.new_empty(rows.shape(rows.pool))
        spikes = drive.new_empty(rows.samples * cells.steps, cells.units, *drive.shape[2:])
        drives, out = rows.samples_first(drive, rows.times), rows.samples_first(spikes, cells.steps)
        for part in rows.pieces(drive.device):
            q, d, r = ratio[part], stable[part], sent[part]
            torch.clamp_min(rows.part(drives[part], True), 0, out=r)
            q.copy_(rows.part(drives[part], False))
            rows.add(q, weight, r, beta=1.0, alpha=-1.0)
            rows.add(d, divide, r, beta=0.0, alpha=1.0)
            # All that is positive is at least the least positive: the larger of the two is stab(d).
            torch.maximum(d, F.threshold(d, 0, math.inf).amin((2, 3), keepdim=True), out=d)
            x = torch.addcmul(biases, q.div_(d), gains)
            cells.walk(x, x if rows.times == cells.steps else x.new_empty(out[part].shape), out[part])
        ctx.cells, ctx.rows, ctx.shape = cells, rows, drive.shape
        ctx.save_for_backward(ratio, stable, sent, weight, gain_i, gain, bias)
        return spikes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        ratio, stable, sent, weight, gain_i, gain, bias = ctx.saved_tensors
        cells, rows = ctx.cells, ctx.rows
        divide, gains, biases = weight * gain_i, rows.map(gain), rows.map(bias)
        to_subtract, to_divide = torch.zeros_like(weight), torch.zeros_like(weight)
        to_gain, to_bias = torch.zeros_like(gains), torch.zeros_like(biases)
        back = g.new_empty(ctx.shape)
        errors, out = rows.samples_first(g, cells.steps), rows.samples_first(back, rows.times)
        for part in rows.pieces(g.device):
            q, r = ratio[part], sent[part]
            x = torch.addcmul(biases, q, gains)
            h = x if rows.times == cells.steps else x.new_empty(errors[part].shape)
            cells.walk(x, h, torch.empty_like(h))
            delta = cells.carry(errors[part], h)
            delta = delta if rows.times == cells.steps else delta.sum(1, keepdim=True)
            to_bias += delta.sum((0, 1))
            dd = delta * q  # of the opposite sign, as ds is that of de
            to_gain += dd.sum((0, 1))
            slope = gains / stable[part]
            dd.mul_(slope)
            de = slope.mul_(delta)
            rows.part(out[part], False).copy_(de)
            dr = torch.empty_like(r)
            rows.add(dr, weight.t(), de, beta=0.0, alpha=-1.0)
            rows.add(dr, divide.t(), dd, beta=1.0, alpha=-1.0)
            rows.part(out[part], True).copy_(torch.ops.aten.threshold_backward(dr, r, 0))
            rows.add_outer(to_subtract, de, r)
            rows.add_outer(to_divide, dd, r)
        to_weight = torch.addcmul(to_subtract, to_divide, gain_i).neg_()
        return (
            back,
            to_weight,
            (to_divide * weight).sum(0).neg_(),
            rows.of_map(to_gain),
            rows.of_map(to_bias),
            None,
            None,
        )


def ei_spikes(
    drive: Float[Tensor, "SB EI *P"],
    weight_ei: Float[Tensor, "E I"],
    gain_i: Float[Tensor, " I"],
    gain: Float[Tensor, " E"],
    bias: Float[Tensor, " E"],
    *,
    steps: int,
    still: bool = False,
    leak: float = 0.5,
    threshold: float = 1.0,
    reset: str = "soft",
    surrogate: str = "sigmoid",
    sharpness: float | None = None,
) -> Float[Tensor, "TB E *P"]:
    """Spikes (T B, E, ...) of cells whose drive is ``drive``: the excitatory cells' e on axis 1 above the inhibitory i.

    Rows are time-major; ``still``: there are B of them, which stand for every one of the ``steps``. float32 or float64,
    constants are numbers, every sequence starts from rest. Not for ``torch.func``: there take the parts one by one.
    Raises ``InputError`` for rows that are no multiple of ``steps``, cells that are not E and I together, or constants
    that no cell can have.
    """
    units, pool = weight_ei.shape
    if drive.ndim < 2 or drive.shape[1] != units + pool:
        raise InputError(
            f"a drive has {units} excitatory and {pool} inhibitory cells on axis 1, not {tuple(drive.shape)}"
        )
    check_constants(leak, threshold, reset)
    if steps < 1:
        raise InputError(f"a sequence needs at least one time step, not steps={steps}")
    if not still and drive.shape[0] % steps:
        raise InputError(f"{tuple(drive.shape)} has no {steps} time steps in its first axis, T times the batch")
    cells = _Cells(
        units, steps, float(leak), float(threshold), reset == "hard", surrogate, sharpness_of(surrogate, sharpness)
    )
    return _Node.apply(drive, weight_ei, gain_i, gain, bias, cells, still)
