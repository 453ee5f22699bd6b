"""The solvers by name: each takes a problem, a start and options, and returns where it stopped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

from equipoise.balance.newton import Progress, Solution, newton
from equipoise.balance.problem import Marginals, Problem
from equipoise.balance.sweeps import cyclic, parallel, presweep, stochastic
from equipoise.balance.tied import tied
from equipoise.errors import InputError
from equipoise.registry import Registry

__all__ = ["Method", "Options", "methods"]

NEWTON_STEPS = 200
SWEEPS = 100_000
FIRST_SWEEPS = 4  # exact coordinate sweeps before the first Newton step, at most
ROUGH = 0.7  # the relative deficit below which Newton's steps pay at once


@dataclass(frozen=True)
class Options:
    """What a solver is told: the tolerance on the largest relative deficit, and how to go about it."""

    tol: float = 1e-10
    max_iterations: int | None = None
    strength: float = 1.0
    seed: int = 0
    progress: Progress | None = None

    def __post_init__(self) -> None:
        if self.max_iterations is not None and (not isinstance(self.max_iterations, int) or self.max_iterations < 1):
            raise InputError(f"max_iterations must be a whole number, 1 or more; got {self.max_iterations!r}")
        if not 0 < self.strength <= 1:
            raise InputError(f"the strength of a favourable partial scaling lies in (0, 1], got {self.strength!r}")

    def most(self, default: int) -> int:
        return default if self.max_iterations is None else self.max_iterations


Method: TypeAlias = Callable[[Problem, Tensor, Marginals, Options], Solution]
methods: Registry[Method] = Registry("method")


@methods.register("newton")
def _newton(problem: Problem, z: Tensor, at: Marginals, options: Options) -> Solution:
    """Newton steps on the log-scales of all units, by conjugate gradients."""
    most = options.most(NEWTON_STEPS)
    first = presweep(
        problem, z, at, most=min(FIRST_SWEEPS, most), until=max(ROUGH, options.tol), progress=options.progress
    )
    return newton(
        problem,
        first.z,
        first.at,
        tol=options.tol,
        max_iterations=most,
        progress=options.progress,
        iteration=first.iterations,
    )


def _sweeping(
    solver: Callable[..., Solution], problem: Problem, z: Tensor, at: Marginals, o: Options, **more: int
) -> Solution:
    return solver(
        problem,
        z,
        at,
        tol=o.tol,
        max_iterations=o.most(SWEEPS),
        strength=o.strength,
        progress=o.progress,
        **more,
    )


@methods.register("cyclic")
def _cyclic(problem: Problem, z: Tensor, at: Marginals, options: Options) -> Solution:
    """Units balanced exactly, one after another; those that share no weight at once."""
    return _sweeping(cyclic, problem, z, at, options)


@methods.register("parallel")
def _parallel(problem: Problem, z: Tensor, at: Marginals, options: Options) -> Solution:
    """All units at once, damped."""
    return _sweeping(parallel, problem, z, at, options)


@methods.register("stochastic")
def _stochastic(problem: Problem, z: Tensor, at: Marginals, options: Options) -> Solution:
    """Units balanced exactly, in random order."""
    return _sweeping(stochastic, problem, z, at, options, seed=options.seed)


@methods.register("tied")
def _tied(problem: Problem, z: Tensor, at: Marginals, options: Options) -> Solution:
    """One scale for each layer."""
    return tied(problem, z, at, tol=options.tol, max_iterations=options.most(NEWTON_STEPS), progress=options.progress)
