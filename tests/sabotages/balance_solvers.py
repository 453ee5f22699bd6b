"""Sabotages of balance's costs, problem, solvers and writing: a wrong factor, sign or side, a check left out."""

from tests.mutants import Mutant

BALANCE = "src/equipoise/balance"
COSTS, REDUCE, LAYOUT = f"{BALANCE}/costs.py", f"{BALANCE}/reduce.py", f"{BALANCE}/layout.py"
BLOCKS, PROBLEM, EXISTENCE = f"{BALANCE}/blocks.py", f"{BALANCE}/problem.py", f"{BALANCE}/existence.py"
NEWTON, SWEEPS, SCALAR = f"{BALANCE}/newton.py", f"{BALANCE}/sweeps.py", f"{BALANCE}/scalar.py"
FLAT, TIED, UNITS, APPLY = f"{BALANCE}/flat.py", f"{BALANCE}/tied.py", f"{BALANCE}/units.py", f"{BALANCE}/apply.py"
SOLVE, COLOURS = f"{BALANCE}/solve.py", f"{BALANCE}/colours.py"

POINT = ("tests/identity/test_balance_solution.py",)
UNIT = ("tests/identity/test_balance_units.py",)
WIRING = ("tests/invariants/test_balance_solvers.py",)
TRAINED = ("tests/invariants/test_balance_models.py",)
SCIPY = ("tests/reference/test_balance_scipy.py",)
REFUSED = ("tests/reliability/test_balance_input.py",)
SPEED = ("tests/reliability/test_balance_bars.py",)

MUTANTS = (
    Mutant("balance/equal-cost-times-p", COSTS, "a * factor / divisor(p)", "a * factor * divisor(p)", POINT),
    Mutant("balance/glob-before-name", COSTS, "[name] if name in entries else", "[] if False else", POINT),
    Mutant("balance/weight-left-out", COSTS, "(a * factor /", "(a /", POINT),
    Mutant("balance/self-loop-counted", REDUCE, "            value[rows, cols] = 0.0\n", "            pass\n", POINT),
    Mutant("balance/runs-of-the-other-axis", REDUCE, "len(here), left, -1)", "len(here), -1, left).mT", POINT),
    Mutant("balance/cost-of-the-sum", REDUCE, "own.square_() if p == 2", "own if p == 2", POINT),
    Mutant(
        "balance/pull-is-push", BLOCKS, "return signal @ self.value", "return self.value.mean(0) * signal.sum()", POINT
    ),
    Mutant(
        "balance/minus-sign-forgotten",
        BLOCKS,
        "self.coefficient.clamp(max=0).neg()",
        "self.coefficient.clamp(max=0)",
        WIRING,
    ),
    Mutant("balance/hessian-without-p", PROBLEM, "at.shrink[p] * down) * (p * p)", "at.shrink[p] * down) * p", POINT),
    Mutant("balance/deficit-not-relative", PROBLEM, ".abs() / total, 0.0)", ".abs() / total.max(), 0.0)", POINT),
    Mutant("balance/unit-forgotten", PROBLEM, "return self.unit * (marginals", "return (marginals", POINT),
    Mutant("balance/inputs-are-enough", EXISTENCE, "inside = (entered & left)", "inside = entered", WIRING),
    Mutant("balance/nothing-is-skipped", EXISTENCE, "        problem.remove(gone)\n", "        pass\n", REFUSED),
    Mutant("balance/no-programme", EXISTENCE, "        falls = solved.x[free:] > SLACK\n", "        pass\n", WIRING),
    Mutant("balance/no-line-search", NEWTON, "if there.cost <= at.cost + ARMIJO * t * slope:", "if True:", POINT),
    Mutant("balance/no-coarse-correction", NEWTON, "return found if found.usable else None", "return None", SPEED),
    Mutant("balance/solved-to-the-end-each-time", NEWTON, "max(min(0.3, worst), 0.3 * tol / worst)", "1e-12", SPEED),
    Mutant("balance/no-first-sweeps", f"{BALANCE}/methods.py", "most=min(FIRST_SWEEPS, most)", "most=0", SPEED),
    Mutant(
        "balance/whole-step-in-parallel",
        SWEEPS,
        "strength / (2 if flat is None else",
        "strength / (1 if flat is None else",
        WIRING,
    ),
    Mutant("balance/order-of-its-own", SWEEPS, 'generator(seed, "balance"', 'generator(0, "balance"', WIRING),
    Mutant("balance/strength-ignored", FLAT, "step = strength * best_step(", "step = best_step(", WIRING),
    Mutant("balance/odd-and-even-at-once", COLOURS, "if c not in taken)\n    member", "if True)\n    member", WIRING),
    Mutant("balance/missing-root", SCALAR, "ratio.log() / (p + m)", "ratio.log() / p", UNIT),
    Mutant("balance/degree-left-out", SCALAR, "ratio = (m * down / (p * up))", "ratio = (down / up)", UNIT),
    Mutant(
        "balance/bracket-lost",
        SCALAR,
        "torch.where(h < 0, t, low), torch.where(h > 0, t, high)",
        "torch.where(h > 0, t, low), torch.where(h < 0, t, high)",
        UNIT,
    ),
    Mutant("balance/j5-without-its-root", TIED, "for a in logs[:i]) / p)", "for a in logs[:i]))", POINT),
    Mutant("balance/group-of-its-first", TIED, "return nodes[name][chosen]", "return nodes[name][chosen][:1]", POINT),
    Mutant(
        "balance/best-is-squared",
        UNITS,
        "step = strength * float(best_step",
        "step = 2 * strength * float(best_step",
        UNIT,
    ),
    Mutant("balance/divided-not-multiplied", APPLY, "torch.exp(up - down)", "torch.exp(down - up)", WIRING),
    Mutant("balance/overflow-written", APPLY, "        _check_fits(one, sizes[one.name])\n", "        pass\n", REFUSED),
    Mutant("balance/dead-edges-scaled", APPLY, "torch.where(part(self.still), 1.0, factor)", "factor", WIRING),
    Mutant(
        "balance/one-to-a-bit",
        LAYOUT,
        "return not bool(torch.isin(into[into != 0], out_of[out_of != 0]).any())",
        "return True",
        WIRING,
    ),
    Mutant("balance/tolerance-not-checked", SOLVE, "if not found.at.deficit <= options.tol:", "if False:", REFUSED),
    Mutant("balance/bias-costs-anyway", SOLVE, "    if not include_bias_cost:", "    if False:", POINT),
    Mutant(
        "balance/nan-is-a-weight", REDUCE, "if not (math.isfinite(low) and math.isfinite(high)):", "if False:", REFUSED
    ),
)
