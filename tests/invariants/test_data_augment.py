"""Augmentation as a property of its outputs.

A failure here would hide images whose rows are torn or channels mixed, labels that no longer fit because a
crop leaves the padded image, an augmentation that never reaches some offsets, or one that two runs with the
same seed do not share.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from equipoise import data
from equipoise.errors import InputError
from equipoise.randomness import generator


def windows(image: Tensor, padding: int) -> list[Tensor]:
    """Every crop that ``crop_flip`` may return for one image (C, H, W), by plain slicing."""
    _, height, width = image.shape
    padded = F.pad(image, (padding,) * 4)
    crops = [
        padded[:, top : top + height, left : left + width]
        for top in range(2 * padding + 1)
        for left in range(2 * padding + 1)
    ]
    return crops + [crop.flip(2) for crop in crops]


@settings(max_examples=40)
@given(
    batch=st.integers(1, 4),
    channels=st.integers(1, 3),
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    padding=st.integers(0, 3),
    seed=st.integers(0, 2**32),
    dtype=st.sampled_from([torch.uint8, torch.float32, torch.bfloat16]),
)
def test_every_output_is_a_window_of_the_padded_image_or_its_mirror(
    batch: int, channels: int, height: int, width: int, padding: int, seed: int, dtype: torch.dtype
) -> None:
    noise = torch.randint(1, 256, (batch, channels, height, width), generator=generator(seed, "images"))
    images = noise.to(dtype)
    before = images.clone()
    out = data.crop_flip(images, generator(seed), padding=padding)
    assert out.dtype == dtype
    assert out.shape == images.shape
    assert torch.equal(images, before), "the input was written into"
    for image, result in zip(images, out, strict=True):
        assert any(torch.equal(result, window) for window in windows(image, padding))


def test_all_offsets_and_both_mirrors_come_and_are_uniform() -> None:
    """4,050 crops over 2 x 9 equally likely outcomes: each count within five standard deviations of 225."""
    image = torch.arange(1, 13, dtype=torch.uint8).reshape(1, 1, 3, 4)
    out = data.crop_flip(image.expand(4050, 1, 3, 4), generator(0), padding=1)
    counts = [int((out == window).flatten(1).all(1).sum()) for window in windows(image[0], 1)]
    assert len(counts) == 18
    assert sum(counts) == 4050
    deviation = (4050 / 18 * (1 - 1 / 18)) ** 0.5
    assert all(abs(count - 225) < 5 * deviation for count in counts), counts


def test_offsets_rows_and_mirrors_are_independent_between_images() -> None:
    images = torch.arange(1, 65, dtype=torch.uint8).reshape(1, 1, 8, 8).expand(64, 1, 8, 8)
    out = data.crop_flip(images, generator(3))
    assert len({tuple(each.flatten().tolist()) for each in out}) > 40


def test_channels_move_together() -> None:
    grey = torch.randint(0, 256, (16, 1, 9, 9), generator=generator(1), dtype=torch.uint8)
    out = data.crop_flip(grey.expand(16, 3, 9, 9), generator(2))
    assert torch.equal(out, out[:, :1].expand_as(out))


def test_flip_mirrors_about_half_and_changes_nothing_else() -> None:
    images = torch.randint(0, 256, (400, 2, 3, 5), generator=generator(0), dtype=torch.uint8)
    out = data.flip(images, generator(1))
    mirrored = (out == images.flip(3)).flatten(1).all(1)
    kept = (out == images).flatten(1).all(1)
    assert bool((mirrored ^ kept).all())
    assert 150 < int(mirrored.sum()) < 250


@pytest.mark.parametrize("augment", [data.crop_flip, data.flip])
def test_the_generator_alone_decides(augment) -> None:
    images = torch.rand(32, 3, 8, 8, generator=generator(0))
    torch.manual_seed(1)
    first = augment(images, generator(5))
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert torch.equal(first, augment(images, generator(5)))
    assert torch.equal(state, torch.get_rng_state()), "the global state was drawn from"
    assert not torch.equal(first, augment(images, generator(6)))
    one = generator(5)
    assert torch.equal(first, augment(images, one))
    assert not torch.equal(first, augment(images, one)), "a second call must go on in the stream"


def test_uint8_and_float_images_are_cut_alike() -> None:
    images = torch.randint(0, 256, (8, 3, 32, 32), generator=generator(0), dtype=torch.uint8)
    as_float = data.crop_flip(images.float(), generator(4))
    assert torch.equal(data.crop_flip(images, generator(4)).float(), as_float)


@pytest.mark.parametrize("shape", [(3, 8, 8), (4, 64), (2, 3, 3, 3, 8, 8)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    for augment in (data.crop_flip, data.flip):
        with pytest.raises(InputError, match=r"need \(B, C, H, W\)"):
            augment(torch.zeros(shape), generator(0))


def test_a_negative_padding_is_refused() -> None:
    with pytest.raises(InputError, match="padding is -1"):
        data.crop_flip(torch.zeros(1, 1, 4, 4), generator(0), padding=-1)
