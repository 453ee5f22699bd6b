"""Sabotages of the fair comparisons, of studies in two stages, and of the search."""

from tests.mutants import Mutant

CONDITIONS, STUDIES = "src/equipoise/papers/fair/conditions.py", "src/equipoise/papers/fair/studies.py"
FIGURES, COLUMNS = "src/equipoise/papers/fair/figures.py", "src/equipoise/papers/fair/columns.py"
SEARCH, VALUE, PROPOSALS = (
    "src/equipoise/sweep/search.py",
    "src/equipoise/sweep/value.py",
    "src/equipoise/sweep/proposals.py",
)
SUMMARY = "src/equipoise/train/summary.py"
LINES, STAGES = "src/equipoise/papers/fair/lines.py", "src/equipoise/cli/stages.py"
COST = "src/equipoise/measure/cost.py"
SPECS = ("tests/papers/test_fair_specs.py",)
GLANCE = (
    "tests/papers/test_fair_specs.py::test_a_glance_has_every_rule_at_every_network_and_every_circuit_under_every_rule",
)
NAMED = ("tests/papers/test_fair_lines.py::test_a_changed_tuning_has_another_name",)
SEARCHED = ("tests/reliability/test_search.py",)
TOLD = ("tests/papers/test_fair_lines.py",)

MUTANTS = (
    Mutant("fair/tuning-sees-the-test-set", STUDIES, "test_limit=1,", "test_limit=self.scale.test_limit,", SPECS),
    Mutant(
        "fair/test-set-chooses", STUDIES, "return summary.held_out", 'return summary.metrics["test_accuracy"]', SPECS
    ),
    Mutant("fair/highest-of-equals", STUDIES, "-pair[0].rate)", "pair[0].rate)", SPECS),
    Mutant("fair/draws-anywhere", CONDITIONS, ".at((k + u) / count)", ".at(u)", SPECS),
    Mutant("fair/a-hole-for-a-refusal", CONDITIONS, '    ("bn", "pepita"): _NORM,\n', "", SPECS),
    Mutant(
        "fair/circuits-read-as-networks", CONDITIONS, 'startswith("fair/circuits")', 'startswith("circuits")', SPECS
    ),
    Mutant(
        "fair/what-diverged-is-perfect", FIGURES, "return CHANCE if value is None", "return 1.0 if value is None", SPECS
    ),
    Mutant("fair/share-of-the-best-epoch", COLUMNS, "share * curve[-1]", "share * max(curve)", SPECS),
    Mutant(
        "fair/curve-of-the-test-set", COLUMNS, 'float(one["validation_accuracy"])', 'float(one["test_accuracy"])', SPECS
    ),
    Mutant("fair/upkeep-is-free", COST, "                one.maintain()\n", "                pass\n", SPECS),
    Mutant("fair/two-budgets-in-one-mean", LINES, "specs = (_budget(row, cell),", "specs = ((),", TOLD),
    Mutant("fair/two-rates-in-one-mean", LINES, '{"optimizer", "optimizer_options", "lr"}', "()", TOLD),
    Mutant("fair/baseline-of-another-budget", LINES, "== (wanted, line.budget)", "== (wanted, one.budget)", TOLD),
    Mutant(
        "fair/half-the-tuning-keeps-its-name",
        STAGES,
        "tried[1].get(line) != hashes",
        "not tried[1].get(line, set()) >= hashes",
        TOLD,
    ),
    Mutant("search/the-worst-wins", SEARCH, "scores.index(max(scores))", "scores.index(min(scores))", SEARCHED),
    Mutant(
        "search/test-set-chooses",
        SEARCH,
        "return summary.held_out",
        'return summary.metrics["test_accuracy"]',
        SEARCHED,
    ),
    Mutant("fair/the-diverged-score", SUMMARY, 'if self.status == "finished" else 0.0', "", SPECS),
    Mutant("search/winner-is-a-trial", SEARCH, "return changed(self.method, ", "return trial(self.method, ", SEARCHED),
    Mutant(
        "search/options-of-another-optimiser",
        VALUE,
        'if setting.get("optimizer", run.optimizer) != run.optimizer:',
        "if False:",
        SEARCHED,
    ),
    Mutant("search/luck-is-kept", SEARCH, "run.seed + SEED}", "run.seed}", SEARCHED),
    Mutant(
        "search/methods-without-the-option",
        "src/equipoise/cli/search.py",
        "    check_names([trial(",
        "    list([trial(",
        SEARCHED,
    ),
    Mutant("search/proposals-without-a-seed", PROPOSALS, "seed=seed % 2**32", "seed=None", SEARCHED),
    Mutant("fair/other-lines-other-budget", "src/equipoise/cli/run.py", "over(study)", "like", NAMED),
    Mutant("fair/glance-mixes-networks", FIGURES, 'f"{data}, {column}"', "column", GLANCE),
    Mutant("fair/glance-turned", FIGURES, "(place, label) if circuits else (label, place)", "(place, label)", GLANCE),
)
