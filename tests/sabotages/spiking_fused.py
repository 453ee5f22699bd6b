"""Sabotages of the short cuts of a chain over time: a layer and its cells in one node, pictures computed once."""

from tests.mutants import Mutant

NODE, CHAIN = "src/equipoise/functional/ei_sequence.py", "src/equipoise/nn/chain.py"
FILE = "tests/identity/test_spiking_fused.py"
ONE = (f"{FILE}::test_one_node_equals_single_operations_and_a_loop",)
SILENT = (f"{FILE}::test_silent_rows_give_the_bias_and_finite_gradients",)
MODULES, HOOKS = (
    (f"{FILE}::test_a_chain_equals_its_modules_one_by_one",),
    (f"{FILE}::test_a_hook_anywhere_sees_all_rows_and_changes_nothing",),
)

MUTANTS = (
    Mutant("fused/least-of-all-steps", NODE, ".amin((2, 3), keepdim=True)", ".amin((1, 2, 3), keepdim=True)", ONE),
    Mutant("fused/tie-stays-silent", NODE, "torch.ge(now, self.theta", "torch.gt(now, self.theta", SILENT),
    Mutant("fused/resets-by-one", NODE, "s[:, t - 1], alpha=self.theta)", "s[:, t - 1], alpha=1.0)", ONE),
    Mutant(
        "fused/error-does-not-leak",
        NODE,
        "delta[:, t].add_(delta[:, t + 1], alpha=self.leak)",
        "delta[:, t].add_(delta[:, t + 1])",
        ONE,
    ),
    Mutant("fused/error-survives-a-hard-reset", NODE, "stays = (u < 0)", "stays = (u >= 0)", ONE),
    Mutant("fused/error-passes-the-rectifier", NODE, "torch.ops.aten.threshold_backward(dr, r, 0)", "dr", ONE),
    Mutant(
        "fused/error-without-the-pools-gain", NODE, "rows.add(dr, divide.t(), dd", "rows.add(dr, weight.t(), dd", ONE
    ),
    Mutant(
        "fused/division-teaches-no-weight",
        NODE,
        "(to_subtract, to_divide, gain_i)",
        "(to_subtract, to_divide, 0 * gain_i)",
        ONE,
    ),
    Mutant("fused/gain-without-its-weight", NODE, "(to_divide * weight).sum(0)", "to_divide.sum(0)", ONE),
    Mutant("fused/mean-over-steps", NODE, "delta.sum(1, keepdim=True)", "delta.mean(1, keepdim=True)", ONE),
    Mutant(
        "fused/variance-of-fewer-values",
        CHAIN,
        "(steps * (values - 1) / (steps * values - 1))",
        "1.0",
        (f"{MODULES[0]}[twin]",),
    ),
    Mutant(
        "fused/same-units-fall-out-at-every-step",
        CHAIN,
        "return not (module.training and module.p)",
        "return True",
        (f"{MODULES[0]}[mixed]",),
    ),
    Mutant("fused/hooks-are-passed-over", CHAIN, "unwatched(part) and unwatched(behind)", "True", HOOKS),
)
