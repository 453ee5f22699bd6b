"""The short cuts of a chain over time against its modules one by one: one node for a layer and its cells, and pictures
whose currents are computed once.

A failure here means that a network computes, or learns, something else when nobody watches it.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from equipoise import functional as f
from equipoise import nn as enn
from equipoise import rules
from equipoise.errors import InputError
from equipoise.functional import ei_sequence as fused

CLOSE = {"rtol": 1e-12, "atol": 1e-12}
STEPS, BATCH = 3, 5
WHERE = {"linear": (1,), "few": (2, 3), "many": (4, 4)}  # positions: cells last, cells last, positions last


def drive(where: str, still: bool, seed: int = 0) -> list[Tensor]:
    """Drive, W_EI, g_I, g_E, b_E of 7 and 3 cells: a silent row, zero divisors, inhibitory drives below 0."""
    g = torch.Generator().manual_seed(seed)
    shape = () if where == "linear" else WHERE[where]
    x = torch.rand(BATCH * (1 if still else STEPS), 10, *shape, generator=g, dtype=torch.float64)
    x = torch.where(torch.rand(x.shape, generator=g) < 0.4, 0, x)
    x[:, 7:] -= 0.2
    x[1] = 0
    weight, gain_i = torch.rand(7, 3, generator=g, dtype=torch.float64), torch.rand(3, generator=g).double() + 0.2
    weight[2, 1:] = 0
    return [x, weight, gain_i, *(torch.rand(2, 7, generator=g, dtype=torch.float64) + 0.3).unbind(0)]


def one_by_one(
    x: Tensor, weight: Tensor, gain_i: Tensor, gain: Tensor, bias: Tensor, *, steps: int, still: bool, **cells: object
) -> Tensor:
    """Single operations of autograd, and a loop over time."""
    dim = 1 - x.ndim
    e, i = x.split([7, 3], 1)
    r = i.relu()
    s, d = (torch.einsum("ei,bi...->be...", w, r) for w in (weight, weight * gain_i))
    z = f.ei_current_plain(e, s, d, gain, bias, unit_dim=dim)
    z = z.expand(steps, *z.shape) if still else z.unflatten(0, (steps, -1))
    return f.lif_loop(z, **cells)[0].flatten(0, 1)  # type: ignore[arg-type]


def outcome(form: Callable[..., Tensor], values: list[Tensor], **options: object) -> list[Tensor]:
    leaves = [v.clone().requires_grad_() for v in values]
    s = form(*leaves, steps=STEPS, **options)
    weights = torch.linspace(-1, 2, s.numel(), dtype=s.dtype).reshape(s.shape)
    return [s.detach(), *torch.autograd.grad((s * weights).sum(), leaves)]


CELLS: dict[str, dict] = {
    "soft": {},
    "hard": {"reset": "hard"},
    "arctangent": {"surrogate": "arctangent", "leak": 0.8, "threshold": 0.7},
    "triangle": {"surrogate": "triangle", "sharpness": 0.5, "reset": "hard"},
}


@pytest.mark.parametrize("still", [False, True])
@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("cells", CELLS)
def test_one_node_equals_single_operations_and_a_loop(
    cells: str, where: str, still: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused, "PIECE", 2 * 7 * 16)  # two samples at a time, and one at the end
    values = drive(where, still)
    one = outcome(f.ei_spikes, values, still=still, **CELLS[cells])
    plain = outcome(one_by_one, values, still=still, **CELLS[cells])
    assert torch.equal(one[0], plain[0])
    assert 0.05 < float(one[0].mean()) < 0.95
    for found, wanted in zip(one[1:], plain[1:], strict=True):
        assert bool(wanted.abs().sum() > 0)
        torch.testing.assert_close(found, wanted, **CLOSE)


def test_silent_rows_give_the_bias_and_finite_gradients() -> None:
    x, *rest = drive("many", False)
    rest[-1][:] = torch.linspace(0.25, 1.75, 7)  # one of them the threshold
    spikes, back, *grads = outcome(f.ei_spikes, [torch.zeros_like(x), *rest])
    wanted, _ = f.lif_loop(rest[-1].expand(STEPS, 7))
    assert torch.equal(
        spikes.unflatten(0, (STEPS, BATCH)), wanted[:, None, :, None, None].expand(STEPS, BATCH, 7, 4, 4)
    )
    assert not bool(back.any())
    assert not any(bool(g.any()) for g in grads[:3])
    assert bool(grads[3].isfinite().all())


def test_a_second_derivative_and_wrong_sizes_are_refused() -> None:
    x, *rest = drive("linear", False)
    s = f.ei_spikes(x.requires_grad_(), *rest, steps=STEPS)
    (g,) = torch.autograd.grad(s.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        g.square().sum().backward()
    with pytest.raises(InputError, match="7 excitatory and 3 inhibitory"):
        f.ei_spikes(x[:, :9], *rest, steps=STEPS)
    with pytest.raises(InputError, match="has no 4 time steps"):
        f.ei_spikes(x, *rest, steps=4)


def image(**options: object) -> nn.Module:
    return nn.Sequential(
        nn.Sequential(nn.AvgPool2d(2), enn.EIConv2d(2, 6, 3, padding=1, **options), enn.LIF()),  # type: ignore[arg-type]
        enn.EIConv2d(6, 5, 3, padding=1, pool=2, **options),  # type: ignore[arg-type]
        enn.LIF(reset="hard"),
        nn.AvgPool2d(2),
        nn.Flatten(),
        enn.EILinear(20, 8, **options),  # type: ignore[arg-type]
        enn.LIF(threshold=0.5),
        enn.EILinear(8, 3, readout=True),
    )


def twin(norm: type[nn.Module] = nn.BatchNorm2d, **options: object) -> nn.Module:
    first = (nn.Conv2d(2, 6, 3, padding=1, bias=False), norm(6, **options), nn.Dropout(0.0), enn.LIF(), nn.AvgPool2d(2))
    second = (nn.Conv2d(6, 5, 3, padding=1, bias=False), norm(5, **options), enn.LIF(learn="tau"), nn.AvgPool2d(2))
    return nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(20, 3))


def mixed() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 6, 3), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(216, 8), enn.LIF())


def other(**cells: object) -> nn.Module:
    return nn.Sequential(nn.Flatten(), enn.EILinear(128, 8), enn.LIF(**cells), enn.EILinear(8, 3, readout=True))  # type: ignore[arg-type]


def silent() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(128, 8), nn.Tanh(), nn.Linear(8, 3))


NETS: dict[str, Callable[[], nn.Module]] = {
    "image": image,
    "literal": lambda: image(scaling="gradient"),
    "twin": twin,
    "frozen": lambda: twin().eval(),
    "unkept": lambda: twin(track_running_stats=False),
    "cumulative": lambda: twin(momentum=None),
    "mixed": mixed,
    "learned": lambda: other(learn=("tau", "threshold")),
    "tensor": lambda: other(tau=torch.linspace(1.5, 3, 8)),
    "reset": lambda: other(through_reset=True),
    "no_cells": silent,
    **{n: lambda n=n: image(**{n: False}) for n in ("subtractive", "divisive", "rectify", "stabilise", "straight")},
    "spiking": lambda: image(inhibition="spiking"),
}
NODES = {"image": 3, "literal": 3}  # nets with one node for a layer and its cells, and how many


def trained(model: nn.Module, shape: tuple[int, ...] = (BATCH, 2, 8, 8)) -> list[Tensor]:
    """Outputs and gradients of two passes, and the buffers behind them."""
    g = torch.Generator().manual_seed(1)
    found: list[Tensor | None] = []
    for _ in range(2):
        x = torch.rand(*shape, generator=g, dtype=torch.float64)
        x[0] = 0
        x.requires_grad_()
        torch.manual_seed(3)
        y = model(x)
        weights = torch.linspace(-1, 2, y.numel(), dtype=y.dtype).reshape(y.shape)
        found += [y, *torch.autograd.grad((y * weights).sum(), [x, *model.parameters()], allow_unused=True)]
    return [t.double() for t in (*found, *model.buffers()) if t is not None]


def made(name: str, *, watched: bool = False, encoder: str | None = "direct") -> enn.OverTime:
    """The network ``name``; a hook on its chain has every module called on all rows."""
    torch.manual_seed(0)
    model = enn.OverTime(NETS[name](), STEPS, encoder=encoder).double()
    if watched:
        model.net.register_forward_hook(lambda *_: None)
    return model


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Gets an entry for each node that is made."""
    nodes: list[int] = []

    def count(*args: Tensor, **options: int) -> Tensor:
        nodes.append(options["still"])
        return f.ei_spikes(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("equipoise.nn.ei.ei_spikes", count)
    return nodes


@pytest.mark.parametrize("name", NETS)
def test_a_chain_equals_its_modules_one_by_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = counted(monkeypatch)
    short = trained(made(name))
    assert nodes == 2 * [k == 0 for k in range(NODES.get(name, 0))]
    for found, wanted in zip(short, trained(made(name, watched=True)), strict=True):
        torch.testing.assert_close(found, wanted, **CLOSE, equal_nan=name == "stabilise")
    assert len(nodes) == 2 * NODES.get(name, 0)


@pytest.mark.parametrize("encoder", ["latency", None])
def test_a_sequence_that_is_not_still(encoder: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = counted(monkeypatch)
    shape = (BATCH, 2, 8, 8) if encoder else (BATCH, STEPS, 2, 8, 8)
    short = trained(made("image", encoder=encoder), shape)
    assert nodes == [False] * 6
    for found, wanted in zip(short, trained(made("image", watched=True, encoder=encoder), shape), strict=True):
        torch.testing.assert_close(found, wanted, **CLOSE)


class Rows(TorchDispatchMode):
    """The rows that convolutions and batch normalisation see."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[int] = []

    def __torch_dispatch__(
        self, function: object, types: object, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        if str(function).split(".")[1] in ("convolution", "native_batch_norm", "cudnn_batch_norm"):
            self.rows.append(args[0].shape[0])
        return function(*args, **(kwargs or {}))  # type: ignore[operator]


@pytest.mark.parametrize(("name", "rows"), [("image", [1, 3]), ("twin", [1, 1, 3, 3]), ("mixed", [1])])
def test_what_does_not_know_time_is_computed_once_a_picture(name: str, rows: list[int]) -> None:
    x = torch.rand(BATCH, 2, 8, 8, dtype=torch.float64)
    for watched in (False, True):
        with Rows() as seen, torch.no_grad():
            made(name, watched=watched)(x)
        assert min(seen.rows) == BATCH * STEPS if watched else seen.rows == [BATCH * r for r in rows]


@pytest.mark.parametrize("part", ["0.1", "0.2", "1", "2", "6"])
def test_a_hook_anywhere_sees_all_rows_and_changes_nothing(part: str) -> None:
    plain, watched = made("image"), made("image")
    shapes: list[tuple[int, int]] = []
    module = watched.net.get_submodule(part)
    module.register_forward_hook(lambda m, a, y: shapes.append((a[0].shape[0], y.shape[0])))
    for found, wanted in zip(trained(watched), trained(plain), strict=True):
        torch.testing.assert_close(found, wanted, **CLOSE)
    assert shapes == [(BATCH * STEPS, BATCH * STEPS)] * 2


def test_the_start_sees_what_it_saw() -> None:
    """E-I Init's variance is over T B rows: to the bit what it is without short cuts."""
    x = torch.rand(BATCH, 2, 8, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    short, plain = made("image"), made("image", watched=True)
    reports = [enn.ei_init_(model, x) for model in (short, plain)]
    assert reports[0] == reports[1]
    rows = nn.functional.avg_pool2d(x, 2).repeat(STEPS, 1, 1, 1)
    assert reports[0].layers[0].within == pytest.approx(float(rows.var(0).mean()), rel=1e-12)
    for a, b in zip(short.parameters(), plain.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("rule", ["bp", "fa", "dfa"])
def test_rules_give_what_they_give_module_by_module(rule: str) -> None:
    x = torch.rand(BATCH, 2, 8, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    y = torch.arange(BATCH) % 3
    grads = []
    for watched in (False, True):
        model = made("image", watched=watched)
        rules.make(rule, model, example=x).backward(x, y)
        grads.append([p.grad for p in model.parameters()])
    for found, wanted in zip(*grads, strict=True):
        torch.testing.assert_close(found, wanted, **CLOSE)


def test_the_exact_derivative_and_low_precision_take_the_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    x, nodes = torch.rand(BATCH, 2, 8, 8, dtype=torch.float64), counted(monkeypatch)
    with f.exact_backward():
        made("image")(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        made("image").float()(x.float())
    assert not nodes


def test_what_is_kept_for_the_way_back() -> None:
    """q, stab(d) and r of every cell and step; of a picture once. No potential, no current, no drive."""
    sizes: dict[int, int] = {}

    def keep(t: Tensor) -> Tensor:
        sizes[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes() // 8
        return t

    for still in (False, True):
        values = [v.requires_grad_() for v in drive("many", still)]
        sizes.clear()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
            f.ei_spikes(*values, steps=STEPS, still=still)
        weights = sum(v.numel() for v in values[1:])
        assert sum(sizes.values()) == weights + BATCH * (1 if still else STEPS) * 16 * (2 * 7 + 3)
