"""Balance in training: the law of plain SGD, Euler's identity, many orders at once, moments that follow the weights.

A failure here means that a deficit in a figure is not that of the network, or that balancing bends a training.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from equipoise.balance.graph import ScalingGraph, graph
from equipoise.balance.orders import Orders
from equipoise.balance.sums import UnitSums
from equipoise.balance.training import Balancer, SGDLaw, sgd_law
from equipoise.errors import InputError
from equipoise.nn import BiPU
from equipoise.train.penalties import add_penalties_, strengths


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 7), nn.LeakyReLU(0.1), nn.Linear(7, 3), nn.ReLU())
    return net.double()


def cnn() -> nn.Sequential:
    torch.manual_seed(1)
    head = [nn.Conv2d(2, 5, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(5, 6, 3), nn.ReLU()]
    return nn.Sequential(*head, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(24, 3)).double()


def powers() -> nn.Sequential:
    torch.manual_seed(2)
    net = nn.Sequential(nn.Linear(6, 8), BiPU(2.0, 1.0, 0.5), nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 3))
    return net.double()


NETS: dict[str, tuple[Callable[[], nn.Sequential], tuple[int, ...], float]] = {
    "mlp": (mlp, (6,), 0.05),
    "cnn": (cnn, (2, 12, 12), 0.05),
    "powers": (powers, (6,), 0.01),
}


def batch(shape: tuple[int, ...], step: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(16, *shape, generator=generator, dtype=torch.float64)
    return x, torch.randn(16, 3, generator=generator, dtype=torch.float64)


def backward(net: nn.Module, x: Tensor, y: Tensor) -> None:
    net.zero_grad()
    ((net(x) - y).square().sum() / len(x)).backward()


def by_hand(net: nn.Sequential, value: Callable[[Tensor], Tensor]) -> Tensor:
    """IN - OUT of each hidden unit of a dense net, layer by layer, biases on the side of IN."""
    layers = [m for m in net if isinstance(m, nn.Linear)]
    parts = [value(a.weight).sum(1) + value(a.bias) - value(b.weight).sum(0) for a, b in pairwise(layers)]
    return torch.cat(parts).detach()


def test_sums_of_a_dense_net_are_rows_with_their_bias_and_columns() -> None:
    net = mlp()
    sums = UnitSums(graph(net, batch((6,))[0]))
    assert {name: len(units) for name, units in sums.layers.items()} == {"0": 9, "2": 7}
    found, wanted = sums.weights(), by_hand(net, torch.square)
    assert torch.allclose(found.difference, wanted, atol=1e-14, rtol=0)
    assert found.deficit == pytest.approx(float(wanted.square().sum()), rel=1e-12)
    total = by_hand(net, torch.abs)
    assert torch.allclose(sums.weights(1.0).difference, total, atol=1e-14, rtol=0)
    first = found.of(sums.layers["0"])
    assert torch.allclose(first.incoming, net[0].weight.square().sum(1) + net[0].bias.square(), atol=1e-14, rtol=0)
    whole = float((found.incoming + found.outgoing).sum())
    assert found.share == pytest.approx(float(wanted.abs().sum()) / whole, rel=1e-12)
    with pytest.raises(InputError, match=r"'0\.weight' are missing"):
        sums({})


def test_a_weight_from_a_unit_to_itself_counts_on_neither_side() -> None:
    torch.manual_seed(0)
    net = nn.RNN(3, 4, nonlinearity="relu", batch_first=True).double()

    class Read(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.out = net, nn.Linear(4, 2).double()

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.rnn(x)[0][:, -1])

    model = Read()
    sums = UnitSums(graph(model, torch.randn(2, 5, 3, dtype=torch.float64))).weights()
    recurrent = net.weight_hh_l0.detach().square()
    recurrent.fill_diagonal_(0)
    inside = net.weight_ih_l0.square().sum(1) + recurrent.sum(1) + net.bias_ih_l0**2 + net.bias_hh_l0**2
    assert torch.allclose(sums.incoming, inside.detach(), atol=1e-14, rtol=0)
    assert torch.allclose(sums.outgoing, (recurrent.sum(0) + model.out.weight.square().sum(0)).detach(), atol=1e-14)


@pytest.mark.parametrize("name", list(NETS))
def test_eulers_identity_holds_at_every_unit(name: str) -> None:
    make, shape, _ = NETS[name]
    net = make()
    x, y = batch(shape)
    sums = UnitSums(graph(net, x))
    backward(net, x, y)
    size = sums.gradients().incoming.max()
    assert size > 1e-3, "the gradients are there"
    assert sums.euler().abs().max() <= 1e-12 * max(1.0, float(size))
    net[0].weight.grad[0] *= 1.5
    assert sums.euler().abs().max() > 1e-4


@pytest.mark.parametrize("name", list(NETS))
@pytest.mark.parametrize("decay", [0.0, 0.02])
def test_the_law_of_sgd_is_exact_over_fifty_steps(name: str, decay: float) -> None:
    make, shape, lr = NETS[name]
    net = make()
    sums = UnitSums(graph(net, batch(shape)[0]))
    law = SGDLaw(sums)
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, weight_decay=decay)
    start = sums.weights().difference
    for step in range(50):
        backward(net, *batch(shape, step))
        law.step(lr=lr, decay=decay)
        optimizer.step()
    end = sums.weights()
    assert torch.allclose(law.difference, end.difference, atol=1e-13, rtol=1e-13)
    assert law.deficit == pytest.approx(end.deficit, rel=1e-10)
    assert (end.difference - start).abs().max() > 1e-4, "the imbalance moved"


def test_the_law_fails_under_momentum_and_is_a_formula() -> None:
    assert float(sgd_law(torch.tensor(2.0), torch.tensor(3.0), lr=0.1, decay=0.5)) == pytest.approx(
        0.95**2 * 2 + 0.01 * 3
    )
    net = mlp()
    sums = UnitSums(graph(net, batch((6,))[0]))
    law, optimizer = SGDLaw(sums), torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    for step in range(10):
        backward(net, *batch((6,), step))
        law.step(lr=0.05)
        optimizer.step()
    assert (law.difference - sums.weights().difference).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("decay", "value"), [({"l2": 0.3}, lambda w: 0.3 * w), ({"l1": 0.2}, lambda w: 0.2 * w.sign())]
)
def test_penalties_are_in_the_gradient_of_weights_and_biases(decay: dict, value: Callable[[Tensor], Tensor]) -> None:
    net, (x, y) = mlp(), batch((6,))
    backward(net, x, y)
    before = {n: p.grad.clone() for n, p in net.named_parameters()}
    add_penalties_(net.parameters(), strengths(decay))
    for name, p in net.named_parameters():
        assert torch.allclose(p.grad - before[name], value(p), atol=1e-14)


def test_a_penalty_of_any_power_is_the_gradient_of_its_cost() -> None:
    w = torch.tensor([-1.5, 0.0, 0.3, 2.0], dtype=torch.float64, requires_grad=True)
    cost = 0.7 / 3 * w.abs().pow(3).sum() + 0.2 / 1.5 * w.abs().pow(1.5).sum()
    (wanted,) = torch.autograd.grad(cost, w)
    w.grad = torch.zeros_like(w)
    add_penalties_([w], strengths({"l3": 0.7, "l1.5": 0.2, "l2": 0}))
    assert torch.allclose(w.grad, wanted, atol=1e-14)
    for bad in ({"l0.5": 0.1}, {"weight": 0.1}, {"l2": -1}, {"l2": True}, {"l2": 0.1, "l2.0": 0.1}):
        with pytest.raises(InputError, match="decay"):
            strengths(bad)


def one_by_one(net: nn.Sequential, order: Tensor, p: float) -> nn.Sequential:
    """Balance the hidden units of a dense net one at a time, on the weights themselves."""
    layers = [m for m in net if isinstance(m, nn.Linear)]
    places = [(k, i) for k, layer in enumerate(layers[:-1]) for i in range(layer.out_features)]
    with torch.no_grad():
        for number in order.tolist():
            k, i = places[number]
            inside = layers[k].weight[i].abs().pow(p).sum() + layers[k].bias[i].abs().pow(p)
            outside = layers[k + 1].weight[:, i].abs().pow(p).sum()
            scale = (outside / inside) ** (1 / (2 * p))
            layers[k].weight[i] *= scale
            layers[k].bias[i] *= scale
            layers[k + 1].weight[:, i] /= scale
    return net


@pytest.mark.parametrize("p", [1.0, 2.0, 0.5])
def test_many_orders_at_once_are_one_order_at_a_time(p: float) -> None:
    net = mlp()
    orders = Orders(graph(net, batch((6,))[0]), p=p, repeats=5)
    assert len(orders.units) == 16
    generator = torch.Generator().manual_seed(3)
    sweeps = [orders.order(generator) for _ in range(2)]
    assert all(sorted(row.tolist()) == orders.units.tolist() for row in sweeps[0])
    assert len({tuple(row.tolist()) for row in sweeps[0]}) == 5
    for visits in sweeps:
        for step in range(visits.shape[1]):
            orders.visit(visits[:, step])
    norms, distances = orders.norm(), orders.distance()
    balanced = copy.deepcopy(net)
    Balancer(balanced, p=p, tol=1e-12)
    for repeat in range(5):
        twin = copy.deepcopy(net)
        for visits in sweeps:
            one_by_one(twin, visits[repeat] - orders.units[0], p)
        found, wanted = orders.weights(repeat), dict(twin.named_parameters())
        assert all(torch.allclose(found[n], wanted[n], atol=1e-13) for n in wanted)
        vector, goal = (nn.utils.parameters_to_vector(m.parameters()).detach() for m in (twin, balanced))
        assert float(norms[repeat]) == pytest.approx(float(vector.norm()), rel=1e-12)
        assert float(distances[repeat]) == pytest.approx(float((vector - goal).norm()), rel=1e-8)
    assert orders.balanced_norm == pytest.approx(float(goal.norm()), rel=1e-10)


@pytest.mark.parametrize("make", [mlp, cnn])
def test_every_order_leads_to_the_balanced_weights(make: Callable[[], nn.Sequential]) -> None:
    shape = (6,) if make is mlp else (2, 12, 12)
    orders = Orders(graph(make(), batch(shape)[0]), repeats=4)
    generator = torch.Generator().manual_seed(0)
    start = float(orders.distance().max())
    for _ in range(60):
        for units in orders.order(generator).T:
            orders.visit(units)
    assert float(orders.distance().max()) < 1e-7 * start
    assert float(orders.norm().std()) < 1e-10


def moved(net: nn.Sequential, kind: type, x: Tensor, **options: float) -> tuple[nn.Sequential, torch.optim.Optimizer]:
    """A net after three steps, with what its optimiser holds."""
    optimizer = kind(net.parameters(), lr=0.01, **options)
    for step in range(3):
        backward(net, x, batch((6,), step)[1])
        optimizer.step()
    return net, optimizer


ORDERS = {"SGD": {"momentum_buffer": 1}, "RMSprop": {"square_avg": 2}, "Adamax": {"exp_avg": 1, "exp_inf": 1}}


@pytest.mark.parametrize(("kind", "momentum"), [("SGD", 0.9), ("RMSprop", 0.9), ("Adam", None), ("Adamax", None)])
def test_moments_become_those_of_the_balanced_weights(kind: str, momentum: float | None) -> None:
    options = {} if momentum is None else {"momentum": momentum}
    x, _ = batch((6,))
    net, optimizer = moved(mlp(), getattr(torch.optim, kind), x, **options)
    before = {n: p.detach().clone() for n, p in net.named_parameters()}
    held = {n: dict(optimizer.state[p]) for n, p in net.named_parameters()}
    held = {n: {k: v.clone() for k, v in state.items() if isinstance(v, Tensor)} for n, state in held.items()}
    report = Balancer(net, optimizer=optimizer).reports[0]
    assert report.cost_after < report.cost_before
    for name, p in net.named_parameters():
        s = p.detach() / before[name]
        for key, value in held[name].items():
            order = ORDERS.get(kind, {"exp_avg": 1, "exp_avg_sq": 2}).get(key, 0)
            assert torch.allclose(optimizer.state[p][key], value / s**order if order else value, rtol=1e-9), key
    kept, same = moved(mlp(), getattr(torch.optim, kind), x, **options)
    Balancer(kept, optimizer=same, moments="keep")
    name = next(iter(held["0.weight"].keys() - {"step"}))
    assert torch.equal(same.state[kept[0].weight][name], held["0.weight"][name])


def test_balancing_comes_every_so_many_steps_and_leaves_the_function() -> None:
    net, (x, _) = mlp(), batch((6,))
    wanted = net(x).detach()
    balancer = Balancer(net, every=3, at_start=False)
    assert balancer.reports == []
    assert [balancer.step() is not None for _ in range(7)] == [False, False, True, False, False, True, False]
    assert torch.allclose(net(x), wanted, atol=1e-12)
    assert UnitSums(balancer.scaling).weights().share < 1e-9
    assert isinstance(balancer.scaling, ScalingGraph)
    for bad in ({"every": -1}, {"every": True}, {"moments": "drop"}):
        with pytest.raises(InputError):
            Balancer(mlp(), **bad)


def test_a_unit_without_input_is_never_visited_and_stays() -> None:
    net = mlp()
    with torch.no_grad():
        net[0].weight[4] = 0
        net[0].bias[4] = 0
    orders = Orders(graph(net, batch((6,))[0]), repeats=2)
    assert len(orders.units) == 15
    generator = torch.Generator().manual_seed(0)
    for _ in range(40):
        for units in orders.order(generator).T:
            orders.visit(units)
    balanced = copy.deepcopy(net)
    Balancer(balanced, tol=1e-12)
    found = orders.weights(1)
    assert all(torch.allclose(found[n], w, atol=1e-8) for n, w in balanced.named_parameters())
    assert torch.equal(found["2.weight"][:, 4], net[2].weight[:, 4])
    size = sum(float(w.square().sum()) for w in found.values()) ** 0.5
    assert float(orders.norm()[1]) == pytest.approx(size, rel=1e-12)
