"""Line charts as inline SVG; the style sheet sets the colors, so they follow the color scheme."""

from __future__ import annotations

import json
import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from coview.reports.formatting import NARROW, cosine, count, decimal, percent
from coview.reports.html import Markup, tag
from coview.reports.records import Series

Format = Callable[[float], str]

LEFT, RIGHT, TOP, BOTTOM = 52, 14, 12, 38
MAX_POINTS = 240
CAP = 3.0  # half the width of the ends of a whisker
SPREAD = 6.0  # from the whiskers of the first line to those of the last
CURVE_SHARE = 0.4  # of the height, which levels leave to the curves
MAX_POWERS = 2.5  # of ten, within which 2 and 5 are marked too
CURVE_CLASSES = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Line:
    """One curve. A ``noisy`` one is drawn pale, below its mean; ``dots`` marks its points.

    ``intervals``: (low, high) of each point, or None where it has none, drawn as whiskers.
    ``place``: of its color and dashes, where not its place among the lines.
    """

    name: str
    points: Series
    intervals: Sequence[tuple[float, float] | None] = ()
    noisy: bool = False
    dots: bool = False
    place: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """A horizontal dashed line with its name: chance level, lower bound, untrained network.

    ``interval``: (low, high) of its height, drawn as a whisker at the right border.
    """

    name: str
    height: float
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chart:
    """A titled chart; ``note`` explains it, ``x_label`` is "epoch" or "step".

    ``reach``: heights that the axis includes, so that several charts have the same axis.
    ``x_ticks``: what is marked on the other axis, where not round numbers. ``levels_in_legend``:
    the levels have colors, and their names stand in the legend and not on the curves.
    """

    title: str
    lines: list[Line]
    levels: tuple[Level, ...] = ()
    note: str = ""
    unit: str = ""
    x_label: str = "epoch"
    format: Format = decimal
    wide: bool = False
    from_zero: bool = False
    log_x: bool = False
    reach: tuple[float, ...] = ()
    x_ticks: tuple[float, ...] = ()
    levels_in_legend: bool = False

    @property
    def is_empty(self) -> bool:
        return not any(line.points[0] for line in self.lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The coordinates of one drawing: data ranges and size in pixels."""

    x: tuple[float, float]
    y: tuple[float, float]
    width: int
    height: int
    log_x: bool = False

    def to_x(self, x: float) -> float:
        """Pixels from the left."""
        x = math.log10(x) if self.log_x else x
        share = (x - self.x[0]) / (self.x[1] - self.x[0])
        return round(LEFT + share * (self.width - LEFT - RIGHT), 1)

    def to_y(self, y: float) -> float:
        """Pixels from the top."""
        share = (y - self.y[0]) / (self.y[1] - self.y[0])
        return round(self.height - BOTTOM - share * (self.height - TOP - BOTTOM), 1)


def chart_figure(chart: Chart) -> Markup:
    """The chart with title, last value, legend and note; a wide one in two widths."""
    drawings = [draw_chart(chart, 330, 200)]
    if chart.wide:
        drawings = [
            tag("div", draw_chart(chart, 690, 480), class_="only-wide"),
            tag("div", drawings[0], class_="only-narrow"),
        ]
    head = tag(
        "figcaption", tag("span", chart.title, class_="chart-title"),
        tag("span", _summary(chart), class_="chart-value"),
        tag("span", chart.note, class_="chart-note") if chart.note else None, _legend(chart),
    )  # fmt: skip
    return tag("figure", head, drawings, class_="chart wide" if chart.wide else "chart")


def draw_chart(chart: Chart, width: int, height: int) -> Markup:
    """The bare SVG, ``width`` by ``height`` units; hovering values are in its ``data-points``."""
    frame = _frame(chart, width, height)
    thinned = [thin(line.points) for line in chart.lines]
    body = [
        _grid(frame, chart),
        [
            _curve(frame, line, points, shade, shift)
            for line, points, shade, shift in zip(
                chart.lines, thinned, _shades(chart), _shifts(len(thinned)), strict=True
            )
        ],
        [_level(frame, chart, place) for place in range(len(chart.levels))],
        tag("g", class_="cursor"),
    ]
    return tag(
        "svg", body, viewBox=f"0 0 {width} {height}", role="img", aria_label=describe_chart(chart),
        tabindex=0, class_="plot",
        data_points=json.dumps(_hover(frame, chart, thinned), separators=(",", ":")),
    )  # fmt: skip


def describe_chart(chart: Chart) -> str:
    """The chart in words, for a screen reader."""
    parts = []
    for line in chart.lines:
        xs, ys = line.points
        if xs:
            parts.append(
                f"{line.name} from {chart.format(ys[0])} to {chart.format(ys[-1])}{chart.unit} "
                f"between {chart.x_label} {decimal(xs[0])} and {decimal(xs[-1])}"
            )
    parts += [f"{level.name} {chart.format(level.height)}{chart.unit}" for level in chart.levels]
    return f"{chart.title}: " + "; ".join(parts) + "."


def thin(points: Series, most: int = MAX_POINTS) -> Series:
    """At most ``most`` points: first, last, and means of equal spans between them.

    >>> thin(([0, 1, 2, 3, 4, 5], [0, 2, 4, 6, 8, 9]), 4)
    ([0, 1.5, 3.5, 5], [0, 3.0, 7.0, 9])
    """
    xs, ys = points
    if len(xs) <= most:
        return points
    edges = [1 + round(i * (len(xs) - 2) / (most - 2)) for i in range(most - 1)]
    spans = list(pairwise(edges))
    means = [[sum(row[a:b]) / (b - a) for a, b in spans] for row in (xs, ys)]
    return [xs[0], *means[0], xs[-1]], [ys[0], *means[1], ys[-1]]


def smooth(values: list[float], reach: int = 6) -> list[float]:
    """Mean of each value and up to ``reach`` neighbors on both sides, fewer near the ends."""
    means = []
    for i in range(len(values)):
        left, right = min(reach, max(i, 2)), min(reach, max(len(values) - 1 - i, 2))
        side = min(left, right)
        window = values[max(i - side, 0) : i + side + 1]
        means.append(sum(window) / len(window))
    return means


def recent_mean(values: list[float]) -> float:
    """The last value of a noisy curve: the mean of its last 5 %, of at most 10 values."""
    last = values[-min(10, max(1, len(values) // 20)) :]
    return sum(last) / len(last)


def ticks(low: float, high: float, about: int) -> list[float]:
    """Numbers within [low, high] that are 1, 2 or 5 times a power of ten apart.

    >>> ticks(0, 10, 5)
    [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    """
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * 0.75)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """The numbers 1, 2 and 5 times a power of ten in [10**low, 10**high]; over 4 powers 1 alone.

    >>> log_ticks(0.0, 1.1), log_ticks(-2.0, 4.0)
    ([1.0, 2.0, 5.0, 10.0], [0.01, 0.1, 1.0, 10.0, 100.0, 1000.0, 10000.0])
    """
    factors = (1, 2, 5) if high - low <= MAX_POWERS else (1,)
    powers = range(math.floor(low), math.ceil(high) + 1)
    marks = [factor * 10.0**power for power in powers for factor in factors]
    return [mark for mark in marks if low - 1e-9 <= math.log10(mark) <= high + 1e-9]


def _frame(chart: Chart, width: int, height: int) -> Frame:
    xs = [x for line in chart.lines for x in line.points[0]]
    xs = [math.log10(x) for x in xs] if chart.log_x else [0.0, *xs]
    ys = heights(chart)
    ys += [end for level in near_levels(chart) for end in level.interval or (level.height,)] + (
        [0.0] if chart.from_zero else []
    )
    ys += chart.reach
    low, high = _range(ys, 0.06)
    if chart.format is percent and min(ys) >= 0:  # no axis of shares leaves them
        low = max(low, 0.0)
        high = min(high, 1.0) if max(ys) <= 1 else high
    return Frame(
        x=_range(xs, 0.02 if chart.log_x else 0), y=(low, high), width=width, height=height,
        log_x=chart.log_x,
    )  # fmt: skip


def heights(chart: Chart) -> list[float]:
    """Those of all points of the lines, with the ends of their intervals."""
    ys = [y for line in chart.lines for y in line.points[1]]
    ends = (interval for line in chart.lines for interval in line.intervals if interval)
    return [*ys, *(end for interval in ends for end in interval)]


def near_levels(chart: Chart) -> list[Level]:
    """The levels that leave the curves at least 40 % of the height; the nearest ones first.

    The others are named at the border behind which they lie.
    """
    ys = heights(chart)
    low, high = min(ys), max(ys)
    most = (high - low) / CURVE_SHARE
    kept: list[Level] = []
    for level in sorted(chart.levels, key=lambda each: max(low - each.height, each.height - high)):
        reach = [each.height for each in (*kept, level)]
        if max(high, *reach) - min(low, *reach) <= most or high == low:
            kept.append(level)
    return kept


def _range(values: list[float], margin: float) -> tuple[float, float]:
    low, high = min(values), max(values)
    if high - low < 1e-9 * max(1, abs(high)):
        reach = abs(high) * 0.1 or 0.5
        return low - reach, high + reach
    space = margin * (high - low)
    return (low if low == 0 else low - space), high + space


def _grid(frame: Frame, chart: Chart) -> Markup:
    right, bottom = frame.width - RIGHT, frame.height - BOTTOM
    marks: list[Markup] = []
    marked = ticks(*frame.y, 4)
    for y, text in zip(marked, tick_labels(marked, chart.format), strict=True):
        py = frame.to_y(y)
        marks.append(tag("line", x1=LEFT, x2=right, y1=py, y2=py, class_="grid"))
        marks.append(tag("text", text, x=LEFT - 8, y=py + 4, class_="tick end"))
    places = ticks(*frame.x, max(4, frame.width // 110))
    labels = tick_labels(places, decimal)
    if frame.log_x or chart.x_ticks:
        places = list(chart.x_ticks) or log_ticks(*frame.x)
        labels = [f"{x:,.10g}" for x in places]
    for x, text in zip(places, labels, strict=True):
        marks.append(tag("text", text, x=frame.to_x(x), y=bottom + 17, class_="tick middle"))
    marks.append(tag("line", x1=LEFT, x2=right, y1=bottom, y2=bottom, class_="axis"))
    middle = (LEFT + right) / 2
    marks.append(tag("text", chart.x_label, x=middle, y=frame.height - 4, class_="tick middle"))
    if chart.unit:
        marks.append(tag("text", chart.unit.strip(), x=LEFT, y=TOP - 2, class_="tick"))
    return tag("g", marks, aria_hidden="true")


def tick_labels(values: list[float], form: Format) -> list[str]:
    """Labels of one axis, all with the same number of decimals."""
    if form not in (decimal, count, cosine):
        return [form(value).replace(f".0{NARROW}", NARROW) for value in values]
    gap = abs(values[1] - values[0]) if len(values) > 1 else abs(values[0]) or 1
    if gap < 1e-5:
        return [decimal(value) for value in values]
    digits = max(0, -math.floor(math.log10(gap) + 1e-9))
    return [f"{value + 0.0:,.{digits}f}".replace("-", "\N{MINUS SIGN}") for value in values]


def _level(frame: Frame, chart: Chart, place: int) -> Markup:
    """A dashed line, and its interval at the right border. Its name is in the legend, or at the
    right or the left, so that two do not overlap."""
    level, side, right = chart.levels[place], place % 2, frame.width - RIGHT
    text = f"{level.name} {chart.format(level.height)}"
    shade = f" {level_shade(chart, place)}" if chart.levels_in_legend else ""
    if not frame.y[0] <= level.height <= frame.y[1]:  # beyond the border: its name alone
        above = level.height > frame.y[1]
        arrow = "\N{UPWARDS ARROW}" if above else "\N{DOWNWARDS ARROW}"
        border = TOP + 10 if above else frame.height - BOTTOM - 6
        at, end = (LEFT + 4, "") if side else (right, " end")
        name = tag("text", f"{arrow} {text}", x=at, y=border, class_=f"level-name{end}")
        return tag("g", name, aria_hidden="true")
    y = frame.to_y(level.height)
    name_y = y - 5 if y > TOP + 14 else y + 14
    bar = whisker(frame, right + 4 + 6 * place, level.interval) if level.interval else ""
    x, end = (LEFT + 4, "") if side else (right, " end")
    return tag(
        "g", tag("path", d=bar, class_=f"whisker level{shade}") if bar else None,
        tag("line", x1=LEFT, x2=right, y1=y, y2=y, class_=f"level{shade}"),
        None if chart.levels_in_legend
        else tag("text", text, x=x, y=name_y, class_=f"level-name{end}"),
        aria_hidden="true",
    )  # fmt: skip


def level_shade(chart: Chart, place: int) -> str:
    """The class of the color of a level in the legend: one that no line has, while there are some.

    >>> level_shade(Chart(title="", lines=[Line(name="", points=([], []))]), 0)
    'second'
    """
    return CURVE_CLASSES[(len(chart.lines) + place) % len(CURVE_CLASSES)]


def level_names(chart: Chart) -> list[str]:
    """The levels as the legend has them, with their heights; [] where it has none."""
    return [
        f"{level.name} {chart.format(level.height)}{chart.unit}"
        for level in (chart.levels if chart.levels_in_legend else ())
    ]


def _whiskers(frame: Frame, line: Line, shade: str, shift: float) -> Markup | None:
    """The interval of every point; ``shift`` in pixels, so that those of two lines do not hide
    each other."""
    strokes = [
        whisker(frame, frame.to_x(x) + shift, interval)
        for x, interval in zip(line.points[0], line.intervals, strict=True)
        if interval
    ]
    return tag("path", d="".join(strokes), class_=f"whisker {shade}") if strokes else None


def _shifts(lines: int) -> list[float]:
    """How far the whiskers of each line stand from its points, in pixels."""
    if lines < 2:
        return [0.0] * lines
    return [SPREAD * (place / (lines - 1) - 0.5) for place in range(lines)]


def whisker(frame: Frame, x: float, interval: tuple[float, float]) -> str:
    """The path of a vertical stroke with two ends, at ``x`` pixels, as far as the axis reaches."""
    low, high = (frame.to_y(min(max(end, frame.y[0]), frame.y[1])) for end in interval)
    left, right = x - CAP, x + CAP
    return f"M{left:g} {low:g}H{right:g}M{x:g} {low:g}V{high:g}M{left:g} {high:g}H{right:g}"


def _curve(frame: Frame, line: Line, points: Series, shade: str, shift: float) -> Markup | None:
    xs, ys = points
    if not xs:
        return None
    pieces: list[Markup | None] = [_whiskers(frame, line, shade, shift)] if line.intervals else []
    if line.noisy and len(xs) > 20:
        pieces.append(_path(frame, xs, ys, f"curve pale {shade}"))
        pieces.append(_path(frame, xs, smooth(ys), f"curve {shade}"))
    else:
        pieces.append(_path(frame, xs, ys, f"curve {shade}"))
    if len(xs) == 1 or (line.dots and len(xs) <= 60):
        places = zip(xs, ys, strict=True)
        pieces += [
            tag("circle", cx=frame.to_x(x), cy=frame.to_y(y), r=2.6, class_=f"dot {shade}")
            for x, y in places
        ]
    return tag("g", pieces)


def _path(frame: Frame, xs: list[float], ys: list[float], class_: str) -> Markup:
    places = (f"{frame.to_x(x):g} {frame.to_y(y):g}" for x, y in zip(xs, ys, strict=True))
    return tag("path", d="M" + "L".join(places), class_=class_)


def _hover(frame: Frame, chart: Chart, thinned: list[Series]) -> list[list[float | str]]:
    """One row per x value: its pixel, the text to show, and the pixels of the points."""
    rows: list[list[float | str]] = []
    drawn: dict[float, float] = {}  # the places of all lines, one for each pixel
    for x in sorted({x for xs, _ in thinned for x in xs}):
        drawn.setdefault(round(frame.to_x(x)), x)
    for x in drawn.values():
        texts, places = [f"{chart.x_label} {decimal(x)}"], []
        for line, (xs, ys) in zip(chart.lines, thinned, strict=True):
            if xs and _reaches(xs, x):
                y = ys[_nearest(xs, x)]
                places.append(frame.to_y(y))
                texts.append(f"{line.name} {chart.format(y)}{chart.unit}")
        rows.append([frame.to_x(x), "\n".join(texts), *places])
    return rows


def _reaches(xs: list[float], x: float) -> bool:
    """Whether a line with points at ``xs`` has a value at ``x``: between them, or as near to an end
    as the next point is."""
    space = (xs[-1] - xs[0]) / max(1, len(xs) - 1)
    return xs[0] - space <= x <= xs[-1] + space


def _nearest(xs: list[float], x: float) -> int:
    right = min(bisect_left(xs, x), len(xs) - 1)
    left = max(right - 1, 0)
    return left if x - xs[left] <= xs[right] - x else right


def _summary(chart: Chart) -> str:
    """The last value of one curve or two; of more the legend and the pointer tell."""
    if len(chart.lines) > 2:
        return ""
    ends = []
    for line in chart.lines:
        if line.points[1]:
            ys = line.points[1]
            ends.append(chart.format(recent_mean(ys) if line.noisy else ys[-1]))
    return " · ".join(ends) + chart.unit


def _shades(chart: Chart) -> list[str]:
    """The class of each line, by which the style sheet gives it a color and dashes; behind the
    seventh they come again, in a wider line."""
    places = [i if line.place is None else line.place for i, line in enumerate(chart.lines)]
    return [
        CURVE_CLASSES[place % len(CURVE_CLASSES)]
        + (" again" if place >= len(CURVE_CLASSES) else "")
        for place in places
    ]


def _legend(chart: Chart) -> Markup | None:
    levels = level_names(chart)
    entries = [
        tag("span", tag("i", class_=f"swatch {shade}"), line.name)
        for line, shade in zip(chart.lines, _shades(chart), strict=True)
        if line.name and len(chart.lines) + len(levels) > 1
    ]
    entries += [
        tag("span", tag("i", class_=f"swatch dashed {level_shade(chart, place)}"), name)
        for place, name in enumerate(levels)
    ]
    return tag("span", entries, class_="legend") if entries else None
