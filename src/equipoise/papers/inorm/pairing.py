"""Sorting finished runs into pairs: which runs share everything but the network, and what comparing them says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from equipoise.measure.pairs import PairedComparison, compare
from equipoise.papers.exhibits import Row
from equipoise.papers.inorm.conditions import CONDITIONS, condition_of
from equipoise.papers.picking import FIELDS, with_diverged

__all__ = ["CHANCE", "MARGIN", "Arm", "Setting", "arms", "by_condition", "by_setting", "setting_of", "with_diverged"]

MARGIN = 0.5  # points of accuracy within which two networks count as equal; fixed before any run
CHANCE = 10.0  # per cent: what a run that diverged scores in means
_NETWORK = {"model", "experiment", "version"}
_TAUGHT = "options.center"  # PEPITA's, which is what its conditions differ in

Setting = tuple[str, ...]
Draw = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Arm:
    """One condition against the baseline at one setting: accuracies in per cent, None for a run that diverged.

    ``draws``: what each pair shares.
    """

    setting: Setting
    condition: str
    values: tuple[float | None, ...]
    baseline: tuple[float | None, ...]
    draws: tuple[Draw, ...]

    @property
    def label(self) -> str:
        """What a reader calls the condition."""
        return CONDITIONS[self.condition].label

    @property
    def compared(self) -> PairedComparison:
        """The condition against the baseline."""
        return compare(self.values, self.baseline, margin=MARGIN, floor=CHANCE)

    @property
    def scored(self) -> list[float]:
        """The accuracies, chance where a run diverged."""
        return [CHANCE if v is None else v for v in self.values]


def setting_of(row: Row) -> Setting:
    """What a reader wants kept apart: the light, the data, the rule where it is not backpropagation."""
    words = [f"range {float(row.get('perturb.shift') or 0):g}"]
    if row.get("perturb.contrast"):
        words = [f"contrast {float(row['perturb.contrast']):g}"]
    if row.get("rule") != "bp":
        words.insert(0, str(row["rule"]))
    return (*words, f"{row.get('epochs')} epochs")


def by_setting(found: Sequence[Arm]) -> dict[Setting, list[Arm]]:
    """Arms by their setting, in its order."""
    groups: dict[Setting, list[Arm]] = {}
    for arm in found:
        groups.setdefault(arm.setting, []).append(arm)
    return dict(sorted(groups.items()))


def by_condition(rows: Sequence[Row], conditions: Sequence[str] = ()) -> dict[str, list[Row]]:
    """Rows by condition, in the order of ``CONDITIONS``; of ``conditions`` alone where they are given."""
    found: dict[str, list[Row]] = {name: [] for name in CONDITIONS if not conditions or name in conditions}
    for row in rows:
        name = condition_of(row)
        if name in found:
            found[name].append(row)
    return {name: members for name, members in found.items() if members}


def draw_of(row: Row) -> Draw:
    """Everything that two runs of a pair share: sizes, rates, data, light, seed, epochs."""
    sizes = str(row["model"]).partition(":")[2].partition(",")[0]
    shared = {k: str(v) for k, v in row.items() if k.partition(".")[0] in FIELDS - _NETWORK and k != _TAUGHT}
    return tuple(sorted({**shared, "sizes": sizes, "seed": str(row["seed"])}.items()))


def arms(rows: Sequence[Row], *, baseline: str = "ln", conditions: Sequence[str] = ()) -> list[Arm]:
    """Each condition against ``baseline``, setting by setting, over the draws that both have run."""
    found = []
    settings: dict[Setting, list[Row]] = {}
    for row in rows:
        settings.setdefault(setting_of(row), []).append(row)
    for setting in sorted(settings):
        by_draw = {
            name: {draw_of(row): _accuracy(row) for row in members}
            for name, members in by_condition(settings[setting], conditions).items()
        }
        against: Mapping[tuple, float | None] = by_draw.get(baseline, {})
        for name, mine in by_draw.items():
            shared = sorted(set(mine) & set(against))
            if shared:
                values, base = (tuple(one[d] for d in shared) for one in (mine, against))
                found.append(Arm(setting, name, values, base, tuple(shared)))
    return found


def _accuracy(row: Row) -> float | None:
    value = row.get("test_accuracy")
    return None if value is None else 100 * float(value)
