"""Sabotages of runs: specs and hashes, the loop, checkpoints, files, locks, how a run ends."""

from tests.mutants import Mutant

TRAIN = "src/equipoise/train"
SPEC, CHECKS, LOOP = f"{TRAIN}/spec.py", f"{TRAIN}/checks.py", f"{TRAIN}/loop.py"
STATE, STORAGE, LOCK = f"{TRAIN}/state.py", f"{TRAIN}/storage.py", f"{TRAIN}/lock.py"
RUNNER, STOP, MACHINE = f"{TRAIN}/runner.py", f"{TRAIN}/stop.py", f"{TRAIN}/machine.py"
SUMMARY, TOTALS = f"{TRAIN}/summary.py", f"{TRAIN}/totals.py"
PARTS, EVALUATE, SCHEDULES = f"{TRAIN}/parts.py", f"{TRAIN}/evaluate.py", f"{TRAIN}/schedules.py"

SPECS = ("tests/invariants/test_spec.py",)
LOOPS = ("tests/identity/test_loop.py",)
RESUMED = ("tests/reliability/test_resume.py",)
DAMAGED = ("tests/reliability/test_checkpoints.py",)
STOPPED = ("tests/reliability/test_stop.py",)
LABELLED = (
    "tests/reliability/test_executors.py::test_a_run_of_a_changed_preset_takes_the_name_of_the_preset_that_has_it",
)
WRITTEN = ("tests/reliability/test_storage.py",)
AROUND = ("tests/invariants/test_runs.py",)
COMMANDS = ("tests/reliability/test_command_line.py",)
MEASURED = ("tests/invariants/test_run_measures.py",)
WHITE = ("tests/identity/test_whitening.py",)
NAMED = ("tests/invariants/test_optimisers.py",)

MUTANTS = (
    Mutant("train/label-is-hashed", SPEC, 'if item.name != "preset" and ', "if ", SPECS),
    Mutant("train/defaults-are-hashed", SPEC, "checks.canonical(value) != plain", "plain", SPECS),
    Mutant("train/version-not-hashed", SPEC, '"version": self.version}', '"version": 1}', SPECS),
    Mutant("train/hash-needs-key-order", CHECKS, "sort_keys=True", "sort_keys=False", SPECS),
    Mutant("train/true-is-a-number", CHECKS, "(isinstance(value, bool) and origin is not bool)", "False", SPECS),
    Mutant("train/json-keys-twice", CHECKS, "if len(table) != len(items):", "if False:", SPECS),
    Mutant("train/minutes-are-seconds", MACHINE, '"m": 60.0', '"m": 1.0', SPECS),
    Mutant("train/partial-batch-dropped", LOOP, "-(-len(parts.train) //", "(len(parts.train) //", LOOPS),
    Mutant("train/same-order-each-epoch", LOOP, "seed=run.seed, epoch=epoch", "seed=run.seed, epoch=0", LOOPS),
    Mutant(
        "train/same-crops-each-step",
        LOOP,
        'derive(run.seed, "augment", self.step)',
        'derive(run.seed, "augment")',
        LOOPS,
    ),
    Mutant("train/gradients-pile-up", LOOP, "parts.optimizer.zero_grad(set_to_none=True)", "pass", LOOPS),
    Mutant(
        "train/no-clipping", LOOP, "(list(parts.parameters()), run.clip_norm)", "(list(parts.parameters()), 1e9)", LOOPS
    ),
    Mutant("train/no-schedule", LOOP, "schedules.step_scheduler(parts.scheduler, epoch=True)", "pass", LOOPS),
    Mutant("train/latest-of-equals", LOOP, 'value > self.best["value"]', 'value >= self.best["value"]', AROUND),
    Mutant("train/best-is-not-a-copy", LOOP, "{name: item.clone() for", "{name: item for", LOOPS),
    Mutant("train/evaluates-in-training-mode", EVALUATE, "parts.model.eval()", "parts.model.train()", LOOPS),
    Mutant("train/stays-in-eval-mode", LOOP, "self.parts.model.train()", "pass", LOOPS),
    Mutant(
        "train/measuring-moves-the-seeds", LOOP, 'derive(run.seed, "noise", self.step)', "torch.seed()", LOOPS + RESUMED
    ),
    Mutant("train/test-samples-by-seed", PARTS, "run.test_limit, 0)", "run.test_limit, run.seed)", AROUND),
    Mutant("train/optimizer-not-resumed", LOOP, 'parts.optimizer.load_state_dict(saved["optimizer"])', "pass", RESUMED),
    Mutant("train/schedule-not-resumed", LOOP, 'parts.scheduler.load_state_dict(saved["scheduler"])', "pass", RESUMED),
    Mutant("train/totals-not-resumed", LOOP, 'self._totals.load_state_dict(saved["totals"])', "pass", RESUMED),
    Mutant("train/best-not-saved", LOOP, '"best": self.best,', '"best": None,', RESUMED),
    Mutant("train/bad-weights-saved", LOOP, "if not all_finite(self.parts.parameters()):", "if False:", STOPPED),
    Mutant(
        "train/metrics-repeat",
        RUNNER,
        'loop.ranks.first(lambda: storage.write_lines(loop.folder / "metrics.jsonl", loop.history))',
        "pass",
        AROUND,
    ),
    Mutant(
        "train/finished-run-again",
        RUNNER,
        "    return summary\n\n\ndef _mend",
        "    return None\n\n\ndef _mend",
        RESUMED,
    ),
    Mutant(
        "train/global-state-left-seeded",
        "src/equipoise/train/surroundings.py",
        "torch.random.fork_rng(**others)",
        "contextlib.nullcontext()",
        LOOPS,
    ),
    Mutant(
        "train/threads-left-changed",
        "src/equipoise/train/surroundings.py",
        "torch.set_num_threads(before)",
        "pass",
        AROUND,
    ),
    Mutant("train/no-previous-checkpoint", STATE, "previous=True", "previous=False", DAMAGED),
    Mutant("train/digest-not-checked", STATE, "if comment != _MARK", "if False and comment != _MARK", DAMAGED),
    Mutant("train/damaged-one-kept", STATE, "os.replace(previous, newest)", "pass", DAMAGED),
    Mutant("train/half-written-file", STORAGE, 'open(temporary, "wb")', 'open(path, "wb")', WRITTEN),
    Mutant("train/half-written-line", STORAGE, "file.truncate(size)", "pass", WRITTEN),
    Mutant(
        "train/not-a-number-in-json",
        STORAGE,
        "if isinstance(value, float) and not math.isfinite(value):",
        "if False:",
        WRITTEN + STOPPED,
    ),
    Mutant("train/edited-summary-passes", SUMMARY, "checks.check_fields(summary)", "pass", COMMANDS),
    Mutant("train/words-for-measurements", CHECKS, "not isinstance(value, (int, float))", "False", COMMANDS),
    Mutant("train/momentum-for-every-optimiser", SPEC, '.lower() != "sgd"', ".lower() == 0", COMMANDS),
    Mutant("train/lock-shared", LOCK, "fcntl.LOCK_EX |", "fcntl.LOCK_SH |", WRITTEN),
    Mutant(
        "train/second-signal-ignored", STOP, "signal.signal(signal.SIGINT, signal.default_int_handler)", "pass", STOPPED
    ),
    Mutant("train/time-limit-ignored", STOP, 'return "time limit" if', 'return "" if', STOPPED),
    Mutant(
        "train/measured-on-training-samples",
        EVALUATE,
        "parts.validation if parts.validation is not None else parts.test",
        "parts.train",
        MEASURED,
    ),
    Mutant("train/costly-measures-every-epoch", EVALUATE, 'if one.when == "end" and not last:', "if False:", MEASURED),
    Mutant(
        "train/last-epoch-missed",
        LOOP,
        "last, seed = epoch + 1 == run.epochs",
        "last, seed = epoch == run.epochs",
        MEASURED,
    ),
    Mutant(
        "train/same-masks-for-every-epoch",
        LOOP,
        'derive(run.seed, "measures", epoch)',
        'derive(run.seed, "measures")',
        MEASURED,
    ),
    Mutant(
        "train/a-measure-takes-a-results-place", EVALUATE, "if key in taken or key in found:", "if False:", MEASURED
    ),
    Mutant("train/unknown-measure-waits", PARTS, "        measure.measures[name]\n", "        pass\n", MEASURED),
    Mutant(
        "train/whitened-by-the-test-set",
        PARTS,
        "data.whitening(train, run.whiten)",
        "data.whitening(test, run.whiten)",
        WHITE,
    ),
    Mutant(
        "train/test-set-not-whitened",
        PARTS,
        "fitted.split(validation), fitted.split(test)",
        "fitted.split(validation), test",
        WHITE,
    ),
    Mutant("train/names-as-a-word", SPEC, "if name in self.measures[:place]:", "if False:", SPECS),
    Mutant("train/cosine-ends-late", SCHEDULES, '"T_max": epochs,', '"T_max": epochs + 1,', NAMED + LOOPS),
    Mutant("train/any-failure-is-divergence", TOTALS, "        if whole:\n", "        if False:\n", STOPPED),
    Mutant("train/divergence-is-a-failure", TOTALS, "        if whole:\n", "        if True:\n", STOPPED),
    Mutant(
        "train/no-memory-is-divergence",
        TOTALS,
        "except (NotFinite, MemoryError, torch.OutOfMemoryError):",
        "except NotFinite:",
        STOPPED,
    ),
    Mutant("train/changed-for-ever", RUNNER, 'and found.preset != f"{run.preset} (changed)"', "", LABELLED),
    Mutant(
        "train/last-preset-names",
        RUNNER,
        'found.preset != f"{run.preset} (changed)"',
        "found.preset == run.preset",
        LABELLED,
    ),
)
