"""Sabotages of the measures: of another layer, batch or step, in another unit, or with a trace left behind."""

from tests.mutants import Mutant

CATALOGUE, ACTIVITY = "src/equipoise/measure/catalogue.py", "src/equipoise/measure/activity.py"
WATCHING, EMBEDDING = "src/equipoise/measure/watching.py", "src/equipoise/measure/embedding.py"
STUDENT, WEIGHTS = "src/equipoise/measure/student_t.py", "src/equipoise/measure/weights.py"
SLOWNESS = "src/equipoise/measure/slowness.py"

MEASURES = ("tests/identity/test_measures.py",)
WATCHED = ("tests/invariants/test_watching.py",)
FITS = ("tests/identity/test_weight_fits.py",)
SCIPY = ("tests/reference/test_weights_scipy.py",)
CURVES = ("tests/identity/test_slowness.py",)
PICTURES = ("tests/identity/test_embedding.py",)
REFUSED = ("tests/reliability/test_measure_input.py",)

MUTANTS = (
    Mutant("measure/product-not-transposed", CATALOGUE, "angle(total.T, f)", "angle(total, f)", MEASURES),
    Mutant("measure/product-of-all-layers", CATALOGUE, "layers[layers.index(entrance) :]", "layers", MEASURES),
    Mutant(
        "measure/trace-of-the-sizes",
        CATALOGUE,
        "(total.T * f.detach().double()).sum()",
        "(total.T * f.detach().double()).abs().sum()",
        MEASURES,
    ),
    Mutant("measure/silent-once-is-dead", ACTIVITY, "~positive.any(1)", "~positive.all(1)", MEASURES),
    Mutant("measure/unit-is-a-column", ACTIVITY, "axis=1 if channels else -1", "axis=-1", MEASURES),
    Mutant(
        "measure/first-nonlinearity-only",
        ACTIVITY,
        "self.heard[self._label] =",
        "self.heard.setdefault(self._label, (0, 0)); _ =",
        MEASURES,
    ),
    Mutant(
        "measure/activity-in-training", ACTIVITY, "        model.eval()\n        model(x)", "        model(x)", MEASURES
    ),
    Mutant("measure/buffers-not-given-back", ACTIVITY, "module._buffers[name] = buffer\n", "pass\n", MEASURES),
    Mutant("measure/flags-not-given-back", ACTIVITY, "module.training = training", "pass", MEASURES),
    Mutant(
        "measure/global-numbers-used-up", ACTIVITY, "with torch.random.fork_rng(devices=devices):", "if True:", WATCHED
    ),
    Mutant(
        "measure/watch-a-step-late",
        WATCHING,
        "self.step % self.every == 0",
        "(self.step + 1) % self.every == 0",
        WATCHED,
    ),
    Mutant("measure/watch-keeps-the-graph", WATCHING, "step.loss.detach()", "step.loss", WATCHED),
    Mutant("measure/watch-has-no-end", WATCHING, "self.rule.callbacks.remove(self._hear)", "pass", WATCHED),
    Mutant("measure/watch-ignores-its-batch", WATCHING, "self.batch or (x, y)", "(x, y)", WATCHED),
    Mutant("measure/masks-of-step-zero", WATCHING, "measure.name, self.step, device", "measure.name, device", WATCHED),
    Mutant("measure/t-wrong-curvature", STUDENT, "1 - 3 * p + 2 * pp", "1 - 3 * p + pp", FITS),
    Mutant("measure/t-from-one-start", STUDENT, "    if quartile:\n", "    if False:\n", FITS),
    Mutant("measure/t-at-the-cap-is-no-normal", STUDENT, "at.log_freedom < math.log(MOST_FREEDOM)\n", "True\n", FITS),
    Mutant("measure/t-scale-of-the-unit", STUDENT, "unit * math.exp(best.log_scale)", "math.exp(best.log_scale)", FITS),
    Mutant("measure/spikes-are-fitted", STUDENT, "return not spiked and", "return", REFUSED),
    Mutant("measure/lognormal-without-jacobian", WEIGHTS, "-z.square() / 2 - logs - ", "-z.square() / 2 - ", SCIPY),
    Mutant("measure/zero-has-a-logarithm", WEIGHTS, "w[w != 0].abs()", "w.abs()", FITS),
    Mutant(
        "measure/kurtosis-of-the-normal-is-three",
        WEIGHTS,
        "float(w.pow(4).mean()) - 3",
        "float(w.pow(4).mean())",
        SCIPY,
    ),
    Mutant("measure/gain-in-units-of-aic", WEIGHTS, "/ (2 * first.count)", "/ first.count", FITS),
    Mutant(
        "measure/zero-is-positive",
        WEIGHTS,
        "(_values(weights, fewest=1) > 0)",
        "(_values(weights, fewest=1) >= 0)",
        FITS,
    ),
    Mutant("measure/fits-of-other-weights-compared", WEIGHTS, "(fit.of, fit.count) for", "fit.count for", REFUSED),
    Mutant("measure/slowness-of-all-epochs", SLOWNESS, "y = y[:epochs]", "y = y[:]", CURVES),
    Mutant(
        "measure/slowness-first-epoch-at-zero",
        SLOWNESS,
        "np.arange(1.0, len(y) + 1)",
        "np.arange(len(y)) + 1e-3",
        CURVES,
    ),
    Mutant("measure/maximum-never-free", SLOWNESS, "if not free_maximum:", "if True:", CURVES),
    Mutant("measure/curve-of-a-rising-line", SLOWNESS, "if k == len(GRID) - 1:", "if False:", REFUSED),
    Mutant(
        "measure/own-neighbour", EMBEDDING, "distances[torch.arange(len(index)), index] = torch.inf", "pass", PICTURES
    ),
    Mutant(
        "measure/activity-before-the-tail",
        EMBEDDING,
        "if not isinstance(chain._modules[following], TAIL):",
        "if True:",
        PICTURES,
    ),
    Mutant("measure/activity-changed-in-place", EMBEDDING, "output.clone() if", "output if", PICTURES),
)
