"""``equipoise demo``: the main job on real images, in under two minutes, and a page of it."""

from __future__ import annotations

import dataclasses
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from equipoise import data, measure, models, plots, report, rules, sweep
from equipoise.cli import balanced, firing, lighting
from equipoise.cli.flags import Where, take
from equipoise.cli.outcome import show_table
from equipoise.cli.pages import displays, page_of
from equipoise.errors import InputError
from equipoise.measure.statistics import estimate
from equipoise.papers import SideBySide, load_all
from equipoise.report.content import NOTHING
from equipoise.train import Run, Summary, train
from equipoise.train.progress import Quiet

__all__ = ["main"]

SEEDS = 3
DENSE = Run(
    experiment="demo/dense",
    model="mlp:64-256-128-10,activation=tanh",
    epochs=12,
    lr=0.03,
    batch_size=32,
    alignment_batch=128,
)
RESIDUAL = Run(
    experiment="demo/residual", model="residual:1x8x8-10", epochs=5, lr=0.01, batch_size=32, alignment_batch=128
)
INVERTIBLE = Run(
    experiment="demo/invertible",
    model="invertible:64-64-64-64-10",
    optimizer="adam",
    epochs=5,
    lr=0.003,
    batch_size=32,
    alignment_batch=128,
)
# What each rule that inverts layers is run with; and backpropagation beside them.
INVERTING: Mapping[str, Mapping[str, Any]] = {"gait": {"upkeep": "retract"}, "tp": {"upkeep": "retract"}}
# Rules that need another rate than the others.
RATES = {"pepita": 0.1}
# Not on the residual network: drtp, which needs units that saturate, and two that differ from usf in a magnitude only.
# Rules that train chains alone cannot be there either.
DENSE_ONLY = ("drtp", "brsf", "frsf")
# Kinds of networks that are compared by circuit, with what calls each by its name.
CIRCUITS: Mapping[str, Callable[[Run], str]] = {"light": lighting.label, "spiking": firing.label}
ABOUT = (
    "Each rule trained the same networks on the same 1,437 pictures of handwritten digits, for the same number of "
    "epochs: a dense network, and, where it can, a residual convolutional one that shares a layer, untouched.\n\n"
    "- `angle` is the mean over hidden layers of the angle between the rule's update and backpropagation's, at the end "
    "of training. Below 90 degrees an update still goes down the loss.\n"
    "- `cost` is the time that a step's gradients take, over backpropagation's, on this machine and on this small "
    "network, where overheads weigh most."
)

SECTIONS = {
    "demo/dense": f"Two hidden layers, {SEEDS} seeds. Layers are numbered as in the module; the last is the readout. "
    "PEPITA trains at a higher rate than the others.",
    "demo/residual": "A residual convolutional network with batch norm, one seed. Two blocks share one convolution.",
    "demo/invertible": "Square layers, which targets can pass back through, one seed. `gait` does what backpropagation "
    "does as long as weights stay orthogonal, `tp` passes whole targets, and `dtp` learns the inverses.",
}


class Watch(Quiet):
    """Calls back after every epoch, so that the live table can follow."""

    def __init__(self, tell: Callable[[Mapping[str, Any]], None]) -> None:
        self.tell = tell

    def epoch(self, metrics: Mapping[str, Any]) -> None:
        self.tell(metrics)


class Board:
    """The table of the demo: live on a terminal, a line per finished rule elsewhere."""

    def __init__(self, places: Sequence[tuple[str, str]]) -> None:
        from rich.console import Console
        from rich.live import Live

        self.rows: dict[tuple[str, str], dict[str, str]] = {place: {} for place in places}
        self.console = Console()
        self.live = Live(self._table(), console=self.console, transient=True) if self.console.is_terminal else None

    def __enter__(self) -> Board:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.live.stop()

    def tell(self, kind: str, name: str, **cells: str) -> None:
        """Show ``cells`` in the row of the rule, or the circuit, ``name``."""
        self.rows[kind, name].update(cells)
        if self.live:
            self.live.update(self._table())

    def done(self, kind: str, name: str, text: str) -> None:
        """Say that a row is finished, where there is no live table to show it."""
        if not self.live:
            sys.stdout.write(f"{kind:<9} {name:<16} {text}\n")
            sys.stdout.flush()

    def _table(self) -> Any:
        from rich.table import Table

        table = Table(box=None, header_style="bold", pad_edge=False)
        for column in ("network", "rule or circuit", "epoch", "test accuracy", "angle"):
            table.add_column(column)
        for (kind, name), cells in self.rows.items():
            table.add_row(kind, name, *(cells.get(c, "") for c in ("epoch", "test accuracy", "angle")))
        return table


def _degrees(angle: float | None) -> str:
    """An angle to read; a rule that leaves the hidden layers alone has none."""
    return f"{angle:.0f}°" if angle is not None and math.isfinite(angle) else NOTHING


def _name(kind: str, run: Run) -> str:
    """The row of a run: its rule, or the circuit of a network in changing light."""
    return CIRCUITS[kind](run) if kind in CIRCUITS else run.rule


def _train(run: Run, kind: str, where: Where, board: Board) -> Summary:
    name = _name(kind, run)

    def follow(metrics: Mapping[str, Any]) -> None:
        angle = metrics.get("angle")
        board.tell(
            kind,
            name,
            **{
                "epoch": f"{metrics['epoch']}/{run.epochs}, seed {run.seed}",
                "test accuracy": f"{metrics['test_accuracy']:.1%}",
                "angle": _degrees(angle),
            },
        )

    summary = train(run, where.machine(), progress=Watch(follow))
    if summary.status != "finished":
        raise KeyboardInterrupt
    follow({**summary.metrics, "epoch": run.epochs})
    accuracy, angle = summary.metrics["test_accuracy"], summary.metrics.get("angle")
    told = f", angle {_degrees(angle)}" if run.alignment_batch else ""
    board.done(kind, name, f"seed {run.seed}: test accuracy {accuracy:.1%}{told}")
    return summary


def _plan(names: Sequence[str]) -> list[tuple[str, Run]]:
    """What the demo trains, in order: the kind of network, and the run."""
    names, inverting = _parted(names)
    free = [n for n in names if n not in DENSE_ONLY and not rules.registry[n].forward_only]
    studies = (("dense", DENSE, names, SEEDS), ("residual", RESIDUAL, free, 1))
    found = [
        (kind, dataclasses.replace(run, preset="demo"))
        for kind, shared, mine, seeds in studies
        for seed in range(seeds)
        for run in SideBySide(shared, tuple(mine), {n: RATES[n] for n in mine if n in RATES}).runs(seed)
    ]
    found += [
        ("inverse", dataclasses.replace(INVERTIBLE, rule=name, options=dict(INVERTING.get(name, {})), preset="demo"))
        for name in ("bp", *inverting)
    ]
    found += [("light", run) for run in lighting.runs(SEEDS)]
    return found + [("spiking", run) for run in firing.runs()]


def _parted(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Rules for any network, and those that need layers with an inverse."""
    inverting = [name for name in names if rules.registry[name].inverts]
    return [name for name in names if name not in inverting], inverting


def _costs(names: Sequence[str], run: Run) -> dict[str, float]:
    """Each rule's step over backpropagation's, on the demo's dense network."""
    x, y = data.load(run.data).train.batch(torch.arange(run.batch_size))
    model = models.make(run.model)
    return {n: measure.step_cost(rules.make(n, model, example=x), x, y) for n in names}


def _summary_table(names: Sequence[str], rows: Sequence[Mapping[str, Any]], costs: Mapping[str, float]) -> report.Table:
    lines: list[list[report.Cell]] = []
    for name in names:
        line: list[report.Cell] = [name]
        for experiment in ("demo/dense", "demo/residual"):
            mine = [r for r in rows if r["rule"] == name and r["experiment"] == experiment]
            if not mine:
                line += [None, None]
                continue
            accuracy = estimate([float(r["test_accuracy"]) for r in mine])
            angle = [float(r["angle"]) for r in mine if r.get("angle") is not None]
            line.append(report.plus_minus(100 * accuracy.mean, 100 * accuracy.half))
            line.append(report.Number(sum(angle) / len(angle), f"{sum(angle) / len(angle):.0f}°") if angle else None)
        lines.append([*line, report.Number(costs[name], f"{costs[name]:.2f}")])
    columns = ["rule", "dense, %", "dense, angle", "residual, %", "residual, angle", "cost"]
    caption = (
        f"Test accuracy in per cent: mean ± half the 95 % interval over {SEEDS} seeds for the dense network, one seed "
        "for the residual one. Angle to backprop: mean over the hidden layers and seeds. Cost: a step's time over bp's."
    )
    return report.Table(columns, lines, caption)


def _opening(table: report.Table) -> report.Section:
    pictures = data.load("digits").test
    x, y = pictures.batch(torch.arange(20))
    fig, ax = plots.figure(4.4, 2.0)
    plots.images(ax, x, columns=10, labels=[str(int(v)) for v in y])
    drawn = report.Figure(
        plots.svg(fig, title="Twenty test pictures with their labels"), "Twenty of the test pictures."
    )
    return report.Section("Every rule side by side", ABOUT, tables=[table], figures=[drawn])


def main(argv: Sequence[str]) -> int:
    """Run the demo and write its page."""
    words = list(argv)
    folder = take(words, "--runs", "runs/demo")
    if words:
        if words[0] in ("-h", "--help"):
            sys.stdout.write("usage: equipoise demo [--runs runs/demo]\n")
            return 0
        raise InputError(f"demo does not know '{words[0]}'; usage: equipoise demo [--runs FOLDER]")
    load_all()
    begun = time.perf_counter()
    names, _ = _parted(rules.names())
    # On networks this small a second thread gains little, and loses much where the machine is busy.
    plan, where = _plan(rules.names()), Where(runs=folder, threads=1)
    try:
        with Board([(kind, _name(kind, run)) for kind, run in plan]) as board:
            for kind, run in plan:
                _train(run, kind, where, board)
            costs = _costs(names, DENSE)
    except KeyboardInterrupt:
        sys.stderr.write("what was trained is saved; the same command goes on\n")
        raise
    # Not what an earlier version of the demo left in the folder.
    hashes = {run.hash for _, run in plan}
    rows, histories = [r for r in sweep.collect(folder) if r["hash"] in hashes], sweep.histories(folder)
    table = _summary_table(names, rows, costs)
    show_table(table)
    residual = {"residual": next(run for kind, run in plan if kind == "residual" and run.rule == "bp")}
    found = balanced.networks(residual, folder, where.machine())
    show_table(balanced.table(found))
    lit = [r for r in rows if r["experiment"] == lighting.LIGHT.experiment]
    show_table(lighting.table(lit))
    fired = [r for r in rows if r["experiment"] == firing.SPIKING.experiment]
    show_table(firing.table(fired))
    shown = displays([r for r in rows if r not in lit and r not in fired], histories, folder)
    first = [_opening(table), lighting.section(lit, histories), firing.section(fired, folder), balanced.section(found)]
    page = page_of("Equipoise: the demo", shown, first=first, about=SECTIONS)
    target = report.write(Path(folder) / "report.html", page)
    sys.stdout.write(f"page: {target}   ({time.perf_counter() - begun:.0f} s)\n")
    return 0
