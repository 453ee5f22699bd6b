"""Operations counted on real activity, against loops over every spike, numbers worked out by hand, and published ones.

A failure here means that a network's energy is stated wrongly: spikes that are missed, counted twice or at a wrong price.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from equipoise import measure, models, rules
from equipoise import nn as enn
from equipoise.contracts import Pointwise, Synapses
from equipoise.errors import InputError
from equipoise.measure import Energies, operations


def spikes(*shape: int, rate: float = 0.3, seed: int = 0) -> Tensor:
    return (torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < rate).float()


# Millions of multiply-accumulates a picture and step, CIFAR-10: W_EE, W_IE, both products of W_EI (E-I spiking paper).
PUBLISHED = {
    "spiking-vgg:3x32x32-10,depth=8": (67.8, 17.0, 8.9),
    "spiking-vgg:3x32x32-10,depth=11": (152.8, 38.2, 13.6),
    "spiking-vgg:3x32x32-10,depth=16": (313.2, 78.3, 22.5),
    "spiking-vgg:3x32x32-10,depth=19": (398.1, 99.5, 27.3),
    "spiking-resnet:3x32x32-10": (555.4, 138.9, 41.9),
}


@pytest.mark.parametrize("text", PUBLISHED)
def test_the_published_products(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for layer in (enn.EIConv2d, enn.EILinear):
        monkeypatch.setattr(layer, "reset_parameters", lambda self: [p.data.fill_(0.01) for p in self.parameters()])
    found = operations(models.make(f"{text},steps=1"), torch.rand(1, 3, 32, 32))
    counts = [found.total("pairs", part="ee"), found.total("pairs", part="ie"), found.total("macs", part="ei")]
    assert [round(count / 1e6, 1) for count in counts] == list(PUBLISHED[text])


def by_loop(h: Tensor, cells: int, kernel: int, stride: int, padding: int) -> int:
    """Cells that the spikes of h (B, C, H, W) reach, one spike and one position after the other."""
    side = (h.shape[-1] + 2 * padding - kernel) // stride + 1
    reached = 0
    for _, _, y, x in h.nonzero().tolist():
        for row in range(side):
            for column in range(side):
                inside = 0 <= y + padding - row * stride < kernel and 0 <= x + padding - column * stride < kernel
                reached += cells * inside
    return reached


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 1, 1), (3, 2, 1), (1, 2, 0), (2, 1, 0)])
def test_accumulates_are_the_cells_that_each_spike_reaches(kernel: int, stride: int, padding: int) -> None:
    h = spikes(2, 3, 6, 6)
    reached = by_loop(h, 5, kernel, stride, padding) / 2
    conv = nn.Sequential(nn.Conv2d(3, 5, kernel, stride, padding))
    found = operations(conv, h)
    assert (found.total("accumulates"), found.total("macs")) == (reached, 0)
    circuit = enn.EIConv2d(3, 5, kernel, stride=stride, padding=padding, pool=2)
    found = operations(circuit, h)
    assert found.total("accumulates", part="ee") == reached
    assert found.total("accumulates", part="ie") == pytest.approx(reached * 2 / 5)


def test_groups_reach_their_own_cells_alone() -> None:
    h = spikes(2, 4, 5, 5)
    found = operations(nn.Sequential(nn.Conv2d(4, 6, 3, groups=2)), h)
    assert found.total("accumulates") == by_loop(h, 3, 3, 1, 0) / 2
    assert found.total("pairs") == 6 * 9 * 2 * 9


def test_analog_input_takes_a_multiply_accumulate_a_pair() -> None:
    found = operations(nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 2)), torch.rand(3, 7))
    assert [(one.layer, one.macs, one.accumulates, one.rate) for one in found.parts] == [
        ("0", 35, 0, None),
        ("2", 10, 0, None),
    ]


def test_a_circuits_arithmetic_cell_by_cell() -> None:
    """n_e = 8, n_i = 2, 6 inputs, one row: gains of 2 + 8 cells, 8 divisions, 8 differences, 8 biases; W_EI twice."""
    found = operations(enn.EILinear(6, 8), torch.rand(4, 6))
    assert {one.part: one.macs for one in found.parts} == {"ee": 48, "ie": 12, "ei": 32, "gains": 0}
    totals = [found.total(what) for what in ("accumulates", "multiplications", "divisions")]
    assert totals == [16, 10, 8]
    assert found.total("energy") == pytest.approx(92 * 4.6 + 16 * 0.9 + 10 * 3.7 + 8 * 26.3)
    only = operations(enn.EILinear(6, 8, divisive=False), torch.rand(4, 6))
    assert [only.total(w) for w in ("macs", "accumulates", "multiplications", "divisions")] == [76, 16, 8, 0]
    readout = operations(enn.EILinear(6, 8, readout=True), torch.rand(4, 6))
    assert [readout.total(w) for w in ("macs", "accumulates", "multiplications", "divisions")] == [76, 8, 0, 0]
    alone = operations(enn.EILinear(6, 8, subtractive=False), torch.rand(4, 6))
    assert [alone.total(w) for w in ("macs", "accumulates", "multiplications", "divisions")] == [76, 8, 10, 8]
    dann = operations(enn.DANNLinear(6, 8, pool=2), torch.rand(4, 6))
    assert [dann.total(w) for w in ("macs", "accumulates", "multiplications", "divisions")] == [92, 16, 10, 8]


class Known(nn.Module):
    """Cells that fire as they are told."""

    steps = 1

    def __init__(self, fire: Tensor) -> None:
        super().__init__()
        self.fire = fire

    def sequence(self, x: Tensor) -> Tensor:
        return self.fire

    def step(self, x: Tensor) -> None: ...

    def forward(self, x: Tensor) -> Tensor:
        return self.fire.clone()


@pytest.mark.parametrize("pool", [nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(2)])
def test_spikes_that_were_pooled_or_added_are_counted_one_by_one(pool: nn.Module) -> None:
    fire = spikes(3, 2, 4, 4)
    chain = nn.Sequential(Known(fire), pool, nn.Flatten(), nn.Linear(8, 5))
    assert operations(chain, torch.rand(3, 9)).total("accumulates", "3") == pytest.approx(float(fire.sum()) * 5 / 3)

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.read = Known(fire), Known(spikes(3, 2, 4, 4, seed=1)), nn.Linear(32, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.read(torch.flatten(self.one(x) + self.two(x), 1))

    both = float(fire.sum() + spikes(3, 2, 4, 4, seed=1).sum())
    assert operations(Twice(), torch.rand(3, 9)).total("accumulates", "read") == pytest.approx(both * 5 / 3)


def test_spikes_that_meet_analog_values_are_no_spikes() -> None:
    fire = spikes(3, 6)

    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cells, self.read = Known(fire), nn.Linear(6, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.read(self.cells(x) + x)

    found = operations(Mixed(), torch.rand(3, 6))
    assert found.total("macs", "read") == 30
    assert found.total("accumulates", "read") == 0


@pytest.mark.parametrize("text", ["spiking-vgg:1x16x16-3,width=0.05", "spiking-vgg:1x16x16-3,width=0.05,norm=batch"])
def test_a_networks_accumulates_are_its_spikes_times_their_reach(text: str) -> None:
    model, x = models.make(text), torch.rand(3, 1, 16, 16)
    if "batch" not in text:
        enn.ei_init_(model, x)
    heard: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, (nn.Conv2d, enn.EIConv2d)):
            module.register_forward_pre_hook(lambda m, a, name=name: heard.update({name: a[0]}))  # type: ignore[misc]
    found = operations(model, x)
    first, *rest = heard
    for name in rest:
        layer: Any = dict(model.named_modules())[name]
        units = layer.units if isinstance(layer, enn.EIConv2d) else layer.out_channels
        quarters = [torch.where(heard[name] >= level / 4, 1.0, 0.0) for level in (1, 2, 3, 4)]  # a spike each
        reached = sum(by_loop(one, units, 3, 1, 1) for one in quarters) / 3
        part = "ee" if isinstance(layer, enn.EIConv2d) else "product"
        assert found.total("accumulates", name, part) == pytest.approx(reached)
        assert found.total("macs", name, part) == 0
    assert found.total("accumulates", first, "ee") == 0


def test_a_still_picture_meets_its_first_layer_once() -> None:
    x = torch.rand(2, 1, 8, 8)
    still, frames = (models.make(f"spiking-vgg:1x8x8-3,width=0.1,steps=3,encoder={e}") for e in ("direct", "frames"))
    once, moving = operations(still, x), operations(frames, torch.rand(2, 3, 1, 8, 8))
    for what in ("macs", "multiplications", "divisions"):
        assert moving.total(what, "net.0") == pytest.approx(3 * once.total(what, "net.0"))
    assert moving.total("pairs", "net.3") == once.total("pairs", "net.3")
    cells = moving.total("macs", "net.1")
    assert cells == once.total("macs", "net.1") == 3 * 6 * 64  # a leak each step, channel and pixel


def test_inhibitory_cells_that_spike_accumulate_too() -> None:
    model, x = models.make("spiking-mlp:9-8-3,inhibition=spiking,steps=5"), torch.rand(4, 9)
    enn.ei_init_(model, x)
    sent: list[Tensor] = []
    layer = next(m for m in model.modules() if isinstance(m, enn.EILinear))
    layer.cells.register_forward_hook(lambda m, a, y: sent.append(y))  # type: ignore[union-attr, arg-type]
    found = operations(model, x)
    assert found.total("accumulates", "net.1", "ei") == pytest.approx(float((sent[0] > 0).sum()) * 2 * 8 / 4)
    assert found.total("macs", "net.1", "ei") == 0


def test_a_path_back_carries_the_spikes_of_all_steps_but_the_last() -> None:
    model, x = models.make("spiking-mlp:9-8-3,recurrent=yes,steps=5"), torch.rand(4, 9)
    enn.ei_init_(model, x)
    made: list[Tensor] = []
    layer = next(m for m in model.modules() if isinstance(m, enn.RecurrentEI))
    layer.register_forward_hook(lambda m, a, y: made.append(y))  # type: ignore[arg-type]
    found = operations(model, x)
    assert found.total("accumulates", "net.1", "ir") == pytest.approx(float(made[0][:16].sum()) * 2 / 4)
    assert found.total("macs", "net.1", "cells") == 5 * 8


def test_counting_leaves_no_trace_and_weights_it_misses_are_named() -> None:
    model, x = models.make("spiking-vgg:1x8x8-3,width=0.1,norm=batch,encoder=rate").train(), torch.rand(3, 1, 8, 8)
    before = copy.deepcopy(model.state_dict())
    found = operations(model, x)
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert found.uncounted == ()
    assert found.total("macs", "net.0") == 0  # coded pixels are spikes
    odd = nn.Sequential(nn.Linear(4, 4), nn.Bilinear(4, 4, 2))
    odd.forward = lambda x: odd[1](odd[0](x), x)  # type: ignore[method-assign]
    missed = operations(odd, torch.rand(3, 4))
    assert missed.uncounted == ("1.weight",)
    assert "Not counted" in str(missed)


def test_a_layer_of_ones_own_says_what_it_costs() -> None:
    class Squares(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3, 4))

        def forward(self, x: Tensor) -> Tensor:
            return (x * x) @ self.weight.t()

        def work(self, input: Tensor, output: Tensor) -> Iterator[Synapses | Pointwise]:
            yield Synapses("squares", input, 3, 4, lambda counts: counts.sum(-1))
            yield Pointwise("powers", multiplications=input.numel())

    found = operations(nn.Sequential(Squares()), torch.rand(5, 4))
    assert (found.total("macs"), found.total("multiplications"), found.uncounted) == (12, 4, ())
    assert found.layers == ["0"]
    events = spikes(5, 4)
    assert operations(nn.Sequential(Squares()), events).total("accumulates") == pytest.approx(
        float(events.sum()) * 3 / 5
    )


def test_prices_can_be_given_and_are_checked() -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    dear = operations(model, torch.rand(3, 4), energies=Energies(mac=10))
    assert dear.total("energy") == 160
    with pytest.raises(InputError, match="the energy of a division is 0 pJ"):
        Energies(division=0)
    with pytest.raises(InputError, match="holds no sample"):
        operations(model, torch.rand(0, 4))


def test_a_run_can_follow_it() -> None:
    model, x = models.make("spiking-mlp:9-8-3"), torch.rand(4, 9)
    rule: Any = rules.make("bp", model, example=x)
    found = measure.measures["operations"](rule, x, torch.arange(4) % 3)
    whole = operations(model, x)
    assert found["energy"] == pytest.approx(whole.total("energy") / 1e3)
    assert found["energy"] == pytest.approx(sum(v for k, v in found.items() if k.startswith("energy/")))
    assert found["accumulates"] == whole.total("accumulates")
    shown = str(whole).splitlines()
    assert [line.split()[0] for line in shown[:6]] == ["layer", "net.1", "net.2", "net.3", "all", "A"]
