"""Sabotages of ``equipoise balance``: files lost or changed, flags that do nothing, numbers that mislead."""

from tests.mutants import Mutant

COMMAND, FILES = "src/equipoise/cli/balance.py", "src/equipoise/cli/checkpoint.py"
DEMO = "src/equipoise/cli/balanced.py"

SAID = ("tests/reliability/test_balance_command.py",)
REFUSED = ("tests/reliability/test_balance_refuse.py",)

MUTANTS = (
    Mutant("balance-command/code-in-a-file-runs", FILES, "weights_only=True)", "weights_only=False)", REFUSED),
    Mutant("balance-command/shapes-not-compared", FILES, "    if wrong:\n", "    if False:\n", REFUSED),
    Mutant("balance-command/integers-taken", FILES, "    if whole:\n", "    if False:\n", REFUSED),
    Mutant("balance-command/unexpected-keys-dropped", FILES, "if missing or unexpected:", "if missing:", REFUSED),
    Mutant("balance-command/missing-keys-left", FILES, "if missing or unexpected:", "if unexpected:", REFUSED),
    Mutant("balance-command/tied-key-is-missing", FILES, " and id(value) not in held]", "]", SAID),
    Mutant("balance-command/tied-tensors-not-compared", FILES, "if before != name and not", "if False and not", SAID),
    Mutant("balance-command/precision-changes", FILES, "new.to(old.dtype)", "new.float()", SAID),
    Mutant("balance-command/metadata-lost", FILES, "save(plain, dict(metadata) or None)", "save(plain)", SAID),
    Mutant("balance-command/wrapper-not-known", FILES, '("module.", "_orig_mod.", "model.")', '("model.",)', SAID),
    Mutant(
        "balance-command/writes-over",
        COMMAND,
        "if target.exists() and not (flags.force or flags.dry_run):",
        "if False:",
        SAID,
    ),
    Mutant("balance-command/dry-run-writes", COMMAND, "    if flags.dry_run:\n", "    if False:\n", SAID),
    Mutant("balance-command/biases-always-cost", COMMAND, "=not flags.no_bias_cost", "=True", SAID),
    Mutant("balance-command/method-ignored", COMMAND, "method=flags.method,", 'method="newton",', SAID),
    Mutant("balance-command/frozen-ignored", COMMAND, "frozen=flags.frozen)", "frozen=())", SAID),
    Mutant("balance-command/p-ignored", COMMAND, "        p=flags.p,\n", "        p=2.0,\n", SAID),
    Mutant("balance-command/cost-called-norm", COMMAND, "cost ** (1 / p) for cost", "cost for cost", SAID),
    Mutant(
        "balance-command/change-not-relative",
        COMMAND,
        "return difference / size if size",
        "return difference if size",
        SAID,
    ),
    Mutant(
        "balance-command/demo-compares-with-itself",
        DEMO,
        "    after = _scores(model, x)\n",
        "    after = before\n",
        SAID,
    ),
)
