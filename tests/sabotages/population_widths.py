"""Sabotages of padding: members of different widths that are no longer their solo runs, or that share too much."""

from tests.mutants import Mutant

PACKAGE = "src/equipoise/population"
WIDTHS, CORE, TRIALS = f"{PACKAGE}/widths.py", f"{PACKAGE}/core.py", f"{PACKAGE}/trials.py"
UPDATES, WHOLE, BUCKETS = f"{PACKAGE}/updates.py", f"{PACKAGE}/population.py", f"{PACKAGE}/buckets.py"

NAME = "tests/transforms/test_population_widths.py"
ZERO = (f"{NAME}::test_padding_stays_exactly_zero",)
EQUAL = (f"{NAME}::test_members_of_two_widths_are_their_solo_runs",)
BLOCKS = (f"{NAME}::test_blocks_are_padded_each_at_its_end_and_cut_out_again",)
REFUSED = (f"{NAME}::test_what_padding_would_change_is_refused",)

MUTANTS = (
    Mutant("widths/padding-moves", CORE, "return alive & self.masks[name] if", "return alive if", ZERO),
    Mutant("widths/padding-in-the-norm", UPDATES, "_real(grads[n], tensors.masks.get(n))", "grads[n]", ZERO),
    Mutant(
        "widths/moments-of-padding",
        UPDATES,
        "kept[key].copy_(_real(value, tensors.masks.get(name)))",
        "kept[key].copy_(value)",
        ZERO,
    ),
    Mutant("widths/fixed-weights-stay", WHOLE, "            self._settle()", "            pass", ZERO),
    Mutant(
        "widths/fixed-weights-not-released",
        CORE,
        "{**self.trained, **self.fixed, **self.buffers}.items():\n            held",
        "{**self.trained, **self.buffers}.items():\n            held",
        ZERO,
    ),
    Mutant(
        "widths/units-not-told",
        WIDTHS,
        "if len(set(values)) > 1:\n            yield place",
        "if False:\n            yield place",
        EQUAL,
    ),
    Mutant(
        "widths/fan-in-of-the-widest",
        WIDTHS,
        '            if len(set(values)) > 1:\n                yield ("fan-in"',
        '            if False:\n                yield ("fan-in"',
        (f"{NAME}::test_uniform_magnitudes_are_those_of_the_real_fan_in",),
    ),
    Mutant("widths/blocks-at-the-end", WIDTHS, "starts = [sum(whole[:k])", "starts = [sum(own[:k])", BLOCKS),
    Mutant("widths/trusts-any-layer", TRIALS, "    if found:\n", "    if False:\n", REFUSED),
    Mutant(
        "widths/any-outputs",
        TRIALS,
        "if len(outputs) > 1:",
        "if len(outputs) > 9:",
        ("tests/transforms/test_populations.py::test_runs_that_differ_too_much_are_refused",),
    ),
    Mutant(
        "widths/padding-without-end",
        BUCKETS,
        "SLACK * total:",
        "LIMIT * total:",
        (f"{NAME}::test_buckets_are_split_by_size_where_padding_would_outgrow_the_networks",),
    ),
    Mutant(
        "widths/sizes-mixed",
        BUCKETS,
        "sorted(members, key=lambda member: member[1])",
        "members",
        (f"{NAME}::test_a_bucket_holds_several_widths_the_narrow_first",),
    ),
)
