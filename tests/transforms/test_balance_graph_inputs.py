"""A graph traced on one input holds for others: other indices, other lengths; and whatever reads a weight is seen.

A failure is a network that balance changes on inputs that the trace did not see, or in an output that is a weight.
"""

from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise.balance import Balancer, balance_, graph
from equipoise.errors import InputError
from scaling import Net, draw, free, unchanged

Linear = nn.Linear
FIRST, OTHER = torch.tensor([[0, 1, 2], [2, 1, 0]]), torch.tensor([[7, 8, 9, 9], [3, 4, 5, 6]])


@pytest.fixture(autouse=True)
def _double() -> None:
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)


def table(pick) -> Net:
    """Rows of a table of 10, two ReLU layers behind them: 4 columns and 5 units."""
    return Net(lambda s, i: s.o(s.a(pick(s.t, i).relu()).relu()), t=draw(10, 4), a=Linear(4, 5), o=Linear(5, 2))


def positions(s: Net, i: Tensor) -> Tensor:
    """Learned positions for up to 16 steps, cut to the length of the input."""
    x = s.e(i) + s.p[:, : i.shape[1]]
    return s.o((x + s.b(s.a(x).relu())).mean(1))


INDEXED = {
    "rows": (table(lambda t, i: t[i]), 4 + 5),
    "rows and all columns": (table(lambda t, i: t[i, :]), 4 + 5),
    "numbers made of the input": (table(lambda t, i: t[(i + 1) % 10]), 4 + 5),
    "index_select": (table(lambda t, i: t.index_select(0, i.flatten())), 4 + 5),
    "gather": (table(lambda t, i: t.gather(0, i.reshape(-1, 1).expand(-1, 4))), 4 + 5),
    "columns of an activity": (
        Net(lambda s, i: s.o(s.a(F.one_hot(i, 10).double()).relu()[:, 0, i[0, :2]]), a=Linear(10, 12), o=Linear(2, 2)),
        1,
    ),
    "positions": (Net(positions, e=nn.Embedding(10, 4), p=draw(1, 16, 4), a=Linear(4, 5), b=Linear(5, 4), o=Linear(4, 2)), 4 + 5),
}  # fmt: skip


@pytest.mark.parametrize("name", INDEXED)
def test_a_graph_traced_on_some_indices_holds_for_others(name: str) -> None:
    net, count = INDEXED[name]
    made = graph(net.double(), (FIRST,))
    assert unchanged(net, OTHER, made=made).scalable == count


READ = {
    "one and a parameter": (Net(lambda s, x: s.o(s.a(x).relu() * (1 + s.g)), a=Linear(3, 4), g=draw(4), o=Linear(4, 2)), 4),
    "a parameter and one": (Net(lambda s, x: s.o(s.a(x).relu() * (s.g + 1)), a=Linear(3, 4), g=draw(4), o=Linear(4, 2)), 4),
    "whole numbers": (Net(lambda s, x: s.o((8 * s.a(x)).to(torch.int64).double()), a=Linear(3, 4), o=Linear(4, 2)), 0),
    "a returned weight": (Net(lambda s, x: (s.o(s.a(x).relu()), s.a.weight.clone()), a=Linear(3, 4), o=Linear(4, 2)), 0),
    "a view of a weight": (Net(lambda s, x: (s.o(s.a(x).relu()), s.a.weight.T * 1), a=Linear(3, 4), o=Linear(4, 2)), 0),
    "a computed slope": (Net(lambda s, x: s.o(F.prelu(s.a(x), s.b(x).mean(0))), a=Linear(3, 4), b=Linear(3, 4), o=Linear(4, 2)), 4),
    "computed gains": (Net(lambda s, x: s.o(F.batch_norm(x, None, None, s.a(x).mean(0), None, True)), a=Linear(3, 3), o=Linear(3, 2)), 0),
    "a flag": (Net(lambda s, x: s.o(s.a(x).relu() * (2 - s.a(x).requires_grad)), a=Linear(3, 4), o=Linear(4, 2)), 4),
    "deviations": (Net(lambda s, x: s.o(s.a(x).view(6, 4, 2).std(2, True)), a=Linear(3, 8), o=Linear(4, 2)), 4),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_whatever_reads_a_weight_or_a_signal_is_seen(name: str) -> None:
    net, count = READ[name]
    assert free(net.double(), draw(6, 3)) == count


def test_positions_that_are_sampled_at_keep_their_scale() -> None:
    net = Net(
        lambda s, x: s.o(F.grid_sample(s.a(x), s.g(x).permute(0, 2, 3, 1), align_corners=False)),
        a=nn.Conv2d(2, 3, 1), g=nn.Conv2d(2, 2, 1), o=nn.Conv2d(3, 2, 1),
    )  # fmt: skip
    assert free(net, draw(2, 2, 4, 4)) == 3


def test_windows_that_end_beyond_the_image() -> None:
    net = Net(
        lambda s, x: s.o(F.avg_pool2d(s.a(x).view(-1, 3, 5, 5), 2, 2, 0, True).flatten(1)),
        a=Linear(3, 75), o=Linear(27, 2),
    )  # fmt: skip
    assert free(net, draw(2, 3)) >= 3


def test_two_parameters_in_one_place_of_memory_are_refused_and_neighbours_are_not() -> None:
    flat = draw(40)
    net = Net(lambda s, x: s.b(s.a(x).relu()), a=Linear(4, 5, bias=False), b=Linear(5, 4, bias=False)).double()
    net.a.weight = nn.Parameter(flat[:20].view(5, 4))
    net.b.weight = nn.Parameter(flat[20:].view(4, 5))
    assert free(net, draw(3, 4)) == 5
    both = draw(4, 10)
    net.a.weight, net.b.weight = nn.Parameter(both[:, ::2].T), nn.Parameter(both[:, 1::2])
    assert free(net, draw(3, 4)) == 5
    net.b.weight = nn.Parameter(net.a.weight.data.T)
    with pytest.raises(InputError, match=re.escape("'a.weight' and 'b.weight' share memory")):
        graph(net)
    net.b.weight = nn.Parameter(draw(1, 5).expand(4, 5))
    with pytest.raises(InputError, match=r"'b\.weight' are one place in memory"):
        graph(net)


def test_a_graph_that_relied_on_zeros_is_not_used_once_they_are_gone() -> None:
    net = Net(
        lambda s, x: s.o(((s.a(x) + s.b).relu() @ s.c + s.b).relu()),
        a=Linear(3, 4, bias=False), c=draw(4, 4), b=torch.zeros(4), o=Linear(4, 2),
    )  # fmt: skip
    x, balancer, made = draw(5, 3), Balancer(net, every=1), graph(net)
    assert made.scalable == 8  # a bias of zeros ties nothing
    with torch.no_grad():
        net.b.copy_(draw(4))
    wanted = net(x).detach()
    with pytest.raises(InputError, match="'b' is no longer 0 where it was"):
        balance_(made)
    assert torch.equal(net(x), wanted)
    assert balancer.step() is not None
    assert torch.allclose(net(x), wanted, rtol=1e-12, atol=1e-12)
    assert balancer.scaling.scalable == 4


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_a_layer_without_units_is_left_alone() -> None:
    net = nn.ModuleList(
        [nn.Sequential(Linear(3, 4), nn.ReLU(), Linear(4, 2)), nn.Sequential(Linear(3, 0), Linear(0, 2))]
    )
    both = Net(lambda s, x: s.all[0](x) + s.all[1](x), all=net).double()
    assert free(both, draw(5, 3)) == 4
    assert balance_(both, example=draw(5, 3)).cost_after > 0


def test_what_is_no_model_and_patterns_that_match_nothing_are_one_line() -> None:
    net = Net(lambda s, x: s.o(s.a(x).relu()), a=Linear(3, 4), o=Linear(4, 2))
    for wrong in (None, draw(2, 2), "model"):
        with pytest.raises(InputError, match="is made of a torch module, not of a"):
            balance_(wrong)
    with pytest.raises(InputError, match=r"matches no parameter; there are a\.weight, a\.bias, o\.weight, o\.bias$"):
        graph(net, frozen=("x*",))


def test_a_group_may_be_one_pair_of_a_layer_and_its_units() -> None:
    net = Net(lambda s, x: s.o(s.a(x).relu()), a=Linear(3, 4), o=Linear(4, 2)).double()
    scales = balance_(net, example=draw(5, 3), groups=[("a", [0, 2])]).log_scales["a"]
    assert scales[0] == scales[2]
    assert scales[0] != scales[1]
