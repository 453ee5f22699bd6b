"""The errata of the E-I spiking paper and its code: its version beside ours.

A failure here means that docs/errata.md accuses somebody wrongly, or that we have taken the error over.
"""

from __future__ import annotations

import copy
import math
import pickle
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise import functional as f
from equipoise import nn as enn
from equipoise.errors import InputError
from equipoise.train import Run

CLOSE = {"rtol": 1e-10, "atol": 1e-12}


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def spikes(*shape: int, rate: float = 0.3) -> Tensor:
    return (torch.rand(*shape, generator=source()) < rate).double()


def layer(inputs: int = 20, units: int = 12, **options: object) -> enn.EILinear:
    torch.manual_seed(0)
    return enn.EILinear(inputs, units, **options).double()  # type: ignore[arg-type, return-value]


def scales(x: Tensor) -> tuple[float, float]:
    """beta sqrt(d) and g_I sqrt(d), as the code has them: no look at what x is."""
    first, second = float(x.mean()), float(x.square().mean())
    within = float(x.var(0).mean())
    return math.sqrt(within / (second + within)), math.sqrt(second + within) / first


def test_s1_without_rectification_inhibitory_cells_send_less_than_nothing() -> None:
    ours, theirs = layer(), layer(rectify=False)
    torch.testing.assert_close(ours(spikes(50, 20)), theirs(spikes(50, 20)), **CLOSE)
    signed = torch.randn(50, 20, generator=source(), dtype=torch.float64)
    assert bool((signed @ theirs.weight_ie.T < 0).any())
    assert not torch.allclose(ours(signed), theirs(signed))


def test_s2_a_negative_mean_kills_the_layer() -> None:
    x = torch.randn(64, 20, generator=source(), dtype=torch.float64) - 0.2
    gain = scales(x)[1]
    assert gain < 0
    dead = layer(stabilise=False)
    with torch.no_grad():
        dead.gain_i.fill_(max(0.0, gain))  # type: ignore[union-attr]
    assert not bool(dead(spikes(5, 20)).isfinite().any())  # 0 divides; the code's stabiliser finds nothing else
    with pytest.raises(InputError, match="'EILinear': inputs of an E-I layer are rates"):
        enn.ei_init_(layer(), x)


def test_s3_a_rounding_error_divides_a_row() -> None:
    d = torch.tensor([[0.0, -1e-9, 0.5, 2.0]], dtype=torch.float64)
    theirs = torch.where(d == 0, d[d != 0].min(), d)
    assert float(theirs.min()) == -1e-9
    assert float((1 / theirs).abs().max()) == pytest.approx(1e9)
    assert f.stabilise(d).tolist() == [[0.5, 0.5, 0.5, 2.0]]


def test_s4_a_sample_as_a_whole_would_hear_its_future() -> None:
    d = torch.tensor([[[0.0, 4.0]], [[0.0, 1.0]]], dtype=torch.float64)  # (T, B, E), one sample
    least = torch.where(d > 0, d, math.inf).amin((0, 2), keepdim=True)
    whole = torch.where(d > 0, d, least)
    assert float(whole[0, 0, 0]) == 1.0  # from the second step
    assert float(f.stabilise(d)[0, 0, 0]) == 4.0
    assert float(f.stabilise(d[:1])[0, 0, 0]) == 4.0


def test_s5_pictures_are_no_spikes() -> None:
    """The moments are those of CIFAR-10's training pictures, d = 27."""
    first, second, within = 0.472, 0.286, 0.0615
    beta, gamma = f.ei_scales(first, second, within, 27)
    assert (beta, gamma) == (pytest.approx(0.0805, rel=0.02), pytest.approx(0.240, rel=0.02))
    assert f.binary_scales(first, 27)[1] / gamma == pytest.approx(1.44, abs=0.01)
    pixels = torch.rand(4000, 30, generator=source(), dtype=torch.float64) ** 2
    wide = enn.EILinear(30, 3000, ratio=1.0).double()
    enn.ei_init_(wide, pixels)
    with torch.no_grad():
        e = pixels @ wide.weight_ee.T
        d = (pixels @ wide.weight_ie.T * wide.gain_i) @ wide.weight_ei.T  # type: ignore[operator]
        wrong = f.binary_scales(float(pixels.mean()), 30)[1] / float(wide.gain_i[0])  # type: ignore[index]
    assert float(d.mean() / e.std()) == pytest.approx(1, abs=0.05)
    assert wrong > 1.3


@pytest.mark.parametrize("scale", [0.01, 7.0])
def test_s6_the_scale_of_excitation_leaves_no_trace_in_the_current(scale: float) -> None:
    one, other = layer(), layer()
    with torch.no_grad():
        other.weight.mul_(scale)
    torch.testing.assert_close(one(spikes(9, 20)), other(spikes(9, 20)), **CLOSE)
    gradients = []
    for circuit in (one, other):
        circuit(spikes(9, 20)).square().sum().backward()
        gradients.append(circuit.weight.grad)
    torch.testing.assert_close(gradients[0], scale * gradients[1], **CLOSE)  # type: ignore[operator]


def test_s7_a_fan_in_that_is_too_large_makes_division_too_weak() -> None:
    circuit, x = layer(512, 40), spikes(100, 512)
    enn.ei_init_(circuit, x)
    right = float(circuit.gain_i.detach()[0])  # type: ignore[union-attr]
    wrong = scales(x)[1] / math.sqrt(512 * 16)
    assert right / wrong == pytest.approx(4, rel=1e-6)
    assert circuit.rate_factors == {"weight_ei": 1 / 512}
    assert enn.EIConv2d(8, 4, 3).fan_in == 72


def test_s8_three_cells_without_inhibition_return_their_bias() -> None:
    units = 3
    assert units // 4 == 0
    nothing = torch.zeros(5, 0, dtype=torch.float64) @ torch.zeros(0, units, dtype=torch.float64)
    drive = spikes(5, 20) @ torch.rand(20, units, generator=source(), dtype=torch.float64)
    bias = torch.rand(units, generator=source(), dtype=torch.float64)
    stable = f.stabilise(nothing)  # silent throughout
    assert torch.equal((drive - nothing) / stable + bias, bias.expand(5, units))
    ours = layer(units=units)
    assert ours.pool == 1
    assert float(ours(spikes(5, 20)).detach().std(0).min()) > 0


class TheirLayer(nn.Module):
    """The code's way: a flag of its own, and a start in the first forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.initialised = nn.Parameter(torch.zeros(4, 20, dtype=torch.float64)), False

    def forward(self, x: Tensor) -> Tensor:
        if not self.initialised:
            with torch.no_grad():
                self.weight.exponential_()
            self.initialised = True
        return F.linear(x, self.weight)


def test_s9_loading_must_not_start_anew() -> None:
    x, theirs, ours = spikes(30, 20), TheirLayer(), layer()
    theirs(x)
    loaded = TheirLayer()
    loaded.load_state_dict(theirs.state_dict())
    assert not torch.equal(loaded(x), theirs(x))
    enn.ei_init_(ours, x)
    fresh = enn.EILinear(20, 12).double()
    fresh.load_state_dict(ours.state_dict())
    assert torch.equal(fresh(x), ours(x))
    assert bool(fresh.initialised)


def test_s10_a_hook_is_lost_by_copies() -> None:
    x, hooked, ours = spikes(30, 20), layer(scaling=None), layer(scaling="gradient")
    hooked.weight_ei.register_hook(lambda g: g / 20)

    def gradient(circuit: nn.Module) -> Tensor:
        circuit.zero_grad()
        circuit(x).square().sum().backward()
        return circuit.weight_ei.grad.clone()  # type: ignore[union-attr, operator]

    torch.testing.assert_close(gradient(hooked), gradient(ours), **CLOSE)
    torch.testing.assert_close(gradient(copy.deepcopy(hooked)), 20 * gradient(hooked), **CLOSE)
    for copied in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        torch.testing.assert_close(gradient(copied), gradient(ours), **CLOSE)
    assert enn.param_groups(copy.deepcopy(layer()), 1.0)[1]["lr"] == 1 / 20


def test_s11_the_first_step_is_nearly_twice_as_long() -> None:
    g, lr = torch.ones(3), 0.1
    buffer = g.clone()  # seeded with the gradient,
    buffer = 0.9 * buffer + g  # and updated at once
    weight = nn.Parameter(torch.zeros(3))
    weight.grad = g
    torch.optim.SGD([weight], lr=lr, momentum=0.9).step()
    torch.testing.assert_close(-lr * buffer, 1.9 * weight.detach())


def test_s12_folding_without_exchanging_the_axes_scrambles_samples() -> None:
    x = torch.arange(6.0).reshape(3, 2, 1)  # three samples, two frames
    theirs = x.flatten(0, 1).unflatten(0, (2, 3))  # taken for (T, B)
    assert theirs[:, 0].flatten().tolist() == [0.0, 3.0]  # the first sample's frames are 0 and 1
    model = enn.OverTime(nn.Identity(), 2, encoder=None)
    assert model.frames(x)[:, 0].flatten().tolist() == [0.0, 1.0]
    assert model(x).flatten().tolist() == [0.5, 2.5, 4.5]


def test_s13_the_readouts_inhibition_is_not_heard_at_first() -> None:
    x, y, readout = spikes(30, 20), torch.arange(30) % 5, layer(20, 5, readout=True)
    assert {n for n, _ in readout.named_parameters()} == {"weight", "weight_ei"}
    enn.ei_init_(readout, x)
    without = F.linear(x, readout.weight_ee)
    torch.testing.assert_close(readout(x).softmax(1), without.softmax(1), **CLOSE)
    F.cross_entropy(readout(x), y).backward()
    assert readout.weight.grad is not None
    assert float(readout.weight.grad[5:].abs().max()) < 1e-12
    with torch.no_grad():
        readout.weight_ei.mul_(1 + 0.1 * torch.rand(5, 1, generator=source(), dtype=torch.float64))
    readout.zero_grad()
    F.cross_entropy(readout(x), y).backward()
    assert float(readout.weight.grad[5:].abs().max()) > 1e-6


def test_s18_decay_that_is_not_divided_by_d_unbalances_the_currents() -> None:
    theirs, ours, lr, decay = layer(scaling="gradient"), layer(), 0.1, 0.01
    for circuit, share in ((theirs, 1.0), (ours, 1 / 20)):
        groups = enn.param_groups(circuit, lr)
        optimizer = torch.optim.SGD(groups, lr=lr, weight_decay=decay)
        for parameter in circuit.parameters():
            parameter.grad = torch.zeros_like(parameter)
        before = circuit.weight_ei.detach().clone()
        optimizer.step()
        torch.testing.assert_close(circuit.weight_ei.detach(), (1 - lr * decay * share) * before, **CLOSE)

    # VGG-8's schedule: warm-up to 2e-3 for 10 epochs, then a cosine to 0 at epoch 300, of 391 steps each.
    weight, buffer, warm, total = 1.0, 0.0, 10 * 391, 300 * 391
    for step in range(total):
        cosine = (1 + math.cos(math.pi * (step - warm) / (total - warm))) / 2
        buffer = 0.9 * buffer + 5e-4 * weight
        weight -= 2e-3 * (step / warm if step < warm else cosine) * buffer
    assert weight == pytest.approx(0.557, abs=0.005)

    # Smaller by a share, W_EI takes away less than excitation, and divides by less: the mean current rises.
    x, circuit = spikes(400, 500, rate=0.2), layer(500, 40)
    enn.ei_init_(circuit, x)
    balanced, gain = circuit(x).detach().mean(), float(circuit.gain_i.detach()[0])
    with torch.no_grad():
        circuit.weight_ei.mul_(0.95)
    assert abs(float(balanced)) < 0.2
    torch.testing.assert_close(circuit(x).detach().mean(), balanced / 0.95 + 0.05 / 0.95 / gain, **CLOSE)
    assert 0.05 / 0.95 / gain > 0.35


def test_s19_the_best_of_many_epochs_is_above_every_one_of_them() -> None:
    accuracy, images, epochs = 0.9486, 288, 300
    draws = torch.rand(200, epochs, images, generator=source()) < accuracy
    measured = draws.double().mean(2)
    assert float(measured.mean()) == pytest.approx(accuracy, abs=0.001)
    assert float(measured.amax(1).mean()) - accuracy > 0.03
    assert Run().select == "last"


def test_every_line_of_the_table_has_its_test(root: Path) -> None:
    named = re.findall(r"test_errata_spiking\.py::(test_\w+)", (root / "docs" / "errata.md").read_text())
    assert len(named) == 15
    for prefix in named:
        assert any(name.startswith(f"{prefix}_") for name in globals()), prefix
