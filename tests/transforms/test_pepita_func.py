"""PEPITA under ``vmap`` over its noise, full-graph compilation with masks, low precision, and beside hooks.

A failure means that a compiled, batched or half-precision training would silently follow another rule.
"""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from equipoise import rules
from nets import grads


def net(*, bias: bool = True) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=bias),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(36, 12, bias=bias),
        nn.ReLU(),
        nn.Dropout(0.25),
        nn.Linear(12, 4, bias=bias),
    )


def batch(n: int = 6) -> tuple[Tensor, Tensor]:
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(1)), torch.arange(n) % 4


def source() -> torch.Generator:
    return torch.Generator().manual_seed(2)


def degrees(a: Tensor, b: Tensor) -> float:
    a, b = a.double().flatten(), b.double().flatten()
    return math.degrees(math.acos(min(1.0, float(a @ b / a.norm() / b.norm()))))


def test_masks_are_noise_that_both_passes_and_every_mode_share() -> None:
    model = net().double()
    x, y = batch()
    rule = rules.make("pepita", model, example=x.double(), perturb="uniform")
    noise = rule.draw(x.double(), source())
    assert set(noise) == {"dropout0", "perturbation"}
    assert noise["perturbation"].shape == (6, 4)
    params = dict(model.named_parameters())
    one, *_ = rule.gradients(params, x.double(), y, noise=noise)
    # A unit that is masked in both passes does not learn.
    silent = noise["dropout0"].sum(0) == 0
    masked = {**noise, "dropout0": noise["dropout0"] * (torch.arange(12) != 5)}
    other, *_ = rule.gradients(params, x.double(), y, noise=masked)
    assert not silent[5]
    assert one["4.weight"][5].any()
    assert not other["4.weight"][5].any()
    two = {n: torch.stack([noise[n], masked[n]]) for n in noise}
    both, *_ = torch.func.vmap(lambda n: rule.gradients(params, x.double(), y, noise=n))(two)
    for n in one:
        torch.testing.assert_close(both[n], torch.stack([one[n], other[n]]), rtol=1e-11, atol=1e-14)


@pytest.mark.compiles
@pytest.mark.parametrize(
    "options",
    [{}, {"update": "hebbian", "output_error": "modulated", "conv_norm": "sqrt"}, {"center": "units"}],
    ids=str,
)
def test_a_full_graph_with_masks_equals_eager(options: dict) -> None:
    torch._dynamo.reset()
    model = net().double()
    x, y = batch()
    rule = rules.make("pepita", model, example=x.double(), **options)
    params, noise = {n: p.detach() for n, p in model.named_parameters()}, rule.draw(x.double(), source())
    wanted, *_ = rule.gradients(params, x.double(), y, noise=noise)
    found, *_ = torch.compile(rule.gradients, fullgraph=True, backend="aot_eager")(params, x.double(), y, noise=noise)
    for n, value in wanted.items():
        torch.testing.assert_close(found[n], value, rtol=1e-11, atol=1e-14)


@pytest.mark.slow
@pytest.mark.compiles
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_inductor_agrees() -> None:
    torch._dynamo.reset()
    model = net().double()
    x, y = batch()
    rule = rules.make("pepita", model, example=x.double())
    params, noise = {n: p.detach() for n, p in model.named_parameters()}, rule.draw(x.double(), source())
    wanted, *_ = rule.gradients(params, x.double(), y, noise=noise)
    found, *_ = torch.compile(rule.gradients, fullgraph=True)(params, x.double(), y, noise=noise)
    for n, value in wanted.items():
        torch.testing.assert_close(found[n], value, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("whole", [True, False], ids=["bfloat16", "autocast"])
def test_half_precision_keeps_the_direction_because_differences_are_carried(whole: bool) -> None:
    """At F's own small scale, where the difference of two rounded activities would be mostly rounding.

    In a model of bfloat16 weights units of a pooling window often tie, and the larger of two changes wins.
    """
    model = net(bias=False)
    x, y = batch(32)
    exact = copy.deepcopy(model).double()
    reference = rules.make("pepita", exact, example=x.double())
    reference.backward(x.double(), y, generator=source())
    rule = rules.make("pepita", model.bfloat16() if whole else model, example=x.bfloat16() if whole else x)
    rule.load_state_dict({n: b.to(rule.get_buffer(n).dtype) for n, b in reference.state_dict().items()})
    with torch.autocast("cpu", torch.bfloat16, enabled=not whole):
        rule.backward(x.bfloat16() if whole else x, y, generator=source())
    for (n, g), wanted in zip(grads(model).items(), grads(exact).values(), strict=True):
        assert g.dtype == (torch.bfloat16 if whole else torch.float32)
        assert degrees(g, wanted) < (25 if whole else 8), n


def test_layers_hooks_run_once_a_step_and_change_nothing() -> None:
    x, y = batch()
    plain, heard = net(), net()
    seen: list[tuple[int, ...]] = []
    pair = [rules.make("pepita", model, example=x) for model in (plain, heard)]
    heard[4].register_forward_hook(lambda module, inputs, output: seen.append(tuple(output.shape)))
    for rule in pair:
        rule.backward(x, y, generator=source())
    assert seen == [(6, 12)]
    torch.testing.assert_close(grads(heard), grads(plain))


def test_eval_mode_drops_nothing() -> None:
    model = net().eval()
    x, y = batch()
    torch.testing.assert_close(rules.make("pepita", model, example=x).backward(x, y).output, model(x))


def test_nothing_reads_or_moves_the_global_state() -> None:
    model = net()
    x, y = batch()
    rule = rules.make("pepita", model, example=x, perturb="positive")
    state = torch.get_rng_state()
    rule.backward(x, y, generator=source())
    assert torch.equal(torch.get_rng_state(), state)
