"""Convolutions run backwards patch by patch: a failure here hides images that come back shifted, scaled by the number
of patches over a pixel, or wrong at an edge, and errors that differ from those of backpropagation.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from equipoise.functional import patches
from equipoise.functional.inverse import invert
from equipoise.nn import InvertibleConv2d
from equipoise.randomness import generator

EXACT = {"rtol": 0, "atol": 1e-10}
PADDINGS = (0, 1, 2, "same", "valid")
Case = tuple[tuple[int, int], tuple[int, int], object, tuple[int, int]]


def cases() -> Iterator[Case]:
    """Every kernel, stride, padding and image, and some that are not square."""
    for k, s, padding in itertools.product((1, 2, 3, 5), (1, 2, 3), PADDINGS):
        yield (k, k), (s, s), padding, (7, 8)
    for k, s, padding in itertools.product((3, 5), (2, 3), (1, "same")):
        yield (k, k), (s, s), padding, (9, 6)
    yield (2, 3), (1, 2), "same", (7, 8)
    yield (3, 1), (2, 3), (1, 0), (9, 7)
    yield (1, 4), (3, 1), (2, 1), (6, 7)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed, "patches"), dtype=torch.float64)


def layer(case: Case, overlap: str = "subtract", shake: float = 0.1, used: int | None = None) -> InvertibleConv2d:
    kernel, stride, padding, _ = case
    units = 2 * kernel[0] * kernel[1]
    made = InvertibleConv2d(2, used or units, kernel, stride, padding, overlap=overlap, generator=generator(0)).double()  # type: ignore[arg-type]
    with torch.no_grad():
        made.weight.copy_(torch.linalg.qr(made.matrix())[0].reshape(made.weight.shape))
        made.weight.add_(shake * randn(*made.weight.shape) / units**0.5)
        made.bias.copy_(randn(units, seed=2))  # type: ignore[union-attr]
    return made


def by_hand(case: Case) -> tuple[tuple[int, int], Tensor, list[list[tuple[int, int] | None]]]:
    """Positions (h, w), how many cover each pixel, and the pixels (or None, padding) of each patch, by counting."""
    (kh, kw), (sh, sw), padding, (height, width) = case
    before, count = [], []
    for k, s, n, axis in ((kh, sh, height, 0), (kw, sw, width, 1)):
        if padding == "same":
            out = -(-n // s)
            total = max((out - 1) * s + k - n, 0)
            before.append(total // 2)
        else:
            pad = 0 if padding == "valid" else padding if isinstance(padding, int) else padding[axis]  # type: ignore[index]
            before.append(pad)
            out = (n + 2 * pad - k) // s + 1
        count.append(out)
    cover, members = torch.zeros(height, width, dtype=torch.int64), []
    for i, j in itertools.product(range(count[0]), range(count[1])):
        patch: list[tuple[int, int] | None] = []
        for di, dj in itertools.product(range(kh), range(kw)):
            y, x = i * sh + di - before[0], j * sw + dj - before[1]
            inside = 0 <= y < height and 0 <= x < width
            patch.append((y, x) if inside else None)
            if inside:
                cover[y, x] += 1
        members.append(patch)
    return (count[0], count[1]), cover, members


def test_coverage_is_the_count_of_patches_over_each_pixel() -> None:
    for case in cases():
        kernel, stride, padding, size = case
        places, cover, _ = by_hand(case)
        assert torch.equal(patches.coverage(size, kernel, stride, padding), cover), case
        x = randn(1, 2, *size)
        assert layer(case).units(x).shape[2:] == places, case


@pytest.mark.parametrize(
    ("kernel", "stride", "size", "values"),
    [
        (3, 2, 56, {1, 2, 4}),
        (5, 2, 28, {1, 2, 3, 4, 6, 9}),
        (3, 1, 7, {4, 6, 9}),
        (3, 1, 4, {4, 6, 9}),
    ],
)
def test_coverage_takes_the_values_of_the_original_networks(
    kernel: int, stride: int, size: int, values: set[int]
) -> None:
    assert set(patches.coverage((size, size), kernel, stride, "same").flatten().tolist()) == values


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_same_is_torchs_own_where_torch_has_it_and_asymmetric_elsewhere() -> None:
    for k in (1, 2, 3, 4, 5):
        x, kernels = randn(2, 3, 6, 7), randn(4, 3, k, k)
        assert torch.allclose(patches.convolve(x, kernels, None, 1, "same"), F.conv2d(x, kernels, padding="same"))
    assert patches.pads((4, 5), 3, 2, "same") == (1, 1, 0, 1)  # left and right of 5: 2 zeros; of 4: 1, at the bottom
    x, kernels = randn(1, 1, 4, 4), torch.zeros(1, 1, 3, 3, dtype=torch.float64)
    kernels[0, 0, 0, 0] = 1  # the first pixel of each patch: nothing is padded before it
    assert torch.equal(patches.convolve(x, kernels, None, 2, "same"), x[..., ::2, ::2])


def test_the_inverse_of_the_forward_pass_is_the_identity() -> None:
    """Each patch comes back exactly, A^-1 (A x_p + b - b); a pixel n_x times; padding is cut off."""
    for case, overlap in itertools.product(cases(), patches.OVERLAPS):
        x = randn(2, 2, *case[3], seed=1)
        made = layer(case, overlap)
        assert torch.allclose(made.inverse(made(x), x), x, **EXACT), (case, overlap)
        if min(case[0]) > 1:
            narrow = layer(case, overlap, used=3)
            assert torch.allclose(narrow.inverse(narrow(x), x), x, **EXACT), (case, overlap)


def test_of_another_image_divide_gives_that_image_and_subtract_its_change_times_the_patches() -> None:
    """s = A x'_p + b sums to n_x x', so that division gives x' and subtraction x + n_x (x' - x); x where n_x = 0."""
    for case in cases():
        x, other = randn(2, 2, *case[3], seed=1), randn(2, 2, *case[3], seed=3)
        n = by_hand(case)[1]
        divide, subtract = layer(case, "divide"), layer(case, "subtract")
        assert torch.allclose(divide.inverse(divide(other), x), torch.where(n > 0, other, x), **EXACT), case
        assert torch.allclose(subtract.inverse(subtract(other), x), x + n * (other - x), **EXACT), case


def input_gradient(made: InvertibleConv2d, x: Tensor, d: Tensor, kernels: Tensor) -> Tensor:
    leaf = x.clone().requires_grad_()
    out = patches.convolve(leaf, kernels, None, made.stride, made.padding)
    return torch.autograd.grad(out, leaf, d)[0]


def test_errors_of_an_orthogonal_convolution_are_backpropagations_by_subtraction_and_its_mean_by_division() -> None:
    for case in cases():
        x = randn(2, 2, *case[3], seed=1)
        made = layer(case, shake=0.0)
        d = randn(*made.units(x).shape, seed=4)
        backwards = input_gradient(made, x, d, made.weight)
        n = by_hand(case)[1]
        assert torch.allclose(made.inverse_difference(d, x), backwards, **EXACT), case
        made.overlap = "divide"
        assert torch.allclose(made.inverse_difference(d, x), backwards / n.clamp(min=1), **EXACT), case


def test_errors_pass_through_the_inverse_where_backpropagation_has_the_transpose() -> None:
    """Backpropagation through kernels that hold A^-T: their transpose is A^-1."""
    for case in cases():
        x = randn(2, 2, *case[3], seed=1)
        made = layer(case, shake=0.5)
        d = randn(*made.units(x).shape, seed=4)
        kernels = invert(made.matrix()).T.reshape(made.weight.shape)
        assert torch.allclose(made.inverse_difference(d, x), input_gradient(made, x, d, kernels), **EXACT), case


@pytest.mark.parametrize("overlap", patches.OVERLAPS)
def test_the_difference_is_that_of_two_inverses(overlap: str) -> None:
    case: Case = ((3, 3), (2, 2), "same", (8, 6))
    made, x = layer(case, overlap, used=5), randn(2, 2, 8, 6, seed=1)
    d = randn(*made(x).shape, seed=4)
    change = made.inverse(made(x) + d, x) - made.inverse(made(x), x)
    assert torch.allclose(made.inverse_difference(d, x), change, **EXACT)
    whole = torch.cat([d, d.new_zeros(2, 13, *d.shape[2:])], 1)
    assert torch.allclose(made.inverse_difference(whole, x), change, **EXACT)


def test_division_is_the_pseudo_inverse_of_an_orthogonal_convolution() -> None:
    """With C the whole convolution as a matrix, C^T C = diag(n_x): the mean is the least-squares image of any s."""
    case: Case = ((3, 3), (2, 2), 1, (5, 5))
    made = layer(case, "divide", shake=0.0)
    unit_images = torch.eye(50, dtype=torch.float64).reshape(50, 2, 5, 5)
    zero = torch.zeros(1, 2, 5, 5, dtype=torch.float64)
    matrix = (made(unit_images) - made(zero)).flatten(1).T
    n = by_hand(case)[1].flatten().repeat(2).double()
    assert torch.allclose(matrix.T @ matrix, n.diag(), **EXACT)
    d = randn(3, *made(zero).shape[1:], seed=4)
    wanted = (d.flatten(1) @ torch.linalg.pinv(matrix).T).reshape(3, 2, 5, 5)
    assert torch.allclose(made.inverse_difference(d, zero.expand(3, -1, -1, -1)), wanted, **EXACT)


def test_pixels_that_no_patch_covers_keep_their_value_and_have_no_error() -> None:
    """A stride beyond the kernel, and a rest at the edge: kernel 2, stride 3, image 6 x 7."""
    case: Case = ((2, 2), (3, 3), 0, (6, 7))
    x, other = randn(2, 2, 6, 7, seed=1), randn(2, 2, 6, 7, seed=3)
    bare = by_hand(case)[1] == 0
    assert int(bare.sum()) == 42 - 16
    for overlap in patches.OVERLAPS:
        made = layer(case, overlap)
        assert torch.equal(made.inverse(made(other), x)[..., bare], x[..., bare])
        assert torch.equal(
            made.inverse(made(other), x)[..., ~bare].round(decimals=9), other[..., ~bare].round(decimals=9)
        )
        assert not bool(made.inverse_difference(made(other), x)[..., bare].any())
