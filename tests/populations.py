"""Cells of rule, circuit and optimiser, each trained as a population and run by run: what ``docs/populations.md`` shows.

    python -m tests.populations     # trains every cell and writes the table

The two members of a cell differ in all that members may differ in but widths; in the circuits called "..., widths" they
differ in these too.

An outcome is "equal" (weights, what the optimiser keeps, and loss and accuracy within 1e-10 of the solo runs' after 100
steps in float64), the name of the line by which the population is refused, or "none" where the rule itself refuses the
network.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import torch

from equipoise import data, report
from equipoise.errors import InputError
from equipoise.population import LINES, Population, Refused
from equipoise.report.content import Code
from equipoise.train import Machine, Run, evaluate, schedules
from equipoise.train.loop import Loop
from equipoise.train.parts import Parts, build
from equipoise.train.progress import Quiet
from equipoise.train.stop import Stopper

PAGE = Path(__file__).resolve().parents[1] / "docs" / "populations.md"
MARKS = ("<!-- populations: table -->", "<!-- populations: end -->")
TOLERANCE = 1e-10

CIRCUITS: dict[str, dict[str, Any]] = {
    "plain": {"model": "mlp:64-12-12-10"},
    "dropout": {"model": "mlp:64-12-10,dropout=0.2,activation=tanh"},
    "convolution": {"model": "cnn:1x8x8-4-10"},
    "layer norm": {"model": "mlp:64-12-10,norm=layer"},
    "batch norm": {"model": "tests.populations:normalised"},
    "Dale": {"model": "dale:64-12-10"},
    "DANN": {"model": "dann:64-12-10"},
    "I-Norm": {"model": "inorm:64-12-10,gradnorm=center"},
    "I-Norm, kernels": {"model": "inorm:1x8x8-4-10"},
    "lateral": {"model": "inorm:64-12-10,gradnorm=lateral"},
    "square": {"model": "invertible:64-16-16-10"},
    "spiking": {"model": "spiking-mlp:64-12-10"},
}
WIDER = {
    "plain": "mlp:64-7-15-10",
    "dropout": "mlp:64-9-10,dropout=0.2,activation=tanh",
    "convolution": "cnn:1x8x8-6-10",
    "layer norm": "mlp:64-15-10,norm=layer",
    "batch norm": "tests.populations:normalised_wider",
    "Dale": "dale:64-31-10",
    "DANN": "dann:64-31-10",
    "I-Norm": "inorm:64-31-10,gradnorm=center",
    "I-Norm, kernels": "inorm:1x8x8-21-10",
    "lateral": "inorm:64-31-10,gradnorm=lateral",
    "square": "invertible:64-20-20-10",
    "spiking": "spiking-mlp:64-20-10",
}
CIRCUITS |= {f"{name}, widths": {**CIRCUITS[name], "other": other} for name, other in WIDER.items()}
RULES: dict[str, dict[str, Any]] = {
    **{name: {"rule": name} for name in ("bp", "fa", "dfa", "drtp", "shallow", "usf", "frsf", "brsf", "pepita")},
    "gait": {"rule": "gait", "options": {"inverse": "solve"}},
    "gait, held": {"rule": "gait", "options": {"inverse": "track"}},
    "tp": {"rule": "tp"},
    "dtp": {"rule": "dtp"},
}
# Small rates: where training amplifies a difference in the last bit, no two orders of summation agree for long.
OPTIMISERS: dict[str, dict[str, Any]] = {
    "sgd": {"optimizer": "sgd", "optimizer_options": {"momentum": 0.0}, "lr": 0.001},
    "momentum": {"optimizer": "sgd", "optimizer_options": {"momentum": 0.9}, "lr": 0.0002},
    "adam": {"optimizer": "adam", "lr": 0.0001},
    "rmsprop": {"optimizer": "rmsprop", "lr": 0.001},
}
ABLE = [name for name in OPTIMISERS if name != "rmsprop"]  # those that populations have


# Uniform feedback through a fresh Dale readout teaches nothing but rounding (docs/populations.md), so what takes its sign
# is left out: the kink of l1 at a bias of 0, and that of ReLU where the patch is blank and a bias alone decides.
BLIND, BIASED = "usf", "I-Norm, kernels"


def normalised(width: int = 12) -> torch.nn.Module:
    """A network with batch norm between its layers."""
    nn = torch.nn
    below = nn.Linear(64, width, bias=False)
    return nn.Sequential(nn.Flatten(), below, nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 10))


def normalised_wider() -> torch.nn.Module:
    """The same with more units."""
    return normalised(17)


def members(rule: str, circuit: str, optimiser: str, *, steps: int = 100) -> list[Run]:
    """The two runs of a cell: seed, rate and schedule, light, penalty, clipping and the optimiser's numbers differ."""
    behind = ",bias=none" if rule == BLIND and circuit.startswith(BIASED) else ""
    model = CIRCUITS[circuit]["model"] + behind
    first = Run(
        **{"model": model, **RULES[rule], **OPTIMISERS[optimiser]},
        precision="float64",
        batch_size=8,
        train_limit=2 * steps,
        test_limit=40,
        epochs=4,
        validation=0,
    )
    numbers = {"weight_decay": 0.01, **({"momentum": 0.5} if optimiser == "momentum" else {})}
    light, decay = {"shift": 0.2}, {"l2" if rule == BLIND else "l1": 1e-4}
    other = {"model": CIRCUITS[circuit]["other"] + behind if "other" in CIRCUITS[circuit] else model}
    other |= {"optimizer_options": numbers, "scheduler": "cosine", "perturb": light, "decay": decay, "clip_norm": 1.0}
    return [first, dataclasses.replace(first, seed=1, lr=first.lr / 2, **other)]


def outcome(rule: str, circuit: str, optimiser: str, *, steps: int = 100, every: bool = False) -> str:
    """What becomes of a cell; ``AssertionError`` where its second member (or ``every`` one) is not its solo run."""
    runs = members(rule, circuit, optimiser, steps=steps)
    try:
        build(runs[0], Machine())
    except InputError:
        return "none"
    try:
        together = Population(runs)
    except Refused as error:
        return error.line
    for _ in range(steps):
        together.step()
    found = together.evaluate("test")
    assert found is not None
    for member, run in enumerate(runs):
        if not (member or every or run.model != runs[1].model):
            continue
        alone = Alone(run)
        alone.walk(steps)
        apart = difference(together.release(member), alone.parts)
        numbers = evaluate.evaluate(alone.parts, alone.parts.test, "test")
        assert numbers is not None
        apart = max([apart, *(abs(found[member][key] - value) for key, value in numbers.items())])
        where = f"{rule}, {circuit}, {optimiser}, seed {run.seed}"
        assert apart <= TOLERANCE, f"{where}: {apart:.2g} from its solo run"
    return "equal"


def upright() -> data.Dataset:
    """The digits as a set whose images may be mirrored."""
    return dataclasses.replace(data.load("digits"), handed=False)


class Alone(Loop):
    """A solo run that writes nothing, and keeps what it was shown."""

    def __init__(self, run: Run) -> None:
        super().__init__(build(run, Machine()), Path(), Machine(), progress=Quiet(), stopper=Stopper())
        self.seen: list[torch.Tensor] = []
        self.parts.rule.callbacks.append(lambda x, y, step: self.seen.append(x))

    def walk(self, steps: int) -> None:
        """Train for so many steps, over the ends of epochs."""
        size = self.parts.run.batch_size
        self.parts.model.train()
        for self.step in range(steps):
            epoch, place = divmod(self.step, self.per_epoch)
            if epoch and not place:
                schedules.step_scheduler(self.parts.scheduler, epoch=True)
            order = data.order(len(self.parts.train), seed=self.parts.run.seed, epoch=epoch)
            self._one(order[place * size : (place + 1) * size], order[:0])


def difference(one: Parts, two: Parts) -> float:
    """How far two networks, and what their optimisers keep, lie apart; relative where they are large."""
    pairs = list(zip(one.model.state_dict().values(), two.model.state_dict().values(), strict=True))
    kept = [
        {(n, key): value for n, p in part.model.named_parameters() for key, value in part.optimizer.state[p].items()}
        for part in (one, two)
        if part.optimizer.state
    ]
    if len(kept) == 2:
        a, b = ({key: value for key, value in both.items() if value is not None} for both in kept)
        assert a.keys() == b.keys(), f"{sorted(a)} and {sorted(b)}"
        pairs += [(a[key], b[key]) for key in b]
    apart = [(a.double() - b.double()).abs() / b.double().abs().clamp(min=1) for a, b in pairs]
    return max(float(one.max()) for one in apart)


def documented() -> dict[tuple[str, str, str], str]:
    """The outcome of every cell as the page has it."""
    within = PAGE.read_text(encoding="utf-8").partition(MARKS[0])[2].partition(MARKS[1])[0]
    split = [[word.strip() for word in line.strip("|").split("|")] for line in within.splitlines() if line[:1] == "|"]
    table = {row[0]: row[1:] for row in split}
    kinds = {sign: kind for kind, sign in SIGNS.items()}
    rules = table["circuit"][1:]
    found = {}
    for rule, circuit, optimiser in cells():
        word = table[circuit][1 + rules.index(rule)]
        if (rule, circuit) == ("bp", "plain"):
            word = table[optimiser][0]
        found[rule, circuit, optimiser] = kinds.get(word, word)
    return found


def cells() -> list[tuple[str, str, str]]:
    """Every rule with every circuit under every optimiser; one that is refused, on one network."""
    found = [(rule, circuit, optimiser) for rule in RULES for circuit in CIRCUITS for optimiser in ABLE]
    return [*found, *(("bp", "plain", name) for name in OPTIMISERS if name not in ABLE)]


def some_cells() -> list[tuple[str, str, str]]:
    """Every rule with every circuit, the optimisers in turn; and every optimiser on one network."""
    column = {circuit: number for number, circuit in enumerate(CIRCUITS)}
    found = {
        (rule, c): ABLE[(row + n + n // len(WIDER)) % len(ABLE)]
        for row, rule in enumerate(RULES)
        for c, n in column.items()
    }
    return [cell for cell in cells() if found[cell[:2]] == cell[2] or cell[:2] == ("bp", "plain")]


def page(outcomes: dict[tuple[str, str, str], str]) -> str:
    """What stands between the marks of the page."""
    rows = []
    for circuit, given in CIRCUITS.items():
        found = [{kind for (r, c, _), kind in outcomes.items() if (r, c) == (rule, circuit)} for rule in RULES]
        found = [kinds - {"optimizer"} for kinds in found]
        words = [SIGNS.get("".join(sorted(kinds)), ", ".join(sorted(kinds))) for kinds in found]
        model = given.get("other", given["model"]).rpartition("tests.populations:")[2]
        rows.append((circuit, Code(model), *words))
    networks = report.markdown(report.Table(("circuit", "for example", *RULES), rows, caption=""))
    plain = [(name, SIGNS.get(kind, kind)) for name, kind in _optimisers(outcomes).items()]
    optimisers = report.markdown(report.Table(("optimizer", "on the plain network"), plain, caption=""))
    lines = report.markdown(
        report.Table(("line", "why the runs are trained one by one"), list(LINES.items()), caption="")
    )
    return f"{networks}\n\n{optimisers}\n\n{lines}"


SIGNS = {"equal": "=", "none": "."}


def _optimisers(outcomes: dict[tuple[str, str, str], str]) -> dict[str, str]:
    return {o: kind for (rule, circuit, o), kind in outcomes.items() if (rule, circuit) == ("bp", "plain")}


def written(text: str, outcomes: dict[tuple[str, str, str], str]) -> str:
    """The page ``text`` with its table made anew."""
    before, _, rest = text.partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    return f"{before}{MARKS[0]}\n\n{page(outcomes)}\n\n{MARKS[1]}{after}"


def main() -> int:
    """Train every cell and write the page's table; with --check change nothing, and fail where it would be another."""
    outcomes, check = {}, "--check" in sys.argv[1:]
    for cell in cells():
        outcomes[cell] = outcome(*cell)
        sys.stderr.write(f"{', '.join(cell)}: {outcomes[cell]}\n")
    before = PAGE.read_text(encoding="utf-8")
    now = written(before, outcomes)
    if not check:
        report.write(PAGE, now)
    sys.stdout.write(f"{len(outcomes)} cells, {list(outcomes.values()).count('equal')} of them equal\n")
    return int(check and now != before)


if __name__ == "__main__":
    sys.exit(main())
