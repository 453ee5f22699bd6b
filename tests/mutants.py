"""Sabotage the code, one line at a time, and see that the tests notice: ``python -m tests.mutants [GLOB ...]``.

The tree is copied to a temporary folder, one sabotage of ``mutants_table`` is applied to the copy, and the tests that
must notice run there against the copy. A sabotage that they do not notice survives, and the exit status is 1.
"""

from __future__ import annotations

import fnmatch
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT = ("runs", "dist", "build")  # and whatever begins with a dot
TIME_LIMIT = 180.0  # seconds; a sabotage that makes the tests hang is noticed too
TESTS_FAILED = 1  # pytest's exit status when tests ran and some failed


@dataclass(frozen=True)
class Mutant:
    """One sabotage: ``old`` becomes ``new`` in ``file``; ``tests`` (files, or node ids) must notice."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


class Unfit(Exception):
    """A sabotage that does not fit the present tree."""


def sabotaged(mutant: Mutant, text: str) -> str:
    """``text`` with the sabotage applied; ``Unfit`` unless ``old`` occurs exactly once and ``new`` differs."""
    times = text.count(mutant.old)
    if times != 1:
        raise Unfit(f"{mutant.name}: the old text occurs {times} times in {mutant.file}, not once")
    if mutant.old == mutant.new:
        raise Unfit(f"{mutant.name}: the new text is the old one")
    return text.replace(mutant.old, mutant.new)


def copy_tree(target: Path) -> None:
    """Copy the repository to ``target``, without what git ignores."""
    for source in ROOT.iterdir():
        if source.name.startswith(".") or source.name in LEFT_OUT:
            continue
        if source.is_dir():
            shutil.copytree(source, target / source.name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        else:
            shutil.copy2(source, target / source.name)


def run_tests(tree: Path, tests: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    """Run ``tests`` in ``tree`` against the package in ``tree``, stopping at the first failure."""
    data = os.environ.get("EQUIPOISE_DATA", "")
    environment = {
        **os.environ,
        "PYTHONPATH": str(tree / "src"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        **({"EQUIPOISE_DATA": str(Path(data).resolve())} if data else {}),
    }
    options = ["-q", "-x", "--no-header", "--override-ini", "addopts=--import-mode=importlib"]
    command = [sys.executable, "-m", "pytest", *options, "-m", "not slow", *tests]
    return _in_a_group(command, tree, environment)


def _in_a_group(command: list[str], folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run ``command``; past the time limit kill it with all that it started."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=TIME_LIMIT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    return subprocess.CompletedProcess(command, process.returncode, output)


def imported_from(tree: Path) -> Path:
    """The file that ``import equipoise`` finds in a process of ``run_tests``."""
    program = "import equipoise; print(equipoise.__file__)"
    environment = {**os.environ, "PYTHONPATH": str(tree / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tree, env=environment, capture_output=True, text=True, check=True
    )
    return Path(done.stdout.strip())


def verdict(mutant: Mutant, tree: Path) -> str:
    """``caught``, ``SURVIVED``, or what kept the tests from running at all."""
    path = tree / mutant.file
    whole = path.read_text()
    try:
        path.write_text(sabotaged(mutant, whole))
        status = run_tests(tree, mutant.tests).returncode
    except Unfit as reason:
        return f"UNFIT ({reason})"
    except subprocess.TimeoutExpired:
        return "caught (the tests hung)"
    finally:
        path.write_text(whole)
    if status == 0:
        return "SURVIVED"
    return "caught" if status == TESTS_FAILED else f"BROKEN (pytest exited with {status})"


def healthy(tree: Path, mutants: list[Mutant]) -> list[str]:
    """The test files that fail, or cannot run, before any sabotage: nothing that they notice would count."""
    files = sorted({test for mutant in mutants for test in mutant.tests})
    return [file for file in files if run_tests(tree, (file,)).returncode != 0]


def main(argv: list[str]) -> int:
    """Run the sabotages whose names match, print a table; 1 unless every one was caught."""
    from tests.mutants_table import MUTANTS

    chosen = [m for m in MUTANTS if not argv or any(fnmatch.fnmatchcase(m.name, glob) for glob in argv)]
    if not chosen:
        sys.stderr.write(f"no sabotage matches {' '.join(argv)}; there are: {', '.join(m.name for m in MUTANTS)}\n")
        return 2
    verdicts = []
    with tempfile.TemporaryDirectory(prefix="equipoise-mutants-") as folder:
        tree = Path(folder).resolve()
        copy_tree(tree)
        if not imported_from(tree).is_relative_to(tree):
            sys.stderr.write("the tests would import the installed package instead of the copy; nothing was run\n")
            return 2
        sick = healthy(tree, chosen)
        if sick:
            sys.stderr.write(f"these fail without any sabotage: {', '.join(sick)}\n")
            return 2
        for mutant in chosen:
            start = time.perf_counter()
            verdicts.append(verdict(mutant, tree))
            seconds = time.perf_counter() - start
            sys.stdout.write(f"{mutant.name:44} {mutant.file:44} {seconds:6.1f} s  {verdicts[-1]}\n")
            sys.stdout.flush()
    caught = sum(v.startswith("caught") for v in verdicts)
    sys.stdout.write(f"{caught} of {len(verdicts)} sabotages caught\n")
    return int(caught < len(verdicts))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
