"""Every table and curve of the PEPITA paper, from runs that were made up: a failure here hides a wrong number in print.

The runs have known accuracies and histories; figures are read back from their axes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from equipoise.measure.slowness import slowness
from equipoise.papers import Published, published
from equipoise.papers.exhibits import Number
from equipoise.papers.pepita import figures_accuracy
from equipoise.papers.pepita.figures import EXHIBITS
from reliability._exhibits import MINUS, figures, history, lines, row, show, shown, tables


def test_table_1_has_ours_the_papers_and_the_difference() -> None:
    rows = [row("fc-mnist", "pepita", seed, accuracy=a) for seed, a in enumerate((0.97, 0.98, 0.96))]
    rows += [row("fc-mnist", "dfa", accuracy=0.9), row("conv-cifar10", "bp", accuracy=0.6)]
    (table,) = tables(show("pepita/table1", rows))
    assert table.title.endswith("(preset paper)")
    assert list(table.columns) == ["rule", "MNIST, dense", "CIFAR-10, convolutional"]
    cells = {str(line[0]): [shown(c) for c in line[1:]] for line in table.rows}
    assert list(cells) == ["bp", "dfa", "pepita"]
    assert cells["pepita"][0] == ["97.00", "±", "1.00", "n = 3", "paper 98.01 ± 0.09", f"difference {MINUS}1.01"]
    assert cells["dfa"][0] == ["90.00", "n = 1"], "the paper has no direct feedback"
    assert cells["bp"] == [["None"], ["60.00", "n = 1", "paper 64.99 ± 0.32", f"difference {MINUS}4.99"]]
    assert "over 10 seeds" in table.caption


def test_table_1_takes_no_number_of_an_epoch_for_the_final_one(monkeypatch: pytest.MonkeyPatch) -> None:
    early = Published("pepita/table1", "q", 35.0, "a log", "test_accuracy", epoch=1, match={"rule": "pepita"})
    monkeypatch.setattr(figures_accuracy, "published", lambda: [early, *published()])
    (table,) = tables(show("pepita/table1", [row("fc-mnist", "pepita", accuracy=0.98)]))
    assert "paper 98.01 ± 0.09" in shown(table.rows[0][1])


def test_table_1_keeps_presets_and_settings_apart_and_smoke_runs_away() -> None:
    rows = [row("fc-mnist", "bp", accuracy=0.9), row("fc-mnist", "bp", accuracy=0.8, preset="quick", epochs=1)]
    rows += [
        row("fc-mnist", "bp", accuracy=0.7, lr=0.5, preset="quick", epochs=1),
        row("fc-digits", "bp", preset="smoke"),
    ]
    paper, quick = tables(show("pepita/table1", rows))
    assert [shown(line[1])[0] for line in paper.rows] == ["90.00"]
    assert {str(line[0]): shown(line[1])[0] for line in quick.rows} == {"bp, lr=0.1": "80.00", "bp, lr=0.5": "70.00"}


def test_table_1_has_curves_a_column_and_angles_of_all() -> None:
    rows = [
        row("fc-mnist", "bp", angle=0.0),
        row("fc-mnist", "pepita", angle=80.0),
        row("conv-mnist", "pepita", angle=70.0),
    ]
    histories = {one["hash"]: history(test_accuracy=[0.1 * k, 0.5]) for k, one in enumerate(rows)}
    drawn = figures(show("pepita/table1", rows, histories))
    assert list(drawn) == ["accuracy-fc-mnist", "accuracy-conv-mnist", "angles", "seconds"]
    found = lines(drawn["accuracy-fc-mnist"][0])
    assert found["pepita"] == ([1, 2], [0.1, 0.5])
    assert list(found) == ["bp", "pepita"]
    assert list(lines(drawn["angles"][0])) == ["pepita"], "backpropagation is at 0 by definition"
    assert lines(drawn["angles"][0])["pepita"][1] == [80.0, 70.0]
    assert sorted(patch.get_height() for patch in drawn["seconds"][0].patches) == [10.0, 10.0, 10.0]


def test_curves_are_means_with_the_published_log_beside_pepitas() -> None:
    rows = [row("fc-cifar10", "pepita", seed) for seed in (0, 1)] + [row("fc-cifar10", "bp")]
    values = ([0.3, 0.5], [0.4, 0.5], [0.45, 0.55])
    histories = {one["hash"]: history(test_accuracy=v) for one, v in zip(rows, values, strict=True)}
    ((ax,),) = figures(show("pepita/curves", rows, histories)).values()
    found = lines(ax)
    assert found["pepita"][1] == pytest.approx([0.35, 0.5])
    assert found["bp"][1] == pytest.approx([0.45, 0.55])
    epochs, accuracy = found["pepita, published"]
    assert epochs == [1, 10, 30, 60, 61, 100]
    assert accuracy == pytest.approx([0.3512, 0.4505, 0.4977, 0.5092, 0.5245, 0.5258])
    assert "bp, published" not in found
    band = ax.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == pytest.approx(0.35 - np.std([0.3, 0.4], ddof=1))
    (smoke,) = figures(show("pepita/curves", [row("fc-digits", "pepita", preset="smoke")], {})).values() or [None]
    assert smoke is None


def test_dynamics_has_accuracy_angle_and_the_first_layers_norm() -> None:
    one = row("fc-mnist", "pepita")
    series = {
        "test_accuracy": [0.8, 0.9],
        "product_angle": [95.0, 110.0],
        "norm__1": [20.0, 21.0],
        "norm__4": [3.0, 4.0],
    }
    longer = row("fc-mnist", "pepita", experiment="pepita/dynamics", epochs=30)
    histories = {one["hash"]: history(**series), longer["hash"]: history(**{k: [*v, v[1]] for k, v in series.items()})}
    drawn = figures(show("pepita/dynamics", [one, longer], histories))
    assert sorted(drawn) == ["3-epochs", "30-epochs"]
    found = [next(iter(lines(ax).values())) for ax in drawn["3-epochs"]]
    assert found == [([1, 2], [0.8, 0.9]), ([1, 2], [95.0, 110.0]), ([1, 2], [20.0, 21.0])]
    assert 90 in [line.get_ydata()[0] for line in drawn["3-epochs"][1].get_lines()], "a random pair's angle is marked"
    assert len(next(iter(lines(drawn["30-epochs"][0]).values()))[0]) == 3
    accuracy_alone = {one["hash"]: history(test_accuracy=[0.8, 0.9])}
    assert figures(show("pepita/dynamics", [one], accuracy_alone)) == {}


def test_linear_has_the_trace_the_angle_and_both_norms() -> None:
    one = row("fc-mnist", "pepita", experiment="pepita/linear")
    series = {
        "product_trace": [0.5, -0.5],
        "product_angle": [89.0, 92.0],
        "norm__1": [20.0, 21.0],
        "norm__2": [3.0, 4.0],
    }
    ((trace, angle, norms),) = figures(show("pepita/linear", [one], {one["hash"]: history(**series)})).values()
    assert next(iter(lines(trace).values()))[1] == [0.5, -0.5]
    assert next(iter(lines(angle).values()))[1] == [89.0, 92.0]
    assert {name: y for name, (_, y) in lines(norms).items()} == {"layer 1": [20.0, 21.0], "layer 2": [3.0, 4.0]}


def test_controls_are_named_by_what_was_done_to_the_input() -> None:
    changes = ({"scale": 0.0}, {"sign": -1}, {"perturb": "uniform", "k": 0.1}, {"perturb": "positive", "k": 1.0})
    rows = [row("fc-cifar10", "pepita")]
    rows += [row("fc-cifar10", "pepita", experiment="pepita/controls", options=c) for c in changes]
    histories = {one["hash"]: history(test_accuracy=[0.1 * k, 0.2 * k]) for k, one in enumerate(rows)}
    ((ax,),) = figures(show("pepita/controls", rows, histories)).values()
    expected = ("pepita", "F = 0", f"{MINUS}F", "random, k = 0.1", "random ≥ 0, k = 1")
    assert {name: y for name, (_, y) in lines(ax).items()} == {n: [0.1 * k, 0.2 * k] for k, n in enumerate(expected)}
    assert figures(show("pepita/controls", rows[:1], histories)) == {}, "PEPITA alone is no comparison"


def test_whitening_sets_both_inputs_against_table_4() -> None:
    whitened = {"experiment": "pepita/whitening", "whiten": 0.1, "lr": 0.01}
    rows = [row("fc-mnist", "pepita", accuracy=0.98), row("fc-mnist", "pepita", accuracy=0.92, **whitened)]
    (table,) = tables(show("pepita/whitening", rows))
    cells = [[shown(c) for c in line] for line in table.rows]
    assert cells == [
        [["images as they are"], ["0.1"], ["98.00"], ["1"], ["98.01", "±", "0.09"], [f"{MINUS}0.01"]],
        [["whitened images"], ["0.01"], ["92.00"], ["1"], ["92.08", "±", "0.14"], [f"{MINUS}0.08"]],
    ]
    assert show("pepita/whitening", rows[:1]) == []


def test_depth_counts_the_layers_of_weights() -> None:
    deep = {"experiment": "pepita/depth", "model": "mlp:784-1024-1024-10,bias=no,init=he_uniform,dropout=0.1"}
    rows = [row("fc-mnist", "pepita", accuracy=0.9, angle=80.0), row("fc-mnist", "bp", accuracy=0.98, angle=0.0)]
    rows += [row("fc-mnist", "pepita", seed, accuracy=0.8 + seed / 10, angle=85.0, **deep) for seed in (0, 1)]
    found = show("pepita/depth", rows)
    (table,) = tables(found)
    assert list(table.columns) == ["rule", "2 layers", "3 layers"]
    assert [[shown(c) for c in line] for line in table.rows] == [
        [["bp"], ["98.00", "n = 1"], ["None"]],
        [["pepita"], ["90.00", "n = 1"], ["85.00", "±", "7.07", "n = 2"]],
    ]
    drawn = figures(found)
    assert lines(drawn["accuracy"][0])["pepita"] == ([2, 3], pytest.approx([0.9, 0.85]))
    assert {name: y for name, (_, y) in lines(drawn["angles"][0]).items()} == {"pepita": [80.0, 85.0]}
    assert show("pepita/depth", rows[:2]) == [], "one depth is no comparison"


def test_slowness_is_fitted_to_the_mean_curve_and_set_against_table_3() -> None:
    rows = [row("fc-cifar10", "pepita", seed) for seed in (0, 1)]
    curves = [[a * k / (0.7 + k) for k in range(1, 71)] for a in (0.5, 0.54)]
    histories = {one["hash"]: history(test_accuracy=v) for one, v in zip(rows, curves, strict=True)}
    found = show("pepita/slowness", rows, histories)
    fit = slowness(np.mean(curves, axis=0).tolist(), 0.1, epochs=59)
    ((line,),) = (table.rows for table in tables(found))
    assert [shown(c)[0] for c in line[:2]] == ["CIFAR-10, dense", "pepita"]
    ours, paper, gap = line[2:5]
    assert isinstance(ours, Number)
    assert ours.value == pytest.approx(fit.slowness)
    assert isinstance(paper, Number)
    assert paper.value == 0.785
    assert isinstance(gap, Number)
    assert gap.value == pytest.approx(fit.slowness - 0.785)
    assert list(line[6:]) == [59, 2]
    ((ax,),) = figures(found).values()
    x, y = lines(ax)["pepita"]
    assert (x, y[0], y[59]) == (list(range(60)), 0.1, pytest.approx(0.52 * 59 / 59.7))
    fitted = next(curve for curve in ax.get_lines() if str(curve.get_label()).startswith("_"))
    assert fitted.get_ydata()[10] == pytest.approx(fit.maximum / (fit.slowness + 1))
    short = {key: epochs[:5] for key, epochs in histories.items()}
    ((line,),) = (table.rows for table in tables(show("pepita/slowness", rows, short)))
    assert (line[4], line[6]) == (None, 5), "five epochs are not set against the paper's 59"


def test_what_the_runs_do_not_allow_is_left_out(tmp_path: Path) -> None:
    for name in EXHIBITS:
        assert show(name, []) == []
    dense, conv = row("fc-mnist", "pepita"), row("conv-mnist", "pepita")
    weights = row("fc-mnist", "bp", experiment="pepita/weights")
    for name, one in (("dynamics", dense), ("embedding", dense), ("frozen-conv", conv), ("weights", weights)):
        assert show(f"pepita/{name}", [one], {}, tmp_path) == []
    damaged = tmp_path / "pepita" / "table1" / dense["hash"] / "weights.safetensors"
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"no weights")
    assert show("pepita/embedding", [dense], {}, tmp_path) == []
