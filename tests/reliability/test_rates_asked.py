"""An optimiser that gives every parameter one rate, where a circuit asks for another: a line that says so, once.

A failure here means inhibition that learns as many times too fast as a cell has inputs, and nobody told.
"""

from __future__ import annotations

import logging

import pytest
import torch
from torch import nn

from equipoise import nn as enn


def circuits() -> nn.Module:
    return nn.Sequential(enn.EILinear(8, 6), enn.EILinear(6, 4, scaling="gradient"), enn.EILinear(4, 3, readout=True))


def test_plain_parameters_are_warned_of_and_groups_are_not(caplog: pytest.LogCaptureFixture) -> None:
    model = circuits()
    with caplog.at_level(logging.WARNING, "equipoise"):
        enn.enforce(torch.optim.SGD(enn.param_groups(model, 0.1), lr=0.1), model)
        enn.enforce(torch.optim.Adam(nn.Linear(3, 3).parameters()), model)
        enn.enforce(torch.optim.SGD([model[1].weight_ei, model[1].weight], lr=0.1), model)  # type: ignore[index]
        assert caplog.messages == []
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        enn.enforce(optimizer, model)
        optimizer.step()
    (said,) = caplog.messages
    assert said.startswith("2 parameters share the learning rate of others")
    assert "'0.weight_ei' for 0.125 times" in said
    assert "nn.param_groups(model, lr)" in said
