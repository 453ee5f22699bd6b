"""What must hold of spiking cells, E-I currents and their start from data, whatever the numbers.

A failure here means that a layer breaks Dale's law, normalises less than it says, or starts where it should not.
"""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from equipoise import data, rules
from equipoise import functional as f
from equipoise import nn as enn

CLOSE = {"rtol": 1e-9, "atol": 1e-12}
SEED = st.integers(0, 10_000)


def source(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random(*shape: int, seed: int) -> Tensor:
    return torch.rand(*shape, generator=source(seed), dtype=torch.float64)


@settings(max_examples=30)
@given(seed=SEED, leak=st.floats(0, 1), threshold=st.floats(0.1, 3), reset=st.sampled_from(["soft", "hard"]))
def test_scaling_currents_and_thresholds_together_keeps_every_spike(
    seed: int, leak: float, threshold: float, reset: str
) -> None:
    x = 3 * random(12, 4, seed=seed) - 1
    s, v = f.lif(x, leak=leak, threshold=threshold, reset=reset)  # type: ignore[arg-type]
    twice, w = f.lif(4 * x, leak=leak, threshold=4 * threshold, reset=reset)  # type: ignore[arg-type]
    assert torch.equal(s, twice)
    torch.testing.assert_close(4 * v, w, **CLOSE)
    assert set(s.unique().tolist()) <= {0.0, 1.0}


@settings(max_examples=30)
@given(seed=SEED, cut=st.integers(1, 11))
def test_a_sequence_can_be_cut_anywhere(seed: int, cut: int) -> None:
    x = 3 * random(12, 4, seed=seed) - 1
    whole, last = f.lif(x)
    first, v = f.lif(x[:cut])
    second, end = f.lif(x[cut:], v)
    assert torch.equal(torch.cat([first, second]), whole)
    torch.testing.assert_close(end, last, **CLOSE)


@settings(max_examples=30)
@given(seed=SEED, scale=st.floats(1e-3, 1e3))
def test_the_current_does_not_depend_on_the_size_of_the_input_or_of_the_weights(seed: int, scale: float) -> None:
    """Division makes it so at any weights: E-I Init's beta sets learning rates alone."""
    torch.manual_seed(seed)
    layer = enn.EILinear(9, 8, pool=3).double()
    h = random(5, 9, seed=seed) * (random(5, 9, seed=seed + 1) < 0.5)
    z = layer(h)
    torch.testing.assert_close(layer(scale * h), z, **CLOSE)
    with torch.no_grad():
        layer.weight.mul_(scale)
    torch.testing.assert_close(layer(h), z, **CLOSE)


@settings(max_examples=20)
@given(seed=SEED)
def test_a_row_hears_no_other_row(seed: int) -> None:
    """Samples and time steps are stabilised each by itself, so a batch is its rows one by one."""
    torch.manual_seed(seed)
    layer = enn.EIConv2d(2, 8, 3, padding=1, pool=3).double()
    h = (random(6, 2, 4, 4, seed=seed) < 0.2).double()
    torch.testing.assert_close(layer(h), torch.cat([layer(row[None]) for row in h]), **CLOSE)


@settings(max_examples=20)
@given(rate=st.floats(0.01, 0.99), fan_in=st.integers(1, 5000))
def test_the_general_start_is_the_papers_for_spikes(rate: float, fan_in: int) -> None:
    beta, gamma = f.binary_scales(rate, fan_in)
    assert beta == pytest.approx(math.sqrt((1 - rate) / (fan_in * (2 - rate))), rel=1e-12)
    assert gamma == pytest.approx(math.sqrt((2 - rate) / (fan_in * rate)), rel=1e-12)


@settings(max_examples=15)
@given(units=st.integers(1, 40), ratio=st.sampled_from([1.0, 0.5, 0.25, 1 / 8, 1 / 16]))
def test_there_is_always_an_inhibitory_cell(units: int, ratio: float) -> None:
    layer = enn.EILinear(4, units, ratio=ratio)
    assert layer.pool == max(1, math.floor(units * ratio))
    assert f"n_i={layer.pool}" in repr(layer)
    torch.testing.assert_close(layer.weight_ei.sum(1), torch.ones(units))


def test_the_start_balances_means_and_spreads_on_average_over_weights() -> None:
    """E[I_EE] = E[I_sub] and E[I_div] = std(I_EE), over many cells, for spikes of probability 0.3."""
    h = (random(400, 200, seed=0) < 0.3).float()
    layer = enn.EILinear(200, 2000, ratio=1.0)
    report = enn.ei_init_(layer, h)
    assert report.layers[0].first == pytest.approx(float(h.mean()), rel=1e-5)
    assert report.layers[0].within == pytest.approx(float(h.var(0).mean()), rel=1e-5)
    with torch.no_grad():
        e, r = h @ layer.weight_ee.T, h @ layer.weight_ie.T
        s, d = r @ layer.weight_ei.T, (layer.gain_i * r) @ layer.weight_ei.T  # type: ignore[operator]
        assert float(s.mean() / e.mean()) == pytest.approx(1, abs=0.01)
        assert float(d.mean() / e.std()) == pytest.approx(1, abs=0.05)
        assert float(e.var()) == pytest.approx(report.layers[0].within, rel=0.1)


def deep(depth: int = 17, width: int = 100, steps: int = 4) -> enn.OverTime:
    parts: list[nn.Module] = []
    for k in range(depth - 1):
        parts += [enn.EILinear(64 if k == 0 else width, width), enn.LIF()]
    return enn.OverTime(nn.Sequential(*parts, enn.EILinear(width, 10, readout=True)), steps)


def digits(count: int = 256) -> tuple[Tensor, Tensor]:
    train = data.load("digits").train
    return train.images[:count].flatten(1).float() / 255, train.labels[:count]


def test_sixteen_layers_start_with_cells_that_spike_and_currents_in_balance() -> None:
    x, _ = digits()
    model = deep()
    report = enn.ei_init_(model, x)
    rates = list(report.rates.values())
    assert len(rates) == 16
    assert all(0.09 < rate < 0.3 for rate in rates)
    assert sum(rates) / 16 == pytest.approx(0.14, abs=0.03)
    currents: dict[str, Tensor] = {}
    layers = [m for m in model.modules() if isinstance(m, enn.EILinear) and not m.readout]
    for k, layer in enumerate(layers):
        layer.register_forward_hook(lambda m, a, y, k=k: currents.__setitem__(str(k), y.detach()))
    model(x)
    for current in currents.values():
        assert abs(float(current.mean())) < 0.3
        assert 0.6 < float(current.std()) < 1.4


def test_several_batches_are_one_large_one() -> None:
    x, _ = digits()
    one, many = deep(4).double(), deep(4).double()
    a = enn.ei_init_(one, x.double())
    b = enn.ei_init_(many, [x[:100].double(), x[100:130].double(), x[130:].double()])
    for first, second in zip(a.layers[:1], b.layers[:1], strict=True):
        assert first.within == pytest.approx(second.within, rel=1e-10)
    for (name, p), (_, q) in zip(one.named_parameters(), many.named_parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}")


def test_the_start_is_a_function_of_seed_and_name() -> None:
    x, _ = digits(64)
    weights = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(weights))
        model = deep(3)
        enn.ei_init_(model, x, seed=seed)
        weights.append([p.detach().clone() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(weights[0], weights[1], strict=True))
    assert not torch.equal(weights[0][0], weights[2][0])
    assert not torch.equal(weights[0][0][:10], weights[0][5][:10, :64])


@pytest.mark.parametrize(("rule", "lr"), [("bp", 0.01), ("fa", 0.006), ("dfa", 0.01)])
def test_a_small_chain_learns_under_every_rule_and_keeps_dales_law(rule: str, lr: float) -> None:
    x, y = digits()
    model = deep(3)
    enn.ei_init_(model, x)
    made = rules.make(rule, model, example=x[:4])
    optimizer = torch.optim.Adam(enn.param_groups(model, lr), lr=lr)
    enn.enforce(optimizer, model)
    losses = []
    for _ in range(40):
        losses.append(float(made.backward(x, y).loss))
        optimizer.step()
        optimizer.zero_grad()
        for name, parameter in model.named_parameters():
            assert name.endswith("bias") or bool((parameter >= 0).all())
    assert losses[-1] < 0.5 * losses[0]


def test_the_readouts_inhibition_has_no_gradient_at_first() -> None:
    """W_EI is uniform and the softmax's error sums to 0 over classes: the readout's W_IE gets nothing (paper's code)."""
    x, y = digits(64)
    model = deep(3)
    enn.ei_init_(model, x)
    rules.make("bp", model, example=x[:4]).backward(x, y)
    readout = model.net[-1]  # type: ignore[index]
    gradient = readout.weight.grad
    assert float(gradient[readout.units :].abs().max()) < 1e-6 < float(gradient[: readout.units].abs().max())
