"""Sabotages of target propagation: GAIT in both modes, its inverses, upkeep, and learned inverses."""

from tests.mutants import Mutant

TARGET, TARGETS = "src/equipoise/rules/target.py", "src/equipoise/rules/targets.py"
INVERSES, SQUARE = "src/equipoise/rules/inverses.py", "src/equipoise/rules/square.py"
UPKEEP, LEARNED = "src/equipoise/rules/upkeep.py", "src/equipoise/rules/learned.py"
LINKS = "src/equipoise/rules/links.py"

REFUSED = ("tests/reliability/test_target_refuse.py::test_what_has_no_inverse_is_refused_by_name",)


def identity(test: str) -> tuple[str, ...]:
    return (f"tests/identity/test_target.py::test_{test}",)


def host(test: str) -> tuple[str, ...]:
    return (f"tests/identity/test_target_upkeep.py::test_{test}",)


MUTANTS = (
    Mutant(
        "target/transpose-for-inverse",
        INVERSES,
        'if kind == "transpose" or (kind == "refine" and count == 0):',
        "if True:",
        identity("the_recursion_is_that_of_the_inverse_written_out"),
    ),
    Mutant(
        "target/auxiliary-rows-first",
        SQUARE,
        "(0, 0, 0, self.units - self.used)",
        "(0, 0, self.units - self.used, 0)",
        identity("a_hooked_model_hears_its_layers_and_gets_the_same_gradients"),
    ),
    Mutant(
        "target/slope-not-squared",
        TARGET,
        "per_sample(gamma, away) * slopes.square()",
        "per_sample(gamma, away) * slopes",
        identity("both_modes_agree_off_orthogonality"),
    ),
    Mutant(
        "target/multiplier-forgotten",
        TARGETS,
        "if multiplier and gamma is not None:",
        "if False:",
        identity("gradients_have_autograds_size_too_and_auxiliary_units_have_none"),
    ),
    Mutant(
        "target/norm-squared",
        TARGET,
        "(size if options",
        "(size.square() if options",
        identity("vanilla_targets_are_lost_at_six_layers_and_normalised_ones_are_not"),
    ),
    Mutant(
        "target/zero-distance",
        TARGET,
        "gamma = torch.where((size > 0) & gamma.isfinite(), gamma, 1.0)",
        "pass",
        identity("a_sample_without_error_moves_nothing"),
    ),
    Mutant(
        "target/half-forgotten",
        TARGET,
        "output - error * (batch / 2)",
        "output - error * batch",
        identity("gradients_have_autograds_size_too_and_auxiliary_units_have_none"),
    ),
    Mutant(
        "target/kink-guard-ignored",
        TARGETS,
        "if guard and f.piecewise_linear:",
        "if False:",
        identity("large_targets_cross_kinks_unless_they_are_guarded"),
    ),
    Mutant(
        "target/bias-not-taken-off",
        SQUARE,
        "z = z - bias.reshape",
        "z = z - 0 * bias.reshape",
        identity("target_propagation_carries_the_whole_target"),
    ),
    Mutant(
        "target/tp-step-not-undone",
        TARGET,
        '"scale": 1 / (batch * step)',
        '"scale": 2 / (batch * step)',
        identity("target_propagation_carries_the_whole_target"),
    ),
    Mutant(
        "target/refined-once-less",
        INVERSES,
        "return refine(matrix, units, count)",
        "return refine(matrix, units, count - 1)",
        identity("quick_inverses_agree_within_their_stated_residual"),
    ),
    Mutant(
        "target/never-renewed",
        INVERSES,
        "if left != before:",
        "if False:",
        host("weights_that_changed_behind_its_back_are_measured_before_the_next_step"),
    ),
    Mutant(
        "target/changed-behind-its-back",
        INVERSES,
        "if self._stamp() != self.stamp:",
        "if False:",
        host("weights_that_changed_behind_its_back_are_measured_before_the_next_step"),
    ),
    Mutant(
        "target/upkeep-outwards",
        UPKEEP,
        "-= options.strength * penalty_block(",
        "+= options.strength * penalty_block(",
        host("upkeep_brings_weights_back_to_orthogonal_ones"),
    ),
    Mutant(
        "target/sweep-stands-still",
        UPKEEP,
        "return (start + count) % len(matrix)",
        "return start",
        host("a_sweep_visits_every_column_in_turn"),
    ),
    Mutant(
        "target/penalty-last-layer-left-out",
        INVERSES,
        "for s in self.squares if params[s.name].requires_grad}",
        "for s in self.squares[:-1]}",
        host("the_penalty_is_added_to_the_task_and_not_to_what_alignment_sees"),
    ),
    Mutant(
        "target/undo-reversed",
        LEARNED,
        "away = (here - there) / size",
        "away = (there - here) / size",
        host("learned_inverses_reconstruct_better_and_carry_credit"),
    ),
    Mutant(
        "target/inverse-learns-uphill",
        LEARNED,
        "away = (found - h) / len(h)",
        "away = (h - found) / len(h)",
        host("learned_inverses_have_the_gradient_of_their_own_loss"),
    ),
    Mutant(
        "target/one-channel-taught",
        LINKS,
        "shown = torch.ops.aten.convolution_backward, weight[: link.used]",
        "shown = torch.ops.aten.convolution_backward, weight[:1]",
        identity("gradients_have_autograds_size_too_and_auxiliary_units_have_none"),
    ),
    Mutant("target/pooling-let-through", SQUARE, "if type(part.module) not in _SHAPES:", "if False:", REFUSED),
)
