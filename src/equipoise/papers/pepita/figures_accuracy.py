"""Exhibits of PEPITA that compare accuracies: Table 1, learning curves (Figures 5, 7), whitening, depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from equipoise import plots
from equipoise.papers.catalogue import published
from equipoise.papers.exhibits import Cell, Exhibit, Figure, Histories, Note, Number, Row, Table
from equipoise.papers.pepita.table1 import COLUMNS, NAME, RULES, column_of
from equipoise.papers.picking import (
    MINUS,
    bands,
    curve,
    fixed,
    mean_and_sd,
    named,
    per_preset,
    series,
    split,
    values_of,
)
from equipoise.papers.published import Published
from equipoise.plots import Series

__all__ = ["ORDER", "by_column", "controls", "curves", "depth", "heading", "table1", "whitening"]

# A rule looks the same in every figure of the paper.
ORDER = (*RULES, "shallow", "usf", "frsf", "brsf")
ACCURACY = "test_accuracy"
KINDS = {"fc": "dense", "conv": "convolutional"}
SETS = {"mnist": "MNIST", "cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}


def heading(column: str) -> str:
    """A column of Table 1 to read: "MNIST, dense"."""
    kind, _, data = column.partition("-")
    return f"{SETS.get(data, data)}, {KINDS.get(kind, kind)}"


def _rule(row: Row) -> str:
    return str(row.get("rule"))


def _number_for(row: Row, numbers: Sequence[Published]) -> Published | None:
    """The published final value that compares with a run."""
    return next((n for n in numbers if n.metric == ACCURACY and n.epoch is None and n.matches(row)), None)


def by_column(rows: Sequence[Row]) -> dict[str, dict[str, list[Row]]]:
    """Runs by column of Table 1, in its order, then by rule."""
    names = sorted({column_of(row) for row in rows}, key=lambda name: [*COLUMNS, name].index(name))
    return {name: named([r for r in rows if column_of(r) == name], _rule, order=ORDER) for name in names}


def accuracy_figure(
    name: str, title: str, groups: Mapping[str, Sequence[Row]], histories: Histories, **more: Any
) -> list[Exhibit]:
    """Test accuracy over epochs, a curve for each of ``groups``; nothing for runs of a single epoch."""
    drawn = {key: curve(rows, histories, ACCURACY) for key, rows in groups.items()}
    drawn = {key: one for key, one in drawn.items() if len(one.x) > 1}
    if not drawn:
        return []
    fig, ax = plots.figure()
    plots.learning_curves(ax, drawn, ylabel="test accuracy", percent=True, **more)
    return [Figure(name, f"{title}{bands(groups)}", fig)]


@per_preset
def table1(rows: Sequence[Row], histories: Histories, folder: Path) -> list[Exhibit]:
    """Table 1 with ours above the paper's; for each column the curves; angles and seconds of all columns."""
    groups = by_column(rows)
    numbers = [number for number in published() if number.experiment == NAME]
    lines = sorted({rule for column in groups.values() for rule in column}, key=_place)
    runs = " and ".join(sorted({str(number.runs) for number in numbers if number.runs}))
    cells = [[_against(column.get(rule, []), numbers) for column in groups.values()] for rule in lines]
    found: list[Exhibit] = [
        Table(
            "Test accuracy in per cent, as in Table 1 of the paper",
            ["rule", *map(heading, groups)],
            [[rule, *line] for rule, line in zip(lines, cells, strict=True)],
            "Ours: mean ± standard deviation over n seeds, last epoch. "
            f"Below it the paper's, over {runs} seeds, and ours minus the paper's.",
        )
    ]
    for name, column in groups.items():
        title = f"{heading(name)}: test accuracy after each epoch"
        found += accuracy_figure(f"accuracy-{name}", title, column, histories, order=ORDER)
    return [*found, *_bars(groups)]


def _place(rule: str) -> tuple[int, str]:
    """Where a rule stands in a table; one with other settings after its plain form."""
    plain = rule.split(",")[0]
    return (ORDER.index(plain) if plain in ORDER else len(ORDER)), rule


def _against(rows: Sequence[Row], numbers: Sequence[Published]) -> Cell:
    """Ours, the paper's and the difference in one cell."""
    ours = [100 * value for value in values_of(rows, ACCURACY)]
    if not ours:
        return None
    theirs = _number_for(rows[0], numbers)
    cell = (*mean_and_sd(ours), Note(f"n = {len(ours)}"))
    if theirs is None:
        return cell
    spread = "" if theirs.sd is None else f" ± {fixed(theirs.sd, 2)}"
    difference = fixed(sum(ours) / len(ours) - theirs.value, 2, sign=True)
    return (*cell, Note(f"paper {fixed(theirs.value, 2)}{spread}"), Note(f"difference {difference}"))


def _bars(groups: Mapping[str, Mapping[str, Sequence[Row]]]) -> list[Exhibit]:
    """The hidden layers' angle to backpropagation, and seconds, by column and rule."""
    found: list[Exhibit] = []
    for metric, name, ylabel, title in (
        ("angle", "angles", "angle to backprop (degrees)", "Mean angle of the hidden layers to backprop, last epoch"),
        ("seconds", "seconds", "seconds", "Seconds of training for a run, mean"),
    ):
        held: dict[str, dict[str, list[float]]] = {}
        for column, members in groups.items():
            for rule, rows in members.items():
                values = values_of(rows, metric)
                if values and (metric != "angle" or max(values) > 0.01):  # backpropagation is at 0 by definition
                    held.setdefault(rule, {})[heading(column).replace(", ", "\n")] = values
        if held:
            fig, ax = plots.figure(max(4.4, 1.1 * len(groups)))
            drawn = {rule: series(values) for rule, values in held.items()}
            if metric == "angle":
                plots.angles(ax, drawn, ylabel=ylabel, joined=False, order=ORDER)
            else:
                plots.bars(ax, drawn, ylabel=ylabel, order=ORDER)
            found.append(Figure(name, title, fig, wide=len(groups) > 3))
    return found


@per_preset
def curves(rows: Sequence[Row], histories: Histories, folder: Path) -> list[Exhibit]:
    """Learning curves of every rule, with the published log of PEPITA as points (Figure 7)."""
    found: list[Exhibit] = []
    numbers = [number for number in published() if number.experiment == "pepita/curves" and number.epoch is not None]
    for name, column in by_column(rows).items():
        points = {
            rule: {float(n.epoch or 0): n.value / n.factor for n in numbers if n.matches(members[0])}
            for rule, members in column.items()
        }
        points = {rule: one for rule, one in points.items() if one}
        title = f"{heading(name)}: test accuracy after each epoch, as in Figure 7 of the paper"
        if points:
            title += "; diamonds: the log that the authors published"
        found += accuracy_figure(name, title, column, histories, order=ORDER, published=points)
    return found


@per_preset
def controls(rows: Sequence[Row], histories: Histories, folder: Path) -> list[Exhibit]:
    """PEPITA beside F = 0, random perturbations and -F (Figure 5)."""
    found: list[Exhibit] = []
    for name, held in split(rows, column_of).items():
        groups = named(held, _control, order=("pepita", "F = 0", f"{MINUS}F"))
        if len(groups) > 1:
            title = (
                f"{heading(name)}: test accuracy with and without the error in the input, as in Figure 5 of the paper"
            )
            found += accuracy_figure(name, title, groups, histories)
    return found


def _control(row: Row) -> str:
    """Which control a run is."""
    if row.get("options.scale") == 0:
        return "F = 0"
    if row.get("options.perturb", "error") != "error":
        law = "random ≥ 0" if row["options.perturb"] == "positive" else "random"
        return f"{law}, k = {row.get('options.k', 1.0):g}"
    return f"{MINUS}F" if row.get("options.sign") == -1 else "pepita"


@per_preset
def whitening(rows: Sequence[Row], histories: Histories, folder: Path) -> list[Exhibit]:
    """PEPITA on images as they are and on whitened ones (Table 4)."""
    groups = named(rows, lambda row: "images as they are" if row.get("whiten") is None else "whitened images")
    if len(groups) < 2:
        return []
    numbers = [number for number in published() if number.experiment == "pepita/whitening"]
    lines: list[list[Cell]] = []
    for name, members in sorted(groups.items()):
        ours = [100 * value for value in values_of(members, ACCURACY)]
        theirs = _number_for(members[0], numbers)
        line: list[Cell] = [name, Number(float(members[0]["lr"])), mean_and_sd(ours), len(ours), None, None]
        if theirs is not None:
            line[4] = mean_and_sd([theirs.value], sd=theirs.sd)
            gap = sum(ours) / len(ours) - theirs.value
            line[5] = Number(gap, fixed(gap, 2, sign=True))
        lines.append(line)
    table = Table(
        "Test accuracy of PEPITA in per cent, as in Table 4 of the paper",
        ["input", "learning rate", "ours", "seeds", "paper", "difference"],
        lines,
        "Mean ± standard deviation; difference: ours minus the paper's.",
    )
    return [table, *accuracy_figure("accuracy", "PEPITA with and without whitening", groups, histories)]


@per_preset
def depth(rows: Sequence[Row], histories: Histories, folder: Path) -> list[Exhibit]:
    """Accuracy, and the hidden layers' mean angle to backpropagation, by the number of layers, for each rule."""
    layers = split(rows, lambda row: str(row.get("model")).partition(",")[0].count("-"))
    if len(layers) < 2:
        return []
    found: dict[str, dict[int, list[Row]]] = {}
    for count, held in layers.items():
        for rule, members in named(held, _rule, order=ORDER).items():
            found.setdefault(rule, {})[int(count)] = members
    exhibits: list[Exhibit] = [_depth_table(found, [int(count) for count in layers])]
    for name, metric, title in (
        ("accuracy", ACCURACY, "Test accuracy by the number of layers, last epoch"),
        ("angles", "angle", "Mean angle of the hidden layers to backprop by the number of layers, last epoch"),
    ):
        drawn = {rule: _over_depth(members, metric) for rule, members in found.items()}
        drawn = {
            rule: one for rule, one in drawn.items() if len(one.x) and (metric == ACCURACY or max(one.mean) > 0.01)
        }
        if drawn:
            fig, ax = plots.figure()
            ylabel = "test accuracy" if metric == ACCURACY else "angle to backprop (degrees)"
            plots.learning_curves(ax, drawn, xlabel="layers", ylabel=ylabel, percent=metric == ACCURACY, order=ORDER)
            if metric == "angle":
                plots.reference_line(ax, 90, "no better than chance")
            exhibits.append(Figure(name, title, fig))
    return exhibits


def _over_depth(members: Mapping[int, Sequence[Row]], metric: str) -> Series:
    values = {count: values_of(rows, metric) for count, rows in members.items()}
    return series({count: v for count, v in sorted(values.items()) if v})


def _depth_table(found: Mapping[str, Mapping[int, Sequence[Row]]], layers: Sequence[int]) -> Table:
    lines: list[list[Cell]] = []
    for rule, members in found.items():
        line: list[Cell] = [rule]
        for count in layers:
            ours = [100 * value for value in values_of(members.get(count, []), ACCURACY)]
            line.append((*mean_and_sd(ours), Note(f"n = {len(ours)}")) if ours else None)
        lines.append(line)
    columns = ["rule", *(f"{count} layers" for count in layers)]
    return Table("Test accuracy in per cent by depth", columns, lines, "Mean ± standard deviation over n seeds.")
