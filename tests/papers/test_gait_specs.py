"""The specs of the GAIT-prop experiments against the settings of the paper and its program, copied here once more by hand.

A failure here means that a run labelled "paper" trains something else, or that two conditions differ in more than they say.
"""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from equipoise import models, rules, sweep
from equipoise.errors import InputError
from equipoise.papers import load_all, published
from equipoise.papers.exhibits import Number, Table
from equipoise.papers.gait.conditions import CONDITIONS, NETWORKS, Scale, condition_of, label_of, plain
from equipoise.papers.gait.figures import EXHIBITS
from equipoise.papers.gait.figures_limits import precision
from equipoise.papers.gait.studies import MODES, Compared, Depth, Noise, Precision, mode_of
from equipoise.train import Run, experiments

load_all()

# Rates, Adam's betas and its epsilon beside a loss that is summed over 256 samples, by condition; lambda likewise.
PROGRAM = {
    "gait/shallow": {
        "bp": (1.9e-5, (0.9, 0.999), 1e-6, None),
        "gp": (1.9e-5, (0.9, 0.999), 1e-6, 100),
        "vgp": (1.9e-5, (0.9, 0.999), 1e-6, 100),
        "fa": (2.5e-5, (0.9, 0.99), 1e-4, None),
    },
    "gait/imagenet": {
        "bp": (4.9e-5, (0.9, 0.99), 1e-8, None),
        "gp": (4.9e-5, (0.9, 0.99), 1e-8, 1),
        "fa": (4.3e-5, (0.9, 0.99), 1e-4, None),
    },
}
PROGRAM["gait/deep"] = PROGRAM["gait/shallow"]
TABLE1 = {
    "gait/shallow": {"bp": (92.4, 53.2), "gp": (64.9, 53.7), "vgp": (64.8, 53.8), "fa": (66.2, 51.3)},
    "gait/deep": {"bp": (99.2, 52.5), "gp": (61.4, 52.0), "vgp": (14.9, 14.8), "fa": (40.8, 38.2)},
    "gait/imagenet": {"bp": (52.7, 26.4), "gp": (46.6, 26.5), "fa": (0.8, 0.8)},
}
NAMES = [name for name in experiments if name.startswith("gait/")]


def paper(name: str, seed: int = 0) -> dict[str, Run]:
    return {condition_of(sweep.flat(run)): run for run in experiments[name].preset("paper").runs(seed)}


def test_there_are_eight() -> None:
    own = {"shallow", "deep", "imagenet", "precision", "controls", "orthogonality", "depth", "noise"}
    assert set(NAMES) == {f"gait/{name}" for name in own}


@pytest.mark.parametrize("name", list(PROGRAM))
def test_the_paper_preset_is_the_programs_protocol(name: str) -> None:
    found = paper(name, seed=5)
    for condition, (rate, betas, epsilon, penalty) in PROGRAM[name].items():
        run = found[condition]
        assert (run.lr, run.optimizer, run.optimizer_options["betas"]) == (rate, "adam", list(betas))
        assert run.optimizer_options["eps"] == pytest.approx(epsilon / 256, rel=1e-12)
        assert run.options.get("strength") == (None if penalty is None else penalty / 256)
        assert (run.epochs, run.batch_size, run.validation, run.augment, run.scheduler) == (
            200,
            256,
            0,
            "none",
            "constant",
        )
        assert (run.train_limit, run.test_limit, run.select, run.seed, run.whiten) == (None, None, "last", 5, None)
        assert (run.train_set, run.measure_every) == (True, 100)
        assert run.model.endswith("auxiliary=no") == (condition in ("bp", "fa"))
        if penalty is not None:
            assert run.precision == "float64"
            assert (run.options["mode"], run.options["upkeep"]) == ("perturbation", "penalty")
            normalised = {"gp": True, "vgp": False}[condition]
            assert run.options["normalised"] == normalised
            assert run.options["eta" if normalised else "gamma"] == (1e-7 if normalised else 1e-3)
    assert found["fa"].options == {"law": "orthogonal"}


def test_the_networks_and_data_are_the_papers() -> None:
    hidden = {"gait/shallow": 3, "gait/deep": 6}
    for name, layers in hidden.items():
        for run in paper(name).values():
            assert run.model.split(",")[0] == "invertible:3072-" + "1024-" * layers + "10"
            assert run.data == "cifar10"
    for run in paper("gait/imagenet").values():
        assert run.model.split(",")[0] == "gait-imagenet:3x224x224-1000"
        assert run.data == "imagenet,fit=squash,normalise=yes"
        assert run.top_k == 5


def test_the_program_sums_losses_and_adam_takes_the_same_steps_from_means() -> None:
    """One weight under Adam: a gradient 256 times as large with epsilon 256 times as large moves it alike."""
    w = [torch.nn.Parameter(torch.ones(3, dtype=torch.float64)) for _ in range(2)]
    adams = [torch.optim.Adam([p], lr=0.1, eps=eps) for p, eps in zip(w, (1e-2, 1e-2 / 256), strict=True)]
    for step in range(5):
        gradient = torch.tensor([1.0, -3.0, 0.01], dtype=torch.float64) * (1 + step)
        w[0].grad, w[1].grad = gradient, gradient / 256
        for adam in adams:
            adam.step()
    assert torch.allclose(w[0], w[1], rtol=1e-12)


def test_table_1_is_copied_right() -> None:
    load_all()
    for name, values in TABLE1.items():
        for condition, pair in values.items():
            run = sweep.flat(paper(name)[condition])
            ours = {one.metric: one.value for one in published() if one.matches(run)}
            kind = "top5" if name == "gait/imagenet" else "accuracy"
            assert ours == {f"train_set_{kind}": pair[0], f"test_{kind}": pair[1]}
        limit = sweep.flat(paper(name)["difference"])
        assert {one.value for one in published() if one.matches(limit)} == set(values["gp"])


def test_conditions_read_back() -> None:
    for where in NETWORKS:
        for name in CONDITIONS:
            row = sweep.flat(plain(where, name, 0, Scale()))
            # Where lambda is the network's own, the condition is "difference" by another name.
            own = CONDITIONS[name].strength == NETWORKS[where].penalty
            assert condition_of(row) == ("difference" if own else name)
            assert label_of(row) == NETWORKS[where].label
    assert condition_of(sweep.flat(Run())) == ""


def test_controls_differ_in_one_thing_each() -> None:
    runs = {name: plain("shallow", name, 0, Scale()) for name in CONDITIONS}
    alike = {"experiment": "", "options": {}, "rule": "", "loss": "cross_entropy", "model": ""}
    bare = {name: dataclasses.replace(run, **(alike | {"experiment": "x", "rule": "bp"})) for name, run in runs.items()}
    for name in ("bp-auxiliary", "bp-penalty", "free", "penalty", "difference", "retract", "lambda=0.1", "shallow"):
        assert bare[name] == bare["bp"], name
    assert runs["bp-auxiliary"].model == runs["difference"].model == "invertible:3072-1024-1024-1024-10"
    assert runs["bp-penalty"].options == runs["difference"].options | {"inverse": "transpose"}
    assert runs["free"].options == {"upkeep": "none"}
    assert runs["penalty"].loss == "nothing"
    strengths = {name: run.options["strength"] * 256 for name, run in runs.items() if name.startswith("lambda=")}
    assert {f"lambda={value:g}" for value in strengths.values()} == set(strengths)


def test_a_penalty_without_task_teaches_nothing_and_the_controls_are_what_they_say() -> None:
    x, y = torch.rand(6, 1, 8, 8), torch.arange(6)
    for name, teaches in (("bp-penalty", True), ("penalty", False), ("free", True)):
        run = plain("shallow-digits", name, 0, Scale())
        model = models.make(run.model + ",spread=0.1")
        rule: Any = rules.make(run.rule, model, example=x[:2], loss=run.loss, **run.options)
        params = {n: p.detach() for n, p in model.named_parameters()}
        grads, *_ = rule.gradients(params, x, y)
        assert all(bool(grads[n].any()) == teaches for n in grads if n.endswith("weight")), name
        rule.backward(x, y)
        square = model.get_parameter("3.weight").grad
        assert square is not None
        assert torch.allclose(square, grads["3.weight"], atol=1e-7) == (run.options["upkeep"] == "none"), name


def test_depth_and_looks_change_the_network_alone() -> None:
    for run in Depth("deep-digits", (3, 12), ("free", "fa"), 20, Scale(epochs=1)).runs(0):
        lean = ",auxiliary=no" if run.rule == "fa" else ""
        hidden = run.model.count("-20")
        assert run.model == "invertible:64-" + "20-" * hidden + f"10{lean}"
        assert hidden in (3, 12)
    looks = Precision().runs(0) + Noise().runs(0)
    assert all((run.lr, run.epochs, run.batch_size, run.train_limit) == (0, 1, 256, 256) for run in looks)
    assert all(mode_of(sweep.flat(run)) for run in looks)
    assert {run.options.get("noise", 0) for run in Noise().runs(0)} == set(Noise().levels)
    for bad in (lambda: Depth("imagenet"), lambda: Depth(layers=(0,)), lambda: Precision(modes=("other",))):
        with pytest.raises(InputError):
            bad().runs(0)
    with pytest.raises(InputError, match="condition"):
        Compared(conditions=("gpp",)).runs(0)
    mine = Compared("imagenet", ("bp", "gp"), data="imagenet,name=mine,size=64", model="gait-imagenet:3x64x64-7")
    assert [run.model for run in mine.runs(0)] == ["gait-imagenet:3x64x64-7,auxiliary=no", "gait-imagenet:3x64x64-7"]


def test_the_table_has_the_papers_numbers_beside_ours_and_skips_steps_without_an_angle(tmp_path: Path) -> None:
    rows = []
    for name, accuracy in (("bp", 0.531), ("difference", 0.529)):
        run = dataclasses.replace(plain("shallow", name, 0, Scale()), preset="paper")
        folder = run.folder(tmp_path)
        folder.mkdir(parents=True)
        trace = [{"step": 0, "angle": 1.0, "angle/1": 1.0, "angle/3": 1.0}, {"step": 9, "angle": None, "angle/1": None}]
        trace.append({"step": 18, "angle": 2.0, "angle/1": 3.0, "angle/3": 1.0})
        (folder / "trace.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in trace))
        rows.append({**sweep.flat(run), "hash": run.hash, "preset": "paper", "test_accuracy": accuracy})
        rows[-1] |= {"train_set_accuracy": 0.6, "orthogonality": 0.25, "angle": 9.0, "angle/1": 9.0}
    histories = {
        row["hash"]: [{"epoch": k, "test_accuracy": 0.1 * k, "train_set_accuracy": 0.2 * k} for k in (1, 2)]
        for row in rows
    }
    found = EXHIBITS["gait/shallow"](rows, histories, tmp_path)
    (table,) = [one for one in found if isinstance(one, Table)]
    told = str(table.rows)
    assert all(number in told for number in ("53.2", "53.7", "64.9", "92.4"))
    angle = next(line[5] for line in table.rows if "differences" in str(line[1]))
    assert math.isclose(getattr(angle, "value", 0), 1.5), "the mean over steps that have an angle"
    assert {one.name for one in found if not isinstance(one, Table)} == {
        "accuracy-shallow",
        "angles-shallow",
        "steps-shallow",
    }


@pytest.mark.parametrize("name", list(EXHIBITS))
def test_exhibits_make_nothing_of_nothing(name: str, tmp_path: Path) -> None:
    assert EXHIBITS[name]([], {}, tmp_path) == []


def test_a_table_of_depths_looks_at_each_networks_own_layers(tmp_path: Path) -> None:
    """As a CSV file has them: a column for every layer of the deepest network, sorted as text."""
    columns = ["angle/1", "angle/11", "angle/13", "angle/3", "angle/5", "angle/7", "angle/9"]

    def row(hidden: int, *angles: float) -> dict[str, Any]:
        own = dict(zip([f"angle/{2 * k + 1}" for k in range(hidden + 1)], angles, strict=True))
        model = "-".join(["invertible:64", *["48"] * hidden, "10"])
        given = {f"options.{key}": value for key, value in MODES["differences"].items()}
        fixed = {"model": model, "precision": "float32", "preset": "smoke", "seed": 0, "hash": f"{hidden}"}
        return fixed | given | {c: own.get(c) for c in columns}

    table = precision([row(2, 1.5, 2.5, 0.0), row(6, 9.0, 1.0, 1.0, 1.0, 1.0, 1.0, 12.0)], {}, tmp_path)[0]
    assert isinstance(table, Table)
    found = [[cell.value for cell in line if isinstance(cell, Number)] for line in table.rows]
    assert found == [[1.5, 2.5], [9.0, 12.0]]
