"""Charts: scales, ticks, thinning and the text for a screen reader."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from report_run import make_run

from coview.reports.curves import (
    Chart,
    Level,
    Line,
    chart_figure,
    draw_chart,
    smooth,
    thin,
    ticks,
)
from coview.reports.figures import health_charts, knn_chart, loss_chart
from coview.reports.formatting import percent
from coview.reports.page import build_page
from coview.reports.records import Record, read_record


def chart(**changes: object) -> Chart:
    settings: dict[str, object] = {
        "title": "Loss",
        "lines": [Line(name="loss", points=([0.0, 1.0, 2.0], [4.0, 2.0, 3.0]))],
        **changes,
    }
    return Chart(**settings)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    return read_record(make_run(tmp_path_factory.mktemp("runs") / "run", images=20))


def test_curve_goes_through_its_points() -> None:
    root = ElementTree.fromstring(draw_chart(chart(), 330, 200))
    path = next(e.get("d") for e in root.iter("path"))
    places = np.array([pair.split() for pair in path[1:].split("L")], dtype=float)
    x, y = places.T
    assert np.allclose(np.diff(x), x[1] - x[0], atol=0.2)
    assert y[0] < y[2] < y[1]
    assert (y[2] - y[0]) / (y[1] - y[0]) == pytest.approx(0.5, abs=0.01)


def test_level_lies_where_its_value_is() -> None:
    root = ElementTree.fromstring(
        draw_chart(chart(levels=(Level(name="chance level", height=3.0),)), 330, 200)
    )
    path = next(e.get("d") for e in root.iter("path"))
    last = float(path.split("L")[-1].split()[1])
    level = next(e for e in root.iter("line") if e.get("class") == "level")
    assert float(level.get("y1", "")) == pytest.approx(last)
    assert any(e.text == "chance level 3.00" for e in root.iter("text"))


def test_levels_leave_the_curves_their_space_and_far_ones_are_named_at_the_border() -> None:
    levels = (Level(name="chance level", height=90.0), Level(name="lower bound", height=1.0),
              Level(name="untrained", height=5.0), Level(name="bottom", height=-50.0))  # fmt: skip
    root = ElementTree.fromstring(draw_chart(chart(levels=levels), 330, 200))
    heights = [float(e.get("y1", "")) for e in root.iter("line") if e.get("class") == "level"]
    assert len(heights) == 2
    assert all(12 <= height <= 162 for height in heights)
    texts = [e.text for e in root.iter("text") if "level-name" in (e.get("class") or "")]
    assert texts == ["\u2191 chance level 90.0", "lower bound 1.00", "untrained 5.00",
                     "\u2193 bottom \u221250.0"]  # fmt: skip
    path = next(e.get("d") for e in root.iter("path"))
    curve = [float(pair.split()[1]) for pair in path[1:].split("L")]
    assert max(curve) - min(curve) >= 0.4 * 150 / 1.12


@pytest.mark.parametrize("values", [[0.0, 0.02], [0.5, 1.0], [0.97, 1.0], [0.01, 0.99]])
def test_an_axis_of_shares_stays_between_0_and_100(values: list[float]) -> None:
    line = Line(name="accuracy", points=([0.0, 1.0], values))
    root = ElementTree.fromstring(draw_chart(chart(lines=[line], format=percent), 330, 200))
    ticks = [e.text or "" for e in root.iter("text") if e.get("class") == "tick end"]
    assert ticks
    assert all(0 <= float(text.rstrip("%\u202f")) <= 100 for text in ticks)


def test_hover_tells_the_values_in_words() -> None:
    root = ElementTree.fromstring(draw_chart(chart(), 330, 200))
    rows = json.loads(root.get("data-points", ""))
    assert [row[1] for row in rows] == [
        "epoch 0\nloss 4.00", "epoch 1.00\nloss 2.00", "epoch 2.00\nloss 3.00"]  # fmt: skip


def test_hover_of_two_lines_takes_the_nearest_point() -> None:
    second = Line(name="held out", points=([0.0, 1.9], [8.0, 9.0]))
    drawing = draw_chart(chart(lines=[*chart().lines, second]), 330, 200)
    rows = json.loads(ElementTree.fromstring(drawing).get("data-points", ""))
    assert [row[1].split("held out ")[1] for row in rows] == ["8.00", "9.00", "9.00", "9.00"]


def test_hover_reads_no_line_where_it_has_not_been() -> None:
    line = chart().lines[0]
    short = Line(name="short", points=([0.0, 1.0], [8.0, 9.0]))
    late = Line(name="late", points=([8.0, 8.5], [1.0, 2.0]))
    drawing = draw_chart(chart(lines=[line, short, late]), 330, 200)
    rows = json.loads(ElementTree.fromstring(drawing).get("data-points", ""))
    names = {row[1].split("\n")[0]: [text.split()[0] for text in row[1].split("\n")[1:]]
             for row in rows}  # fmt: skip
    assert names == {
        "epoch 0": ["loss", "short"], "epoch 1.00": ["loss", "short"],
        "epoch 2.00": ["loss", "short"], "epoch 8.00": ["late"], "epoch 8.50": ["late"],
    }  # fmt: skip
    assert all(len(row) == 2 + len(found) for row, found in zip(rows, names.values(), strict=True))


def test_the_eighth_line_is_drawn_unlike_the_first() -> None:
    lines = [Line(name=f"run {k}", points=([0.0, 1.0], [float(k), 2.0])) for k in range(9)]
    figure = str(chart_figure(chart(lines=lines)))
    swatches = re.findall(r'class="swatch ([a-z ]+)"', figure)
    assert len(set(swatches)) == 9
    assert swatches[7] == "first again"


def test_two_lines_have_a_legend() -> None:
    second = Line(name="held out", points=([0.0], [8.0]))
    assert 'class="legend"' in chart_figure(chart(lines=[*chart().lines, second]))
    assert 'class="legend"' not in chart_figure(chart())


def test_description_holds_first_and_last_value() -> None:
    words = ElementTree.fromstring(draw_chart(chart(format=percent), 330, 200)).get(
        "aria-label", ""
    )
    assert re.sub(r"\s", " ", words) == (
        "Loss: loss from 400.0 % to 300.0 % between epoch 0 and 2.00."
    )


@pytest.mark.parametrize("values", [([1.0], [2.0]), ([0.0, 1.0], [5.0, 5.0]), ([0.0], [0.0]),
                                    ([0.0, 1e9], [1e-12, 1e12])])  # fmt: skip
def test_draw_takes_flat_and_extreme_data(values: tuple[list[float], list[float]]) -> None:
    drawing = draw_chart(chart(lines=[Line(name="loss", points=values, dots=True)]), 330, 200)
    assert "nan" not in drawing
    assert "inf" not in drawing


@pytest.mark.parametrize(
    ("low", "high", "about", "expected"),
    [(0, 10, 5, [0, 2, 4, 6, 8, 10]), (4.8, 7.1, 4, [5, 5.5, 6, 6.5, 7]),
     (-0.3, 0.3, 3, [-0.2, 0, 0.2]),
     (0, 3e-4, 3, [0, 1e-4, 2e-4, 3e-4])],
)  # fmt: skip
def test_ticks_are_round(low: float, high: float, about: int, expected: list[float]) -> None:
    assert ticks(low, high, about) == pytest.approx(expected)


def test_ticks_stay_inside(record: Record) -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        low, size = rng.normal(0, 100), 10 ** rng.uniform(-6, 6)
        values = ticks(low, low + size, 4)
        assert 2 <= len(values) <= 8
        assert low - 1e-6 * size <= values[0] <= values[-1] <= low + size * (1 + 1e-6)


def test_thin_keeps_ends_and_means() -> None:
    xs, ys = [float(i) for i in range(10_001)], [float(i % 2) for i in range(10_001)]
    thin_xs, thin_ys = thin((xs, ys), 100)
    assert len(thin_xs) == len(thin_ys) == 100
    assert (thin_xs[0], thin_xs[-1]) == (0, 10_000)
    assert thin_xs == sorted(thin_xs)
    assert np.mean(thin_ys[1:-1]) == pytest.approx(0.5, abs=0.01)


def test_thin_leaves_short_curves_alone() -> None:
    points = ([0.0, 1.0], [2.0, 3.0])
    assert thin(points, 2) == points


def test_smooth_keeps_straight_lines_inside() -> None:
    values = [3.0 * i for i in range(50)]
    assert smooth(values)[2:-2] == pytest.approx(values[2:-2])


def test_smooth_reduces_noise() -> None:
    values = np.random.default_rng(0).normal(0, 1, 500).tolist()
    assert np.std(smooth(values)) < 0.4


def test_loss_chart_has_chance_level_and_lower_bound(record: Record) -> None:
    levels = loss_chart(record).levels
    assert [(level.name, round(level.height, 2)) for level in levels] == [
        ("chance level", 6.93), ("lower bound (estimate)", 4.95)]  # fmt: skip


def test_every_health_chart_has_the_untrained_value(record: Record) -> None:
    start = record.health[0]["figures"]
    charts = health_charts(record)
    assert {chart.title for chart in charts} >= {
        "Instance accuracy of z",
        "Alignment",
        "Way from chance to the lower bound",
    }
    assert len(charts) == 12
    for drawn in charts:
        assert [level.name for level in drawn.levels] == ["untrained"]
        assert drawn.levels[0].height == drawn.lines[0].points[1][0]
        assert (
            drawn.levels[0].height in start.values()
            or drawn.title == "Way from chance to the lower bound"
        )


def test_a_run_from_weights_has_a_line_of_its_start(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "tuned", images=20)
    path = folder / "run.json"
    description = {**json.loads(path.read_text()), "start": {"path": "encoder"}}
    path.write_text(json.dumps(description))
    tuned = read_record(folder)
    charts = [*health_charts(tuned), knn_chart(tuned)]
    assert {chart.levels[0].name for chart in charts} == {"at the start"}
    page = build_page(tuned)
    assert "The dashed line is the network at the start." in page
    assert "untrained network." not in page


def test_health_without_a_start_has_no_untrained_line(record: Record, tmp_path_factory) -> None:  # type: ignore[no-untyped-def]
    folder = make_run(tmp_path_factory.mktemp("runs") / "late", images=20)
    path = folder / "metrics.jsonl"
    rows = [line for line in path.read_text().splitlines() if '"step": 0' not in line]
    path.write_text("\n".join(rows))
    late = read_record(folder)
    assert all(chart.levels == () for chart in health_charts(late))
    assert [level.name for level in knn_chart(late).levels] == ["chance level"]


def test_knn_chart_has_the_untrained_value_and_chance(record: Record) -> None:
    untrained, chance = knn_chart(record).levels
    assert untrained.height == record.knn[0]["accuracy"]
    assert (chance.name, chance.height) == ("chance level", 1 / len(record.class_names))


def test_names_of_two_levels_stand_on_different_sides(record: Record) -> None:
    names = re.findall(
        r'<text x="([\d.]+)"[^>]*class="level-name', draw_chart(loss_chart(record), 330, 200)
    )
    assert len(names) == 2
    assert names[0] != names[1]


def test_steps_written_twice_count_once(tmp_path_factory) -> None:  # type: ignore[no-untyped-def]
    folder = make_run(tmp_path_factory.mktemp("runs") / "twice", images=20)
    with (folder / "metrics.jsonl").open("a") as stream:
        stream.write(json.dumps({"kind": "step", "step": 500, "epoch": 20.0, "loss": 1.25}) + "\n")
    steps = read_record(folder).steps
    assert [line["step"] for line in steps] == list(range(5, 1001, 5))
    assert next(line["loss"] for line in steps if line["step"] == 500) == 1.25


def test_reference_figures_are_given_in_the_note(record: Record) -> None:
    notes = {chart.title: chart.note.replace("\u202f", " ") for chart in health_charts(record)}
    assert notes["Instance accuracy of z"].endswith(
        "by color histograms 10.2 %, by 8 x 8 thumbnails 16.1 %"
    )
    assert notes["Effective rank of h"] == (
        "number of directions that the features use (RankMe); near 1 in a collapse, a healthy training "
        "may lower it; of 256"
    )
    loss = (
        next(c for c in health_charts(record) if c.title == "Way from chance to the lower bound")
        .lines[0]
        .points[1]
    )
    figures = record.health[-1]["figures"]
    assert loss[-1] == pytest.approx((7.847 - figures["loss"]) / (7.847 - 5.881))


def test_an_unknown_health_figure_gets_a_chart_of_its_own(tmp_path_factory) -> None:  # type: ignore[no-untyped-def]
    folder = make_run(tmp_path_factory.mktemp("runs") / "new", images=20)
    with (folder / "metrics.jsonl").open("a") as stream:
        line = {"kind": "health", "step": 1000, "epoch": 40, "figures": {"neighbor_churn": 0.2}}
        stream.write(json.dumps(line) + "\n")
    assert "Neighbor churn" in [chart.title for chart in health_charts(read_record(folder))]


def test_intervals_are_whiskers_and_the_axis_holds_them() -> None:
    points = ([1.0, 2.0], [5.0, 6.0])
    line = Line(name="a", points=points, intervals=((2.0, 8.0), None))
    level = Level(name="none", height=5.5, interval=(-1.0, 12.0))
    drawing = draw_chart(chart(lines=[line], levels=(level,)), 330, 200)
    root = ElementTree.fromstring(drawing)
    places = {
        path.get("class"): [float(y) for y in re.findall(r" ([\d.]+)[HV]", path.get("d") or "")]
        for path in root.iter() if "whisker" in (path.get("class") or "")
    }  # fmt: skip
    assert set(places) == {"whisker first", "whisker level"}
    assert all(0 < y < 200 for ys in places.values() for y in ys)
    assert max(places["whisker level"]) > max(places["whisker first"])


def test_a_logarithmic_axis_has_round_numbers() -> None:
    line = Line(name="a", points=([0.05, 1.0], [5.0, 6.0]))
    drawing = draw_chart(chart(lines=[line], log_x=True), 330, 200)
    assert re.findall(r'class="tick middle">([\d.]+)<', drawing) == [
        "0.05",
        "0.1",
        "0.2",
        "0.5",
        "1",
    ]


def test_levels_in_the_legend_have_no_name_on_the_curves() -> None:
    levels = tuple(
        Level(name=f"level {place}", height=15.5 + place, interval=(14.0, 17.0)) for place in (0, 1)
    )
    drawn = Chart(
        title="linear", lines=[Line(name="", points=([1, 2], [15.0, 17.0]), dots=True)],
        levels=levels, levels_in_legend=True, unit=" %",
    )  # fmt: skip
    figure = str(chart_figure(drawn))
    legend, _, plot = figure.partition("<svg")
    assert "level-name" not in plot
    for place, shade in ((0, "second"), (1, "third")):
        assert f'<i class="swatch dashed {shade}"></i>level {place} 1{5 + place}.5 %' in legend
        assert f'class="whisker level {shade}"' in plot
        assert f'class="level {shade}"' in plot
    bars = re.findall(r'd="M([\d.]+) [^"]*" class="whisker level', plot)
    assert bars[0] != bars[1]
    named = str(chart_figure(replace(drawn, levels_in_legend=False)))
    assert "swatch" not in named
    assert named.count("level-name") == 2
