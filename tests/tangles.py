"""Networks of any wiring for the tests of synaptic balance, and what a test may know of them without the solvers.

A tangle is one matrix between n units (chains, cycles, self-loops, dead units, zeros), inputs, biases and a readout.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from equipoise.balance import Builder, ScalingGraph


class Tangle(nn.Module):
    """h <- relu(W h + U x + b)^degree from h = 0, a few steps; V h is read out. All float64."""

    def __init__(
        self, n: int, *, seed: int = 0, density: float = 0.5, spread: float = 0.0, degree: float = 1.0, steps: int = 3
    ) -> None:
        super().__init__()
        source = torch.Generator().manual_seed(seed)

        def weights(*shape: int) -> nn.Parameter:
            w = torch.randn(*shape, generator=source, dtype=torch.float64)
            w *= torch.rand(*shape, generator=source, dtype=torch.float64) < density
            rows = torch.exp(spread * torch.randn(shape[0], generator=source).double())
            return nn.Parameter(w * rows.view(-1, *[1] * (len(shape) - 1)), requires_grad=False)

        self.W, self.U, self.V, self.b = weights(n, n), weights(n, 3), weights(2, n), weights(n)
        self.n, self.degree, self.steps = n, degree, steps

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), self.n)
        for _ in range(self.steps):
            h = torch.relu(h @ self.W.T + x @ self.U.T + self.b).pow(self.degree)
        return h @ self.V.T


def tangle_graph(
    model: Tangle, *, ties: Sequence[tuple[int, int]] = (), opposed: Sequence[tuple[int, int]] = ()
) -> ScalingGraph:
    """The scaling graph of a tangle; ``ties`` makes log-scales equal, ``opposed`` makes them add up to 0."""
    b = Builder(model)
    into = b.units("h", model.n)
    out = into if model.degree == 1 else b.combine([(model.degree, into)])
    b.use("W", into=into[:, None], out_of=out)
    b.use("U", into=into[:, None], out_of=b.visible())
    b.use("b", into=into, out_of=b.visible(), bias=True)
    b.use("V", into=b.visible(), out_of=out)
    for i, j in ties:
        b.tie(into[i : i + 1], into[j : j + 1])
    for i, j in opposed:
        b.equate([(1.0, into[i : i + 1]), (1.0, into[j : j + 1])])
    return ScalingGraph.declare(b)


def scaled_cost(
    graph: ScalingGraph, z: Tensor, terms: Sequence[tuple[float, float]] = ((1.0, 2.0),), *, skip: Sequence[str] = ()
) -> Tensor:
    """sum over elements and terms (a, p) of a |w_e exp(v_into - v_out)|^p, v = N z: straight from the definition."""
    v = graph.rows.expand(z)
    named = dict(graph.model.named_parameters())
    total = z.new_zeros(())
    for use in graph.uses:
        if use.name in skip:
            continue
        w = named[use.name].detach().double()
        log = torch.where(w == 0, -torch.inf, w.abs().clamp(min=1e-300).log()) + v[use.into] - v[use.out_of]
        total = total + sum(a * torch.exp(p * log).sum() for a, p in terms)
    return total


def edges_of(model: Tangle) -> list[tuple[int, int, Tensor]]:
    """(from, to, weight) of every non-zero weight between nodes: 0 is visible, 1 to n are the units."""
    found = []
    for name, into, out in (("W", 1, 1), ("U", 1, None), ("V", None, 1)):
        w = getattr(model, name).detach()
        for i, j in w.nonzero().tolist():
            found.append((0 if out is None else j + 1, 0 if into is None else i + 1, w[i, j]))
    return found + [(0, i + 1, model.b.detach()[i]) for (i,) in model.b.detach().nonzero().tolist()]


def on_a_path(model: Tangle) -> set[int]:
    """The units (1 to n) that non-zero weights join to an input or bias and to the readout, by plain search."""
    edges = [(a, b) for a, b, _ in edges_of(model)]

    def closure(pairs: list[tuple[int, int]]) -> set[int]:
        found, frontier = set(), [0]
        while frontier:
            here = frontier.pop()
            for a, b in pairs:
                if a == here and b and b not in found:
                    found.add(b)
                    frontier.append(b)
        return found

    return closure(edges) & closure([(b, a) for a, b in edges])
