"""Sabotages of the fair comparisons, of studies in two stages, and of the search."""

from tests.mutants import Mutant

CONDITIONS, STUDIES = "src/equipoise/papers/fair/conditions.py", "src/equipoise/papers/fair/studies.py"
FIGURES, COLUMNS = "src/equipoise/papers/fair/figures.py", "src/equipoise/papers/fair/columns.py"
SEARCH, STAGES, PROPOSALS = (
    "src/equipoise/sweep/search.py",
    "src/equipoise/sweep/stages.py",
    "src/equipoise/sweep/proposals.py",
)
COST = "src/equipoise/measure/cost.py"
SPECS = ("tests/papers/test_fair_specs.py",)
SEARCHED = ("tests/reliability/test_search.py",)

MUTANTS = (
    Mutant("fair/tuning-sees-the-test-set", STUDIES, "test_limit=1,", "test_limit=self.scale.test_limit,", SPECS),
    Mutant(
        "fair/test-set-chooses", STUDIES, 'metrics.get("validation_accuracy")', 'metrics.get("test_accuracy")', SPECS
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
    Mutant("fair/diverged-runs-again", STAGES, " if known[run.hash] is None]", "]", SEARCHED),
    Mutant("search/the-worst-wins", SEARCH, "scores.index(max(scores))", "scores.index(min(scores))", SEARCHED),
    Mutant(
        "search/test-set-chooses",
        SEARCH,
        'metrics.get("validation_accuracy")',
        'metrics.get("test_accuracy")',
        SEARCHED,
    ),
    Mutant(
        "search/winner-is-a-trial", SEARCH, "return with_setting(self.method, ", "return trial(self.method, ", SEARCHED
    ),
    Mutant("search/options-of-another-optimiser", SEARCH, "if name != run.optimizer:", "if not name:", SEARCHED),
    Mutant("search/proposals-without-a-seed", PROPOSALS, "seed=seed % 2**32", "seed=None", SEARCHED),
)
