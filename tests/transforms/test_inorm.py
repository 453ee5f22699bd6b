"""Inhibitory circuits under ``vmap``, full-graph compilation, low precision, copies, and with padded units.

A failure here means that a population, a compiled run or a reloaded network would follow other equations.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from equipoise import functional as f
from equipoise import nn as enn
from equipoise import rules

CLOSE = {"rtol": 1e-10, "atol": 1e-12}


def seeded(build: object, **options: object) -> nn.Module:
    torch.manual_seed(0)
    made = build(**options).double()  # type: ignore[operator]
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(1 + 0.3 * torch.rand_like(parameter))
    return made


VECTOR, IMAGE = (6, 12), (3, 4, 6, 6)
CIRCUITS = {
    "inorm": (lambda: enn.INormLinear(12, 9, gradnorm="full"), VECTOR),
    "inorm_lateral": (lambda: enn.INormLinear(12, 9, gradnorm="lateral", train_ei=True, detach=()), VECTOR),
    "inorm_straight": (lambda: enn.INormLinear(12, 9, division="straight", bias="inside"), VECTOR),
    "inorm_conv": (lambda: enn.INormConv2d(4, 5, 3, gradnorm="center+scale"), IMAGE),
    "dale": (lambda: enn.DaleLinear(12, 9), VECTOR),
    "dale_conv": (lambda: enn.DaleConv2d(4, 5, 3), IMAGE),
    "dann": (lambda: enn.DANNLinear(12, 9), VECTOR),
    "dann_conv": (lambda: enn.DANNConv2d(4, 5, 3), IMAGE),
    "lateral_norm": (lambda: enn.LateralNorm(12, modes="full"), VECTOR),
    "lateral_inhibition": (lambda: enn.LateralInhibition(12, pools=2), VECTOR),
    "normalise": (lambda: enn.Normalise(backward=False), VECTOR),
    "detach_norm": (lambda: enn.DetachNorm(dim=-3), IMAGE),
    "on_off": (lambda: enn.OnOff(0.4), IMAGE),
}


def case(name: str) -> tuple[nn.Module, Tensor]:
    build, shape = CIRCUITS[name]
    source = torch.Generator().manual_seed(1)
    return seeded(build), torch.rand(*shape, generator=source, dtype=torch.float64)


def value_and_gradient(module: nn.Module, params: dict[str, Tensor], x: Tensor) -> tuple[Tensor, dict, Tensor]:
    """The output for ``x``, and the gradient of a fixed function of it for parameters and input."""

    def scalar(p: dict[str, Tensor], h: Tensor) -> tuple[Tensor, Tensor]:
        y = torch.func.functional_call(module, p, (h,))
        return (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).reshape(y.shape)).sum(), y

    (grads, back), y = torch.func.grad(scalar, argnums=(0, 1), has_aux=True)(params, x)
    return y, grads, back


def same(found: tuple, wanted: tuple) -> None:
    torch.testing.assert_close(found[0], wanted[0], **CLOSE)
    torch.testing.assert_close(found[2], wanted[2], **CLOSE)
    for name, gradient in wanted[1].items():
        torch.testing.assert_close(found[1][name], gradient, **CLOSE, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("name", CIRCUITS)
def test_vmap_over_weights_and_inputs_equals_members_alone(name: str) -> None:
    module, x = case(name)
    params = {n: torch.stack([p.detach() * k for k in (1, 1.2, 0.7)]) for n, p in module.named_parameters()}
    inputs = torch.stack([x, 2 * x, x.flip(0)])
    found = torch.func.vmap(lambda p, h: value_and_gradient(module, p, h))(params, inputs)
    for k in range(3):
        alone = value_and_gradient(module, {n: p[k] for n, p in params.items()}, inputs[k])
        same((found[0][k], {n: g[k] for n, g in found[1].items()}, found[2][k]), alone)


@pytest.mark.compiles
@pytest.mark.parametrize("name", CIRCUITS)
def test_full_graph_compilation_keeps_the_numbers(name: str) -> None:
    module, x = case(name)
    torch._dynamo.reset()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    outcomes = []
    for run in (module, compiled):
        h = x.clone().requires_grad_()
        y = run(h)
        weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).reshape(y.shape)
        trained = [h, *[p for p in module.parameters() if p.requires_grad]]
        outcomes.append([y, *torch.autograd.grad((y * weights).sum(), trained, allow_unused=True)])
    for a, b in zip(*outcomes, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, **CLOSE)


def inorm_net() -> nn.Sequential:
    return nn.Sequential(
        enn.INormLinear(12, 9, gradnorm="center"),
        nn.ReLU(),
        enn.INormLinear(9, 8, bias="inside"),
        nn.ReLU(),
        nn.Linear(8, 4),
    )


@pytest.mark.compiles
@pytest.mark.parametrize("rule", ["bp", "fa", "dfa"])
def test_a_rule_with_both_objectives_under_vmap_and_compilation(rule: str) -> None:
    model, x, y = seeded(inorm_net), torch.rand(5, 12, dtype=torch.float64), torch.arange(5) % 4
    made = rules.make(rule, model, example=x)
    params = {n: torch.stack([p.detach() * k for k in (1, 1.1, 0.9)]) for n, p in model.named_parameters()}

    def one(p: dict[str, Tensor]) -> dict[str, Tensor]:
        return made.gradients(p, x, y)[0]

    alone = [one({n: p[k] for n, p in params.items()}) for k in range(3)]
    torch._dynamo.reset()
    for run in (torch.func.vmap(one), torch.compile(torch.func.vmap(one), fullgraph=True, backend="aot_eager")):
        found = run(params)
        for k, wanted in enumerate(alone):
            for n, gradient in wanted.items():
                torch.testing.assert_close(found[n][k], gradient, rtol=1e-9, atol=1e-12, msg=lambda m, n=n: f"{n}: {m}")


@pytest.mark.parametrize("name", CIRCUITS)
def test_bfloat16_stays_near_and_keeps_its_dtype(name: str) -> None:
    """Rounding of 2^-8 in e and s is carried over: a tenth of a standard deviation, not more."""
    module, x = case(name)
    wanted = module(x)
    low = copy.deepcopy(module).bfloat16()
    found = low(x.bfloat16())
    assert found.dtype == torch.bfloat16
    assert float((found.double() - wanted).detach().square().mean().sqrt() / wanted.detach().std()) < 0.1
    if hasattr(low, "local_loss"):
        assert low.local_loss(x.bfloat16()).isfinite()


def test_autocast_trains_both_objectives() -> None:
    model, x, y = seeded(inorm_net).float(), torch.rand(5, 12), torch.arange(5) % 4
    rule = rules.make("bp", model, example=x)
    with torch.autocast("cpu", torch.bfloat16):
        step = rule.backward(x, y)
    assert all(float(v) > 0 for v in step.local.values())
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", CIRCUITS)
def test_copies_and_reloaded_states_compute_the_same(name: str) -> None:
    module, x = case(name)
    wanted = module(x)
    other = seeded(CIRCUITS[name][0])
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    other.load_state_dict(copy.deepcopy(module.state_dict()), assign=True)
    assert torch.equal(other(x), wanted)
    assert torch.equal(copy.deepcopy(module)(x), wanted)
    for twin in (other, copy.deepcopy(module)):
        with torch.no_grad():
            for parameter in twin.parameters():
                parameter.sub_(10)
        held = enn.constraints_of(enn.project_(twin))
        assert set(held) == set(enn.constraints_of(module))
        assert all(bool((twin.get_parameter(n) >= 0).all()) for n in held)


PADDED = {
    "inorm": {"gradnorm": "full"},
    "inside": {"gradnorm": "lateral+decorrelate", "bias": "inside"},
    "through": {"gradnorm": "center", "detach": (), "train_ei": True},
}


@pytest.mark.parametrize("name", PADDED)
def test_a_padded_layer_is_the_unpadded_one(name: str) -> None:
    """Units that pad hold zero, and every mean is over the real ones: value, gradients and local loss."""
    small = seeded(lambda: enn.INormLinear(12, 7, pool=2, divisive_pool=6, **PADDED[name]))
    large = enn.INormLinear(12, 10, pool=3, divisive_pool=8, **PADDED[name]).double()
    with torch.no_grad():
        for p, q in zip(large.parameters(), small.parameters(), strict=True):
            p.zero_()[tuple(slice(k) for k in q.shape)] = q
        if small.edit.nu is not None:
            large.edit.nu.zero_()[:7] = small.edit.nu
    large.count, large.divisive_count = torch.tensor(7), torch.tensor(6)
    h = torch.rand(4, 12, dtype=torch.float64)
    g = torch.randn(4, 7, dtype=torch.float64)
    outcomes = []
    for layer in (small, large):
        x = h.clone().requires_grad_()
        y = layer(x)[:, :7]
        ends = [x, *(p for p in layer.parameters() if p.requires_grad)]
        task = torch.autograd.grad((y * g).sum(), ends, allow_unused=True)
        loss = layer.local_loss(h)
        local = torch.autograd.grad(loss, ends, allow_unused=True)
        outcomes.append([y, loss, *task, *local])
    for a, b in zip(*outcomes, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(b[tuple(slice(k) for k in a.shape)], a, **CLOSE)
            rest = b.detach().clone()
            rest[tuple(slice(k) for k in a.shape)] = 0
            assert name == "through" or not rest.any()


def test_padded_moments_and_their_layers() -> None:
    z = torch.randn(4, 7, dtype=torch.float64)
    wide = torch.cat([z, torch.zeros(4, 3, dtype=torch.float64)], 1)
    count = torch.tensor(7)
    torch.testing.assert_close(f.mean(wide, count), z.mean(1), **CLOSE)
    torch.testing.assert_close(f.variance(wide, count), z.var(1, correction=0), **CLOSE)
    for make in (
        enn.Normalise,
        lambda: enn.Normalise(centre=False, backward=False),
        enn.DetachNorm,
        lambda: enn.GradNorm("full"),
    ):
        small, large = make(), make()
        large.count = count
        g = torch.randn(4, 7, dtype=torch.float64)
        a, b = z.clone().requires_grad_(), wide.clone().requires_grad_()
        y, padded = small(a), large(b)
        torch.testing.assert_close(padded[:, :7], y, **CLOSE)
        assert not padded[:, 7:].any()
        back = torch.autograd.grad((padded[:, :7] * g).sum(), b)[0]
        torch.testing.assert_close(back[:, :7], torch.autograd.grad((y * g).sum(), a)[0], **CLOSE)
