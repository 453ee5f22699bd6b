"""E-I Init over several batches, loaders and modules with chance: what it sets, and that it leaves the rest alone.

A failure here means a start that depends on how data come in batches, or a network changed elsewhere too.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import equipoise as eq
from equipoise import models
from equipoise import nn as enn
from equipoise.errors import InputError

X = torch.rand(24, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64) ** 2


def two_layers(kind: str) -> enn.OverTime:
    torch.manual_seed(0)
    if kind == "recurrent":
        hidden: list[nn.Module] = [enn.RecurrentEI(enn.EILinear(12, 16), enn.LIF(threshold=0.5), share=0.7)]
    else:
        hidden = [enn.EILinear(12, 16, inhibition="spiking"), enn.LIF(threshold=0.5)]
    return enn.OverTime(nn.Sequential(*hidden, enn.EILinear(16, 3, readout=True)), 4).double()


@pytest.mark.parametrize("kind", ["recurrent", "spiking"])
def test_all_that_is_set_is_pooled_over_batches(kind: str) -> None:
    """The mean drive and the rates too, which W_IR, W_EI and the unit of inhibitory spikes go by; dim batches differ."""
    x = X * torch.linspace(0.2, 1, 24, dtype=torch.float64)[:, None]
    one, many = two_layers(kind), two_layers(kind)
    a, b = enn.ei_init_(one, x), enn.ei_init_(many, [x[:9], x[9:13], x[13:]])
    assert a.rates == pytest.approx(b.rates, rel=1e-9)
    for name, value in one.state_dict().items():
        torch.testing.assert_close(
            many.state_dict()[name], value, rtol=1e-9, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}"
        )


class Counted:
    """Batches that note how many have been made."""

    def __init__(self) -> None:
        self.made = 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for rows in X.split(8):
            self.made += 1
            yield rows, torch.zeros(len(rows))


def test_a_loader_is_gone_through_again_and_an_iterator_is_kept() -> None:
    wanted, loaded, once, counted = (two_layers("recurrent") for _ in range(4))
    enn.ei_init_(wanted, list(X.split(8)))
    enn.ei_init_(loaded, DataLoader(TensorDataset(X, torch.zeros(24)), batch_size=8))
    enn.ei_init_(once, iter(X.split(8)))
    batches = Counted()
    enn.ei_init_(counted, batches)
    assert batches.made > 12, "batches are made anew for every pass, not kept"
    for other in (loaded, once, counted):
        for name, value in wanted.state_dict().items():
            assert torch.equal(other.state_dict()[name], value), name


@pytest.mark.parametrize("batches", [1, 3])
def test_the_rest_of_a_model_is_left_as_it_was(batches: int) -> None:
    """Dropout is off, no code is drawn from what training will draw, running statistics stay, and so does the mode."""
    reports = []
    for seed in (0, 1):
        net = nn.Sequential(
            *(nn.BatchNorm1d(12), enn.OnOff(), enn.EILinear(24, 16), enn.LIF(), nn.Dropout(0.5)),
            enn.EILinear(16, 3, readout=True),
        )
        model = enn.OverTime(net, 4, encoder="rate").double().train()
        net[2].eval()
        torch.manual_seed(seed)
        before = {n: b.clone() for n, b in model.named_buffers() if not n.endswith("initialised")}
        reports.append(enn.ei_init_(model, list(X.chunk(batches))))
        assert model.training
        assert net[4].training
        assert not net[2].training
        assert all(torch.equal(dict(model.named_buffers())[n], b) for n, b in before.items())
    assert reports[0].layers == reports[1].layers
    assert reports[0].rates == reports[1].rates


@pytest.mark.parametrize("encoder", ["rate", "latency"])
@pytest.mark.parametrize("what", ["signed", "bytes", "nan"])
def test_pixels_that_a_code_cannot_say_are_refused(encoder: str, what: str) -> None:
    x = {"signed": X.float() * 2 - 1, "bytes": X.float() * 255, "nan": X.float().log().sqrt()}[what][:, :6]
    model = models.make(f"spiking-mlp:6-5-3,encoder={encoder}")
    with pytest.raises(InputError, match=r"'encoder': (Rate|Latency) codes pixels in \[0, 1\]"):
        enn.ei_init_(model, x)
    model(x)
    with eq.debug(), pytest.raises(InputError, match="codes pixels"):
        model(x)


def test_what_is_no_batch_is_refused() -> None:
    with pytest.raises(InputError, match="tuple that begins with one, not dict"):
        enn.ei_init_(two_layers("recurrent"), [{"image": X}])


@pytest.mark.parametrize("layer", [lambda: enn.EILinear(6, 8, pool=2), lambda: enn.EIConv2d(6, 8, 1, pool=2)])
def test_weights_that_are_not_numbers_are_seen(layer: object) -> None:
    """NaN does not count as a silent cell, which would leave the bias and hide it."""
    made = layer()  # type: ignore[operator]
    h = torch.rand(3, 6) if isinstance(made, enn.EILinear) else torch.rand(3, 6, 2, 2)
    with torch.no_grad():
        made.gain_i[1] = torch.nan  # type: ignore[index]
    assert bool(made(h).isnan().all())
    assert torch.equal(eq.functional.stabilise(torch.tensor([2.0, 0.0, 1.0])), torch.tensor([2.0, 1.0, 1.0]))
    found = eq.functional.stabilise(torch.tensor([torch.nan, 1.0, 0.0]))
    assert found.isnan().tolist() == [True, False, True]
