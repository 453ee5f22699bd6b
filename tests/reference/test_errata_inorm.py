"""The errata of the I-Norm paper: its version beside ours.

A failure here means that docs/errata.md accuses somebody wrongly, or that we have taken the error over.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from equipoise import functional as f
from equipoise import nn as enn
from equipoise.nn.lateral import pooling_weights


def layer(inputs: int = 60, units: int = 40, seed: int = 0, **options: object) -> enn.INormLinear:
    """A fresh layer in float64, ideal to that precision."""
    torch.manual_seed(seed)
    return enn.INormLinear(inputs, units, **options).double().idealise_()  # type: ignore[arg-type, return-value]


def rates(rows: int = 50, inputs: int = 60) -> Tensor:
    g = torch.Generator().manual_seed(1)
    return torch.rand(rows, inputs, generator=g, dtype=torch.float64)


def drive(circuit: enn.INormLinear, h: Tensor) -> Tensor:
    return F.linear(h, circuit.weight_ee).detach()


def test_i1_without_the_square_the_radicand_is_negative_and_its_sign_arbitrary() -> None:
    circuit, h = layer(divisive="literal", bias=None), rates()
    cells = (h @ circuit.divisive_ie.T).detach()
    radicand, squared = cells.mean(1), cells.square().mean(1)
    torch.testing.assert_close(squared, drive(circuit, h).var(1, correction=0))
    # A singular vector and its negative serve the SVD alike, and the square alike, and turn the printed radicand over.
    signs = torch.where(torch.arange(40) % 2 == 0, 1.0, -1.0).double()
    turned = (cells * signs).mean(1)
    assert bool(((turned < 0) != (radicand < 0)).any())
    torch.testing.assert_close((cells * signs).square().mean(1), squared)
    assert not torch.allclose(radicand.abs(), squared, rtol=0.5)
    bad = [layer(seed=k, divisive="literal")(h).isnan().any(1).double().mean() for k in range(8)]
    assert float(torch.stack(bad).mean()) > 0.2
    assert layer()(h).isfinite().all()


def printed_loss(h: Tensor) -> Tensor:
    return h.mean(-1) ** 2 + (h.square().mean(-1) - 1) ** 2


def test_i2_the_printed_loss_is_least_where_one_single_unit_is_active() -> None:
    n = 20
    least = 1 / n - 1 / (4 * n**2)
    single = torch.zeros(n, dtype=torch.float64)
    single[3] = math.sqrt(n * (1 - 1 / (2 * n)))
    assert float(printed_loss(single)) == pytest.approx(least)
    torch.manual_seed(0)
    w = torch.rand(n, dtype=torch.float64, requires_grad=True)
    update = torch.optim.Adam([w], lr=0.02)
    for _ in range(3000):
        update.zero_grad()
        printed_loss(w.relu()).backward()
        update.step()
    found = w.detach().relu()
    assert float(printed_loss(found)) >= least - 1e-9
    z = torch.randn(400, 4000, dtype=torch.float64)
    z = F.layer_norm(z, (4000,))
    assert float(printed_loss(z.relu()).mean()) == pytest.approx(1 / (2 * math.pi) + 1 / 4, abs=0.01)
    assert float(f.local_loss(z, None, None)) < 1e-8
    assert float(f.local_loss(z, None, None, form="post")) == pytest.approx(0.409, abs=0.01)


def test_i3_the_pathways_onto_excitatory_cells_are_frozen_unless_asked() -> None:
    frozen, trained, h = layer(), layer(train_ei=True), rates()
    assert not frozen.weight_ei.requires_grad
    assert frozen.divisive_ei is None
    with torch.no_grad():
        trained.weight_ee.mul_(1 + torch.rand_like(trained.weight_ee))
    grads = torch.autograd.grad(trained.local_loss(h), (trained.weight_ei, trained.divisive_ei))
    assert all(bool(g.any()) for g in grads)


def test_i4_either_law_starts_as_layer_normalisation() -> None:
    h = rates()
    for law, kurtosis in (("exponential", 9.0), ("log_normal", 41.0)):
        circuit = layer(law=law)
        torch.testing.assert_close(circuit(h), F.layer_norm(drive(circuit, h), (40,)))
        torch.manual_seed(0)
        w = enn.INormLinear(1000, 2000, law=law).weight_ee.detach().double()
        standard = ((w - w.mean()) / w.std()).pow(4).mean()
        assert float(standard) == pytest.approx(kurtosis, rel=0.4)


def test_i5_exponential_weights_onto_inhibition_do_not_balance() -> None:
    """Its rows cannot be exponential and the mean row at once: the spread of a mean is sqrt(n_e) times less."""
    circuit, h = layer(inputs=400, units=100), rates(inputs=400)
    row = circuit.weight_ie[0].detach()
    assert float(row.std() / row.mean()) == pytest.approx(1 / math.sqrt(100), rel=0.2)
    with torch.no_grad():
        circuit.weight_ie.exponential_(1 / float(circuit.weight_ee.mean()))
    s = f.subtractive(h, circuit.weight_ie, circuit.weight_ei).detach()
    missed = (drive(circuit, h) - s).mean(1) / drive(circuit, h).std(1)
    assert float(missed.abs().mean()) > 0.1
    assert float(layer(inputs=400, units=100)(h).detach().mean(1).abs().max()) < 1e-10


def test_i6_sigma_lacks_its_root_or_its_square() -> None:
    z = 3 * torch.randn(4, 50, dtype=torch.float64)
    sigma = z.var(1, correction=0, keepdim=True)
    printed = (z - z.mean(1, keepdim=True)) / (sigma**2 + 1e-5).sqrt()
    assert float(printed.var(1, correction=0).mean()) == pytest.approx(float((1 / sigma).mean()), rel=0.01)
    assert float(f.normalise(z).var(1, correction=0).mean()) == pytest.approx(1, rel=1e-4)


def test_i7_the_divisor_is_the_standard_deviation_and_not_nearly_the_variance() -> None:
    circuit, h = layer(eps=1e-14), 5 * rates()
    d = f.divisive(h, circuit.divisive_ie, None, circuit.eps).detach().squeeze(1)
    torch.testing.assert_close(d, drive(circuit, h).std(1, correction=0))
    assert not torch.allclose(d, drive(circuit, h).var(1, correction=0), rtol=0.5)


def test_i8_a_divisive_pool_of_a_tenth_is_not_what_was_run() -> None:
    """n_e cells give the variance exactly; a tenth of them, with the best weights, do not."""
    circuit, h = layer(inputs=200, units=100), rates(inputs=200)
    assert circuit.pool == 10
    assert circuit.divisive_pool == 100
    _, spread = f.ideal(circuit.weight_ee.detach())
    _, sigma, v = torch.linalg.svd(spread, full_matrices=False)
    best = (sigma[:10, None] * v[:10]) @ h.T
    explained = best.square().sum(0) / 100 / drive(circuit, h).var(1, correction=0)
    assert float(explained.max()) < 0.6


def test_i9_a_bias_inside_the_division_explodes_on_a_black_image() -> None:
    black = torch.zeros(1, 60, dtype=torch.float64)
    for place, largest in (("inside", 0.1 / math.sqrt(1e-5)), ("after", 0.1)):
        circuit = layer(bias=place)
        torch.nn.init.constant_(circuit.bias, 0.1)
        assert float(circuit(black).detach().abs().max()) == pytest.approx(largest)
    # Nor can inhibition take the mean bias away for more than one input: s is linear in h, so s(0) = 0.
    assert float(f.subtractive(black, circuit.weight_ie, circuit.weight_ei).detach().abs().max()) == 0


def test_i10_the_printed_gradient_alignment_is_zero_over_zero() -> None:
    circuit, h = layer(), rates()
    found = torch.autograd.grad(circuit.local_loss(h), circuit.weight_ee, allow_unused=True)[0]
    assert found is None


def test_i11_pooling_weights_are_no_unit_vector() -> None:
    nu = pooling_weights(300).double()
    assert float(nu.sum()) == pytest.approx(1)
    assert float(nu.norm()) == pytest.approx(math.sqrt(4 / 3 / 300), rel=0.05)
    errors = torch.ones(300, dtype=torch.float64)
    assert float((nu / nu.norm()) @ errors) > 10


def test_i12_detaching_the_activity_below_does_not_isolate_excitation() -> None:
    """What must be detached in the local loss is the drive; without that it trains W_EE."""
    circuit, h = layer(), rates()
    with torch.no_grad():
        circuit.divisive_ie.mul_(2)
    e = F.linear(h, circuit.weight_ee)
    z = f.inhibit(
        e, f.subtractive(h, circuit.weight_ie, circuit.weight_ei), f.divisive(h, circuit.divisive_ie, None, 1e-5)
    )
    attached = (z.mean(1).square() + (z.var(1, correction=0) - 1).square()).mean()
    assert bool(torch.autograd.grad(attached, circuit.weight_ee)[0].any())


def test_i13_the_derivative_of_softmax_is_no_vector() -> None:
    """The appendix multiplies by phi'(z) unit by unit: only the target's unit would get an error."""
    z = torch.tensor([1.0, 0.5, -1.0], dtype=torch.float64, requires_grad=True)
    y = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    p = z.softmax(0)
    right = torch.autograd.grad(-(y * p.log()).sum(), z)[0]
    printed = ((-y / p) * p * (1 - p)).detach()
    torch.testing.assert_close(right, (p - y).detach())
    assert float(printed[1:].abs().max()) == 0
    assert float(right[1:].abs().min()) > 0.05


def test_i14_the_appendix_sends_the_error_down_through_excitation_alone() -> None:
    """delta = W_EE^T delta is the derivative of another network: with its inhibition it is (W_EE - W_EI W_IE)^T delta."""
    circuit, g = enn.DaleLinear(20, 12).double(), torch.randn(3, 12, dtype=torch.float64)
    h = torch.rand(3, 20, dtype=torch.float64, requires_grad=True)
    back = torch.autograd.grad(circuit(h), h, g)[0]
    torch.testing.assert_close(back, (g @ (circuit.weight_ee - circuit.weight_ei @ circuit.weight_ie)).detach())
    assert float((back - g @ circuit.weight_ee).detach().norm() / back.norm()) > 0.1


def test_i15_half_of_the_divisive_weights_break_dales_law() -> None:
    share = (layer(inputs=200, units=100).divisive_ie < 0).double().mean()
    assert 0.4 < float(share) < 0.75
    clamped = layer(divisive="dale")
    assert bool((clamped.divisive_ie >= 0).all())
    assert set(enn.constraints_of(clamped)) == {"weight_ee", "weight_ie", "weight_ei", "divisive_ie"}


def test_i16_theorem_1_fails_where_errors_depend_on_the_pooling_weights() -> None:
    """delta_i = 1 where omega_i is above its median: s_n tends to 3/4 for U(0, 1), the mean is 1/2."""
    for n in (1000, 100_000):
        nu = pooling_weights(n).double()
        delta = (nu > nu.median()).double()
        assert float(nu @ delta) == pytest.approx(0.75, abs=0.03)
        assert float(delta.mean()) == pytest.approx(0.5, abs=0.001)
    # And the limit itself depends on n: errors 1, 1, 0, 0, 0, 0, 1, ... in runs that double have no mean to tend to.
    signs = torch.arange(1, 2**16 + 1).double().log2().floor() % 2
    means = [float(signs[: 2**k - 1].mean()) for k in (13, 14, 15, 16)]
    assert max(means) - min(means) > 0.3


def test_i17_at_a_normalised_layer_scale_is_no_gradnorm_at_all() -> None:
    """The 1/sigma is in the forward division already; straight through, scale brings it back and differs from none."""
    h, g = rates(), torch.randn(50, 40, dtype=torch.float64)

    def written(**options: object) -> Tensor:
        circuit = layer(bias=None, **options)
        return torch.autograd.grad(circuit(h), circuit.weight_ee, g)[0]

    torch.testing.assert_close(written(gradnorm="scale"), written(), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(written(gradnorm="center+scale"), written(gradnorm="center"), rtol=1e-3, atol=1e-3)
    d = f.divisive(h, layer().divisive_ie, None, 1e-5).detach()
    exact = layer(bias=None)
    scaled = torch.autograd.grad(exact(h), exact.weight_ee, g * d)[0]
    torch.testing.assert_close(written(division="straight"), scaled)
    assert float((written(division="straight") - written()).norm() / scaled.norm()) > 0.1


def test_i18_no_third_population_is_needed_where_inhibition_is_not_detached() -> None:
    through, centred, h = layer(bias=None, detach="divisive"), layer(bias=None, gradnorm="center"), rates()
    g = torch.randn(50, 40, dtype=torch.float64)
    found = []
    for circuit in (through, centred):
        x = h.clone().requires_grad_()
        found.append(torch.autograd.grad(circuit(x), x, g)[0])
    torch.testing.assert_close(*found)


def test_i19_the_svd_is_not_needed() -> None:
    """Any rotation of U_IE gives the same divisor, and trains alike; it also exists for fewer inputs than units."""
    plain, rotated, h = layer(seed=3), layer(seed=3), rates()
    q, _ = torch.linalg.qr(torch.randn(40, 40, dtype=torch.float64))
    with torch.no_grad():
        rotated.divisive_ie.copy_(q @ plain.divisive_ie)
        for circuit in (plain, rotated):
            circuit.weight_ee.mul_(1.5)
    for _ in range(20):
        for circuit in (plain, rotated):
            loss = 100 * circuit.local_loss(h)
            for p, gradient in zip(
                (circuit.weight_ie, circuit.divisive_ie),
                torch.autograd.grad(loss, (circuit.weight_ie, circuit.divisive_ie)),
                strict=True,
            ):
                p.data.sub_(0.05 * gradient)
    torch.testing.assert_close(plain(h), rotated(h))
    torch.testing.assert_close(q @ plain.divisive_ie.detach(), rotated.divisive_ie.detach())
    assert layer(inputs=60, units=90)(h).isfinite().all()


def test_i20_a_pool_computed_from_a_ratio_of_itself_loses_a_cell() -> None:
    lost = [n for n in range(100, 501) if int(n * ((n // 10) / n)) != n // 10]
    assert lost == [142, 151, 161, 284, 302, 312, 319, 322]
    assert all(enn.INormLinear(2, n).pool == n // 10 for n in lost)


def test_i21_five_weights_of_the_loss_are_six() -> None:
    printed = [10.0**k for k in range(-5, 1)]
    assert len(printed) == 6
    names = dict(layer(train_ei=True).named_parameters())
    cells = {"weight_ie": (4, 60), "weight_ei": (40, 4)}  # the rate "inhibitory-inhibitory" is W_IE's: none joins cells
    assert {n: tuple(names[n].shape) for n in cells} == cells
    assert not [n for n, p in names.items() if tuple(p.shape) == (4, 4)]


def test_every_row_of_the_page_has_its_test(root: Path) -> None:
    named = re.findall(r"test_errata_inorm\.py::(test_\w+)", (root / "docs" / "errata.md").read_text())
    assert len(named) == 21
    for prefix in named:
        assert any(name.startswith(f"{prefix}_") for name in globals()), prefix
