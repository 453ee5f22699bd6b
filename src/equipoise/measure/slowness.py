"""How slowly a learning curve rises to its plateau: one number, by least squares.

The plateau equation (DellaFerrera et al. 2022, equations 7 and 8 of the PEPITA paper) for the epochs x = 0, 1, 2, ...:

    accuracy(x) = A x / (s + x),    s the slowness: the number of epochs to half of the maximum A.

The paper fits the test curve of its first 59 epochs, up to the decay of the learning rate, with chance level as the
point at x = 0, and A fixed at the largest of these accuracies. A curve that still rises has no such plateau: its s
then comes out too small, because the largest value seen is below the true A; ``free_maximum`` fits A as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from equipoise.errors import InputError

__all__ = ["Slowness", "slowness"]

EPOCHS = 59
FEWEST = 3
# Where s is looked for, in epochs; between two neighbours the slope has one root.
GRID = np.logspace(-6, 6, 601)


@dataclass(frozen=True)
class Slowness:
    """A fitted plateau curve. data: the accuracies fitted, chance first, at x = 0, 1, ...; in their unit."""

    slowness: float
    maximum: float
    data: tuple[float, ...]

    def curve(self, epochs: Sequence[float]) -> list[float]:
        """A x / (s + x) at each x >= 0 of ``epochs``; 0 at x = 0."""
        return [self.maximum * x / (self.slowness + x) if x > 0 else 0.0 for x in epochs]

    @property
    def fitted(self) -> tuple[float, ...]:
        """The curve at the epochs of ``data``."""
        return tuple(self.curve(range(len(self.data))))

    @property
    def error(self) -> float:
        """The root of the mean squared distance between curve and data, chance at x = 0 included."""
        gaps = [(f - d) ** 2 for f, d in zip(self.fitted, self.data, strict=True)]
        return math.sqrt(math.fsum(gaps) / len(gaps))


def slowness(
    accuracy: Sequence[float], chance: float, *, epochs: int | None = EPOCHS, free_maximum: bool = False
) -> Slowness:
    """Fit the plateau curve to ``accuracy`` after epoch 1, 2, ... (mean over runs), with ``chance`` before the first.

    s = argmin over s >= 0 of sum_x (y_x - A x / (s + x))^2, with A = max y, or the best A for each s where
    ``free_maximum``. Only the first ``epochs`` epochs count (all for None). Accuracy and chance are in one unit, any.

    The curve is 0 at x = 0 for every s and A, so chance there shifts neither; it stays among the data, as in the
    paper, and counts in ``error``.

    Raises ``InputError`` for fewer than 3 epochs, values that are negative or not finite, a curve that never rises
    above chance, and with ``free_maximum`` for one that has not begun to flatten.
    """
    y = _curve(accuracy, epochs)
    if not (math.isfinite(chance) and chance >= 0):
        raise InputError(f"chance is {chance}; give the accuracy of guessing, in the unit of the curve")
    highest = float(y.max())
    if highest <= chance:
        raise InputError(f"the curve reaches {highest:g} and chance is {chance:g}: nothing was learned (or two units?)")
    x = np.arange(1.0, len(y) + 1)

    def best_maximum(s: float) -> float:
        if not free_maximum:
            return highest
        rise = x / (s + x)
        return float((y * rise).sum() / (rise * rise).sum())

    def cost(s: float) -> float:
        return float(((y - best_maximum(s) * x / (s + x)) ** 2).sum())

    def slope(s: float) -> float:
        """Half the derivative of the cost, over A; it holds for a free A too, whose own derivative is 0 at its best."""
        return float(((y - best_maximum(s) * x / (s + x)) * x / (s + x) ** 2).sum())

    k = int(np.argmin([cost(s) for s in GRID]))
    if k == len(GRID) - 1:
        raise InputError("the curve has not begun to flatten, so its maximum is not known; train for more epochs")
    s = _root(slope, float(GRID[k - 1]) if k else 0.0, float(GRID[k + 1]))
    return Slowness(s, best_maximum(s), (float(chance), *y.tolist()))


def _root(slope: Callable[[float], float], low: float, high: float) -> float:
    from scipy.optimize import brentq

    return low if slope(low) >= 0 else cast(float, brentq(slope, low, high, xtol=1e-15))


def _curve(accuracy: Sequence[float], epochs: int | None) -> np.ndarray:
    y = np.asarray(accuracy, dtype=np.float64)
    if y.ndim != 1:
        raise InputError(f"one learning curve is a list of accuracies, here of shape {y.shape}; average the runs first")
    if epochs is not None and epochs < FEWEST:
        raise InputError(f"epochs is {epochs}; a curve needs {FEWEST} or more")
    y = y[:epochs]
    if len(y) < FEWEST:
        raise InputError(f"a curve of {len(y)} epochs is too short to fit; give {FEWEST} or more")
    if not np.isfinite(y).all() or (y < 0).any():
        raise InputError(f"accuracies are finite and not negative; seen {y.min():g} to {y.max():g}")
    return y
