"""Random networks: any rescaling that their graph allows keeps the function, the signs and the zeros.

A failure is a network, shrunk to its smallest, that balance would change. And the graph leaves no freedom out: the
number of its free log-scales is the dimension of the space of rescalings to which the output does not react, found
without the graph.
"""

from __future__ import annotations

from dataclasses import dataclass

import hypothesis.strategies as st
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from torch import Tensor, nn

from equipoise.balance import graph
from equipoise.balance.ledger import Ledger
from equipoise.functional import bipu
from scaling import Net, draw, exponents, rescaled, unchanged


@dataclass(frozen=True)
class Step:
    """One step of a random network: an operation, which earlier signals it reads, and a width where it has one."""

    kind: str
    first: int
    second: int
    width: int
    act: str


KINDS = ("layer", "layer", "layer", "add", "cat", "gate", "again", "transposed", "halve", "bias", "norm", "residual")
ACTS = ("relu", "leaky", "abs", "linear", "square", "root", "tanh")
steps = st.lists(
    st.builds(
        Step,
        st.sampled_from(KINDS),
        st.integers(0, 9),
        st.integers(0, 9),
        st.integers(1, 4),
        st.sampled_from((*ACTS[:4] * 3, *ACTS[4:])),
    ),
    min_size=1,
    max_size=7,
)


def activity(name: str, x: Tensor) -> Tensor:
    acts = {"relu": torch.relu, "leaky": lambda h: F.leaky_relu(h, 0.2), "abs": torch.abs, "linear": lambda h: h}
    more = {"square": lambda h: bipu(h, 2, 1, 0.5), "root": lambda h: bipu(h, 0.5, 1, -1), "tanh": torch.tanh}
    return {**acts, **more}[name](x)


class Random(nn.Module):
    """A dense network grown step by step; each step reads signals made before it, and all of them reach the output."""

    def __init__(self, plan: list[Step]) -> None:
        super().__init__()
        self.plan, self.weights = plan, nn.ParameterDict()
        with torch.no_grad():
            self(torch.zeros(1, 3))

    def weight(self, name: str, *shape: int) -> Tensor:
        if name not in self.weights:
            self.weights[name] = nn.Parameter(torch.rand(shape) + 0.5)
        return self.weights[name]

    def forward(self, x: Tensor) -> Tensor:
        made: list[Tensor] = [x]
        for k, step in enumerate(self.plan):
            a, b = made[step.first % len(made)], made[step.second % len(made)]
            made.append(activity(step.act, self.step(f"s{k}", step, a, b)))
        out = torch.cat(made[1:], -1)
        return F.linear(out, self.weight("out", 2, out.shape[-1]), self.weight("out_bias", 2))

    def layer(self, name: str, a: Tensor, width: int) -> Tensor:
        return F.linear(a, self.weight(name, width, a.shape[-1]), self.weight(f"{name}_bias", width))

    def step(self, name: str, step: Step, a: Tensor, b: Tensor) -> Tensor:
        if step.kind == "add" and a.shape == b.shape:
            return a + b
        if step.kind == "cat":
            return torch.cat([a, b], -1)
        if step.kind == "gate" and a.shape == b.shape:
            return a * b
        if step.kind == "residual":
            return a + self.layer(f"{name}b", self.layer(f"{name}a", a, step.width).relu(), a.shape[-1])
        if step.kind == "halve" and a.shape[-1] % 2 == 0:
            return a[:, ::2] + a[:, 1::2]
        if step.kind == "bias":
            return a + self.weight(name, a.shape[-1])
        if step.kind == "norm":
            return F.layer_norm(a, a.shape[-1:])
        shared = f"shared{a.shape[-1]}"
        if step.kind == "again":
            return a @ self.weight(shared, a.shape[-1], a.shape[-1])
        if step.kind == "transposed":
            return F.linear(a, self.weight(shared, a.shape[-1], a.shape[-1]))
        return self.layer(name, a, step.width)


@pytest.fixture(autouse=True)
def _double() -> None:
    torch.set_default_dtype(torch.float64)


@settings(max_examples=40)
@given(plan=steps, seed=st.integers(0, 1000), zeros=st.booleans())
def test_any_network_keeps_its_function_signs_and_zeros(plan: list[Step], seed: int, zeros: bool) -> None:
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(seed)
    net, generator = Random(plan), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in net.parameters():
            value.mul_(torch.randint(0, 2, value.shape, generator=generator) * 2.0 - 1)
            if zeros:
                value.mul_(torch.randint(0, 3, value.shape, generator=generator) > 0)
    made = unchanged(net, torch.randn(4, 3, generator=generator), seed=seed, width=0.4)
    z = torch.randn(made.scalable, generator=generator, dtype=torch.float64)
    for name, value in rescaled(made, z).items():
        assert torch.equal(value.sign(), net.get_parameter(name).sign())


def freedom(net: nn.Module, x: Tensor) -> int:
    """The dimension of the space of small changes of the weights to which no output on ``x`` reacts.

    The null space of d output / d weights. Where no linear layer follows a linear one, nothing but rescaling of units is
    in it, unless a unit is silent, or always active, on ``x``: that adds directions, and so the least over several
    draws of the weights is what counts.
    """
    names, values = zip(*net.named_parameters(), strict=True)

    def output(*held: Tensor) -> Tensor:
        return torch.func.functional_call(net, dict(zip(names, held, strict=True)), (x,)).reshape(-1)

    held = tuple(v.detach() for v in values)
    columns = torch.autograd.functional.jacobian(output, held, vectorize=True)
    matrix = torch.cat([c.reshape(c.shape[0], -1) for c in columns], 1)
    matrix = matrix / matrix.norm(dim=0).clamp(min=1e-12)
    return matrix.shape[1] - int((torch.linalg.svdvals(matrix) > 1e-9).sum())


def leak(h: Tensor) -> Tensor:
    return F.leaky_relu(h, 0.3)


L = nn.Linear
GENERIC = {
    "two layers": lambda: Net(lambda s, x: s.o(leak(s.b(leak(s.a(x))))), a=L(3, 4), b=L(4, 3), o=L(3, 2)),
    "residual": lambda: Net(
        lambda s, x: s.o((lambda h: leak(h + s.c(leak(s.b(h)))))(leak(s.a(x)))), a=L(3, 3), b=L(3, 4), c=L(4, 3), o=L(3, 2)
    ),
    "input added": lambda: Net(lambda s, x: s.o(leak(x + s.b(leak(s.a(x))))), a=L(3, 4), b=L(4, 3), o=L(3, 2)),
    "gated": lambda: Net(lambda s, x: s.o(s.a(x).relu() * s.b(x)), a=L(3, 4), b=L(3, 4), o=L(4, 2)),
    "powers": lambda: Net(lambda s, x: s.o(bipu(s.b(s.a(x).relu()), 1.5, 1, 2)), a=L(3, 4), b=L(4, 3), o=L(3, 2)),
    "a layer twice": lambda: Net(
        lambda s, x: s.o(leak(s.a(leak(s.a(leak(s.i(x))))))), i=L(3, 3), a=L(3, 3, bias=False), o=L(3, 2)
    ),
    "tied": lambda: Net(
        lambda s, x: F.linear(F.linear(F.linear(F.linear(x, s.a).relu(), s.b).relu(), s.b.t()).relu(), s.a.t()),
        a=draw(3, 3), b=draw(2, 3),
    ),
    "tanh": lambda: Net(lambda s, x: s.o(s.b(s.a(x).relu()).tanh()), a=L(3, 4), b=L(4, 3), o=L(3, 2)),
    "recurrent": lambda: Net(
        lambda s, x: s.o(s.r(x.view(-1, 3, 1))[0][:, -1]), r=nn.RNN(1, 3, nonlinearity="relu", batch_first=True), o=L(3, 2)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GENERIC)
def test_the_graph_finds_every_rescaling_that_there_is(name: str) -> None:
    torch.manual_seed(5)
    net, found = GENERIC[name](), []
    doubled = 3 if name == "recurrent" else 0  # its two biases are one: moving from one to the other changes nothing
    for _ in range(8):
        with torch.no_grad():
            for value in net.parameters():
                value.normal_()
        found.append(freedom(net, 2 * torch.randn(200, 3)))
    assert graph(net, torch.zeros(1, 3)).scalable + doubled == min(found)


def test_gather_is_the_transpose_of_expand() -> None:
    plan = [Step("layer", 0, 0, 3, "square"), Step("residual", 1, 0, 4, "relu"), Step("gate", 2, 1, 0, "linear")]
    rows = graph(Random(plan), torch.zeros(1, 3)).rows
    assert rows.general is not None
    z, g = torch.randn(5, rows.free), torch.randn(5, rows.nodes)
    torch.testing.assert_close((rows.expand(z) * g).sum(-1), (z * rows.gather(g)).sum(-1))
    assert (rows.expand(z)[:, 0] == 0).all()


def test_exponents_are_linear_in_the_log_scales() -> None:
    made = graph(
        Random([Step("layer", 0, 0, 3, "relu"), Step("layer", 0, 0, 3, "leaky"), Step("gate", 1, 2, 0, "linear")]),
        torch.zeros(1, 3),
    )
    one, two = torch.randn(made.scalable), torch.randn(made.scalable)
    for name, power in exponents(made, one + two).items():
        torch.testing.assert_close(power, exponents(made, one)[name] + exponents(made, two)[name])


def test_terms_that_cancel_leave_nothing_of_their_rounding() -> None:
    ledger = Ledger()
    a, b = ledger.fresh(1), ledger.fresh(1)
    ledger.equate([(0.1, a), (0.2, a), (-0.3, a), (1.0, b)])
    rows = ledger.solve()
    assert 0.1 + 0.2 - 0.3 != 0.0
    assert rows.free == 1
    assert (rows.expand(torch.ones(1))[b] == 0).all()
