"""The real sets against their published counts and moments; skipped where the files are not at hand.

A failure here would hide a reader that swaps, scales or loses pixels in a way that small made-up files do not
show, and labels that are numbered otherwise than everybody else's.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from equipoise import data

# Images, the shape of one, and mean and standard deviation of the training pixels in [0, 1] as published.
PUBLISHED = {
    "mnist": (60000, 10000, (1, 28, 28), [0.1307], [0.3081]),
    "fashion-mnist": (60000, 10000, (1, 28, 28), [0.2860], [0.3530]),
    "cifar10": (50000, 10000, (3, 32, 32), [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]),
}


@pytest.fixture(scope="module", params=PUBLISHED)
def real(request: pytest.FixtureRequest) -> data.Dataset:
    folder = os.environ.get("EQUIPOISE_DATA")
    if not folder or not (Path(folder) / request.param).is_dir():
        pytest.skip(f"EQUIPOISE_DATA does not hold {request.param}")
    return data.load(request.param, folder=folder)


def test_counts_and_shapes(real: data.Dataset) -> None:
    train, test, shape, _, _ = PUBLISHED[real.name]
    assert (len(real.train), len(real.test), real.shape) == (train, test, shape)
    assert len(real.classes) == 10
    if real.name == "mnist":
        assert torch.bincount(real.train.labels).tolist() == MNIST_COUNTS
    else:
        assert torch.bincount(real.train.labels).tolist() == [train // 10] * 10
        assert torch.bincount(real.test.labels).tolist() == [test // 10] * 10


def test_moments(real: data.Dataset) -> None:
    """Mean and standard deviation per channel to the published four decimals; JPEG copies to 0.002."""
    _, _, _, mean, deviation = PUBLISHED[real.name]
    bound = 0.002 if real.note else 0.00006
    for channel, (centre, spread) in enumerate(zip(mean, deviation, strict=True)):
        pixels = real.train.images[:, channel].float()
        assert abs(float(pixels.mean()) / 255 - centre) < bound
        assert abs(float(pixels.std()) / 255 - spread) < bound


def test_the_order_and_the_copy_are_known(real: data.Dataset) -> None:
    """MNIST is in its original order; CIFAR-10 is announced as JPEG exactly if its file holds JPEG."""
    if real.name == "mnist":
        assert real.train.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
        assert real.test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    parquet = Path(os.environ["EQUIPOISE_DATA"]) / real.name / "test.parquet"
    holds_jpeg = parquet.exists() and b"JFIF" in parquet.read_bytes()
    assert ("JPEG" in real.note) == holds_jpeg


# How often each digit occurs in MNIST's training set.
MNIST_COUNTS = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
