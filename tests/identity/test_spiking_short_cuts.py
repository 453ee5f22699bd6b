"""Whole networks by a text against their modules one by one: residual blocks, twins, pools between layers.

A failure here means that a named network computes, or learns, something else when nobody watches it.
"""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from equipoise import models
from equipoise import nn as enn


def _note(rows: list[int], module: nn.Module, inputs: tuple[Tensor, ...], spikes: Tensor) -> None:
    rows.append(len(spikes))


@pytest.mark.parametrize("text", ["spiking-resnet:3x8x8-4,width=0.1", "spiking-vgg:3x8x8-4,width=0.1,norm=batch"])
def test_a_network_gives_what_its_modules_give_one_by_one(text: str) -> None:
    """Hooks on all cells switch off every short cut (``nn.chain``)."""
    x = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    outcomes = []
    for watched in (False, True):
        torch.manual_seed(0)
        net = models.make(text).double()
        rows: list[int] = []
        note = partial(_note, rows)
        for module in net.modules() if watched else ():
            if isinstance(module, enn.LIF):
                module.register_forward_hook(note)
        y = net(x)
        assert rows == [12] * (sum(isinstance(m, enn.LIF) for m in net.modules()) * watched)
        outcomes.append([y, *torch.autograd.grad(y.square().sum(), list(net.parameters()))])
    for found, wanted in zip(*outcomes, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)
