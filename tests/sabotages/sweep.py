"""Sabotages of sweeps: what is run, what is recorded when a run fails, and the tables of results."""

from tests.mutants import Mutant

EXECUTORS, PROCESSES = "src/equipoise/sweep/executors.py", "src/equipoise/sweep/processes.py"
COLLECT, TABLES = "src/equipoise/sweep/collect.py", "src/equipoise/sweep/tables.py"

EXECUTED = ("tests/reliability/test_executors.py",)
ENDED = ("tests/reliability/test_worker_outcomes.py",)
COLLECTED = ("tests/reliability/test_collect.py",)

HELD = "tests/reliability/test_drivers.py::test_a_run_that_another_process_has_is_waited_for"
AGAIN = "tests/reliability/test_drivers.py::test_a_run_whose_holder_gave_up_is_tried_again"
VALUES = ("tests/reliability/test_sweep_values.py",)
STATUS = "tests/reliability/test_status.py::"
QUEUE = "tests/reliability/test_slurm_queue.py::"
COMMANDED = "tests/reliability/test_sweep_command.py::"
LOCK, STOP = "src/equipoise/train/lock.py", "src/equipoise/train/stop.py"
SAMPLING, VALUE = "src/equipoise/sweep/sampling.py", "src/equipoise/sweep/value.py"
TURNS, STATE = "src/equipoise/sweep/turns.py", "src/equipoise/sweep/status.py"
SLURM, JOB = "src/equipoise/sweep/slurm.py", "src/equipoise/sweep/slurm_job.py"
SBATCH = "src/equipoise/sweep/slurm_queue.py"

MUTANTS = (
    Mutant(
        "sweep/log-range-drawn-evenly",
        SAMPLING,
        "math.exp(u * math.log(self.high / self.low))",
        "(1 + u * (self.high / self.low - 1))",
        VALUES,
    ),
    Mutant("sweep/last-integer-never-drawn", SAMPLING, "(self.high - self.low + 1)", "(self.high - self.low)", VALUES),
    Mutant("sweep/axes-share-their-draws", SAMPLING, '"sweep draws", name, place', '"sweep draws", place', VALUES),
    Mutant("sweep/parts-from-zero", VALUE, "self.runs[which - 1 :: of]", "self.runs[which::of]", VALUES),
    Mutant(
        "sweep/conditions-before-draws",
        VALUE,
        "for one in fillings for setting in settings",
        "for setting in settings for one in fillings",
        VALUES,
    ),
    Mutant(
        "sweep/others-run-is-a-failure", TURNS, 'summary.status == "failed" and taken(run, machine)', "False", (HELD,)
    ),
    Mutant(
        "sweep/own-failure-tried-again",
        TURNS,
        'summary.status == "failed" and taken(run, machine)',
        'summary.status == "failed"',
        (AGAIN,),
    ),
    Mutant(
        "sweep/time-left-of-one-process",
        STATE,
        "return work / max(1, len(",
        "return work / max(1, 0 * len(",
        (f"{STATUS}test_the_time_left_is_the_work_left_over_the_processes",),
    ),
    Mutant(
        "sweep/diverged-is-failed",
        STATE,
        '"diverged" if summary.diverged else summary.status',
        "summary.status",
        (f"{STATUS}test_each_state_is_told_from_the_others",),
    ),
    Mutant(
        "sweep/copies-counted-twice",
        COLLECT,
        " and run.hash not in seen",
        "",
        (f"{STATUS}test_a_run_that_lies_there_twice_is_one",),
    ),
    Mutant(
        "sweep/lock-names-the-dead",
        LOCK,
        "stack.callback(_clear, file)",
        "pass",
        (f"{STATUS}test_a_lock_names_its_holder_and_no_other_process_with_that_number",),
    ),
    Mutant(
        "sweep/threads-before-forks",
        "src/equipoise/sweep/forker.py",
        "torch.set_num_threads(1)",
        "torch.get_num_threads()",
        ("tests/reliability/test_drivers.py::test_workers_of_several_threads_are_forked_too",),
    ),
    Mutant(
        "sweep/the-dead-elsewhere-live",
        LOCK,
        "and _remote(folder) and _fresh(folder)",
        "",
        (f"{STATUS}test_the_dead_of_another_host_are_waited_for_for_a_while_at_most",),
    ),
    Mutant(
        "sweep/waits-for-the-dead-for-ever",
        LOCK,
        "_remote(folder) and _fresh(folder)",
        "_remote(folder)",
        (f"{STATUS}test_the_dead_of_another_host_are_waited_for_for_a_while_at_most",),
    ),
    Mutant(
        "sweep/who-looks-keeps-others-out",
        LOCK,
        "_TRIES, _PAUSE = 5,",
        "_TRIES, _PAUSE = 1,",
        (f"{STATUS}test_who_only_looks_keeps_nobody_out",),
    ),
    Mutant(
        "sweep/queued-runs-queued-again",
        SLURM,
        "if run.hash not in waiting]",
        "]",
        (f"{QUEUE}test_what_is_queued_is_waited_for_and_every_end_is_told",),
    ),
    Mutant(
        "sweep/ctrl-c-cancels-jobs",
        SLURM,
        "yield from self._leave(stopper.reason)",
        "self._cancel()\n                    yield from self._leave(stopper.reason)",
        (f"{QUEUE}test_ctrl_c_leaves_what_is_queued",),
    ),
    Mutant(
        "sweep/finished-job-is-dead",
        SLURM,
        "if done is not None:\n            return done",
        "if False:\n            return done",
        (f"{QUEUE}test_what_is_queued_is_waited_for_and_every_end_is_told",),
    ),
    Mutant(
        "sweep/requeued-job-begins-anew",
        JOB,
        "if begun.exists():",
        "if False:",
        (f"{QUEUE}test_a_job_forces_once_and_tells_how_its_runs_ended",),
    ),
    Mutant(
        "sweep/days-are-hours",
        SBATCH,
        "(days or 0) * 1440",
        "(days or 0) * 60",
        (f"{QUEUE}test_times_are_read_as_slurm_reads_them",),
    ),
    Mutant(
        "sweep/last-signal-counts",
        STOP,
        "self._signal = self._signal or signal.Signals(number).name",
        "self._signal = signal.Signals(number).name",
        (f"{QUEUE}test_a_patient_stopper_keeps_the_first_of_several_signals",),
    ),
    Mutant(
        "sweep/one-run-per-request",
        EXECUTORS,
        "{run.hash: run for run in runs}",
        "{id(run): run for run in runs}",
        EXECUTED,
    ),
    Mutant(
        "sweep/order-of-finishing", EXECUTORS, "[results[run.hash] for run in runs]", "list(results.values())", EXECUTED
    ),
    Mutant(
        "sweep/first-failure-ends-it",
        EXECUTORS,
        "summary = failed(run, error)\n        except Exc",
        "raise\n        except Exc",
        EXECUTED,
    ),
    Mutant(
        "sweep/foreign-error-ends-it",
        EXECUTORS,
        "except Exception as error:",
        "except EquipoiseError as error:",
        EXECUTED,
    ),
    Mutant(
        "sweep/finished-runs-again",
        EXECUTORS,
        "return finished(run, machine.runs) or",
        "return None or",
        EXECUTED,
    ),
    Mutant(
        "sweep/diverged-runs-again",
        EXECUTORS,
        "finished(run, machine.runs) or diverged_before(run, machine.runs)",
        "finished(run, machine.runs)",
        ("tests/reliability/test_search.py::test_a_run_that_diverged_before_is_not_trained_again",),
    ),
    Mutant(
        "sweep/cut-specs-stay-cut",
        "src/equipoise/train/runner.py",
        "    _mend(run, folder)\n",
        "",
        (f"{EXECUTED[0]}::test_a_finished_run_whose_spec_was_cut_has_it_again",),
    ),
    Mutant(
        "sweep/diverged-counted-twice",
        COLLECT,
        " and run.hash not in done}",
        "}",
        (f"{COLLECTED[0]}::test_a_run_that_diverged_is_one_row_wherever_it_lies",),
    ),
    Mutant(
        "sweep/members-are-processes",
        STATE,
        'len({one.holder for one in states if one.state == "running"})',
        'sum(one.state == "running" for one in states)',
        (f"{STATUS}test_the_time_left_is_the_work_left_over_the_processes",),
    ),
    Mutant(
        "sweep/one-test-image-is-a-test",
        "src/equipoise/train/progress.py",
        "if run.test_limit != 1 or",
        "if True or",
        COLLECTED,
    ),
    Mutant("sweep/axes-hide-one-another", VALUE, "sorted(names & taken)", "sorted(names & set())", VALUES),
    Mutant(
        "sweep/jobs-of-others-cancelled",
        SLURM,
        'set(self.runs) >= set(ticket.runs() or [""])',
        "ticket",
        (f"{QUEUE}test_the_time_limit_leaves_the_jobs_of_others",),
    ),
    Mutant(
        "sweep/draws-meet-one-of-the-grid",
        "src/equipoise/cli/sweep.py",
        "            lists = [[one], grid(values)]\n",
        "            lists = [[one], grid(values)[:1]]\n",
        (f"{COMMANDED}test_the_grid_and_shared_draws_are_run_counted_and_resumed",),
    ),
    Mutant(
        "sweep/counting-runs",
        "src/equipoise/cli/sweep.py",
        "if axes.count:",
        "if False:",
        (f"{COMMANDED}test_the_grid_and_shared_draws_are_run_counted_and_resumed",),
    ),
    Mutant(
        "sweep/goes-on-after-ctrl-c",
        EXECUTORS,
        '("SIGINT", "SIGTERM"):\n            return',
        '("SIGINT", "SIGTERM"):\n            pass',
        EXECUTED,
    ),
    Mutant(
        "sweep/limit-per-run",
        EXECUTORS,
        "lambda: None if end is None else end - time.monotonic()",
        "lambda: machine.time_limit",
        EXECUTED,
    ),
    Mutant("sweep/all-at-once", PROCESSES, "len(live) < workers", "len(live) < 99", EXECUTED),
    Mutant(
        "sweep/workers-share-threads",
        PROCESSES,
        "threads=machine.threads or 1",
        "threads=machine.threads or 2",
        EXECUTED,
    ),
    Mutant("sweep/dead-worker-is-fine", PROCESSES, "if told or code in _SAVED:", "if True:", ENDED),
    Mutant("sweep/orphans-go-on", "src/equipoise/sweep/worker.py", "    end_with(given.parent)", "    pass", ENDED),
    Mutant("sweep/another-sweeps-words", PROCESSES, "errors or lines", "lines", ENDED),
    Mutant("sweep/workers-not-told", PROCESSES, "worker.process.send_signal(signal.SIGINT)", "pass", EXECUTED),
    Mutant("sweep/workers-hear-the-terminal", PROCESSES, "start_new_session=True", "start_new_session=False", ENDED),
    Mutant("sweep/unfinished-collected", COLLECT, 'summary.status == "finished" and ', "", COLLECTED),
    Mutant(
        "sweep/edited-spec-collected",
        COLLECT,
        "if not run.hash == summary.hash == folder.name:",
        "if False:",
        COLLECTED,
    ),
    Mutant(
        "sweep/last-epoch-for-selected",
        COLLECT,
        "tested(run, summary.selected)",
        "tested(run, summary.metrics)",
        COLLECTED,
    ),
    Mutant("sweep/rows-by-folder", COLLECT, "sorted(rows, key=lambda entry: entry[:-1])", "rows", COLLECTED),
    Mutant("sweep/text-becomes-number", TABLES, "_read(value) == value", 'value != "nan"', COLLECTED),
    Mutant("sweep/floats-rounded", TABLES, "return repr(value)", 'return f"{value:.6g}"', COLLECTED),
    Mutant("sweep/ragged-passes", TABLES, "if len(cells) != len(header):", "if len(cells) > len(header):", COLLECTED),
)
