"""Spiking cells as a module, and time folded into the rows of a batch."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from equipoise.contracts import Constraint
from equipoise.errors import InputError, unknown_name
from equipoise.functional.constraints import Interval
from equipoise.functional.spiking import check_constants, lif, lif_step
from equipoise.functional.surrogates import sharpness_of

__all__ = ["LIF", "folded", "unfolded"]


def unfolded(x: Tensor, steps: int, who: str) -> Tensor:
    """Rows (T B, ...), time-major, as (T, B, ...); ``InputError`` where they are no multiple of ``steps``."""
    if x.ndim < 1 or x.shape[0] % steps:
        raise InputError(
            f"{who}: {tuple(x.shape)} has no {steps} time steps in its first axis (time-major, T times the batch); the "
            "number of steps is set by OverTime(model, steps), or later by its .steps"
        )
    return x.reshape(steps, x.shape[0] // steps, *x.shape[1:])


def folded(x: Tensor) -> Tensor:
    """(T, B, ...) as rows (T B, ...)."""
    return x.reshape(x.shape[0] * x.shape[1], *x.shape[2:])


class LIF(nn.Module):
    """Leaky integrate-and-fire cells (``functional.lif``): currents in, spikes out, every sequence from rest.

        h[t] = (1 - 1/tau) v[t-1] + x[t],    s[t] = 1 if h[t] >= threshold,    v[t] = h[t] - threshold s[t]

    steps: T where time is folded into the rows, (T B, ...) time-major, as ``OverTime`` has it; None: axis 0 is time,
    (T, B, ...). tau >= 1 in steps and threshold > 0 are numbers, or tensors that broadcast with one sample (one for
    each cell). learn: "tau", "threshold" or both; then 1/tau = sigmoid(``rate``), so tau stays above 1, and the
    threshold is held above 0 by ``nn.enforce``. ``sequence`` and ``step`` have the state in and out.
    Defaults are the E-I spiking paper's: tau = 2, threshold 1, soft reset, sigmoid of sharpness 4, no error through the
    reset. Raises ``InputError`` for constants that no cell can have.
    """

    projections: tuple[str, ...] = ()

    def __init__(
        self,
        tau: float | Tensor = 2.0,
        *,
        threshold: float | Tensor = 1.0,
        reset: Literal["soft", "hard"] = "soft",
        surrogate: str = "sigmoid",
        sharpness: float | None = None,
        through_reset: bool = False,
        learn: str | Iterable[str] = (),
        steps: int | None = None,
    ) -> None:
        super().__init__()
        learned = frozenset([learn] if isinstance(learn, str) else learn)
        for name in learned - {"tau", "threshold"}:
            raise unknown_name("constant of a spiking cell", name, ("tau", "threshold"))
        slowest, fastest = torch.as_tensor(tau, dtype=torch.float64), torch.as_tensor(threshold, dtype=torch.float64)
        lowest = 1 + 1e-6 if "tau" in learned else 1
        if not bool((slowest >= lowest).all() & (slowest.isfinite() | (lowest == 1)).all()):
            raise InputError(
                f"tau is a time constant in steps, at least 1 (above 1 and finite to be learned), not {tau}"
            )
        if not bool((fastest > 0).all()):
            raise InputError(f"a threshold must be above 0, not {threshold}; at 0 silent cells would spike")
        check_constants(0.5, 1.0, reset)
        if steps is not None and not (isinstance(steps, int) and steps >= 1):
            raise InputError(f"a sequence has at least one time step, not steps={steps}; None: axis 0 is time")
        sharpness_of(surrogate, sharpness)
        self.reset: Literal["soft", "hard"] = reset
        self.surrogate, self.sharpness, self.through_reset, self.steps = surrogate, sharpness, through_reset, steps
        self.constraints: dict[str, Constraint] = {}
        if "tau" in learned:
            self.rate = nn.Parameter(-torch.log(slowest - 1).to(torch.get_default_dtype()))
        else:
            self._keep("leak", 1 - 1 / slowest, isinstance(tau, Tensor))
        if "threshold" in learned:
            self.threshold = nn.Parameter(fastest.to(torch.get_default_dtype()))
            self.constraints["threshold"] = Interval(1e-3, math.inf)
        else:
            self._keep("threshold", fastest, isinstance(threshold, Tensor))
        self.learned = learned

    def _keep(self, name: str, value: Tensor, tensor: bool) -> None:
        if tensor:
            self.register_buffer(name, value.to(torch.get_default_dtype()))
        else:
            setattr(self, name, float(value))

    def _constants(self) -> dict[str, Any]:
        leak = torch.sigmoid(-self.rate) if "tau" in self.learned else self.leak
        return {
            "leak": leak,
            "threshold": self.threshold,
            "reset": self.reset,
            "surrogate": self.surrogate,
            "sharpness": self.sharpness,
            "through_reset": self.through_reset,
        }

    def numbers(self) -> dict[str, Any] | None:
        """The constants where they are numbers and no error passes the reset: leak, threshold, reset, surrogate."""
        constants = self._constants()
        plain = not (constants.pop("through_reset") or any(isinstance(c, Tensor) for c in constants.values()))
        return constants if plain else None

    def sequence(self, x: Tensor, v: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(spikes (T, B, ...), last potential (B, ...)) of currents (T, B, ...) from the potential ``v``, or rest."""
        return lif(x, v, **self._constants())

    def step(self, x: Tensor, v: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(spikes, potential) of one step: ``x`` and both (B, ...)."""
        return lif_step(x, torch.zeros_like(x) if v is None else v, **self._constants())

    def forward(self, x: Tensor) -> Tensor:
        """Spikes, the shape of ``x``."""
        if self.steps is None:
            return self.sequence(x)[0]
        return folded(self.sequence(unfolded(x, self.steps, "LIF"))[0])

    def extra_repr(self) -> str:
        learned = f", learns {'+'.join(sorted(self.learned))}" if self.learned else ""
        return f"{self.reset} reset, surrogate={self.surrogate}, steps={self.steps}{learned}"
