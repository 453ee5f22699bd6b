"""Sabotages of sweeps: what is run, what is recorded when a run fails, and the tables of results."""

from tests.mutants import Mutant

EXECUTORS, PROCESSES = "src/equipoise/sweep/executors.py", "src/equipoise/sweep/processes.py"
COLLECT, TABLES = "src/equipoise/sweep/collect.py", "src/equipoise/sweep/tables.py"

EXECUTED = ("tests/reliability/test_executors.py",)
ENDED = ("tests/reliability/test_worker_outcomes.py",)
COLLECTED = ("tests/reliability/test_collect.py",)

MUTANTS = (
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
    Mutant("sweep/finished-runs-again", EXECUTORS, "return finished(run, machine.runs)", "return None", EXECUTED),
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
        "left = None if end is None else end - time.monotonic()",
        "left = machine.time_limit",
        EXECUTED,
    ),
    Mutant("sweep/all-at-once", PROCESSES, "len(live) < workers", "len(live) < 99", EXECUTED),
    Mutant("sweep/workers-share-threads", PROCESSES, "machine.threads or 1", "machine.threads or 2", EXECUTED),
    Mutant("sweep/dead-worker-is-fine", PROCESSES, "if told or code in _SAVED:", "if True:", ENDED),
    Mutant("sweep/orphans-go-on", "src/equipoise/sweep/worker.py", "_end_with(given.parent)", "pass", ENDED),
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
    Mutant("sweep/last-epoch-for-selected", COLLECT, "summary.selected.items()", "summary.metrics.items()", COLLECTED),
    Mutant("sweep/rows-by-folder", COLLECT, "sorted(rows, key=lambda entry: entry[:-1])", "rows", COLLECTED),
    Mutant("sweep/text-becomes-number", TABLES, "_read(value) == value", 'value != "nan"', COLLECTED),
    Mutant("sweep/floats-rounded", TABLES, "return repr(value)", 'return f"{value:.6g}"', COLLECTED),
    Mutant("sweep/ragged-passes", TABLES, "if len(cells) != len(header):", "if len(cells) > len(header):", COLLECTED),
)
