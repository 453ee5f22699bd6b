"""The laws of feedback: a failure here hides matrices of another size than the docstring (and the paper) says.

The oracle is the law's own definition: bounds, variances with their standard errors, orthonormal rows.
"""

from __future__ import annotations

import math

import pytest
import torch

from equipoise.errors import InputError
from equipoise.functional.draws import draw, laws

SHAPE, FAN_IN = (400, 250), 50
COUNT = 400 * 250


def values(law: str, *, shape: tuple[int, ...] = SHAPE, fan_in: int = FAN_IN, seed: int = 0) -> torch.Tensor:
    return draw(shape, law=law, fan_in=fan_in, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("law", "bound"), [("kaiming_uniform", math.sqrt(6 / 50)), ("torch_default", 1 / math.sqrt(50))]
)
def test_a_uniform_law_fills_its_bounds_evenly(law: str, bound: float) -> None:
    drawn = values(law)
    assert drawn.abs().max() <= bound
    assert drawn.max() > 0.999 * bound
    assert drawn.min() < -0.999 * bound
    assert abs(float(drawn.mean())) < 5 * bound / math.sqrt(3 * COUNT)
    assert float(drawn.var()) == pytest.approx(bound**2 / 3, rel=5 * math.sqrt(0.8 / COUNT))


def test_the_normal_law_has_its_variance_and_tails() -> None:
    drawn = values("kaiming_normal") / math.sqrt(2 / FAN_IN)
    assert abs(float(drawn.mean())) < 5 / math.sqrt(COUNT)
    assert float(drawn.var()) == pytest.approx(1, rel=5 * math.sqrt(2 / COUNT))
    assert float((drawn**4).mean()) == pytest.approx(3, rel=5 * math.sqrt(96 / COUNT) / 3)


@pytest.mark.parametrize("shape", [(8, 20), (20, 8), (6, 2, 3, 3), (12, 12)])
def test_the_orthogonal_law_has_orthonormal_rows_or_columns(shape: tuple[int, ...]) -> None:
    folded = values("orthogonal", shape=shape).flatten(1)
    small = folded if folded.shape[0] <= folded.shape[1] else folded.T
    torch.testing.assert_close(small @ small.T, torch.eye(len(small), dtype=torch.float64), rtol=0, atol=1e-12)


def test_the_orthogonal_law_prefers_no_direction() -> None:
    """Without the signs of R the first column's entries lean to one side; the mean of each entry is 0."""
    many = torch.stack([values("orthogonal", shape=(3, 3), seed=seed) for seed in range(2000)])
    assert float(many.mean(0).abs().max()) < 5 / math.sqrt(3 * 2000)


@pytest.mark.parametrize("law", laws)
def test_a_draw_is_the_generators_and_in_float64(law: str) -> None:
    torch.testing.assert_close(values(law, seed=3), values(law, seed=3), rtol=0, atol=0)
    assert not torch.equal(values(law, seed=3), values(law, seed=4))
    assert values(law).dtype == torch.float64
    assert values(law).shape == SHAPE


def test_an_unknown_law_is_refused() -> None:
    with pytest.raises(InputError, match="did you mean 'kaiming_normal'"):
        values("kaiming_norml")
