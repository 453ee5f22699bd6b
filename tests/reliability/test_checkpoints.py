"""Damaged checkpoints: a failure here hides a run that goes on from garbage, or that loses its last good state."""

from __future__ import annotations

import random
import shutil
import zipfile
from pathlib import Path

import pytest
import torch

from equipoise.errors import StorageError
from equipoise.train import Machine, Run, train
from equipoise.train import state as checkpoint
from reliability._sessions import NOISY, Watched, digest, stopped

RUN = Run(model=NOISY, epochs=3, train_limit=300, batch_size=64, select="validation")


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder stopped after the first epoch (with both checkpoints), and the digest of the whole run."""
    root = tmp_path_factory.mktemp("reference")
    stopped(RUN, root / "stopped", at=1)
    train(RUN, Machine(runs=root / "whole"))
    return root / "stopped", digest(RUN.folder(root / "whole"))


def damaged_copy(source: Path, target: Path, name: str, content: bytes) -> Path:
    shutil.copytree(source, target)
    folder = RUN.folder(target)
    (folder / name).write_bytes(content)
    return folder


def goes_on(root: Path) -> list[str]:
    seen = Watched()
    assert train(RUN, Machine(runs=root), progress=seen).status == "finished"
    return seen.notes


def test_truncated_at_twenty_random_offsets(reference: tuple[Path, str], tmp_path: Path) -> None:
    source, expected = reference
    content = (RUN.folder(source) / "state.pt").read_bytes()
    clock = random.Random(1)
    for case, offset in enumerate([0, len(content) - 1, *(clock.randrange(len(content)) for _ in range(18))]):
        folder = damaged_copy(source, tmp_path / str(case), "state.pt", content[:offset])
        notes = goes_on(tmp_path / str(case))
        assert any("damaged; the checkpoint before it is used" in note for note in notes), offset
        assert digest(folder) == expected, offset


def test_one_flipped_bit_at_twenty_random_places(reference: tuple[Path, str], tmp_path: Path) -> None:
    source, expected = reference
    content = (RUN.folder(source) / "state.pt").read_bytes()
    clock = random.Random(2)
    for case in range(20):
        flipped = bytearray(content)
        flipped[clock.randrange(len(content))] ^= 1 << clock.randrange(8)
        folder = damaged_copy(source, tmp_path / str(case), "state.pt", bytes(flipped))
        assert any("is damaged" in note for note in goes_on(tmp_path / str(case))), case
        assert digest(folder) == expected, case


def test_the_good_one_survives_a_second_accident(reference: tuple[Path, str], tmp_path: Path) -> None:
    """The damaged file must not be rotated over the good one by the next checkpoint."""
    source, _ = reference
    folder = damaged_copy(source, tmp_path / "runs", "state.pt", b"nonsense")
    good = checkpoint.load(folder)[0]
    assert good is not None
    checkpoint.save(folder, good)
    (folder / "state.pt").write_bytes(b"nonsense again")
    again, note = checkpoint.load(folder)
    assert again is not None
    assert again["step"] == good["step"]
    assert "damaged" in note


def test_only_the_previous_one_left_is_used_silently(reference: tuple[Path, str], tmp_path: Path) -> None:
    """A kill between the two renames of a write."""
    source, expected = reference
    shutil.copytree(source, tmp_path / "runs")
    folder = RUN.folder(tmp_path / "runs")
    (folder / "state.pt").unlink()
    notes = goes_on(tmp_path / "runs")
    assert not any("damaged" in note for note in notes)
    assert any("resumed" in note for note in notes)
    assert digest(folder) == expected


@pytest.mark.parametrize("previous", [True, False])
def test_both_damaged_is_one_clear_line(reference: tuple[Path, str], tmp_path: Path, previous: bool) -> None:
    source, expected = reference
    folder = damaged_copy(source, tmp_path / "runs", "state.pt", b"")
    if previous:
        (folder / "state.pt.prev").write_bytes(b"PK\x03\x04")
    else:
        (folder / "state.pt.prev").unlink()
    before = {path.name: path.read_bytes() for path in folder.glob("state*")}
    with pytest.raises(StorageError, match="start anew with --force") as caught:
        train(RUN, Machine(runs=tmp_path / "runs"))
    assert "\n" not in str(caught.value)
    assert {path.name: path.read_bytes() for path in folder.glob("state*")} == before
    assert train(RUN, Machine(runs=tmp_path / "runs", force=True)).status == "finished"
    assert digest(folder) == expected


def test_a_checkpoint_of_another_model_is_refused(reference: tuple[Path, str], tmp_path: Path) -> None:
    source, _ = reference
    shutil.copytree(source, tmp_path / "runs")
    folder = RUN.folder(tmp_path / "runs")
    saved = checkpoint.load(folder)[0]
    assert saved is not None
    saved["model"].pop("2.weight")
    checkpoint.save(folder, saved)
    with pytest.raises(StorageError, match=r"does not fit .*--force"):
        train(RUN, Machine(runs=tmp_path / "runs"))


def test_a_damaged_summary_never_costs_a_finished_run(tmp_path: Path) -> None:
    run = Run(epochs=1)
    train(run, Machine(runs=tmp_path))
    folder = run.folder(tmp_path)
    whole = (folder / "summary.json").read_text()
    for content in ("", whole[: len(whole) // 2], "[]", '{"status": "excellent", "hash": ""}', '{"stat": 1}'):
        (folder / "summary.json").write_text(content)
        before = digest(folder)
        with pytest.raises(StorageError, match=r"summary\.json.*--force"):
            train(run, Machine(runs=tmp_path))
        assert digest(folder) == before


def test_the_file_is_a_plain_archive(reference: tuple[Path, str]) -> None:
    path = RUN.folder(reference[0]) / "state.pt"
    saved = torch.load(path, weights_only=True)
    assert saved["step"] == 5
    assert [row["epoch"] for row in saved["history"]] == [1]
    assert zipfile.ZipFile(path).comment.startswith(b"sha256:")
