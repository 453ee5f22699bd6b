"""Our cells beside snnTorch's ``Leaky``, spikes and gradients.

A failure here means that one of the two libraries has another idea of a leaky integrate-and-fire cell. It skips where
snnTorch is not installed; where it is, its reset must act in the same step (``reset_delay=False``) and its error passes
through the reset. It fires above the threshold and we at it, and it takes the threshold away once more in the step after
if the potential still stands above it, so currents here keep potentials below twice the threshold, off ties.
"""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor

from equipoise import functional as f

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    snntorch = pytest.importorskip("snntorch", reason="the reference needs snnTorch: pip install snntorch")


def ours(x: Tensor, reset: str) -> tuple[Tensor, Tensor]:
    name = {"subtract": "soft", "zero": "hard"}[reset]
    return f.lif(x, leak=0.7, threshold=1.0, reset=name, surrogate="sigmoid", sharpness=4.0, through_reset=True)  # type: ignore[arg-type]


def theirs(x: Tensor, reset: str) -> tuple[Tensor, Tensor]:
    pulse = snntorch.surrogate.sigmoid(slope=4)
    cell = snntorch.Leaky(0.7, threshold=1.0, spike_grad=pulse, reset_mechanism=reset, reset_delay=False)
    cell = cell.to(x.dtype)
    mem, spikes = torch.zeros_like(x[0]), []
    for current in x:
        s, mem = cell(current, mem)
        spikes.append(s)
    return torch.stack(spikes), mem


@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_spikes_potentials_and_gradients_are_snntorchs(reset: str) -> None:
    x = 1.2 * torch.rand(12, 8, 16, generator=torch.Generator().manual_seed(0))
    outcomes = []
    for form in (ours, theirs):
        leaf = x.clone().requires_grad_()
        s, v = form(leaf, reset)
        weights = torch.linspace(-1, 1, s.numel(), dtype=s.dtype).reshape(s.shape)
        (g,) = torch.autograd.grad((s * weights).sum() + v.square().sum(), leaf)
        outcomes.append((s, v, g))
    assert 0.1 < float(outcomes[0][0].detach().mean()) < 0.9
    for a, b in zip(*outcomes, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)  # its spikes are float32
