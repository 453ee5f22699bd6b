"""Sabotages of spiking networks by a text, and of the operations that are counted on them."""

from tests.mutants import Mutant

PLAN, RESNET, PLANS = (f"src/equipoise/models/{name}.py" for name in ("spiking_plan", "spiking_resnet", "vgg"))
COUNT, CARRIED = "src/equipoise/measure/operations.py", "src/equipoise/measure/spikes_carried.py"
CIRCUIT, BACK = "src/equipoise/nn/circuit.py", "src/equipoise/nn/ei_recurrent.py"

NETWORKS, STREAMS = ("tests/identity/test_spiking_models.py",), ("tests/transforms/test_spiking_models.py",)
REFUSED, COUNTS = ("tests/reliability/test_spiking_models_input.py",), ("tests/identity/test_operations.py",)

MUTANTS = (
    Mutant(
        "networks/twin-with-a-bias",
        PLAN,
        "nn.Conv2d(before, units, kernel, stride, kernel // 2, bias=not batch)",
        "nn.Conv2d(before, units, kernel, stride, kernel // 2)",
        NETWORKS,
    ),
    Mutant(
        "networks/readout-with-gains",
        PLAN,
        "return EILinear(features, classes, readout=True, **circuit)",
        "return EILinear(features, classes, **circuit)",
        NETWORKS,
    ),
    Mutant(
        "networks/signs-after-the-code", PLAN, "nn.Sequential(*onoff, network.encoder)", "network.encoder", NETWORKS
    ),
    Mutant(
        "networks/shortcut-without-stride", RESNET, "plan.layer(before, units, 1, stride)", "[nn.Identity()]", NETWORKS
    ),
    Mutant(
        "networks/residual-stream-forgets",
        RESNET,
        "_stream(branch, x, states or {}, after, name)",
        "_stream(branch, x, {}, after, name)",
        STREAMS,
    ),
    Mutant("networks/pooled-away", PLANS, "if min(size) > 1:", "if min(size) > 0:", NETWORKS),
    Mutant(
        "networks/an-option-in-vain",
        PLAN,
        "if name in circuit and circuit.get(other, default) != value:",
        "if False:",
        REFUSED,
    ),
    Mutant(
        "operations/pooled-spikes-count-once",
        COUNT,
        "(work.source / unit).round()",
        "(work.source > 0).float()",
        COUNTS,
    ),
    Mutant(
        "operations/still-every-step", COUNT, "if self.fired or self.steps == 1", "if True or self.steps == 1", COUNTS
    ),
    Mutant("operations/analog-taken-for-spikes", CARRIED, "len(known) < len(units)", "len(known) > len(units)", COUNTS),
    Mutant(
        "operations/mean-of-one", CARRIED, "min(known) / _averaged(function, args, kwargs, one)", "min(known)", COUNTS
    ),
    Mutant(
        "operations/divisions-for-nothing",
        CIRCUIT,
        "divisions=(whole if divides else 0)",
        "divisions=0",
        COUNTS,
    ),
    Mutant("operations/last-spikes-go-back", BACK, '"RecurrentEI")[:-1]', '"RecurrentEI")', COUNTS),
)
