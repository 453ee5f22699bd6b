"""PEPITA against its definition, written out as two plain forward passes; what it tends to; what its switches change.

A failure means that training by ``pepita`` is not the rule of the paper, or not the variant that was asked for.
"""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise import rules

torch.manual_seed(0)


def dense(*, dropout: float = 0.0, bias: bool = False, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    torch.manual_seed(1)
    drop = [nn.Dropout(dropout)] if dropout else []
    layers = [nn.Flatten(), nn.Linear(12, 9, bias=bias), activation(), *drop]
    layers += [nn.Linear(9, 7, bias=bias), activation(), *drop, nn.Linear(7, 4, bias=bias)]
    return nn.Sequential(*layers).double()


def kernels(*, dropout: float = 0.0, bias: bool = False) -> nn.Sequential:
    torch.manual_seed(2)
    drop = [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(
        nn.Conv2d(2, 5, 3, bias=bias, padding=1),
        nn.ReLU(),
        *drop,
        nn.MaxPool2d(2),
        nn.Conv2d(5, 6, 3, bias=bias, stride=2, groups=1),
        nn.ReLU(),
        nn.AvgPool2d(2, ceil_mode=True),
        nn.Flatten(),
        nn.Linear(24, 4, bias=bias),
    ).double()


def batch(kind: str, n: int = 6) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(3)
    shape = (n, 12) if kind == "dense" else (n, 2, 20, 20)
    return torch.randn(*shape, generator=g).double(), torch.arange(n) % 4


def oracle(model: nn.Sequential, x: Tensor, y: Tensor, feedback: Tensor, noise: dict[str, Tensor], **chosen) -> dict:
    """The rule as printed: two whole passes, explicit loops over samples and positions."""

    def run(h: Tensor) -> tuple[list[Tensor], list[Tensor], Tensor]:
        inputs, units, number = [], [], 0
        for layer in model:
            if isinstance(layer, (nn.Linear, nn.Conv2d)):
                inputs.append(h)
                h = layer(h)
                units.append(h)
            elif isinstance(layer, nn.Dropout):
                h = h * noise[f"dropout{number}"] / (1 - layer.p)
                units[-1] = h
                number += 1
            else:
                h = layer(h)
                if isinstance(layer, nn.ReLU):
                    units[-1] = h
        return inputs, units, h

    with torch.no_grad():
        u, h, output = run(x)
        e = output.softmax(-1) - F.one_hot(y, 4)
        shown = noise["perturbation"] * chosen["k"] if "perturbation" in noise else e
        um, hm, scores = run(x + chosen.get("sign", 1) * (shown @ feedback.T).reshape(x.shape))
        if chosen.get("output_error") == "modulated":
            e = scores.softmax(-1) - F.one_hot(y, 4)
        pre = u if chosen.get("presynaptic") == "standard" else um
        layers = [(n, m) for n, m in model.named_children() if isinstance(m, (nn.Linear, nn.Conv2d))]
        found = {}
        for k, (name, layer) in enumerate(layers):
            post = e if k == len(layers) - 1 else h[k] - hm[k]
            if isinstance(layer, nn.Linear):
                found[f"{name}.weight"] = sum(torch.outer(a, b) for a, b in zip(post, pre[k], strict=True)) / len(x)
                b = post.mean(0)
            else:
                found[f"{name}.weight"] = loop(layer, post, pre[k]) * chosen.get("factor", 1.0)
                b = post.mean((0, 2, 3)) * chosen.get("factor", 1.0)
            if layer.bias is not None:
                found[f"{name}.bias"] = b
    return found


def loop(layer: nn.Conv2d, post: Tensor, x: Tensor) -> Tensor:
    """Position by position: difference times the patch that the kernel saw, averaged over samples and positions."""
    size, stride = layer.kernel_size[0], layer.stride[0]
    p = layer.padding[0]
    x = F.pad(x, (p, p, p, p))
    total = torch.zeros_like(layer.weight)
    for n, i, j in itertools.product(range(len(x)), range(post.shape[2]), range(post.shape[3])):
        patch = x[n, :, i * stride : i * stride + size, j * stride : j * stride + size]
        total += post[n, :, i, j].reshape(-1, 1, 1, 1) * patch
    return total / (len(x) * post.shape[2] * post.shape[3])


def written(model: nn.Module, x: Tensor, y: Tensor, seed: int = 5, **options) -> tuple[dict, dict, rules.Rule]:
    rule = rules.make("pepita", model, example=x[:2], seed=seed, scale=options.pop("scale", 0.5), **options)
    noise = rule.draw(x, torch.Generator().manual_seed(7))
    model.zero_grad()
    rule.backward(x, y, generator=torch.Generator().manual_seed(7))
    return {n: p.grad for n, p in model.named_parameters()}, noise, rule


OPTIONS = (
    {},
    {"sign": -1},
    {"output_error": "modulated"},
    {"presynaptic": "standard"},
    {"update": "during"},
    {"update": "hebbian"},
    {"update": "hebbian", "presynaptic": "standard", "output_error": "modulated"},
    {"perturb": "uniform", "k": 0.3},
    {"perturb": "positive", "k": 0.7},
)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("n", [6, 3])
@pytest.mark.parametrize("kind", ["dense", "kernels"])
def test_it_is_the_two_passes_as_printed(kind: str, n: int, dropout: float, bias: bool, options: dict) -> None:
    model = dense(dropout=dropout, bias=bias) if kind == "dense" else kernels(dropout=dropout, bias=bias)
    x, y = batch(kind, n)
    found, noise, rule = written(model, x, y, **options)
    expected = oracle(model, x, y, next(iter(rule.feedback().values())), noise, **options)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-12)
    pure, step, _ = rule.gradients({n: p.detach() for n, p in model.named_parameters()}, x, y, noise=noise)
    for name, gradient in expected.items():
        torch.testing.assert_close(pure[name], gradient, rtol=1e-9, atol=1e-12)
    assert step.output.shape == (n, 4)


@pytest.mark.parametrize("kind", ["dense", "kernels"])
def test_the_hebbian_pair_of_updates_has_the_same_sum(kind: str) -> None:
    model = dense(dropout=0.4) if kind == "dense" else kernels(dropout=0.4)
    x, y = batch(kind)
    plain, *_ = written(model, x, y)
    pair, *_ = written(model, x, y, update="hebbian")
    for name, gradient in plain.items():
        torch.testing.assert_close(pair[name], gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", ["dense", "kernels"])
def test_without_f_the_output_layer_is_backpropagations_and_the_rest_stays(kind: str) -> None:
    model = dense(bias=True) if kind == "dense" else kernels(bias=True)
    x, y = batch(kind)
    found, *_ = written(model, x, y, scale=0.0)
    last = f"{len(model) - 1}."
    model.zero_grad()
    F.cross_entropy(model(x), y).backward()
    for name, parameter in model.named_parameters():
        if name.startswith(last):
            torch.testing.assert_close(found[name], parameter.grad, rtol=1e-10, atol=1e-13)
        else:
            assert not found[name].any()


def test_a_small_f_gives_direct_feedback_through_the_weights_and_f() -> None:
    """dW_l -> -(D_l W_l ... D_1 W_1 F) e h^T: direct feedback with the matrix -(W_l D_{l-1} ... W_1 F), then D_l."""
    model = dense()
    x, y = batch("dense")
    found, _, rule = written(model, x, y, scale=1e-6)
    feedback = rule.feedback()["1"]
    assert feedback.abs().max() <= 1e-6
    with torch.no_grad():
        e = model(x).softmax(-1) - F.one_hot(y, 4)
        h, moved = x, e @ feedback.T
        for name in ("1", "3"):
            layer = model.get_submodule(name)
            z = layer(h)
            assert z.abs().min() > 1e-5, "a unit at its kink"
            moved = (moved @ layer.weight.T) * (z > 0)
            expected = -moved.T @ h / len(x)
            error = (found[f"{name}.weight"] - expected).norm() / expected.norm()
            assert 0 < error <= 1e-3
            h = z.relu()


def test_in_a_linear_network_the_update_is_exact_and_not_a_limit() -> None:
    """Appendix E, eq. 17: dA = A F e x^T for the presynaptic activity of the first pass, whatever the size of F."""
    model = nn.Sequential(nn.Linear(12, 9, bias=False), nn.Identity(), nn.Linear(9, 4, bias=False)).double()
    x, y = batch("dense")
    rule = rules.make("pepita", model, example=x, loss="mse", presynaptic="standard", scale=3.0)
    output = rule.backward(x, y).output
    e = output - F.one_hot(y, 4)
    a = model[0].weight.detach()
    expected = -a @ rule.feedback()["0"] @ e.T @ x / len(x)
    torch.testing.assert_close(model[0].weight.grad, expected, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize(("norm", "factor"), [("positions", 1.0), ("sqrt", "root"), ("none", "all")])
def test_kernels_are_normalised_as_asked_and_scaled_by_their_rate(norm: str, factor: float | str) -> None:
    model = kernels(bias=True)
    x, y = batch("kernels")
    mean, *_ = written(model, x, y)
    found, *_ = written(model, x, y, conv_norm=norm, kernel_rate=0.25)
    for layer, positions in (("0", 400), ("3", 16)):
        times = {"root": math.sqrt(positions), "all": positions}.get(factor, 1.0) * 0.25
        for part in ("weight", "bias"):
            torch.testing.assert_close(found[f"{layer}.{part}"], mean[f"{layer}.{part}"] * times)
    torch.testing.assert_close(found["7.weight"], mean["7.weight"])


def test_the_released_dense_code_learns_from_the_second_error_and_masks_twice() -> None:
    model = dense(dropout=0.4)
    x, y = batch("dense")
    released, *_ = written(model, x, y, variant="released")
    modulated, *_ = written(model, x, y, output_error="modulated")
    torch.testing.assert_close(released["7.weight"], modulated["7.weight"])
    for name in ("1.weight", "4.weight"):
        # A masked unit has no update and a kept one 1/keep times as much, once more than the difference itself.
        torch.testing.assert_close(released[name], modulated[name] / 0.6)


def test_the_released_kernels_move_the_other_way_and_once_more_by_the_batch() -> None:
    model = kernels()
    x, y = batch("kernels")
    released, *_ = written(model, x, y, variant="released", output_error="modulated")
    paper, *_ = written(model, x, y)
    for name in ("0.weight", "3.weight"):
        torch.testing.assert_close(released[name], -paper[name] / len(x))
    torch.testing.assert_close(released["7.weight"], paper["7.weight"])


def test_an_injection_at_a_hidden_layer_teaches_from_there_on() -> None:
    model = dense()
    x, y = batch("dense")
    found, _, rule = written(model, x, y, inject="3")
    assert {n: tuple(f.shape) for n, f in rule.feedback().items()} == {"3": (9, 4)}
    assert found["1.weight"] is None
    upper = nn.Sequential(*list(model)[3:])
    h = model[:3](x).detach()
    expected = oracle(upper, h, y, rule.feedback()["3"], {})
    torch.testing.assert_close(found["3.weight"], expected["0.weight"])
    torch.testing.assert_close(found["5.weight"], expected["2.weight"])
    pure, *_ = rule.gradients(dict(model.named_parameters()), x, y)
    assert not pure["1.weight"].any()


def test_during_the_second_pass_each_layer_is_done_before_the_next_begins() -> None:
    """With an optimiser per layer in the gradients' hooks the weights end as after both passes."""
    after, during = dense(), dense()
    x, y = batch("dense")
    rules.make("pepita", after, example=x, scale=0.5).backward(x, y)
    with torch.no_grad():
        for p in after.parameters():
            p -= 0.1 * p.grad
    rule, order = rules.make("pepita", during, example=x, scale=0.5, update="during"), []
    for name, p in during.named_parameters():

        def step(p: Tensor, name: str = name) -> None:
            order.append((name, [q.grad is not None for q in during.parameters()]))
            p.data.sub_(0.1 * p.grad)

        p.register_post_accumulate_grad_hook(step)
    rule.backward(x, y)
    assert order == [
        ("1.weight", [True, False, False]),
        ("3.weight", [True, True, False]),
        ("5.weight", [True, True, True]),
    ]
    for a, b in zip(after.parameters(), during.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_a_layer_that_is_used_twice_gets_both_its_gradients() -> None:
    shared = nn.Linear(6, 6, bias=False)
    model = nn.Sequential(shared, nn.ReLU(), shared, nn.ReLU(), nn.Linear(6, 4)).double()
    apart = nn.Sequential(
        nn.Linear(6, 6, bias=False), nn.ReLU(), nn.Linear(6, 6, bias=False), nn.ReLU(), nn.Linear(6, 4)
    ).double()
    for k in (0, 2, 4):
        apart[k].load_state_dict(model[k].state_dict())
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(0)).double()
    y = torch.arange(5) % 4
    one, two = (rules.make("pepita", m, example=x, scale=0.5) for m in (model, apart))
    one.backward(x, y)
    two.backward(x, y)
    torch.testing.assert_close(shared.weight.grad, apart[0].weight.grad + apart[2].weight.grad)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(2, 4, 3, padding="same"),
        nn.Conv2d(2, 4, 4, padding="same", dilation=2),
        nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(2, 4, 3, padding="same", padding_mode="circular"),
        nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=(1, 0), groups=2),
    ],
    ids=str,
)
def test_kernels_of_every_geometry_see_the_patches_that_they_acted_on(layer: nn.Conv2d) -> None:
    """The kernel's gradient is that of <z', h - h'> with z' the layer's own output for the modulated image."""
    x, y = batch("kernels", 5)
    x = x[..., :8, :8].contiguous()
    layer = layer.double()
    model = nn.Sequential(layer, nn.ReLU(), nn.Flatten(), nn.LazyLinear(4)).double()
    model(x)
    rule = rules.make("pepita", model, example=x, scale=0.5)
    output = rule.backward(x, y).output
    e = output.softmax(-1) - F.one_hot(y, 4)
    modulated = x + (e @ rule.feedback()["0"].T).reshape(x.shape)
    post = layer(x).relu() - layer(modulated).relu()
    target = (layer(modulated) * post.detach()).sum() / post[:, 0].numel()
    for found, wanted in zip(
        (layer.weight.grad, layer.bias.grad), torch.autograd.grad(target, [layer.weight, layer.bias]), strict=True
    ):
        torch.testing.assert_close(found, wanted)
