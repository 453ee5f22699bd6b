"""Spiking circuits under ``vmap``, full-graph compilation, low precision, copies and files.

A failure here means that a population, a compiled run or a reloaded network would follow other equations.
"""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch import Tensor, nn

from equipoise import functional as f
from equipoise import nn as enn
from equipoise import rules

CLOSE = {"rtol": 1e-10, "atol": 1e-12}
STEPS = 3


def linear(**options: object) -> nn.Module:
    net = nn.Sequential(
        enn.EILinear(6, 9, **options),  # type: ignore[arg-type]
        enn.LIF(torch.linspace(1.5, 3, 9), threshold=0.2, learn=("tau", "threshold")),
        enn.EILinear(9, 3, readout=True),
    )
    return enn.OverTime(net, STEPS)


def image() -> nn.Module:
    net = nn.Sequential(
        enn.EIConv2d(2, 5, 3, padding=1, pool=2, scaling="gradient"),
        enn.LIF(threshold=0.2, reset="hard", surrogate="arctangent"),
        nn.AvgPool2d(2),
        nn.Flatten(),
        enn.EILinear(20, 3, readout=True),
    )
    return enn.OverTime(net, STEPS)


def recurrent() -> nn.Module:
    layer = enn.RecurrentEI(enn.EILinear(6, 9, pool=2), enn.LIF(threshold=0.2, through_reset=True))
    return enn.OverTime(nn.Sequential(layer, enn.EILinear(9, 3, readout=True)), STEPS)


BUILDS = {
    "linear": (linear, (5, 6)),
    "spiking": (lambda: linear(inhibition="spiking"), (5, 6)),
    "image": (image, (5, 2, 4, 4)),
    "recurrent": (recurrent, (5, 6)),
}


def case(name: str) -> tuple[nn.Module, Tensor]:
    build, shape = BUILDS[name]
    torch.manual_seed(0)
    model = build().double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.rand_like(parameter))
    return model, torch.rand(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def value_and_gradient(model: nn.Module, params: dict[str, Tensor], x: Tensor) -> tuple[Tensor, dict, Tensor]:
    def scalar(p: dict[str, Tensor], h: Tensor) -> tuple[Tensor, Tensor]:
        y = torch.func.functional_call(model, p, (h,))
        return (y * torch.linspace(-1, 2, y.numel(), dtype=y.dtype).reshape(y.shape)).sum(), y

    (grads, back), y = torch.func.grad(scalar, argnums=(0, 1), has_aux=True)(params, x)
    return y, grads, back


@pytest.mark.parametrize("name", BUILDS)
def test_vmap_over_weights_and_inputs_equals_members_alone(name: str) -> None:
    model, x = case(name)
    params = {n: torch.stack([p.detach() * k for k in (1, 1.2, 0.7)]) for n, p in model.named_parameters()}
    inputs = torch.stack([x, 0.5 * x, x.flip(0)])
    y, grads, back = torch.func.vmap(lambda p, h: value_and_gradient(model, p, h))(params, inputs)
    for k in range(3):
        alone = value_and_gradient(model, {n: p[k] for n, p in params.items()}, inputs[k])
        torch.testing.assert_close(y[k], alone[0], **CLOSE)
        torch.testing.assert_close(back[k], alone[2], **CLOSE)
        for n, gradient in alone[1].items():
            assert bool(gradient.abs().sum() > 0), n
            torch.testing.assert_close(grads[n][k], gradient, **CLOSE, msg=lambda m, n=n: f"{n}: {m}")


@pytest.mark.parametrize("dims", [(0, None, None), (None, 0, None), (None, None, 0), (1, 0, 0)])
def test_vmap_over_any_of_currents_leak_and_threshold(dims: tuple) -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(4, 2, 3, 5, generator=g, dtype=torch.float64)
    leak, theta = torch.rand(2, 4, 5, generator=g, dtype=torch.float64) + 0.1
    x = x if dims[0] is not None else x[0]
    leak, theta = (c if d is not None else c[0] for c, d in ((leak, dims[1]), (theta, dims[2])))
    x = x.transpose(0, 1) if dims[0] == 1 else x

    def run(x: Tensor, leak: Tensor, theta: Tensor) -> tuple[Tensor, ...]:
        def total(*given: Tensor) -> Tensor:
            s, v = f.lif(given[0], leak=given[1], threshold=given[2])
            return (s * torch.arange(s.numel(), dtype=s.dtype).reshape(s.shape)).sum() + v.square().sum()

        return torch.func.grad(total, argnums=(0, 1, 2))(x, leak, theta)

    found = torch.func.vmap(run, in_dims=dims)(x, leak, theta)
    for k in range(4):
        given = [t if d is None else t.select(d, k) for t, d in zip((x, leak, theta), dims, strict=True)]
        for a, b in zip(found, run(*given), strict=True):
            torch.testing.assert_close(a[k], b, **CLOSE)


@pytest.mark.compiles
@pytest.mark.parametrize("name", BUILDS)
def test_full_graph_compilation_keeps_the_numbers(name: str) -> None:
    model, x = case(name)
    torch._dynamo.reset()
    outcomes = []
    for run in (model, torch.compile(model, fullgraph=True, backend="aot_eager")):
        h = x.clone().requires_grad_()
        y = run(h)
        weights = torch.linspace(-1, 2, y.numel(), dtype=y.dtype).reshape(y.shape)
        outcomes.append([y, *torch.autograd.grad((y * weights).sum(), [h, *model.parameters()])])
    for a, b in zip(*outcomes, strict=True):
        torch.testing.assert_close(a, b, **CLOSE)


@pytest.mark.compiles
@pytest.mark.parametrize("rule", ["bp", "fa", "dfa"])
def test_a_rule_over_time_under_vmap_and_compilation(rule: str) -> None:
    model, x = case("linear")
    y = torch.arange(5) % 3
    made = rules.make(rule, model, example=x)
    params = {n: torch.stack([p.detach() * k for k in (1, 1.1, 0.9)]) for n, p in model.named_parameters()}

    def one(p: dict[str, Tensor]) -> dict[str, Tensor]:
        return made.gradients(p, x, y)[0]

    torch._dynamo.reset()
    mapped = torch.compile(torch.func.vmap(one), fullgraph=True, backend="aot_eager")(params)
    for k in range(3):
        for n, gradient in one({n: p[k] for n, p in params.items()}).items():
            torch.testing.assert_close(mapped[n][k], gradient, **CLOSE)
    made.backward(x, y)
    for n, p in model.named_parameters():
        assert p.grad is not None
        torch.testing.assert_close(p.grad, one({n: p[0] for n, p in params.items()})[n], **CLOSE)


def test_direct_feedback_sends_every_time_step_the_same_error() -> None:
    """The gradient at the hidden site, (T B, 9), is B e repeated T times, time-major."""
    model, x = case("linear")
    y = torch.arange(5) % 3
    made = rules.make("dfa", model, example=x)
    spikes: list[Tensor] = []
    model.net[1].register_forward_hook(lambda m, a, s: spikes.append(s))  # type: ignore[index]
    model.net[1].register_full_backward_hook(lambda m, a, g: spikes.append(g[0]))  # type: ignore[index]
    step = made.backward(x, y)
    error = (step.output.softmax(1) - torch.eye(3, dtype=torch.float64)[y]) / 5
    sent = error @ next(iter(made.feedback().values())).T
    torch.testing.assert_close(spikes[1].unflatten(0, (STEPS, 5)), sent.expand(STEPS, 5, 9), **CLOSE)


@pytest.mark.parametrize("name", BUILDS)
def test_copies_and_files_keep_everything(name: str) -> None:
    model, x = case(name)
    y, grads, _ = value_and_gradient(model, dict(model.named_parameters()), x)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    fresh = BUILDS[name][0]().double()
    fresh.load_state_dict(torch.load(file, weights_only=True))
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), fresh):
        again, also, _ = value_and_gradient(copied, dict(copied.named_parameters()), x)
        assert torch.equal(again, y)
        for n, gradient in grads.items():
            torch.testing.assert_close(also[n], gradient, **CLOSE)


def test_a_start_from_data_is_remembered_in_a_file() -> None:
    model, x = case("linear")
    enn.ei_init_(model, x)
    fresh = linear().double()
    fresh.load_state_dict(model.state_dict())
    report = enn.ei_init_(fresh, torch.rand_like(x), seed=7)
    assert report.layers == ()
    assert len(report.kept) == 2
    assert torch.equal(fresh(x), model(x))
    assert len(enn.ei_init_(fresh, x, again=True).layers) == 2


def test_bfloat16_is_as_near_as_its_spikes_allow() -> None:
    """One layer, so that no spike flips: the drive is rounded, the division and the membrane are not."""
    torch.manual_seed(0)
    layer = enn.EILinear(64, 32)
    h = (torch.rand(40, 64) < 0.3).float()
    exact = layer(h).detach()
    layer, z = layer.bfloat16(), layer.bfloat16()(h.bfloat16()).detach()
    assert z.dtype == torch.bfloat16
    assert float((z.float() - exact).abs().mean()) < 0.05 * float(exact.std())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model, x = case("linear")
        out = model.float()(x.float())
    out.float().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())


def test_another_number_of_steps_at_any_time() -> None:
    model, x = case("linear")
    model.steps = 7  # type: ignore[assignment]
    alone = enn.OverTime(model.net, 7)  # type: ignore[arg-type]
    assert torch.equal(model(x), alone(x))
    assert {m.steps for m in model.modules() if hasattr(m, "steps")} == {7}
