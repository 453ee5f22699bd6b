"""Balance and the user: bad input gives one clear error and leaves the model as it was, low precision is respected.

A failure here is a half-scaled model, a NaN, or an error that does not say what to do.
"""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from equipoise import balance
from equipoise.balance import Lp, Mixture, balance_, deficit
from equipoise.errors import InputError
from tangles import Tangle, tangle_graph


def network(*widths: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for i in range(len(widths) - 1):
        layers += [nn.Linear(widths[i], widths[i + 1]), nn.ReLU()]
    return nn.Sequential(*layers[:-1]).to(dtype)


def refused(model: nn.Module, match: str, *args, **options) -> None:
    before = copy.deepcopy(model)
    with pytest.raises(InputError, match=match) as caught:
        balance_(model, *args, **options)
    assert "\n" not in str(caught.value)
    for a, b in zip(model.parameters(), before.parameters(), strict=True):
        assert torch.equal(a, b) or (a.isnan() == b.isnan()).all()


@pytest.mark.parametrize(
    ("match", "options"),
    [
        ("unknown method 'newtn'; did you mean 'newton'", {"method": "newtn"}),
        ("unknown criterion 'minimal'; did you mean 'minimum'", {"criterion": "minimal"}),
        ("tol must lie between 0 and 1, got 0", {"tol": 0}),
        ("tol must lie between 0 and 1, got -1e-08", {"tol": -1e-8}),
        ("the strength of a favourable partial scaling lies in", {"method": "cyclic", "strength": 1.5}),
        ("max_iterations must be a whole number, 1 or more; got 0", {"max_iterations": 0}),
        ("give a cost or p, not both", {"cost": Lp(2), "p": 1}),
        ("a cost is Lp", {"cost": "L2"}),
        (
            "unknown parameter in the cost by name '0.wight'; did you mean '0.weight'",
            {"cost": {"0.wight": Lp(2), "*": Lp(1)}},
        ),
        ("no cost is given for 0.bias, 2.bias", {"cost": {"*.weight": Lp(2)}}),
        ("unknown parameter in the weight by name 'bias'", {"weights": {"bias": 1.0}}),
        ("the weight of '0.bias' must be a finite number, 0 or above; got -1", {"weights": {"0.bias": -1.0}}),
        ("unknown layer in a group '1'", {"groups": [["1"]]}),
        ("layer '0' has units 0 to 4; a group asks for", {"groups": [[("0", [5])]]}),
        ("a group holds layer names and pairs", {"groups": [[3]]}),
    ],
)
def test_options_that_are_none(match: str, options: dict) -> None:
    refused(network(3, 5, 2), match, **options)


@pytest.mark.parametrize("p", [0.0, -1.0, math.nan, math.inf, "2", True])
def test_a_power_is_above_zero(p) -> None:
    with pytest.raises(InputError, match="p of an Lp cost must be a finite number above 0"):
        Lp(p)
    with pytest.raises(InputError, match="above 0"):
        balance_(network(3, 5, 2), p=p)


@pytest.mark.parametrize("parts", [[], [(1.0, 0.0)], [(0.0, 2.0)], [(-1.0, 2.0)], [1.0], [(1.0,)]])
def test_a_mixture_has_positive_terms(parts) -> None:
    with pytest.raises(InputError):
        Mixture(parts)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_weights_that_are_not_finite(value: float) -> None:
    model = network(3, 5, 2)
    with torch.no_grad():
        model[2].weight[1, 3] = value
    refused(model, "'2.weight' holds values that are not finite")
    with pytest.raises(InputError, match=r"'2\.weight' holds values that are not finite"):
        deficit(model)


def test_nothing_to_scale() -> None:
    refused(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), "no unit of the model can be scaled")
    dead = network(3, 5, 2)
    with torch.no_grad():
        dead[2].weight.zero_()
    refused(dead, r"no unit of the model can be scaled: 0\[0, 1, 2, 3, 4\]: no path of non-zero weights to an output")


def test_a_tolerance_that_cannot_be_met_says_how_far_it_came() -> None:
    model = network(20, 30, 25, 10)
    refused(model, r"the tolerance 1e-300 was not met: newton stopped at a deficit of \d\.\d+e-1\d", tol=1e-300)
    refused(model, "cyclic stopped at a deficit of .* after 2 iterations", method="cyclic", max_iterations=2)
    refused(model, "newton stopped at a deficit of .* after 1 iterations", max_iterations=1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_weight_that_leaves_its_precision_leaves_all_as_they_are(dtype: torch.dtype) -> None:
    """One tiny incoming weight and huge outgoing ones: the best scale takes another incoming weight beyond the dtype."""
    most = torch.finfo(dtype).max
    model = nn.Sequential(nn.Linear(2, 1, bias=False), nn.ReLU(), nn.Linear(1, 2, bias=False)).to(dtype)
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[most / 3, 1.0]]))
        model[2].weight.copy_(torch.tensor([[1.0], [most / 2]]))
    frozen = balance.graph(model)
    before = copy.deepcopy(model)
    refused(model, f"scaled weights of '0.weight' reach .*, beyond torch.{str(dtype)[6:]}", weights={"2.weight": 1e6})
    balance_(frozen)
    assert not torch.equal(model[2].weight, before[2].weight)


@pytest.mark.parametrize(("dtype", "close"), [(torch.float16, 4e-3), (torch.bfloat16, 3e-2), (torch.float32, 1e-5)])
def test_low_precision_is_solved_in_float64_and_written_in_its_own(dtype: torch.dtype, close: float) -> None:
    model = network(6, 9, 7, 3, dtype=dtype)
    exact = copy.deepcopy(model).double()
    report, reference = balance_(model), balance_(exact)
    assert report.deficit <= 1e-10
    assert report.cost_after == pytest.approx(reference.cost_after, rel=1e-12)
    for a, b in zip(model.parameters(), exact.parameters(), strict=True):
        assert a.dtype == dtype
        torch.testing.assert_close(a, b.to(dtype), rtol=0, atol=0)
    assert deficit(model).max_relative < close


@pytest.mark.parametrize("p", [0.3, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_badly_scaled_rows_and_sizes_stay_inside_float64(p: float, size: float) -> None:
    model = network(8, 12, 12, 12, 5, dtype=torch.float64)
    source = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in model[::2]:
            layer.weight *= size * torch.exp(3 * torch.randn(len(layer.weight), 1, generator=source)).double()
    before, x = copy.deepcopy(model), torch.randn(4, 8, dtype=torch.float64)
    report = balance_(model, p=p)
    assert 0 < report.cost_after < report.cost_before < math.inf
    torch.testing.assert_close(model(x), before(x), rtol=1e-11, atol=0)
    assert deficit(model, p=p).max_relative < 1e-9


def test_the_cycle_that_runs_off_is_skipped_and_reported() -> None:
    """A <-> B with A -> out and no input: balancing drives both to infinity, though no sum is zero. C hangs on nothing."""
    model = Tangle(4, density=0.0)
    model.W[0, 1], model.W[1, 0], model.V[0, 0] = 0.5, 2.0, 1.0
    model.U[2, 0], model.V[1, 2] = 3.0, 0.1
    model.W[3, 2] = 1.0
    before = copy.deepcopy(model)
    report = balance_(tangle_graph(model))
    assert [str(s) for s in report.skipped] == [
        "h[0, 1]: no path of non-zero weights from an input or bias",
        "h[3]: no path of non-zero weights to an output",
    ]
    assert torch.equal(model.W, before.W)
    assert float(model.U[2, 0].abs()) == pytest.approx(float(model.V[1, 2].abs()), rel=1e-9)
    assert report.cost_after == pytest.approx(report.cost_before - (3.0 - 0.1) ** 2, rel=1e-12)
    assert "skipped h[3]" in str(report)


def test_a_report_reads_as_a_table() -> None:
    report = balance_(network(3, 5, 4, 2))
    lines = str(report).splitlines()
    assert lines[0].startswith("L2: ")
    assert lines[1].startswith("largest relative deficit: ")
    assert lines[2].startswith("newton: ")
    assert [line.split()[:2] for line in lines[4:]] == [["0", "5"], ["2", "4"]]
    assert report.changed


def test_the_model_on_loan_keeps_its_gradients_and_flags() -> None:
    model = network(3, 5, 2)
    model(torch.ones(1, 3, dtype=torch.float64)).sum().backward()
    model[0].weight.requires_grad_(False)
    grads = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    balance_(model)
    assert not model[0].weight.requires_grad
    for p, g in zip(model.parameters(), grads, strict=True):
        assert (p.grad is None and g is None) or torch.equal(p.grad, g)
    model(torch.ones(1, 3, dtype=torch.float64)).sum().backward()
