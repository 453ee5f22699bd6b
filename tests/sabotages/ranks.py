"""Sabotages of a run on several devices: what each rank takes, draws and counts, and what they agree on."""

from tests.mutants import Mutant

RANKS, JOINT = "src/equipoise/train/ranks.py", "src/equipoise/train/joint.py"
SYNC, LOOP = "src/equipoise/rules/sync.py", "src/equipoise/train/loop.py"
FILE = "tests/transforms/test_train_ranks.py"
SAME = f"{FILE}::test_two_ranks_train_the_same_run"

MUTANTS = (
    Mutant(
        "ranks/rows-left-out",
        RANKS,
        "(self.rank + 1) * count // self.size)",
        "self.rank * count // self.size + count // self.size)",
        (f"{FILE}::test_parts_of_a_batch_follow_one_another",),
    ),
    Mutant(
        "ranks/noise-of-the-first-rows",
        SYNC,
        "t.unflatten(0, (-1, part.whole))[:, rows]",
        "t.unflatten(0, (-1, part.whole))[:, : len(x)]",
        (f"{FILE}::test_a_part_draws_its_share_of_the_joint_noise",),
    ),
    Mutant(
        "ranks/noise-of-the-batch-is-parted",
        "src/equipoise/rules/symmetric.py",
        'of_the_batch = ("magnitude/",)',
        'of_the_batch = ("none/",)',
        (f"{SAME}[brsf]",),
    ),
    Mutant(
        "ranks/errors-of-own-means",
        SYNC,
        "own * (len(rows) / whole)",
        "own",
        (f"{FILE}::test_a_few_rows_of_parts_are_those_of_the_batch",),
    ),
    Mutant(
        "ranks/inverses-by-own-errors",
        "src/equipoise/rules/inverses.py",
        "dict(zip(self.turns, sum_over_ranks(own), strict=True))",
        "dict(zip(self.turns, own, strict=True))",
        (f"{SAME}[gait]",),
    ),
    Mutant(
        "ranks/own-batch-statistics",
        RANKS,
        "if normalisations(rule.model) else",
        "if not normalisations(rule.model) else",
        (f"{SAME}[normalised]",),
    ),
    Mutant(
        "ranks/biased-running-variance",
        JOINT,
        "variance * (count / (count - 1))",
        "variance",
        (f"{FILE}::test_joint_statistics_of_one_rank_are_torchs",),
    ),
    Mutant("ranks/unweighted-way-back", JOINT, "total = g * ctx.count", "total = g * 3", (f"{SAME}[normalised]",)),
    Mutant(
        "ranks/counts-its-own-part",
        "src/equipoise/train/totals.py",
        "self._loss.add_(total)",
        "self._loss.add_(part._loss)",
        (f"{SAME}[bp]",),
    ),
    Mutant(
        "ranks/trains-on-the-first-rows",
        LOOP,
        "x, y = x[mine], y[mine] if follow else y",
        "x, y = x[: mine.stop - mine.start], y[mine] if follow else y",
        (f"{SAME}[augmented]",),
    ),
    Mutant(
        "ranks/all-must-want-to-stop",
        RANKS,
        "dist.ReduceOp.MAX",
        "dist.ReduceOp.MIN",
        (f"{FILE}::test_a_run_goes_on_with_another_number_of_ranks",),
    ),
    Mutant(
        "ranks/shares-what-cannot-be-shared",
        JOINT,
        "<= _CLOSE * g.norm()",
        "<= 1e3 * g.norm()",
        (f"{FILE}::test_a_model_that_looks_at_its_batch_is_refused",),
    ),
)
