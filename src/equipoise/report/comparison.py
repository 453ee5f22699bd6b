"""Published against ours: one row per quantity, as a table for the page and as rows for the CSV."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from equipoise.errors import InputError
from equipoise.measure.statistics import Estimate, estimate
from equipoise.plots import Point
from equipoise.report.content import MINUS, NOTHING, Code, Note, Number, Part, Table, number_text

__all__ = ["Comparison", "comparison_rows", "comparison_table", "decimals", "plus_minus"]

SHOWN_SPECS = 2


@dataclass(frozen=True)
class Comparison:
    """A quantity as published and as we found it, in the paper's unit.

    ``values`` holds one number per seed, ``specs`` the hashes of their runs. ``published`` is None where the
    paper gives no number; ``source`` says where it stands ("Table 1, p. 7").
    """

    quantity: str
    values: Sequence[float]
    published: float | None = None
    published_sd: float | None = None
    source: str = ""
    preset: str = ""
    specs: Sequence[str] = ()
    unit: str = ""
    level: float = 0.95

    def __post_init__(self) -> None:
        if len(self.values) == 0:
            raise InputError(f"the comparison '{self.quantity}' has no values of ours")

    @property
    def ours(self) -> Estimate:
        """Mean and Student interval over our seeds."""
        return estimate(self.values, level=self.level)

    @property
    def difference(self) -> float | None:
        """Our mean minus the published value."""
        return None if self.published is None else self.ours.mean - self.published

    @property
    def point(self) -> Point:
        """The row as ``plots.estimates`` draws it."""
        ours = self.ours
        return Point(self.quantity, ours.mean, ours.low, ours.high, self.published, self.published_sd)


def comparison_table(comparisons: Sequence[Comparison], *, caption: str = "") -> Table:
    """The table "published, ours, difference, seeds, preset, spec"; its numbers are those of the CSV rows."""
    rows = [_row(one) for one in comparisons]
    levels = sorted({f"{one.level * 100:g}" for one in comparisons})
    note = (
        f"Ours: mean ± half the {' or '.join(levels)} % Student interval over seeds. Difference: ours minus published."
    )
    columns = ("quantity", "published", "ours", "difference", "seeds", "preset", "spec")
    return Table(columns, rows, f"{caption.rstrip('.')}. {note}" if caption else note)


def comparison_rows(comparisons: Sequence[Comparison]) -> list[dict[str, object]]:
    """The same as flat rows for ``sweep.write_csv``, every number exact."""
    return [
        {
            "quantity": one.quantity,
            "unit": one.unit,
            "published": one.published,
            "published_sd": one.published_sd,
            "source": one.source,
            "mean": one.ours.mean,
            "half_interval": None if math.isnan(one.ours.half) else one.ours.half,
            "level": one.level,
            "difference": one.difference,
            "seeds": len(one.values),
            "preset": one.preset,
            "specs": " ".join(one.specs),
        }
        for one in comparisons
    ]


def plus_minus(mean: float, half: float, *, places: int | None = None) -> tuple[Part, ...]:
    """A mean and its half-interval, rounded to ``places``: by default where the interval's second digit stands.

    >>> [part if isinstance(part, str) else part.shown for part in plus_minus(51.2345, 0.3712)]
    ['51.23', '±', '0.37']
    """
    if not math.isfinite(half):
        return (Number(mean, number_text(mean)),)
    places = decimals(mean, half) if places is None else places
    return (Number(mean, _fixed(mean, places)), "±", Number(half, _fixed(half, places)))


def _row(one: Comparison) -> tuple[Part | tuple[Part, ...], ...]:
    ours = one.ours
    quantity: tuple[Part, ...] = (one.quantity, Note(f"({one.unit})")) if one.unit else (one.quantity,)
    mine = plus_minus(ours.mean, ours.half)
    published: tuple[Part, ...] = (NOTHING,)
    difference: tuple[Part, ...] = (NOTHING,)
    if one.published is not None and one.difference is not None:
        published = (Number(one.published, _plain(one.published)),)
        if one.published_sd is not None:
            published += ("±", Number(one.published_sd, _plain(one.published_sd)))
        places = decimals(ours.mean, ours.half if math.isfinite(ours.half) else abs(ours.mean) / 1000)
        rounded = _fixed(one.difference, places)
        sign = "+" if one.difference > 0 and float(rounded) != 0 else ""
        difference = (Number(one.difference, sign + rounded),)
        if math.isfinite(ours.low):
            inside = ours.low <= one.published <= ours.high
            difference += (Note("within interval" if inside else "outside interval"),)
    if one.source:
        published += (Note(one.source),)
    specs: tuple[Part, ...] = tuple(Code(spec) for spec in one.specs[:SHOWN_SPECS])
    if len(one.specs) > SHOWN_SPECS:
        specs += (Note(f"and {len(one.specs) - SHOWN_SPECS} more"),)
    return (quantity, published, mine, difference, Number(len(one.values)), one.preset, specs)


def decimals(mean: float, half: float) -> int:
    """Decimals down to the second digit of the half-interval; four digits of the mean when it is 0, or rounding."""
    size = half if half > 1e-9 * abs(mean) else abs(mean) / 100
    return 2 if size == 0 or not math.isfinite(size) else min(8, max(0, 1 - math.floor(math.log10(size))))


def _fixed(value: float, places: int) -> str:
    if not math.isfinite(value):
        return number_text(value)
    text = f"{value:.{places}f}"
    # A difference that rounds to nothing has no sign.
    if float(text) == 0:
        text = text.removeprefix("-")
    return text.replace("-", MINUS)


def _plain(value: float) -> str:
    """A published number as the paper printed it, without a sign that only looks like a hyphen."""
    return f"{value:.12g}".replace("-", MINUS)
