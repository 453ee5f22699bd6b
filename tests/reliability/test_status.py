"""``equipoise status``: a failure here tells somebody that a dead run is under way, or that a living one is dead."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from equipoise import sweep
from equipoise.cli import main
from equipoise.sweep import Count, State, survey
from equipoise.train import Machine, Run, Summary, lock, storage, train
from reliability._sessions import NOISY, Launcher, stopped

TINY = Run(epochs=1, train_limit=60, test_limit=60)


def tiny(**fields: object) -> Run:
    return Run.from_json(TINY.to_dict() | fields)


def states(root: Path) -> dict[str, str]:
    return {one.hash: one.state for one in survey(root)}


def test_each_state_is_told_from_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done, halted, bad, blown, edited, planned = (tiny(seed=seed) for seed in range(6))
    train(done, Machine(runs=tmp_path))
    stopped(Run.from_json(halted.to_dict() | {"epochs": 3}), tmp_path, at=1)
    for run, message in ((bad, "no such thing"), (blown, "the loss is not finite at step 3")):
        run.folder(tmp_path).mkdir(parents=True)
        (run.folder(tmp_path) / "spec.json").write_text(run.to_json())
        Summary(status="failed", hash=run.hash, message=message).write(run.folder(tmp_path))
    train(edited, Machine(runs=tmp_path))
    (edited.folder(tmp_path) / "spec.json").write_text(edited.to_json()[:-30])
    sweep.plan(tmp_path, [done, planned])
    found = states(tmp_path)
    halted = Run.from_json(halted.to_dict() | {"epochs": 3})
    assert found == {
        done.hash: "finished",
        halted.hash: "stopped",
        bad.hash: "failed",
        blown.hash: "diverged",
        edited.hash: "damaged",
        planned.hash: "waiting",
    }
    assert main(["status", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("6 runs, 1 done, 1 stopped, 1 failed, 1 diverged, 1 damaged, about ")
    assert f"failed: train/{bad.hash} (bp, seed 2): no such thing" in said
    assert f"equipoise report {tmp_path}" in said
    assert "--forget" in said
    assert main(["status", "--runs", str(tmp_path), "--experiment", "other"]) == 0
    assert capsys.readouterr().out.startswith("0 runs, 0 done")
    assert main(["status", str(tmp_path), "--forget"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("forgotten: what 1 sweeps planned; no run is touched\n5 runs, 1 done")
    assert planned.hash not in states(tmp_path)
    assert main(["status", str(tmp_path / "none")]) == 2


def test_a_run_is_running_until_it_is_killed_and_looking_disturbs_nothing(launcher: Launcher, tmp_path: Path) -> None:
    run = Run(model=NOISY, epochs=100_000)
    folder = run.folder(tmp_path)
    pid = launcher.start(run, tmp_path)
    end = time.monotonic() + 120
    while not (folder / "metrics.jsonl").exists() or not (folder / "metrics.jsonl").stat().st_size:
        assert time.monotonic() < end
        time.sleep(0.01)
    (one,) = survey(tmp_path)
    assert (one.state, one.epochs) == ("running", 100_000)
    assert one.holder.startswith(f"process {pid} on ")
    assert one.epoch >= 1
    assert sweep.Sweep((run,)).count(tmp_path).left
    os.kill(pid, signal.SIGKILL)
    launcher.wait()
    assert states(tmp_path) == {run.hash: "killed"}
    assert train(run, Machine(runs=tmp_path, time_limit=0.1)).cause == "time limit"
    assert states(tmp_path) == {run.hash: "stopped"}


def test_a_lock_names_its_holder_and_no_other_process_with_that_number(tmp_path: Path) -> None:
    assert lock.holder(tmp_path) is None
    with lock.hold(tmp_path):
        holder = lock.holder(tmp_path)
        assert holder is not None
        assert (holder.pid, holder.alive) == (str(os.getpid()), True)
    assert lock.holder(tmp_path) is None
    (tmp_path / ".lock").write_text(f"{os.getpid()} {holder.host}")  # left by a kill; the number is ours by now
    stale = lock.holder(tmp_path)
    assert stale is not None
    assert not stale.alive


def test_the_dead_of_another_host_are_waited_for_for_a_while_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that died, or a container with a new name: what the kernel lets go of is free, whatever it names."""
    run = tiny()
    folder = run.folder(tmp_path)
    folder.mkdir(parents=True)
    (folder / "spec.json").write_text(run.to_json())
    (folder / ".lock").write_text("4242 node17")
    assert lock.holder(folder) == lock.Holder("4242", "node17", False)
    assert not sweep.turns.taken(run, Machine(runs=tmp_path))
    assert states(tmp_path) == {run.hash: "killed"}
    monkeypatch.setattr(lock, "_remote", lambda folder: True)  # its locks may not reach this host
    assert sweep.turns.taken(run, Machine(runs=tmp_path))
    assert states(tmp_path) == {run.hash: "running"}
    old = time.time() - lock.FRESH - 1
    for name in (".lock", "spec.json"):
        os.utime(folder / name, (old, old))
    assert not sweep.turns.taken(run, Machine(runs=tmp_path))
    (found,) = sweep.execute([run], Machine(runs=tmp_path))
    assert found.status == "finished"


def test_who_only_looks_keeps_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that looks has a shared lock for a moment; whoever comes to train tries again."""
    import fcntl

    (tmp_path / ".lock").touch()
    looking = (tmp_path / ".lock").open("rb")
    fcntl.flock(looking, fcntl.LOCK_SH)
    monkeypatch.setattr(time, "sleep", lambda seconds: looking.close())
    with lock.hold(tmp_path):
        assert looking.closed


@pytest.mark.parametrize(("kind", "remote"), [("ext4 /dev/vda rw", False), ("nfs4 10.0.0.1:/home rw", True)])
def test_where_locks_may_end_at_the_host(
    kind: str, remote: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = os.stat(tmp_path).st_dev
    mounts = tmp_path / "mounts"
    lines = ["1 0 9999:1 / /other rw - nfs x rw", f"2 0 {os.major(device)}:{os.minor(device)} / / rw shared:1 - {kind}"]
    mounts.write_text("\n".join(lines))
    monkeypatch.setattr(lock, "_MOUNTS", mounts)
    assert lock._remote(tmp_path) is remote


def test_a_run_that_lies_there_twice_is_one(tmp_path: Path) -> None:
    """As where the folders of two machines were put together: one row, and the furthest state."""
    run = Run.from_json(TINY.to_dict() | {"epochs": 3})
    stopped(run, tmp_path / "a", at=1)
    train(run, Machine(runs=tmp_path / "b"))
    shutil.copytree(tmp_path / "b", tmp_path / "c")
    assert len(sweep.collect(tmp_path)) == 1
    assert len(sweep.histories(tmp_path)) == 1
    assert sweep.unfinished(tmp_path) == []
    assert states(tmp_path) == {run.hash: "finished"}


def test_the_time_left_is_the_work_left_over_the_processes() -> None:
    """Mean of finished ones 10 s; left are 10 s, and 10 - 4 s of one under way, by two at a time: 8 s."""
    given = [
        State("a", "x", "finished", 5, 5, 8.0),
        State("b", "x", "finished", 5, 5, 12.0),
        State("c", "x", "running", 2, 5, 4.0, holder="process 1 on a"),
        State("d", "x", "running", 5, 5, 10.0, holder="process 2 on a"),
        State("e", "x", "waiting"),
        State("f", "x", "failed", 1, 5, 3.0),
    ]
    count = Count.of(given)
    assert count.left == pytest.approx((10 + 6) / 2)
    assert str(count) == "6 runs, 2 done, 2 running, 1 failed, about 8 s left"
    assert Count.of([State("e", "x", "waiting")]).left is None
    together = [State(f"{k}", "x", "running", 5, 10, 5.0, holder="process 7 on a") for k in range(256)]
    assert Count.of(together).left == pytest.approx(1280), "256 shares of 5 s, and as much to go, in one process"
    assert str(Count.of([State("a", "x", "finished", 1, 1, 2.0)])) == "1 run, 1 done"


def test_a_second_stage_counts_until_the_first_has_ended(tmp_path: Path) -> None:
    first = [Run(experiment="x-tuning", epochs=1, train_limit=100, seed=seed) for seed in range(2)]
    guessed, chosen = ([Run(experiment="x", lr=lr, seed=seed) for seed in range(3)] for lr in (0.1, 0.2))
    sweep.plan(tmp_path, guessed, until=first)
    sweep.plan(tmp_path, first)
    assert Count.of(survey(tmp_path)).states == {"waiting": 5}
    train(first[0], Machine(runs=tmp_path))
    assert Count.of(survey(tmp_path)).states == {"waiting": 4, "finished": 1}
    Summary("failed", first[1].hash, message="the loss is not finite at step 1").write(made(first[1], tmp_path))
    assert Count.of(survey(tmp_path)).states == {"diverged": 1, "finished": 1}
    sweep.plan(tmp_path, chosen)
    assert {one.hash for one in survey(tmp_path) if one.state == "waiting"} == {run.hash for run in chosen}


def made(run: Run, runs: Path) -> Path:
    """The folder of ``run`` with its spec."""
    folder = run.folder(runs)
    storage.make_folder(folder)
    (folder / "spec.json").write_text(run.to_json())
    return folder
