"""The errata of the follow-up's code, which balances while it trains: its version, in our own words, beside ours.

A failure here means that docs/errata.md accuses somebody wrongly, or that we have taken the error over.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from equipoise import balance
from equipoise.errors import InputError


def network(activation: type[nn.Module] = nn.ReLU, width: int = 30) -> nn.Sequential:
    """Two hidden layers as torch starts them, in float64."""
    torch.manual_seed(0)
    hidden = [nn.Linear(20, width), activation(), nn.Linear(width, width), activation()]
    return nn.Sequential(*hidden, nn.Linear(width, 10)).double()


@torch.no_grad()
def their_pass(model: nn.Sequential, order: float = 2.0) -> list[Tensor]:
    """One pass over pairs of linear layers: rows in, columns out, by sqrt(out / in); the bias is left as it was."""
    layers = [part for part in model if isinstance(part, nn.Linear)]
    factors = []
    for low, high in pairwise(layers):
        into, out = (w.norm(p=order, dim=d) for w, d in ((low.weight, 1), (high.weight, 0)))
        factors.append((out / into).sqrt())
        low.weight.mul_(factors[-1][:, None])
        high.weight.div_(factors[-1])
    return factors


def inputs(n: int = 200) -> Tensor:
    return torch.randn(n, 20, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_n1_a_bias_that_is_not_scaled_changes_the_function() -> None:
    model, x = network(), inputs()
    before = model(x)
    their_pass(model)
    change = (model(x) - before).norm() / before.norm()
    assert change > 0.1
    assert (model(x).argmax(1) == before.argmax(1)).double().mean() < 0.95
    model = network()
    balance.balance_(model)
    torch.testing.assert_close(model(x), before, rtol=1e-12, atol=1e-13)
    # Whether the bias also counts in the norm is another question, and an option.
    model = network()
    balance.balance_(model, include_bias_cost=False)
    torch.testing.assert_close(model(x), before, rtol=1e-12, atol=1e-13)


def test_n2_factors_whose_mean_is_one() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 2, bias=False)).double()
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(2))
        model[2].weight.copy_(torch.diag(torch.tensor([0.5, 1.5]) ** 2))  # so the factors are 0.5 and 1.5
    (factors,) = their_pass(model)
    assert factors.mean().item() == pytest.approx(1, abs=1e-12)  # their test for being in balance
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(2))
        model[2].weight.copy_(torch.diag(torch.tensor([0.5, 1.5]) ** 2))
    assert balance.deficit(model).max_relative > 0.6
    assert balance.balance_(model, tol=1e-10).deficit <= 1e-10


def test_n3_a_flag_that_is_never_asked() -> None:
    def order(reverse: int) -> str:
        return "forward" if reversed == 0 else "backward"  # noqa: E721

    assert {order(flag) for flag in (0, 1)} == {"backward"}
    ends = []
    for seed in (1, 2):
        model = network()
        balance.balance_(model, method="stochastic", seed=seed, tol=1e-11)
        ends.append([p.detach() for p in model.parameters()])
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-8, atol=1e-10)


def test_n4_five_seeds_that_are_one() -> None:
    given = [str(100 + k) for k in range(5)]
    assert {int(seed[0]) for seed in given} == {1}
    drawn = [torch.randn(3, generator=torch.Generator().manual_seed(int(seed[0]))) for seed in given]
    assert all(torch.equal(one, drawn[0]) for one in drawn)


def test_n5_tanh_cannot_be_scaled() -> None:
    model, x = network(nn.Tanh), inputs()
    with torch.no_grad():
        for part in (model[0], model[2]):
            part.bias.zero_()  # so that N1 is not what is seen
    before = model(x)
    their_pass(model)
    assert (model(x) - before).norm() > 0.02 * before.norm()
    assert balance.is_homogeneous(nn.Tanh()) is None
    assert balance.is_homogeneous(nn.ReLU()) == 1


def test_n6_both_matrices_of_an_lstm_lead_into_its_gates() -> None:
    torch.manual_seed(0)
    lstm = nn.LSTM(4, 5, batch_first=True).double()
    x = torch.randn(3, 7, 4, dtype=torch.float64)
    before, _ = lstm(x)
    with torch.no_grad():
        into, back = lstm.weight_ih_l0, lstm.weight_hh_l0
        factor = (back.norm(dim=1) / into.norm(dim=1)).sqrt()
        into.mul_(factor[:, None])
        back.div_(factor[:, None])
    assert (lstm(x)[0] - before).norm() > 0.02 * before.norm()
    with pytest.raises(InputError, match="no unit of the model can be scaled"):
        balance.balance_(lstm, example=x)


def test_n7_the_mean_of_the_runs_that_are_left() -> None:
    epochs = 100
    runs = np.array([[0.9] * epochs, [0.9] * epochs, [0.5] * 40 + [np.nan] * (epochs - 40)])
    theirs = np.nanmean(runs, axis=0)
    assert theirs[39] == pytest.approx(np.mean([0.9, 0.9, 0.5]))
    assert theirs[40] == pytest.approx(0.9)  # a jump that no run made
    assert np.isnan(runs.mean(axis=0)[40:]).all()
