"""Sabotages of the reference networks: their initialisation and their options."""

from tests.mutants import Mutant

NETWORKS = "src/equipoise/models/networks.py"
TESTS = ("tests/invariants/test_models.py",)

MUTANTS = (
    Mutant("models/he-without-the-two", NETWORKS, 'nonlinearity="relu"', 'nonlinearity="linear"', TESTS),
    Mutant("models/biases-keep-torchs-law", NETWORKS, "layer.bias.zero_()", "pass", TESTS),
    Mutant("models/normal-is-uniform", NETWORKS, "nn.init.kaiming_normal_", "nn.init.kaiming_uniform_", TESTS),
    Mutant("models/always-he", NETWORKS, 'init: str = "torch"', 'init: str = "he_uniform"', TESTS),
    Mutant(
        "models/conv-keeps-its-bias",
        NETWORKS,
        "nn.Conv2d(channels, 32, 5, bias=bias)",
        "nn.Conv2d(channels, 32, 5)",
        TESTS,
    ),
    Mutant("models/identity-is-relu", NETWORKS, '"identity": nn.Identity', '"identity": nn.ReLU', TESTS),
)
