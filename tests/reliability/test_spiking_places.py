"""Networks of spiking cells given another batch, size, axis or code than they take: one line that names the part.

A failure here means samples scrambled with time steps, states of one batch used for another, or torch's own complaint.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.refusals import refused_in_one_line
from torch import Tensor, nn

from equipoise import functional as f
from equipoise import models
from equipoise import nn as enn


class Halves(nn.Module):
    """A code of two frames, whatever the network asks for."""

    def forward(self, x: Tensor) -> Tensor:
        """The same twice."""
        return torch.stack([x, x])


class Fewer(nn.Module):
    """Loses rows."""

    def forward(self, x: Tensor) -> Tensor:
        """Six numbers."""
        return x[:6]


def dense(encoder: str | nn.Module | None = "direct", **options: object) -> enn.OverTime:
    torch.manual_seed(0)
    net = nn.Sequential(enn.EILinear(6, 9, **options), enn.LIF(), enn.EILinear(9, 3, readout=True))  # type: ignore[arg-type]
    return enn.OverTime(net, 4, encoder=encoder)


def recurrent() -> enn.OverTime:
    net = nn.Sequential(enn.RecurrentEI(enn.EILinear(6, 9), enn.LIF()), enn.EILinear(9, 3, readout=True))
    return enn.OverTime(net, 4)


def spiking_inhibition() -> enn.OverTime:
    return dense(inhibition="spiking")


def batch_first(*shape: int, text: str = "spiking-vgg:2x12x12-3,width=0.05") -> Tensor:
    return models.make(text)(torch.rand(shape))


def of_another(build: object, first: int, then: int) -> None:
    model: enn.OverTime = build()  # type: ignore[operator]
    model.stream(torch.rand(then, 6), model.stream(torch.rand(first, 6))[1])


X = torch.rand(8, 6, generator=torch.Generator().manual_seed(0))
BATCH = "spiking-vgg:2x12x12-3,width=0.05,norm=batch"

REFUSED = {
    "two frames": (lambda: dense(Halves())(X), "Halves makes (2, 8, 6) of (8, 6); frames are time first, (4, 8, ...)"),
    "time second": (lambda: dense(nn.Unflatten(1, (4, 6)))(torch.rand(8, 24)), "makes (8, 4, 6) of (8, 24)"),
    "stream 5, 1": (lambda: of_another(dense, 5, 1), "'net.1': the potential has shape (5, 9) and one step"),
    "stream 1, 5": (lambda: of_another(dense, 1, 5), "'net.1': the potential has shape (1, 9)"),
    "stream 5, 3": (lambda: of_another(dense, 5, 3), "the state of another batch or layer"),
    "recurrent 5, 1": (lambda: of_another(recurrent, 5, 1), "'net.0': the potential has shape (5, 9)"),
    "inhibitory 5, 1": (lambda: of_another(spiking_inhibition, 5, 1), "'net.0': the potential has shape (5, 2)"),
    "step": (lambda: f.lif_step(torch.rand(3, 2), torch.rand(1, 2)), "one step of the currents (3, 2)"),
    "stream uncoded": (lambda: dense(nn.Identity()).stream(torch.rand(8, 12)), "'net.0': EILinear takes (..., 6)"),
    "no batch axis": (lambda: batch_first(2, 12, 12), "'net.0': EIConv2d takes (batch, 2, height, width)"),
    "frames": (lambda: batch_first(2, 4, 2, 12, 12), "frames: encoder=None"),
    "channels": (lambda: batch_first(2, 3, 12, 12), "this input is (2, 3, 12, 12)"),
    "larger": (lambda: batch_first(2, 2, 64, 64), "EILinear takes (..., 26), and this input is"),
    "one sample": (lambda: dense()(torch.rand(6)), "no batch axis?"),
    "batch's channels": (lambda: batch_first(2, 3, 12, 12, text=BATCH), "'net.0': Conv2d cannot take rows of shape"),
    "batch's size": (lambda: batch_first(2, 2, 64, 64, text=BATCH), "Linear cannot take rows of shape (8, "),
    "no T rows": (lambda: enn.OverTime(nn.Sequential(nn.Flatten(0), Fewer(), enn.LIF()), 4)(X),
                  "'net.2': LIF: (6,) has no 4 time steps"),
    "LIF steps": (lambda: enn.LIF(steps=0), "steps=0"),
    "spikes' steps": (lambda: spikes(steps=0), "steps=0"),
    "spikes' reset": (lambda: spikes(reset="sof"), "did you mean 'soft'"),
    "spikes' threshold": (lambda: spikes(threshold=-1.0), "a threshold must be above 0"),
    "spikes' leak": (lambda: spikes(leak=3.0), "0 to 1, not 3.0"),
    "idle tau": (lambda: enn.EILinear(6, 9, tau_inhibitory=1.25), "inhibition='spiking'"),
    "idle stabilise": (lambda: enn.EILinear(6, 9, divisive=False, stabilise=False), "stabilise=False changes nothing"),
    "idle straight": (lambda: enn.EILinear(6, 9, stabilise=False, straight=False), "nothing to pass"),
    "readout's": (lambda: enn.EILinear(6, 9, readout=True, straight=False), "a readout does not divide"),
    "both": (lambda: enn.EILinear(6, 9, pool=3, ratio=0.0), "pool says how many"),
    "half a cell": (lambda: enn.EILinear(6, 9, pool=2.5), "whole number of cells, not 2.5"),  # type: ignore[arg-type]
    "undivided": (lambda: dense().load_state_dict(dense(divisive=False).state_dict()), "'net.0' of the checkpoint does not"),
    "divided": (lambda: dense(divisive=False).load_state_dict(dense().state_dict()), "checkpoint divides by inhibition"),
}  # fmt: skip


def spikes(**constants: object) -> Tensor:
    given = {"steps": 1, **constants}
    return f.ei_spikes(torch.rand(4, 8), torch.rand(6, 2), torch.rand(2), torch.rand(6), torch.rand(6), **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_in_one_line(name: str) -> None:
    refused_in_one_line(*REFUSED[name])


def test_what_is_no_fault_of_the_input_stays_what_it_is() -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("its own")

    with pytest.raises(RuntimeError, match="its own"):
        enn.OverTime(nn.Sequential(Odd()), 4)(X)


@pytest.mark.parametrize("place", [1, 0])
def test_a_part_put_in_later_knows_the_steps(place: int) -> None:
    """Cells that took T B rows for one sequence would let samples meet."""
    model = dense()
    model.net[place] = [enn.EILinear(6, 9, inhibition="spiking"), enn.LIF(threshold=0.3)][place]  # type: ignore[index]
    together = model(X)
    alone = torch.cat([model(x[None]) for x in X])
    torch.testing.assert_close(together, alone)
    assert {m.steps for m in model.modules() if hasattr(m, "steps")} == {4}


@pytest.mark.parametrize("text", ["6-5-3,encoder=rate,onoff=yes", "6-5-3,encoder=latency", "6-5-3,onoff=yes"])
def test_coded_frames_stream_as_the_whole_sequence(text: str) -> None:
    model: Any = models.make(f"spiking-mlp:{text}").eval()
    x = X * 2 - 1 if "onoff" in text else X
    whole = model(x)
    for name, buffer in model.named_buffers():
        if name.endswith("drawn"):
            buffer.zero_()
    states, outputs = None, []
    for frame in model.frames(x):
        y, states = model.stream(frame, states)
        outputs.append(y)
    torch.testing.assert_close(torch.stack(outputs).mean(0), whole)
