"""Sabotages of what everything stands on: errors, registry, randomness, contracts."""

from tests.mutants import Mutant

GROUND = ("tests/reliability/test_ground.py",)
RANDOMNESS, REGISTRY = "src/equipoise/randomness.py", "src/equipoise/registry.py"
ERRORS, CONTRACTS = "src/equipoise/errors.py", "src/equipoise/contracts.py"

MUTANTS = (
    Mutant("ground/seed-negative", RANDOMNESS, '"big") >> 1', '"big")', GROUND),
    Mutant("ground/seed-little-endian", RANDOMNESS, '"big") >> 1', '"little") >> 1', GROUND),
    Mutant("ground/seed-forgets-types", RANDOMNESS, 'f"{type(part).__name__}:{part}"', "str(part)", GROUND),
    Mutant("ground/seed-joins-parts", RANDOMNESS, '"\\x1f".join(', '"".join(', GROUND),
    Mutant("ground/seed-ignores-order", RANDOMNESS, "for part in key)", "for part in sorted(key, key=str))", GROUND),
    Mutant(
        "ground/generator-is-global", RANDOMNESS, "torch.Generator(device=device)", "torch.default_generator", GROUND
    ),
    Mutant(
        "ground/generator-ignores-key", RANDOMNESS, "manual_seed(derive(*key))", "manual_seed(derive(key[0]))", GROUND
    ),
    Mutant("ground/registry-replaces", REGISTRY, "if name in self._parts:", "if not name:", GROUND),
    Mutant("ground/registry-swallows-part", REGISTRY, "            return part\n", "            return None\n", GROUND),
    Mutant("ground/registry-unsorted", REGISTRY, "iter(sorted(self._parts))", "iter(self._parts)", GROUND),
    Mutant("ground/registry-keeps-removed", REGISTRY, "        del self._parts[name]\n", "", GROUND),
    Mutant("ground/registry-shows-key-error", REGISTRY, "name, parts) from None", "name, parts)", GROUND),
    Mutant("ground/no-suggestion", ERRORS, "cutoff=0.5", "cutoff=0.99", GROUND),
    Mutant("ground/suggests-anything", ERRORS, "cutoff=0.5", "cutoff=0.0", GROUND),
    Mutant("ground/hides-known-names", ERRORS, "', '.join(names) or 'none'", "'many'", GROUND),
    Mutant("ground/bad-input-exits-1", ERRORS, "exit_code = 2", "exit_code = 1", GROUND),
    Mutant("ground/storage-is-bad-input", ERRORS, "StorageError(RunError)", "StorageError(InputError)", GROUND),
    Mutant("contracts/site-renamed", CONTRACTS, "projections: tuple[str, ...]", "weights: tuple[str, ...]", GROUND),
    Mutant("contracts/local-renamed", CONTRACTS, "def local_loss(", "def loss(", GROUND),
    Mutant("contracts/constraints-renamed", CONTRACTS, "constraints: Mapping", "limits: Mapping", GROUND),
    Mutant("contracts/factors-renamed", CONTRACTS, "rate_factors: Mapping", "factors: Mapping", GROUND),
    Mutant("contracts/inverse-halved", CONTRACTS, "def inverse_difference(", "def _inverse_difference_(", GROUND),
)
