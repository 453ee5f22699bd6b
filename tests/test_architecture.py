"""docs/architecture.md's table, from outside the package: a dummy of each part is added and used.

A failure here means that adding a part takes more than the one line that the table promises.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import equipoise as eq
from equipoise import data, models, plots, rules, sweep
from equipoise.cli import main
from equipoise.data import Dataset, Split
from equipoise.functional import Loss, NonNegative, Unit, draw, laws, losses, unit
from equipoise.measure import Measure, measures, watch
from equipoise.papers import SideBySide
from equipoise.papers.exhibits import Exhibit, Figure, Table
from equipoise.registry import Registry
from equipoise.rules import Credit, Rule
from equipoise.sweep import executors
from equipoise.train import Experiment, Machine, Run, Summary, experiments, train
from nets import mlp


@pytest.fixture
def enter() -> Iterator[Callable[[Registry, str, object], None]]:
    """Register a part for the time of one test."""
    entered: list[tuple[Registry, str]] = []

    def register(registry: Registry, name: str, part: object) -> None:
        registry.register(name)(part)
        entered.append((registry, name))

    yield register
    for registry, name in entered:
        registry.remove(name)


class Halved(Rule):
    """Half of backpropagation."""

    def credit(self, x: Tensor, y: Tensor, tensors: object, feedback: object, noise: object) -> Credit:
        output = self.forward_pass(x, tensors, noise=noise)
        loss = self.loss.value(output, y)
        return Credit(loss, output, [(loss, torch.full_like(loss, 0.5))])


class Cell(nn.Module):
    """A circuit with every contract: a constraint, a rate, projections, a local objective."""

    projections = ("weight",)

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(6, 64) / 50)
        self.inner = nn.Parameter(torch.rand(6, 6))
        self.constraints = {"weight": NonNegative()}
        self.rate_factors = {"inner": 0.25}

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh((x.flatten(1) @ self.weight.t()) @ self.inner)

    def local_loss(self, input: Tensor) -> Tensor:
        return self.inner.square().mean()


def blobs(folder: Path | None = None) -> Dataset:
    images = torch.randint(0, 256, (60, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    labels = torch.arange(60) % 4
    images[torch.arange(60), 0, labels, labels] = 255
    return Dataset("blobs", Split(images[:40], labels[:40]), Split(images[40:], labels[40:]), tuple("abcd"))


def circuit_model(sizes: str) -> nn.Module:
    return nn.Sequential(Cell(), nn.Linear(6, 4))


def once(runs: list[Run], machine: object, workers: int) -> Iterator[Summary]:
    """Only the first run."""
    yield train(runs[0], machine)


def test_a_rule_a_model_a_data_set_and_a_loss_from_outside_train_on_the_command_line(
    enter: Callable, tmp_path: Path
) -> None:
    enter(rules.registry, "halved", Halved)
    enter(models.registry, "cell", circuit_model)
    data.register("blobs")(blobs)
    enter(
        losses,
        "twice",
        Loss("twice", lambda o, y: 2 * losses["mse"].value(o, y), lambda o, y: 2 * losses["mse"].error(o, y)),
    )
    try:
        command = [
            "train",
            "--rule",
            "halved",
            "--model",
            "cell",
            "--data",
            "blobs",
            "--loss",
            "twice",
            "--epochs",
            "2",
        ]
        assert main([*command, "--alignment-batch", "4", "--runs", str(tmp_path)]) == 0
    finally:
        data.loaders.remove("blobs")
    (row,) = sweep.collect(tmp_path)
    assert row["angle"] == pytest.approx(0, abs=5)
    weights = next(tmp_path.rglob("weights.safetensors"))
    assert (eq.train.read_weights(weights)["0.weight"] >= 0).all()


def test_a_law_from_outside_is_an_option_of_the_rules(enter: Callable) -> None:
    enter(laws, "ones", lambda shape, n, generator: torch.ones(tuple(shape), dtype=torch.float64))
    rule = rules.make("dfa", mlp(6, 5, 4), example=torch.randn(2, 6), law="ones", scale=0.5)
    assert all((b == 0.5).all() for b in rule.feedback().values())
    assert (draw((2, 2), law="ones", fan_in=2, generator=torch.Generator()) == 1).all()


def test_a_circuit_from_outside_keeps_its_contracts_under_any_optimiser() -> None:
    x, y = torch.rand(8, 64, generator=torch.Generator().manual_seed(7)), torch.arange(8) % 4
    for kind in (torch.optim.SGD, torch.optim.AdamW, torch.optim.RMSprop):
        torch.manual_seed(0)
        model = circuit_model("")
        optimizer = kind(eq.nn.param_groups(model, 0.5))
        assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.125]
        handle = eq.nn.enforce(optimizer, model)
        rule = rules.make("fa", model, example=x)
        assert set(rule.feedback()) == {"0.weight", "1.weight"}
        for _ in range(5):
            optimizer.zero_grad()
            assert set(rule.backward(x, y).local) == {"0"}
            optimizer.step()
            assert (model[0].weight >= 0).all()
        assert (model[0].weight == 0).any()
        handle.remove()


def test_a_measure_from_outside_is_watched_and_joins_a_run(enter: Callable, tmp_path: Path) -> None:
    def largest(rule: Rule, x: Tensor, y: Tensor, generator: torch.Generator | None) -> dict[str, float]:
        return {"largest": max(float(p.detach().abs().max()) for p in rule.model.parameters())}

    enter(measures, "largest", Measure("largest", largest, "epoch", "the largest weight"))
    model, x = mlp(6, 5, 4), torch.randn(3, 6)
    with torch.no_grad():
        model[0].bias[2] = -7.0
    rule = rules.make("bp", model, example=x)
    with watch(rule, measures=["largest"]) as seen:
        rule.backward(x, torch.arange(3))
    assert seen.series("largest") == [7.0]
    summary = train(Run(epochs=1, train_limit=64, test_limit=32, measures=["largest"]), Machine(runs=tmp_path))
    weights = eq.train.read_weights(next(tmp_path.rglob("weights.safetensors")))
    assert summary.selected["largest"] == pytest.approx(max(float(w.abs().max()) for w in weights.values()))


def test_an_experiment_and_an_executor_from_outside_run(enter: Callable, tmp_path: Path) -> None:
    run = Run(experiment="mine/first", epochs=1, train_limit=64, test_limit=32)
    study = SideBySide(run, rules=("bp", "fa"))
    presets = {"smoke": study, "paper": dataclasses.replace(study, rules=("bp",))}
    enter(experiments, "mine/first", Experiment("mine/first", 2, "Mine", "nowhere", presets))
    enter(executors, "once", once)
    assert main(["run", "mine/first", "--preset", "smoke", "--epochs", "2", "--runs", str(tmp_path)]) == 0
    rows = sweep.collect(tmp_path, experiment="mine/first")
    assert {(r["rule"], r["epochs"], r["version"], r["preset"]) for r in rows} == {
        ("bp", 2, 2, "smoke (changed)"),
        ("fa", 2, 2, "smoke (changed)"),
    }
    other = tmp_path / "other"
    main(["run", "mine/first", "--preset", "smoke", "--executor", "once", "--runs", str(other)])
    assert [r["rule"] for r in sweep.collect(other)] == ["bp"]


def test_an_exhibit_from_outside_is_on_the_page_and_among_the_figures(enter: Callable, tmp_path: Path) -> None:
    def exhibits(rows: list, histories: dict, folder: Path) -> list[Exhibit]:
        fig, ax = plots.figure()
        plots.bars(ax, {"runs": plots.Series(["all"], [len(rows)])})
        return [Figure("count", "How many runs", fig), Table("Runs", ["runs", "epochs"], [[len(rows), len(histories)]])]

    study = SideBySide(Run(experiment="mine/second", epochs=1, train_limit=64, test_limit=32), rules=("bp",))
    enter(experiments, "mine/second", Experiment("mine/second", 1, "M", "nowhere", {"smoke": study}, exhibits=exhibits))
    assert main(["run", "mine/second", "--preset", "smoke", "--runs", str(tmp_path)]) == 0
    assert main(["report", str(tmp_path), "--figures", str(tmp_path / "figures")]) == 0
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["mine-second-count.svg"]
    page = (tmp_path / "report.html").read_text()
    assert "How many runs" in page
    assert "Runs." in page


class Bent(nn.Module):
    """Twice what is positive."""

    def forward(self, z: Tensor) -> Tensor:
        return torch.where(z > 0, 2 * z, z)


@unit.register(Bent)
def _(module: Bent) -> Unit:
    return Unit(module, lambda a: torch.where(a > 0, a / 2, a), lambda a: 1 + (a > 0).to(a.dtype), True)


def test_targets_pass_back_through_an_activation_from_outside() -> None:
    """Orthogonal layers: the target's update is backpropagation's, with the activation's own slope."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(9, 8), Bent(), eq.nn.InvertibleLinear(8, 6), Bent(), eq.nn.InvertibleLinear(6, 3))
    x, y = torch.randn(5, 9), torch.tensor([0, 1, 2, 0, 1])
    rules.make("gait", model).backward(x, y)
    written = [p.grad for p in model.parameters()]
    model.zero_grad()
    nn.functional.cross_entropy(model(x), y).backward()
    for one, parameter in zip(written, model.parameters(), strict=True):
        assert torch.allclose(one, parameter.grad, atol=1e-6)
    assert torch.equal(eq.nn.invertible(model, x)[0](x), model(x))


def test_every_file_that_the_table_names_exists(root: Path) -> None:
    text = (root / "docs" / "architecture.md").read_text()
    table = text[text.index("| what |") : text.index("Everything in this table")]
    named = set(re.findall(r"`([\w/]+\.py)`", table)) - {"rules/<family>.py"}
    assert len(named) >= 6
    assert [name for name in named if not (root / "src" / "equipoise" / name).exists()] == []
