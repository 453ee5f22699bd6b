"""Sabotages of spiking networks by a text, and of the operations that are counted on them."""

from tests.mutants import Mutant

PLAN, RESNET, PLANS = (f"src/equipoise/models/{name}.py" for name in ("spiking_plan", "spiking_resnet", "vgg"))
COUNT, CARRIED = "src/equipoise/measure/operations.py", "src/equipoise/measure/spikes_carried.py"
CIRCUIT, BACK = "src/equipoise/nn/circuit.py", "src/equipoise/nn/ei_recurrent.py"

NETWORKS, COUNTS = "tests/identity/test_spiking_models.py", "tests/identity/test_operations.py"
REFUSED = ("tests/reliability/test_spiking_models_input.py",)
STREAMS = ("tests/transforms/test_spiking_models.py::test_a_frame_at_a_time_is_the_whole_sequence[resnet]",)
TWINS = (f"{NETWORKS}::test_its_twin_with_batch_normalisation_has_the_published_ones",)
PUBLISHED = (f"{NETWORKS}::test_a_residual_network_has_the_published_parameters",)
POOLED = (f"{COUNTS}::test_spikes_that_were_pooled_or_added_are_counted_one_by_one",)

MUTANTS = (
    Mutant(
        "networks/twin-with-a-bias",
        PLAN,
        "nn.Conv2d(before, units, kernel, stride, kernel // 2, bias=not batch)",
        "nn.Conv2d(before, units, kernel, stride, kernel // 2)",
        TWINS,
    ),
    Mutant(
        "networks/readout-with-gains",
        PLAN,
        "return EILinear(features, classes, readout=True, **circuit)",
        "return EILinear(features, classes, **circuit)",
        PUBLISHED,
    ),
    Mutant(
        "networks/signs-after-the-code",
        PLAN,
        "nn.Sequential(*onoff, network.encoder)",
        "network.encoder",
        (f"{NETWORKS}::test_on_and_off_cells_come_before_the_code",),
    ),
    Mutant(
        "networks/shortcut-without-stride", RESNET, "plan.layer(before, units, 1, stride)", "[nn.Identity()]", PUBLISHED
    ),
    Mutant(
        "networks/residual-stream-forgets",
        RESNET,
        "stream(branch, x, states or {}, after, name)",
        "stream(branch, x, {}, after, name)",
        STREAMS,
    ),
    Mutant(
        "networks/pooled-away",
        PLANS,
        "if min(size) > 1:",
        "if min(size) > 0:",
        (f"{NETWORKS}::test_a_vgg_takes_pictures_of_any_size",),
    ),
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
        POOLED,
    ),
    Mutant(
        "operations/still-every-step",
        COUNT,
        "if self.fired or self.steps == 1",
        "if True or self.steps == 1",
        (f"{COUNTS}::test_a_still_picture_meets_its_first_layer_once",),
    ),
    Mutant(
        "operations/analog-taken-for-spikes",
        CARRIED,
        "len(known) < len(units)",
        "len(known) > len(units)",
        (f"{COUNTS}::test_spikes_that_meet_analog_values_are_no_spikes",),
    ),
    Mutant(
        "operations/mean-of-one", CARRIED, "min(known) / _averaged(function, args, kwargs, one)", "min(known)", POOLED
    ),
    Mutant(
        "operations/divisions-for-nothing",
        CIRCUIT,
        "divisions=(whole if divides else 0)",
        "divisions=0",
        (f"{COUNTS}::test_a_circuits_arithmetic_cell_by_cell",),
    ),
    Mutant(
        "operations/last-spikes-go-back",
        BACK,
        '"RecurrentEI")[:-1]',
        '"RecurrentEI")',
        (f"{COUNTS}::test_a_path_back_carries_the_spikes_of_all_steps_but_the_last",),
    ),
)
