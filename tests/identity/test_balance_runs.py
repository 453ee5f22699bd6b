"""Runs that balance: a failure here hides a step that the spec does not describe, or a curve that is not the network's.

The same training is written out by hand, in plain torch; a traced run that was stopped goes on to the same bits.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from equipoise import data, measure, models, rules
from equipoise.balance.graph import graph
from equipoise.balance.solve import balance_
from equipoise.balance.sums import UnitSums
from equipoise.balance.training import BalanceStop
from equipoise.errors import InputError
from equipoise.functional.losses import losses
from equipoise.randomness import generator
from equipoise.train import Machine, Run, read_weights, storage, train
from equipoise.train.quantising import quantised, spread
from reliability._sessions import stopped

AUTOENCODER = Run(
    model="autoencoder:64-12-6-12-64",
    loss="reconstruction",
    optimizer_options={},
    lr=0.02,
    epochs=2,
    batch_size=50,
    validation=0.0,
    train_limit=240,
    test_limit=60,
    precision="float64",
    trace_every=4,
    seed=3,
)


def changed(**changes: Any) -> Run:
    return dataclasses.replace(AUTOENCODER, **changes)


def images(run: Run, epoch: int) -> list[Tensor]:
    """The batches of an epoch, flat."""
    whole = data.load(run.data).train
    chosen = torch.randperm(len(whole), generator=generator(run.seed, "limit", len(whole)))[: run.train_limit]
    split = whole.take(chosen.sort().values)
    order = data.order(len(split), seed=run.seed, epoch=epoch)
    return [split.batch(index)[0].double().flatten(1) for index in order.split(run.batch_size)]


def start(run: Run) -> nn.Module:
    """The network before its first step, and before any balancing (weights are drawn in float32)."""
    return models.make(run.model, seed=run.seed).double()


def finished(run: Run, runs: Path) -> tuple[dict[str, Tensor], list[dict[str, Any]], list[dict[str, Any]]]:
    """Weights, metrics and trace of a run."""
    assert train(run, Machine(runs=str(runs))).status == "finished"
    folder = run.folder(runs)
    trace = storage.read_lines(folder / "trace.jsonl") if run.trace_every else []
    return read_weights(folder / "weights.safetensors"), storage.read_lines(folder / "metrics.jsonl"), trace


def test_the_error_of_a_reconstruction_is_its_gradient() -> None:
    output = torch.randn(4, 7, dtype=torch.float64, requires_grad=True)
    y = torch.rand(4, 7, dtype=torch.float64)
    loss = losses["reconstruction"]
    value = loss.value(output, y)
    assert float(value.detach()) == pytest.approx(
        float(sum((output[i] - y[i]).detach().square().sum() for i in range(4))) / 4
    )
    (wanted,) = torch.autograd.grad(value, output)
    assert torch.allclose(loss.error(output, y), wanted, atol=1e-15)
    assert loss.of_input


@pytest.mark.parametrize("decay", [{}, {"l2": 0.05}, {"l1": 0.01}, {"l1": 0.01, "l2": 0.05}])
def test_a_run_is_sgd_on_error_and_penalty_by_hand(decay: dict[str, float], tmp_path: Path) -> None:
    run = changed(decay=decay)
    weights, metrics, trace = finished(run, tmp_path)
    model, seen = start(run), []
    for epoch in range(run.epochs):
        for x in images(run, epoch):
            model.zero_grad()
            error = (model(x) - x).square().sum(1).mean()
            powers = [
                w.square().sum() * decay.get("l2", 0) / 2 + w.abs().sum() * decay.get("l1", 0)
                for w in model.parameters()
            ]
            (error + sum(powers)).backward()
            seen.append(float(error.detach()))
            with torch.no_grad():
                for w in model.parameters():
                    w -= run.lr * w.grad
    assert all(torch.allclose(weights[name], w, atol=1e-12) for name, w in model.state_dict().items())
    assert metrics[-1]["train_loss"] == pytest.approx(sum(seen[5:]) / 5, rel=0.05)
    assert not [key for row in metrics for key in row if key.endswith("accuracy")], "a reconstruction is never right"
    assert [row["step"] for row in trace] == [0, 4, 8, 10]
    assert trace[1]["loss"] == pytest.approx(sum(seen[1:5]) / 4, rel=1e-9)
    assert trace[-1]["loss"] == pytest.approx(seen[9], rel=1e-9)
    sums = UnitSums(graph(model, torch.rand(2, 64, dtype=torch.float64)))
    last = trace[-1]
    assert last["deficit"] == pytest.approx(sums.weights().deficit, rel=1e-9)
    assert last["share"] == pytest.approx(sums.weights().share, rel=1e-9)
    assert last["share_l1"] == pytest.approx(sums.weights(1.0).share, rel=1e-9)
    assert last["norm"] == pytest.approx(
        float(nn.utils.parameters_to_vector(model.parameters()).detach().norm()), rel=1e-12
    )
    assert ("deficit_mixed" in last) == (len(decay) == 2)
    if len(decay) == 2:
        both = 0.05 * sums.weights().difference + 0.01 * sums.weights(1.0).difference
        assert last["deficit_mixed"] == pytest.approx(float(both.square().sum()), rel=1e-9)
    assert ("law" in last) == ("l1" not in decay)
    if "law" in last:
        assert last["law"] == pytest.approx(last["deficit"], rel=1e-9)


def test_only_plain_sgd_has_its_law_in_the_trace(tmp_path: Path) -> None:
    for changes in ({"optimizer_options": {"momentum": 0.9}}, {"optimizer": "adam"}, {"balance_every": 3}):
        _, _, trace = finished(changed(epochs=1, **changes), tmp_path)
        assert "law" not in trace[-1]
        assert "deficit" in trace[-1]


def test_a_balanced_start_and_its_control(tmp_path: Path) -> None:
    drawn, balanced = start(AUTOENCODER), start(AUTOENCODER)
    balance_(balanced, p=1, example=torch.rand(2, 64, dtype=torch.float64), tol=1e-12)
    sizes = {name: float(w.norm()) for name, w in balanced.state_dict().items()}
    quiet = {"lr": 0.0, "epochs": 1, "balance_p": 1.0}
    weights, _, trace = finished(changed(balance_start="balance", **quiet), tmp_path)
    assert all(torch.allclose(weights[name], w, atol=1e-9) for name, w in balanced.state_dict().items())
    assert trace[0]["share_l1"] < 1e-9 < 0.01 < trace[0]["share"]
    weights, _, _ = finished(changed(balance_start="norms", **quiet), tmp_path)
    for name, w in drawn.state_dict().items():
        assert torch.allclose(weights[name], w * sizes[name] / w.norm(), atol=1e-9)


def test_balancing_every_so_many_steps(tmp_path: Path) -> None:
    run = changed(balance_every=4, epochs=2)
    _, _, trace = finished(run, tmp_path)
    assert [row["share"] < 1e-9 for row in trace] == [False, True, True, False]
    once = finished(changed(epochs=2), tmp_path / "plain")[2]
    assert trace[0] == pytest.approx({k: v for k, v in once[0].items() if not k.startswith("law")})


STOPPED = {
    "traced": changed(decay={"l2": 0.05}, epochs=4, precision="float32"),
    "balanced": changed(balance_every=3, epochs=4, optimizer_options={"momentum": 0.9}),
    "sweeps": changed(balance_repeats=6, epochs=4, trace_every=7),
}


@pytest.mark.parametrize("name", list(STOPPED))
def test_a_stopped_run_goes_on_to_the_same_trace(name: str, tmp_path: Path) -> None:
    run = STOPPED[name]
    weights, metrics, trace = finished(run, tmp_path / "whole")
    stopped(run, tmp_path / "parts", at=2)
    again, rows, traced = finished(run, tmp_path / "parts")
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    assert traced == trace
    assert [{**row, "seconds": 0} for row in rows] == [{**row, "seconds": 0} for row in metrics]


def test_sweeps_lead_every_order_to_the_balanced_weights(tmp_path: Path) -> None:
    run = changed(balance_repeats=5, epochs=40, trace_every=15)
    weights, metrics, trace = finished(run, tmp_path)
    balanced = start(run)
    report = balance_(balanced, example=torch.rand(2, 64, dtype=torch.float64), tol=1e-12)
    gap = sum(float((weights[n] - w).square().sum()) for n, w in balanced.state_dict().items()) ** 0.5
    assert gap < 1e-6
    first, last = metrics[0], metrics[-1]
    assert last["distance_max"] < 1e-6 < first["distance"]
    assert last["norm"] == pytest.approx(report.cost_after**0.5, rel=1e-9)
    assert last["balanced_norm"] == pytest.approx(report.cost_after**0.5, rel=1e-9)
    assert trace[0]["norm"] == pytest.approx(report.cost_before**0.5, rel=1e-9)
    assert [row["sweep"] for row in trace[:3]] == [0, 0.5, 1.0]
    assert (first["distance_sd"] > 0, trace[-1]["step"]) == (True, 40 * 30)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    cases = {
        "no accuracy to select": changed(select="test"),
        "needs \\(2, 64\\)": changed(model="mlp:64-12-63"),
        "as many outputs": changed(model="autoencoder:64-12-63"),
        "8x8 or more": Run(model="local:1x7x7-10"),
        "one stage or more": Run(model="cnn:1x4x4-3-3-3-10"),
    }
    for words, run in cases.items():
        with pytest.raises(InputError, match=words):
            train(run, Machine(runs=str(tmp_path)))


def test_rounding_costs_the_same_however_the_units_were_scaled() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 30), nn.ReLU(), nn.Linear(30, 20), nn.ReLU(), nn.Linear(20, 4)).double()
    x, y = torch.randn(50, 6, dtype=torch.float64), torch.arange(50) % 4
    rule = rules.make("bp", model, example=x)
    before = {name: w.clone() for name, w in model.state_dict().items()}
    found = measure.measures["int8"](rule, x, y, torch.Generator().manual_seed(0))
    assert all(torch.equal(w, before[name]) for name, w in model.state_dict().items())
    errors = {key.split("/")[1]: value for key, value in found.items() if key.endswith("error")}
    assert errors["scattered"] > 3 * errors["trained"]
    assert errors["scattered_balanced"] == pytest.approx(errors["balanced_l2"], rel=1e-3)
    assert 0 < errors["trained"] < 0.05
    twin = model[0].weight.detach()
    rounded, step = quantised(model)[0].weight, twin.abs().max() / 127
    assert torch.allclose(rounded / step, (twin / step).round(), atol=1e-9)
    assert torch.equal(quantised(model)[0].bias, model[0].bias)
    ratios = [
        float(w.abs().max() / w.square().mean().sqrt())
        for w in (m.weight.detach() for m in model if hasattr(m, "weight"))
    ]
    assert spread(model) == pytest.approx(max(ratios))


def test_the_measure_of_balance_is_that_of_the_trace() -> None:
    model = start(AUTOENCODER)
    x = torch.rand(5, 64, dtype=torch.float64)
    rule = rules.make("bp", model, example=x, loss="reconstruction")
    found = measure.measures["balance"](rule, x, x)
    sums = UnitSums(graph(model, x))
    assert found["deficit"] == pytest.approx(sums.weights().deficit)
    assert {"share/1", "share/3", "share/5", "norm", "norm_l1", "share_l1"} <= set(found)


def test_a_plateau_or_a_threshold_stops() -> None:
    stop = BalanceStop(patience=2, change=0.1)
    values = [0.5, 0.6, 0.3, 0.29, 0.28, 0.1]
    assert [stop(v) for v in values] == [False, False, False, False, True, True]
    assert (stop.reason, stop.first(values)) == ("plateau", 4)
    below = BalanceStop(below=0.2, patience=None)
    assert [below(v) for v in (0.5, 0.5, 0.5, 0.19)] == [False, False, False, True]
    assert below.reason == "below"
    assert BalanceStop(below=0.1, patience=None).first(values) is None
    assert BalanceStop(patience=1, change=0.0, warmup=3).first([0.1, 0.2, 0.3, 0.4, 0.5]) == 4
    for bad in ({"patience": None}, {"patience": 0}, {"change": 1.0}):
        with pytest.raises(InputError):
            BalanceStop(**bad)
    for value in (float("nan"), -1.0):
        with pytest.raises(InputError, match="the deficit is"):
            BalanceStop()(value)
