"""Inverses of square layers, and their orthogonality: a failure here hides targets that are carried back wrongly, a
refinement that is said to have converged, or a penalty that pulls a weight elsewhere than to orthogonality.
"""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from equipoise.functional import activations, inverse, orthogonal
from equipoise.randomness import generator

EXACT = {"rtol": 0, "atol": 1e-12}


def orthogonal_matrix(n: int, seed: int = 0) -> Tensor:
    return torch.linalg.qr(torch.randn(n, n, generator=generator(seed, "q"), dtype=torch.float64))[0]


def near(n: int, sigma: float, seed: int = 0) -> Tensor:
    """W = Q + sigma N(0, 1/n)."""
    noise = torch.randn(n, n, generator=generator(seed, "noise"), dtype=torch.float64)
    return orthogonal_matrix(n, seed) + sigma * noise / n**0.5


def rows(n: int, count: int = 5) -> Tensor:
    return torch.randn(count, n, generator=generator(1, "rows"), dtype=torch.float64)


def test_a_solution_solves() -> None:
    a, d = near(24, 0.3), rows(24)
    x = inverse.solve(a, d)
    assert torch.allclose(x @ a.T, d, **EXACT)
    assert torch.allclose(d @ inverse.invert(a).T, x, **EXACT)
    assert torch.allclose(inverse.solve(a, d.reshape(5, 1, 24)), x.reshape(5, 1, 24), **EXACT)


def plain(a: Tensor, d: Tensor, count: int) -> Tensor:
    """x + A^T (d - A x), ``count`` times from A^T d."""
    x = d @ a
    for _ in range(count):
        x = x + (d - x @ a.T) @ a
    return x


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_refinement_has_the_least_residual_of_its_kind(count: int) -> None:
    """Among sums of (A^T A)^k A^T d, found by least squares for each row; so it beats as many plain steps."""
    a, d = near(24, 0.3), rows(24)
    found = inverse.refine(a, d, count)
    for x, row in zip(found, d, strict=True):
        powers = [row @ a]
        for _ in range(count):
            powers.append(powers[-1] @ a.T @ a)
        basis = torch.linalg.qr(torch.stack(powers, 1))[0]
        wanted = basis @ torch.linalg.lstsq(a @ basis, row[:, None]).solution[:, 0]
        if count:
            assert torch.allclose(x, wanted, rtol=0, atol=1e-9)
        assert float((row - a @ x).norm()) <= float((row - a @ plain(a, row[None], count)[0]).norm()) + 1e-12


def test_refinement_needs_a_step_for_each_other_singular_value() -> None:
    u, v = orthogonal_matrix(9), orthogonal_matrix(9, seed=2)
    a = u @ torch.tensor([3.0, 3, 2, 1, 1, 1, 1, 1, 1], dtype=torch.float64).diag() @ v
    d = rows(9)
    assert torch.allclose(inverse.refine(a, d, 2), inverse.solve(a, d), rtol=0, atol=1e-10)
    assert float((inverse.refine(a, d, 1) - inverse.solve(a, d)).norm()) > 1e-2
    assert not torch.allclose(plain(a, d, 2), inverse.solve(a, d), rtol=0, atol=1), "plain steps diverge beyond sqrt 2"


def test_an_orthogonal_matrix_needs_no_refinement() -> None:
    a, d = orthogonal_matrix(24), rows(24)
    assert torch.equal(inverse.refine(a, d, 0), d @ a)
    for count in (0, 1, 3):
        assert torch.allclose(inverse.refine(a, d, count), inverse.solve(a, d), **EXACT)
    assert inverse.residual(a, a, d) < 1e-13
    assert inverse.condition(a) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("used", [24, 10])
def test_the_residual_is_what_an_inverse_leaves(used: int) -> None:
    a, v = near(24, 0.2), rows(24)[:, :used]
    exact = inverse.invert(a).T[:used]
    assert inverse.residual(a, exact, v) < 1e-13
    padded = torch.cat([v, torch.zeros(5, 24 - used, dtype=v.dtype)], 1)
    rough = exact + 0.1 * a[:used]
    x = torch.cat([rough.T, torch.zeros(24, 24 - used, dtype=v.dtype)], 1)
    wanted = (padded - padded @ x.T @ a.T).norm() / padded.norm()
    assert inverse.residual(a, rough, v) == pytest.approx(float(wanted), rel=1e-12)


def test_a_few_columns_come_nearer_by_the_transpose_and_all_by_newton_schulz() -> None:
    a = near(24, 0.1)
    exact = inverse.invert(a).T
    rough = exact + 0.02 * near(24, 0.1, seed=3)
    defect = torch.eye(24, dtype=a.dtype) - a.T @ a
    assert torch.allclose(inverse.nearer(a, rough[:7]) - exact[:7], (rough - exact)[:7] @ defect.T, **EXACT)
    assert torch.allclose(inverse.nearer(a, rough), inverse.newton_schulz(a, rough.T).T, **EXACT)


def test_newton_schulz_squares_the_residual() -> None:
    a, eye = near(16, 0.3), torch.eye(16, dtype=torch.float64)
    rough = a.T + 0.05 * near(16, 0.0, seed=5)
    better = inverse.newton_schulz(a, rough)
    assert torch.allclose(eye - a @ better, torch.linalg.matrix_power(eye - a @ rough, 2), **EXACT)


@pytest.mark.parametrize(
    ("sigma", "printed"),
    [(0.01, (1.4e-2, 3e-4, 1.5e-7)), (0.05, (7e-2, 7e-3, 1e-4, 3e-8)), (0.2, (0.28, 0.11, 0.027, 0.003))],
)
def test_newton_schulz_from_the_transpose_goes_as_measured(sigma: float, printed: tuple[float, ...]) -> None:
    """Relative errors at 1024^2 of a table measured elsewhere, to its one or two digits.

    For small sigma they have a closed form: I - W^T W has a semicircle of variance 2 sigma^2, whose moment of order
    2^(j+1) is a Catalan number, so that step j leaves sqrt(C(2^j)) (sqrt 2 sigma)^(2^j).
    """
    a = near(512, sigma)
    exact, x = inverse.invert(a), a.T
    for step, wanted in enumerate(printed):
        error = float((x - exact).norm() / exact.norm())
        assert error == pytest.approx(wanted, rel=0.35)
        if sigma <= 0.05:
            power = 2**step
            catalan = math.comb(2 * power, power) / (power + 1)
            assert error == pytest.approx(math.sqrt(catalan) * (math.sqrt(2) * sigma) ** power, rel=0.25)
        x = inverse.newton_schulz(a, x)


def test_condition_numbers() -> None:
    u, v = orthogonal_matrix(6), orthogonal_matrix(6, seed=2)
    s = torch.tensor([5.0, 4, 3, 2, 1, 0.5], dtype=torch.float64)
    assert inverse.condition(u @ s.diag() @ v) == pytest.approx(10)
    s[-1] = 0
    assert inverse.condition(u @ s.diag() @ v) == math.inf
    assert math.isnan(inverse.condition(torch.full((2, 2), math.nan)))


def definition(a: Tensor, kind: str) -> Tensor:
    """The penalty summed element by element, as its papers write it, over pairs of columns."""
    n, total = a.shape[1], a.new_zeros(())
    for i, j in itertools.product(range(n), repeat=2):
        wanted = float(i == j)
        if kind == "full" or i != j:
            total = total + (a[:, i] @ a[:, j] - wanted) ** 2
    return total


@pytest.mark.parametrize("kind", orthogonal.KINDS)
def test_a_penalty_and_its_gradient_are_those_of_its_definition(kind: str) -> None:
    a = near(7, 0.4).requires_grad_()
    value, gradient = orthogonal.penalty(a, kind)
    wanted = definition(a, kind)
    assert torch.allclose(value, wanted, **EXACT)
    assert torch.allclose(gradient, torch.autograd.grad(wanted, a)[0], **EXACT)


def test_only_the_full_penalty_does_not_care_for_the_side() -> None:
    """tr (W W^T - I)^2 = tr (W^T W - I)^2 for square W. Columns that are orthogonal need not have orthogonal rows."""
    a = near(7, 0.4)
    assert torch.allclose(orthogonal.penalty(a)[0], orthogonal.penalty(a.T)[0], **EXACT)
    stretched = orthogonal_matrix(7) * torch.linspace(0.5, 2, 7, dtype=torch.float64)  # columns of other lengths
    assert float(orthogonal.penalty(stretched, "off_diagonal")[0]) < 1e-24
    assert float(orthogonal.penalty(stretched.T, "off_diagonal")[0]) > 0.1
    assert float(orthogonal.penalty(stretched)[0]) > 0.1


@pytest.mark.parametrize("kind", orthogonal.KINDS)
def test_blocks_of_the_penalty_make_up_a_quarter_of_its_gradient(kind: str) -> None:
    a = near(7, 0.4)
    blocks = [orthogonal.penalty_block(a, start, count, kind) for start, count in ((0, 3), (3, 1), (4, 3))]
    assert torch.allclose(4 * torch.cat(blocks, 1), orthogonal.penalty(a, kind)[1], **EXACT)


def test_retraction_gives_the_nearest_orthogonal_matrix() -> None:
    a = near(9, 0.3)
    u, _, vh = torch.linalg.svd(a)
    polar = orthogonal.retract(a)
    assert torch.allclose(polar, u @ vh, **EXACT)
    assert torch.allclose(orthogonal.retract(a, steps=9), u @ vh, atol=1e-10)
    assert float(orthogonal.distance(polar)) < 1e-13
    for seed in range(20):
        turn = orthogonal.retract(torch.eye(9, dtype=torch.float64) + 0.1 * near(9, 0.0, seed=seed))
        assert float((polar @ turn - a).norm()) > float((polar - a).norm())


@pytest.mark.parametrize("amount", [0.0, 0.05, 0.3])
def test_the_stretch_is_the_spectral_norm_of_the_defect(amount: float) -> None:
    a = near(40, amount)
    wanted = float(torch.linalg.matrix_norm(a.T @ a - torch.eye(40, dtype=a.dtype), 2))
    assert 0.85 * wanted <= float(orthogonal.stretch(a)) <= wanted * (1 + 1e-12) + 1e-14


def test_a_step_towards_it_moves_each_singular_value() -> None:
    u, v = orthogonal_matrix(5), orthogonal_matrix(5, seed=2)
    s = torch.tensor([1.7, 1.2, 1.0, 0.5, 0.1], dtype=torch.float64)
    wanted = u @ (s * (3 - s.square()) / 2).diag() @ v
    assert torch.allclose(orthogonal.polar_step(u @ s.diag() @ v), wanted, **EXACT)


def test_the_distance_of_a_stretched_rotation() -> None:
    """(1.1^2 - 1) sqrt n."""
    assert float(orthogonal.distance(1.1 * orthogonal_matrix(16))) == pytest.approx(0.21 * 4)
    assert float(orthogonal.distance(1.1 * orthogonal_matrix(16)[:4])) == pytest.approx(0.21 * 2)
    assert float(orthogonal.distance(1.1 * orthogonal_matrix(16)[:, :4])) == pytest.approx(0.21 * 2)


def test_near_zero_the_distance_is_twice_that_to_the_nearest_orthogonal_matrix() -> None:
    """||(S^2 - 1)|| = ||(S - 1)(S + 1)||, with singular values S near 1."""
    a = near(16, 1e-4)
    assert float(orthogonal.distance(a)) == pytest.approx(2 * float((a - orthogonal.retract(a)).norm()), rel=1e-3)


UNITS = [nn.Identity(), nn.LeakyReLU(0.1), nn.Tanh(), nn.Sigmoid(), nn.Softplus(2.0), nn.Softsign(), nn.ELU(0.5)]
UNITS += [nn.CELU(0.5), nn.CELU(2.0), nn.SELU()]


@pytest.mark.parametrize("module", UNITS, ids=repr)
def test_a_unit_is_its_module_backwards_too(module: nn.Module) -> None:
    one = activations.unit(module)
    z = torch.linspace(-6, 6, 1001, dtype=torch.float64).requires_grad_()
    a = one.value(z)
    assert torch.equal(a, module(z))
    assert torch.allclose(one.inverse(a), z, rtol=0, atol=1e-10)
    assert torch.allclose(one.slope(a), torch.autograd.grad(module(z).sum(), z)[0], **EXACT)
    assert one.slope(a.float()).dtype == torch.float32
    low, high = max(one.low, -1e9), min(one.high, 1e9)
    assert bool(((a > low) & (a < high)).all())
    for dtype in (torch.float32, torch.float64):
        outside = torch.tensor([one.low, one.high], dtype=dtype).clamp(-9, 9)
        assert bool(one.inverse(outside).isfinite().all())
        assert bool(one.inverse(outside + torch.tensor([-1, 1])).isfinite().all())


def test_only_straight_pieces_are_called_so() -> None:
    straight = {type(m).__name__ for m in UNITS if activations.unit(m).piecewise_linear}
    assert straight == {"Identity", "LeakyReLU"}


def test_somebodys_own_activation_joins() -> None:
    class Cube(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return z**3

    @activations.unit.register(Cube)
    def _(module: Cube) -> activations.Unit:
        return activations.Unit(module, lambda a: a.sign() * a.abs() ** (1 / 3), lambda a: 3 * a.abs() ** (2 / 3))

    z = torch.linspace(-2, 2, 9, dtype=torch.float64)
    one = activations.unit(Cube())
    assert torch.allclose(one.inverse(one.value(z)), z)
