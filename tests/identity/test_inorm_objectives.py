"""Two objectives in one network: the task's and inhibition's own, and the rules that carry the task's error.

A failure here means that inhibition would learn from the labels, or excitation from the local loss: then a comparison
of the two says nothing.
"""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise import functional as f
from equipoise import measure, rules
from equipoise import nn as enn
from nets import EXACT, grads

INHIBITORY = ("weight_ie", "weight_ei", "divisive_ie", "divisive_ei")
RULES = ("bp", "fa", "dfa", "drtp", "shallow", "usf")


def batch(n: int = 6, width: int = 12) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(n)
    return torch.rand(n, width, generator=g, dtype=torch.float64), torch.arange(n) % 4


def net(seed: int = 0, **options: object) -> nn.Sequential:
    """Two I-Norm layers whose inhibition is not ideal, so that both objectives have something to do."""
    torch.manual_seed(seed)
    made = nn.Sequential(
        enn.INormLinear(12, 10, **options),  # type: ignore[arg-type]
        nn.ReLU(),
        enn.INormLinear(10, 8, **options),  # type: ignore[arg-type]
        nn.ReLU(),
        nn.Linear(8, 4),
    ).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(1 + 0.5 * torch.rand_like(parameter))
    return made


def inhibitory(name: str) -> bool:
    return name.rsplit(".", 1)[-1] in INHIBITORY


OPTIONS = (
    {},
    {"bias": "inside", "gradnorm": "center"},
    {"gradnorm": "full", "division": "straight"},
    {"gradnorm": "lateral+scale", "divisive": "dale"},
    {"train_ei": True},
    {"divisive": None},
    {"form": "post"},
    {"detach": "divisive"},
    {"detach": ()},
)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_nothing_leaks_between_the_two_objectives(options: dict) -> None:
    """Exact zeros: the task reaches no inhibitory weight, the local loss nothing else, not even the layer below."""
    model, (x, y) = net(**options), batch()
    task = dict(zip(dict(model.named_parameters()), task_gradients(model, x, y), strict=True))
    for name, gradient in task.items():
        if inhibitory(name):
            assert gradient is None or not gradient.any(), name
        else:
            assert gradient is not None
            assert gradient.any(), name
    layer = model[2]
    h = model[:2](x)
    local = torch.autograd.grad(layer.local_loss(h.detach()), list(model.parameters()), allow_unused=True)
    for (name, _), gradient in zip(model.named_parameters(), local, strict=True):
        reached = name.startswith("2.") and inhibitory(name)
        assert (gradient is not None and bool(gradient.any())) == reached, name


def task_gradients(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor | None, ...]:
    """The gradient of the cross-entropy for every parameter, those too that are kept fixed otherwise."""
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    return torch.autograd.grad(F.cross_entropy(model(x), y), list(model.parameters()), allow_unused=True)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_rule_trains_the_local_parameters_alike(name: str, options: dict) -> None:
    model, (x, y) = net(local_weight=0.3, **options), batch()
    step = rules.make(name, model, example=x).backward(x, y)
    found = grads(model)
    inputs = {"0": x, "2": model[:2](x).detach()}
    for place, h in inputs.items():
        layer = model.get_submodule(place)
        trained = {n: p for n, p in layer.named_parameters() if n in INHIBITORY and p.requires_grad}
        loss = layer.local_loss(h)
        torch.testing.assert_close(step.local[place], loss.detach(), **EXACT)
        for n, gradient in zip(trained, torch.autograd.grad(loss, list(trained.values())), strict=True):
            torch.testing.assert_close(found[f"{place}.{n}"], gradient, **EXACT, msg=lambda m, n=n: f"{n}: {m}")


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_backpropagation_by_a_rule_is_autograd_of_the_model(options: dict) -> None:
    """The pass that shares the pools' drives gives the task the gradients of the plain one."""
    model, (x, y) = net(**options), batch()
    rules.make("bp", model, example=x).backward(x, y)
    found = grads(model)
    for (name, _), exact in zip(model.named_parameters(), task_gradients(model, x, y), strict=True):
        if not inhibitory(name):
            torch.testing.assert_close(found[name], exact, **EXACT, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_shared_pass_is_the_two_passes(options: dict) -> None:
    torch.manual_seed(1)
    layer, g = net(**options)[0], torch.randn(2, 3, 10, dtype=torch.float64)
    layer.weight_ei.requires_grad_(True)
    h = torch.rand(2, 3, 12, dtype=torch.float64, requires_grad=True)
    both = layer.forward_with_loss(h)
    assert (both is None) == any(k in options for k in ("train_ei", "form", "detach")) or options.get(
        "divisive", 1
    ) is None
    if both is None:
        return
    ends = [h, *layer.parameters()]
    found = torch.autograd.grad((both[0] * g).sum() + 3 * both[1], ends)
    wanted = torch.autograd.grad((layer(h) * g).sum() + 3 * layer.local_loss(h.detach()), ends)
    torch.testing.assert_close(both[1], layer.local_loss(h.detach()), **EXACT)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, **EXACT)


def test_pathways_that_the_task_trains_get_its_gradient() -> None:
    model, (x, y) = net(detach=(), task_trains=("subtractive", "divisive"), train_ei=True), batch()
    for gradient in task_gradients(model, x, y):
        assert gradient is not None
        assert gradient.any()


def test_feedback_alignment_replaces_the_projections_and_leaves_the_inner_pathway_exact() -> None:
    """delta_h = B_EE^T a - B_IE^T W_EI^T a with a = delta / d: the way from inhibition to excitation is the true one."""
    model, (x, y) = net(detach="divisive", bias=None), batch()
    rule = rules.make("fa", model, example=x)
    assert set(rule.feedback()) == {"0.weight_ee", "0.weight_ie", "2.weight_ee", "2.weight_ie", "4.weight"}
    rule.backward(x, y)
    fed = rule.feedback()
    lower, upper = model[0], model[2]
    z = lower(x)
    h = z.relu()
    z2 = upper(h)
    error = (F.softmax(model[4](z2.relu()), 1) - F.one_hot(y, 4)) / len(y)
    delta = error @ fed["4.weight"] * (z2 > 0) / f.divisive(h, upper.divisive_ie, None, upper.eps)
    back = delta @ fed["2.weight_ee"] - delta @ upper.weight_ei @ fed["2.weight_ie"]
    down = back * (z > 0) / f.divisive(x, lower.divisive_ie, None, lower.eps)
    torch.testing.assert_close(upper.weight_ee.grad, (delta.T @ h).detach(), **EXACT)
    torch.testing.assert_close(lower.weight_ee.grad, (down.T @ x).detach(), **EXACT)


def test_detached_inhibition_needs_no_feedback_and_a_circuit_is_one_site() -> None:
    model, (x, y) = net(), batch()
    assert set(rules.make("fa", model, example=x).feedback()) == {"0.weight_ee", "2.weight_ee", "4.weight"}
    for options in ({}, {"detach": ()}):
        model = net(bias=None, **options)
        rule = rules.make("dfa", model, example=x)
        assert set(rule.feedback()) == {"2", "4"}
        rule.backward(x, y)
        h = model[0](x).relu()
        error = (F.softmax(model(x), 1) - F.one_hot(y, 4)) / len(y)
        delta = error @ rule.feedback()["2"].T * (h > 0)
        wanted = torch.autograd.grad(model[0](x), model[0].weight_ee, delta)[0]
        torch.testing.assert_close(model[0].weight_ee.grad, wanted, **EXACT)


def test_the_exact_reference_switches_every_edit_off() -> None:
    """It differs from the edited gradient, and equals it where nothing was edited or detached."""
    options = {"bias": None, "eps": 1e-13, "local_weight": 0.0}
    torch.manual_seed(0)
    layers = [enn.INormLinear(12, 10, gradnorm="full", **options), nn.ReLU()]
    model = nn.Sequential(*layers, enn.INormLinear(10, 8, gradnorm="full", **options), nn.ReLU(), nn.Linear(8, 4))
    model = model.double()
    model[0].idealise_(), model[2].idealise_()
    x, y = batch()
    x = x.add(0.1)
    found = measure.alignment(rules.make("bp", model, example=x), x, y, "exact")
    fixed = measure.alignment(rules.make("bp", model, example=x), x, y)
    assert all(d < 1e-5 for n, d in fixed.items() if n.endswith("weight_ee"))
    assert found["0.weight_ee"] > 0.1
    frozen = net(detach=(), division="exact")
    plain = measure.alignment(rules.make("bp", frozen, example=x), x, y, "exact")
    assert all(d < 1e-5 for n, d in plain.items() if n.endswith("weight_ee"))
    with f.exact_backward():
        for module in (enn.GradNorm("full"), enn.LateralInhibition(10), enn.Normalise(forward=False)):
            z = torch.randn(4, 10, dtype=torch.float64, requires_grad=True)
            g = torch.randn(4, 10, dtype=torch.float64)
            assert torch.equal(torch.autograd.grad(module(z), z, g)[0], g)


def test_dann_is_its_equation_and_without_division_a_dense_layer() -> None:
    torch.manual_seed(0)
    layer = enn.DANNLinear(20, 12, ratio=0.25).double()
    with torch.no_grad():
        layer.gain.uniform_(0.5, 2), layer.bias.uniform_(-1, 1), layer.weight_ei.uniform_(0, 1)
    h = torch.rand(5, 20, dtype=torch.float64)
    cells = h @ layer.weight_ie.T
    gamma = (torch.exp(layer.alpha) * cells) @ layer.weight_ei.T + 1e-8
    wanted = layer.gain * (h @ layer.weight_ee.T - cells @ layer.weight_ei.T) / gamma + layer.bias
    torch.testing.assert_close(layer(h), wanted, **EXACT)
    plain = enn.DANNLinear(20, 12, ratio=0.25, divisive=False).double()
    effective = plain.weight_ee - plain.weight_ei @ plain.weight_ie
    torch.testing.assert_close(plain(h), F.linear(h, effective, plain.bias), **EXACT)
    dale = enn.DaleLinear(20, 12, pool=3).double()
    effective = dale.weight_ee - dale.weight_ei @ dale.weight_ie
    torch.testing.assert_close(dale(h), F.linear(h, effective, dale.bias), **EXACT)
    stacked = enn.DANNConv2d(20, 12, 1, ratio=0.25).double()
    stacked.load_state_dict({n: t.reshape(stacked.state_dict()[n].shape) for n, t in layer.state_dict().items()})
    found = stacked(h[:, :, None, None]).flatten(1)
    torch.testing.assert_close(found, wanted, **EXACT)


def test_danns_corrections_are_its_gradients_divided() -> None:
    """W_IE by sqrt(n_e), W_EI by d, alpha by d sqrt(n_e): one SGD step by the groups equals the authors' form."""
    torch.manual_seed(0)
    layer, h = enn.DANNLinear(20, 12, ratio=0.25).double(), torch.rand(5, 20, dtype=torch.float64)
    before = {n: p.detach().clone() for n, p in layer.named_parameters()}
    layer(h).square().sum().backward()
    torch.optim.SGD(enn.param_groups(layer, lr=0.1), lr=0.1).step()
    divided = {"weight_ie": math.sqrt(12), "weight_ei": 20.0, "alpha": 20 * math.sqrt(12)}
    for name, parameter in layer.named_parameters():
        wanted = before[name] - 0.1 * parameter.grad / divided.get(name, 1.0)
        torch.testing.assert_close(parameter.detach(), wanted, **EXACT, msg=lambda m, n=name: f"{n}: {m}")
    conv = enn.DANNConv2d(3, 16, 3)
    assert conv.rate_factors == {"weight_ie": 0.25, "weight_ei": 1 / 27, "alpha": 1 / (27 * 4)}


def test_dann_starts_with_a_divisor_near_one_and_drives_of_unit_variance() -> None:
    """For rectified Gaussian input: E gamma = 1 and Var z_E = 1, by the choice of alpha and of the weights' scale."""
    torch.manual_seed(0)
    layer = enn.DANNLinear(784, 500).double()
    h = torch.randn(400, 784, dtype=torch.float64).relu()
    gamma = (layer.alpha.exp() * (h @ layer.weight_ie.T)) @ layer.weight_ei.T
    assert float(gamma.detach().mean()) == pytest.approx(1, abs=0.02)
    drive = (h @ layer.weight_ee.T).detach()
    assert float(drive.var(0).mean() + drive.mean(0).var()) == pytest.approx(1, abs=0.1)
    first = enn.DANNLinear(784, 500, first=True)
    assert float(first.weight_ee.detach().mean()) == pytest.approx(math.sqrt(1 / 1568), rel=0.01)
    one = enn.DANNLinear(30, 20, pool=1)
    torch.testing.assert_close(one.weight_ie[0], one.weight_ee.mean(0))
    assert one.weight_ei.detach().eq(1).all()
