"""Events and frames against their definitions, written out event by event.

A failure here would hide frames that hold the wrong events, digits that do not move as their label says, and a task of
directions that a network without memory could solve.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import formats
from equipoise import data
from equipoise.data.frames import Events, smaller, to_frames
from equipoise.data.moving import DIRECTIONS, render, seen
from equipoise.errors import InputError

SENSOR = (128, 128)


def events(listed: list[formats.Event]) -> Events:
    x, y, t, on = (np.array(column) for column in zip(*listed, strict=True))
    return Events(x, y, t, on.astype(bool))


@pytest.mark.parametrize(
    ("by", "steps", "count"), [("count", 4, 100), ("count", 7, 100), ("time", 4, 100), ("time", 9, 5)]
)
def test_every_event_is_in_the_part_that_its_place_or_time_gives(by: str, steps: int, count: int) -> None:
    listed = formats.recording(count, seed=steps, start=10**9, length=777)
    first, length = listed[0][2], listed[-1][2] + 1 - listed[0][2]
    expected = np.zeros((steps, 2, *SENSOR), np.int64)
    for place, (x, y, t, on) in enumerate(listed):
        part = place * steps // count if by == "count" else (t - first) * steps // length
        expected[part, 0 if on else 1, y, x] += 1
    found = to_frames(events(listed), steps, by, SENSOR)
    assert np.array_equal(found, expected)
    assert found.sum() == count
    if by == "count":
        assert np.ptp(found.sum((1, 2, 3))) <= 1


def test_frames_of_few_events_and_of_none() -> None:
    assert to_frames(events(formats.recording(1)), 5, "time", SENSOR).sum((1, 2, 3)).tolist() == [1, 0, 0, 0, 0]
    none = np.zeros(0, np.int64)
    nothing = Events(none, none, none, none.astype(bool))
    assert to_frames(nothing, 3, "count", SENSOR).sum() == 0
    with pytest.raises(InputError, match=r"an event has the column 4; this sensor has 0\.\.3"):
        to_frames(events([(4, 0, 0, True)]), 1, "count", (8, 4))
    with pytest.raises(InputError, match="unknown way to make frames of events, 'number'"):
        to_frames(nothing, 3, "number", SENSOR)


@pytest.mark.parametrize(("side", "size"), [(24, 9), (16, 4), (7, 3), (5, 5)])
def test_smaller_frames_are_means_over_areas(side: int, size: int) -> None:
    """Each pixel repeated ``size`` times makes new pixels of whole old ones: then the mean is a plain one."""
    frames = torch.rand(2, 2, side, side, generator=torch.Generator().manual_seed(side))
    fine = frames.double().repeat_interleave(size, 2).repeat_interleave(size, 3)
    expected = F.avg_pool2d(fine, side).float()
    assert torch.allclose(smaller(frames, size), expected, atol=1e-5)
    assert torch.allclose(smaller(frames, size).mean((2, 3)), frames.mean((2, 3)), atol=1e-5)


def moved(path: tuple[float, float, float, float], *, inverse: bool = False, frames: int = 5, size: int = 20) -> Tensor:
    digit = torch.zeros(1, 4, 4)
    digit[0, 1:3, 1:3] = torch.tensor([[0.2, 0.4], [0.6, 1.0]])
    return render(digit, torch.tensor([path]), torch.tensor([inverse]), frames=frames, size=size)[0]


def test_a_digit_is_where_its_path_says_at_every_moment() -> None:
    """The centre of its light is at middle + (2 k / T - 1) way, right and down; whole pixels move it unchanged."""
    light = moved((1, -2, 5, 2.5))
    at = torch.arange(20) - 9.5
    mass = light.sum((1, 2))
    assert torch.allclose(mass, torch.full((6,), 2.2), atol=1e-5)
    still = moved((0, 0, 0, 0))[0]
    offset = torch.stack([(still * at).sum() / 2.2, (still * at[:, None]).sum() / 2.2])
    centre = torch.stack([(light * at).sum((1, 2)), (light * at[:, None]).sum((1, 2))], 1) / 2.2 - offset
    expected = torch.tensor([[-4 + 2 * k, -4.5 + k] for k in range(6)])
    assert torch.allclose(centre, expected, atol=1e-4)
    assert torch.allclose(moved((3, 1, 0, 0))[0], still.roll((1, 3), (0, 1)), atol=1e-5)
    assert torch.allclose(moved((1, -2, 5, 2.5), inverse=True), 1 - light, atol=1e-6)


def test_events_are_whole_thresholds_of_change_by_their_sign() -> None:
    light = torch.tensor([[0.0, 0.6, 0.5, 0.05, 1.0], [0.0, 0.19, 0.2, 0.4, 0.4]]).T.reshape(1, 5, 1, 2)
    found = seen(light, 0.2)
    assert found.dtype == torch.uint8
    assert found[0, :, 0, 0, 0].tolist() == [3, 0, 0, 4]
    assert found[0, :, 1, 0, 0].tolist() == [0, 0, 2, 0]
    assert found[0, :, 0, 0, 1].tolist() == [0, 0, 1, 0]
    assert not found[0, :, 1, 0, 1].any()


def test_a_dark_digit_going_back_has_the_same_frames_in_reverse() -> None:
    """So what is blind to the order of frames cannot tell a direction from its opposite: the label needs time."""
    there = seen(moved((0.5, 1, 6, -3))[None], 0.1)
    back = seen(moved((0.5, 1, -6, 3), inverse=True)[None], 0.1)
    assert int(there.sum()) > 20
    assert torch.equal(back, there.flip(1))
    assert not torch.equal(back, there)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a small MNIST, and a cache of its own."""
    root = tmp_path_factory.mktemp("moving")
    (root / "mnist").mkdir()
    for part, count in (("train", 60), ("t10k", 30)):
        images = np.zeros((count, 28, 28), np.uint8)
        images[:, 6:22, 10:18] = formats.pixels(count, (16, 8), seed=count)
        labels = np.array(formats.labels(count, 10), np.uint8)
        (root / "mnist" / f"{part}-images-idx3-ubyte").write_bytes(formats.idx_bytes(images))
        (root / "mnist" / f"{part}-labels-idx1-ubyte").write_bytes(formats.idx_bytes(labels))
    return root


def loaded(folder: Path, monkeypatch: pytest.MonkeyPatch, options: str = "samples=40") -> data.Dataset:
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    return data.load(f"moving-digits,{options}", folder=folder)


def test_moving_digits_are_counts_of_events_of_either_label(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digits = loaded(folder, monkeypatch)
    turned = loaded(folder, monkeypatch, "samples=40,label=direction")
    assert (digits.shape, len(digits.train), len(digits.test)) == ((10, 2, 34, 34), 40, 8)
    assert (digits.classes, turned.classes) == (tuple("0123456789"), DIRECTIONS)
    assert digits.train.labels.tolist() == formats.labels(40, 10)
    assert digits.test.labels.tolist() == formats.labels(8, 10)
    assert torch.equal(digits.train.images, turned.train.images)
    assert (digits.handed, digits.upright) == (True, False)
    assert (turned.handed, turned.upright) == (True, True)
    x, _ = digits.train.batch(torch.tensor([3, 0]))
    assert x.dtype == torch.float32
    assert torch.equal(x, digits.train.images[[3, 0]].float()), "counts were scaled"
    assert x.max() >= 2
    small = loaded(folder, monkeypatch, "samples=0,frames=4,size=30,threshold=0.5")
    assert (small.shape, len(small.train), len(small.test)) == ((4, 2, 30, 30), 60, 30)
    other = loaded(folder, monkeypatch, "samples=40,seed=1")
    assert not torch.equal(other.train.images, digits.train.images)


def test_events_drift_in_the_direction_of_their_label(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first frames to the last ones the events' centre moves along the label, give or take 10 degrees."""
    whole = loaded(folder, monkeypatch, "samples=0,label=direction,size=60")
    at = torch.arange(60.0)
    light = whole.train.images.float().sum(2)
    mass = light.sum((2, 3))
    across, down = (light * at).sum((2, 3)) / mass, (light * at[:, None]).sum((2, 3)) / mass
    angle = torch.atan2(down[:, 0] - down[:, -1], across[:, -1] - across[:, 0])
    wanted = torch.pi / 4 * whole.train.labels
    off = torch.rad2deg((angle - wanted + torch.pi) % (2 * torch.pi) - torch.pi)
    assert float(off.abs().max()) < 14
    assert len(set(whole.train.labels.tolist())) == 8
    assert float(light[..., 0, :].sum() + light[..., -1, :].sum()) == 0, "a digit leaves its frame"


def test_moving_digits_come_from_the_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from equipoise.data import moving

    first = loaded(folder, monkeypatch, "samples=20,frames=3")
    moving._made.cache_clear()
    monkeypatch.setattr(moving, "render", None)
    again = loaded(folder, monkeypatch, "samples=20,frames=3")
    assert again.train.images is not first.train.images
    assert torch.equal(again.train.images, first.train.images)
    assert torch.equal(again.test.labels, first.test.labels)


@pytest.mark.parametrize("option", ["frames=0", "size=24", "threshold=0", "threshold=1.5", "samples=3", "samples=-5"])
def test_options_that_describe_nothing_are_refused(folder: Path, option: str) -> None:
    with pytest.raises(InputError, match="moving digits need frames >= 1, size > 24, 0 < threshold <= 1"):
        data.load(f"moving-digits,{option}", folder=folder)


def test_an_unknown_label_and_a_missing_mnist_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown label of moving digits, 'angle'"):
        data.load("moving-digits,label=angle", folder=folder)
    with pytest.raises(InputError, match=f"mnist is not in {tmp_path}/mnist"):
        data.load("moving-digits", folder=tmp_path)


def test_rows_are_the_rows_of_pictures_from_the_top(folder: Path) -> None:
    plain, rows = data.load("mnist", folder=folder), data.load("rows:mnist", folder=folder)
    assert (rows.shape, rows.name, rows.classes) == ((28, 28), "rows:mnist", plain.classes)
    assert torch.equal(rows.train.images[5, 7], plain.train.images[5, 0, 7])
    assert torch.equal(rows.train.batch(torch.arange(4))[0], plain.train.batch(torch.arange(4))[0][:, 0])
    from equipoise.data.sequences import rows as in_rows

    images = torch.arange(2 * 3 * 4 * 5, dtype=torch.uint8).reshape(2, 3, 4, 5)
    split = data.Split(images, torch.tensor([0, 1]))
    found = in_rows(data.Dataset("own", split, split, ("a", "b")), "rows:own")
    assert found.shape == (4, 15)
    assert torch.equal(found.train.images[1, 2], images[1, :, 2].flatten())
    with pytest.raises(InputError, match=r"needs pictures \(C, H, W\) in memory, and 'rows:own' has \(4, 15\)"):
        in_rows(found, "rows:rows:own")
    with pytest.raises(InputError, match="name that set, as in rows:fashion-mnist"):
        data.load("rows", folder=folder)


def test_image_sets_are_resized_by_an_option(folder: Path) -> None:
    plain, small = data.load("mnist", folder=folder), data.load("mnist,size=14", folder=folder)
    assert (small.shape, small.train.images.dtype) == ((1, 14, 14), torch.uint8)
    assert "resized from 28 x 28 to 14 x 14" in small.note
    flat = F.interpolate(plain.test.images / 255, (14, 14), mode="bilinear", antialias=True)
    assert float((small.test.images / 255 - flat).abs().max()) <= 0.5 / 255 + 1e-6
    assert torch.equal(small.test.labels, plain.test.labels)
    with pytest.raises(InputError, match="cannot have -1 pixels a side"):
        data.load("mnist,size=-1", folder=folder)
