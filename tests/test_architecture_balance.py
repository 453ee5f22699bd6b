"""docs/architecture.md's rows on balance, from outside the package: a layer type, an operation, a cost, a solver.

A failure here means that adding one of them takes more than the one line that the table promises.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from equipoise import balance
from equipoise.balance import signals
from equipoise.balance.methods import Options, methods
from equipoise.balance.newton import Solution
from equipoise.balance.problem import Marginals, Problem
from equipoise.contracts import ScaleLedger
from equipoise.errors import InputError


class Cubic(nn.Module):
    """y_o = (sum_i |w_oi x_i|^3)^(1/3): homogeneous, by way of logarithms, which hide it from a trace."""

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(units, inputs, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return torch.exp(torch.logsumexp(3 * torch.log((self.weight * x[:, None]).abs()), 2) / 3)


class Declared(Cubic):
    """The same, which says how scales pass through it."""

    def scale_classes(self, ledger: ScaleLedger, *gains: Tensor) -> Tensor:
        units = ledger.units("cubic", len(self.weight), ["0.weight"])
        ledger.use(self.weight, into=units[:, None], out_of=ledger.tie_along(gains[0], 0))
        return units.expand(len(gains[0]), -1)


def balanced(model: nn.Module, **options: Any) -> tuple[float, float]:
    """The squared norm before and after balancing, which must leave the function alone."""
    x = torch.randn(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    before = model(x)
    size = lambda: sum(float(p.detach().square().sum()) for p in model.parameters())  # noqa: E731
    old = size()
    balance.balance_(model, example=x[:2], **options)
    torch.testing.assert_close(model(x), before, rtol=1e-12, atol=1e-12)
    return old, size()


def test_a_layer_type_from_outside_is_balanced() -> None:
    def two_layers(first: type[Cubic]) -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(first(5, 6), nn.Linear(6, 3, dtype=torch.float64))

    model = two_layers(Declared)
    old, new = balanced(model)
    assert new < 0.99 * old
    weight, readout = model[0].weight.detach(), model[1].weight.detach()
    torch.testing.assert_close(weight.square().sum(1), readout.square().sum(0))
    with pytest.raises(InputError, match="no unit of the model can be scaled"):
        balanced(two_layers(Cubic))


def test_an_operation_from_outside_passes_scales(monkeypatch: pytest.MonkeyPatch) -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b, self.out = (nn.Linear(5, n, dtype=torch.float64) for n in (5, 5, 2))

        def forward(self, x: Tensor) -> Tensor:
            return self.out(torch.hypot(self.a(x), self.b(x)))

    monkeypatch.delitem(signals.handlers, "hypot", raising=False)
    with pytest.raises(InputError, match="no unit of the model can be scaled"):
        balanced(Branches())

    def root_of_squares(call: signals.Call) -> Tensor:
        a, b = (call.gains(value) for value in call.args)
        call.builder.tie(a, b)
        return a

    monkeypatch.setitem(signals.handlers, "hypot", None)  # so that the entry goes with the test
    signals.handles("hypot")(root_of_squares)
    old, new = balanced(Branches())
    assert new < 0.99 * old


def network(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3)).double()


def test_a_cost_and_a_solver_from_outside() -> None:
    class Doubled(balance.Mixture):
        @property
        def terms(self) -> tuple[tuple[float, float], ...]:
            return tuple((2 * a, p) for a, p in super().terms)

    asked: list[float] = []

    def careful(problem: Problem, z: Tensor, at: Marginals, options: Options) -> Solution:
        asked.append(options.tol)
        return methods["newton"](problem, z, at, options)

    plain, doubled = network(0), network(0)
    first = balance.balance_(plain, balance.Mixture([(1.0, 2.0), (0.5, 1.0)]))
    methods.register("careful")(careful)
    try:
        second = balance.balance_(doubled, Doubled([(1.0, 2.0), (0.5, 1.0)]), method="careful", tol=1e-9)
    finally:
        methods.remove("careful")
    assert asked == [1e-9]
    assert second.cost_before == pytest.approx(2 * first.cost_before)
    assert second.cost_after == pytest.approx(2 * first.cost_after)
    for a, b in zip(plain.parameters(), doubled.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9)
