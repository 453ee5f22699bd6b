"""Optuna's proposals (the extra ``search``): the next setting to try, from how the last ones did."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from equipoise.errors import InputError
from equipoise.sweep.sampling import Choice, Integers, Law, LogUniform, Uniform

__all__ = ["Proposals"]


class Proposals:
    """Settings from ``space``, one at a time, by Optuna's tree-structured Parzen estimator.

    A function of the seed and of what was told, so a search that is asked again goes the same way. Raises
    ``InputError`` where Optuna is not installed, and for a law that it has no counterpart of.
    """

    def __init__(self, space: Mapping[str, Law], *, seed: int) -> None:
        try:
            import optuna
        except ImportError:
            raise InputError(
                "the sampler 'optuna' needs Optuna: pip install 'equipoise[search]', or use --sampler random"
            ) from None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space = dict(space)
        self._kinds = {name: _distribution(optuna.distributions, name, law) for name, law in space.items()}
        sampler = optuna.samplers.TPESampler(seed=seed % 2**32)
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        self._trial: Any = None

    def ask(self) -> dict[str, Any]:
        """The next setting; numbers are rounded as their law has it."""
        self._trial = self._study.ask(self._kinds)
        return {name: _rounded(law, self._trial.params[name]) for name, law in self._space.items()}

    def tell(self, value: float) -> None:
        """How the setting that was asked for last did; larger is better."""
        self._study.tell(self._trial, value)


def _distribution(kinds: Any, name: str, law: Law) -> Any:
    if isinstance(law, LogUniform):
        return kinds.FloatDistribution(law.low, law.high, log=True)
    if isinstance(law, Uniform):
        return kinds.FloatDistribution(law.low, law.high)
    if isinstance(law, Integers):
        return kinds.IntDistribution(law.low, law.high)
    if isinstance(law, Choice):
        return kinds.CategoricalDistribution(law.values)
    raise InputError(f"Optuna has no counterpart of the law of '{name}'; use --sampler random")


def _rounded(law: Law, value: Any) -> Any:
    return float(f"{value:.{law.digits}g}") if isinstance(law, (LogUniform, Uniform)) else value
