"""Keeping a square matrix orthogonal: penalties with their gradients in closed form, and the nearest orthogonal matrix.

Matrices are laid out as torch's weights, (out, in). Penalties are on A^T A - I, between the columns: the original
programs hold weights as (in, out), and what they write W W^T is A^T A here. For the full penalty of a square matrix
both are the same; for the off-diagonal one they are not.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from equipoise.errors import unknown_name
from equipoise.functional.moments import wide

__all__ = ["KINDS", "distance", "penalty", "penalty_block", "polar_step", "retract", "stretch"]

KINDS = ("full", "off_diagonal")


def _check(kind: str) -> None:
    if kind not in KINDS:
        raise unknown_name("kind of penalty", kind, KINDS)


def penalty(matrix: Float[Tensor, "N N"], kind: str = "full") -> tuple[Float[Tensor, ""], Float[Tensor, "N N"]]:
    """How far A is from orthogonal, and the gradient of that with respect to A.

        full          R = ||A^T A - I||_F^2,             dR/dA = 4 A (A^T A - I)
        off_diagonal  R = sum_(i != j) (A^T A)_ij^2,     dR/dA = 4 A offdiag(A^T A): the columns' lengths are free

    Two products of n^3. Raises ``InputError`` for another kind. Source: GAIT-prop 2020; the scaling paper, section 3.2.
    """
    _check(kind)
    off = _defect(matrix, matrix, 0, kind)
    return off.square().sum(), 4 * (matrix @ off)


def _defect(matrix: Tensor, columns: Tensor, start: int, kind: str) -> Tensor:
    """A^T A - I, or offdiag(A^T A), in the ``columns`` of A from ``start`` on."""
    gram = matrix.T @ columns
    own = gram.diagonal(-start)
    own.sub_(1) if kind == "full" else own.zero_()
    return gram


def penalty_block(matrix: Float[Tensor, "N N"], start: int, count: int, kind: str = "full") -> Float[Tensor, "N P"]:
    """A quarter of the penalty's gradient in the ``count`` columns from ``start`` on: two products of n^2 ``count``."""
    _check(kind)
    return matrix @ _defect(matrix, matrix[:, start : start + count], start, kind)


def polar_step(matrix: Float[Tensor, "O I"]) -> Float[Tensor, "O I"]:
    """One Newton-Schulz step towards the nearest orthogonal matrix, A (3I - A^T A) / 2.

    Each singular value s becomes s (3 - s^2) / 2: converges to 1, quadratically, from anywhere in (0, sqrt 3).
    """
    return 1.5 * matrix - 0.5 * (matrix @ (matrix.T @ matrix))


def retract(matrix: Float[Tensor, "O I"], steps: int | None = None) -> Float[Tensor, "O I"]:
    """The orthogonal matrix nearest to A in the Frobenius norm: its polar factor U V^T, with A = U S V^T.

    steps: None takes the singular value decomposition, an integer that many ``polar_step``s, products alone.
    """
    if steps is not None:
        for _ in range(steps):
            matrix = polar_step(matrix)
        return matrix
    u, _, vh = torch.linalg.svd(wide(matrix), full_matrices=False)
    return (u @ vh).to(matrix.dtype)


def distance(matrix: Float[Tensor, "O I"]) -> Float[Tensor, ""]:
    """How far A is from orthogonal, ||A A^T - I||_F; of a matrix with more rows than columns, ||A^T A - I||_F.

    Near 0 it is twice the distance to the nearest orthogonal matrix.
    """
    wanted = wide(matrix)
    gram = wanted @ wanted.T if wanted.shape[0] <= wanted.shape[1] else wanted.T @ wanted
    return (gram - torch.eye(gram.shape[0], dtype=gram.dtype, device=gram.device)).norm()


def stretch(matrix: Float[Tensor, "N N"], rounds: int = 12) -> Float[Tensor, ""]:
    """The spectral norm of A^T A - I, how far a squared singular value is from 1, for the price of a few vectors.

    Power iteration from four fixed random vectors: from below, and within a tenth or so after ``rounds``.
    """
    wanted = wide(matrix)
    source = torch.Generator().manual_seed(0)
    v = torch.randn(4, wanted.shape[1], generator=source).to(wanted.device, wanted.dtype)
    for _ in range(rounds):
        v = v / v.norm(dim=1, keepdim=True).clamp_min(torch.finfo(v.dtype).tiny)
        v = (v @ wanted.T) @ wanted - v
    return v.norm(dim=1).amax()
