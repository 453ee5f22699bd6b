"""The page, parsed: it stands alone, fits a phone, escapes what it is given and shows exactly the CSV's numbers.

A failure would hide a page that calls the network, breaks on a phone, runs a model's name as HTML, or prints a
number that no file holds.
"""

import csv
import io
import os
import re
from html.parser import HTMLParser

import pytest

from equipoise import plots, report
from equipoise.errors import EquipoiseError, InputError
from equipoise.report import Code, Comparison, Figure, Note, Number, Section, Table
from equipoise.sweep import write_csv

VOID = {"meta", "br", "hr", "img", "link", "input"}
EVIL = "<script>alert(1)</script> & \"quotes\" 'single' 中文"
# The content width of a page on a phone of 375 px.
PHONE = 343


class Parsed(HTMLParser):
    """Elements with their attributes, the texts, the numbers as (data-value, shown), the styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.numbers: list[tuple[str, str]] = []
        self.css = ""
        self.texts: list[str] = []
        self.cells: list[list[list[str]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.elements.append((tag, found))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tbody":
            self.cells.append([])
        if "data-value" in found:
            self.numbers.append((str(found["data-value"]), ""))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "style":
            self.css += data
        elif self.open and self.open[-1] == "span":
            self.numbers[-1] = (self.numbers[-1][0], data)
        self.texts.append(data)


def svg(title: str = "curves") -> str:
    fig, ax = plots.figure()
    plots.learning_curves(ax, {"bp": plots.Series([1, 2], [0.1, 0.2]), "fa": plots.Series([1, 2], [0.2, 0.1])})
    return plots.svg(fig, title=title)


ROWS = [
    {"hash": f"{seed:012x}", "experiment": "train", "data": "digits", "model": "mlp:64-100-10", "rule": rule}
    | {"lr": 0.1, "seed": seed, "preset": "smoke", "test_accuracy": (1 + seed) / 7, "epoch": 3, "seconds": 1 / 3}
    | {"device": "cpu", "threads": 1, "commit": "0123456789abcdef-dirty"}
    for rule in ("bp", "fa")
    for seed in range(3)
]
COMPARISONS = [
    Comparison("FA", [97.2, 97.4, 97.1], 97.3, 0.1, "Table 1, p. 7", "quick", ["3f2a9c0d1b77"] * 3, "%"),
    Comparison("angle", [61.23456789012345], preset="quick", unit="degrees"),
    Comparison("lower", [-1.5, -1.75], -1.25),
]
SECTIONS = [
    Section(EVIL, f"{EVIL}\n\n- {EVIL}\n- `code <b>`", facts={EVIL: EVIL, "runs": 6, "time": (Number("0.50"), "s")}),
    Section("Same", tables=[report.run_table(ROWS), report.comparison_table(COMPARISONS)]),
    Section("Same", figures=[Figure(svg(), EVIL), Figure(svg(), "the same again", wide=True)], collapsed=True),
    Section("Cells", tables=[Table([EVIL, "b"], [[EVIL, (Code(EVIL), Note(EVIL), Number(0.1, EVIL))]], EVIL)]),
]
PAGE = report.page(EVIL, SECTIONS, subtitle=EVIL, footer=EVIL)


@pytest.fixture(scope="module")
def parsed() -> Parsed:
    found = Parsed(PAGE)
    assert found.open == []
    return found


def test_nothing_comes_from_outside(parsed: Parsed) -> None:
    links = [
        str(value)
        for _, attributes in parsed.elements
        for name, value in attributes.items()
        if name.split(":")[-1] in ("src", "href", "srcset", "data", "action", "poster")
    ]
    assert links
    assert [link for link in links if not link.startswith(("#", "data:"))] == []
    assert re.findall(r"url\((?!#)|@import", PAGE) == []
    assert {tag for tag, _ in parsed.elements} & {"script", "link", "iframe", "object", "embed", "base"} == set()


def test_it_is_made_for_phones_and_for_the_dark(parsed: Parsed) -> None:
    metas = {attributes.get("name"): attributes.get("content") for tag, attributes in parsed.elements if tag == "meta"}
    assert metas["viewport"] == "width=device-width, initial-scale=1"
    assert "prefers-color-scheme: dark" in parsed.css
    assert "@media print" in parsed.css


def test_nothing_has_a_fixed_width_beyond_a_phone(parsed: Parsed) -> None:
    styles = [str(attributes.get("style", "")) for _, attributes in parsed.elements]
    narrow = "".join(re.split(r"@media \(min-width.*?\n\}\n", parsed.css, flags=re.DOTALL))
    assert len(narrow) < len(parsed.css)
    sizes = re.findall(r"(?<![-\w])(?:min-)?width:\s*([\d.]+)(px|rem|em)", "\n".join([narrow, *styles]))
    assert [size for size in sizes if float(size[0]) * (1 if size[1] == "px" else 16) > PHONE] == []
    widths = [attributes.get("width") for tag, attributes in parsed.elements if tag in ("svg", "table", "img", "td")]
    assert set(widths) <= {None, "100%"}


def test_every_table_lies_in_a_frame_that_scrolls(parsed: Parsed) -> None:
    tags = [(tag, attributes.get("class")) for tag, attributes in parsed.elements]
    tables = [i for i, (tag, _) in enumerate(tags) if tag == "table"]
    assert len(tables) == 3
    assert all(tags[i - 1] == ("div", "frame") for i in tables)
    assert re.search(r"\.frame \{[^}]*overflow-x: auto", parsed.css)


def test_ids_are_unique_and_the_contents_find_their_sections(parsed: Parsed) -> None:
    ids = [attributes["id"] for _, attributes in parsed.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = [str(attributes["href"]) for tag, attributes in parsed.elements if tag == "a"]
    assert len(targets) == 4
    assert all(target[1:] in ids for target in targets)


def test_what_it_is_given_is_escaped(parsed: Parsed) -> None:
    assert "<script" not in PAGE
    # Title, heading, subtitle, contents, section heading, text, list, fact twice, caption twice, cells, footer.
    assert "".join(parsed.texts).count(EVIL) >= 15


def test_every_number_of_the_runs_is_the_csvs(parsed: Parsed, tmp_path) -> None:
    write_csv(ROWS, tmp_path / "runs.csv")
    held = {cell for row in csv.reader(io.StringIO((tmp_path / "runs.csv").read_text())) for cell in row}
    page = Parsed(report.page("runs", [Section("runs", tables=[report.run_table(ROWS)])]))
    # Seed, accuracy, epochs, seconds and threads of six runs.
    assert len(page.numbers) == 30
    assert {raw for raw, _ in page.numbers} <= held
    again = [{**row, "test_accuracy": repr(row["test_accuracy"])} for row in ROWS]
    assert Parsed(report.page("runs", [Section("runs", tables=[report.run_table(again)])])).numbers == page.numbers


def test_every_number_of_a_comparison_is_the_csvs(tmp_path) -> None:
    rows = report.comparison_rows(COMPARISONS)
    write_csv(rows, tmp_path / "comparison.csv")
    held = list(csv.DictReader(io.StringIO((tmp_path / "comparison.csv").read_text())))
    assert {row["quantity"] for row in held} == {"FA", "angle", "lower"}
    names = ("published", "published_sd", "mean", "half_interval", "difference", "seeds")
    for one, row in zip(COMPARISONS, rows, strict=True):
        page = Parsed(report.page("one", [Section("one", tables=[report.comparison_table([one])])]))
        (line,) = [line for line in held if line["quantity"] == row["quantity"]]
        assert [raw for raw, _ in page.numbers] == [line[name] for name in names if line[name]]


def test_what_is_shown_is_the_value_rounded(parsed: Parsed) -> None:
    clean = [(raw, shown) for raw, shown in parsed.numbers if shown != EVIL]
    assert len(clean) > 30
    for raw, shown in clean:
        plain = shown.replace("\N{MINUS SIGN}", "-").replace("\N{NARROW NO-BREAK SPACE}", "")
        places = len(plain.partition(".")[2])
        assert abs(float(plain) - float(raw)) <= 0.5000001 * 10**-places, (raw, shown)


def test_a_comparison_says_what_it_should() -> None:
    first, angle, lower = report.comparison_table(COMPARISONS).csv().splitlines()[1:]
    mean, half = COMPARISONS[0].ours.mean, COMPARISONS[0].ours.half
    assert first == (
        f'FA (%),"97.3 ± 0.1 Table 1, p. 7",{mean!r} ± {half!r},{mean - 97.3!r} within interval,3,quick,'
        "3f2a9c0d1b77 3f2a9c0d1b77 and 1 more"
    )
    assert angle == "angle (degrees),–,61.23456789012345,–,1,quick,"  # noqa: RUF001
    assert lower.split(",")[3] == "-0.375 within interval"


def test_wrong_content_is_refused() -> None:
    for call in (
        lambda: report.page("empty", []),
        lambda: Table(["a", "b"], [["only one"]]),
        lambda: Figure("<img src='http://example.org'>"),
        lambda: Comparison("nothing", []),
    ):
        with pytest.raises(InputError):
            call()


def test_an_impossible_folder_is_one_clear_line(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EquipoiseError, match="cannot") as raised:
        report.write(tmp_path / "file" / "page.html", PAGE)
    assert "\n" not in str(raised.value)


def test_a_page_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch) -> None:
    path = report.write(tmp_path / "deep" / "page.html", PAGE)
    assert path.read_text(encoding="utf-8") == PAGE

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EquipoiseError, match="No space left"):
        report.write(path, "new")
    assert path.read_text(encoding="utf-8") == PAGE
    assert [item.name for item in path.parent.iterdir()] == ["page.html"]
