"""Two gloo ranks train the run that one process trains: a failure here hides a step, a number or a file of their own.

Every rule, in float64: the same weights and the same metrics to 1e-10, also after going on with another number of ranks.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import nn

from equipoise import rules
from equipoise.errors import EquipoiseError, InputError
from equipoise.rules.sync import Part, drawn, few
from equipoise.train import Machine, Run, read_weights, storage, train
from equipoise.train.joint import JointStatistics, require_parts
from equipoise.train.ranks import ALONE, Ranks
from nets import INVERTING

SMALL: dict[str, Any] = {
    "precision": "float64",
    "epochs": 2,
    "batch_size": 7,
    "train_limit": 24,  # 22 samples to train on: ranks have 3 and 4 of a batch, and the last one of an epoch has one
    "test_limit": 9,
    "validation": 0.1,
    "alignment_batch": 4,
    "lr": 0.02,
}
SQUARE = "invertible:64-12-12-10,slope=0.3,spread=0.1"
HELD = {"upkeep": "probe", "probes": 2, "tolerance": 1e-6}


def of_rule(name: str) -> Run:
    """A run of the rule: with dropout where it knows dropout, with upkeep where it has some."""
    options = HELD if name in ("gait", "tp") else {}
    options = {key: value for key, value in options.items() if hasattr(rules.registry[name].Options, key)}
    model = SQUARE if name in INVERTING else "mlp:64-9-10" if name == "dtp" else "mlp:64-9-10,dropout=0.3"
    return Run(rule=name, model=model, options=options, **SMALL)


RUNS = {
    **{name: of_rule(name) for name in rules.names()},
    "augmented": Run(model="cnn:1x8x8-3-10", augment="crop+flip", perturb={"shift": 0.2}, **SMALL),
    "normalised": Run(model="residual:1x8x8-10", clip_norm=0.1, decay={"l2": 0.01}, **SMALL),
    "circuits": Run(model="inorm:64-9-10", group_rates={"*_ie": 0.05}, **SMALL),
    "followed": Run(rule="dfa", measures=["norms", "activity"], measure_every=3, top_k=2, train_set=True, **SMALL),
}
WIDE = {
    "kernels": Run(rule="gait", model="gait-imagenet:1x8x8-10,width=0.1", options=HELD, **SMALL),
    "refined": Run(rule="gait", model=SQUARE, options={"inverse": "refine", "tolerance": 1e-3}, **SMALL),
    "targets": Run(rule="gait", model=SQUARE, options={"mode": "perturbation"}, **SMALL),
    "noisy pepita": Run(rule="pepita", model="mlp:64-9-10,dropout=0.2", options={"perturb": "uniform"}, **SMALL),
    "normalised fa": Run(rule="fa", model="residual:1x8x8-10", **SMALL),
    "normalised dfa": Run(rule="dfa", model="residual:1x8x8-10", **SMALL),
    "circuits fa": Run(rule="fa", model="inorm:64-9-10", **SMALL),
    "inhibition": Run(model="dann:64-9-10", optimizer="adam", scheduler="warmup_cosine", **SMALL),
    "balanced": Run(model="mlp:64-9-9-10", balance_every=2, trace_every=2, **SMALL),
    "autoencoder": Run(model="autoencoder:64-9-64", loss="reconstruction", **SMALL),
}
REFUSED = {
    "own noise": Run(model="reliability._nets:noisy", **SMALL),
    "relative noise": Run(rule="gait", model=SQUARE, options={"noise": 0.1}, **SMALL),
    "sweeps": Run(model="mlp:64-9-9-10", balance_repeats=2, **SMALL),
    "a name": Run(model="mpl:64-9-10", **SMALL),
}
STOPPED = Run(rule="gait", model=SQUARE, options=HELD, seed=1, **SMALL)


def rank(index: int, store: str, runs: dict[str, Run]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}/store", rank=index, world_size=2)
    for run in runs.values():
        train(run, Machine(runs=f"{store}/two"))
    said = {}
    for name, run in REFUSED.items():
        try:
            train(run, Machine(runs=f"{store}/two"))
        except EquipoiseError as error:
            said[name] = f"{type(error).__name__}: {error}"
    # Rank 1 alone runs out of time, after one step.
    summary = train(STOPPED, Machine(runs=f"{store}/fewer", time_limit=1e-9 if index else None))
    said["stopped"] = f"{summary.status} {summary.steps} {summary.message}"
    train(STOPPED, Machine(runs=f"{store}/more"))
    said["device"] = train(RUNS["bp"], Machine(runs=f"{store}/two")).device
    torch.save(said, f"{store}/{index}.pt")
    dist.destroy_process_group()


def two_ranks(runs: dict[str, Run], folder: str) -> None:
    context = mp.get_context("spawn")
    workers = [context.Process(target=rank, args=(k, folder, runs)) for k in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(600)
        assert worker.exitcode == 0


@pytest.fixture(scope="module")
def ranks() -> Any:
    with tempfile.TemporaryDirectory() as folder:
        assert train(STOPPED, Machine(runs=f"{folder}/more", time_limit=1e-9)).steps == 1
        two_ranks(RUNS, folder)
        yield Path(folder)


def assert_same(run: Run, one: Path, two: Path) -> None:
    """Weights, metrics and what was followed, to 1e-10; times aside.

    Targets that lie 1e-7 off divide by that again what rounding has done to them.
    """
    close = 1e-7 if run.options.get("mode") == "perturbation" else 1e-10
    a, b = (read_weights(run.folder(root) / "weights.safetensors") for root in (one, two))
    assert a.keys() == b.keys()
    for name, value in a.items():
        torch.testing.assert_close(b[name], value, rtol=close, atol=close)
    for file in ("metrics.jsonl", "trace.jsonl"):
        paths = [run.folder(root) / file for root in (one, two)]
        assert paths[0].exists() == paths[1].exists()
        if not paths[0].exists():
            continue
        rows, theirs = map(storage.read_lines, paths)
        assert len(rows) == len(theirs) > 0
        for mine, other in zip(rows, theirs, strict=True):
            assert mine.keys() == other.keys()
            for key, value in mine.items():
                if key != "seconds" and value is not None:
                    loose = 0 if key.endswith("loss") else 2e-5  # an angle near 0 loses half of its digits
                    assert value == pytest.approx(other[key], rel=close, abs=loose), key


@pytest.mark.parametrize("name", list(RUNS))
def test_two_ranks_train_the_same_run(ranks: Path, tmp_path: Path, name: str) -> None:
    train(RUNS[name], Machine(runs=tmp_path))
    assert_same(RUNS[name], tmp_path, ranks / "two")


@pytest.mark.slow
def test_two_ranks_train_everything_else(tmp_path: Path) -> None:
    train(STOPPED, Machine(runs=tmp_path / "more", time_limit=1e-9))
    two_ranks(WIDE | {"bp": RUNS["bp"]}, str(tmp_path))
    for run in WIDE.values():
        train(run, Machine(runs=tmp_path / "one"))
        assert_same(run, tmp_path / "one", tmp_path / "two")


def test_a_run_goes_on_with_another_number_of_ranks(ranks: Path, tmp_path: Path) -> None:
    """One stopped on two ranks goes on alone, another stopped alone went on with two."""
    for told in (torch.load(ranks / f"{k}.pt") for k in range(2)):
        assert told["stopped"].startswith("stopped 1 stopped at step 1 of")
        assert "torchrun --nproc-per-node 2 -m equipoise run --spec" in told["stopped"]
        assert told["device"] == "cpu x 2"
    train(STOPPED, Machine(runs=ranks / "fewer"))
    train(STOPPED, Machine(runs=tmp_path))
    for there in ("fewer", "more"):
        assert_same(STOPPED, tmp_path, ranks / there)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("own noise", "cannot be shared by several ranks: the gradient of '2.weight'"),
        ("relative noise", "the rule 'gait' with 'invertible:64-12-12-10,slope=0.3,spread=0.1' cannot be shared"),
        ("sweeps", "'balance_repeats' has no batches that several ranks could share"),
        ("a name", "unknown model 'mpl'"),
    ],
)
def test_what_cannot_be_shared_is_refused_by_name(ranks: Path, name: str, words: str) -> None:
    first, second = (torch.load(ranks / f"{k}.pt")[name] for k in range(2))
    assert (first.partition(":")[0], second.partition(":")[0]) == ("InputError", "ToldElsewhere")
    assert words in first
    assert words in second


def test_parts_of_a_batch_follow_one_another() -> None:
    for size in (1, 2, 3, 5):
        for count in (5, 7, 16):
            parts = [torch.arange(count)[Ranks(k, size).rows(count)] for k in range(size)]
            assert torch.equal(torch.cat(parts), torch.arange(count))
            assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert Ranks(1, 3).over(2) is ALONE
    assert Ranks(1, 3).over(3).several
    part = torch.ones(2, 4)
    assert torch.equal(Ranks(1, 2).whole(part, 4), torch.cat([torch.zeros(2, 4), part]))


def test_a_part_draws_its_share_of_the_joint_noise() -> None:
    """Noise of k rows a sample has the samples within each of the k; some belongs to no sample."""

    class Drawing:
        of_the_batch = ("all/",)

        def draw(self, x: torch.Tensor, generator: torch.Generator | None) -> dict[str, torch.Tensor]:
            rows = torch.arange(len(x))
            return {"once": rows, "thrice": torch.cat([rows, 10 + rows, 20 + rows]), "all/4": rows}

    found = drawn(Drawing(), torch.zeros(2, 3), None, Part(1, 4))
    assert found["all/4"].tolist() == [0, 1, 2, 3]
    assert found["once"].tolist() == [1, 2]
    assert found["thrice"].tolist() == [1, 2, 11, 12, 21, 22]


@pytest.mark.parametrize(("samples", "per"), [(5, 1), (12, 1), (7, 9), (40, 3)])
@pytest.mark.parametrize("cut", [1, 3, 4])
def test_a_few_rows_of_parts_are_those_of_the_batch(samples: int, per: int, cut: int) -> None:
    """The errors of each part's own mean loss are larger by the samples that it lacks."""
    rows = torch.randn(samples * per, 3, dtype=torch.float64)
    wanted = few(rows, samples, 8, None)
    parts = [(0, cut), (cut, samples)]
    found = sum(few(rows[a * per : b * per] * samples / (b - a), b - a, 8, Part(a, samples)) for a, b in parts)
    torch.testing.assert_close(found[: len(wanted)], wanted)
    assert not found[len(wanted) :].any()


def test_joint_statistics_of_one_rank_are_torchs() -> None:
    with tempfile.TemporaryDirectory() as folder:
        dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=0, world_size=1)
        try:
            x = torch.randn(6, 3, 4, dtype=torch.float64, requires_grad=True)
            twins = [nn.BatchNorm1d(3).double() for _ in range(2)]
            outputs = [twins[0](x)]
            with JointStatistics(6, 6):
                outputs.append(twins[1](x))
            g = torch.randn_like(x)
            grads = [torch.autograd.grad(y, [x, *m.parameters()], g) for y, m in zip(outputs, twins, strict=True)]
        finally:
            dist.destroy_process_group()
    for a, b in zip(
        [outputs[0], *grads[0], *twins[0].buffers()], [outputs[1], *grads[1], *twins[1].buffers()], strict=True
    ):
        torch.testing.assert_close(a, b)


def test_a_model_that_looks_at_its_batch_is_refused() -> None:
    class Against(nn.Module):
        """Every sample relative to the batch's mean."""

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            z = self.layer(x)
            return F.relu(z - z.mean(0))

    x, y = torch.randn(5, 4), torch.arange(5) % 3
    with pytest.raises(InputError, match=r"mine cannot be shared by several ranks: the gradient of 'layer\.weight'"):
        require_parts(rules.make("bp", Against(), example=x), x, y, what="mine")
    require_parts(rules.make("bp", nn.Linear(4, 3), example=x), x, y, what="mine")
