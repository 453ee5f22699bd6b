"""What spiking circuits do with input that they cannot take: one line that names the layer and the way out.

A failure here means a silent layer, scrambled time, or a traceback from deep inside torch.
"""

from __future__ import annotations

import math

import pytest
import torch
from tests.refusals import refused_in_one_line
from torch import nn

import equipoise as eq
from equipoise import functional as f
from equipoise import nn as enn
from equipoise.errors import InputError


def model(encoder: str | None = "direct", **options: object) -> enn.OverTime:
    torch.manual_seed(0)
    net = nn.Sequential(enn.EILinear(6, 9, **options), enn.LIF(), enn.EILinear(9, 3, readout=True))  # type: ignore[arg-type]
    return enn.OverTime(net, 4, encoder=encoder)


X = torch.rand(8, 6, generator=torch.Generator().manual_seed(0))

REFUSED = {
    "tau 0.5": (lambda: enn.LIF(0.5), "tau is a time constant in steps, at least 1"),
    "tau nan": (lambda: enn.LIF(math.nan), "not nan"),
    "tau 1 learned": (lambda: enn.LIF(1.0, learn="tau"), "above 1 and finite to be learned"),
    "threshold 0": (lambda: enn.LIF(threshold=0.0), "must be above 0"),
    "reset": (lambda: enn.LIF(reset="sof"), "did you mean 'soft'"),  # type: ignore[arg-type]
    "surrogate": (lambda: enn.LIF(surrogate="sigmoidal"), "did you mean 'sigmoid'"),
    "sharpness": (lambda: enn.LIF(sharpness=0.0), "sharpness of a surrogate"),
    "learn": (lambda: enn.LIF(learn="taus"), "did you mean 'tau'"),
    "leak": (lambda: f.lif(torch.rand(3, 2), leak=1.5), "0 to 1, not 1.5"),
    "state": (lambda: f.lif(torch.rand(3, 2), torch.rand(3)), "state of another batch"),
    "no time": (lambda: f.lif(torch.rand(0, 2)), "at least one"),
    "pool 0": (lambda: enn.EILinear(6, 9, pool=0), "at least 1 cell"),
    "ratio 0": (lambda: enn.EIConv2d(6, 9, 3, ratio=0.0), "above 0, not 0.0"),
    "no inhibition": (lambda: enn.EILinear(6, 9, subtractive=False, divisive=False), "does nothing"),
    "scaling": (lambda: enn.EILinear(6, 9, scaling="rates"), "did you mean 'rate'"),  # type: ignore[arg-type]
    "cells": (lambda: enn.EILinear(6, 9, inhibition="spike"), "did you mean 'spiking'"),  # type: ignore[arg-type]
    "fast cells": (lambda: enn.EILinear(6, 9, inhibition="spiking", tau_inhibitory=0.3), "tau_inhibitory"),
    "steps 0": (lambda: enn.OverTime(nn.Identity(), 0), "steps=0"),
    "encoder": (lambda: enn.OverTime(nn.Identity(), 2, encoder="rat"), "did you mean 'rate'"),
    "readout recurrent": (lambda: enn.RecurrentEI(enn.EILinear(6, 9, readout=True), enn.LIF()), "hidden layer"),
    "no batch axis": (lambda: model(None)(X), "time on axis 1"),
    "time first": (lambda: model(None)(torch.rand(4, 8, 6)), "time on axis 1; this input is (4, 8, 6)"),
    "other T": (lambda: model(None)(torch.rand(8, 5, 6)), "assign .steps"),
    "rows": (lambda: enn.LIF(steps=4)(torch.rand(6, 3)), "no 4 time steps"),
    "alone": (lambda: enn.EILinear(6, 9, inhibition="spiking")(X), "nn.OverTime"),
    "no chain": (lambda: enn.OverTime(Odd(), 2).stream(X), "no nn.Sequential"),
    "lost rows": (lambda: enn.OverTime(nn.Flatten(0), 2)(X), "keep the first axis"),
    "no layer": (lambda: enn.ei_init_(nn.Linear(3, 3), torch.rand(4, 3)), "no E-I layer"),
    "no batches": (lambda: enn.ei_init_(model(), []), "no batch"),
    "unused": (lambda: enn.ei_init_(Unused(), X), "'spare'"),
    "negative": (lambda: enn.ei_init_(model(), X - 0.5), "'net.0': inputs of an E-I layer are rates"),
    "silent": (lambda: enn.ei_init_(model(), 0 * X), "'net.0' gets no input at all"),
    "constant": (lambda: enn.ei_init_(model(), 0 * X + 0.3), "'net.0' gets the same input (0.3 on average)"),
    "nan": (lambda: enn.ei_init_(model(), X * math.nan), "'net.0': its input holds values that are not finite"),
    "one sample": (lambda: enn.ei_init_(enn.EILinear(6, 9), X[:1]), "'EILinear': 1 rows are too few"),
    "two shapes": (lambda: enn.ei_init_(enn.EIConv2d(2, 4, 1), [torch.rand(3, 2, 4, 4), torch.rand(3, 2, 5, 5)]), "differ"),
    "other ratio": (lambda: model().load_state_dict(model(pool=4).state_dict()), "n_i=4, and the layer n_e=9, n_i=2"),
}  # fmt: skip


class Odd(nn.Module):
    """No chain."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = enn.LIF()


class Unused(nn.Module):
    """A network with a layer that it never calls."""

    def __init__(self) -> None:
        super().__init__()
        self.spare = enn.EILinear(6, 9)
        self.used = enn.EILinear(6, 9)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.used(x)


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_in_one_line(name: str) -> None:
    refused_in_one_line(*REFUSED[name])


def test_a_deeper_silent_layer_is_named() -> None:
    net = enn.OverTime(nn.Sequential(enn.EILinear(6, 9), enn.LIF(threshold=1e6), enn.EILinear(9, 3, readout=True)), 4)
    with pytest.raises(InputError, match=r"'net\.2' gets no input at all in this batch: the cells below are silent"):
        enn.ei_init_(net, X)


def test_a_start_that_fails_leaves_no_hook_behind() -> None:
    net = model()
    with pytest.raises(InputError):
        enn.ei_init_(net, 0 * X)
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in net.modules())
    enn.ei_init_(net, X)
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in net.modules())


def test_negative_rates_are_caught_under_debug_alone() -> None:
    layer = enn.EILinear(6, 9)
    layer(X - 0.5)
    with eq.debug(), pytest.raises(InputError, match="rates of excitatory cells"):
        layer(X - 0.5)


def test_the_inner_path_with_random_feedback_needs_the_rate_factor() -> None:
    y = torch.arange(8) % 3
    eq.rules.make("fa", model(), example=X, inside="random").backward(X, y)
    with pytest.raises(InputError, match=r"net\.0\.weight_ei"):
        eq.rules.make("fa", model(scaling="gradient"), example=X, inside="random")


def test_empty_batches_and_silent_input_give_numbers() -> None:
    net = model()
    assert net(torch.zeros(0, 6)).shape == (0, 3)
    assert bool(net(torch.zeros(2, 6)).isfinite().all())
    net(torch.zeros(2, 6)).sum().backward()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in net.parameters())
