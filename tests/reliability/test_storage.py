"""Files under bad conditions: a failure here hides a half-written file, a lost old one, or two writers at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from equipoise.errors import StorageError
from equipoise.train import Machine, Run, lock, storage, train
from reliability._sessions import NOISY, Launcher

LIMITED = """
import json, resource
from pathlib import Path
from equipoise.errors import StorageError
from equipoise.train import Machine, Run, storage, train

root, said = Path(root), {}
path, lines = root / "file", root / "lines.jsonl"
storage.write_bytes(path, b"old")
storage.append_line(lines, {"a": 1})
train(Run(epochs=1), Machine(runs=root / "runs"))
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
tasks = {
    "bytes": lambda: storage.write_bytes(path, b"x" * 5000),
    "prev": lambda: storage.write_bytes(path, b"x" * 5000, previous=True),
    "line": lambda: storage.append_line(lines, {"b": "y" * 5000}),
    "weights": lambda: storage.write_weights(path, {"w": __import__("torch").zeros(5000)}),
    "run": lambda: train(Run(epochs=2), Machine(runs=root / "runs", checkpoint_every=0)),
}
for name, task in tasks.items():
    try:
        task()
    except StorageError as error:
        said[name] = str(error)
said["finished"] = train(Run(epochs=1), Machine(runs=root / "runs")).status
print(json.dumps(said))
"""


def test_a_write_that_fails_half_way_leaves_the_old_file(launcher: Launcher, tmp_path: Path) -> None:
    launcher.call("exec(code, {'root': root}) or 0", tmp_path / "log", code=LIMITED, root=str(tmp_path))
    assert launcher.wait() == 0, launcher.said()
    said = json.loads(launcher.said())
    for name in ("bytes", "prev", "line", "weights", "run"):
        assert "File too large" in said[name], name
        assert "\n" not in said[name]
    assert said["finished"] == "finished"
    assert (tmp_path / "file").read_bytes() == b"old"
    assert storage.read_lines(tmp_path / "lines.jsonl") == [{"a": 1}]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "lines.jsonl", "log", "runs"]
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_crash_between_writing_and_renaming_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    storage.write_bytes(path, b"old")

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        storage.write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert [item.name for item in tmp_path.iterdir()] == ["file"]


def test_previous_keeps_exactly_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"1", b"2", b"3"):
        storage.write_bytes(path, content, previous=True)
    assert (path.read_bytes(), path.with_name("file.prev").read_bytes()) == (b"3", b"2")


@pytest.mark.parametrize("folder", ["file", "file/below", "/proc/none"])
def test_an_unwritable_folder_is_one_line(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot create the folder") as caught:
        train(Run(epochs=1), Machine(runs=tmp_path / folder))
    assert "\n" not in str(caught.value)
    assert (tmp_path / "file").read_text() == "in the way"


def test_two_runs_on_one_folder(launcher: Launcher, tmp_path: Path) -> None:
    run = Run(epochs=1)
    folder = run.folder(tmp_path)
    folder.mkdir(parents=True)
    with lock.hold(folder):
        launcher.start(run, tmp_path)
        assert launcher.wait() == 1
        said = launcher.said()
        assert said.startswith(f"error: '{folder}' is in use: process {os.getpid()}")
        assert said.count("\n") == 1
        assert [path.name for path in folder.iterdir()] == [".lock"]
    assert train(run, Machine(runs=tmp_path)).status == "finished"


def test_the_lock_without_a_kernels_help(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "fcntl", None)
    with lock.hold(tmp_path):
        with pytest.raises(StorageError, match=f"process {os.getpid()}"), lock.hold(tmp_path):
            pytest.fail("held twice")
        assert (tmp_path / ".lock").exists()
    assert not (tmp_path / ".lock").exists()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    owner = (lock._owner()).split()[1]
    (tmp_path / ".lock").write_text(f"{gone.pid} {owner}")
    with lock.hold(tmp_path):
        assert (tmp_path / ".lock").read_text().startswith(f"{os.getpid()} ")
    (tmp_path / ".lock").write_text(f"{gone.pid} another-host")
    with pytest.raises(StorageError, match="another-host"), lock.hold(tmp_path):
        pytest.fail("taken from another host")
    os.utime(tmp_path / ".lock", (0, 0))  # nothing has happened there for long
    with lock.hold(tmp_path):
        assert (tmp_path / ".lock").read_text().startswith(f"{os.getpid()} ")


def test_json_says_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    for content, words in (
        ("{", "not valid JSON"),
        ("[1]", "expected a table"),
        ('{"a": NaN}', "NaN"),
        ("\x00", "JSON"),
    ):
        path.write_text(content)
        with pytest.raises(StorageError, match=words):
            storage.read_json(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(StorageError, match="byte 0"):
        storage.read_json(path)
    with pytest.raises(StorageError, match="No such file"):
        storage.read_json(tmp_path / "none.json")
    storage.write_json(path, {"a": float("nan"), "b": [float("inf"), 1.0]})
    assert storage.read_json(path) == {"a": None, "b": [None, 1.0]}
    path.write_text('{"a": 1}\n{"a": 2\n')
    with pytest.raises(StorageError, match="line 2 of"):
        storage.read_lines(path)


def test_tied_weights_come_back_tied(tmp_path: Path) -> None:
    run = Run(model="reliability._nets:Tied", epochs=1)
    train(run, Machine(runs=tmp_path))
    weights = storage.read_weights(run.folder(tmp_path) / "weights.safetensors")
    assert set(weights) == {f"{layer}.{part}" for layer in ("first", "second", "out") for part in ("weight", "bias")}
    assert torch.equal(weights["first.weight"], weights["second.weight"])
    (tmp_path / "broken").write_bytes(b"\x10\x00")
    with pytest.raises(StorageError, match="cannot read the weights"):
        storage.read_weights(tmp_path / "broken")


def test_weights_load_into_the_model(tmp_path: Path) -> None:
    from equipoise import models

    run = Run(model=NOISY, epochs=1, train_limit=100)
    summary = train(run, Machine(runs=tmp_path))
    model = models.make(NOISY, seed=99)
    model.load_state_dict(storage.read_weights(run.folder(tmp_path) / "weights.safetensors"))
    assert summary.parameters == sum(parameter.numel() for parameter in model.parameters())
