"""Held-out samples and orders of visits as functions of their seed.

A failure here would hide validation samples that are trained on, a sample lost or seen twice in an epoch, or
an order that a resumed run, another process or an earlier draw would change.
"""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from equipoise import data
from equipoise.errors import InputError
from equipoise.randomness import generator


def numbered(count: int) -> data.Split:
    """A split whose images and labels both say which row they are."""
    rows = torch.arange(count)
    return data.Split(rows.to(torch.float32)[:, None, None, None].expand(count, 1, 2, 2).clone(), rows)


@settings(max_examples=60)
@given(count=st.integers(2, 300), fraction=st.floats(0.0, 0.99), seed=st.integers(0, 2**40))
def test_hold_out_divides_without_loss_or_overlap(count: int, fraction: float, seed: int) -> None:
    held = round(count * fraction)
    if fraction > 0 and not 0 < held < count:
        with pytest.raises(InputError, match="both parts need some"):
            data.hold_out(numbered(count), fraction, seed=seed)
        return
    train, validation = data.hold_out(numbered(count), fraction, seed=seed)
    assert len(validation) == held
    assert sorted(train.labels.tolist() + validation.labels.tolist()) == list(range(count))
    for part in (train, validation):
        assert torch.equal(part.images[:, 0, 0, 0].long(), part.labels), "images and labels came apart"


def test_hold_out_depends_on_its_seed_alone() -> None:
    split = numbered(200)
    first = data.hold_out(split, 0.1, seed=1)[1].labels
    torch.manual_seed(7)
    assert torch.equal(first, data.hold_out(split, 0.1, seed=1)[1].labels)
    assert not torch.equal(first, data.hold_out(split, 0.1, seed=2)[1].labels)


def test_hold_out_draws_from_the_whole_split() -> None:
    """Sorted files would otherwise give one class: the mean of 500 held rows lies near the middle."""
    rows = data.hold_out(numbered(5000), 0.1, seed=0)[1].labels.double()
    assert abs(float(rows.mean()) - 2499.5) < 5 * 5000 / math.sqrt(12 * 500)


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 1.5, float("nan")])
def test_a_fraction_outside_its_range_is_refused(fraction: float) -> None:
    with pytest.raises(InputError, match="validation fraction"):
        data.hold_out(numbered(10), fraction, seed=0)


@settings(max_examples=60)
@given(n=st.integers(0, 500), seed=st.integers(0, 2**40), epoch=st.integers(0, 1000))
def test_an_order_is_a_permutation(n: int, seed: int, epoch: int) -> None:
    order = data.order(n, seed=seed, epoch=epoch)
    assert order.dtype == torch.int64
    assert sorted(order.tolist()) == list(range(n))


def test_orders_differ_by_each_argument_and_by_nothing_else() -> None:
    reference = data.order(100, seed=0, epoch=0)
    torch.manual_seed(3)
    data.order(100, seed=0, epoch=1)
    assert torch.equal(reference, data.order(100, seed=0, epoch=0))
    assert not torch.equal(reference, data.order(100, seed=0, epoch=1))
    assert not torch.equal(reference, data.order(100, seed=1, epoch=0))
    assert not torch.equal(data.order(100, seed=0, epoch=1), data.order(100, seed=1, epoch=0))


def test_an_order_and_a_division_are_the_same_in_another_process() -> None:
    code = (
        "import torch; from equipoise import data; rows = torch.arange(50);"
        "split = data.Split(torch.zeros(50, 1), rows);"
        "print(data.order(50, seed=4, epoch=2).tolist() + data.hold_out(split, 0.2, seed=4)[1].labels.tolist())"
    )
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONHASHSEED": "123"}
    seen = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    here = data.order(50, seed=4, epoch=2).tolist()
    here += data.hold_out(numbered(50), 0.2, seed=4)[1].labels.tolist()
    assert seen.stdout.strip() == str(here)


@settings(max_examples=30)
@given(count=st.integers(1, 20), seed=st.integers(0, 1000))
def test_take_and_batch_agree(count: int, seed: int) -> None:
    images = torch.randint(0, 256, (count, 2, 3, 3), generator=generator(seed), dtype=torch.uint8)
    split = data.Split(images, torch.arange(count))
    index = torch.randint(0, count, (7,), generator=generator(seed, 1))
    x, y = split.batch(index)
    assert x.dtype == torch.float32
    assert y.dtype == torch.int64
    assert torch.equal(x, images[index].float() / 255)
    assert float(x.min()) >= 0
    assert float(x.max()) <= 1
    again, labels = split.take(index).batch(torch.arange(7))
    assert torch.equal(again, x)
    assert torch.equal(labels, y)
    assert split.shape == (2, 3, 3)


def test_floating_point_images_keep_their_scale() -> None:
    split = data.Split(torch.full((2, 1, 2, 2), -3.5, dtype=torch.float64), torch.zeros(2, dtype=torch.int64))
    x, _ = split.batch(torch.tensor([1]))
    assert x.dtype == torch.float32
    assert torch.equal(x, torch.full((1, 1, 2, 2), -3.5))


def test_digits_are_stratified_and_always_the_same() -> None:
    digits = data.load("digits")
    assert digits.shape == (1, 8, 8)
    assert (len(digits.train), len(digits.test)) == (1437, 360)
    assert torch.bincount(digits.test.labels).tolist() == [36] * 10
    assert digits.train.images.dtype == torch.uint8
    assert sorted(set(digits.train.images.unique().tolist())) == [round(v * 255 / 16) for v in range(17)]
    rows = {tuple(image.flatten().tolist()) for image in digits.train.images}
    assert not any(tuple(image.flatten().tolist()) in rows for image in digits.test.images)
    content = hashlib.sha256(digits.test.images.numpy().tobytes()).hexdigest()
    assert content.startswith("fb39ea8e28adda67"), "other images are tested on than in the published results"
