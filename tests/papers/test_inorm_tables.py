"""What the I-Norm experiments show of made-up runs whose statistics are worked out by hand: a failure here is a table
that says another number than its head, or a figure that leaves a draw out.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import mannwhitneyu, t

from equipoise import plots, sweep
from equipoise.errors import InputError
from equipoise.papers.exhibits import Figure, Note, Number, Table
from equipoise.papers.inorm.conditions import CONDITIONS, Scale, draws, plain
from equipoise.papers.inorm.figures import EXHIBITS

LN = [70.0, 72.0, 75.0, 78.0, 80.0, 83.0]
DIFFERENCES = {"center": [1.0, 2.0, 3.0, 4.0, 5.0, -0.5], "full": [0.1, 0.2, 0.3, -0.05, 0.15, 0.25]}
PLACES = draws(6)


def row(name: str, accuracy: float, place: int, **measured: float) -> dict[str, Any]:
    run = plain(name, PLACES[place], 0.75, 0, Scale())
    found = {"hash": run.hash, "preset": "paper", "test_accuracy": accuracy / 100, **measured}
    return {**sweep.flat(run), **found}


def shown(name: str, rows: list, histories: dict | None = None) -> list:
    return EXHIBITS[name](rows, histories or {}, Path("none"))


def test_the_paired_table_has_the_numbers_that_its_heads_say() -> None:
    rows = [row("ln", v, k) for k, v in enumerate(LN)]
    for name, found in DIFFERENCES.items():
        rows += [row(name, v + d, k) for k, (v, d) in enumerate(zip(LN, found, strict=True))]
    (table,) = (one for one in shown("inorm/accuracy", rows) if isinstance(one, Table))
    lines = {line[1]: dict(zip(table.columns, line, strict=True)) for line in table.rows}
    center, full = lines["I-Norm + center"], lines["I-Norm + full"]
    assert Note("n = 6") in center["accuracy, %"]
    mean, ends = center["less LN, points"]
    assert (mean.text, center["median"].text) == ("+2.42", "+2.50")
    low, high = (float(v) for v in ends.text.strip("[]").split(", "))
    assert low < 14.5 / 6 < high
    # Ranks of |d|: 0.5 has rank 1 and a minus, so W+ = 20; of 64 signs 2 give 20 or more.
    assert center["Wilcoxon p"].value == pytest.approx(4 / 64)
    assert center["effect"].value == pytest.approx(19 / 21)
    # Two lines: 4/64 and, where the least of six is negative too, 4/64 again; Holm doubles the first and keeps it.
    assert full["Wilcoxon p"].value == pytest.approx(4 / 64)
    assert [one["Holm p"].value for one in (center, full)] == pytest.approx([8 / 64] * 2)
    for name, line in (("center", center), ("full", full)):
        d = DIFFERENCES[name]
        m = sum(d) / 6
        s = math.sqrt(sum((v - m) ** 2 for v in d) / 5 / 6)
        assert line["TOST p"].value == pytest.approx(max(t.sf((m + 0.5) / s, 5), t.sf((0.5 - m) / s, 5)))
        cell = line["Mann-Whitney p"]
        ours = cell[0] if isinstance(cell, tuple) else cell
        theirs = mannwhitneyu([v + one for v, one in zip(LN, d, strict=True)], LN).pvalue
        assert ours.value == pytest.approx(theirs)
    assert Note("paper: 0.6099") in center["Mann-Whitney p"]
    assert (center["verdict"], full["verdict"], lines["LN"]["verdict"]) == ("open", "equal", "baseline")


def test_pepita_is_compared_with_itself_and_centring_behind_ln_with_ln() -> None:
    rows = [row(name, 60 + k + shift, k) for k in range(4) for shift, name in enumerate(_taught())]
    first, second = (one for one in shown("inorm/rules", rows) if isinstance(one, Table))
    assert (first.columns[3], second.columns[3]) == ("less PEPITA, ReLU, points", "less PEPITA, LN, points")
    assert [line[4].value for line in first.rows[1:]] == pytest.approx([1, 2, 3])  # type: ignore[union-attr]
    assert [line[4].value for line in second.rows[1:]] == pytest.approx([1])  # type: ignore[union-attr]


def _taught() -> list[str]:
    return [name for name, one in CONDITIONS.items() if one.pepita]


def test_draws_are_joined_across_conditions_and_a_lost_run_is_a_cross() -> None:
    fig, ax = plots.figure()
    rows = {"LN": {"a": 80.0, "b": 82.0}, "I-Norm": {"a": 79.0, "b": None}, "center": {"b": 81.0}}
    assert plots.joined(ax, rows, floor=10.0, xlabel="test accuracy, %") is ax
    segments = {tuple(line.get_xdata()) for line in ax.lines if list(line.get_ydata()) in ([0, 1], [1, 2])}
    assert segments == {(80.0, 79.0), (82.0, 10.0), (10.0, 81.0)}
    crosses = [line for line in ax.lines if line.get_marker() == "x" and len(line.get_xdata())]
    assert [(list(one.get_xdata()), list(one.get_ydata())) for one in crosses] == [([10.0], [1])]
    means = [line.get_xdata()[0] for line in ax.lines if line.get_linewidth() == 2.6 and len(line.get_xdata())]
    assert means == [81.0, 44.5, 81.0]
    assert [text.get_text() for text in ax.texts] == list(rows)
    assert {text.get_text() for text in fig.legends[0].get_texts()} == {"a draw", "mean", "diverged"}
    with pytest.raises(InputError, match="nothing to draw"):
        plots.joined(ax, {})


def test_moments_are_medians_of_each_layer_over_draws() -> None:
    rows = [
        row("inorm", 80, k, **{"moments/1/mean": -0.5, "moments/1/variance": v, "moments/2/variance": 10 * v})
        for k, v in enumerate((0.25, 1.0, 4e7))
    ]
    (table,) = (one for one in shown("inorm/accuracy", rows) if isinstance(one, Table) and "by layer" in one.title)
    assert [line[2] for line in table.rows] == [1, 2]
    variances = [line[4] for line in table.rows]
    assert variances == [
        (Number(1.0, "1.00"), Note("[0.25, 4e+07]")),
        (Number(10.0, "10.00"), Note("[2.50, 4e+08]")),
    ]
    assert [line[3] for line in table.rows][1] is None


def test_cosines_are_bars_by_kind_and_condition() -> None:
    cosines = {"output": 0.9, "gradient": 0.5, "task": 0.4, "exact_angle": 33.333}
    rows = [row(name, 80, k, **cosines) for name in ("inorm", "center") for k in range(3)]
    found = shown("inorm/alignment", rows)
    (figure,) = (one for one in found if isinstance(one, Figure))
    assert figure.name == "cosines-range-075-50-epochs"
    heights = [bar.get_height() for bar in figure.figure.axes[0].patches]
    assert heights == pytest.approx([0.9, 0.5, 0.4] * 2)
    (table,) = (one for one in found if isinstance(one, Table))
    angle = table.rows[0][table.columns.index("angle to exact, °")]
    assert angle[0] == Number(pytest.approx(33.333), "33.3")  # type: ignore[index]


def test_theorem_1_is_drawn_with_what_it_says() -> None:
    figure, table = shown("inorm/lateral", [])
    (ax,) = figure.figure.axes
    curves = {line.get_label(): list(line.get_ydata()) for line in ax.lines}
    uniform = [one for line in ax.lines if line.get_marker() == "o" for one in [list(line.get_ydata())]]
    assert curves["uniform"][3] == pytest.approx(1 / math.sqrt(3 * 234), rel=0.1)
    assert any(one[3] == pytest.approx(1 / math.sqrt(3 * 234)) for one in uniform), "the rings are CV / sqrt(n)"
    assert {line[1] for line in table.rows} == {100, 234, 500}
