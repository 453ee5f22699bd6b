"""The errata of the data in the E-I spiking paper's program, and of a published table of labels: their version beside ours.

A failure here means that docs/errata.md accuses somebody wrongly, or that we have taken the error over.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

import formats
from equipoise import data
from equipoise.data import warps
from equipoise.data.frames import Events
from equipoise.data.labels import GESTURES
from equipoise.errors import InputError
from equipoise.randomness import generator

ROOT = Path(__file__).parents[2]


def remaining(frames: Tensor, kept: int, stream: torch.Generator) -> Tensor:
    """Temporal deletion as published elsewhere: ``kept`` of the T frames (T, ...), drawn, in their order."""
    chosen = torch.randperm(len(frames), generator=stream)[:kept].sort().values
    return frames[chosen]


def test_s14_deleting_none_of_sixteen_frames_changes_nothing() -> None:
    """The program asks for 16 of 16 frames: the sorted draw is the identity, whatever is drawn. Ours leaves frames out."""
    frames = torch.arange(16.0)[:, None, None, None].expand(16, 2, 3, 3)
    for seed in range(20):
        assert torch.equal(remaining(frames, 16, generator(seed)), frames)
    ours = warps.temporal_delete(frames[None].expand(20, -1, -1, -1, -1), generator(0))
    assert {len(set(one[:, 0, 0, 0].tolist())) for one in ours} == {12}
    with pytest.raises(InputError, match="leaves none"):
        warps.temporal_delete(frames[None, :1], generator(0))


def test_s15_a_mirrored_gesture_is_one_of_another_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four classes in two pairs have a mirror image that is the other's; half of their samples get a wrong label.

    A hand that waves on the right side of the picture: mirrored, it waves where the other hand does.
    """
    pairs = {("right hand wave", "left hand wave"), ("right arm clockwise", "left arm counter clockwise")}
    pairs.add(("right arm counter clockwise", "left arm clockwise"))
    assert {name for pair in pairs for name in pair} <= set(GESTURES)
    right, left = torch.zeros(1, 4, 2, 16, 16), torch.zeros(1, 4, 2, 16, 16)
    for step in range(4):
        right[:, step, 0, 4 + step, 11:13] = 1
        left[:, step, 0, 4 + step, 3:5] = 1
    mirrored = data.flip(right.expand(400, -1, -1, -1, -1), generator(0))
    wrong = (mirrored == left).flatten(1).all(1)
    assert 160 < int(wrong.sum()) < 240
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    formats.gestures(tmp_path / "dvs-gesture")
    dataset = data.load("dvs-gesture,frames=2,size=16", folder=tmp_path)
    for text in ("flip", "resized_crop=0.5+crop_flip", "roll/flip"):
        found = data.Augmentation.read(text)
        assert found is not None
        with pytest.raises(InputError, match=r"mirrors samples, and these classes tell left from right"):
            found.check(dataset.shape, handed=dataset.handed)


def test_s16_a_number_painted_on_a_colour_picture_is_red() -> None:
    """A whole number as the colour of a box goes into the first channel alone, the others get zero. Ours is grey."""
    from PIL import Image

    picture = Image.new("RGB", (32, 32), (128, 128, 128))
    picture.paste(200, (4, 4, 20, 20))
    assert picture.getpixel((10, 10)) == (200, 0, 0)
    images = torch.full((200, 3, 32, 32), 2.0)
    out = warps.cutout(images, generator(0), chance=1.0)
    covered = (out != images).any(1, keepdim=True).expand_as(out)
    assert bool(covered.any())
    assert torch.equal(out[:, :1].expand_as(out)[covered], out[covered])


def test_s17_a_range_of_labels_that_reaches_into_the_next_counts_events_twice() -> None:
    """As user22_led's ninth gesture does, whose end is given as 110,590,564 microseconds; the starts here are examples."""
    start, end, following, last = 97_000_000, 110_590_564, 104_500_000, 112_000_000
    times = torch.arange(start, last, 10_000).numpy()
    film = Events(times % 128, times % 128, times, times % 2 == 0)
    theirs = len(film.between(start, end)) + len(film.between(following, last))
    ours = len(film.between(start, min(end, following))) + len(film.between(following, last))
    assert theirs > ours == len(film)


def test_every_entry_has_its_test() -> None:
    text = (ROOT / "docs" / "errata.md").read_text("utf-8")
    named = set(re.findall(r"`test_errata_events\.py::(test_s\d+)`", text))
    assert named == {f"test_s{number}" for number in range(14, 18)}
