"""What every figure keeps: series told apart without colour, the axes it was given, the same bytes each time.

A failure would hide a figure that a colour-blind reader, a phone, a dark page or a second figure on the page breaks.
"""

import itertools
import re
import xml.etree.ElementTree as ElementTree

import matplotlib
import pytest
import torch

from equipoise import plots
from equipoise.errors import InputError
from equipoise.plots import Point, Series
from equipoise.plots.style import COLORS, FAINT, HATCHES, INK, PAPER, looks

NAMES = [f"rule {i}" for i in range(10)]
CURVES = {
    name: Series(range(1, 13), *[[0.1 * i + s + e / 20 for e in range(12)] for s in (0.0, -0.03, 0.03)])
    for i, name in enumerate(NAMES)
}
FEW = {name: CURVES[name] for name in NAMES[:3]}
LAYERS = {
    name: Series(["in", "out"], [5.0 * i, 2.0], [5.0 * i - 1, 1.0], [5.0 * i + 1, 3.0]) for i, name in enumerate(NAMES)
}
POINTS = [Point("a", 1.0, 0.9, 1.1, 1.05, 0.1), Point("b", 2.0, published=2.1), Point("c", 3.0, 2.9, 3.1)]

SAMPLES = {name: [0.1 * i + k / 50 for k in range(50)] for i, name in enumerate(NAMES)}
FITTED = {"Normal": Series([0.0, 1.0], [0.5, 1.0]), "t": Series([0.0, 1.0], [1.0, 0.5])}
CLOUD = [[float(k % 7), float(k % 5)] for k in range(40)]

DRAWINGS = {
    "learning_curves": lambda ax: plots.learning_curves(ax, CURVES, ylabel="accuracy <&>", percent=True),
    "log": lambda ax: plots.learning_curves(ax, CURVES, log=True),
    "estimates": lambda ax: plots.estimates(ax, POINTS, xlabel="accuracy"),
    "angles": lambda ax: plots.angles(ax, LAYERS),
    "bars": lambda ax: plots.bars(ax, LAYERS, ylabel="seconds"),
    "published": lambda ax: plots.learning_curves(ax, FEW, published={"rule 1": {1: 0.5, 9: 0.7}}),
    "fitted_curves": lambda ax: plots.fitted_curves(ax, CURVES, CURVES),
    "histogram": lambda ax: plots.histogram(ax, {"w": SAMPLES["rule 0"]}, densities=FITTED, xlabel="weight"),
    "histograms": lambda ax: plots.histogram(ax, SAMPLES, log=True),
    "scatter": lambda ax: plots.scatter(ax, CLOUD, [k % 10 for k in range(40)]),
    "images": lambda ax: plots.images(ax, torch.rand(5, 3, 4, 4), labels=list("abcde")),
}
drawings = pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS)


def render(draw, *, title: str = "a figure", themed: bool = True) -> str:
    fig, ax = plots.figure()
    draw(ax)
    return plots.svg(fig, title=title, themed=themed)


def ids(svg: str) -> list[str]:
    return re.findall(r'\bid="([^"]+)"', svg)


def contrast(first: str, second: str) -> float:
    """The contrast ratio of two colours as the web's accessibility guidelines define it."""

    def luminance(color: str) -> float:
        channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def test_ten_curves_differ_in_line_style_and_in_marker() -> None:
    _, ax = plots.figure()
    plots.learning_curves(ax, CURVES)
    lines = ax.get_lines()
    assert len(lines) == 10
    for first, second in itertools.combinations(lines, 2):
        assert first._dash_pattern != second._dash_pattern
        assert first.get_marker() != second.get_marker()
        assert first.get_color() != second.get_color()


def test_ten_bars_differ_in_hatch() -> None:
    _, ax = plots.figure()
    plots.bars(ax, LAYERS)
    assert len({group.patches[0].get_hatch() for group in ax.containers if hasattr(group, "patches")}) == 10
    assert len(set(HATCHES)) == 10


def test_forty_series_still_differ_without_colour() -> None:
    found = looks([str(i) for i in range(40)]).values()
    assert len({(one.dashes, one.marker) for one in found}) == 40


def test_a_rule_looks_the_same_where_others_are_absent() -> None:
    assert looks(["dfa", "bp"], order=["bp", "fa", "dfa"])["dfa"] == plots.look(2)
    assert looks(["new", "bp"], order=["bp", "fa"])["new"] == plots.look(2)


def test_colours_stand_out_from_the_page_in_light_and_dark() -> None:
    for side in (0, 1):
        for color in COLORS:
            assert contrast(color[side], PAPER[side]) >= 3, color
        assert contrast(INK[side], PAPER[side]) >= 7
        assert contrast(FAINT[side], PAPER[side]) >= 4.5


@drawings
def test_a_drawing_returns_its_axes_and_leaves_no_trace(draw) -> None:
    import matplotlib.pyplot as plt

    before = dict(matplotlib.rcParams)
    fig, ax = plots.figure()
    assert draw(ax) is ax
    plots.svg(fig, title="a figure")
    assert plt.get_fignums() == []
    assert dict(matplotlib.rcParams) == before


@drawings
def test_svg_is_the_same_each_time_and_stands_alone(draw) -> None:
    torch.manual_seed(0)
    first = render(draw)
    torch.manual_seed(0)
    assert render(draw) == first
    root = ElementTree.fromstring(first)
    assert root.get("role") == "img"
    assert root.get("aria-label") == "a figure"
    assert root.get("width") == "100%"
    assert root.get("viewBox") == "0 0 316.8 216"
    assert "metadata" not in first
    assert "<style" not in first
    assert "DOCTYPE" not in first
    assert not re.search(r'(?:href="|url\()(?!#|data:)', first)
    assert "http" not in first.replace('xmlns="http://www.w3.org/2000/svg"', "")


@drawings
def test_ids_are_unique_and_every_reference_finds_its_target(draw) -> None:
    svg = render(draw)
    found = ids(svg)
    assert len(found) == len(set(found))
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', svg)) == set(found) - {found[0]}


def test_two_figures_share_no_id() -> None:
    assert not set(ids(render(DRAWINGS["angles"]))) & set(ids(render(DRAWINGS["bars"])))
    assert not set(ids(render(DRAWINGS["bars"], title="a"))) & set(ids(render(DRAWINGS["bars"], title="b")))


@drawings
def test_every_colour_of_a_themed_figure_has_its_dark_twin(draw) -> None:
    bare = re.sub(r"var\([^)]*\)|data:[^\"]*|#eq-[\w-]+|url\([^)]*\)", "", render(draw))
    # The intervals of bars lie on any of their colours: one grey that shows on light and dark.
    assert set(re.findall(r"#[0-9a-f]{6}\b", bare)) <= {"#808890"}
    assert "var(" not in render(draw, themed=False)


def test_text_stays_text_and_is_escaped() -> None:
    svg = render(DRAWINGS["learning_curves"], title='<b> & "quotes"')
    texts = ["".join(node.itertext()) for node in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert "accuracy <&>" in texts
    assert ElementTree.fromstring(svg).get("aria-label") == '<b> & "quotes"'


def test_intervals_are_drawn_only_where_there_are_some() -> None:
    nan = [float("nan")] * 3
    _, ax = plots.figure()
    plots.learning_curves(ax, {"one seed": Series([1, 2, 3], [1.0, 2.0, 3.0], nan, nan)})
    assert not ax.collections
    plots.learning_curves(ax, {"seeds": Series([1, 2, 3], [1.0, 2.0, 3.0], [0.0, 1.0, 2.0], [2.0, 3.0, 4.0])})
    assert len(ax.collections) == 1


def test_a_published_value_is_an_open_diamond() -> None:
    _, ax = plots.figure()
    plots.estimates(ax, POINTS)
    open_ones = [line for line in ax.get_lines() if line.get_marker() == "D"]
    assert [line.get_xdata()[0] for line in open_ones] == [1.05, 2.1]
    assert all(line.get_markerfacecolor() == PAPER[0] for line in open_ones)
    assert [line.get_xdata()[0] for line in ax.get_lines() if line.get_marker() == "o"] == [1.0, 2.0, 3.0]


def test_published_values_stand_over_the_curve_that_they_belong_to() -> None:
    _, ax = plots.figure()
    plots.learning_curves(ax, CURVES, published={"rule 3": {2: 0.4, 5: 0.6}}, order=NAMES)
    (points,) = [line for line in ax.get_lines() if line.get_label() == "rule 3, published"]
    (curve,) = [line for line in ax.get_lines() if line.get_label() == "rule 3"]
    assert (list(points.get_xdata()), list(points.get_ydata())) == ([2, 5], [0.4, 0.6])
    assert (points.get_color(), points.get_marker()) == (curve.get_color(), "D")
    assert points.get_linestyle() == "None"


def test_angles_of_things_without_an_order_are_not_joined() -> None:
    for joined, dashes in ((True, plots.look(0).dashes), (False, "None")):
        _, ax = plots.figure()
        plots.angles(ax, {"one": Series(["a", "b"], [10.0, 20.0])}, joined=joined)
        assert ax.get_lines()[0].get_linestyle() == dashes
        assert ax.get_lines()[0].get_marker() == "o"


def test_a_histogram_is_a_density_in_bins_of_one_width() -> None:
    _, ax = plots.figure()
    plots.histogram(ax, {"a": [0.0, 0.1, 0.1, 1.0], "b": [2.0, 2.0]}, bins=4)
    outlines = [patch.get_data() for patch in ax.patches if not patch.get_fill()]
    assert [list(one.edges) for one in outlines] == [[0.0, 0.5, 1.0, 1.5, 2.0]] * 2
    assert [list(one.values) for one in outlines] == [[1.5, 0.0, 0.5, 0.0], [0.0, 0.0, 0.0, 2.0]]
    plots.histogram(plots.figure()[1], {"a": [1.0, 1.0]})


def test_every_point_of_a_cloud_is_drawn_with_the_marker_of_its_class() -> None:
    _, ax = plots.figure()
    plots.scatter(ax, [[0, 0], [1, 1], [2, 0]], [7, 2, 7], names=list("abcdefgh"))
    drawn = {line.get_label(): (line.get_marker(), list(line.get_xdata())) for line in ax.get_lines()}
    assert drawn == {"c": (plots.look(2).marker, [1.0]), "h": (plots.look(7).marker, [0.0, 2.0])}
    assert sorted(text.get_text() for text in ax.texts) == ["c", "h"]


def test_panels_share_one_legend() -> None:
    fig, axes = plots.panels(3, columns=2)
    assert fig.axes == axes
    for ax in axes:
        plots.learning_curves(ax, {name: CURVES[name] for name in NAMES[:2]})
    plots.share_legend(fig)
    assert [text.get_text() for text in fig.legends[0].get_texts()] == NAMES[:2]
    assert all(ax.get_legend() is None for ax in axes)
    stacked = plots.panels(2)[1]
    stacked[0].set_xlim(0, 7)
    assert stacked[1].get_xlim() == (0, 7)


def test_pictures_appear_where_they_belong() -> None:
    pictures = torch.zeros(3, 1, 2, 2, dtype=torch.uint8)
    pictures[1] = 255
    pictures[2, 0, 0, 0] = 51
    _, ax = plots.figure()
    sheet = plots.images(ax, pictures, columns=2).images[0].get_array()
    assert sheet[:2, 3:5, :3].min() == 1.0
    assert sheet[3, 0, 0] == pytest.approx(0.2)
    assert sheet[:2, :2, :3].max() == 0.0
    assert sheet[2, :, 3].max() == 0.0


@pytest.mark.parametrize(
    "call",
    [
        lambda ax: plots.learning_curves(ax, {}),
        lambda ax: plots.estimates(ax, []),
        lambda ax: plots.images(ax, torch.zeros(3, 4, 4)),
        lambda ax: plots.images(ax, torch.zeros(2, 1, 4, 4), labels=["a"]),
        lambda ax: plots.histogram(ax, {}),
        lambda ax: plots.histogram(ax, {"a": [1.0, float("nan")]}),
        lambda ax: plots.histogram(ax, {"a": []}),
        lambda ax: plots.scatter(ax, [[0.0, 1.0]], [0, 1]),
        lambda ax: plots.scatter(ax, [[0.0, 1.0, 2.0]], [0]),
        lambda ax: Series([1, 2], [1.0]),
        lambda ax: Series([1, 2], [1.0, 2.0], [0.0, 1.0]),
        lambda ax: plots.svg(ax.figure, title=" "),
    ],
)
def test_bad_input_is_refused(call) -> None:
    with pytest.raises(InputError):
        call(plots.figure()[1])


def test_many_entries_of_a_legend_leave_the_axes_its_height() -> None:
    heights = []
    for count in (3, 9):
        fig, ax = plots.figure()
        series = {f"rule with a long name {k}": plots.Series([1, 2], [0.5, 0.6]) for k in range(count)}
        plots.learning_curves(ax, series)
        plots.svg(fig, title="t")
        heights.append(ax.get_position().height * fig.get_size_inches()[1])
    assert heights[1] > 0.85 * heights[0]


def test_an_interval_does_not_stretch_the_axis_beyond_all_and_nothing() -> None:
    one = plots.Series([1, 2], [0.5, 0.6], [-3.0, 0.1], [4.0, 0.9])
    for percent, inside in ((True, True), (False, False)):
        _, ax = plots.figure()
        plots.learning_curves(ax, {"a": one}, percent=percent)
        low, high = ax.get_ylim()
        assert (low > -0.1 and high < 1.1) == inside
    _, ax = plots.figure()
    plots.learning_curves(ax, {"a": plots.Series([1, 2], [-0.5, 1.6])}, percent=True)
    assert ax.get_ylim()[1] > 1.6
