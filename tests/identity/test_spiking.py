"""Spiking cells: surrogates against autograd of their smooth step, sequences against the plain loop, and by hand.

A failure here means that spikes, or the errors that pass them, are not those of the stated equations.
"""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from equipoise import functional as f
from equipoise.functional.surrogates import surrogates

CLOSE = {"rtol": 1e-11, "atol": 1e-12}
DISTANCE = torch.linspace(-3, 3, 601, dtype=torch.float64) + 1e-4  # off the triangle's kinks


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 2.0, 4.0, 7.0])
@pytest.mark.parametrize("name", surrogates)
def test_a_surrogate_is_the_derivative_of_its_smooth_step(name: str, sharpness: float) -> None:
    u = DISTANCE.clone().requires_grad_()
    step = surrogates[name]
    value = step.smooth(u, sharpness)
    (slope,) = torch.autograd.grad(value.sum(), u)
    value = value.detach()
    torch.testing.assert_close(step.slope(DISTANCE, sharpness), slope, **CLOSE)
    assert bool((value.diff() >= 0).all())
    assert float(value.min()) >= 0
    assert float(value.max()) <= 1
    torch.testing.assert_close(value + step.smooth(-DISTANCE, sharpness), torch.ones_like(DISTANCE), **CLOSE)


@pytest.mark.parametrize("name", surrogates)
def test_a_surrogate_passes_the_whole_error_at_the_threshold(name: str) -> None:
    at = torch.zeros((), dtype=torch.float64)
    assert float(surrogates[name].slope(at)) == pytest.approx(1.0, abs=1e-15)
    u = DISTANCE.clone().requires_grad_()
    s = f.spike(u, name)
    (g,) = torch.autograd.grad((3 * s).sum(), u)
    torch.testing.assert_close(g, 3 * surrogates[name].slope(DISTANCE), **CLOSE)
    assert torch.equal(s, (DISTANCE >= 0).double())


def test_the_sigmoid_is_half_as_steep_044_from_the_threshold() -> None:
    half = surrogates["sigmoid"].slope(torch.tensor([-0.4407, 0.4407], dtype=torch.float64))
    torch.testing.assert_close(half, torch.full_like(half, 0.5), rtol=1e-3, atol=0)


def test_a_cell_by_hand() -> None:
    """Leak 1/2, threshold 1; a tie spikes; what is above the threshold stays with a soft reset and goes with a hard one."""
    x = torch.tensor([0.5, 0.75, 1.5, 0.25, 0.0]).double()
    soft, last = f.lif(x)
    assert soft.tolist() == [0, 1, 1, 0, 0]
    assert float(last) == pytest.approx(((0.5 / 1) * 0.5 + 0.25) * 0.5)  # 1.5 - 1 = .5, then .5, then .25
    hard, rest = f.lif(x, reset="hard")
    assert hard.tolist() == [0, 1, 1, 0, 0]
    assert float(rest) == pytest.approx(0.125)


def test_a_constant_current_spikes_as_often_as_it_should() -> None:
    """Without leak the soft reset loses nothing: T x = theta (number of spikes) + v[T]."""
    x = torch.rand(40, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).expand(50, 40)
    s, v = f.lif(x, leak=1.0, threshold=0.7)
    torch.testing.assert_close(x.sum(0), 0.7 * s.sum(0) + v, **CLOSE)


def constants(kind: str) -> tuple[float | Tensor, float | Tensor]:
    g = torch.Generator().manual_seed(3)
    one = torch.tensor(0.6, dtype=torch.float64), torch.tensor(0.8, dtype=torch.float64)
    each = torch.rand(5, generator=g, dtype=torch.float64), 0.5 + torch.rand(3, 1, generator=g, dtype=torch.float64)
    return {"numbers": (0.5, 1.0), "one": one, "each": each}[kind]


def outcome(form: object, x: Tensor, v: Tensor | None, leak: object, threshold: object, **options: object) -> list:
    """Spikes, last potential, and the gradients of a function of both for all that can have one."""
    trained = [t.clone().requires_grad_() for t in (x, v, leak, threshold) if isinstance(t, Tensor)]
    given = iter(trained)
    x, v, leak, threshold = (next(given) if isinstance(t, Tensor) else t for t in (x, v, leak, threshold))
    s, last = form(x, v, leak=leak, threshold=threshold, **options)  # type: ignore[operator]
    weights = torch.linspace(-1, 2, s.numel(), dtype=s.dtype).reshape(s.shape)
    total = (s * weights).sum() + (last * last).sum()
    return [s, last, *torch.autograd.grad(total, trained)]


@pytest.mark.parametrize("kind", ["numbers", "one", "each"])
@pytest.mark.parametrize("reset", ["soft", "hard"])
def test_the_sequence_equals_the_loop(kind: str, reset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("equipoise.functional.lif_sequence.PIECE", 4)  # 15 cells in pieces, the last one short
    g = torch.Generator().manual_seed(0)
    x = torch.randn(7, 3, 5, generator=g, dtype=torch.float64)
    start = torch.randn(3, 5, generator=g, dtype=torch.float64)
    for surrogate, through, v in itertools.product(surrogates, (False, True), (None, start)):
        options = {"reset": reset, "surrogate": surrogate, "through_reset": through}
        fast = outcome(f.lif, x, v, *constants(kind), **options)
        plain = outcome(f.lif_loop, x, v, *constants(kind), **options)
        assert torch.equal(fast[0], plain[0])
        assert 0 < float(fast[0].detach().mean()) < 1
        for found, wanted in zip(fast, plain, strict=True):
            torch.testing.assert_close(found, wanted, **CLOSE)


@pytest.mark.parametrize("through", [False, True])
@pytest.mark.parametrize("reset", ["soft", "hard"])
def test_the_error_by_hand(reset: str, through: bool) -> None:
    """The recursion and its error written out here: no code of the library but the slope takes part."""
    g = torch.Generator().manual_seed(1)
    x, up = torch.randn(2, 6, 4, generator=g, dtype=torch.float64)
    leak, theta = 0.6, 0.8
    slope = surrogates["sigmoid"].slope
    v, h, s = torch.zeros(4, dtype=torch.float64), [], []
    for t in range(6):
        h.append(leak * v + x[t])
        s.append((h[t] >= theta).double())
        v = h[t] - theta * s[t] if reset == "soft" else h[t] * (1 - s[t])
    wanted, above = [], torch.zeros(4, dtype=torch.float64)
    for t in reversed(range(6)):
        rate = slope(h[t] - theta)
        kept = 1.0 if reset == "soft" else 1 - s[t]
        lost = (theta if reset == "soft" else h[t]) * rate if through else 0.0
        wanted.append(up[t] * rate + above * (kept - lost))
        above = leak * wanted[-1]
    leaf = x.clone().requires_grad_()
    spikes, _ = f.lif(leaf, leak=leak, threshold=theta, reset=reset, through_reset=through)
    (found,) = torch.autograd.grad((spikes * up).sum(), leaf)
    torch.testing.assert_close(found, torch.stack(wanted[::-1]), **CLOSE)


@pytest.mark.parametrize("reset", ["soft", "hard"])
def test_streaming_equals_the_whole_sequence(reset: str) -> None:
    x = torch.randn(9, 4, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    whole, last = f.lif(x, reset=reset)
    v, steps = torch.zeros(4, 3, dtype=torch.float64), []
    for current in x:
        s, v = f.lif_step(current, v, reset=reset)
        steps.append(s)
    assert torch.equal(torch.stack(steps), whole)
    torch.testing.assert_close(v, last, **CLOSE)
    first, between = f.lif(x[:4], reset=reset)
    second, end = f.lif(x[4:], between, reset=reset)
    assert torch.equal(torch.cat([first, second]), whole)
    torch.testing.assert_close(end, last, **CLOSE)


def test_the_potential_keeps_float32_in_lower_precision() -> None:
    x = torch.randn(20, 64, generator=torch.Generator().manual_seed(4)).bfloat16()
    spikes, last = f.lif(x)
    exact, potential = f.lif(x.float())
    assert spikes.dtype == torch.bfloat16
    assert last.dtype == torch.float32
    assert torch.equal(spikes.float(), exact)
    assert torch.equal(last, potential)
