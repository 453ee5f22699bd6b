"""The call itself: what it says, what it refuses, what it leaves as it was, and what it costs.

A failure here is a trace that changes somebody's model, a table that does not tell what happened, or an error without
the line at which the model stopped.
"""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise.balance import Builder, ScalingGraph, graph
from equipoise.contracts import Scalable, ScaleLedger
from equipoise.errors import InputError
from equipoise.nn import LocallyConnected2d
from scaling import Net, draw, exponents, unchanged

Linear, Conv = nn.Linear, nn.Conv2d


class Counting(nn.Module):
    """A model that changes itself in every forward pass, in every way that modules do."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.o = Linear(3, 4), nn.BatchNorm1d(4), Linear(4, 2)
        self.register_buffer("passes", torch.zeros(()))
        self.calls, self.last, self.noted, self.seen = 0, None, [], {"first": 0}

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.passes += 1
        self.passes = self.passes * 2
        self.last = F.dropout(self.norm(self.a(x)).relu() * torch.rand(4))
        self.norm.running_var.mul_(0.5)
        self.norm.running_mean.data.add_(1.0)
        self.noted.append(self.last)
        self.seen["last"] = self.last
        return self.o(self.last)


def test_the_model_and_the_random_state_are_as_before() -> None:
    net = Counting().train()
    heard: list[str] = []
    net.a.register_forward_hook(lambda *_: heard.append("a"))
    before, state = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    graph(net)
    assert torch.equal(state, torch.get_rng_state())
    assert (net.calls, net.last, net.noted, net.seen) == (0, None, [], {"first": 0})
    assert net.training
    assert heard == ["a"]
    assert not torch.nn.modules.module._global_forward_hooks
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name


def vgg16() -> nn.Module:
    layers: list[nn.Module] = []
    channels = 3
    for width in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0):
        layers += [Conv(channels, width, 3, padding=1), nn.ReLU(True)] if width else [nn.MaxPool2d(2)]
        channels = width or channels
    head = [Linear(25088, 4096), nn.ReLU(True), nn.Dropout(), Linear(4096, 4096), nn.ReLU(True), nn.Dropout()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(7), nn.Flatten(), *head, Linear(4096, 1000))


def test_a_large_network_costs_a_few_megabytes() -> None:
    with torch.device("meta"):
        net = vgg16()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        made = graph(net, torch.empty(8, 3, 224, 224, device="meta"))
    taken = sum(max(event.self_cpu_memory_usage, 0) for event in profile.key_averages())
    assert made.scalable == 2 * 64 + 2 * 128 + 3 * 256 + 6 * 512 + 2 * 4096
    assert 0 < taken < 40e6  # all allocations together; the weights are 550 MB


GUESSED = {
    "dense": (nn.Sequential(Linear(7, 4), nn.ReLU(), Linear(4, 2)), 4),
    "behind a flattening": (nn.Sequential(nn.Flatten(), Linear(7, 4), nn.ReLU(), Linear(4, 2)), 4),
    "images of 28": (nn.Sequential(Conv(1, 4, 3), nn.ReLU(), nn.Flatten(), Linear(4 * 26 * 26, 2)), 4),
    "local": (nn.Sequential(LocallyConnected2d(1, 2, 2, 5), nn.ReLU(), nn.Flatten(), Linear(32, 2)), 32),
    "tokens": (nn.Sequential(nn.Embedding(9, 4), nn.ReLU(), Linear(4, 2)), 4),
    "sequences": (Net(lambda s, x: s.o(s.r(x)[0]), r=nn.RNN(3, 4, nonlinearity="relu"), o=Linear(4, 2)), 4),
    "half precision": (nn.Sequential(Linear(7, 4), nn.ReLU(), Linear(4, 2)).half(), 4),
}


@pytest.mark.parametrize("name", GUESSED)
def test_the_input_is_guessed_from_the_first_layer(name: str) -> None:
    net, count = GUESSED[name]
    assert graph(net).scalable == count


def test_examples_may_be_tuples_and_dicts() -> None:
    net = Net(
        lambda s, x, y: {"sum": s.o(s.a(x).relu() + s.b(y).relu())}, a=Linear(3, 4), b=Linear(2, 4), o=Linear(4, 2)
    )
    assert graph(net, (torch.zeros(2, 3), torch.zeros(2, 2))).scalable == 4
    gate = Gate()
    assert graph(gate, {"x": torch.zeros(2, 3), "on": True}).scalable == 4


class Gate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.o = Linear(3, 4), Linear(4, 2)

    def forward(self, x: Tensor, on: bool = False) -> Tensor:
        h = self.a(x)
        if not on and h.sum() > 0:  # the line of this model that cannot be traced
            h = -h
        return self.o(h.relu())


def test_a_pass_that_depends_on_values_names_its_line() -> None:
    with pytest.raises(
        InputError, match=r"test_balance_graph_calls.py:\d+ `if not on and h.sum\(\) > 0:.*traced`"
    ) as caught:
        graph(Gate())
    assert "\n" not in str(caught.value)
    assert "example=" in str(caught.value)


def lazy() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.Sequential(nn.LazyLinear(3), Linear(3, 2))


def whole() -> nn.Module:
    net = nn.Sequential(Linear(3, 4), Linear(4, 2))
    net[0].weight = nn.Parameter(torch.ones(4, 3, dtype=torch.int64), requires_grad=False)
    return net


REFUSED = {
    "no module": (lambda: torch.relu, "torch module, not of a builtin"),
    "no parameters": (lambda: nn.ReLU(), "ReLU has no parameters"),
    "lazy": (lazy, "'0.weight' has no shape yet"),
    "whole numbers": (whole, "'0.weight' is torch.int64"),
    "nothing to guess from": (lambda: Net(lambda s, x: x @ s.w, w=draw(3, 2)), "pass example="),
    "nothing that fits": (lambda: Net(lambda s, x, y: s.a(x), a=Linear(3, 2)), "missing 1 required positional"),
    "an output that is no tensor": (lambda: Net(lambda s, x: s.a(x).shape[0], a=Linear(3, 2)), "returns nothing that"),
    "inside torch.func": (lambda: Net(lambda s, x: torch.vmap(s.a)(x), a=Linear(3, 2)), "lost a tensor"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_one_line(name: str) -> None:
    make, words = REFUSED[name]
    with pytest.raises(InputError, match=words) as caught:
        graph(make())
    assert "\n" not in str(caught.value)


def test_bad_arguments() -> None:
    net = nn.Sequential(Linear(3, 4), Linear(4, 2))
    with pytest.raises(InputError, match=r"frozen='1\.wait' matches no parameter; there are 0\.weight"):
        graph(net, frozen=["1.wait"])
    with pytest.raises(InputError, match="example is a tensor, a tuple or a dict"):
        graph(net, example="x")
    with pytest.raises(
        InputError, match=r"does not trace.*\[2, 5\]|does not trace.*2x5|does not trace.*same reduction"
    ):
        graph(net, torch.zeros(2, 5))


def test_the_table_reads() -> None:
    net = Net(
        lambda s, x: s.o((s.a(x).relu() + s.b(x)).relu() * torch.sigmoid(s.c(x))),
        a=Linear(3, 4), b=Linear(3, 4), c=Linear(3, 4), o=Linear(4, 2), idle=draw(2),
    )  # fmt: skip
    lines = [line.split("  ") for line in str(graph(net)).splitlines()]
    rows = {row[0]: [cell.strip() for cell in row if cell] for row in lines if row}
    assert str(graph(net)).startswith("Net: 4 free log-scales, 8 parameters")
    assert rows["a"][1:4] == ["4", "4", "scaled"]
    assert "a.weight 4x3, a.bias 4" in rows["a"]
    assert rows["b"][1:4] == ["4", "4", "tied"]
    assert rows["b"][-1] == "shares its classes with a"
    assert rows["c"][1:4] == ["4", "0", "visible"]
    assert rows["c"][-1] == "feeds sigmoid 'sigmoid'"
    assert rows["o"][-1] == "output of the model"
    assert "idle  not used by the forward pass" in str(graph(net))


def test_a_graph_by_hand_is_the_traced_one() -> None:
    net = nn.Sequential(Linear(3, 4), nn.ReLU(), Linear(4, 2)).double()
    b = Builder(net)
    hidden = b.units("0", 4)
    b.use("0.weight", into=hidden[:, None], out_of=b.visible())
    b.use("0.bias", into=hidden, out_of=b.visible(), bias=True)
    b.use(net[2].weight, into=b.visible(), out_of=hidden)
    made, traced = ScalingGraph.declare(b), graph(net)
    unchanged(net, torch.randn(5, 3, dtype=torch.float64), made=made)
    z = torch.arange(1.0, 5.0)
    for name, power in exponents(made, z).items():
        assert torch.equal(power, exponents(traced, z)[name])
    with pytest.raises(InputError, match=r"'2.weight' \(2, 4\): node ids \(3,\) do not broadcast"):
        b.use("2.weight", into=b.visible(), out_of=b.fresh(3))
    with pytest.raises(InputError, match="'nowhere' is no parameter"):
        b.use("nowhere", into=b.visible(), out_of=b.visible())


class Divisive(nn.Module):
    """e / |U h|: a custom layer whose denominator the trace would find too; here it says so itself."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.u = nn.Parameter(draw(4, 3)), nn.Parameter(draw(4, 3))

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.w.t()) / torch.special.expm1(torch.log1p((x @ self.u.t()).abs()))

    def scale_classes(self, ledger: ScaleLedger, x: Tensor) -> Tensor:
        above, below = ledger.units("w", 4, ["d.w"]), ledger.units("u", 4, ["d.u"])
        x = ledger.tie_along(x, 0).reshape(1, -1)
        ledger.use(self.w, above[:, None], x)
        ledger.use(self.u, below[:, None], x)
        return ledger.combine([(1.0, above), (-1.0, below)]).expand(5, 4)


def test_a_custom_layer_says_itself_how_it_scales() -> None:
    assert isinstance(Divisive(), Scalable)
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    net = Net(lambda s, x: s.o(s.d(s.i(x).abs())), i=Linear(2, 3), d=Divisive(), o=Linear(4, 2))
    made = unchanged(net, draw(5, 2))
    assert made.scalable == 3 + 4 + 4
    assert not made.boundaries
