"""The cache of decoded images.

A failure here would hide a cache that serves the pixels of a file that has changed since, or damaged ones, and
one that fails a run because its folder cannot be written.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import formats
from equipoise import data
from equipoise.data import cache, images, sets


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder whose CIFAR-10 was loaded once, with a cache folder of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    formats.parquet_set(tmp_path / "cifar10", (3, 32, 32), 10, image="img")
    data.load("cifar10", folder=tmp_path)
    sets.forget()
    return tmp_path


def decodes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many images a load of CIFAR-10 decodes; its pixels must be those of the files."""
    sets.forget()
    count = 0
    decode = images.decode

    def counted(*arguments, **options):
        nonlocal count
        count += 1
        return decode(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(images, "decode", counted)
        dataset = data.load("cifar10", folder=folder)
    assert np.array_equal(dataset.train.images.numpy(), formats.pixels(8, (3, 32, 32)))
    assert np.array_equal(dataset.test.images.numpy(), formats.pixels(7, (3, 32, 32), seed=1))
    assert dataset.test.labels.tolist() == formats.labels(7, 10)
    return count


def test_a_second_process_decodes_nothing(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = sorted(path.name for path in cache.folder().iterdir())
    assert [name.split("-")[1] for name in files] == ["test", "train"]
    assert all(name.endswith(".safetensors") for name in files), "something was left behind"
    assert decodes(kept, monkeypatch) == 0


def test_a_changed_file_is_decoded_anew_and_replaces_its_cache(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.utime(kept / "cifar10" / "train.parquet", ns=(1, 1))
    assert decodes(kept, monkeypatch) == 15
    assert len(list(cache.folder().iterdir())) == 2
    assert decodes(kept, monkeypatch) == 0


@pytest.mark.parametrize("at", [0, 7, 8, 60, 200, -1, -5000])
def test_a_cut_or_bent_cache_is_ignored_and_rewritten(kept: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    path = next(path for path in cache.folder().iterdir() if "train" in path.name)
    whole = path.read_bytes()
    bent = bytearray(whole)
    bent[at] ^= 4
    for broken in (whole[:at], bytes(bent), b""):
        path.write_bytes(broken)
        assert decodes(kept, monkeypatch) == 8
        assert path.read_bytes() == whole


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    formats.parquet_set(tmp_path / "cifar10", (3, 32, 32), 10, image="img")
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert decodes(tmp_path, monkeypatch) == 15
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def full(*_arguments, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "save_file", full)
    assert decodes(tmp_path, monkeypatch) == 15
    assert list(cache.folder().iterdir()) == [], "a partial file was left behind"
