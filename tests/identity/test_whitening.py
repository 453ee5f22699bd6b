"""ZCA whitening: a failure here hides images that are not white, or statistics that leaked out of the test set.

The expectation comes from numpy's own covariance of the images, not from the code under test.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from equipoise import data, models
from equipoise.data import Split
from equipoise.errors import InputError
from equipoise.randomness import derive
from equipoise.train import Machine, Run, read_weights, train
from equipoise.train.parts import build


def correlated(n: int = 5000, d: int = 12, seed: int = 0) -> Split:
    """Features with variances from 1e-6 to 10, mixed, off centre, and one that never changes."""
    draws = np.random.default_rng(seed)
    mixed = draws.normal(size=(n, d)) * np.geomspace(1e-3, 3, d) @ np.linalg.qr(draws.normal(size=(d, d)))[0]
    values = np.concatenate([mixed + draws.normal(size=d), np.full((n, 1), 0.7)], 1)
    return Split(torch.tensor(values, dtype=torch.float32), torch.arange(n) % 3)


def moments(images: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    flat = images.flatten(1).double().numpy()
    return flat.mean(0), np.cov(flat.T, bias=True)


@pytest.mark.parametrize("eps", [1e-3, 0.1, 10.0])
def test_the_covariance_is_s_over_s_plus_eps_in_its_eigenbasis(eps: float) -> None:
    split = correlated()
    _, before = moments(split.images)
    s, u = np.linalg.eigh(before)
    centre, after = moments(data.whitening(split, eps).split(split).images)
    assert np.abs(centre).max() < 1e-3
    assert np.allclose(u.T @ after @ u, np.diag(s / (s + eps)), atol=1e-3)


def test_the_map_keeps_images_like_themselves() -> None:
    """Of all maps that whiten, ZCA's is the symmetric one with positive eigenvalues; a rotation would not be."""
    matrix = data.whitening(correlated(), 1e-2).matrix.double()
    assert torch.equal(matrix, matrix.T)
    assert bool((torch.linalg.eigvalsh(matrix) > 0).all())


def test_pixels_are_whitened_as_the_model_would_see_them() -> None:
    """uint8 images are divided by 255 first; shapes and labels stay."""
    digits = data.load("digits").train
    white = data.whitening(digits, 0.1).split(digits)
    assert white.images.dtype == torch.float32
    assert white.images.shape == digits.images.shape
    assert torch.equal(white.labels, digits.labels)
    s, u = np.linalg.eigh(moments(digits.images.float() / 255)[1])
    assert np.allclose(u.T @ moments(white.images)[1] @ u, np.diag(s / (s + 0.1)), atol=1e-4)
    assert torch.allclose(white.batch(torch.arange(3))[0], white.images[:3])


def test_more_images_than_one_chunk_give_the_same_map() -> None:
    split = correlated(n=9000)
    part = data.whitening(split, 0.1).images(split.images[4000:5000])
    assert torch.allclose(part, data.whitening(split, 0.1).split(split).images[4000:5000], atol=1e-6)
    mean, covariance = moments(split.images)
    s, u = np.linalg.eigh(covariance)
    expected = (split.images[:9].double().numpy() - mean) @ (u * (s + 0.1) ** -0.5) @ u.T
    assert np.allclose(data.whitening(split, 0.1).images(split.images[:9]).numpy(), expected, atol=1e-4)


RUN = Run(model="mlp:64-20-10", whiten=0.05, validation=0.2, train_limit=400, test_limit=100, epochs=2, lr=0.05)


def test_the_training_samples_alone_decide_the_map() -> None:
    parts, raw = build(RUN, Machine()), build(Run.from_json(RUN.to_dict() | {"whiten": None}), Machine())
    assert len(parts.train) == 320
    fitted = data.whitening(raw.train, 0.05)
    assert raw.validation is not None
    for white, plain in ((parts.train, raw.train), (parts.validation, raw.validation), (parts.test, raw.test)):
        assert white is not None
        assert torch.equal(white.images, fitted.images(plain.batch(torch.arange(len(plain)))[0]))
    centre, _ = moments(parts.test.images)
    assert np.abs(centre).max() > 0.01, "the test set is centred by its own mean"


def test_a_run_trains_on_what_whitening_gives(tmp_path: Path) -> None:
    """The same training by hand, in plain torch, gives the same bits."""
    train(RUN, Machine(runs=tmp_path))
    split = build(RUN, Machine()).train
    model = models.make(RUN.model, seed=0)
    steps = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    done = 0
    for epoch in range(2):
        for index in data.order(len(split), seed=0, epoch=epoch).split(64):
            torch.default_generator.manual_seed(derive(0, "global", done))
            steps.zero_grad()
            torch.nn.functional.cross_entropy(model(split.images[index]), split.labels[index]).backward()
            steps.step()
            done += 1
    weights = read_weights(RUN.folder(tmp_path) / "weights.safetensors")
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_what_cannot_be_whitened_is_refused() -> None:
    with pytest.raises(InputError, match="eps above 0, not 0"):
        data.whitening(correlated(20), 0)
    wide = Split(torch.zeros(2, 3, 64, 64, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(InputError, match="12288 values are too large to whiten; at most 8192"):
        data.whitening(wide, 0.1)
