"""Rules under ``vmap``, full-graph compilation, both, and bfloat16 autocast: the same numbers as eager.

A failure here means that populations or compiled training would silently follow another rule.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from equipoise import rules
from nets import FREE, INVERTING, Dropping, example, grads, image_batch, pairs, zoo

RULES = rules.names()
NETS = ["residual", "folded", "circuit", "local"]


def largest_slow(nets: list[str]) -> list:
    """Rules and networks, of which the largest network's are slow to compile."""
    return [pytest.param(*pair, marks=pytest.mark.slow if pair[1] == "residual" else ()) for pair in pairs(nets)]


def stacked(tensors: dict[str, Tensor], members: int = 3) -> dict[str, Tensor]:
    """Members that differ: the first is the original."""
    g = torch.Generator().manual_seed(1)
    return {
        n: torch.stack(
            [t.detach() + k * 0.1 * torch.randn(t.shape, generator=g, dtype=torch.float64) for k in range(members)]
        )
        if t.is_floating_point()
        else torch.stack([t] * members)
        for n, t in tensors.items()
    }


def close(found: dict[str, Tensor], wanted: dict[str, Tensor], tolerance: float = 1e-11) -> None:
    assert found.keys() == wanted.keys()
    for n, value in wanted.items():
        torch.testing.assert_close(
            found[n], value, rtol=tolerance, atol=tolerance * 0.01, msg=lambda m, n=n: f"{n}: {m}"
        )


def source() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def members_alone(rule: rules.Rule, params: dict, feedback: dict, state: dict, x: Tensor, y: Tensor, k: int) -> tuple:
    pick = lambda tensors: {n: t[k] for n, t in tensors.items()}  # noqa: E731
    noise = rule.draw(x, source())
    return rule.gradients(pick(params), x, y, feedback=pick(feedback), noise=noise, state=pick(state))


@pytest.mark.parametrize(("name", "net"), pairs(NETS))
def test_vmap_over_weights_feedback_and_buffers_equals_members_alone(name: str, net: str) -> None:
    model, x, y = zoo()[net]
    rule = rules.make(name, model, example=x)
    params, feedback = stacked(dict(model.named_parameters())), stacked(rule.feedback())
    state, noise = stacked(dict(model.named_buffers())), rule.draw(x, source())

    def one(p: dict, f: dict, s: dict) -> tuple:
        return rule.gradients(p, x, y, feedback=f, noise=noise, state=s)

    found, step, after = torch.func.vmap(one)(params, feedback, state)
    for k in range(3):
        wanted, alone, buffers = members_alone(rule, params, feedback, state, x, y, k)
        close({n: g[k] for n, g in found.items()}, wanted)
        torch.testing.assert_close(step.loss[k], alone.loss)
        close({n: b[k] for n, b in after.items()}, buffers)


@pytest.mark.compiles
@pytest.mark.parametrize(("name", "net"), largest_slow(NETS))
def test_a_full_graph_equals_eager(name: str, net: str) -> None:
    torch._dynamo.reset()
    model, x, y = zoo()[net]
    rule = rules.make(name, model, example=x)
    params = {n: p.detach() for n, p in model.named_parameters()}
    feedback, state, noise = rule.feedback(), dict(model.named_buffers()), rule.draw(x, source())
    wanted, alone, after = rule.gradients(params, x, y, feedback=feedback, noise=noise, state=state)
    compiled = torch.compile(rule.gradients, fullgraph=True, backend="aot_eager")
    found, step, buffers = compiled(params, x, y, feedback=feedback, noise=noise, state=state)
    close(found, wanted)
    close(buffers, after)
    torch.testing.assert_close(step.output, alone.output)


@pytest.mark.compiles
@pytest.mark.parametrize(("name", "net"), largest_slow(["residual", "local"]))
def test_a_full_graph_of_vmap_equals_eager(name: str, net: str) -> None:
    torch._dynamo.reset()
    model, x, y = zoo()[net]
    rule = rules.make(name, model, example=x)
    params, feedback = stacked(dict(model.named_parameters())), stacked(rule.feedback())
    state, noise = stacked(dict(model.named_buffers())), rule.draw(x, source())

    def one(p: dict, f: dict, s: dict) -> tuple:
        return rule.gradients(p, x, y, feedback=f, noise=noise, state=s)

    compiled = torch.compile(torch.func.vmap(one), fullgraph=True, backend="aot_eager")
    found, _, _ = compiled(params, feedback, state)
    wanted, _, _ = members_alone(rule, params, feedback, state, x, y, 2)
    close({n: g[2] for n, g in found.items()}, wanted)


@pytest.mark.slow
@pytest.mark.compiles
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("name", ["fa", "dfa"])
def test_inductor_agrees(name: str) -> None:
    torch._dynamo.reset()
    model, x, y = zoo()["mlp"]
    rule = rules.make(name, model, example=x)
    params = {n: p.detach() for n, p in model.named_parameters()}
    wanted, *_ = rule.gradients(params, x, y)
    found, *_ = torch.compile(rule.gradients, fullgraph=True)(params, x, y)
    close(found, wanted, 1e-9)


@pytest.mark.parametrize("name", FREE)
def test_masks_are_noise_that_every_mode_shares(name: str) -> None:
    torch.manual_seed(0)
    model = Dropping().double().train()
    x, y = image_batch()
    x = x.double()
    rule = rules.make(name, model, example=x)
    draw = lambda: rule.draw(x, torch.Generator().manual_seed(3))  # noqa: E731
    noise = draw()
    assert [n for n in noise if n.startswith("dropout")] == ["dropout0", "dropout1", "dropout2"]
    assert noise["dropout0"].shape == (5, 4, 1, 1)
    assert all(torch.equal(a, b) for a, b in zip(noise.values(), draw().values(), strict=True))
    params = dict(model.named_parameters())
    pure, *_ = rule.gradients(params, x, y, noise=noise)
    torch.manual_seed(99)
    state = torch.get_rng_state()
    rule.backward(x, y, generator=torch.Generator().manual_seed(3))
    assert torch.equal(torch.get_rng_state(), state)
    for n, g in grads(model).items():
        torch.testing.assert_close(pure[n], torch.zeros_like(pure[n]) if g is None else g)
    two = {n: torch.stack([m, torch.ones_like(m)]) for n, m in noise.items()}
    many, *_ = torch.func.vmap(lambda n: rule.gradients(params, x, y, noise=n))(two)
    close({n: g[0] for n, g in many.items()}, pure)


def test_a_mask_keeps_the_stated_share_and_the_mean() -> None:
    model = nn.Sequential(nn.Linear(400, 400), nn.Dropout(0.3), nn.Linear(400, 4))
    x = torch.randn(200, 400)
    mask = rules.make("bp", model, example=x).draw(x, torch.Generator().manual_seed(0))["dropout0"]
    assert mask.double().mean().item() == pytest.approx(0.7, abs=0.005)


def test_eval_mode_drops_nothing() -> None:
    model = Dropping().eval()
    x, y = image_batch()
    rule = rules.make("fa", model, example=x)
    torch.testing.assert_close(rule.backward(x, y).output, model(x))


def angle(a: Tensor, b: Tensor) -> float:
    return torch.rad2deg(
        torch.acos((a.double().flatten() @ b.double().flatten() / a.double().norm() / b.double().norm()).clamp(-1, 1))
    ).item()


@pytest.mark.parametrize("name", FREE)
def test_autocast_stays_within_a_few_degrees_of_full_precision(name: str) -> None:
    model, x, y = zoo()["residual"]
    model, x = model.float(), x.float()
    rule = rules.make(name, model, example=x)
    rule.backward(x, y, generator=source())
    full = grads(model)
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        rule.backward(x, y, generator=source())
    for n, g in grads(model).items():
        if g is not None and g.ndim >= 2:
            assert g.dtype == torch.float32
            assert angle(g, full[n]) < 6, n


@pytest.mark.parametrize("name", RULES)
def test_a_bfloat16_model_trains(name: str) -> None:
    model, x, y = zoo()[example(name)]
    model, x = model.bfloat16(), x.bfloat16()
    rule = rules.make(name, model, example=x)
    rule.backward(x, y)
    assert all(g is None or (g.dtype == torch.bfloat16 and g.isfinite().all()) for g in grads(model).values())


@pytest.mark.parametrize("name", RULES)
def test_deepcopy_keeps_the_pair_together(name: str) -> None:
    model, x, y = zoo()["residual" if name in FREE else "square" if name in INVERTING else "chain"]
    rule = rules.make(name, model, example=x)
    other, twin = copy.deepcopy((model, rule))
    assert twin.model is other
    assert other is not model
    rule.backward(x, y, generator=source())
    assert all(p.grad is None for p in other.parameters())
    twin.backward(x, y, generator=source())
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None)
        assert a.grad is None or torch.equal(a.grad, b.grad)


@pytest.mark.parametrize("name", ["fa", "dfa"])
@pytest.mark.parametrize("seen", [True, False])
def test_a_state_dict_is_the_feedback_and_restores_it(name: str, seen: bool) -> None:
    model, x, y = zoo()["residual"]
    rule = rules.make(name, model, example=x, seed=1)
    state = rule.state_dict()
    assert not any("." in n for n in state)
    assert not any(n.startswith("model") for n in state)
    other = rules.make(name, copy.deepcopy(model), example=x if seen else None, seed=2)
    other.load_state_dict(state)
    rule.backward(x, y)
    other.backward(x, y)
    for a, b in zip(model.parameters(), other.model.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_weights_assigned_anew_are_the_ones_that_learn() -> None:
    model, x, y = zoo()["mlp"]
    rule = rules.make("fa", model, example=x)
    model.load_state_dict({n: t.clone() for n, t in model.state_dict().items()}, assign=True)
    rule.backward(x, y)
    assert all(p.grad is not None for p in model.parameters())
