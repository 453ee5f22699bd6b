"""What the fair comparisons show: every line's accuracy, angle, cost and speed, and the rates that it was tuned to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from equipoise import plots
from equipoise.measure.statistics import estimate, paired_difference
from equipoise.papers.exhibits import Cell as Shown
from equipoise.papers.exhibits import Exhibit, Exhibits, Figure, Histories, Note, Number, Row, Table
from equipoise.papers.fair.conditions import CIRCUITS, METHODS, Cell, refused
from equipoise.papers.fair.lines import Line, baseline_of, lines_of
from equipoise.papers.fair.tables import rates
from equipoise.papers.inorm.pairing import with_diverged
from equipoise.papers.picking import fixed, per_preset, values_of
from equipoise.plots import Point, Series

__all__ = ["EXHIBITS"]

CHANCE = 0.1  # what a run that diverged scores
FEW = 5  # seeds, of which fewer are said to be few
_CAPTION = (
    "Test accuracy after the last epoch: mean ± half the 95 % Student interval over seeds; a run that diverged scores "
    "10 %. Less the {baseline}: the mean over seeds of the difference, with its 95 % interval. Angle: between the "
    "rule's update and backpropagation's on the same network, the mean over hidden layers on held-out images. "
    "Cost: processor time of a step's gradients and upkeep over that of backpropagation's, on the same network in the "
    "same process. Epochs: to 90 % of the last accuracy on held-out images, a straight line between epochs. Each of "
    "the three ± half its 95 % interval. Rate: as chosen on held-out images. Lines whose budgets differ say so."
)

_GLANCE = (
    "Mean ± half the 95 % Student interval over seeds, after the last epoch; a run that diverged scores 10 %. Empty: "
    "the rule does not train this network, or it was not run."
)


def _scored(row: Row) -> float:
    value = row.get("test_accuracy")
    return CHANCE if value is None else float(value)


def _accuracy(members: Sequence[Row]) -> Shown:
    found = estimate([100 * _scored(row) for row in members])
    lost = sum(row.get("test_accuracy") is None for row in members)
    parts: list = [Number(found.mean, fixed(found.mean, 2))]
    parts += ["±", Number(found.half, fixed(found.half, 2))] if found.n > 1 else []
    parts += [Note(f"{lost} diverged")] if lost else []
    return tuple(parts)


def _less(members: Sequence[Row], baseline: Sequence[Row]) -> Shown:
    """The difference of the accuracies at the seeds that both have, in points."""
    theirs = {row["seed"]: _scored(row) for row in baseline}
    pairs = [(100 * _scored(row), 100 * theirs[row["seed"]]) for row in members if row["seed"] in theirs]
    if not pairs or members is baseline:
        return None
    d = paired_difference([a for a, _ in pairs], [b for _, b in pairs])
    mean = Number(d.mean, fixed(d.mean, 2, sign=True))
    return (mean, Note(f"[{fixed(d.low, 2, sign=True)}, {fixed(d.high, 2, sign=True)}]")) if d.n > 1 else mean


def _mean(members: Sequence[Row], metric: str, places: int) -> Shown:
    values = values_of(members, metric)
    if not values:
        return None
    found = estimate(values)
    mean = Number(found.mean, fixed(found.mean, places))
    return (mean, "±", Number(found.half, fixed(found.half, places))) if found.n > 1 else mean


def _seeds(members: Sequence[Row]) -> Shown:
    count = len(members)
    return count if count >= FEW else (Number(count, str(count)), Note(f"fewer than {FEW}"))


def _rate(row: Row) -> str:
    momentum = row.get("optimizer_options.momentum")
    return f"{row['optimizer']}{f', momentum {momentum:g}' if momentum else ''}, {float(row['lr']):g}"


def _head(line: Line) -> list[Shown]:
    place = CIRCUITS[line.cell.place].label if line.cell.circuit else line.cell.place
    return [line.cell.data, place, line.label]


def _table(lines: Mapping[Line, Sequence[Row]], *, circuits: bool) -> Table:
    baseline = "same rule with no norm" if circuits else "readout alone"
    body: list[list[Shown]] = []
    wanted = dict.fromkeys((line.cell.data, line.cell.place) for line in lines)
    names = {line.cell.name for line in lines}
    for data, place in wanted:
        for name in (name for name in METHODS if name in names):
            cell = Cell(data, place, name)
            mine = [line for line in lines if line.cell == cell]
            if not mine:
                why = f"refused: {refused(place, name)}" if refused(place, name) else "not run"
                body.append([*_head(Line(cell)), why, *[None] * 6])
            for line in mine:
                members = lines[line]
                body.append(
                    [
                        *_head(line),
                        _accuracy(members),
                        _less(members, baseline_of(line, lines)),
                        _mean(members, "angle", 1),
                        _mean(members, "step_cost", 2),
                        _mean(members, "epochs_to_90", 2),
                        _rate(members[0]),
                        _seeds(members),
                    ]
                )
    heads = ["data", "circuit" if circuits else "network", "rule", "accuracy, %", f"less the {baseline}, points"]
    heads += ["angle, °", "cost of a step", "epochs to 90 %", "optimiser, rate", "seeds"]
    title = "Circuits under rules" if circuits else "Rules side by side"
    return Table(title, heads, body, _CAPTION.format(baseline=baseline))


def _glance(lines: Mapping[Line, Sequence[Row]], *, circuits: bool) -> list[Exhibit]:
    """Accuracies alone, a row for each rule (or circuit) and a column for each data set and network (or rule)."""
    found: dict[str, dict[str, Shown]] = {}
    for line, members in lines.items():
        data, place, label = map(str, _head(line))
        row, column = (place, label) if circuits else (label, place)
        found.setdefault(row, {})[f"{data}, {column}"] = _accuracy(members)
    columns = sorted({name for row in found.values() for name in row}, key=_order_of(found))
    if len(columns) < 2:
        return []
    first = "circuit" if circuits else "rule"
    body = [[name, *(row.get(column) for column in columns)] for name, row in found.items()]
    return [Table("At a glance", [f"{first}; test accuracy, %", *columns], body, _GLANCE)]


def _order_of(found: Mapping[str, Mapping[str, Shown]]) -> Callable[[str], int]:
    """The place of a column: as the longest row has it, and those that it lacks behind."""
    longest = list(max(found.values(), key=len))
    return lambda name: longest.index(name) if name in longest else len(longest)


def _figures(lines: Mapping[Line, Sequence[Row]], *, circuits: bool) -> list[Exhibit]:
    found: list[Exhibit] = []
    groups: dict[tuple[str, ...], dict[Line, Sequence[Row]]] = {}
    for line, members in lines.items():
        key = (line.cell.data, line.cell.name) if circuits else (line.cell.data, line.cell.place)
        groups.setdefault(key, {})[line] = members
    for key, group in groups.items():
        if len(group) < 2:
            continue
        slug = "-".join(key)
        told = f"{key[0]}, {METHODS[key[1]].label}" if circuits else f"{key[0]}, {key[1]}"
        named = {line.circuit if circuits else line.label: members for line, members in group.items()}
        points = [Point(n, e.mean, e.low, e.high) for n, m in named.items() for e in [estimate([*map(_scored, m)])]]
        fig, ax = plots.figure(height=0.8 + 0.42 * len(points))
        plots.estimates(ax, points, xlabel="test accuracy", percent=True)
        found.append(Figure(f"accuracy-{slug}", f"Test accuracy, {told}; bars: 95 % intervals over seeds", fig))
        found += _against_angle(named, slug, told)
        costs = {name: values_of(members, "step_cost") for name, members in named.items()}
        points = [Point(n, e.mean, e.low, e.high) for n, v in costs.items() if v for e in [estimate(v)]]
        if points and not circuits:
            fig, ax = plots.figure(height=0.8 + 0.42 * len(points))
            plots.estimates(ax, points, xlabel="time of a step over backpropagation's")
            found.append(Figure(f"cost-{slug}", f"Cost of a step with its upkeep, {told}", fig))
    return found


def _against_angle(named: Mapping[str, Sequence[Row]], slug: str, told: str) -> list[Exhibit]:
    """Accuracy against the angle to backpropagation, a point for each line that has one; its own lines have none."""
    dots: dict[str, Series] = {}
    for name, members in named.items():
        angles = values_of(members, "angle")
        if any(angles):
            dots[name] = Series([sum(angles) / len(angles)], [estimate([*map(_scored, members)]).mean])
    if len(dots) < 2:
        return []
    fig, ax = plots.figure(height=3.4)
    plots.learning_curves(ax, dots, xlabel="angle to backprop (degrees)", ylabel="test accuracy", percent=True)
    return [Figure(f"angle-{slug}", f"Test accuracy against the angle at the end of training, {told}", fig)]


def _exhibits(*, circuits: bool) -> Exhibits:
    @per_preset
    def made(rows: Sequence[Row], histories: Histories, folder: Path) -> list[Exhibit]:
        lines = lines_of(with_diverged(rows, folder))
        if not lines:
            return []
        given = [_table(lines, circuits=circuits), *_glance(lines, circuits=circuits)]
        return [*given, *_figures(lines, circuits=circuits)]

    return made


EXHIBITS: dict[str, Exhibits] = {
    "fair/rules": _exhibits(circuits=False),
    "fair/circuits": _exhibits(circuits=True),
    "fair/rules-tuning": rates,
    "fair/circuits-tuning": rates,
}
