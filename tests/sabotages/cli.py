"""Sabotages of the command line: labels, units, and what is refused before anything trains."""

from tests.mutants import Mutant

RUN = "src/equipoise/cli/run.py"
FLAGS = "src/equipoise/cli/flags.py"
OUTCOME = "src/equipoise/cli/outcome.py"
PAGES = "src/equipoise/cli/pages.py"
DRAWINGS = "src/equipoise/cli/drawings.py"
MAIN = "src/equipoise/cli/__init__.py"
SUMMARY = "src/equipoise/report/summary.py"

SAID = ("tests/reliability/test_command_line.py",)

MUTANTS = (
    Mutant("cli/changed-preset-keeps-its-name", RUN, "changed = [run.hash not in hashes", "changed = [False", SAID),
    Mutant("cli/authors-protocol-in-name-only", RUN, 'select="test", ', "", SAID),
    Mutant("cli/smoke-beside-published", PAGES, '.startswith("smoke")', ' == "smoke"', SAID),
    Mutant("cli/curves-mix-settings", DRAWINGS, ", one.settings]", "]", SAID),
    Mutant("cli/percent-is-a-fraction", SUMMARY, 'test accuracy, %", 100.0)', 'test accuracy, %", 1.0)', SAID),
    Mutant("cli/names-checked-late", OUTCOME, "    check_names(runs)\n", "", SAID),
    Mutant("cli/options-of-another-optimiser", FLAGS, "            values[name] = {}\n", "            pass\n", SAID),
    Mutant("cli/imports-swallow-ctrl-c", MAIN, "signal.signal(signal.SIGINT, end)", "pass", SAID),
    Mutant(
        "cli/traceback-for-the-users-error",
        MAIN,
        "        if debug:\n            raise\n        words",
        "        raise\n        words",
        SAID,
    ),
)
