"""The inverse of a square layer: solved, refined from a rough inverse, tracked; and how far off a rough one is.

A *matrix* A (n, n) is what a layer multiplies each sample or patch by, z = A x: a linear layer's weight, or a
convolution's kernels (C_out, C_in k k). Rows are samples: d (B, n) holds the vectors that are to be inverted.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from equipoise.errors import InputError
from equipoise.functional.moments import wide

__all__ = [
    "condition",
    "contraction",
    "correct",
    "invert",
    "newton_schulz",
    "refine",
    "refinements",
    "require_invertible",
    "residual",
    "solve",
]


def solve(matrix: Float[Tensor, "N N"], d: Float[Tensor, "*B N"]) -> Float[Tensor, "*B N"]:
    """x with A x = d for each row of ``d``, by factorisation; half precisions are solved in float32.

    Raises ``InputError`` for a matrix that is exactly singular.
    """
    try:
        return torch.linalg.solve(wide(matrix).T, wide(d).to(wide(matrix).dtype), left=False).to(d.dtype)
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
        raise _singular(matrix) from error


def invert(matrix: Float[Tensor, "N N"]) -> Float[Tensor, "N N"]:
    """A^-1, which pays where one matrix inverts many more than n vectors: a convolution's patches.

    Raises ``InputError`` for a matrix that is exactly singular.
    """
    try:
        return torch.linalg.inv(wide(matrix)).to(matrix.dtype)
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]
        raise _singular(matrix) from error


def _singular(matrix: Tensor) -> InputError:
    n = matrix.shape[-1]
    return InputError(f"a {n} x {n} weight is singular (condition number inf) and has no inverse; {REMEDY}")


REMEDY = "initialise it orthogonally and keep it so (a penalty or retraction)"


def correct(
    matrix: Float[Tensor, "N N"], d: Float[Tensor, "*B N"], count: int, start: Float[Tensor, "N N"] | None = None
) -> Float[Tensor, "*B N"]:
    """What a rough inverse X should be given in place of d, so that X y is nearer to A^-1 d.

        y_0 = d,    y_(j+1) = y_j + (d - A X y_j),    after ``count`` corrections; X = A^T without ``start``

    So a layer that carries errors by its transpose, a convolution too, needs nothing but corrected errors.
    """
    rough = matrix.T if start is None else start
    y = d
    for _ in range(count):
        y = y + (d - (y @ rough.T) @ matrix.T)
    return y


def refine(
    matrix: Float[Tensor, "N N"], d: Float[Tensor, "*B N"], count: int, start: Float[Tensor, "N N"] | None = None
) -> Float[Tensor, "*B N"]:
    """A^-1 d for each row of ``d``, nearly: from a rough inverse X, refined ``count`` times by products alone.

        x_0 = X d,    x_(j+1) = x_j + X (d - A x_j),    A^-1 d - x_j = (I - X A)^(j+1) A^-1 d

    X = A^T without ``start``: exact for orthogonal A, and convergent where all singular values are below sqrt 2.
    """
    rough = matrix.T if start is None else start
    return correct(matrix, d, count, start) @ rough.T


def newton_schulz(matrix: Float[Tensor, "N N"], inverse: Float[Tensor, "N N"]) -> Float[Tensor, "N N"]:
    """A nearer inverse from a rough one, X (2I - A X): its residual is squared, I - A X' = (I - A X)^2."""
    return 2 * inverse - inverse @ (matrix @ inverse)


def _defect(matrix: Tensor, inverse: Tensor | None) -> Tensor:
    """I - X A."""
    wanted = wide(matrix.detach())
    rough = wanted.T if inverse is None else wide(inverse.detach())
    return torch.eye(matrix.shape[-1], dtype=wanted.dtype, device=wanted.device) - rough @ wanted


def residual(matrix: Tensor, inverse: Tensor | None = None) -> float:
    """The relative error of X d for an isotropic d: ||I - X A||_F / sqrt(n); X = A^T without ``inverse``.

    Read on the host: not for compiled code.
    """
    return float(_defect(matrix, inverse).norm()) / math.sqrt(matrix.shape[-1])


def contraction(matrix: Tensor, inverse: Tensor | None = None) -> float:
    """The factor by which one refinement shrinks the worst error: the spectral norm ||I - X A||, on the host.

    X = A^T without ``inverse``. From 1 on, refinement does not converge.
    """
    return float(torch.linalg.matrix_norm(_defect(matrix, inverse), 2))


def refinements(rate: float, tolerance: float) -> int | None:
    """The fewest refinements after which an error that each of them multiplies by ``rate`` is within ``tolerance``.

    The least count with rate^(count + 1) <= tolerance; None where rate >= 1 (or is NaN), as nothing converges then.
    """
    if not tolerance > 0:
        raise InputError(f"a tolerance is above 0, not {tolerance}")
    if not rate < 1:
        return None
    if rate <= tolerance:
        return 0
    return math.ceil(math.log(tolerance) / math.log(rate) - 1e-9) - 1


def condition(matrix: Tensor) -> float:
    """The condition number of A, its largest over its smallest singular value; inf where it is singular, on the host.

    A matrix that holds values that are not finite has none: NaN.
    """
    wanted = wide(matrix.detach())
    if not bool(wanted.isfinite().all()):
        return math.nan
    values = torch.linalg.svdvals(wanted)
    largest, least = float(values[0]), float(values[-1])
    lost = largest * torch.finfo(wanted.dtype).eps * matrix.shape[-1]
    return math.inf if least <= lost else largest / least


def require_invertible(matrix: Tensor, name: str, *, limit: float = 1e4) -> float:
    """The condition number of the layer ``name``'s matrix.

    Raises ``InputError`` with the layer, its condition number and the remedy where that is above ``limit`` (the error
    of an inverse is the condition number times the precision), and for a matrix that is not square.
    """
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise InputError(
            f"layer '{name}' multiplies by a matrix {tuple(matrix.shape)}, which is not square and has no inverse; "
            "give it auxiliary units (eq.nn.invertible, eq.nn.InvertibleLinear)"
        )
    number = condition(matrix)
    if not number <= limit:
        kind = "is singular" if number == math.inf else "is ill-conditioned" if number > limit else "is not finite"
        raise InputError(f"layer '{name}' {kind}: condition number {number:.3g}, above {limit:.3g}; {REMEDY}")
    return number
