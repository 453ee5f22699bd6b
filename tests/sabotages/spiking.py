"""Sabotages of spiking cells and E-I circuits: surrogates, sequences, stabilisation, the start from data, time."""

from tests.mutants import Mutant

SEQUENCE, SURROGATES = "src/equipoise/functional/lif_sequence.py", "src/equipoise/functional/surrogates.py"
CURRENT, SCALES = "src/equipoise/functional/ei_current.py", "src/equipoise/functional/ei_scales.py"
ENCODERS, LAYER, START = "src/equipoise/functional/encoders.py", "src/equipoise/nn/ei.py", "src/equipoise/nn/ei_init.py"
TIME, BACK = "src/equipoise/nn/over_time.py", "src/equipoise/nn/ei_recurrent.py"

CELLS, ONE = ("tests/identity/test_spiking.py",), ("tests/identity/test_ei_current.py",)
CIRCUITS = ("tests/identity/test_ei_layers.py",)
INVARIANTS, FILES = "tests/invariants/test_spiking.py", "tests/transforms/test_spiking.py"
ERRATA = "tests/reference/test_errata_spiking.py"
MOMENTS = "src/equipoise/nn/ei_moments.py"
STEP, OPTIONS = "src/equipoise/functional/spiking.py", "src/equipoise/nn/ei_options.py"
CODES, PLACES = "src/equipoise/nn/encode.py", "tests/reliability/test_spiking_places.py"
BATCHES = "tests/invariants/test_spiking_start.py"
BALANCE = (f"{INVARIANTS}::test_the_start_balances_means_and_spreads_on_average_over_weights",)

MUTANTS = (
    Mutant(
        "spiking/tie-stays-silent",
        SEQUENCE,
        "torch.ge(h_t, threshold, out=s_t)",
        "torch.gt(h_t, threshold, out=s_t)",
        CELLS,
    ),
    Mutant(
        "spiking/error-does-not-leak",
        SEQUENCE,
        "_add(before, after, leak, 1, before)",
        "_add(before, after, 1.0, 1, before)",
        CELLS,
    ),
    Mutant(
        "spiking/error-survives-a-hard-reset",
        SEQUENCE,
        "keep = (1 - s if hard else torch.ones_like(h)) - own",
        "keep = torch.ones_like(h) - own",
        CELLS,
    ),
    Mutant("spiking/last-potential-has-no-error", SEQUENCE, "rows[-1].add_(g_last)", "pass", CELLS),
    Mutant(
        "spiking/arctangent-without-pi",
        SURROGATES,
        "(1 + (u * (math.pi * a / 2)).square())",
        "(1 + (u * (a / 2)).square())",
        CELLS,
    ),
    Mutant(
        "spiking/gradient-is-whole",
        LAYER,
        "scale_gradient(self.weight_ei, 1 / self.fan_in)",
        "scale_gradient(self.weight_ei, 1.0)",
        ("tests/invariants/test_spiking_gradients.py",),
    ),
    Mutant(
        "spiking/nobody-is-told-of-rates",
        "src/equipoise/nn/constraints.py",
        "if len(set(asked.values())) > 1:",
        "if 1 not in asked.values():",
        ("tests/reliability/test_rates_asked.py",),
    ),
    Mutant(
        "spiking/streaming-forgets-outputs",
        "src/equipoise/measure/streaming.py",
        "total = total + scores",
        "total = scores",
        ("tests/identity/test_streaming_measure.py",),
    ),
    Mutant(
        "spiking/streaming-forgets-states",
        "src/equipoise/measure/streaming.py",
        "model.stream(frame, states)",
        "model.stream(frame)",
        ("tests/identity/test_streaming_measure.py",),
    ),
    Mutant(
        "spiking/not-a-number-counts-as-silent",
        CURRENT,
        "none = d <= 0",
        "none = ~(d > 0)",
        (f"{BATCHES}::test_weights_that_are_not_numbers_are_seen",),
    ),
    Mutant(
        "spiking/frames-of-any-number",
        TIME,
        "tuple(frames.shape[:2]) != (self.steps, x.shape[0])",
        "frames.shape[1] != x.shape[0]",
        (PLACES,),
    ),
    Mutant(
        "spiking/late-parts-have-no-time",
        TIME,
        "        self._tell()\n        still",
        "        still",
        (PLACES,),
    ),
    Mutant(
        "spiking/states-of-any-batch", STEP, "if tuple(v.shape) != tuple(shape):", "if v.ndim != len(shape):", (PLACES,)
    ),
    Mutant("spiking/mean-of-the-last-batch", OPTIONS, "sums[k] += float(", "sums[k] = float(", (BATCHES,)),
    Mutant("spiking/start-draws-codes", START, "buffer.copy_(value)", "pass", (BATCHES,)),
    Mutant("spiking/start-drops-out", START, "        model.eval()\n", "", (BATCHES,)),
    Mutant("spiking/codes-any-brightness", CODES, "((x >= 0) & (x <= 1)).all()", "(x >= 0).all()", (BATCHES,)),
    Mutant("spiking/any-but-0-divides", CURRENT, "none = d <= 0", "none = d == 0", ONE),
    Mutant("spiking/least-of-the-batch", CURRENT, ".amin(_across(unit_dim), keepdim=True)", ".amin()", ONE),
    Mutant("spiking/division-sends-back-its-sign", CURRENT, "dd = -de * ratio", "dd = de * ratio", ONE),
    Mutant(
        "spiking/gain-without-the-variance",
        SCALES,
        "math.sqrt(power) / (first",
        "math.sqrt(second) / (first",
        (f"{INVARIANTS}::test_the_general_start_is_the_papers_for_spikes",),
    ),
    Mutant(
        "spiking/gradient-over-the-units",
        LAYER,
        "scale_gradient(self.weight_ei, 1 / self.fan_in)",
        "scale_gradient(self.weight_ei, 1 / self.units)",
        CIRCUITS,
    ),
    Mutant(
        "spiking/start-is-forgotten",
        LAYER,
        "self.initialised.fill_(True)",
        "pass",
        (f"{FILES}::test_a_start_from_data_is_remembered_in_a_file",),
    ),
    Mutant("spiking/variance-of-the-sample", MOMENTS, "spread / (self.rows - 1)", "spread / self.rows", BALANCE),
    Mutant(
        "spiking/axes-not-exchanged",
        TIME,
        "return x.transpose(0, 1)",
        "return x.reshape(x.shape[1], x.shape[0], *x.shape[2:])",
        (f"{ERRATA}::test_s12_folding_without_exchanging_the_axes_scrambles_samples",),
    ),
    Mutant("spiking/bright-pixels-late", ENCODERS, "(1 - x.clamp(max=1))", "x.clamp(max=1)", CIRCUITS),
    Mutant(
        "spiking/recurrent-inhibition-excites",
        BACK,
        "i + self.layer._within(spikes",
        "i - self.layer._within(spikes",
        CIRCUITS,
    ),
)
