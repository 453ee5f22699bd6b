"""Sabotages that make ours the source's version, or accuse it of another one than docs/errata.md says."""

from tests.mutants import Mutant

PEPITA, PASSES = "src/equipoise/rules/pepita.py", "src/equipoise/rules/passes.py"
LINKS, DIRECT = "src/equipoise/rules/links.py", "src/equipoise/rules/direct.py"
DRAWS, SPLITS = "src/equipoise/functional/draws.py", "src/equipoise/data/splits.py"
OPTIMISERS, DEMO = "src/equipoise/train/optimisers.py", "src/equipoise/cli/demo.py"

SHARED = ("tests/reference/test_errata.py",)
CODE = ("tests/reference/test_errata_pepita.py",)
PAPER = ("tests/reference/test_errata_pepita_paper.py",)
SAID = ("tests/reliability/test_command_line.py",)

MUTANTS = (
    Mutant("errata/f6-target-turned", DIRECT, "return one_hot(y, error) * (", "return -one_hot(y, error) * (", SHARED),
    Mutant("errata/p1-released-is-the-papers", PEPITA, 'kernels else "modulated")', 'kernels else "standard")', CODE),
    Mutant("errata/p1-kernels-as-dense", PEPITA, '"standard" if kernels else', '"modulated" if kernels else', CODE),
    Mutant("errata/p2-kernels-not-turned", PASSES, "(-1 / batch if released", "(1 / batch if released", CODE),
    Mutant("errata/p3-divided-once", PASSES, "(-1 / batch if released", "(-1.0 if released", CODE),
    Mutant("errata/p6-same-order-in-every-epoch", SPLITS, '"order", n, epoch)', '"order", n)', CODE),
    Mutant("errata/p6-same-order-for-every-seed", SPLITS, 'generator(seed, "order"', 'generator(0, "order"', CODE),
    Mutant(
        "errata/p8-an-optimiser-that-does-nothing",
        OPTIMISERS,
        "return cls(groups, lr=lr, **options)",
        "return cls(groups, lr=lr if cls.__name__ in ('SGD', 'NAG') else 0.0, **options)",
        CODE,
    ),
    Mutant("errata/p9-softmax-at-the-end", LINKS, "    if before or links[-1].after:\n", "    if False:\n", CODE),
    Mutant("errata/p11-bound-is-the-deviation", DRAWS, "_uniform(shape, (6 / n)", "_uniform(shape, (18 / n)", PAPER),
    Mutant("errata/p12-conv-norm-ignored", PASSES, '"none": 1.0}', '"none": positions}', PAPER),
    Mutant("errata/p15-k-ignored", PEPITA, 'noise["perturbation"] * self.options.k', 'noise["perturbation"]', PAPER),
    Mutant("errata/p15-one-range-for-both", PEPITA, "else 2 * r - 1", "else r", PAPER),
    Mutant("errata/p16-hebbian-alone", PASSES, "(first - second) * scale", "first * scale", PAPER),
    Mutant("cli/demo-chains-on-a-residual-net", DEMO, " and not rules.registry[n].forward_only", "", SAID),
    Mutant("cli/demo-mean-of-nothing", DEMO, "            if not mine:\n", "            if False:\n", SAID),
)
