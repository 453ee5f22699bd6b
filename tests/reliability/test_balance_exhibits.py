"""Every figure and table of the balance experiments, from runs that were made up: a failure here hides a wrong number.

The runs have known traces and histories; figures are read back from their axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from equipoise import sweep
from equipoise.papers import load_all
from equipoise.papers.balance.figures import EXHIBITS
from equipoise.papers.balance.figures_paper import penalty_of
from equipoise.papers.balance.figures_uses import start_of
from equipoise.papers.balance.networks import NETWORKS, Scale, plain
from equipoise.papers.exhibits import Exhibit
from equipoise.train import experiments, storage
from reliability._exhibits import figures, history, lines, shown, tables

load_all()


def row(
    experiment: str, name: str, seed: int = 0, *, preset: str = "paper", measured: dict | None = None, **changes: Any
) -> dict[str, Any]:
    """A finished run of a network of the experiments, with ``changes`` of its spec and what it measured last."""
    run = plain(name, seed, Scale(), experiment=experiment, **changes)
    return {**sweep.flat(run), "hash": run.hash, "preset": preset, "seconds": 1.0, **(measured or {})}


def follow(folder: Path, one: dict[str, Any], steps: Sequence[float], **series: Sequence[float]) -> dict[str, Any]:
    """Write the trace of a run; two underscores stand for a slash."""
    names = {name: name.replace("__", "/") for name in series}
    points = [{"step": s} | {new: series[old][k] for old, new in names.items()} for k, s in enumerate(steps)]
    path = folder / one["experiment"] / one["hash"]
    path.mkdir(parents=True, exist_ok=True)
    storage.write_lines(path / "trace.jsonl", points)
    return one


def show(
    name: str, rows: list[dict[str, Any]], histories: dict | None = None, folder: Path = Path("none")
) -> list[Exhibit]:
    assert all(experiments[name].shows(one) for one in rows)
    make = experiments[name].exhibits
    assert make is EXHIBITS[name]
    return make(rows, histories or {}, folder)


def cells(found: Sequence[Exhibit]) -> dict[str, list[str]]:
    """The lines of the one table by what tells them apart, as they are shown."""
    (table,) = tables(found)
    return {f"{line[0]}; {line[1]}": [" ".join(shown(cell)) for cell in line[2:]] for line in table.rows}


def test_figure_3_has_the_deficit_the_loss_and_the_norm_of_each_regulariser(tmp_path: Path) -> None:
    name, rows = "balance/regularised", []
    for seed in (0, 1):
        for decay, end in (({}, 200.0), ({"l2": 0.05}, 2.0), ({"l1": 0.002}, 50.0)):
            one = row(name, "autoencoder", seed, decay=decay)
            rows.append(
                follow(
                    tmp_path,
                    one,
                    [0, 50],
                    deficit=[210.0, end + seed],
                    loss=[80.0, 20.0],
                    norm=[22.0, 14.0],
                    deficit_l1=[1e4, 10 * end],
                    norm_l1=[9e3, 5e3],
                    share=[0.5, end / 1000],
                    share_l1=[0.6, 0.1],
                )
            )
    found = show(name, rows, folder=tmp_path)
    drawn = figures(found)
    assert list(drawn) == ["mnist-autoencoder-l2", "mnist-autoencoder-l1"]
    deficit, loss, norm = drawn["mnist-autoencoder-l2"]
    assert lines(deficit) == {"no regulariser": ([0, 50], [210.0, 200.5]), "L2": ([0, 50], [210.0, 2.5])}
    assert deficit.get_yscale() == "log"
    assert lines(loss)["L2"] == ([0, 50], [80.0, 20.0])
    assert lines(norm)["no regulariser"][1] == [22.0, 14.0]
    band = deficit.collections[1].get_paths()[0].vertices
    assert band[:, 1].min() == pytest.approx(2.5 - np.std([2.0, 3.0], ddof=1)), "one standard deviation"
    first, _, third = drawn["mnist-autoencoder-l1"]
    assert lines(first) == {"no regulariser": ([0, 50], [1e4, 2000.0]), "L1": ([0, 50], [1e4, 500.0])}
    assert lines(third)["L1"][1] == [9e3, 5e3]
    told = cells(found)
    assert list(told) == [f"MNIST autoencoder; {penalty}" for penalty in ("no regulariser", "L2", "L1")]
    assert told["MNIST autoencoder; L2"] == ["2.5", "0.002", "20", "0.1", "14", "20", "2"]


def test_networks_presets_and_settings_stay_apart(tmp_path: Path) -> None:
    name, rows = "balance/regularised", []
    curve = {"deficit": [9.0, 4.0], "loss": [2.0, 1.0], "norm": [3.0, 2.0], "share": [0.5, 0.1]}
    more = {"deficit_l1": [5.0, 1.0], "norm_l1": [2.0, 1.0], "share_l1": [0.5, 0.2]}
    for network, preset in (("autoencoder", "paper"), ("local", "paper"), ("autoencoder", "quick"), ("dense", "smoke")):
        for decay in ({}, {"l2": 0.05}):
            one = row(name, network, decay=decay, preset=preset, epochs=7 if preset == "quick" else 10)
            rows.append(follow(tmp_path, one, [0, 50], **curve, **more))
    drawn = figures(show(name, rows, folder=tmp_path))
    assert sorted(drawn) == [
        "locally-connected-cifar-10-l2-paper", "mnist-autoencoder-l2-paper", "mnist-autoencoder-l2-quick",
    ]  # fmt: skip
    other = follow(tmp_path, row(name, "autoencoder", decay={"l2": 0.5}), [0, 50], **curve, **more)
    for one in rows[:2]:
        follow(tmp_path, one, [0, 50], law=[9.0, 5.0], **curve, **more)
    (deficit, *_) = figures(show(name, rows[:2], folder=tmp_path))["mnist-autoencoder-l2"]
    circles = [list(line.get_ydata()) for line in deficit.get_lines() if line.get_markerfacecolor() == "none"]
    assert circles == [[9.0, 5.0]] * 2, "the law of SGD stands beside both"
    (table, *_) = tables(show(name, [*rows[:2], other], folder=tmp_path))
    assert [line[1] for line in table.rows] == ["no regulariser", "L2, decay.l2=0.05", "L2, decay.l2=0.5"]


def test_figure_4_has_the_law_beside_each_rate(tmp_path: Path) -> None:
    name, rows = "balance/unbalanced", []
    for rate, end, law in ((0.05, 4.0, 4.0), (0.001, 1e-6, 1.25e-6)):
        one = row(name, "autoencoder", lr=rate, balance_start="balance")
        curve = {"deficit": [1e-12, end / 2, end], "law": [1e-12, law / 2, law]}
        rows.append(follow(tmp_path, one, [0, 50, 100], **curve, loss=[80.0, 30.0, 20.0], norm=[18.0, 19.0, 20.0]))
    found = show(name, rows, folder=tmp_path)
    ((deficit, loss, norm),) = figures(found).values()
    drawn = lines(deficit)
    assert drawn["learning rate 0.05"] == ([50, 100], [2.0, 4.0]), "a balanced start is rounding alone"
    assert list(drawn) == ["learning rate 0.05", "learning rate 0.001", "law of SGD"]
    circles = [line.get_ydata() for line in deficit.get_lines() if line.get_markerfacecolor() == "none"]
    assert [list(values) for values in circles] == [[2.0, 4.0], [6.25e-7, 1.25e-6]]
    assert len(lines(loss)["learning rate 0.001"][0]) == 3
    assert lines(norm)["learning rate 0.05"][1] == [18.0, 19.0, 20.0]
    told = cells(found)
    assert told["MNIST autoencoder; 0.05"] == ["4", "4", "0", "1"]
    assert told["MNIST autoencoder; 0.001"] == ["1e-06", "1.25e-06", "0.2", "1"]


def test_figure_5_has_distance_and_norm_over_the_orders(tmp_path: Path) -> None:
    name = "balance/convergence"
    one = row(name, "autoencoder", balance_repeats=1000)
    follow(
        tmp_path, one, [0, 650, 1300], sweep=[0.0, 1.0, 2.0], distance=[8.0, 2.0, 0.1], distance_sd=[0.0, 0.5, 0.2],
        distance_max=[8.0, 3.0, 0.4], norm=[22.0, 19.0, 18.1], norm_sd=[0.0, 0.1, 0.0], balanced_norm=[18.0] * 3,
    )  # fmt: skip
    found = show(name, [one], folder=tmp_path)
    (figure,) = [one for one in found if hasattr(one, "figure")]
    assert "1000 random orders" in figure.title
    distance, norm = figure.figure.axes
    assert lines(distance)["largest"] == ([0, 1, 2], [8.0, 3.0, 0.4])
    assert lines(distance)["mean ± standard deviation"][1] == [8.0, 2.0, 0.1]
    low = distance.collections[0].get_paths()[0].vertices[:, 1].min()
    assert low == pytest.approx(0.1 / 10), "a band in decades stays above 0"
    assert 18.0 in [float(np.ravel(line.get_ydata())[0]) for line in norm.get_lines()], "the balanced norm is marked"
    (table,) = tables(found)
    assert [" ".join(shown(c)) for c in table.rows[0]] == [
        "MNIST autoencoder",
        "1000",
        "22",
        "0.1",
        "0.4",
        "18.1",
        "18",
        "2",
    ]


def test_layers_have_a_panel_each_and_their_shares_stand_side_by_side(tmp_path: Path) -> None:
    for name, network in (("balance/cnn", "convolutional"), ("balance/bipu", "squares")):
        rows = []
        for decay, end in (({}, 0.4), ({"l2": NETWORKS[network].l2}, 0.01)):
            one = row(name, network, decay=decay, measured={"test_accuracy": 0.5})
            shares = {"share": [0.5, end], "share__0": [0.4, end / 2], "share__3": [0.6, end / 4]}
            rows.append(follow(tmp_path, one, [0, 100], loss=[2.0, 1.0], **shares))
        found = show(name, rows, folder=tmp_path)
        ((whole, first, second, loss),) = figures(found).values()
        assert lines(whole)["L2"] == ([0, 100], [0.5, 0.01])
        assert lines(first)["no regulariser"][1] == [0.4, 0.2]
        assert (lines(second)["L2"][1], second.get_ylabel()) == ([0.6, 0.0025], "layer 2")
        assert lines(loss)["L2"][1] == [2.0, 1.0]
        assert cells(found)[f"{NETWORKS[network].label}; L2"] == ["0.0100", "0.0050 ,  0.0025", "50.00", "1"]


def test_mixed_has_three_costs_for_each_regulariser(tmp_path: Path) -> None:
    rows = []
    for decay in ({}, {"l2": 0.1}, {"l1": 0.1}, {"l1": 0.05, "l2": 0.05}):
        one = row("balance/mixed", "dense", decay=decay)
        both = {"share_mixed": [0.5, 0.03]} if len(decay) == 2 else {}
        rows.append(follow(tmp_path, one, [0, 100], share=[0.5, 0.1], share_l1=[0.6, 0.2], **both))
    found = show("balance/mixed", rows, folder=tmp_path)
    ((squares, sizes, both),) = figures(found).values()
    assert list(lines(squares)) == list(lines(sizes)) == ["no regulariser", "L2", "L1", "L1 and L2"]
    assert list(lines(both)) == ["L1 and L2"]
    told = cells(found)
    assert told["dense, MNIST; L1 and L2"] == ["0.1000", "0.2000", "0.0300", "1"]
    assert told["dense, MNIST; L2"][2] == "None"


def test_stopping_reads_the_epoch_off_the_share() -> None:
    name = "balance/stopping"
    rows = [row(name, "dense", decay={"l2": strength}) for strength in (0.001, 0.005)]
    share = [0.5, 0.1, *[0.1] * 5, 0.1]
    loss = [1.0, 0.5, 0.4, 0.3, 0.35, 0.36, 0.37, 0.38]
    histories = {
        rows[0]["hash"]: history(share=[0.5 / 2**k for k in range(8)], test_loss=loss),
        rows[1]["hash"]: history(share=share, test_loss=loss),
    }
    found = show(name, rows, histories)
    ((shares, losses),) = figures(found).values()
    assert lines(shares)["L2 0.005"][1] == share
    assert lines(losses)["L2 0.001"] == ([*range(1, 9)], loss)
    told = cells(found)
    assert told["dense, MNIST; L2 0.001"] == ["never", "None", "None", "None", "1"]
    assert told["dense, MNIST; L2 0.005"] == ["7.0", "0.3700", "0.3000", "0.3800", "1"]


def test_starts_are_shown_at_every_rate_and_at_their_best() -> None:
    rows = [
        row("balance/init", "dense", seed, lr=rate, balance_start=start, balance_p=p, measured={"test_accuracy": value})
        for seed in (0, 1)
        for rate, start, p, value in (
            (0.01, "none", 2.0, 0.8), (0.1, "none", 2.0, 0.95), (0.01, "balance", 1.0, 0.9 + 0.02 * seed),
            (0.1, "balance", 1.0, 0.94), (0.1, "norms", 2.0, 0.93),
        )
    ]  # fmt: skip
    found = show("balance/init", rows)
    ((ax,),) = figures(found).values()
    assert lines(ax)["balanced, p = 1"] == ([0.01, 0.1], pytest.approx([0.91, 0.94]))
    assert ax.get_xscale() == "log"
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0.01", "0.1"]
    told = cells(found)
    assert told["dense, MNIST; as drawn"] == ["80.00 ± 0.00", "95.00 ± 0.00", "0.1", "2"]
    assert told["dense, MNIST; balanced, p = 1"] == ["91.00 ± 1.41", "94.00 ± 0.00", "0.1", "2"]
    assert start_of({"balance_start": "norms", "balance_p": 2.0}) == "norms of p = 2 alone"


def test_rounding_is_shown_before_and_after_balancing() -> None:
    values = {"trained": (0.01, 5.0, 0.97), "balanced_l2": (0.005, 4.0, 0.98), "scattered": (0.5, 20.0, 0.6)}
    measured = {"int8/exact/accuracy": 0.98}
    for name, (error, spread, accuracy) in values.items():
        measured |= {f"int8/{name}/error": error, f"int8/{name}/spread": spread, f"int8/{name}/accuracy": accuracy}
    found = show("balance/range", [row("balance/range", "dense", measured=measured)])
    ((ax,),) = figures(found).values()
    assert sorted(patch.get_height() for patch in ax.patches) == [0.005, 0.01, 0.5]
    (table,) = tables(found)
    told = {str(line[2]): [" ".join(shown(cell)) for cell in line[3:]] for line in table.rows}
    assert told == {
        "as trained": ["1.00", "5.0", "1.00", "1"],
        "balanced, p = 2": ["0.50", "4.0", "0.00", "1"],
        "units scaled at random": ["50.00", "20.0", "38.00", "1"],
    }


@pytest.mark.parametrize("name", list(EXHIBITS))
def test_runs_without_a_trace_or_a_measure_show_nothing_and_break_nothing(name: str) -> None:
    assert figures(show(name, [row(name, "dense", balance_repeats=3 if name == "balance/convergence" else 0)])) == {}
    assert show(name, []) == []


def test_the_name_of_a_penalty() -> None:
    assert penalty_of({"decay.l1": 0.1, "decay.l2": None}) == "L1"
    assert penalty_of({"decay.l2": 0.0}) == "no regulariser"
    assert penalty_of({"decay.l1": 0.1, "decay.l2": 0.1}) == "L1 and L2"
