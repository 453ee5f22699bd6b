"""Sabotages of workers that train several runs, and of what a driver makes of what they say."""

from tests.mutants import Mutant

FORKS = "src/equipoise/sweep/forks.py"
FILE = "tests/reliability/test_forked_workers.py"
AFTER_ANOTHER = (f"{FILE}::test_a_worker_trains_run_after_run_as_if_each_were_alone",)
FAILED = (f"{FILE}::test_a_worker_ends_with_a_run_that_failed_or_was_stopped",)
LOADED = (f"{FILE}::test_a_worker_gets_only_what_was_loaded_before_it_was_forked",)
LIMITED = (f"{FILE}::test_a_worker_is_not_for_ever",)
KILLED = (f"{FILE}::test_an_idle_worker_that_was_killed_gets_nothing_more",)
TOGETHER = (f"{FILE}::test_two_workers_at_once_and_the_end_of_them_all",)

MUTANTS = (
    Mutant("workers/one-run-each", FORKS, "                worker.busy = False\n", "", AFTER_ANOTHER),
    Mutant("workers/first-log-for-all", FORKS, "for target in (1, 2):", "for target in ():", AFTER_ANOTHER),
    Mutant("workers/go-on-after-failure", FORKS, "            if code:\n", "            if False:\n", FAILED),
    Mutant("workers/not-warned-of-new-data", FORKS, "wanted in one.knows and ", "", LOADED),
    Mutant("workers/know-everything", FORKS, "if wanted in one.knows", "if wanted in self.loaded", LOADED),
    Mutant("workers/for-ever", FORKS, " and one.runs < _RUNS", "", LIMITED),
    Mutant("workers/runs-not-counted", FORKS, "worker.runs + 1", "worker.runs", LIMITED),
    Mutant("workers/busy-gets-more", FORKS, "if not one.busy and one.link", "if one.link", TOGETHER),
    Mutant("workers/the-dead-get-more", FORKS, " and one.link.fileno() >= 0]", "]", KILLED),
    Mutant(
        "workers/stage-two-unplanned",
        "src/equipoise/sweep/status.py",
        "and not (until and ended.issuperset(until))",
        "and not until",
        ("tests/reliability/test_status.py::test_a_second_stage_counts_until_the_first_has_ended",),
    ),
)
