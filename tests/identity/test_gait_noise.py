"""Noise between activity and target: a failure here hides noise of another size in one form than in the other, noise that
is not drawn from the generator, or angles that are those of a rule without it.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from equipoise import measure, models, rules
from equipoise.errors import InputError

NET = "invertible:9-7-6-6-4"
FORMS: dict[str, dict[str, Any]] = {
    "differences": {"mode": "difference", "inverse": "solve"},
    "targets": {"mode": "perturbation", "normalised": False, "gamma": 1.0},
}


def made(form: str, noise: float, text: str = NET) -> tuple[Any, Tensor, Tensor]:
    stream = torch.Generator().manual_seed(2)
    shape = (9,) if "x" not in text else (2, 9, 9)
    x, y = torch.rand(12, *shape, generator=stream, dtype=torch.float64), torch.arange(12) % 4
    model = models.make(text, seed=1).double()
    return rules.make("gait", model, example=x[:2], noise=noise, **FORMS[form]), x, y


def written(rule: Any, x: Tensor, y: Tensor, noise: dict[str, Tensor]) -> dict[str, Tensor]:
    return rule.gradients({n: p.detach() for n, p in rule.model.named_parameters()}, x, y, noise=noise)[0]


@pytest.mark.parametrize("text", [f"{NET},activation=identity", "gait-imagenet:2x9x9-4,width=0.1,slope=1"])
def test_both_forms_have_the_same_noise_in_t_minus_a(text: str) -> None:
    """In a linear network there are no kinks: with gamma 1 a target is the activity and the difference, exactly."""
    found = []
    for form in FORMS:
        rule, x, y = made(form, 0.3, text)
        noise = rule.draw(x, torch.Generator().manual_seed(5))
        found.append(written(rule, x, y, noise))
    for name, gradient in found[0].items():
        assert torch.allclose(gradient, found[1][name], atol=1e-10), name


@pytest.mark.parametrize("form", list(FORMS))
def test_the_last_hidden_layers_update_has_the_noise_that_is_said(form: str) -> None:
    """2 / B sum_n sigma rms(a) xi_n f'(z_n) h_n: what is added to the update below the readout, less its sign."""
    rule, x, y = made(form, 0.3, f"{NET},activation=identity")
    noise = rule.draw(x, torch.Generator().manual_seed(5))
    quiet = {name: torch.zeros_like(value) for name, value in noise.items()}
    change = written(rule, x, y, noise)["5.weight"] - written(rule, x, y, quiet)["5.weight"]
    hidden = [x.flatten(1)]
    for layer in rule.model[1:6]:
        hidden.append(layer(hidden[-1]))
    h, a = hidden[-2].detach(), hidden[-1].detach()
    scale = 0.3 * a.square().mean().sqrt()
    assert torch.allclose(change[: a.shape[1]], -2 / 12 * scale * noise["activity3"].T @ h, atol=1e-10)
    assert torch.equal(written(rule, x, y, quiet)["7.weight"], written(rule, x, y, noise)["7.weight"])


def test_noise_is_drawn_from_the_generator_and_backward_writes_the_same() -> None:
    rule, x, y = made("differences", 0.1)
    draws = [rule.draw(x, torch.Generator().manual_seed(k)) for k in (5, 5, 6)]
    assert set(draws[0]) == {"activity1", "activity2", "activity3"}
    assert all(torch.equal(draws[0][n], draws[1][n]) for n in draws[0])
    assert not any(torch.equal(draws[0][n], draws[2][n]) for n in draws[0])
    pure = written(rule, x, y, draws[0])
    rule.backward(x, y, generator=torch.Generator().manual_seed(5))
    for name, p in rule.model.named_parameters():
        assert torch.allclose(p.grad, pure[name], atol=1e-12), name
    angles = [measure.alignment(made(form, 0.1)[0], x, y, generator=torch.Generator()).hidden for form in FORMS]
    assert min(angles) > 1
    assert not made("differences", 0.0)[0].draw(x)
    with pytest.raises(InputError, match=r"noise=-1\.0 is a standard deviation"):
        made("differences", -1.0)
