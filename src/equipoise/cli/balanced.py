"""The demo's balanced networks: same function, smaller norm, as a table and as a section of its page."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from equipoise import balance, data, plots, report
from equipoise.cli.checkpoint import trained
from equipoise.train import Machine, Run, train
from equipoise.train.progress import Quiet

__all__ = ["DENSE", "Balanced", "networks", "section", "table"]

# The demo's own dense networks have tanh units, which no scale crosses.
DENSE = Run(experiment="demo/balanced", model="mlp:64-256-128-10", epochs=4, lr=0.03, batch_size=32, preset="demo")
ABOUT = (
    "What enters a ReLU unit can be multiplied by any positive number, and what leaves it divided by the same, without "
    "a change of the network's function. `equipoise balance` finds the numbers that make the norm of all weights the "
    "smallest; then every unit's incoming weights cost what its outgoing ones do.\n\n"
    "In the residual network a channel's scale and shift in batch norm are what enters it: the rows of weights before "
    "it could have any size, so they keep theirs."
)


@dataclasses.dataclass(frozen=True)
class Balanced:
    """A trained network before and after: its report, right answers on the test pictures, and the layers' norms."""

    name: str
    report: balance.BalanceReport
    accuracy: tuple[float, float]
    change: float
    norms: tuple[Mapping[str, float], Mapping[str, float]]


def networks(others: Mapping[str, Run], folder: str | Path, machine: Machine) -> list[Balanced]:
    """Balance a dense network, trained here, and the finished runs ``others`` in the demo's folder."""
    train(DENSE, machine, progress=Quiet())
    return [_balanced(name, run, Path(folder)) for name, run in {"dense, ReLU": DENSE, **others}.items()]


def _balanced(name: str, run: Run, folder: Path) -> Balanced:
    model = trained(run, folder)
    pictures = data.load(run.data).test
    x, y = pictures.batch(torch.arange(len(pictures)))
    before, norms = _scores(model, x), _norms(model)
    found = balance.balance_(model, example=x[:2])
    after = _scores(model, x)
    change = float((after - before).abs().max() / before.abs().max())
    accuracy = [float((scores.argmax(1) == y).double().mean()) for scores in (before, after)]
    return Balanced(name, found, (accuracy[0], accuracy[1]), change, (norms, _norms(model)))


@torch.no_grad()
def _scores(model: nn.Module, x: Tensor) -> Tensor:
    return model(x).double()


def _norms(model: nn.Module) -> dict[str, float]:
    """The squared norm of each layer, bias included, by the layer's name."""
    found: dict[str, float] = {}
    for name, parameter in model.named_parameters():
        layer = name.rpartition(".")[0]
        found[layer] = found.get(layer, 0.0) + float(parameter.detach().double().square().sum())
    return found


def table(found: list[Balanced]) -> report.Table:
    """A line for each network: accuracy, norm and deficit, before and after, and how far the outputs are apart."""
    rows: list[list[report.Cell]] = []
    for one in found:
        norms = [cost**0.5 for cost in (one.report.cost_before, one.report.cost_after)]
        deficits = (one.report.deficit_before, one.report.deficit)
        rows.append(
            [
                one.name,
                *(report.Number(100 * a, f"{100 * a:.1f}") for a in one.accuracy),
                *(report.Number(n, f"{n:.2f}") for n in norms),
                *(report.Number(d, f"{d:.1e}") for d in deficits),
                report.Number(one.change, f"{one.change:.1e}"),
            ]
        )
    columns = [
        "network",
        "test, %",
        "test after, %",
        "norm",
        "norm after",
        "deficit",
        "deficit after",
        "output moved by",
    ]
    caption = (
        "Trained by backpropagation, then balanced. Norm: the root of the sum of the squared weights that count. "
        "Deficit: the largest |IN - OUT| / (IN + OUT) of a unit. Output: the largest change over the largest score, in "
        "float32."
    )
    return report.Table(columns, rows, caption)


def section(found: list[Balanced]) -> report.Section:
    """The page's section: the table, and the dense network's layers before and after."""
    fig, ax = plots.figure()
    before, after = found[0].norms
    series = {
        "as trained": plots.Series(list(before), list(before.values())),
        "balanced": plots.Series(list(after), list(after.values())),
    }
    plots.bars(ax, series, xlabel="layer", ylabel="squared norm, bias included", order=tuple(series))
    title = "Squared norm of each layer of the dense network, before and after balancing"
    drawn = report.Figure(plots.svg(fig, title=title), f"{title}.")
    return report.Section("A balanced network", ABOUT, tables=[table(found)], figures=[drawn])
