"""The moments that E-I Init goes by, summed batch by batch, and what it cannot start from."""

from __future__ import annotations

from torch import Tensor

from equipoise.errors import InputError

__all__ = ["Sums"]


class Sums:
    """Running sums of a layer's input over its first axis (samples and time), in float64."""

    def __init__(self) -> None:
        self.rows = 0
        self.sum: Tensor | float = 0.0
        self.square: Tensor | float = 0.0
        self.centre: Tensor | None = None

    def add(self, name: str, x: Tensor) -> None:
        """Count the rows of ``x``; ``InputError`` if they are no rates."""
        rows = x.detach().double()
        if not bool(rows.isfinite().all()):
            raise InputError(f"'{name}': its input holds values that are not finite")
        if bool((rows < 0).any()):
            raise InputError(
                f"'{name}': inputs of an E-I layer are rates, and the least of this batch is {float(rows.min()):.3g}; "
                "keep pixels in [0, 1], or put nn.OnOff() first"
            )
        if self.centre is None:
            self.centre = rows.mean(0)
        elif self.centre.shape != rows.shape[1:]:
            raise InputError(
                f"'{name}': the batches differ in shape behind the first axis, {tuple(self.centre.shape)} and "
                f"{tuple(rows.shape[1:])}"
            )
        away = rows - self.centre
        self.sum, self.square = self.sum + away.sum(0), self.square + away.square().sum(0)
        self.rows += rows.shape[0]

    def moments(self, name: str) -> tuple[float, float, float]:
        """m1, m2, V; ``InputError`` for an input that is silent, constant or too short to tell."""
        if self.centre is None or self.rows < 2:
            raise InputError(
                f"'{name}': {self.rows} rows are too few to tell its input's variance; pass a larger batch"
            )
        assert isinstance(self.sum, Tensor)
        assert isinstance(self.square, Tensor)
        shift = self.sum / self.rows
        spread = self.square - self.rows * shift.square()
        first = float((self.centre + shift).mean())
        second = float(((self.centre + shift).square() + spread / self.rows).mean())
        within = float((spread / (self.rows - 1)).mean())
        if not first > 0:
            raise InputError(
                f"'{name}' gets no input at all in this batch: the cells below are silent. Pass another batch, or "
                "lower their threshold"
            )
        if not within > 1e-12 * second:
            raise InputError(
                f"'{name}' gets the same input ({first:.3g} on average) in every sample and time step, so there is no "
                "variance to keep; pass a batch of different samples"
            )
        return first, second, within
