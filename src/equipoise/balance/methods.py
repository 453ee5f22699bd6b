"""The solvers by name: each takes a problem, a start and options, and returns where it stopped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

from equipoise.balance.newton import Progress, Solution, newton
from equipoise.balance.problem import Marginals, Problem
from equipoise.errors import InputError
from equipoise.registry import Registry

__all__ = ["Method", "Options", "methods"]

NEWTON_STEPS = 200


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
    return newton(problem, z, at, tol=options.tol, max_iterations=options.most(NEWTON_STEPS), progress=options.progress)
