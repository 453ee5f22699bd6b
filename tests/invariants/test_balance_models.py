"""Balance on networks as people train them: a residual CNN with batch norm, an attention block, a recurrent network.

A failure here is a network whose outputs changed, or whose norm did not fall.
"""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise import balance
from equipoise.balance import Lp, Mixture


class Residual(nn.Module):
    """Batch norm, an identity skip, a projection, depthwise and grouped convolutions, pooling, two linear layers."""

    def __init__(self, c: int = 6) -> None:
        super().__init__()
        self.c0, self.b0 = nn.Conv2d(3, c, 3, padding=1), nn.BatchNorm2d(c)
        self.c1, self.b1 = nn.Conv2d(c, c, 3, padding=1), nn.BatchNorm2d(c)
        self.c2 = nn.Conv2d(c, c, 3, padding=1)
        self.c3, self.p = nn.Conv2d(c, 2 * c, 3, padding=1), nn.Conv2d(c, 2 * c, 1)
        self.dw = nn.Conv2d(2 * c, 2 * c, 3, padding=1, groups=2 * c)
        self.g = nn.Conv2d(2 * c, 2 * c, 3, padding=1, groups=3)
        self.f1, self.f2 = nn.Linear(2 * c * 4, 12), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.b0(self.c0(x)))
        h = F.relu(h + self.c2(F.relu(self.b1(self.c1(h)))))
        h = F.leaky_relu(self.c3(h), 0.1) + self.p(h)
        h = F.relu(self.g(F.relu(self.dw(h))))
        return self.f2(F.relu(self.f1(F.adaptive_max_pool2d(h, 2).flatten(1))))


class Block(nn.Module):
    """Attention and a gated linear unit, each behind a layer norm and beside a skip."""

    def __init__(self, d: int = 8, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.n1, self.n2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.q, self.k, self.v, self.o = (nn.Linear(d, d) for _ in range(4))
        self.a, self.b, self.c, self.readout = nn.Linear(d, 12), nn.Linear(d, 12), nn.Linear(12, d), nn.Linear(d, 4)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        h = self.n1(x)
        q, k, v = (f(h).view(batch, length, self.heads, -1).transpose(1, 2) for f in (self.q, self.k, self.v))
        attended = (torch.softmax(q @ k.transpose(-1, -2), -1) @ v).transpose(1, 2).reshape(batch, length, width)
        x = x + self.o(attended)
        h = self.n2(x)
        return self.readout((x + self.c(F.relu(self.a(h)) * self.b(h))).mean(1))


class Recurrent(nn.Module):
    """A ReLU recurrent layer and a readout of its last state."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.RNN(5, 10, nonlinearity="relu", batch_first=True), nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(x)[0][:, -1])


CASES = {"residual": (Residual, (12, 3, 8, 8)), "block": (Block, (12, 6, 8)), "recurrent": (Recurrent, (12, 7, 5))}


def trained(name: str) -> tuple[nn.Module, Tensor]:
    """The network after a few steps on made-up labels, in evaluation mode and float64, and a batch."""
    torch.manual_seed(1)
    build, shape = CASES[name]
    model = build().double()
    x, y = torch.randn(*shape, dtype=torch.float64), torch.randint(4, (shape[0],))
    update = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(15):
        update.zero_grad()
        F.cross_entropy(model(x), y).backward()
        update.step()
    return model.eval(), x


@pytest.mark.parametrize("cost", [Lp(2), Lp(1), Mixture([(1.0, 2.0), (0.2, 1.0)])], ids=str)
@pytest.mark.parametrize("name", list(CASES))
def test_a_trained_network_keeps_its_function_at_a_lower_cost(name: str, cost) -> None:
    model, x = trained(name)
    y = model(x).detach()
    before = balance.deficit(model, cost, example=x)
    report = balance.balance_(model, cost, example=x, tol=1e-11)
    assert (model(x).detach() - y).abs().max() <= 1e-12 * float(y.abs().max())
    assert not report.skipped
    assert report.cost_before == pytest.approx(before.cost, rel=1e-13)
    assert report.cost_after < 0.999 * report.cost_before
    after = balance.deficit(model, cost, example=x)
    assert after.cost == pytest.approx(report.cost_after, rel=1e-12)
    assert after.max_relative < 1e-10 < before.max_relative


@pytest.mark.parametrize("method", ["cyclic", "parallel", "stochastic"])
@pytest.mark.parametrize("name", list(CASES))
def test_the_methods_agree_on_a_trained_network(name: str, method: str) -> None:
    model, x = trained(name)
    other = copy.deepcopy(model)
    balance.balance_(model, example=x, tol=1e-11)
    balance.balance_(other, example=x, method=method, tol=1e-11)
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", list(CASES))
def test_one_scale_a_layer_keeps_the_function_too_and_costs_more(name: str) -> None:
    model, x = trained(name)
    y, other = model(x).detach(), copy.deepcopy(model)
    report = balance.balance_(model, example=x, method="tied")
    assert (model(x).detach() - y).abs().max() <= 1e-12 * float(y.abs().max())
    best = balance.balance_(other, example=x)
    assert best.cost_after < report.cost_after < report.cost_before
