"""Spiking networks by a text: their layers, their parameters counted by hand and against published counts.

A failure here means that a name builds another network than it says, or that E-I networks and their twins differ in
more than their normalisation.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from equipoise import models, rules
from equipoise import nn as enn
from equipoise.errors import InputError
from equipoise.models.spiking_resnet import SpikeAdd
from equipoise.nn.spiking import folded

# Published counts (E-I spiking paper, its program); a readout's gains and bias (n_i + 2 classes), which never learn
# anything there, do not exist here.
PUBLISHED_EI = {8: 5_048_714, 11: 11_834_570, 16: 18_856_378, 19: 25_642_234}
PUBLISHED_BATCH = {16: 14_724_042, 19: 20_035_018}
DEAD = 2 + 2 * 10


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights are counted, not drawn."""
    for layer in (enn.EIConv2d, enn.EILinear, nn.Conv2d, nn.Linear):
        monkeypatch.setattr(layer, "reset_parameters", lambda self: None)


def size(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("depth", PUBLISHED_EI)
def test_a_vgg_has_the_published_parameters_but_for_the_dead_ones(depth: int) -> None:
    network = models.spiking_vgg(f"3x32x32-10,depth={depth}")
    assert size(network) == PUBLISHED_EI[depth] - DEAD
    assert sum(isinstance(m, enn.EIConv2d) for m in network.modules()) == {8: 5, 11: 8, 16: 13, 19: 16}[depth]


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("depth", PUBLISHED_BATCH)
def test_its_twin_with_batch_normalisation_has_the_published_ones(depth: int) -> None:
    assert size(models.spiking_vgg(f"3x32x32-10,depth={depth},norm=batch")) == PUBLISHED_BATCH[depth]


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(("norm", "published"), [("ei", 14_401_226 - DEAD), ("batch", 11_173_962)])
def test_a_residual_network_has_the_published_parameters(norm: str, published: int) -> None:
    network = models.spiking_resnet(f"3x32x32-10,norm={norm}")
    assert size(network) == published
    assert sum(isinstance(m, enn.LIF) for m in network.modules()) == 20


def widths(text: str, kind: type[nn.Module], field: str) -> list[int]:
    return [getattr(m, field) for m in models.make(text).modules() if isinstance(m, kind)]


@pytest.mark.usefixtures("undrawn")
def test_a_networks_layers_are_those_of_its_text() -> None:
    assert widths("spiking-mlp:6-5-4-3", enn.EILinear, "units") == [5, 4, 3]
    assert widths("spiking-mlp:6-3,depth=8,width=0.1", enn.EILinear, "units") == [50, 50, 30, 30, 30, 10, 10, 3]
    assert [len(widths(f"spiking-mlp:6-3,depth={k}", enn.EILinear, "units")) for k in (2, 4, 6, 12, 16)] == [
        2,
        4,
        6,
        12,
        16,
    ]
    assert widths("spiking-vgg:1x8x8-3,width=0.25,depth=11", enn.EIConv2d, "units") == [
        16,
        32,
        64,
        64,
        128,
        128,
        128,
        128,
    ]
    assert widths("spiking-vgg:1x8x8-3,width=0.01,head=heavy", enn.EILinear, "units") == [41, 41, 3]
    assert widths("spiking-vgg:1x8x8-10", enn.EIConv2d, "pool") == [16, 32, 64, 128, 128]
    assert widths("spiking-vgg:1x8x8-10,ratio=0.5,width=0.1", enn.EIConv2d, "pool") == [3, 6, 13, 25, 25]
    assert widths("spiking-mlp:6-9-9-10,pool_cells=3", enn.EILinear, "pool") == [3, 3, 3]
    assert widths("dann-vgg:3x8x8-10,depth=19,width=0.05", enn.DANNConv2d, "first") == [True] + [False] * 15


# The side of the picture behind the last pooling: halved five times, but never below one.
@pytest.mark.parametrize(("side", "left"), [(8, 1), (28, 1), (32, 1), (48, 1), (64, 2), (1, 1)])
def test_a_vgg_takes_pictures_of_any_size(side: int, left: int) -> None:
    network = models.make(f"spiking-vgg:2x{side}x{side}-3,width=0.02")
    readout = network.net[-1]  # type: ignore[index]
    assert isinstance(readout, enn.EILinear)
    assert readout.fan_in == 10 * left * left
    assert network(torch.rand(2, 2, side, side)).shape == (2, 3)


def test_options_reach_layers_cells_and_time() -> None:
    text = (
        "spiking-vgg:1x8x8-3,width=0.05,steps=6,tau=3,threshold=0.5,surrogate=arctangent,reset=hard,learn=tau+threshold"
    )
    network = models.make(f"{text},divisive=no,rectify=no,scaling=none,dropout=0.3,pool=max,encoder=latency")
    assert isinstance(network, enn.OverTime)
    assert network.steps == 6
    assert isinstance(network.encoder, enn.Latency)
    cells = [m for m in network.modules() if isinstance(m, enn.LIF)]
    assert {(m.surrogate, m.reset, m.steps, m.learned) for m in cells} == {
        ("arctangent", "hard", 6, frozenset({"tau", "threshold"}))
    }
    assert {round(float(1 + torch.exp(-m.rate.detach())), 5) for m in cells} == {3.0}
    layers = [m for m in network.modules() if isinstance(m, enn.EIConv2d)]
    assert {(m.divisive, m.subtractive, m.rectify, m.scaling) for m in layers} == {(False, True, False, None)}
    assert [m.p for m in network.modules() if isinstance(m, nn.Dropout)] == [0.3] * 5
    assert any(isinstance(m, nn.MaxPool2d) for m in network.modules())
    one = models.make("spiking-mlp:6-5-3,subtractive=no,stabilise=no,inhibition=spiking,tau_inhibitory=2")
    hidden, readout = (m for m in one.modules() if isinstance(m, enn.EILinear))
    assert (hidden.subtractive, hidden.stabilise, hidden.cells.leak) == (False, False, 0.5)  # type: ignore[union-attr]
    assert (readout.subtractive, readout.readout, readout.cells is not None) == (True, True, True)


def test_on_and_off_cells_come_before_the_code() -> None:
    x = torch.rand(5, 2, 8, 8) - 0.5
    whole = torch.cat([x.relu(), (-x).relu()], 1)
    seen: list[torch.Tensor] = []
    for code in ("direct", "latency", "rate"):
        network = models.make(f"spiking-vgg:2x8x8-3,width=0.05,onoff=yes,encoder={code}", seed=3)
        network.net[1 if code == "direct" else 0].register_forward_pre_hook(lambda m, a: seen.append(a[0]))  # type: ignore[index]
        network(x)
        plain = models.make(f"spiking-vgg:4x8x8-3,width=0.05,encoder={code}", seed=3)
        assert torch.equal(seen.pop(), folded(plain.encoder(whole)))  # type: ignore[attr-defined, operator]


def test_the_spikes_of_a_rate_code_follow_the_models_seed() -> None:
    x = torch.rand(4, 6)
    first, again, other = (models.make("spiking-mlp:6-5-3,encoder=rate", seed=k).frames(x) for k in (0, 0, 1))  # type: ignore[operator]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_twins_differ_in_their_normalisation_alone() -> None:
    ei, batch, none = (
        models.make(f"spiking-vgg:3x16x16-10,width=0.1,depth=11,norm={n}") for n in ("ei", "batch", "none")
    )

    def kinds(model: nn.Module, *kinds: type[nn.Module]) -> list[str]:
        return [type(m).__name__ for m in model.modules() if isinstance(m, kinds)]

    common = (enn.LIF, nn.AvgPool2d, nn.Flatten, enn.OverTime)
    assert kinds(ei, *common) == kinds(batch, *common) == kinds(none, *common)
    assert [m.bias is None for m in batch.modules() if isinstance(m, nn.Conv2d)] == [True] * 8
    assert [m.bias is None for m in none.modules() if isinstance(m, nn.Conv2d)] == [False] * 8
    assert not kinds(none, nn.BatchNorm2d)
    assert [m.num_features for m in batch.modules() if isinstance(m, nn.BatchNorm2d)] == widths(
        "spiking-vgg:3x16x16-10,width=0.1,depth=11", enn.EIConv2d, "units"
    )


def test_twins_can_start_from_another_law() -> None:
    network = models.make("spiking-mlp:400-300-10,norm=none,init=he_normal")
    hidden = next(m for m in network.modules() if isinstance(m, nn.Linear))
    assert float(hidden.weight.detach().var()) == pytest.approx(2 / 400, rel=0.05)
    assert float(hidden.bias.detach().abs().sum()) == 0


def test_a_residual_block_counts_spikes() -> None:
    """Whole numbers: 1 more behind each block, back to at most 2 where the shortcut has cells of its own."""
    network = models.make("spiking-resnet:3x16x16-10,width=0.2")
    x = torch.rand(16, 3, 16, 16)
    enn.ei_init_(network, x)
    out: list[torch.Tensor] = []
    for block in (m for m in network.modules() if isinstance(m, SpikeAdd)):
        block.register_forward_hook(lambda m, a, y: out.append(y))  # type: ignore[arg-type]
    network(x)
    assert [float(y.detach().max()) for y in out[:3]] == [2.0, 3.0, 2.0]
    assert all(bool((y == y.round()).all() and (y >= 0).all()) for y in out)


@pytest.mark.parametrize(
    "text", ["spiking-vgg:1x8x8-3,width=0.1", "spiking-resnet:1x8x8-3,width=0.1", "spiking-mlp:64-30-3"]
)
def test_backpropagation_reaches_every_parameter(text: str) -> None:
    model = models.make(text)
    x = torch.rand(16, *([1, 8, 8] if "1x8x8" in text else [64]), generator=torch.Generator().manual_seed(0))
    enn.ei_init_(model, x)
    rules.make("bp", model, example=x).backward(x, torch.arange(16) % 3)
    assert [n for n, p in model.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)] == []


@pytest.mark.parametrize("head", ["light", "heavy"])
def test_the_rate_twin_is_alive_at_depth_and_learns_everywhere(head: str) -> None:
    """Units active in part of the cases in every layer of sixteen; every parameter has an error."""
    model = models.make(f"dann-vgg:3x16x16-10,depth=16,width=0.1,head={head}")
    x = torch.rand(16, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    shares: list[float] = []
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(lambda m, a, y: shares.append(float((y > 0).float().mean())))
    rules.make("bp", model, example=x).backward(x, torch.arange(16) % 10)
    assert len(shares) % (13 if head == "light" else 15) == 0
    assert 0.1 < min(shares) < max(shares) < 0.98
    assert [n for n, p in model.named_parameters() if p.grad is None or not bool(p.grad.isfinite().all())] == []


def test_gains_of_one_are_a_control_without_a_start() -> None:
    layers = [m for m in models.make("spiking-mlp:9-8-7-3,unit_gains=yes").modules() if isinstance(m, enn.EILinear)]
    assert [layer.gain_i is None or bool((layer.gain_i == 1).all()) for layer in layers] == [True] * 3


def test_from_python_a_depth_and_options_say_the_same_as_the_text() -> None:
    pairs = [
        (models.dann_vgg(16, width=0.05), "dann-vgg:3x32x32-10,depth=16,width=0.05"),
        (models.dann_vgg("1x8x8-3", depth=8, width=0.05), "dann-vgg:1x8x8-3,depth=8,width=0.05"),
        (models.spiking_vgg(11, width=0.05, onoff=True, scaling=None), "spiking-vgg:3x32x32-10,depth=11,width=0.05,onoff=yes,scaling=none"),
        (models.spiking_resnet(34, width=0.05, norm="batch"), "spiking-resnet:3x32x32-10,depth=34,width=0.05,norm=batch"),
        (models.spiking_mlp(4, width=0.1), "spiking-mlp:784-10,depth=4,width=0.1"),
        (models.spiking_mlp("", width=0.1), "spiking-mlp:784-500-10,width=0.1"),
    ]  # fmt: skip
    for built, text in pairs:
        assert str(built) == str(models.make(text)), text
    with pytest.raises(InputError, match=r"by a text, as in '3x32x32-10', or a depth, not by 16\.0"):
        models.dann_vgg(16.0)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="depth is one of 8, 11, 16, 19, not 12"):
        models.spiking_vgg(12)


def test_a_text_says_everything_about_the_cells() -> None:
    text = "spiking-mlp:5-4-3,surrogate=triangle,sharpness=2,through_reset=yes,reset=hard,tau=3,threshold=0.5"
    cells = next(m for m in models.make(text).modules() if isinstance(m, enn.LIF))
    assert (cells.surrogate, cells.sharpness, cells.through_reset, cells.reset) == ("triangle", 2.0, True, "hard")
    assert (cells.leak, cells.threshold) == (pytest.approx(2 / 3), 0.5)
    with pytest.raises(InputError, match=r"'spiking-mlp:5-4-3,sharpness=0': the sharpness of a surrogate"):
        models.make("spiking-mlp:5-4-3,sharpness=0")
