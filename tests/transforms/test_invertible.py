"""Square layers and their inverses under ``vmap``, full-graph compilation, low precision, copies and data parallelism.

A failure here means that a population, a compiled run or a reloaded network would carry other targets, or that
auxiliary units stop an optimiser or a rank.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from equipoise import rules
from equipoise.functional import activations, inverse, orthogonal, patches
from equipoise.nn import InvertibleConv2d, InvertibleLinear, invertible
from equipoise.randomness import generator

CLOSE = {"rtol": 1e-10, "atol": 1e-12}


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed, "square"), dtype=torch.float64)


def near(*members: int, n: int = 8) -> Tensor:
    return torch.linalg.qr(randn(*members, n, n))[0] + 0.1 * randn(*members, n, n, seed=1) / n**0.5


LEAKY, SMOOTH = activations.unit(nn.LeakyReLU(0.1)), activations.unit(nn.ELU())
FUNCTIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "solve": inverse.solve,
    "invert": lambda a, d: d @ inverse.invert(a).T,
    "refine": lambda a, d: inverse.refine(a, d, 3),
    "nearer": lambda a, d: inverse.nearer(a, a[:5]) * d[:5],
    "penalty": lambda a, d: d @ orthogonal.penalty(a)[1],
    "off_diagonal": lambda a, d: orthogonal.penalty(a, "off_diagonal")[0] * d,
    "block": lambda a, d: orthogonal.penalty_block(a, 2, 3) * d[:, :3],
    "retract": lambda a, d: d @ orthogonal.retract(a),
    "polar_step": lambda a, d: d @ orthogonal.retract(a, 2) * orthogonal.distance(a),
    "units": lambda a, d: SMOOTH.inverse(LEAKY.value(d @ a.T)) * LEAKY.slope(d) * LEAKY.inverse(d),
    "carry": lambda a, d: patches.carry_patches(
        d.reshape(2, 8, 2, 2), patches.as_kernels(inverse.invert(a), (8, 2, 2, 2)), (5, 4), 2, "same", "divide"
    ),
    "inverse": lambda a, d: patches.inverse_patches(
        d.reshape(2, 8, 2, 2), d.reshape(2, 2, 4, 4), patches.as_kernels(a.T, (8, 2, 2, 2)), 2, 0
    ),
}


@pytest.mark.parametrize("name", list(FUNCTIONS))
def test_a_population_of_matrices_is_each_of_them(name: str) -> None:
    function, stack, d = FUNCTIONS[name], near(3), randn(8, 8, seed=2)
    together = torch.func.vmap(function, in_dims=(0, None))(stack, d)
    for member, alone in zip(stack, together, strict=True):
        assert torch.allclose(function(member, d), alone, **CLOSE)


@pytest.mark.compiles
@pytest.mark.parametrize("name", list(FUNCTIONS))
def test_full_graph_compilation_changes_nothing(name: str) -> None:
    torch._dynamo.reset()
    function, a, d = FUNCTIONS[name], near(), randn(8, 8, seed=2)
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(a, d), function(a, d), **CLOSE)


@pytest.mark.parametrize("name", list(FUNCTIONS))
def test_bfloat16_stays_bfloat16_and_near(name: str) -> None:
    function, a, d = FUNCTIONS[name], near(), randn(8, 8, seed=2)
    low, exact = function(a.bfloat16(), d.bfloat16()), function(a.bfloat16().double(), d.bfloat16().double())
    assert low.dtype == torch.bfloat16
    assert float((low.double() - exact).norm() / exact.norm()) < 0.1


def layer(kind: str) -> tuple[nn.Module, Tensor]:
    source = generator(3)
    if kind == "linear":
        return InvertibleLinear(8, 5, generator=source).double(), randn(4, 8)
    return InvertibleConv2d(2, 5, 2, 2, "same", overlap=kind, generator=source).double(), randn(4, 2, 5, 6)


def round_trip(made: nn.Module, weights: dict[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """What the layer's inverses give with these weights, all from its own outputs."""

    class Trip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = made

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            s = self.inner(x)
            return self.inner.inverse(1.1 * s, x), self.inner.inverse_difference(s, x)  # type: ignore[operator]

    return torch.func.functional_call(Trip(), {f"inner.{n}": p for n, p in weights.items()}, (x,))


KINDS = ("linear", "subtract", "divide")


@pytest.mark.parametrize("kind", KINDS)
def test_layers_run_backwards_under_vmap(kind: str) -> None:
    made, x = layer(kind)
    weights = {n: torch.stack([p, p + 0.1, p * 0.9]).detach() for n, p in made.named_parameters()}
    weights["weight"] = weights["weight"] + 0.02 * randn(*weights["weight"].shape, seed=5)
    together = torch.func.vmap(lambda w: round_trip(made, w, x))(weights)
    for k in range(3):
        alone = round_trip(made, {n: w[k] for n, w in weights.items()}, x)
        for one, all_ in zip(alone, together, strict=True):
            assert torch.allclose(one, all_[k], **CLOSE)


@pytest.mark.compiles
@pytest.mark.parametrize("kind", KINDS)
def test_layers_run_backwards_compiled(kind: str) -> None:
    torch._dynamo.reset()
    made, x = layer(kind)
    for name in ("forward", "units"):
        compiled = torch.compile(getattr(made, name), fullgraph=True, backend="aot_eager")
        assert torch.allclose(compiled(x), getattr(made, name)(x), **CLOSE)
    for name in ("inverse", "inverse_difference"):
        compiled = torch.compile(getattr(made, name), fullgraph=True, backend="aot_eager")
        s = made(x).detach()
        assert torch.allclose(compiled(s, x), getattr(made, name)(s, x), **CLOSE)


@pytest.mark.parametrize("kind", KINDS)
def test_copies_are_apart_and_states_load(kind: str) -> None:
    made, x = layer(kind)
    twin, sent = copy.deepcopy(made), pickle.loads(pickle.dumps(made))
    other = layer(kind)[0]
    with torch.no_grad():
        for p in made.parameters():
            p.add_(0.3)
    assert not torch.allclose(twin(x), made(x))
    assert torch.equal(twin(x), sent(x))
    assert set(made.state_dict()) == {"weight", "bias"}
    other.load_state_dict(made.state_dict(), assign=True)
    assert torch.equal(other(x), made(x))
    assert torch.equal(other.inverse(made(x), x), made.inverse(made(x), x))  # type: ignore[operator]
    with torch.device("meta"):
        empty = InvertibleLinear(8, 5)
    assert empty.weight.is_meta


@pytest.mark.parametrize("kind", KINDS)
def test_layers_in_bfloat16_and_under_autocast_come_back_nearly(kind: str) -> None:
    made, x = layer(kind)
    low = copy.deepcopy(made).bfloat16()
    back = low.inverse(low(x.bfloat16()), x.bfloat16())  # type: ignore[operator]
    assert back.dtype == torch.bfloat16
    assert float((back.detach().double() - x).norm() / x.norm()) < 0.05
    single = made.float()
    with torch.autocast("cpu", torch.bfloat16):
        back = single.inverse(single(x.float()), x.float())  # type: ignore[operator]
    assert float((back.detach().double() - x).norm() / x.norm()) < 0.05


def test_auxiliary_units_are_nothing_unused_to_data_parallelism(tmp_path: Path) -> None:
    """``DistributedDataParallel`` stops at the second step where a parameter had no gradient in the first."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 6), nn.LeakyReLU(0.1), InvertibleLinear(6, 3))
        parallel = nn.parallel.DistributedDataParallel(model)
        optimiser = torch.optim.AdamW(parallel.parameters(), lr=1e-2)
        for _ in range(3):
            optimiser.zero_grad()
            parallel(torch.rand(4, 6)).square().mean().backward()
            optimiser.step()
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("name", ["bp", "fa", "dfa", "drtp"])
def test_other_rules_train_a_widened_network(name: str) -> None:
    torch.manual_seed(0)
    body = [nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten()]
    model = nn.Sequential(*body, nn.Linear(6 * 9, 4))
    x, y = torch.rand(6, 2, 6, 6), torch.tensor([0, 1, 2, 3, 0, 1])
    twin, _ = invertible(model, x, weights="orthogonal")
    before = copy.deepcopy(twin.state_dict())
    rule = rules.make(name, twin, example=x)
    rule.backward(x, y)
    torch.optim.SGD(twin.parameters(), lr=0.1).step()
    for key, value in twin.state_dict().items():
        seen = twin.get_submodule(key.rpartition(".")[0])
        cut = getattr(seen, "outputs", len(value))
        assert not torch.equal(value[:cut], before[key][:cut])
        assert torch.equal(value[cut:], before[key][cut:])
