"""Sabotages of the reference networks: their initialisation and their options."""

from tests.mutants import Mutant

NETWORKS, STYLES = "src/equipoise/models/networks.py", "src/equipoise/models/styles.py"
TESTS = ("tests/invariants/test_models.py",)

MUTANTS = (
    Mutant("models/he-without-the-two", STYLES, 'nonlinearity="relu"', 'nonlinearity="linear"', TESTS),
    Mutant("models/biases-keep-torchs-law", STYLES, "layer.bias.zero_()", "pass", TESTS),
    Mutant("models/normal-is-uniform", STYLES, "nn.init.kaiming_normal_", "nn.init.kaiming_uniform_", TESTS),
    Mutant("models/always-he", STYLES, 'init: str = "torch"', 'init: str = "he_uniform"', TESTS),
    Mutant(
        "models/conv-keeps-its-bias",
        NETWORKS,
        "nn.Conv2d(channels, 32, 5, bias=bias)",
        "nn.Conv2d(channels, 32, 5)",
        TESTS,
    ),
    Mutant("models/identity-is-relu", STYLES, '"identity": nn.Identity', '"identity": nn.ReLU', TESTS),
)
