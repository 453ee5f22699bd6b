"""Sabotages of inhibitory normalisation: moments, the error's edits, pools, both objectives, Dale's law."""

from tests.mutants import Mutant

MOMENTS, GRADNORM = "src/equipoise/functional/moments.py", "src/equipoise/functional/gradnorm.py"
INHIBITION, STEP = "src/equipoise/functional/inhibition.py", "src/equipoise/functional/inorm_step.py"
CIRCUIT, INORM = "src/equipoise/nn/circuit.py", "src/equipoise/nn/inorm.py"
DANN, LATERAL, ONOFF = "src/equipoise/nn/dann.py", "src/equipoise/nn/lateral.py", "src/equipoise/nn/onoff.py"
CONSTRAINTS, BASE = "src/equipoise/nn/constraints.py", "src/equipoise/rules/base.py"
BACKPROP = "src/equipoise/rules/backprop.py"

IDENTITY = ("tests/identity/test_inorm.py", "tests/identity/test_inorm_parts.py")
OBJECTIVES = ("tests/identity/test_inorm_objectives.py",)
BY_HAND = ("tests/identity/test_circuits_by_hand.py",)
INVARIANTS = ("tests/invariants/test_inorm.py",)
TRANSFORMS = ("tests/transforms/test_inorm.py",)
INPUT = ("tests/reliability/test_inorm_input.py",)

MUTANTS = (
    Mutant(
        "inorm/mean-over-padding",
        MOMENTS,
        "return z.sum(dim, keepdim=keepdim) / count",
        "return z.mean(dim, keepdim=keepdim)",
        TRANSFORMS,
    ),
    Mutant(
        "inorm/forward-only-edits-the-error",
        MOMENTS,
        "return straight(n, z) if forward else straight(z, n)",
        "return n if forward else straight(z, n)",
        IDENTITY,
    ),
    Mutant("inorm/decorrelate-forgets-scale", GRADNORM, "hat = around * inverse", "hat = around", IDENTITY),
    Mutant("inorm/scale-squared", GRADNORM, "e = e * inverse", "e = e * inverse.square()", IDENTITY),
    Mutant(
        "inorm/edits-survive-the-exact-reference",
        GRADNORM,
        "if not modes or not backward_edits():",
        "if not modes:",
        OBJECTIVES,
    ),
    Mutant(
        "inorm/square-missing",
        INHIBITION,
        "drive = drive if literal else drive.square()",
        "drive = drive.abs()",
        IDENTITY,
    ),
    Mutant("inorm/local-loss-reaches-excitation", INHIBITION, "wide(e.detach())", "wide(e)", IDENTITY),
    Mutant("inorm/variance-target-0", INHIBITION, "(second - 1).square()", "second.square()", IDENTITY),
    Mutant(
        "inorm/straight-through-is-exact",
        INHIBITION,
        "return straight(apart / d, apart)",
        "return apart / d",
        IDENTITY,
    ),
    Mutant("inorm/step-loses-the-mean", STEP, "torch.addcmul(factor * total,", "torch.addcmul(0 * total,", OBJECTIVES),
    Mutant(
        "inorm/step-loses-the-division", STEP, "return g if straight else g *", "return g if True else g *", BY_HAND
    ),
    Mutant("inorm/step-centres-twice-as-much", STEP, "g.sum(0), alpha=1 /", "g.sum(0), alpha=2 /", BY_HAND),
    Mutant(
        "inorm/step-mixes-up-the-pools",
        STEP,
        "torch.cat([de, w_ei.t() @ to_s,",
        "torch.cat([de, w_ei.t() @ de,",
        BY_HAND,
    ),
    Mutant(
        "inorm/by-hand-sends-the-error-through-excitation-alone",
        "src/equipoise/nn/dale.py",
        "torch.addmm(self.weight_ee.t() @ g, self.weight_ie.t(), inhibited).t()",
        "(self.weight_ee.t() @ g).t()",
        BY_HAND,
    ),
    Mutant("inorm/by-hand-despite-hooks", BACKPROP, "or not unwatched(self.model, x)", "or False", BY_HAND),
    Mutant("inorm/by-hand-forgets-the-local-losses", BASE, "dict(*done[2:])", "{}", BY_HAND),
    Mutant("inorm/pool-rounds-up", CIRCUIT, "math.floor(ratio * units + 1e-9)", "math.ceil(ratio * units)", INVARIANTS),
    Mutant("inorm/negative-rates-pass", CIRCUIT, "if self.dale and bool((batch < 0)", "if bool((batch > 9)", INPUT),
    Mutant(
        "inorm/inhibition-keeps-the-activity-below",
        INORM,
        "h.detach() if edits and pathway in self.detach else h",
        "h if pathway in self.detach else h.detach()",
        IDENTITY + OBJECTIVES,
    ),
    Mutant(
        "inorm/the-task-trains-frozen-inhibition",
        INORM,
        "return weight.detach() if frozen and pathway not in self.task_trains else weight",
        "return weight",
        OBJECTIVES,
    ),
    Mutant(
        "inorm/row-of-sums",
        INORM,
        "row, spread = ideal(self.weight_ee)",
        "spread, row = self.weight_ee, self.weight_ee.sum(0)",
        IDENTITY,
    ),
    Mutant(
        "inorm/dann-factors-swapped",
        DANN,
        '"weight_ie": units**-0.5, "weight_ei": 1 / fan_in',
        '"weight_ei": units**-0.5, "weight_ie": 1 / fan_in',
        OBJECTIVES,
    ),
    Mutant(
        "inorm/dann-alpha-not-exponentiated",
        DANN,
        "self._by_unit(self.alpha.exp())",
        "self._by_unit(self.alpha)",
        OBJECTIVES,
    ),
    Mutant(
        "inorm/pools-are-not-normalised",
        LATERAL,
        "omega.sum(1, keepdim=True)).mean(0)",
        "omega.sum(1, keepdim=True)).sum(0)",
        IDENTITY,
    ),
    Mutant("inorm/off-cells-are-on", ONOFF, "(-above).relu()", "above.relu()", IDENTITY),
    Mutant(
        "inorm/clamp-skipped",
        CONSTRAINTS,
        "torch._foreach_clamp_min_(positive, 0)",
        "torch._foreach_clamp_min_(positive, -9)",
        INVARIANTS,
    ),
    Mutant("inorm/shared-loss-dropped", BASE, "values = [*listener.losses, *(", "values = [*(", OBJECTIVES),
)
