"""The I-Norm experiments against the paper's protocol: a failure here hides conditions that do not share their draws,
a network that is not the one its name says, or a comparison that loses runs.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from equipoise import models, sweep
from equipoise.nn import DaleLinear, INormLinear
from equipoise.papers import load_all
from equipoise.papers.exhibits import Figure, Table
from equipoise.papers.inorm.conditions import CONDITIONS, Scale, condition_of, draws, plain
from equipoise.papers.inorm.figures import EXHIBITS
from equipoise.papers.inorm.figures_accuracy import published_p
from equipoise.papers.inorm.pairing import arms, draw_of, with_diverged
from equipoise.train import Summary, experiments

load_all()
ACCURACY = experiments["inorm/accuracy"]


def network(name: str, sizes: str = "64-30-30-10") -> nn.Sequential:
    found = models.make(CONDITIONS[name].model(sizes), seed=0)
    assert isinstance(found, nn.Sequential)
    return found


def test_the_paper_preset_is_the_papers_protocol() -> None:
    runs = ACCURACY.preset("paper").runs(0)
    for run in runs:
        assert (run.data, run.epochs, run.batch_size, run.validation, run.select) == (
            "fashion-mnist",
            50,
            32,
            0,
            "last",
        )
        assert (run.train_limit, run.test_limit, run.optimizer, run.optimizer_options) == (None, None, "sgd", {})
        assert not run.decay
        assert 1e-3 <= run.lr <= 1e-1
        assert 1e-2 <= run.group_rates["*_ie"] <= 1
        assert 1e-5 <= run.group_rates["*_ei"] <= 1e-2
        text = run.model.partition(":")[2].partition(",")[0].split("-")
        assert (text[0], text[-1], len(text)) == ("784", "10", 4)
        assert text[1] == text[2]
        assert 100 <= int(text[1]) <= 500
    assert {float(run.perturb.get("shift", 0)) for run in runs} == {0, 0.25, 0.5, 0.75}
    assert len({(run.lr, run.model.partition(",")[0].partition(":")[2]) for run in runs}) == 30


def test_every_condition_has_the_same_draws() -> None:
    """Of each condition one run for every draw and range, and the draws are those of the rule's first condition."""
    for name in experiments:
        if name.startswith("inorm/"):
            rows = [sweep.flat(run) for run in experiments[name].preset("paper").runs(0)]
            for rule in {row["rule"] for row in rows}:
                by_condition: dict[str, list] = {}
                for row in rows:
                    if row["rule"] == rule:
                        by_condition.setdefault(condition_of(row), []).append(draw_of(row))
                first, *others = by_condition.values()
                assert "" not in by_condition, name
                assert len(set(first)) == len(first), name
                assert all(sorted(other) == sorted(first) for other in others), name


def test_folders_of_runs_that_exist_keep_their_names() -> None:
    """The first draw's hashes: another one here means that every run that was trained is orphaned."""
    draw = draws(1)[0]
    found = {name: plain(name, draw, 0.75, 0, Scale()).hash for name in ("ln", "center", "after-lateral", "detachnorm")}
    assert list(found.values()) == ["0b435b3f63c2", "f96129bd5dc7", "191f90cdb8c4", "45ba0d27021e"]


def test_draws_are_prefixes_and_log_uniform() -> None:
    many = draws(2000)
    assert draws(7) == many[:7]
    assert draws(7, seed=1) != many[:7]
    for values, low, high in (
        ([d.exc for d in many], -3, -1),
        ([d.wix for d in many], -2, 0),
        ([d.wei for d in many], -5, -2),
    ):
        logs = torch.tensor(values, dtype=torch.float64).log10()
        assert float(logs.mean()) == pytest.approx((low + high) / 2, abs=0.06)
        assert float(logs.var()) == pytest.approx((high - low) ** 2 / 12, rel=0.1)
        assert float(logs.min()) >= low
        assert float(logs.max()) <= high
    assert sum(d.width for d in many) / 2000 == pytest.approx(300, abs=10)
    upper = draws(500, upper=True)
    assert min(d.exc for d in upper) >= 0.01
    assert [d.width for d in upper[:9]] == [d.width for d in many[:9]], "the same networks at higher rates"


def test_conditions_read_back_and_start_alike() -> None:
    draw = draws(1)[0]
    found = {name: plain(name, draw, 0.75, 0, Scale()) for name in CONDITIONS}
    assert [condition_of(run.to_dict()) for run in found.values()] == list(CONDITIONS)
    assert len({(run.model, str(run.options)) for run in found.values()}) == len(CONDITIONS)
    weights = {}
    for name in ("ln", "none", "inorm", "center", "lateral", "e-ln", "detachnorm", "straight", "subtractive"):
        net = models.make(found[name].model, seed=3)
        weights[name] = [p for n, p in net.named_parameters() if n.endswith((".weight_ee", ".weight"))]
    for name, held in weights.items():
        assert len(held) == 3
        if name != "subtractive":
            assert all(torch.equal(a, b) for a, b in zip(held, weights["ln"], strict=True)), name


def test_networks_are_what_their_names_say() -> None:
    net = network("center")
    hidden = [m for m in net if isinstance(m, INormLinear)]
    assert len(hidden) == 2
    assert isinstance(net[-1], DaleLinear)
    assert net[-1].pool == 1
    assert all((m.place, m.pool, m.divisive_pool, m.edit.modes) == ("inside", 3, 30, {"center"}) for m in hidden)
    narrow = next(m for m in network("dale-0.1") if isinstance(m, INormLinear))
    assert (narrow.divisive, narrow.divisive_pool) == ("dale", 3)
    free = next(m for m in network("through") if isinstance(m, INormLinear))
    assert not free.detach
    assert not free.task_trains


@pytest.mark.parametrize("name", ["ln", "none", "inorm", "detachnorm", "full"])
def test_light_that_only_shifts_the_drive_changes_nothing_where_it_is_normalised(name: str) -> None:
    """At the start a common factor of all pixels leaves a normalised network's first layer alone, and no other's."""
    net = network(name)
    x = torch.rand(5, 64)
    first = net[:3] if name in ("ln", "detachnorm") else net[:2]
    same = torch.allclose(first(x), first(0.5 * x), atol=1e-3)
    assert same == (name != "none")


def test_pepita_trains_plain_networks_that_differ_in_what_is_centred_alone() -> None:
    runs = [run for run in experiments["inorm/rules"].preset("paper").runs(0) if run.rule == "pepita"]
    assert len(runs) == 30 * 2 * 4
    four = runs[:4]
    assert [condition_of(sweep.flat(run)) for run in four] == ["relu", "relu-center", "relu-ln", "relu-ln-center"]
    assert [run.options for run in four] == [{}, {"center": "units"}] * 2
    for run in four:
        kinds = [type(m).__name__ for m in models.make(run.model)]  # type: ignore[attr-defined]
        assert ("Normalise" in kinds) == ("ln" in condition_of(sweep.flat(run)))
        assert (run.experiment, run.optimizer_options, run.group_rates) == ("inorm/rules", {"momentum": 0.9}, {})
    assert len({draw_of(sweep.flat(run)) for run in four}) == 1
    # A run of backpropagation on the same network is none of them.
    assert condition_of(sweep.flat(dataclasses.replace(four[0], rule="bp"))) == ""


def row(condition: str, accuracy: float | None, place: int = 0, *, preset: str = "paper", **more: Any) -> dict:
    run = plain(condition, draws(9)[place], 0.75, 0, Scale(), **more)
    return {**sweep.flat(run), "hash": run.hash, "preset": preset, "test_accuracy": accuracy}


def test_pairs_are_of_one_draw_and_incomplete_ones_wait() -> None:
    rows = [row("ln", 0.8 + k / 100, k) for k in range(5)] + [row("center", 0.81 + k / 100, k) for k in (3, 1, 0)]
    found = {arm.condition: arm for arm in arms(rows)}
    assert sorted(v for v in found["center"].values if v is not None) == pytest.approx([81, 82, 84])
    for ours, theirs in zip(found["center"].values, found["center"].baseline, strict=True):
        assert ours is not None
        assert theirs is not None
        assert ours - theirs == pytest.approx(1)


def test_a_run_that_diverged_stands_in_the_table(tmp_path: Path) -> None:
    rows = [row(name, 0.8 + k / 50, k) for k in range(6) for name in ("ln", "center") if (name, k) != ("center", 2)]
    lost = dataclasses.replace(plain("center", draws(9)[2], 0.75, 0, Scale()), preset="paper")
    folder = lost.folder(tmp_path)
    folder.mkdir(parents=True)
    (folder / "spec.json").write_text(lost.to_json())
    Summary("failed", lost.hash, message="the loss is not finite at step 9; lower lr").write(folder)
    assert len(with_diverged(rows, tmp_path)) == len(rows) + 1
    (arm,) = [one for one in arms(with_diverged(rows, tmp_path)) if one.condition == "center"]
    assert arm.compared.divergent == (1, 0)
    assert arm.compared.difference.n == 6
    tables = [one for one in EXHIBITS["inorm/accuracy"](rows, {}, tmp_path) if isinstance(one, Table)]
    assert "n = 6, 1 diverged" in str(tables[0].rows)


def test_equal_accuracies_are_called_equal_and_worse_ones_lower() -> None:
    rows = []
    for k in range(9):
        base = 0.7 + k / 50
        rows += [row("ln", base, k), row("center", base + 1e-4 * (k % 3), k), row("inorm", base - 0.05 - k / 500, k)]
    table = next(one for one in EXHIBITS["inorm/accuracy"](rows, {}, Path("none")) if isinstance(one, Table))
    verdicts = {line[1]: line[-1] for line in table.rows}
    assert verdicts == {"LN": "baseline", "I-Norm + center": "equal", "I-Norm": "lower"}
    assert "paper: 0.6099" in str(table.rows), "the paper's p stands beside ours"
    figures = [one for one in EXHIBITS["inorm/accuracy"](rows, {}, Path("none")) if isinstance(one, Figure)]
    assert len(figures) == 2


def test_published_p_values_are_found_where_the_paper_has_them() -> None:
    assert published_p("center", "ln", ("range 0", "50 epochs")) == 0.4641
    assert published_p("lateral", "ln", ("range 0.75", "50 epochs")) == 0.6099
    assert published_p("scale", "ln", ("range 0", "50 epochs")) is None
    assert published_p("center", "ln", ("range 0.5", "50 epochs")) is None


@pytest.mark.parametrize("name", list(EXHIBITS))
def test_exhibits_make_nothing_of_nothing(name: str, tmp_path: Path) -> None:
    found = EXHIBITS[name]([], {}, tmp_path)
    assert all("Theorem" in one.title for one in found)
