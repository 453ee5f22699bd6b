"""From rows of runs to groups, curves and the README: no run counted twice, none averaged with another kind.

A failure would hide a mean over runs with different settings, or a README that no longer says what the files say.
"""

import math
import subprocess
import sys

import pytest

from equipoise import report
from equipoise.errors import InputError
from equipoise.measure.statistics import estimate
from equipoise.report import listing
from equipoise.sweep import write_csv


def row(rule: str = "bp", seed: int = 0, value: float = 0.5, **more: object) -> dict[str, object]:
    spec = {"experiment": "train", "data": "digits", "model": "mlp:64-100-10", "rule": rule, "lr": 0.1} | more
    name = abs(hash((tuple(sorted(spec.items())), seed))) % 16**12
    return spec | {"seed": seed, "hash": f"{name:012x}", "preset": "paper", "device": "cpu", "test_accuracy": value}


FINE = [row(seed=s, value=v) for s, v in enumerate([0.9, 0.92, 0.94])]


def test_seeds_of_one_setting_make_one_group() -> None:
    (group,) = report.group(FINE, "test_accuracy")
    assert group.values == (0.9, 0.92, 0.94)
    assert group.settings == ""
    assert group.presets == ("paper",)
    assert group.hashes == tuple(str(r["hash"]) for r in FINE)


def test_runs_of_other_settings_are_never_averaged_and_say_what_differs() -> None:
    rows = [*FINE, row(value=0.1, lr=0.01), row(value=0.2, **{"options.scale": 2.0})]
    groups = report.group(rows, "test_accuracy")
    assert [(g.values, g.settings) for g in groups] == [
        ((0.9, 0.92, 0.94), "lr=0.1"),
        ((0.1,), "lr=0.01"),
        ((0.2,), "lr=0.1, options.scale=2.0"),
    ]
    table = report.group_table(groups)
    assert "settings" in table.columns
    assert len(table.rows) == 3


def test_equal_values_have_the_digits_of_their_mean_whatever_rounding_makes_of_them() -> None:
    equal = [row("fa", s, v) for s, v in enumerate([0.9, 0.9 + 1e-16, 0.9 - 1e-16])]
    table = report.group_table(report.group([*FINE, *equal], "test_accuracy"))
    assert [[part.shown for part in line[1] if isinstance(part, report.Number)] for line in table.rows] == [
        ["0.9200", "0.0497"],
        ["0.9000", "0.0000"],
    ]


def test_settings_that_differ_between_models_are_told_too() -> None:
    groups = report.group([*FINE, row(model="mlp:64-9-10", epochs=3)], "test_accuracy")
    assert [g.settings for g in groups] == ["", "epochs=3"]
    groups = report.group(
        [row(epochs=1), row("fa", epochs=1), row("fa", model="mlp:64-9-10", epochs=3)], "test_accuracy"
    )
    assert [g.settings for g in groups] == ["epochs=1", "epochs=1", "epochs=3"]


def test_the_readme_tells_settings_apart_within_an_experiment_alone() -> None:
    rows = [row(), row("fa"), row(experiment="other", lr=0.2), row("fa", experiment="other", lr=0.3)]
    cells = [line.split(" | ") for line in listing.render(rows).splitlines() if line.startswith("| ")]
    place = cells[0].index("settings")
    assert [line[place].strip() for line in cells[2:]] == ["lr=0.2", "lr=0.3", "", ""]


def test_a_run_counts_once() -> None:
    (group,) = report.group([*FINE, *FINE], "test_accuracy")
    assert len(group.values) == 3


def test_a_missing_metric_is_left_out_but_a_diverged_run_is_not() -> None:
    rows = [*FINE, row(seed=3) | {"test_accuracy": None}]
    assert len(report.group(rows, "test_accuracy")[0].values) == 3
    (group,) = report.group([*FINE, row(seed=3, value=math.nan)], "test_accuracy")
    assert math.isnan(group.estimate.mean)


def test_what_all_rows_share_is_said_once() -> None:
    rows = [*FINE, row("fa", value=0.8)]
    table = report.group_table(report.group(rows, "test_accuracy"), caption="Accuracy.")
    assert table.columns == ["rule", "test accuracy", "seeds"]
    assert table.caption.startswith("Accuracy. In every row: experiment `train`")
    runs = report.run_table(rows)
    assert "data" not in runs.columns
    assert "data `digits`" in runs.caption
    assert [r[1] for r in runs.rows] == ["bp", "bp", "bp", "fa"]


def test_a_curve_is_the_estimate_over_seeds_at_each_epoch() -> None:
    histories = [[{"epoch": e, "test_accuracy": e / 10 + s} for e in (1, 2)] for s in (0.0, 0.1, 0.5)]
    found = report.curve([*histories, [{"epoch": 3, "test_accuracy": 0.7}, {"epoch": 4}]], "test_accuracy")
    assert found.x == (1, 2, 3)
    second = estimate([0.2, 0.3, 0.7])
    assert (found.mean[1], found.low[1], found.high[1]) == pytest.approx((second.mean, second.low, second.high))
    assert math.isnan(found.low[2])


def test_angles_by_layer() -> None:
    rows = [{"angle": 50.0, "angle/1": 40.0 + s, "angle/3": 60.0, "angle/5": None} for s in range(3)]
    found = report.layers(rows)
    assert found.x == ("1", "3")
    assert list(found.mean) == [41.0, 60.0]


@pytest.fixture
def project(tmp_path):
    (tmp_path / "README.md").write_text(
        f"# before\n{listing.BEGIN}\nold\n{listing.END}\nafter | text\n", encoding="utf-8"
    )
    rows = [r | {"angle": 60.0 + i} for i, r in enumerate([row("fa|dfa", s, 0.5 + s / 100) for s in range(3)])]
    write_csv([*FINE, *rows], tmp_path / "results" / "train.csv")
    write_csv([{"quantity": "another kind of table", "mean": 1.0}], tmp_path / "results" / "other.csv")
    return tmp_path


def run(project, *more: str) -> int:
    return listing.main(["--results", str(project / "results"), "--page", str(project / "README.md"), *more])


def test_the_readme_says_what_the_files_say(project) -> None:
    assert run(project, "--check") == 1
    assert "old" in (project / "README.md").read_text(encoding="utf-8")
    assert run(project) == 0
    text = (project / "README.md").read_text(encoding="utf-8")
    assert text.startswith(f"# before\n{listing.BEGIN}\n")
    assert text.endswith(f"{listing.END}\nafter | text\n")
    half = 100 * estimate([0.9, 0.92, 0.94]).half
    assert f"| train | digits | mlp:64-100-10 | bp | 92.0 ± {half:.1f} |  | 3 | paper | cpu |" in text
    assert r"| fa\|dfa | 51.0 ± 2.5 | 61.0 ± 2.5 | 3 |" in text
    assert run(project, "--check") == 0
    assert run(project) == 0
    assert (project / "README.md").read_text(encoding="utf-8") == text


def test_short_runs_stay_out_of_the_readme(project) -> None:
    write_csv([row("dfa") | {"preset": kind} for kind in ("smoke", "quick (changed)")], project / "results" / "z.csv")
    assert run(project) == 0
    assert "| dfa |" not in (project / "README.md").read_text(encoding="utf-8")


def test_what_a_data_set_wants_said_stands_under_the_table_once() -> None:
    text = listing.render([row(seed=s) | {"note": "JPEG copies"} for s in range(2)] + [row("fa")])
    assert text.endswith("|\n\nJPEG copies")


def test_the_readme_notices_a_changed_result(project) -> None:
    assert run(project) == 0
    write_csv([row(seed=9, value=0.123)], project / "results" / "more.csv")
    assert run(project, "--check") == 1


def test_no_results_are_said_so(project) -> None:
    (project / "results" / "train.csv").unlink()
    assert run(project) == 0
    assert "No results yet." in (project / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("text", ["no marks", f"{listing.END}\n{listing.BEGIN}", f"{listing.BEGIN}{listing.END}" * 2])
def test_a_readme_without_its_marks_is_refused(project, text: str, capsys) -> None:
    (project / "README.md").write_text(text)
    assert run(project) == 2
    assert "results:begin" in capsys.readouterr().err
    assert (project / "README.md").read_text() == text
    with pytest.raises(InputError):
        listing.replace(text, "block")


def test_missing_files_are_one_line_each(project, capsys) -> None:
    (project / "README.md").unlink()
    assert run(project) == 2
    assert listing.main(["--results", str(project / "nowhere"), "--page", __file__]) == 2
    assert capsys.readouterr().err.count("\n") == 2


def test_it_runs_as_a_module_without_a_warning(project) -> None:
    command = [sys.executable, "-W", "error", "-m", "equipoise.report.listing", "--check"]
    done = subprocess.run(
        [*command, "--results", project / "results", "--page", project / "README.md"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "make results" in done.stderr
