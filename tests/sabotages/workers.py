"""Sabotages of workers that train several runs, and of what a driver makes of what they say."""

from tests.mutants import Mutant

FORKS, FORKER = "src/equipoise/sweep/forks.py", "src/equipoise/sweep/forker.py"
FILE = "tests/reliability/test_forked_workers.py"
AFTER_ANOTHER = (f"{FILE}::test_a_worker_trains_run_after_run_as_if_each_were_alone",)
FAILED = (f"{FILE}::test_a_worker_ends_with_a_run_that_failed_or_was_stopped",)
LOADED = (f"{FILE}::test_a_worker_gets_only_what_was_loaded_before_it_was_forked",)
BUSY = (f"{FILE}::test_a_worker_that_was_busy_when_data_was_loaded_does_not_have_it",)
LIMITED = (f"{FILE}::test_a_worker_is_not_for_ever",)
KILLED = (f"{FILE}::test_an_idle_worker_that_was_killed_gets_nothing_more",)
TOGETHER = (f"{FILE}::test_two_workers_at_once_and_the_end_of_them_all",)
LATE = (f"{FILE}::test_a_run_that_ends_before_its_beginning_is_heard_has_ended",)
LEFT = ("tests/reliability/test_surroundings.py",)

MUTANTS = (
    Mutant("workers/one-run-each", FORKER, "                worker.busy = False\n", "", AFTER_ANOTHER),
    Mutant("workers/first-log-for-all", FORKER, "for target in (1, 2):", "for target in ():", AFTER_ANOTHER),
    Mutant("workers/go-on-after-failure", FORKER, "            if code:\n", "            if False:\n", FAILED),
    Mutant("workers/not-warned-of-new-data", FORKER, "if wanted in one.knows", "if True", LOADED),
    Mutant("workers/know-everything", FORKER, "if wanted in one.knows", "if wanted in self.loaded", BUSY),
    Mutant("workers/for-ever", FORKER, "if worker.runs >= _RUNS:", "if False:", LIMITED),
    Mutant("workers/ended-before-born", FORKS, 'self._live[told["born"]] = Forked', "Forked", LATE),
    Mutant("train/settings-left", "src/equipoise/train/surroundings.py", "if read() != value:", "if False:", LEFT),
    Mutant("workers/runs-not-counted", FORKER, "worker.runs + 1", "worker.runs", LIMITED),
    Mutant("workers/busy-gets-more", FORKER, "if not one.busy and one.link", "if one.link", TOGETHER),
    Mutant("workers/the-dead-get-more", FORKER, " and one.link.fileno() >= 0]", "]", KILLED),
    Mutant(
        "workers/stage-two-unplanned",
        "src/equipoise/sweep/status.py",
        "and not (until and ended.issuperset(until))",
        "and not until",
        ("tests/reliability/test_status.py::test_a_second_stage_counts_until_the_first_has_ended",),
    ),
)
