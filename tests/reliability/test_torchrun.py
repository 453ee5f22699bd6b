"""Real torchrun: a failure here hides ranks that hang, a rank whose death costs the run, or words that nobody sees.

Each start of two processes costs seconds, so these are few and slow.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from equipoise import sweep
from equipoise.cli import main
from equipoise.train import Machine, Run, Summary, storage, train
from equipoise.train import state as checkpoint
from reliability._sessions import Watched
from reliability.test_image_folders import pictures

pytestmark = pytest.mark.slow

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "equipoise")
LONG = Run(epochs=100_000, rule="fa")


def start(*words: str) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    pipe: Any = subprocess.PIPE
    return subprocess.Popen([*TORCHRUN, *words], env=environment, text=True, stdout=pipe, stderr=pipe)


def trained(runs: Path) -> list[str]:
    runs.mkdir(exist_ok=True)
    spec = runs / "spec.json"
    spec.write_text(LONG.to_json())
    return ["run", "--spec", str(spec), "--runs", str(runs), "--checkpoint-every", "0"]


def rank_of(launcher: int, number: int) -> int:
    """The process id of a rank among the children of torchrun."""
    for child in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split():
        if f"RANK={number}".encode() in Path(f"/proc/{child}/environ").read_bytes().split(b"\0"):
            return int(child)
    raise ProcessLookupError


def wait_for_a_checkpoint(process: subprocess.Popen[str], folder: Path) -> None:
    while not (folder / "state.pt.prev").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


def test_a_dead_rank_ends_the_run_and_its_checkpoint_goes_on(tmp_path: Path) -> None:
    process, folder = start(*trained(tmp_path)), LONG.folder(tmp_path)
    wait_for_a_checkpoint(process, folder)
    os.kill(rank_of(process.pid, 1), signal.SIGKILL)
    _, said = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "error: rank 0 of 2 stops: another one has ended, or cannot be reached; the last checkpoint is whole" in said
    summary = Summary.read(folder)
    assert (summary.status, summary.device) == ("failed", "cpu x 2")
    saved, note = checkpoint.load(folder)
    assert saved is not None
    assert not note
    watched = Watched()
    again = train(LONG, Machine(runs=tmp_path, time_limit=0.5), progress=watched)
    assert again.steps > saved["step"] > 0
    assert f"resumed at step {saved['step']} of" in " ".join(watched.notes)
    assert "device was cpu x 2 and is cpu now" in " ".join(watched.notes)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_one_rank_stops_all_after_saving(tmp_path: Path, number: signal.Signals) -> None:
    process, folder = start(*trained(tmp_path)), LONG.folder(tmp_path)
    wait_for_a_checkpoint(process, folder)
    rank = rank_of(process.pid, 1)
    os.kill(rank, number)
    os.kill(rank, number)
    _, said = process.communicate(timeout=120)
    summary = Summary.read(folder)
    assert (summary.status, summary.cause) == ("stopped", number.name), said
    assert checkpoint.load(folder)[0]["step"] == summary.steps  # type: ignore[index]
    assert said.count("stopped after") == 1


def test_bad_input_is_said_once(tmp_path: Path) -> None:
    process = start("train", "--model", "mpl:64-10", "--runs", str(tmp_path))
    _, said = process.communicate(timeout=120)
    assert process.returncode != 0
    assert said.count("error: unknown model 'mpl'") == 1


def test_the_imagenet_experiment_on_two_ranks(tmp_path: Path) -> None:
    """From JPEG files to a table with top-5, in mixed precision too: the numbers of one process."""
    pictures(tmp_path / "mine", classes=7)
    words = [
        *("run", "gait/imagenet", "--preset", "paper", "--data", "imagenet,name=mine,size=24,fit=squash,normalise=yes"),
        *("--model", "gait-imagenet:3x24x24-7,width=0.2", "--epochs", "1", "--every", "1", "--looks", "8"),
        *("--data-dir", str(tmp_path), "--runs"),
    ]
    process = start(*words, str(tmp_path / "two"))
    shown, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert main([*words, str(tmp_path / "one")]) == 0
    assert shown.count("paper (changed)") == 1
    one, two = ({str(row["hash"]): row for row in sweep.collect(tmp_path / name)} for name in ("one", "two"))
    assert one.keys() == two.keys()
    assert len(one) == 5
    for name, row in one.items():
        close = 0.05 if row["precision"] == "bfloat16" else 1e-4
        assert two[name]["train_loss"] == pytest.approx(row["train_loss"], rel=close)
        assert two[name]["test_loss"] == pytest.approx(row["test_loss"], rel=close)
        assert two[name]["test_top5"] >= two[name]["test_accuracy"]
        traces = [
            storage.read_lines(tmp_path / where / "gait" / "imagenet" / name / "trace.jsonl")
            for where in ("one", "two")
        ]
        assert [row["step"] for row in traces[0]] == [row["step"] for row in traces[1]]
