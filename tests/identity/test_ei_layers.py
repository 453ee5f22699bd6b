"""E-I layers against their equations written out cell by cell, each switch, streaming, and the paper's start.

A failure here means that a spiking network computes, or starts from, something other than the documentation says.
"""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise import functional as f
from equipoise import nn as enn

CLOSE = {"rtol": 1e-10, "atol": 1e-12}


def seeded(build: object, seed: int = 0) -> nn.Module:
    """A layer in float64, every weight off its starting value and inside its constraint."""
    torch.manual_seed(seed)
    made = build().double()  # type: ignore[operator]
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(1 + 0.3 * torch.rand_like(parameter)).add_(0.01 * torch.rand_like(parameter))
    return made


def spikes(*shape: int, rate: float = 0.4) -> Tensor:
    g = torch.Generator().manual_seed(1)
    return (torch.rand(*shape, generator=g) < rate).double()


@torch.no_grad()
def by_hand(layer: enn.EILinear, h: Tensor) -> Tensor:
    """z row by row and cell by cell, for h (rows, I)."""
    out = []
    for row in h:
        excitation = [float(w @ row) for w in layer.weight_ee]
        sent = [max(0.0, float(w @ row)) for w in layer.weight_ie]
        take = [sum(float(w) * r for w, r in zip(ws, sent, strict=True)) for ws in layer.weight_ei]
        if layer.readout:
            out.append([e - s for e, s in zip(excitation, take, strict=True)])
            continue
        assert layer.gain is not None
        assert layer.bias is not None
        terms = list(zip(excitation, take, layer.gain.tolist(), layer.bias.tolist(), strict=True))
        if layer.gain_i is None:
            out.append([g * (e - s) + b for e, s, g, b in terms])
            continue
        gains = layer.gain_i.tolist()
        divide = [sum(float(w) * g * r for w, g, r in zip(ws, gains, sent, strict=True)) for ws in layer.weight_ei]
        least = min((d for d in divide if d > 0), default=math.inf)
        divide = [d if d > 0 else least for d in divide]
        subtract = 1.0 if layer.subtractive else 0.0
        out.append([g * (e - subtract * s) / d + b for (e, s, g, b), d in zip(terms, divide, strict=True)])
    return torch.tensor(out, dtype=torch.float64)


KINDS: dict[str, dict] = {
    "full": {"pool": 3},
    "readout": {"readout": True},
    "no_division": {"divisive": False},
    "no_subtraction": {"subtractive": False},
    "one_cell": {"pool": 1},
    "as_many": {"ratio": 1.0},
    "unrectified": {"rectify": False},
    "not_straight": {"straight": False},
    "scaled": {"scaling": "gradient"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_cell_by_cell(kind: str) -> None:
    layer = seeded(lambda: enn.EILinear(9, 7, **KINDS[kind]))
    h = spikes(5, 9)
    h[2] = 0
    assert isinstance(layer, enn.EILinear)
    torch.testing.assert_close(layer(h), by_hand(layer, h), **CLOSE)
    torch.testing.assert_close(layer(h.reshape(5, 1, 9)), by_hand(layer, h)[:, None], **CLOSE)


@pytest.mark.parametrize("kind", KINDS)
def test_a_convolution_is_the_linear_layer_on_patches(kind: str) -> None:
    conv = seeded(lambda: enn.EIConv2d(3, 7, 3, stride=2, padding=1, **KINDS[kind]))
    h = spikes(4, 3, 6, 6)
    h[1] = 0
    patches = F.unfold(h, 3, stride=2, padding=1).transpose(1, 2)  # (4, 9 positions, 27)
    cells = F.linear(patches, conv.weight.flatten(1))
    e, r = cells.split([7, conv.pool], -1)  # type: ignore[arg-type]
    r = r.relu()
    s = r @ conv.weight_ei.T
    z = e - s if KINDS[kind].get("subtractive", True) else e
    if conv.gain_i is not None:
        d = (conv.gain_i * r) @ conv.weight_ei.T
        z = z / f.stabilise(d.flatten(1)).reshape(d.shape)  # one row a sample: positions and channels together
    z = z if conv.gain is None else z * conv.gain + conv.bias
    torch.testing.assert_close(conv(h), z.transpose(1, 2).reshape(4, 7, 3, 3), **CLOSE)


def test_without_stabilisation_zeros_divide() -> None:
    layer = seeded(lambda: enn.EILinear(9, 7, stabilise=False))
    h = spikes(5, 9)
    torch.testing.assert_close(layer(h), by_hand(layer, h), **CLOSE)  # type: ignore[arg-type]
    assert not bool(layer(torch.zeros(2, 9, dtype=torch.float64)).isfinite().any())


def test_what_is_switched_off_has_no_parameter() -> None:
    names = {n: {p for p, _ in enn.EILinear(9, 7, **o).named_parameters()} for n, o in KINDS.items()}
    assert names["full"] == {"weight", "weight_ei", "gain_i", "gain", "bias"}
    assert names["readout"] == {"weight", "weight_ei"}
    assert names["no_division"] == names["full"] - {"gain_i"}
    for options in KINDS.values():
        layer = seeded(lambda options=options: enn.EILinear(9, 7, **options))
        layer(spikes(5, 9)).square().sum().backward()
        assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in layer.parameters())


def test_rectification_matters_for_signed_input_alone() -> None:
    layer, bare = (seeded(lambda r=r: enn.EILinear(9, 7, pool=5, rectify=r)) for r in (True, False))
    h = spikes(5, 9)
    torch.testing.assert_close(layer(h), bare(h), **CLOSE)
    assert not torch.allclose(layer(h - 0.5), bare(h - 0.5))


def gradients(layer: nn.Module, h: Tensor) -> dict[str, Tensor]:
    layer.zero_grad()
    y = layer(h)
    (y * torch.linspace(-1, 2, y.numel(), dtype=y.dtype).reshape(y.shape)).sum().backward()
    return {n: p.grad.clone() for n, p in layer.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("build", [lambda **o: enn.EILinear(18, 7, **o), lambda **o: enn.EIConv2d(2, 7, 3, **o)])
def test_the_literal_scaling_divides_the_gradient_of_one_weight_by_the_fan_in(build: object) -> None:
    h = spikes(5, 18) if build(scaling=None).unit_dim == -1 else spikes(5, 2, 6, 6)  # type: ignore[operator]
    plain = gradients(seeded(lambda: build(scaling=None)), h)  # type: ignore[operator]
    literal = gradients(seeded(lambda: build(scaling="gradient")), h)  # type: ignore[operator]
    factor = seeded(lambda: build(scaling="rate"))  # type: ignore[operator]
    for name, gradient in gradients(factor, h).items():
        torch.testing.assert_close(gradient, plain[name], **CLOSE)
        torch.testing.assert_close(literal[name], gradient / (18 if name == "weight_ei" else 1), **CLOSE)
    assert factor.rate_factors == {"weight_ei": 1 / 18}


def test_both_scalings_are_one_step_of_plain_sgd() -> None:
    h, models = spikes(5, 9), []
    for scaling in ("rate", "gradient"):
        layer = seeded(lambda s=scaling: enn.EILinear(9, 7, scaling=s))
        optimizer = torch.optim.SGD(enn.param_groups(layer, lr=0.1), lr=0.1)
        gradients(layer, h)
        optimizer.step()
        models.append(layer)
    for (name, a), (_, b) in zip(models[0].named_parameters(), models[1].named_parameters(), strict=True):
        torch.testing.assert_close(a, b, **CLOSE, msg=lambda m, n=name: f"{n}: {m}")


def chain(steps: int = 4, **options: object) -> enn.OverTime:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Sequential(enn.EIConv2d(2, 6, 3, padding=1, **options), enn.LIF(), nn.AvgPool2d(2)),  # type: ignore[arg-type]
        nn.Flatten(),
        enn.EILinear(24, 8, **options),  # type: ignore[arg-type]
        enn.LIF(reset="hard"),
        enn.EILinear(8, 3, readout=True),
    )
    return enn.OverTime(net, steps).double()


@pytest.mark.parametrize("options", [{}, {"inhibition": "spiking", "tau_inhibitory": 1.5}])
def test_streaming_a_network_equals_its_whole_sequence(options: dict) -> None:
    x = torch.rand(5, 6, 2, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    model = chain(steps=6, **options)
    model.encoder = None
    states, total = None, torch.zeros(5, 3, dtype=torch.float64)
    for t in range(6):
        y, states = model.stream(x[:, t], states)
        total += y / 6
    torch.testing.assert_close(model(x), total, **CLOSE)


def test_recurrent_inhibition_of_no_strength_is_none() -> None:
    torch.manual_seed(0)
    layer, neuron = enn.EILinear(9, 7, pool=3).double(), enn.LIF()
    back = enn.RecurrentEI(layer, neuron).double()
    x = torch.rand(5, 9, dtype=torch.float64)
    plain = enn.OverTime(nn.Sequential(layer, neuron), 4)
    recurrent = enn.OverTime(back, 4)
    torch.testing.assert_close(recurrent(x), plain(x), **CLOSE)
    with torch.no_grad():
        back.weight_ir.fill_(3.0)
        layer.bias.fill_(0.7)  # type: ignore[union-attr]
    assert 0 < float(recurrent(x).detach().sum()) != float(plain(x).detach().sum())
    h = torch.rand(4, 5, 9, dtype=torch.float64)
    s, v, out = torch.zeros(5, 7).double(), torch.zeros(5, 7).double(), []
    for t in range(4):  # cell by cell would be the same; what is at stake is the delay
        e, i = h[t] @ layer.weight_ee.T, h[t] @ layer.weight_ie.T + s @ back.weight_ir.T
        current = f.ei_current(e, i @ layer.weight_ei.T, (layer.gain_i * i) @ layer.weight_ei.T, layer.gain, layer.bias)  # type: ignore[operator]
        s, v = f.lif_step(current, v)
        out.append(s)
    assert torch.equal(back(h.flatten(0, 1)), torch.cat(out))


def test_inhibitory_cells_without_leak_pass_on_what_arrives() -> None:
    """sum_t of what they send = sum_t of what arrives, less what is still in the membrane: below one unit."""
    torch.manual_seed(0)
    layer = enn.EILinear(9, 8, pool=4, inhibition="spiking", tau_inhibitory=math.inf).double()
    assert layer.cells is not None
    layer.cells.steps = 50
    layer.cells.unit.fill_(0.7)
    drive = 0.6 * torch.rand(50 * 3, 4, dtype=torch.float64)
    sent = layer.cells(drive)
    rest = drive.unflatten(0, (50, 3)).sum(0) - sent.unflatten(0, (50, 3)).sum(0)
    assert bool(((rest >= 0) & (rest < 0.7)).all())
    assert set(sent.unique().tolist()) == {0.0, 0.7}


def test_encoders_by_hand() -> None:
    x = torch.tensor([[0.0, 0.5, 1.0]])
    assert f.direct_code(x, 2).tolist() == [[[0.0, 0.5, 1.0]]] * 2
    assert f.latency_code(x, 5).argmax(0).tolist() == [[0, 2, 0]]
    assert f.latency_code(x, 5).sum(0).tolist() == [[0, 1, 1]]
    noise = torch.tensor([[[0.0, 0.4, 0.99]], [[0.0, 0.5, 0.0]]])
    assert f.rate_code(x, noise).tolist() == [[[0, 1, 1]], [[0, 0, 1]]]
    rates = enn.Rate(4000, seed=1)(torch.tensor([[0.1, 0.9]])).mean(0)
    torch.testing.assert_close(rates, torch.tensor([[0.1, 0.9]]), atol=0.02, rtol=0)
