"""Sweeps as values: a failure here hides draws that move when another is added, or a run in no part or in two."""

from __future__ import annotations

from pathlib import Path

import pytest

from equipoise.errors import InputError
from equipoise.sweep import Choice, Integers, LogUniform, Sweep, Uniform, draws, grid
from equipoise.train import Machine, Run, train

TINY = Run(epochs=1, train_limit=60, test_limit=60)


def test_laws_reach_both_ends_and_no_further() -> None:
    almost = 1 - 2**-53
    assert (Uniform(2, 4).at(0), Uniform(2, 4).at(0.5), Uniform(2, 4).at(almost)) == (2, 3, 4)
    assert (LogUniform(1e-4, 1e-2).at(0), LogUniform(1e-4, 1e-2).at(0.5)) == (1e-4, 1e-3)
    assert LogUniform(1e-4, 1e-2).at(almost) == 1e-2
    assert [Integers(3, 5).at(u) for u in (0, 1 / 3 + 1e-9, 2 / 3 + 1e-9, almost)] == [3, 4, 5, 5]
    assert [Choice(("a", "b")).at(u) for u in (0, 0.49, 0.5, almost)] == ["a", "a", "b", "b"]


def test_the_logarithm_of_a_rate_is_uniform() -> None:
    """Of 400 draws over four decades each decade has 100, with a standard deviation below 9."""
    values = [one["lr"] for one in draws(400, lr=LogUniform(1e-4, 1.0), seed=3)]
    for k in range(4):
        assert 55 < sum(10.0 ** (k - 4) <= v < 10.0 ** (k - 3) for v in values) < 145


def test_a_draw_depends_on_its_seed_its_name_and_its_place_alone() -> None:
    few = draws(3, lr=LogUniform(1e-3, 1))
    many = draws(9, {"options.scale": Uniform(0, 1)}, lr=LogUniform(1e-3, 1), width=Integers(10, 99))
    assert few == [{"lr": one["lr"]} for one in many[:3]]
    assert len({one["lr"] for one in many}) == 9
    assert draws(3, lr=LogUniform(1e-3, 1), seed=1) != few
    twins = draws(5, a=Uniform(0, 1), b=Uniform(0, 1))
    assert all(one["a"] != one["b"] for one in twins)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: LogUniform(0, 1), "begin above 0"),
        (lambda: Uniform(2, 1), "smaller number first"),
        (lambda: Choice(()), "at least one"),
        (lambda: draws(-1), "0 or more"),
        (lambda: Sweep((TINY,)).part(3, 2), "no part 3/2"),
        (lambda: Sweep.cross(TINY, grid(widht=[3])), "'widht' is no field"),
        (lambda: Sweep.cross(TINY, draws(2, lr=Uniform(0, 1)), grid(rule=["bp"], lr=[0.5])), "'lr' is in two"),
    ],
)
def test_what_makes_no_sense_is_refused(make: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        make()  # type: ignore[operator]


def test_every_draw_meets_every_condition_pair_by_pair() -> None:
    base = Run(model="mlp:64-{width}-{width}-10", rule="dfa", epochs=1)
    settings = draws(4, {"options.scale": Uniform(0.1, 1)}, lr=LogUniform(1e-3, 1e-1), width=Integers(20, 40))
    sweep = Sweep.cross(base, settings, grid(rule=["fa", "dfa"]), grid(seed=[0, 1]))
    assert len(sweep) == 16
    for k, setting in enumerate(settings):
        four = sweep.runs[4 * k : 4 * k + 4]
        assert {run.lr for run in four} == {setting["lr"]}
        assert {run.options["scale"] for run in four} == {setting["options.scale"]}
        assert {run.model for run in four} == {f"mlp:64-{setting['width']}-{setting['width']}-10"}
        assert [(run.rule, run.seed) for run in four] == [("fa", 0), ("fa", 1), ("dfa", 0), ("dfa", 1)]


def test_another_optimiser_or_schedule_comes_with_its_own_options() -> None:
    base = Run(scheduler="exponential", scheduler_options={"gamma": 0.5})
    sweep = Sweep.cross(base, draws(2, lr=LogUniform(1e-3, 1)), grid(optimizer=["sgd", "adam"]))
    assert [run.optimizer_options for run in sweep] == [{"momentum": 0.9}, {}] * 2
    (plain,) = Sweep.cross(base, grid(scheduler=["constant"])).runs
    assert plain.scheduler_options == {}
    (own,) = Sweep.cross(base, grid({"optimizer": ["adam"], "optimizer_options.eps": [1e-6]})).runs
    assert own.optimizer_options == {"eps": 1e-6}


def test_a_sweep_prints_hashes_and_holds_each_run_once() -> None:
    runs = [Run(seed=seed, rule=rule) for rule in ("bp", "fa") for seed in range(600)]
    assert str(Sweep((*runs, *runs[:5]))).startswith("1,200 runs (")
    sweep = Sweep(tuple(runs[:9]))
    assert str(sweep) == f"9 runs ({sweep.hash}): 9 seed"
    assert Sweep(tuple(reversed(runs[:9]))).hash == sweep.hash != Sweep(tuple(runs[1:9])).hash


@pytest.mark.parametrize("of", [1, 3, 5, 40])
def test_parts_are_all_of_it_without_overlap(of: int) -> None:
    sweep = Sweep(tuple(Run(seed=seed) for seed in range(37)))
    parts = [sweep.part(k, of) for k in range(1, of + 1)]
    assert sorted(run.seed for part in parts for run in part) == list(range(37))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_subset_of_what_has_finished_is_one_table_and_counted(tmp_path: Path) -> None:
    runs = [Run.from_json(TINY.to_dict() | {"seed": seed}) for seed in range(4)]
    for run in (*runs[:2], Run.from_json(TINY.to_dict() | {"seed": 9})):
        train(run, Machine(runs=tmp_path))
    sweep = Sweep(tuple(runs))
    assert [row["seed"] for row in sweep.collect(tmp_path)] == [0, 1]
    count = sweep.count(tmp_path)
    assert (count.total, dict(count.states)) == (4, {"finished": 2, "waiting": 2})
    assert str(count).startswith("4 runs, 2 done, about ")
    assert "nothing is running" in str(count)
