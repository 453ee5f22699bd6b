"""Exhibits that compare accuracies at the same draws: tables of paired tests, differences, one against the other."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from equipoise import plots
from equipoise.measure.pairs import holm
from equipoise.papers.exhibits import Cell, Exhibit, Exhibits, Figure, Histories, Note, Number, Row, Table
from equipoise.papers.inorm.conditions import CONDITIONS, condition_of
from equipoise.papers.inorm.pairing import (
    CHANCE,
    MARGIN,
    Arm,
    Setting,
    arms,
    by_condition,
    by_setting,
    setting_of,
    with_diverged,
)
from equipoise.papers.picking import fixed, mean_and_sd, per_preset, series, split
from equipoise.plots import Point

__all__ = ["against_rate", "against_strength", "comparison", "drawn_against", "paired_table", "published_p"]

ORDER = tuple(one.label for one in CONDITIONS.values())
_CAPTION = (
    "Pairs share widths, learning rates, data, seed and light; n is their number. Difference: mean with its 95 % "
    "bootstrap interval, and median, in points of test accuracy. Wilcoxon: the signed-rank test of the pairs, then "
    "adjusted over the lines of the setting (Holm). TOST: p of the test that the mean difference is "
    f"{MARGIN:g} points or more. Mann-Whitney's, the paper's test, ignores the pairs and is not adjusted. Effect: the "
    "rank-biserial correlation. A run that diverged scores 10 % in means and is the worst in ranks. Verdict: equal "
    "within the margin, or by the adjusted p, at 5 %."
)


def comparison(*conditions: str, baseline: str = "ln", drawn: bool = True) -> Exhibits:
    """Each of ``conditions`` against the baseline, as a table and, where ``drawn``, as figures."""

    @per_preset
    def made(rows: Sequence[Row], histories: Histories, folder: Path) -> list[Exhibit]:
        found = arms(with_diverged(rows, folder), baseline=baseline, conditions=conditions)
        return [*paired_table(found, baseline), *(drawn_against(found, baseline) if drawn else [])]

    return made


def paired_table(found: Sequence[Arm], baseline: str) -> list[Exhibit]:
    """The paired tests of every arm but the baseline's own."""
    lines: list[list[Cell]] = []
    for setting, group in by_setting(found).items():
        others = [arm for arm in group if arm.condition != baseline]
        compared = [arm.compared for arm in others]
        adjusted = holm([one.wilcoxon.p for one in compared]) if compared else []
        own = next((arm for arm in group if arm.condition == baseline), None)
        if own is not None and others:
            lines.append([", ".join(setting), own.label, _told(own), *[None] * 7, "baseline"])
        for arm, one, p in zip(others, compared, adjusted, strict=True):
            d = one.difference
            mean = Number(d.mean, fixed(d.mean, 2, sign=True))
            ends = f"[{fixed(d.low, 2, sign=True)}, {fixed(d.high, 2, sign=True)}]"
            cell: Cell = (mean, Note(ends)) if d.n > 1 else mean
            lines.append(
                [
                    ", ".join(setting),
                    arm.label,
                    _told(arm),
                    cell,
                    Number(one.median, fixed(one.median, 2, sign=True)),
                    _p(one.wilcoxon.p),
                    _p(float(p)),
                    _p(one.equivalence),
                    _beside(one.mann_whitney.p, arm, baseline),
                    Number(one.wilcoxon.effect, fixed(one.wilcoxon.effect, 2, sign=True)),
                    one.verdict(float(p)),
                ]
            )
    if not lines:
        return []
    heads = ["setting", "network", "accuracy, %", f"less {CONDITIONS[baseline].label}, points", "median"]
    heads += ["Wilcoxon p", "Holm p", "TOST p", "Mann-Whitney p", "effect", "verdict"]
    return [Table(f"Against {CONDITIONS[baseline].label}, pair by pair", heads, lines, _CAPTION)]


def _told(arm: Arm) -> Cell:
    lost = sum(value is None for value in arm.values)
    count = f"n = {len(arm.values)}" + (f", {lost} diverged" if lost else "")
    return (*mean_and_sd(arm.scored), Note(count))


def _p(value: float) -> Number | None:
    return None if value != value else Number(value, f"{value:.4f}" if value >= 0.0001 else "< 0.0001")


def _beside(value: float, arm: Arm, baseline: str) -> Cell:
    """Mann-Whitney's p and, where the paper prints one, the paper's."""
    ours = _p(value)
    theirs = published_p(arm.condition, baseline, arm.setting)
    return ours if theirs is None or ours is None else (ours, Note(f"paper: {theirs:.4f}"))


@functools.cache
def _published() -> tuple[Mapping[str, Any], ...]:
    with (Path(__file__).parent / "published.toml").open("rb") as file:
        return tuple(tomllib.load(file)["test"])


def published_p(condition: str, baseline: str, setting: Setting) -> float | None:
    """The p value that the paper prints for a condition against a baseline at a range; None where it prints none."""
    found = (
        float(one["p"])
        for one in _published()
        if (one["condition"], one["baseline"]) == (condition, baseline) and setting[0] == f"range {one['shift']:g}"
    )
    return next(found, None)


def drawn_against(found: Sequence[Arm], baseline: str) -> list[Exhibit]:
    """Each setting's differences from the baseline, and the accuracies of each draw under every condition."""
    exhibits: list[Exhibit] = []
    name = CONDITIONS[baseline].label
    for setting, group in by_setting(found).items():
        others = [arm for arm in group if arm.condition != baseline]
        if not others or len(others[0].values) < 2:
            continue
        told = ", ".join(setting)
        slug = "-".join(setting).replace(" ", "-").replace(".", "")
        points = [Point(arm.label, d.mean, d.low, d.high) for arm in others for d in [arm.compared.difference]]
        fig, ax = plots.figure(height=0.8 + 0.5 * len(points))
        plots.estimates(ax, points, xlabel=f"test accuracy less that of {name}, points")
        title = f"Differences from {name} at the same draws, {told}; bars: 95 % bootstrap intervals"
        exhibits.append(Figure(f"difference-{slug}", title, fig))
        every = {arm.label: dict(zip(arm.draws, arm.values, strict=True)) for arm in group}
        fig, ax = plots.figure(height=1.0 + 0.5 * len(every))
        plots.joined(ax, every, floor=CHANCE, xlabel="test accuracy, %")
        title = f"Test accuracy at each draw, {told}; lines join networks of one draw"
        exhibits.append(Figure(f"pairs-{slug}", title, fig))
    return exhibits


def against_rate(*conditions: str) -> Exhibits:
    """Accuracy against the learning rate, a curve for each condition; runs that diverged score 10 %."""

    @per_preset
    def made(rows: Sequence[Row], histories: Histories, folder: Path) -> list[Exhibit]:
        return _curves(with_diverged(rows, folder), conditions, lambda row: float(row["lr"]), "learning rate of W_EE")

    return made


def against_strength(*conditions: str) -> Exhibits:
    """Accuracy against lambda, a curve for I-Norm and one for I-Norm with centring; then the paired tests."""

    def strength(row: Row) -> float:
        return float(condition_of(row).partition("lambda=")[2] or 0.01)

    def family(row: Row) -> str:
        return CONDITIONS["center" if condition_of(row).startswith("center") else "inorm"].label

    @per_preset
    def made(rows: Sequence[Row], histories: Histories, folder: Path) -> list[Exhibit]:
        every = with_diverged(rows, folder)
        every = [row for members in by_condition(every, conditions).values() for row in members]
        found = arms(every, baseline="inorm", conditions=conditions)
        return [
            *_curves(every, conditions, strength, "strength λ of the local loss", family),
            *paired_table(found, "inorm"),
        ]

    return made


def _scored(row: Row) -> float:
    value = row.get("test_accuracy")
    return CHANCE / 100 if value is None else float(value)


def _label(row: Row) -> str:
    return CONDITIONS[condition_of(row)].label


def _curves(
    rows: Sequence[Row],
    conditions: Sequence[str],
    place: Callable[[Row], float],
    xlabel: str,
    named: Callable[[Row], str] = _label,
) -> list[Exhibit]:
    exhibits: list[Exhibit] = []
    kept = [row for members in by_condition(rows, conditions).values() for row in members]
    for setting, group in split(kept, setting_of).items():
        curves = {}
        lines: list[list[Cell]] = []
        for label, members in split(group, named).items():
            at = {x: [_scored(row) for row in some] for x, some in split(members, place).items()}
            curves[label] = series(at)
            lines += [[label, Number(x, f"{x:g}"), mean_and_sd([100 * v for v in vs]), len(vs)] for x, vs in at.items()]
        told = ", ".join(setting)
        if max(len(one.x) for one in curves.values()) > 1:
            fig, ax = plots.figure(height=3.4)
            plots.learning_curves(ax, curves, xlabel=xlabel, ylabel="test accuracy", percent=True, order=ORDER)
            ax.set_xscale("log")
            slug = "-".join(setting).replace(" ", "-").replace(".", "")
            exhibits.append(Figure(f"curve-{slug}", f"Test accuracy against the {xlabel}, {told}", fig))
        caption = "Mean and standard deviation over draws; a run that diverged scores 10 %."
        exhibits.append(Table(f"Test accuracy, {told}", ["network", xlabel, "accuracy, %", "runs"], lines, caption))
    return exhibits
