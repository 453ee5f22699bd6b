"""Seeds, registries, errors and contracts: a failure here hides runs that cannot be repeated, or parts that vanish.

The seeds below are SHA-256 worked out outside the package; if they move, every published run has other weights.
"""

from __future__ import annotations

import hashlib
from types import MappingProxyType

import pytest
import torch

from equipoise import contracts, errors
from equipoise.debugging import debug, debugging
from equipoise.randomness import derive, generator
from equipoise.registry import Registry


def test_seeds_are_the_first_63_bits_of_sha_256() -> None:
    digest = hashlib.sha256(b"int:0\x1fstr:order\x1fint:1").hexdigest()
    assert derive(0, "order", 1) == int(digest[:16], 16) // 2 == 8444176558443591710


def test_streams_differ_by_every_part_of_their_key() -> None:
    keys = [(0, "a", 1), (1, "a", 0), (0, "a", "1"), ("0", "a", 1), (0, "a1"), (0, "a"), ("a", 0, 1), ("a",), ()]
    seeds = {derive(*key) for key in keys}
    assert len(seeds) == len(keys)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_generator_is_fresh_each_time_and_leaves_the_global_state_alone() -> None:
    before = torch.get_rng_state()
    first, second = (torch.rand(5, generator=generator(3, "masks")) for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(first, torch.rand(5, generator=generator(3, "labels")))
    assert generator(3).initial_seed() == derive(3)


@pytest.fixture
def shelf() -> Registry[int]:
    registry: Registry[int] = Registry("rule")
    for number, name in enumerate(["pepita", "bp", "dfa"]):
        registry.register(name)(number)
    return registry


def test_a_registry_returns_what_was_entered(shelf) -> None:
    assert (shelf["pepita"], shelf["bp"], shelf["dfa"]) == (0, 1, 2)
    assert list(shelf) == ["bp", "dfa", "pepita"]
    assert len(shelf) == 3
    assert "bp" in shelf
    assert "fa" not in shelf


def test_registering_gives_the_part_back(shelf) -> None:
    assert shelf.register("fa")(7) == 7


def test_a_name_taken_twice_is_refused_and_the_first_part_stays(shelf) -> None:
    with pytest.raises(errors.InputError, match="the rule 'bp' exists already"):
        shelf.register("bp")(9)
    assert shelf["bp"] == 1


def test_a_removed_name_is_free_again(shelf) -> None:
    shelf.remove("bp")
    assert "bp" not in shelf
    assert shelf.register("bp")(5) == 5
    with pytest.raises(errors.InputError, match="unknown rule 'fb'"):
        shelf.remove("fb")


def test_an_unknown_name_gets_the_nearest_one_and_the_list(shelf) -> None:
    with pytest.raises(errors.InputError) as caught:
        shelf["peptia"]
    assert str(caught.value) == "unknown rule 'peptia'; did you mean 'pepita'? Known: bp, dfa, pepita"
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    with pytest.raises(errors.InputError, match="unknown rule 'zzzz'; Known: bp, dfa, pepita"):
        shelf["zzzz"]
    with pytest.raises(errors.InputError, match="unknown model 'x'; Known: none"):
        Registry("model")["x"]


def test_exit_codes_tell_bad_input_from_a_failed_run() -> None:
    codes = {kind: kind.exit_code for kind in (errors.EquipoiseError, errors.RunError, errors.StorageError)}
    assert set(codes.values()) == {1}
    assert errors.InputError.exit_code == 2
    assert issubclass(errors.StorageError, errors.RunError)
    assert issubclass(errors.InputError, ValueError)
    assert issubclass(errors.RunError, RuntimeError)


class Whole:
    """Has what every contract asks for."""

    projections = ("weight",)
    constraints = MappingProxyType({})
    rate_factors = MappingProxyType({})
    stacked = MappingProxyType({})

    def local_loss(self, input): ...
    def project(self, value): ...
    def by_hand(self, input): ...
    def inverse(self, output, input): ...
    def inverse_difference(self, difference, input): ...
    def scale_classes(self, ledger, *gains): ...
    def work(self, input, output): ...
    def counts(self, input): ...


ASKED = {
    contracts.Site: ["projections"],
    contracts.LocalObjective: ["local_loss"],
    contracts.Constraint: ["project"],
    contracts.Constrained: ["constraints"],
    contracts.RateScaled: ["rate_factors"],
    contracts.Handwritten: ["by_hand"],
    contracts.Invertible: ["inverse", "inverse_difference"],
    contracts.Scalable: ["scale_classes"],
    contracts.Costed: ["work"],
    contracts.Counted: ["counts"],
    contracts.Stacked: ["stacked"],
}


@pytest.mark.parametrize(("contract", "name"), [(c, n) for c, names in ASKED.items() for n in names])
def test_a_part_joins_by_having_the_attributes_alone(contract, name: str) -> None:
    assert isinstance(Whole(), contract)
    lacking = type("Lacking", (), {k: v for k, v in vars(Whole).items() if k != name and not k.startswith("__")})
    assert not isinstance(lacking(), contract)
    only = type("Only", (), {k: vars(Whole)[k] for k in ASKED[contract]})
    assert isinstance(only(), contract)


def test_every_contract_is_held_here() -> None:
    # A part is handed a ledger and never is one, so nothing asks whether it could be; the others are what parts return.
    named = {"ScaleLedger", "Passed", "Synapses", "Pointwise"}
    assert {contract.__name__ for contract in ASKED} | named == set(contracts.__all__)


def test_debugging_is_on_within_its_block_alone() -> None:
    with debug():
        assert debugging()
        with debug(False):
            assert not debugging()
        assert debugging()
    assert not debugging()


def test_debugging_ends_with_its_block_when_that_raises() -> None:
    with pytest.raises(ZeroDivisionError), debug():
        _ = 1 / 0
    assert not debugging()
