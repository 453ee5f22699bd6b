"""Sabotages of the rules: which error enters where, through which matrix, and what is left alone."""

from tests.mutants import Mutant

FEEDBACK, LOSSES = "src/equipoise/functional/feedback.py", "src/equipoise/functional/losses.py"
DRAWS = "src/equipoise/functional/draws.py"
BASE, DIRECT = "src/equipoise/rules/base.py", "src/equipoise/rules/direct.py"
HELD = "src/equipoise/rules/held.py"
ALIGNMENT, OPERATIONS = "src/equipoise/rules/alignment.py", "src/equipoise/rules/operations.py"
SLOTS, SURVEY = "src/equipoise/rules/slots.py", "src/equipoise/rules/survey.py"
INSPECTOR, ORIGINS = "src/equipoise/rules/inspector.py", "src/equipoise/rules/origins.py"
SYNC, TAPE = "src/equipoise/rules/sync.py", "src/equipoise/rules/tape.py"
ANGLES = "src/equipoise/measure/alignment.py"

IDENTITY = ("tests/identity/test_rules.py", "tests/identity/test_rules_parts.py")
PATHS = ("tests/identity/test_feedback_paths.py",)
LAWS = ("tests/invariants/test_draws.py",)
DEGREES = ("tests/identity/test_alignment.py",)
FUNC = ("tests/transforms/test_rules_func.py",)
RANKS = ("tests/transforms/test_rules_ranks.py",)
REFUSALS = ("tests/reliability/test_rules_refuse.py",)
TRANSPORT = ("tests/reliability/test_rules_transport.py",)
EDGES = ("tests/identity/test_rules_edges.py",)

MUTANTS = (
    Mutant(
        "rules/fa-is-backprop",
        FEEDBACK,
        "ctx.save_for_backward(x, feedback)",
        "ctx.save_for_backward(x, weight)",
        IDENTITY,
    ),
    Mutant("rules/fa-loses-bias-gradient", FEEDBACK, "db = rows.sum(0)", "db = rows.mean(0)", IDENTITY),
    Mutant(
        "rules/fa-conv-is-backprop", FEEDBACK, "through = feedback.to(dtype)", "through = weight.to(dtype)", IDENTITY
    ),
    Mutant(
        "rules/fa-conv-no-bias",
        FEEDBACK,
        "wanted = (False, needs_w, needs_b)",
        "wanted = (False, needs_w, False)",
        IDENTITY,
    ),
    Mutant(
        "rules/dfa-error-transposed-time",
        FEEDBACK,
        "delta.repeat(times, 1)",
        "delta.repeat_interleave(times, 0)",
        IDENTITY,
    ),
    Mutant("rules/dfa-sign-lost", DIRECT, "sent = error.sign() / error.shape[0] if", "sent = error if", IDENTITY),
    Mutant("rules/dfa-sign-not-a-mean", DIRECT, "error.sign() / error.shape[0]", "error.sign()", IDENTITY),
    Mutant("rules/dfa-hidden-scale-ignored", DIRECT, "else sent * self.options.hidden_scale", "else sent", IDENTITY),
    Mutant(
        "rules/dfa-sites-reversed",
        DIRECT,
        "for n, h in zip(names, heard, strict=True)]",
        "for n, h in zip(names[::-1], heard, strict=True)]",
        IDENTITY,
    ),
    Mutant(
        "rules/shallow-is-backprop",
        DIRECT,
        "output, _ = self.cut_pass(x, tensors, noise)",
        "output = self.forward_pass(x, tensors, noise=noise)",
        IDENTITY,
    ),
    Mutant(
        "rules/early-skip-passes",
        DIRECT,
        "if gradient is not None:",
        "if gradient is not None and name is None:",
        REFUSALS,
    ),
    Mutant("rules/dfa-shared-layer-one-b", DIRECT, 'f"{owner}#{times + 1}"', "owner", IDENTITY),
    Mutant(
        "rules/fa-feeds-normalisation",
        ALIGNMENT,
        "left = self.slots.exact() | self.inner",
        "left = self.inner",
        PATHS,
    ),
    Mutant(
        "rules/fa-inside-always-random",
        ALIGNMENT,
        'if self.options.inside == "random" else',
        "if True else",
        IDENTITY,
    ),
    Mutant(
        "rules/seed-ignored", HELD, 'generator(self.seed, "feedback", name)', 'generator(0, "feedback", name)', IDENTITY
    ),
    Mutant(
        "rules/one-stream-for-all-layers",
        HELD,
        'generator(self.seed, "feedback", name)',
        'generator(self.seed, "feedback")',
        PATHS,
    ),
    Mutant("rules/scale-ignored", HELD, "generator=stream) * scale", "generator=stream)", IDENTITY),
    Mutant("rules/local-weight-ignored", BASE, "value * self.options.local_weight", "value * 1.0", IDENTITY),
    Mutant("rules/local-loss-reaches-below", BASE, "local_loss(caught.detach())", "local_loss(caught)", IDENTITY),
    Mutant("rules/dropout-inverted", HELD, ">= info.rate", "< info.rate", FUNC + IDENTITY),
    Mutant("rules/dropout-unscaled", TAPE, "/ (1 - rate if rate < 1 else 1))", ")", PATHS),
    Mutant("rules/pure-form-writes-buffers", BASE, "{n: t.clone() for n, t in buffers.items()}", "buffers", FUNC),
    Mutant(
        "rules/views-lose-feedback",
        TAPE,
        "feedback = function(feedback, *args[1:], **kwargs)",
        "feedback = None",
        PATHS,
    ),
    Mutant("rules/skip-keeps-its-path", TAPE, "self.twins.append((x, twin))", "pass", IDENTITY),
    Mutant(
        "rules/same-padding-lopsided",
        OPERATIONS,
        "for side in (t // 2, t - t // 2)",
        "for side in (t - t // 2, t // 2)",
        IDENTITY,
    ),
    Mutant("rules/weights-not-restored", SLOTS, "getattr(module, kind)[attribute] = tensor", "pass", IDENTITY + FUNC),
    Mutant("rules/listener-stays", SLOTS, "parent._modules[child] = listener.inner", "pass", IDENTITY),
    Mutant(
        "rules/softmax-not-a-mean",
        LOSSES,
        "* (counted / counted.sum())",
        "* counted",
        IDENTITY,
    ),
    Mutant("rules/mse-without-half", LOSSES, "/ (2 * output.shape[0])", "/ output.shape[0]", IDENTITY),
    Mutant("rules/law-variance", DRAWS, "(2 / n) ** 0.5", "(1 / n) ** 0.5", LAWS),
    Mutant("rules/law-bound", DRAWS, "(6 / n) ** 0.5", "(3 / n) ** 0.5", LAWS),
    Mutant(
        "rules/law-not-orthogonal",
        DRAWS,
        "(q if rows >= columns else q.T).reshape",
        "(gauss if rows >= columns else gauss.T).reshape",
        LAWS,
    ),
    Mutant("rules/ranks-unweighted", SYNC, "g.reshape(-1).to(wide) * count", "g.reshape(-1).to(wide)", RANKS),
    Mutant("rules/ranks-overwrite", SYNC, "parameter.grad.add_(gradient)", "gradient", RANKS),
    Mutant("rules/angle-zero-for-nothing", ANGLES, "return math.nan\n    u, v", "return 0.0\n    u, v", DEGREES),
    Mutant(
        "rules/angle-of-the-output-in-mean",
        ANGLES,
        "list(self.degrees.values())[:-1]",
        "list(self.degrees.values())",
        DEGREES,
    ),
    Mutant(
        "rules/exact-edits-kept",
        ANGLES,
        'exact_backward() if reference == "exact" else nullcontext()',
        "nullcontext()",
        DEGREES,
    ),
    Mutant("rules/changed-weight-passes", INSPECTOR, "raise self._changed(own[0], weight)", "pass", REFUSALS),
    Mutant("rules/other-products-pass", INSPECTOR, "self._judge(function, given)", "pass", TRANSPORT),
    Mutant("rules/own-functions-pass", INSPECTOR, "if weights and any(", "if not weights and any(", TRANSPORT),
    Mutant("rules/scripts-pass", INSPECTOR, "and name not in self.met", "and not self.met", TRANSPORT),
    Mutant(
        "rules/checkpoints-pass", INSPECTOR, "if weight is not None or function in DROPOUTS:", "if False:", TRANSPORT
    ),
    Mutant("rules/input-has-no-origin", ORIGINS, "self.leaves[id(x)] = _INPUT", "pass", TRANSPORT),
    Mutant("rules/time-is-the-batch", SURVEY, "rows * batches[1], others)", "other, rest)", EDGES),
    Mutant("rules/other-path-passes", TAPE, "entry.name != name)", "not name)", EDGES),
    Mutant("rules/angles-in-registered-order", ANGLES, "order.get(item[0], -1)", "0", EDGES),
    Mutant(
        "rules/partial-feedback-is-backprop",
        BASE,
        "{**self.feedback(), **(feedback or {})}",
        "feedback or self.feedback()",
        EDGES,
    ),
)
