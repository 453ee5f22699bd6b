"""The tables of the guides: made from result files alone, never typed, and noticed when they are out of date.

A failure would let a guide quote a figure that no run in ``results/`` gave.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from equipoise import sweep
from equipoise.cli.documents import END, filled, main
from equipoise.errors import InputError
from equipoise.papers.inorm.conditions import Scale, draws, plain

MARK = "<!-- table: inorm/accuracy: Against LN -->"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Six pairs, I-Norm 2 points below LN each time but for one run that diverged, and a guide that shows them."""
    scale = Scale(epochs=2)
    found = []
    for place, draw in enumerate(draws(6, upper=True)):
        for name, accuracy in (("ln", 0.8 + place / 100), ("inorm", 0.78 + place / 100)):
            run = plain(name, draw, 0.75, 0, scale, preset="quick")
            row = sweep.flat(run) | {"hash": run.hash, "status": "finished", "test_accuracy": accuracy}
            if (place, name) == (5, "inorm"):
                row = row | {"status": "failed", "test_accuracy": None, "message": "the loss is not finite"}
            found.append(row)
    sweep.write_csv(found, tmp_path / "results" / "inorm" / "accuracy.csv")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "guide.md").write_text(f"before\n\n{MARK}\nold\n{END}\n\nafter\n", encoding="utf-8")
    (tmp_path / "docs" / "plain.md").write_text("no table\n", encoding="utf-8")
    return tmp_path


def run(project: Path, *more: str) -> int:
    return main(["--results", str(project / "results"), "--docs", str(project / "docs"), *more])


def test_a_guide_is_filled_from_the_files_and_then_in_date(project: Path, capsys: pytest.CaptureFixture) -> None:
    guide = project / "docs" / "guide.md"
    assert run(project, "--check") == 1
    assert "make results" in capsys.readouterr().err
    assert "old" in guide.read_text(encoding="utf-8")
    assert run(project) == 0
    text = guide.read_text(encoding="utf-8")
    assert text.startswith(f"before\n\n{MARK}\n\n| ")
    assert text.endswith(f"\n\n{END}\n\nafter\n")
    assert "old" not in text
    assert "n = 6, 1 diverged" in text
    assert f"{(5 * -2 + (10 - 85)) / 6:.2f}".replace("-", "\N{MINUS SIGN}") in text
    assert run(project, "--check") == 0
    assert (project / "docs" / "plain.md").read_text(encoding="utf-8") == "no table\n"


def test_a_table_without_runs_says_which_are_missing(project: Path) -> None:
    text = filled(f"<!-- table: inorm/lambda: Against I-Norm -->\nold\n{END}\n", project / "results")
    assert "equipoise run inorm/lambda" in text
    assert "old" not in text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"{MARK}\nold\n", "has no end"),
        (f"{END}\n", "ends no table"),
        (f"{MARK}\n{MARK}\n{END}\n", "inside the table"),
        (f"<!-- table: inorm/accuracy: Nothing -->\n{END}\n", "it has: Against LN"),
        (f"<!-- table: inorm/absent: Against LN -->\n{END}\n", "it has: none"),
    ],
)
def test_a_mark_that_names_nothing_is_refused(project: Path, text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        filled(text, project / "results")
