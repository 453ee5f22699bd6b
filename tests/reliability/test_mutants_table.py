"""The table of sabotages fits the present tree: a failure here hides sabotages that no longer test anything."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from tests import mutants
from tests.mutants import Mutant, Unfit, sabotaged
from tests.mutants_table import MUTANTS


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_sabotage_fits_the_tree(mutant: Mutant, root: Path) -> None:
    text = (root / mutant.file).read_text()
    changed = sabotaged(mutant, text)
    if mutant.file.endswith(".py"):
        compile(changed, mutant.file, "exec")
    assert mutant.tests
    for test in mutant.tests:
        assert (root / test.partition("::")[0]).is_file()


def test_names_are_unique_and_every_file_of_sabotages_is_gathered(root: Path) -> None:
    assert [name for name, times in Counter(m.name for m in MUTANTS).items() if times > 1] == []
    for file in (root / "tests" / "sabotages").glob("*.py"):
        assert f"*{file.stem}.MUTANTS" in (root / "tests" / "mutants_table.py").read_text()


@pytest.mark.parametrize(("text", "times"), [("x = 2", 0), ("x = 1\nx = 1", 2)])
def test_a_text_that_does_not_occur_once_is_refused(text: str, times: int) -> None:
    with pytest.raises(Unfit, match=f"occurs {times} times in a.py"):
        sabotaged(Mutant("a", "a.py", "x = 1", "x = 3", ("t.py",)), text)


def test_a_sabotage_that_changes_nothing_is_refused() -> None:
    with pytest.raises(Unfit, match="the new text is the old one"):
        sabotaged(Mutant("a", "a.py", "x = 1", "x = 1", ("t.py",)), "x = 1")


@pytest.fixture
def tree(tmp_path: Path, monkeypatch) -> Path:
    """A package of one line with one test that notices when it changes and one that does not."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # the plugins take longer to load than the test
    (tmp_path / "src" / "equipoise").mkdir(parents=True)
    (tmp_path / "src" / "equipoise" / "__init__.py").write_text("ANSWER = 42\nOTHER = 1\n")
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\nmarkers = ['slow']\n")
    (tmp_path / "test_it.py").write_text("import equipoise\ndef test_it():\n    assert equipoise.ANSWER == 42\n")
    return tmp_path


def test_a_sabotage_is_run_against_the_copy_and_undone(tree: Path) -> None:
    """The installed package is intact, so ``caught`` proves that the tests saw the copy."""
    package = "src/equipoise/__init__.py"
    noticed = Mutant("noticed", package, "ANSWER = 42", "ANSWER = 41", ("test_it.py",))
    survivor = Mutant("survivor", package, "OTHER = 1", "OTHER = 2", ("test_it.py",))
    broken = Mutant("broken", package, "OTHER = 1", "OTHER = 2", ("no_such_test.py",))
    before = (tree / package).read_text()
    assert mutants.verdict(noticed, tree) == "caught"
    assert mutants.verdict(survivor, tree) == "SURVIVED"
    assert mutants.verdict(broken, tree).startswith("BROKEN")
    assert (tree / package).read_text() == before
    assert mutants.healthy(tree, [noticed, broken]) == ["no_such_test.py"]


def test_a_survivor_makes_the_command_fail(tree: Path, monkeypatch, capsys) -> None:
    package = "src/equipoise/__init__.py"
    table = (
        Mutant("noticed", package, "ANSWER = 42", "ANSWER = 41", ("test_it.py",)),
        Mutant("survivor", package, "OTHER = 1", "OTHER = 2", ("test_it.py",)),
    )
    monkeypatch.setattr("tests.mutants_table.MUTANTS", table)
    monkeypatch.setattr(mutants, "ROOT", tree)
    assert mutants.main(["noticed"]) == 0
    assert mutants.main([]) == 1
    assert "1 of 2 sabotages caught" in capsys.readouterr().out
    assert mutants.main(["nothing"]) == 2
