"""Sabotages of PEPITA, DRTP, sign symmetry, and of the chains that are written out by hand."""

from tests.mutants import Mutant

PEPITA, PASSES = "src/equipoise/rules/pepita.py", "src/equipoise/rules/passes.py"
LINKS, DESCENT = "src/equipoise/rules/links.py", "src/equipoise/rules/descent.py"
DIRECT, SIGNS = "src/equipoise/rules/direct.py", "src/equipoise/rules/symmetric.py"
POOLING, BASE, SYNC = (
    "src/equipoise/functional/pooling.py",
    "src/equipoise/rules/base.py",
    "src/equipoise/rules/sync.py",
)
HELD, SETTLING = "src/equipoise/rules/held.py", "src/equipoise/rules/settling.py"

PASSES_TEST = ("tests/identity/test_pepita.py",)
OPTIONS = ("tests/identity/test_pepita_options.py",)
CENTRED = ("tests/identity/test_centred_errors.py",)
HAND = ("tests/identity/test_drtp_and_signs.py",)
FUNC = ("tests/transforms/test_pepita_func.py",)
REFUSED = ("tests/reliability/test_pepita_refuse.py",)

MUTANTS = (
    Mutant("pepita/sign-ignored", PEPITA, "shown if self.options.sign == 1 else -shown", "shown", PASSES_TEST),
    Mutant(
        "pepita/error-is-a-mean",
        PEPITA,
        "error = self.loss.error(precise, y) * batch\n        shown",
        "error = self.loss.error(precise, y)\n        shown",
        PASSES_TEST,
    ),
    Mutant(
        "pepita/presynaptic-swapped",
        PASSES,
        "self.below = (units if self.plainly else modulated)",
        "self.below = (modulated if self.plainly else units)",
        PASSES_TEST,
    ),
    Mutant(
        "pepita/pooled-difference-reversed",
        PASSES,
        "return (low - high).to(kind) * scale if scale != 1 else (low - high).to(kind)",
        "return (high - low).to(kind)",
        PASSES_TEST,
    ),
    Mutant("pepita/scale-not-undone", PASSES, "weight, -1 / scale)", "weight, -1)", PASSES_TEST),
    Mutant("pepita/positions-not-counted", PASSES, "math.prod(post.shape[2:])", "1", PASSES_TEST),
    Mutant("pepita/kernel-rate-ignored", PASSES, "self.chosen.kernel_rate / (batch", "1 / (batch", OPTIONS),
    Mutant(
        "pepita/released-mask-once",
        PASSES,
        'if self.chosen.variant == "released" and not self.kernels:',
        "if False:",
        OPTIONS,
    ),
    Mutant(
        "pepita/centred-over-the-batch", PASSES, "centred(h, dim=-1 if link.dense else 1)", "centred(h, dim=0)", CENTRED
    ),
    Mutant("pepita/centred-over-columns", PASSES, "dim=-1 if link.dense else 1)", "dim=-1)", CENTRED),
    Mutant("pepita/never-centred", PASSES, 'self.chosen.center == "none"', "True", CENTRED),
    Mutant("pepita/normalised-apart", SETTLING, "x = _up_to_activation(before, after, x)", "pass", CENTRED),
    Mutant("pepita/any-mixing-passes", SETTLING, "and not _alike(part, x)", "and False", REFUSED),
    Mutant("pepita/alike-by-cycles-alone", SETTLING, "(units.roll(1), exchanged)", "(units.roll(1),)", REFUSED),
    Mutant("pepita/alike-by-one-exchange", SETTLING, "(units.roll(1), exchanged)", "(exchanged,)", REFUSED),
    Mutant(
        "pepita/released-kernels-forward",
        PASSES,
        "(-1 / batch if released else 1.0)",
        "(1 / batch if released else 1.0)",
        OPTIONS,
    ),
    Mutant("pepita/inject-ignored", PEPITA, "self.entry = hidden.index(entry)", "self.entry = 0", OPTIONS),
    Mutant(
        "pepita/during-waits",
        PEPITA,
        'self.immediate = self.options.update == "during"',
        "self.immediate = False",
        OPTIONS,
    ),
    Mutant(
        "pepita/half-is-not-widened",
        PASSES,
        "sums.float() + change.float() if sums.dtype in _HALF else sums + change",
        "sums + change",
        FUNC,
    ),
    Mutant("pepita/own-noise-goes-through", SETTLING, "if not torch.equal(once, again):", "if False:", REFUSED),
    Mutant("pepita/f-of-any-shape", HELD, "if present != needed:", "if False:", REFUSED),
    Mutant("pepita/stale-masks", HELD, "rates.get(part.number, now) != now", "False", REFUSED),
    Mutant("pepita/pool-drops-a-column", POOLING, "for k in range(width)", "for k in range(width - 1)", PASSES_TEST),
    Mutant("pepita/padding-forgotten", LINKS, "return F.pad(x, sides, mode), (0,)", "return x, (0,)", OPTIONS),
    Mutant("drtp/hears-the-error", DIRECT, "return one_hot(y, error) * (", "return error * (", HAND),
    Mutant(
        "drtp/sum-over-the-batch",
        DIRECT,
        "(self.options.hidden_scale / error.shape[0])",
        "self.options.hidden_scale",
        HAND,
    ),
    Mutant("pepita/activation-behind-the-sums", SETTLING, "or _unitwise(before[0], x)", "", OPTIONS),
    Mutant("pepita/in-place-parts-overwrite", LINKS, "if (foreign or getattr", "if (getattr", OPTIONS),
    Mutant("hand/units-first-without-bias", LINKS, "torch.addmm(bias[:, None], weight, x.T)", "weight @ x.T", HAND),
    Mutant("hand/hooks-keep-what-changes", SYNC, "else changed).clone()", "else changed)", REFUSED),
    Mutant("signs/none", SIGNS, "tensors[n].detach().sign()", "tensors[n].detach().sign().abs()", HAND),
    Mutant(
        "signs/batch-sizes-kept",
        SIGNS,
        "fan_in=like.shape[1:].numel(), generator=source)",
        "fan_in=like.shape[1:].numel(), generator=torch.Generator().manual_seed(0))",
        HAND,
    ),
    Mutant("hand/derivative-lost", DESCENT, "g = _down(part, g, activity, noise)", "pass", HAND),
    Mutant("hand/hooks-unheard", DESCENT, "return not any(", "return True or any(", HAND),
    Mutant(
        "hand/gradient-hooks-unheard",
        SYNC,
        "gradient = (gradient if changed is None else changed).clone()",
        "pass",
        HAND,
    ),
)
