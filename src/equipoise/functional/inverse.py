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
    "invert",
    "nearer",
    "newton_schulz",
    "refine",
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


def refine(matrix: Float[Tensor, "N N"], d: Float[Tensor, "B N"], count: int) -> Float[Tensor, "B N"]:
    """A^-1 d for each row of ``d``, nearly: A^T d, improved ``count`` times by conjugate gradients on A^T A.

    x of the least ||d - A x|| among A^T d, A^T A A^T d, ..., (A^T A)^count A^T d; a rate and a direction for each row.
    So it is never further from A x = d than as many steps x + A^T (d - A x), and it converges for every invertible A: a
    few singular values that have grown cost a step each. Exact at once for orthogonal A.
    """
    if count == 0:
        return d @ matrix
    x, left = torch.zeros_like(d), d
    step = ascent = d @ matrix
    size = ascent.square().sum(-1, keepdim=True)
    for _ in range(count + 1):
        moved = step @ matrix.T
        rate = size / moved.square().sum(-1, keepdim=True).clamp(min=torch.finfo(d.dtype).tiny)
        x, left = x + rate * step, left - rate * moved
        ascent = left @ matrix
        before, size = size, ascent.square().sum(-1, keepdim=True)
        step = ascent + size / before.clamp(min=torch.finfo(d.dtype).tiny) * step
    return x


def newton_schulz(matrix: Float[Tensor, "N N"], inverse: Float[Tensor, "N N"]) -> Float[Tensor, "N N"]:
    """A nearer inverse from a rough one, X (2I - A X): its residual is squared, I - A X' = (I - A X)^2."""
    return 2 * inverse - inverse @ (matrix @ inverse)


def nearer(matrix: Float[Tensor, "N N"], columns: Float[Tensor, "P N"]) -> Float[Tensor, "P N"]:
    """Nearer columns of an inverse, c_k for the first P of them, as rows.

    All n of them by ``newton_schulz``; fewer by  c_k + A^T (e_k - A c_k),  whose error is I - A^T A times c_k's.
    """
    if len(columns) == len(matrix):
        return newton_schulz(matrix.T, columns)
    left = columns @ matrix.T
    left[:, : len(columns)] -= torch.eye(len(columns), dtype=left.dtype, device=left.device)
    return columns - left @ matrix


def residual(matrix: Float[Tensor, "N N"], columns: Float[Tensor, "P N"], v: Float[Tensor, "B P"]) -> float:
    """How far X, held by its ``columns`` as rows, is from an inverse on v: ||v - A X v|| / ||v||, on the host.

    Rows v (B, P) are zero in what further columns would multiply.
    """
    back = (v @ columns) @ matrix.T
    back[:, : v.shape[1]] -= v
    return float(back.norm() / v.norm())


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
