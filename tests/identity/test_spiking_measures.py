"""What is measured of spiking networks, against numbers worked out by hand and laws whose moments are known.

A failure here means that a firing rate, a silent unit, a current or a bimodality in a table is not what its name says.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from equipoise import measure, models, rules
from equipoise import nn as enn

T = 6


class _Rule:
    """All that these measures need of a rule."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model


def _net(weight: Tensor) -> Any:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight.data = weight
    return enn.OverTime(nn.Sequential(layer, enn.LIF(), nn.Linear(weight.shape[0], 2)), T)


def _by_hand(current: float) -> int:
    """Spikes of one cell in T steps: h = v / 2 + current, a spike from 1 on, which takes 1 away."""
    v, spikes = 0.0, 0
    for _ in range(T):
        h = v / 2 + current
        spikes += h >= 1
        v = h - (h >= 1)
    return spikes


def test_rates_silence_and_currents_are_those_of_cells_counted_by_hand() -> None:
    weight = torch.tensor([[0.6], [1.3], [0.2]])
    x = torch.tensor([[1.0], [0.5]])
    found = measure.spiking(_Rule(_net(weight)), x, torch.zeros(2))
    currents = [w * v for v in (1.0, 0.5) for w in (0.6, 1.3, 0.2)]
    total = sum(_by_hand(c) for c in currents)
    assert 0 < total < T * len(currents)
    assert found["spikes/net.1"] == found["spikes"] == pytest.approx(total / (T * len(currents)))
    silent = sum(all(_by_hand(w * v) == 0 for v in (1.0, 0.5)) for w in (0.6, 1.3, 0.2))
    assert found["silent/net.1"] == pytest.approx(silent / 3)
    assert silent == 1
    mean = math.fsum(currents) / 6
    assert found["current/net.1"] == pytest.approx(mean)
    assert found["spread/net.1"] == pytest.approx(math.sqrt(math.fsum((c - mean) ** 2 for c in currents) / 6))


def test_the_whole_networks_rate_counts_every_cell_once() -> None:
    first, second = nn.Linear(1, 4, bias=False), nn.Linear(4, 1, bias=False)
    first.weight.data.fill_(1.5)
    second.weight.data.zero_()
    net = enn.OverTime(nn.Sequential(first, enn.LIF(), second, enn.LIF()), T)
    found = measure.spiking(_Rule(net), torch.ones(3, 1), torch.zeros(3))
    assert found["spikes/net.1"] == pytest.approx(_by_hand(1.5) / T)
    assert found["spikes/net.3"] == 0
    assert found["spikes"] == pytest.approx(4 / 5 * _by_hand(1.5) / T)


def test_a_channel_counts_as_one_unit() -> None:
    conv = nn.Conv2d(1, 2, 1, bias=False)
    conv.weight.data = torch.tensor([2.0, 0.1]).view(2, 1, 1, 1)
    net = enn.OverTime(nn.Sequential(conv, enn.LIF(), nn.Flatten(), nn.Linear(12, 2)), T)
    x = torch.zeros(1, 1, 2, 3)
    x[0, 0, 0, 0] = 1
    found = measure.spiking(_Rule(net), x, torch.zeros(1))
    assert found["silent/net.1"] == 0.5


def test_recurrent_layers_have_rates_and_no_currents_of_their_own() -> None:
    model = models.make("spiking-mlp:6-5-3,steps=4,recurrent=yes")
    x = torch.rand(8, 6)
    enn.ei_init_(model, x)
    found = measure.spiking(_Rule(model), x, torch.zeros(8))
    assert [name for name in found if "/" in name] == ["spikes/net.1", "silent/net.1"]


def test_bimodality_of_laws_whose_moments_are_known() -> None:
    u = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    assert measure.bimodality(u) == pytest.approx(5 / 9, abs=1e-4)
    assert measure.bimodality(-torch.log(u)) == pytest.approx(5 / 9, abs=2e-2)
    assert measure.bimodality(torch.special.ndtri(u)) == pytest.approx(1 / 3, abs=1e-3)
    for share in (0.1, 0.5):
        assert measure.bimodality((u < share).float()) == pytest.approx(1)
    assert math.isnan(measure.bimodality(torch.ones(5)))


def test_a_histogram_has_every_entry_once_where_it_belongs() -> None:
    from equipoise.measure.spiking import histogram

    values = torch.cat([torch.full((90,), -1.0), torch.full((10,), 9.0)])
    shares = histogram(values)
    # Mean 0, deviation 3: the points lie at -1/3 and 3 deviations, in bins of a quarter from -4.
    assert {k: share for k, share in enumerate(shares) if share} == {14: pytest.approx(0.9), 28: pytest.approx(0.1)}
    assert sum(histogram(torch.randn(1000).exp())) == pytest.approx(1)
    assert not any(histogram(torch.ones(4)))


def test_synapses_tell_weights_and_zeros_by_layer() -> None:
    model = models.make("spiking-mlp:6-8-3,steps=2")
    layer: Any = model.get_submodule("net.1")
    with torch.no_grad():
        layer.weight_ei.zero_()
        layer.weight[: layer.units, 0] = 0
    found = measure.synapses(_Rule(model), torch.rand(4, 6), torch.zeros(4))
    assert found["ei_zero/net.1"] == 1
    assert found["ee_zero/net.1"] == pytest.approx(1 / 6)
    assert found["ie_mean/net.1"] == pytest.approx(float(layer.weight[8:].detach().mean()))
    assert sum(found[f"ee_bin/net.1/{k}"] for k in range(32)) == pytest.approx(1)
    assert "ee_mean/net.3" in found
    assert "current_bin/net.2/0" in found
    assert "current_bin/net.3/0" not in found


def test_the_surrogate_angle_is_a_mean_over_hidden_weights_from_below() -> None:
    model = models.make("spiking-mlp:6-8-8-3,steps=3")
    x, y = torch.rand(16, 6), torch.arange(16) % 3
    enn.ei_init_(model, x)
    own: Any = rules.make("bp", model, example=x)
    assert measure.surrogate(own, x, y)["surrogate"] == pytest.approx(0, abs=0.1)
    fa: Any = rules.make("fa", model, example=x)
    found = measure.surrogate(fa, x, y)
    hidden = [found["surrogate/net.1.weight"], found["surrogate/net.3.weight"]]
    assert found["surrogate"] == pytest.approx(sum(hidden) / 2)
    assert min(hidden) > 1
    assert found["surrogate/net.5.weight"] == pytest.approx(0, abs=0.1)


def test_measures_leave_no_trace_and_say_nothing_of_other_networks() -> None:
    model = models.make("spiking-mlp:6-8-3,steps=2,norm=batch")
    before = {name: item.clone() for name, item in model.state_dict().items()}
    model.train()
    measure.spiking(_Rule(model), torch.rand(4, 6), torch.zeros(4))
    assert model.training
    assert all(torch.equal(before[name], item) for name, item in model.state_dict().items())
    plain = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    for function in (measure.spiking, measure.synapses):
        assert function(_Rule(plain), torch.rand(2, 3), torch.zeros(2)) == {}
