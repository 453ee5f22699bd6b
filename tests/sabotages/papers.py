"""Sabotages of the experiments: settings of the papers that a run would no longer have."""

from tests.mutants import Mutant

TABLE1, VARIANTS = "src/equipoise/papers/pepita/table1.py", "src/equipoise/papers/pepita/variants.py"
EXPERIMENTS, PUBLISHED = "src/equipoise/papers/pepita/experiments.py", "src/equipoise/papers/pepita/published.toml"
SPECS = ("tests/papers/test_pepita_specs.py",)

MUTANTS = (
    Mutant("papers/dfa-at-backprops-rate", TABLE1, '{"dfa": "fa", ', "{", SPECS),
    Mutant(
        "papers/drtp-rate-of-the-mean", TABLE1, 'column.rates["drtp"] / column.classes', 'column.rates["drtp"]', SPECS
    ),
    Mutant("papers/drtp-scale-of-the-batch", TABLE1, "column.batch_size * column.classes", "column.batch_size", SPECS),
    Mutant("papers/drtp-with-relu", TABLE1, 'column.model("activation=tanh")', "column.model()", SPECS),
    Mutant(
        "papers/dropout-in-kernels-network", TABLE1, '"bias=no,init=he_uniform", 100', '"init=he_uniform", 100', SPECS
    ),
    Mutant("papers/kernels-decay-at-60", TABLE1, "(10, 30, 50)", "(10, 30, 60)", SPECS),
    Mutant("papers/validation-held-out", TABLE1, '"validation": 0.0', '"validation": 0.1', SPECS),
    Mutant("papers/options-lose-drtps-own", TABLE1, "{**run.options, **by_rule(", "{**by_rule(", SPECS),
    Mutant("papers/control-keeps-f", VARIANTS, '{"scale": 0.0}', '{"scale": 0.05}', SPECS),
    Mutant("papers/whitened-at-the-full-rate", VARIANTS, '"lr": plain.lr / self.slower', '"lr": plain.lr', SPECS),
    Mutant("papers/weights-start-uniform", VARIANTS, "init=he_normal{dropout}", "init=he_uniform{dropout}", SPECS),
    Mutant("papers/linear-modulates-its-input", VARIANTS, '{"presynaptic": "standard"}', "{}", SPECS),
    Mutant("papers/one-layer-too-few", VARIANTS, "[hidden] * (depth - 1)", "[hidden] * (depth - 2)", SPECS),
    Mutant(
        "papers/deep-drtp-with-relu",
        VARIANTS,
        "deep + run.model.removeprefix(sizes)",
        "deep + COLUMNS[self.column].model().removeprefix(sizes)",
        SPECS,
    ),
    Mutant("papers/shares-every-rule", EXPERIMENTS, 'and row.get("rule") in rules', "", SPECS),
    Mutant("papers/a-number-mistyped", PUBLISHED, "value = 56.33", "value = 56.35", SPECS),
)
