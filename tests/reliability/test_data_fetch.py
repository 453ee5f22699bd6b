"""Fetching from the hub, with a ``datasets`` package that is made up here: no test uses a network.

A failure here would hide a fetch that asks for another repository or split, files that the readers do not find,
and a broken download that leaves half a file which looks whole.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import formats
from equipoise import data
from equipoise.data import hub
from equipoise.errors import InputError, StorageError

# name: image column, label column, shape, classes
SCHEMAS: dict[str, tuple[str, str, tuple[int, int, int], int]] = {
    "mnist": ("image", "label", (1, 28, 28), 10),
    "fashion-mnist": ("image", "label", (1, 28, 28), 10),
    "cifar10": ("img", "label", (3, 32, 32), 10),
    "cifar100": ("img", "fine_label", (3, 32, 32), 100),
    "tiny-imagenet": ("image", "label", (3, 64, 64), 200),
}
REPOSITORIES = {
    "mnist": "ylecun/mnist",
    "fashion-mnist": "zalando-datasets/fashion_mnist",
    "cifar10": "uoft-cs/cifar10",
    "cifar100": "uoft-cs/cifar100",
    "tiny-imagenet": "zh-plus/tiny-imagenet",
}


class Hub:
    """What stands for the package ``datasets``: it notes what it is asked for and writes small true files."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.fail_at = ""

    def load_dataset(self, repository: str, *, split: str) -> Any:
        self.asked.append((repository, split))
        name = next(key for key, value in REPOSITORIES.items() if value == repository)
        image, label, shape, classes = SCHEMAS[name]
        rows = formats.pixels(5, shape)
        fails = split == self.fail_at

        class Table:
            def to_parquet(self, path: str) -> None:
                columns = {label: formats.labels(5, classes)}
                formats.parquet(Path(path), [formats.encode(row) for row in rows], columns, image=image)
                if fails:
                    raise ConnectionError("the line\nis dead")

        return Table()


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> Hub:
    fake = Hub()
    module = ModuleType("datasets")
    module.load_dataset = fake.load_dataset  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "datasets", module)
    return fake


@pytest.mark.parametrize("name", SCHEMAS)
def test_what_is_fetched_can_be_loaded(name: str, online: Hub, tmp_path: Path) -> None:
    assert data.fetch(name, tmp_path) == tmp_path / name
    test = "valid" if name == "tiny-imagenet" else "test"
    assert online.asked == [(REPOSITORIES[name], "train"), (REPOSITORIES[name], test)]
    assert {path.name for path in (tmp_path / name).iterdir()} == {f"{test}.parquet", "train.parquet"}
    assert len(data.load(name, folder=tmp_path).test) == 5
    data.fetch(name, str(tmp_path))
    assert len(online.asked) == 2, "a set that is there is not fetched again"


def test_a_broken_download_leaves_no_half_file_and_the_next_goes_on(online: Hub, tmp_path: Path) -> None:
    online.fail_at = "test"
    with pytest.raises(StorageError, match=r"fetching cifar10 \(uoft-cs/cifar10, split test\).*the line is dead"):
        data.fetch("cifar10", tmp_path)
    assert [path.name for path in (tmp_path / "cifar10").iterdir()] == ["train.parquet"]
    online.fail_at = ""
    data.fetch("cifar10", tmp_path)
    assert [split for _, split in online.asked] == ["train", "test", "test"]
    assert len(data.load("cifar10", folder=tmp_path).train) == 5


def test_a_set_in_another_format_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    formats.cifar10_binary(tmp_path / "cifar-10-batches-bin")
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert data.fetch("cifar10", tmp_path) == tmp_path / "cifar-10-batches-bin"


def test_without_the_extra_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=r"pip install 'equipoise\[hub\]'"):
        data.fetch("mnist", tmp_path)


def test_a_folder_that_cannot_be_made_is_one_line(online: Hub, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="failed"):
        data.fetch("mnist", tmp_path / "file")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digits", "digits cannot be fetched: it is embedded"),
        ("imagenet", "imagenet cannot be fetched"),
        ("cifar11", "unknown dataset 'cifar11'; did you mean 'cifar1"),
    ],
)
def test_what_cannot_be_fetched_says_why(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        data.fetch(name, tmp_path)


def test_the_table_of_sources_is_the_one_tested_here() -> None:
    assert {name: source.repository for name, source in hub.SOURCES.items()} == REPOSITORIES
