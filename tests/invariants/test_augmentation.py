"""Augmentation written as a list, as properties of its outputs.

A failure here would hide labels that no longer fit (a gesture mirrored, a direction turned), frames of one sample that
moved apart, a deleted frame that was not deleted, and recipes whose numbers depend on the machine.
"""

from __future__ import annotations

import colorsys
import math

import pytest
import torch
from torch import Tensor

from equipoise import data
from equipoise.data import colour, warps
from equipoise.errors import InputError
from equipoise.randomness import generator


def augmented(text: str, images: Tensor, seed: int = 0) -> Tensor:
    found = data.Augmentation.read(text)
    assert found is not None
    return found(images, generator(seed))


def pictures(*shape: int) -> Tensor:
    return torch.rand(shape, generator=generator("pictures"))


PICTURES = [name for name in data.OPERATIONS if name != "temporal_delete"]
MOVES = [name for name in PICTURES if name != "jitter"]


@pytest.mark.parametrize("name", data.OPERATIONS)
def test_every_operation_keeps_shape_dtype_and_input_and_obeys_its_generator_alone(name: str) -> None:
    images = pictures(16, 5, 32, 32) if name == "temporal_delete" else pictures(16, 3, 32, 32)
    before = images.clone()
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = augmented(name, images, 5)
    assert torch.equal(images, before)
    assert torch.equal(torch.get_rng_state(), state), "the global state was drawn from"
    assert (first.shape, first.dtype) == (images.shape, images.dtype)
    assert not torch.equal(first, images)
    assert torch.equal(first, augmented(name, images, 5))
    assert not torch.equal(first, augmented(name, images, 6))
    assert augmented(name, images.double(), 5).dtype == torch.float64


def test_crop_and_flip_in_a_list_are_the_bits_of_crop_flip() -> None:
    images = pictures(40, 3, 9, 7)
    assert torch.equal(augmented("crop+flip", images, 3), data.crop_flip(images, generator(3)))
    assert torch.equal(augmented("crop_flip", images, 3), data.crop_flip(images, generator(3)))
    assert torch.equal(augmented("flip", images, 3), data.flip(images, generator(3)))
    assert torch.equal(augmented("crop=2+flip", images, 3), data.crop_flip(images, generator(3), padding=2))
    assert data.Augmentation.read("none") is None


@pytest.mark.parametrize("name", MOVES)
def test_frames_of_a_sample_move_together(name: str) -> None:
    """The same picture at every step stays the same at every step, and samples still differ from one another."""
    picture = pictures(1, 1, 2, 20, 20).expand(12, 6, 2, 20, 20)
    out = augmented(name, picture)
    assert torch.equal(out, out[:, :1].expand_as(out))
    assert len({tuple(each.flatten().tolist()) for each in out}) > 1


@pytest.mark.parametrize("name", PICTURES)
def test_more_samples_draw_as_many_numbers_each(name: str) -> None:
    """What an operation takes from its stream depends on the number of samples, not on what they show."""
    ends = []
    for images in (torch.zeros(8, 3, 16, 16), pictures(8, 3, 16, 16)):
        stream = generator(1)
        found = data.Augmentation.read(name)
        assert found is not None
        found(images, stream)
        ends.append(stream.get_state())
    assert torch.equal(*ends)


def test_roll_keeps_every_pixel_and_reaches_every_shift() -> None:
    image = torch.arange(35.0).reshape(1, 1, 5, 7)
    out = warps.roll(image.expand(600, 1, 5, 7), generator(0), furthest=1)
    shifts = [image[0].roll((down, right), (1, 2)) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    counts = [int((out == each).flatten(1).all(1).sum()) for each in shifts]
    assert sum(counts) == 600
    assert min(counts) > 600 / 9 - 5 * math.sqrt(600 * 8 / 81)


def test_rotate_turns_a_picture_whatever_its_sides_by_at_most_its_degrees() -> None:
    """Of a bright spot off the middle: its distance stays, its angle changes within the range, both ways."""
    height, width = 41, 61
    image = torch.zeros(1, 1, height, width)
    image[..., 19:22, 44:47] = 1  # 15 to the right of the middle (20, 30)
    out = warps.rotate(image.expand(200, 1, height, width), generator(2), degrees=40)
    y, x = torch.meshgrid(torch.arange(height) - 20.0, torch.arange(width) - 30.0, indexing="ij")
    weight = out / out.sum((2, 3), keepdim=True)
    across, down = (weight * x).sum((1, 2, 3)), (weight * y).sum((1, 2, 3))
    assert torch.allclose(torch.hypot(across, down), torch.tensor(15.0), atol=0.1)
    angle = torch.rad2deg(torch.atan2(down, across))
    assert -40 <= float(angle.min()) < -30
    assert 30 < float(angle.max()) <= 40
    assert torch.allclose(warps.rotate(image, generator(2), degrees=0), image, atol=1e-4)


def test_resized_crop_shows_a_window_of_a_ramp() -> None:
    """On pictures that are their own coordinates a window is an affine map: its slope is the window's share of a side."""
    side = 48
    ramp = torch.arange(side) + 0.5
    image = torch.stack([ramp.expand(side, side), ramp[:, None].expand(side, side)])[None]
    out = warps.resized_crop(image.expand(300, 2, side, side), generator(1), smallest=0.25)
    width = (out[:, 0, 24, 28] - out[:, 0, 24, 20]) / 8
    height = (out[:, 1, 28, 24] - out[:, 1, 20, 24]) / 8
    whole = (width > 0.999) | (height > 0.999)
    area, aspect = (width * height)[~whole], (width / height)[~whole]
    assert 0.249 <= float(area.min()) < 0.3
    assert float(area.max()) > 0.75
    assert math.log(4 / 3) >= float(aspect.log().abs().max()) - 1e-4 > 0.2
    left = out[:, 0, 24, 24] - (width * 24.5)
    assert float(left.min()) > -0.02
    assert float((left + width * side).max()) < side + 0.02
    assert float(left[width < 0.7].max()) > 8, "windows at the left edge only"


def test_cutout_covers_a_box_in_grey_half_of_the_time() -> None:
    images = 2 + pictures(600, 3, 32, 32)
    out = warps.cutout(images, generator(4))
    changed = out != images
    assert torch.equal(changed, changed[:, :1].expand_as(changed))
    hit = changed.flatten(1).any(1)
    assert 240 < int(hit.sum()) < 360
    areas = changed[hit, 0].float().mean((1, 2))
    assert 0.01 < float(areas.min()) < 0.05
    assert 0.35 < float(areas.max()) < 0.43
    for image, where in zip(out[hit][:50], changed[hit][:50, 0], strict=True):
        rows, columns = where.any(1).nonzero(), where.any(0).nonzero()
        box = image[:, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert box.numel() == 3 * int(where.sum()), "not a box"
        assert float(box.min()) == float(box.max()), "not one grey"
        assert 0 <= float(box.max()) < 1
    assert len(out[changed].unique()) > 200, "one level for all"
    frames = pictures(50, 4, 2, 16, 16) + 1
    covered = warps.cutout(frames, generator(4))
    assert covered[covered < 1].unique().tolist() == [0.0]
    assert torch.equal(warps.cutout(images, generator(4), chance=0), images)


def test_a_hole_has_its_side_and_lies_inside() -> None:
    out = warps.hole(torch.ones(300, 2, 20, 24), generator(0), side=6)
    assert torch.equal((out == 0).sum((2, 3)), torch.full((300, 2), 36))
    corners = {tuple((each[0] == 0).nonzero()[0].tolist()) for each in out}
    assert {top for top, _ in corners} == set(range(15))
    assert {left for _, left in corners} == set(range(19))


def test_hue_turns_as_the_standard_library_does() -> None:
    colours, turns = pictures(60, 3, 1, 1), torch.rand(60, generator=generator(1)) - 0.5
    out = colour.hue(colours, turns).flatten(1)
    for one, turn, found in zip(colours.flatten(1).tolist(), turns.tolist(), out, strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*one)
        expected = colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value)
        assert torch.allclose(found, torch.tensor(expected), atol=1e-5)
    grey = torch.full((1, 3, 2, 2), 0.3)
    assert torch.equal(colour.hue(grey, torch.tensor([0.3])), grey)


def test_jitter_changes_each_picture_by_factors_of_its_own_within_its_strength() -> None:
    level = torch.full((400, 1, 4, 4), 0.5)
    out = colour.jitter(level, generator(0), strength=0.2)
    factors = out[:, 0, 0, 0] / 0.5  # a flat grey picture has its brightness changed alone
    assert torch.allclose(out, out[:, :1, :1, :1].expand_as(out), atol=1e-6)
    assert 0.8 <= float(factors.min()) < 0.82
    assert 1.18 < float(factors.max()) <= 1.2
    flat = pictures(30, 3, 4, 4)
    assert torch.allclose(colour.jitter(flat, generator(0), strength=0), flat, atol=1e-6)
    extreme = colour.jitter(flat, generator(1), strength=1)
    assert float(extreme.min()) >= 0
    assert float(extreme.max()) <= 1


@pytest.mark.parametrize(("steps", "share", "gone"), [(8, 0.25, 2), (5, 0.1, 1), (10, 0.5, 5)])
def test_temporal_delete_leaves_frames_out_and_keeps_the_order(steps: int, share: float, gone: int) -> None:
    frames = torch.arange(steps).float()[None, :, None, None, None].expand(200, steps, 2, 3, 3)
    out = warps.temporal_delete(frames, generator(0), share=share)[:, :, 0, 0, 0]
    kept = [sorted(set(row)) for row in out.tolist()]
    assert {len(row) for row in kept} == {steps - gone}
    assert bool((out.diff(dim=1) >= 0).all())
    assert set().union(*kept) == set(map(float, range(steps)))
    for row, numbers in zip(out.tolist(), kept, strict=True):
        assert row == [numbers[step * len(numbers) // steps] for step in range(steps)]


def test_of_several_operations_each_sample_gets_one() -> None:
    images = torch.ones(300, 1, 20, 20)
    out = augmented("hole=4/hole=10", images)
    areas = (out == 0).sum((1, 2, 3))
    assert set(areas.tolist()) == {16, 100}
    assert 100 < int((areas == 16).sum()) < 200


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("crop+fliip", "unknown operation of 'augment', 'fliip'; did you mean 'flip'"),
        ("crop+", "unknown operation of 'augment', ''"),
        ("none+flip", "'none' stands alone"),
        ("flip=0.5", "'flip' takes no number"),
        ("cutout=much", "'much' is no number"),
        ("cutout=1.5", "chance is a number from 0 to 1"),
        ("crop=1.5", "padding is a whole number from 0 up"),
        ("rotate=nan", "degrees is a number from 0 to 180"),
        ("resized_crop=0", "smallest is a number from 0.001 to 1"),
    ],
)
def test_a_text_that_means_nothing_is_one_line(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        data.Augmentation.read(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "shape", "flags", "message"),
    [
        ("crop+flip", (16, 2, 48, 48), {"handed": True}, "'flip' mirrors samples"),
        ("crop_flip", (3, 32, 32), {"handed": True}, "'crop_flip' mirrors samples"),
        ("roll/rotate", (10, 2, 34, 34), {"upright": True}, "'rotate' turns samples"),
        ("jitter", (10, 3, 34, 34), {}, r"'jitter' needs samples \(1 or 3, H, W\)"),
        ("jitter", (2, 34, 34), {}, r"'jitter' needs samples"),
        ("crop", (64,), {}, r"'crop' needs samples \(C, H, W\)"),
        ("crop", (28, 28), {}, r"'crop' needs samples"),
        ("temporal_delete", (3, 32, 32), {}, r"'temporal_delete' needs samples \(T, C, H, W\)"),
        ("temporal_delete=0.9", (2, 2, 8, 8), {}, "leaves none of 2 frames"),
        ("hole=20", (3, 16, 32), {}, "larger than the pictures, 16 x 32"),
    ],
)
def test_what_does_not_fit_the_data_is_refused_by_name(text: str, shape, flags, message: str) -> None:
    found = data.Augmentation.read(text)
    assert found is not None
    with pytest.raises(InputError, match=message):
        found.check(shape, **flags)


def test_what_fits_is_let_through() -> None:
    for text, shape, flags in (
        ("resized_crop=0.7+roll=5/rotate=30/hole=16", (10, 2, 48, 48), {"handed": True}),
        ("resized_crop=0.5+temporal_delete", (16, 2, 48, 48), {"handed": True, "upright": True}),
        ("temporal_delete", (28, 28), {}),
        ("resized_crop+flip+jitter+cutout", (3, 32, 32), {}),
    ):
        found = data.Augmentation.read(text)
        assert found is not None
        found.check(shape, **flags)
        assert found(pictures(2, *shape), generator(0)).shape == (2, *shape)


@pytest.mark.parametrize("operation", [warps.roll, warps.rotate, warps.resized_crop, warps.cutout, warps.hole])
def test_other_shapes_are_refused_by_the_functions_too(operation) -> None:
    with pytest.raises(InputError, match=r"need \(B, C, H, W\), or \(B, T, C, H, W\)"):
        operation(torch.zeros(4, 28, 28), generator(0))
    with pytest.raises(InputError, match="need floating point"):
        colour.jitter(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), generator(0))
    with pytest.raises(InputError, match=r"need \(B, T, ...\)"):
        warps.temporal_delete(torch.zeros(4, 5), generator(0))
