"""Sabotages of populations: a member that is no longer its solo run, or that leaves another's files."""

from tests.mutants import Mutant

PACKAGE = "src/equipoise/population"
CORE, FEED, UPDATES = f"{PACKAGE}/core.py", f"{PACKAGE}/feed.py", f"{PACKAGE}/updates.py"
ALIKE, TRAINING, WHOLE = f"{PACKAGE}/alike.py", f"{PACKAGE}/training.py", f"{PACKAGE}/population.py"
OPTIMISERS, CAPTURE, MEASURING = f"{PACKAGE}/optimisers.py", f"{PACKAGE}/capture.py", f"{PACKAGE}/measuring.py"

NAME = "tests/transforms/test_populations.py"
EQUAL = (f"{NAME}::test_a_member_is_its_solo_run[bp-DANN-momentum-8]",)
ADAM = (f"{NAME}::test_a_member_is_its_solo_run[tp-square-adam-8]",)
DRAWN = (f"{NAME}::test_a_member_is_its_solo_run[brsf-dropout-sgd-8]",)
WEIGHTS = (f"{NAME}::test_layers_may_differ_in_the_weight_of_their_loss_alone",)
DIVERGED = (f"{NAME}::test_a_member_that_diverges_is_noted_at_its_step_and_disturbs_nobody",)
SEEN = (f"{NAME}::test_each_member_sees_its_own_light_and_augmentation",)
CUSTOM = (f"{NAME}::test_a_custom_rule_that_writes_more_than_its_gradients_is_refused",)
CAPTURED = (f"{NAME}::test_a_captured_step_is_recorded_once_a_shape_and_replayed_on_new_inputs",)
FALLBACK = (f"{NAME}::test_a_step_that_cannot_be_captured_goes_on_as_it_is_with_one_note",)
BUCKETS = (f"{NAME}::test_buckets_hold_what_may_train_together",)
FOLDERS = ("tests/reliability/test_populations.py",)

MUTANTS = (
    Mutant(
        "population/one-rate-for-all",
        UPDATES,
        'groups[name]["lr"] for groups in',
        'self._groups[0][name]["lr"] for _ in',
        EQUAL,
    ),
    Mutant("population/schedules-stand", UPDATES, "one.scheduler.last_epoch < epoch", "False", EQUAL),
    Mutant("population/clips-nothing", UPDATES, "clamp(max=1.0)", "clamp(min=1.0)", EQUAL),
    Mutant(
        "population/no-penalty",
        UPDATES,
        "g + along(strengths, g) * penalties",
        "g + 0 * along(strengths, g) * penalties",
        EQUAL,
    ),
    Mutant("population/constraints-forgotten", UPDATES, "if name in self.constraints:", "if False:", EQUAL),
    Mutant(
        "population/buffer-starts-damped",
        OPTIMISERS,
        "(done > 0)",
        "(done >= 0)",
        (f"{NAME}::test_numbers_of_sgd_are_torchs",),
    ),
    Mutant("population/moments-not-corrected", OPTIMISERS, "steps = (done + 1)", "steps = (done + 2)", ADAM),
    Mutant(
        "population/noise-of-the-first",
        FEED,
        'derive(one.run.seed, "noise", step)',
        'derive(self.parts[0].run.seed, "noise", step)',
        DRAWN,
    ),
    Mutant(
        "population/light-of-the-first",
        FEED,
        'derive(one.run.seed, "light", step)))\n            for',
        'derive(0, "light", step)))\n            for',
        EQUAL,
    ),
    Mutant("population/order-of-the-first", FEED, "seed=one.run.seed, epoch=epoch", "seed=0, epoch=epoch", EQUAL),
    Mutant(
        "population/augmented-alike", FEED, 'derive(one.run.seed, "augment", step)', 'derive(0, "augment", step)', SEEN
    ),
    Mutant(
        "population/weights-of-the-first",
        CORE,
        "setattr(layer, name, number)",
        "pass",
        WEIGHTS,
    ),
    Mutant(
        "population/weights-stay-changed",
        CORE,
        "fan_ins = options, fan_ins",
        "fan_ins = self.rule.options, fan_ins",
        WEIGHTS,
    ),
    Mutant(
        "population/feedback-of-the-first",
        CORE,
        "feedback=feedback, noise=noise, state",
        "noise=noise, state",
        (f"{NAME}::test_feedback_and_fixed_weights_are_each_members_own",),
    ),
    Mutant(
        "population/dead-go-on", CORE, "alive = along(alive, stack)", "alive = along(alive | True, stack)", DIVERGED
    ),
    Mutant("population/bad-step-forgotten", WHOLE, "self.alive & ~finite", "self.alive & finite", DIVERGED),
    Mutant(
        "population/trusts-any-rule", WHOLE, "math.isfinite(size) and apart >", "math.isinf(size) and apart >", CUSTOM
    ),
    Mutant("population/replays-old-inputs", CAPTURE, "place.copy_(value)", "pass", CAPTURED),
    Mutant("population/records-twice", CAPTURE, "self._off = True", "pass", FALLBACK),
    Mutant(
        "population/rules-mixed",
        f"{PACKAGE}/buckets.py",
        "if name not in FREE}",
        'if name not in FREE | {"rule"}}',
        BUCKETS,
    ),
    Mutant("population/one-epoch-less", TRAINING, "self.step < end and not", "self.step < end - 1 and not", FOLDERS),
    Mutant(
        "population/no-checkpoint-on-stop",
        TRAINING,
        "        self._save()\n        for member in self.living():\n            self._end",
        "        for member in self.living():\n            self._end",
        FOLDERS,
    ),
    Mutant(
        "population/optimisers-start-anew",
        TRAINING,
        "self.population.absorb(self.step,",
        "(lambda *_: None)(self.step,",
        FOLDERS,
    ),
    Mutant(
        "population/accuracy-of-the-first",
        MEASURING,
        "accuracy = float(right[k])",
        "accuracy = float(right[0])",
        FOLDERS,
    ),
)
