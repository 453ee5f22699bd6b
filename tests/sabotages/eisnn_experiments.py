"""Sabotages of the spiking experiments: the paper's recipes, what conditions change, what is measured of spikes."""

from tests.mutants import Mutant

CONDITIONS, STUDIES = "src/equipoise/papers/eisnn/conditions.py", "src/equipoise/papers/eisnn/studies.py"
NETWORKS, PUBLISHED = "src/equipoise/papers/eisnn/networks.py", "src/equipoise/papers/eisnn/published.toml"
LAYERS, FIGURES = "src/equipoise/papers/eisnn/layers.py", "src/equipoise/papers/eisnn/figures_followed.py"
MEASURE, PLAN = "src/equipoise/measure/spiking.py", "src/equipoise/models/spiking_plan.py"
SPECS, MEASURES = "tests/papers/test_eisnn_specs.py", ("tests/identity/test_spiking_measures.py",)
PROGRAM = (f"{SPECS}::test_the_paper_preset_is_the_papers_configuration",)
TABLE = (f"{SPECS}::test_the_table_has_published_numbers_beside_ours_and_counts_what_diverged",)

MUTANTS = (
    Mutant(
        "eisnn/steps-leave-the-data",
        "src/equipoise/papers/eisnn/conditions.py",
        "one.frames(scale.steps)",
        "one.data",
        ("tests/papers/test_eisnn_steps.py",),
    ),
    Mutant("eisnn/twins-at-the-circuits-decay", CONDITIONS, '"weight_decay": 1e-4}', '"weight_decay": 5e-4}', PROGRAM),
    Mutant(
        "eisnn/twins-warm-up",
        CONDITIONS,
        "0.0 if how.batchnorm else one.warmup * epochs / one.epochs",
        "one.warmup * epochs / one.epochs",
        PROGRAM,
    ),
    Mutant(
        "eisnn/warm-up-of-300-epochs-in-30",
        CONDITIONS,
        "one.warmup * epochs / one.epochs",
        "one.warmup",
        (f"{SPECS}::test_scale_shortens_and_shrinks_and_keeps_warm_ups_share",),
    ),
    Mutant(
        "eisnn/a-rate-mistyped", NETWORKS, '"vgg11": _cifar(11, 10, 2e-3, 10.0)', '"vgg11": _cifar(11, 10)', PROGRAM
    ),
    Mutant(
        "eisnn/gestures-mirrored",
        NETWORKS,
        '"resized_crop=0.5+temporal_delete"',
        '"resized_crop=0.5+flip+temporal_delete"',
        (f"{SPECS}::test_augmentation_is_the_papers_and_never_mirrors_gestures",),
    ),
    Mutant(
        "eisnn/a-number-mistyped",
        PUBLISHED,
        "value = 87.03",
        "value = 87.3",
        (f"{SPECS}::test_the_published_accuracies_are_copied_right",),
    ),
    Mutant(
        "eisnn/ablated-circuit-starts-from-data",
        CONDITIONS,
        '"unit_gains=yes", start=False',
        '"unit_gains=yes"',
        (f"{SPECS}::test_conditions_read_back_and_differ_in_one_thing_each",),
    ),
    Mutant(
        "eisnn/gains-of-one-are-forgotten",
        PLAN,
        "nn.init.ones_(layer.gain_i)",
        "pass",
        (f"{SPECS}::test_each_variant_is_what_its_name_says",),
    ),
    Mutant(
        "eisnn/starts-are-trained",
        STUDIES,
        "lr=0.0, scheduler",
        "lr=0.1, scheduler",
        (f"{SPECS}::test_starts_train_nothing_and_deep_networks_build",),
    ),
    Mutant("eisnn/diverged-runs-vanish", LAYERS, "in with_diverged(rows, folder):", "in rows[:2]:", TABLE),
    Mutant(
        "eisnn/layers-by-alphabet",
        LAYERS,
        "sorted(found, key=_natural)",
        "sorted(found)",
        (f"{SPECS}::test_layers_come_in_their_order_and_ratios_too",),
    ),
    Mutant(
        "eisnn/inhibitory-weights-count-as-layers",
        FIGURES,
        "place += not inner",
        "place += 1",
        (f"{SPECS}::test_angles_are_told_by_layer_and_backpropagations_as_one_mean",),
    ),
    Mutant(
        "eisnn/rates-of-layers-are-averaged",
        MEASURE,
        "spikes, chances = spikes + count, chances + fired.numel()",
        "spikes, chances = spikes + count / fired.numel(), chances + 1",
        MEASURES,
    ),
    Mutant("eisnn/one-spike-in-each-sample", MEASURE, "~units.any(1)", "~units.all(1)", MEASURES),
    Mutant("eisnn/pixels-are-units", MEASURE, "s.ndim - 3 if s.ndim >= 4 else", "", MEASURES),
    Mutant("eisnn/bimodality-without-skew", MEASURE, "(skewness**2 + 1) / kurtosis", "1 / kurtosis", MEASURES),
    Mutant(
        "eisnn/the-readouts-angle-counts",
        MEASURE,
        'if not name.endswith("weight_ei")][:-1]',
        'if not name.endswith("weight_ei")]',
        MEASURES,
    ),
)
