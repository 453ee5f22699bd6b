"""Exhibits of the questions beyond the paper that follow training: channels, powers, mixed regularisers, stopping."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from equipoise.balance.training import BalanceStop
from equipoise.papers.balance.figures_paper import ORDER, penalty_of
from equipoise.papers.balance.networks import label_of
from equipoise.papers.balance.traces import Panel, Traces, by_network, finals, panel, slug, stack, traces
from equipoise.papers.exhibits import Cell, Exhibit, Figure, Histories, Number, Row, Table
from equipoise.papers.picking import bands, curve, fixed, mean_and_sd, named, per_preset, split, values_of

__all__ = ["bipu", "cnn", "mixed", "stopping"]

SHARE = "share of imbalance"
MEANING = "The share of imbalance is the sum over units of |IN \u2212 OUT| over the sum of IN + OUT, from 0 to 1."


@per_preset
def cnn(rows: Sequence[Row], histories: Histories, folder: Path) -> list[Exhibit]:
    """The share of imbalance of each layer's channels along training, without and with weight decay."""
    return _by_layer(rows, folder, "channels", "Do channels come to balance?")


@per_preset
def bipu(rows: Sequence[Row], histories: Histories, folder: Path) -> list[Exhibit]:
    """The share of imbalance of each layer's units, balance being IN = c OUT, without and with weight decay."""
    return _by_layer(rows, folder, "units", "Do units of degree two come to the balance IN = 2 OUT?")


def _by_layer(rows: Sequence[Row], folder: Path, what: str, question: str) -> list[Exhibit]:
    followed = traces(rows, folder)
    found: list[Exhibit] = []
    lines: list[list[Cell]] = []
    for label, groups in by_network(rows, penalty_of, ORDER).items():
        layers = _layers(rows, followed, label)
        parts = [panel(groups, followed, "share", f"all {what}", log=True)]
        parts += [panel(groups, followed, key, f"layer {k + 1}", log=True) for k, key in enumerate(layers)]
        figure = stack([*parts, panel(groups, followed, "loss", "training loss")], ORDER)
        if figure is None:
            continue
        title = f"{label}: {SHARE} of {what} in all and by layer, and training loss{bands(groups)}"
        found.append(Figure(slug(label), title, figure))
        for name, members in groups.items():
            shares = [mean_and_sd(finals(members, followed, key), places=4) for key in ("share", *layers)]
            accuracy = values_of(members, "test_accuracy")
            told = mean_and_sd([100 * v for v in accuracy]) if accuracy else None
            lines.append([label, name, shares[0], _side_by_side(shares[1:]), told, len(members)])
    if lines:
        heads = ["network", "regulariser", SHARE, "by layer", "test accuracy, %", "seeds"]
        found.append(Table(question, heads, lines, f"After the last step. {MEANING}"))
    return found


def _layers(rows: Sequence[Row], followed: Traces, label: str) -> list[str]:
    """The keys of the shares of a network's layers, from input to output."""
    points = (followed.get(str(row["hash"]), ()) for row in rows if label_of(row) == label)
    last = next((one[-1] for one in points if one), {})
    return [key for key in last if key.startswith("share/")]


def _side_by_side(cells: Sequence[Cell]) -> Cell:
    parts: list[Cell] = []
    for place, cell in enumerate(cells):
        first = cell[0] if isinstance(cell, tuple) else cell
        parts += [", " if place else "", first]
    return tuple(part for part in parts if part != "")  # type: ignore[return-value]


@per_preset
def mixed(rows: Sequence[Row], histories: Histories, folder: Path) -> list[Exhibit]:
    """The share of imbalance under L1, under L2 and under their mixture along training, for each regulariser."""
    followed = traces(rows, folder)
    found: list[Exhibit] = []
    lines: list[list[Cell]] = []
    for label, groups in by_network(rows, penalty_of, ORDER).items():
        parts = [
            panel(groups, followed, "share", "under w²", log=True),
            panel(groups, followed, "share_l1", "under |w|", log=True),
            panel(groups, followed, "share_mixed", "under both", log=True),
        ]
        figure = stack(parts, ORDER)
        if figure is None:
            continue
        found.append(Figure(slug(label), f"{label}: {SHARE} under three costs along training{bands(groups)}", figure))
        for name, members in groups.items():
            cells = [finals(members, followed, key) for key in ("share", "share_l1", "share_mixed")]
            told = [mean_and_sd(values, places=4) if values else None for values in cells]
            lines.append([label, name, *told, len(members)])
    if lines:
        heads = ["network", "trained with", "under w²", "under |w|", "under both", "seeds"]
        caption = f"After the last step. {MEANING} Both: the cost of the run's own two penalties together."
        found.append(Table("The cost under which training balances", heads, lines, caption))
    return found


def _strength(row: Row) -> str:
    return f"L2 {float(row.get('decay.l2') or 0):g}"


@per_preset
def stopping(rows: Sequence[Row], histories: Histories, folder: Path) -> list[Exhibit]:
    """The share of imbalance and the test loss after each epoch, and where balance would have stopped training."""
    found: list[Exhibit] = []
    lines: list[list[Cell]] = []
    for label, members in split(rows, label_of).items():
        groups = named(members, _strength)
        drawn = []
        for metric, axis, log in (("share", SHARE, True), ("test_loss", "test loss", False)):
            curves = {name: curve(runs, histories, metric) for name, runs in groups.items()}
            drawn.append(Panel(axis, {name: one for name, one in curves.items() if len(one.x) > 1}, log))
        figure = stack(drawn, list(groups), xlabel="epoch")
        if figure is not None:
            found.append(Figure(slug(label), f"{label}: {SHARE} and test loss after each epoch{bands(groups)}", figure))
        lines += [line for name, runs in groups.items() for line in _stops(label, name, runs, histories)]
    if lines:
        signal = BalanceStop()
        heads = ["network", "regulariser", "stops after epoch", "test loss there", "lowest", "at the end", "seeds"]
        caption = (
            f"Means over the seeds in which it stops: once the {SHARE} has not fallen by "
            f"{100 * signal.change:g} % of its lowest value for {signal.patience} epochs. {MEANING}"
        )
        found.append(Table("Balance as a signal to stop", heads, lines, caption))
    return found


def _stops(label: str, name: str, rows: Sequence[Row], histories: Histories) -> list[list[Cell]]:
    """Where each seed's run would have stopped, on average; nothing where none of them would."""
    places: list[tuple[int, float, float, float]] = []
    for row in rows:
        epochs = [epoch for epoch in histories.get(str(row["hash"]), ()) if epoch.get("share") is not None]
        place = BalanceStop().first([float(epoch["share"]) for epoch in epochs])
        if place is not None:
            losses = [float(epoch["test_loss"]) for epoch in epochs]
            places.append((int(epochs[place]["epoch"]), losses[place], min(losses), losses[-1]))
    if not places:
        return [[label, name, "never", None, None, None, len(rows)]]
    epoch, *losses = ([one[k] for one in places] for k in range(4))
    mean = sum(epoch) / len(epoch)
    return [[label, name, Number(mean, fixed(mean, 1)), *(mean_and_sd(v, places=4) for v in losses), len(places)]]
