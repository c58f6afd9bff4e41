"""How good the representation is: trained beside untrained beside pixels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from coview.reports.formatting import MINUS, MISSING, count, percent, value
from coview.reports.html import Child, Markup, tag
from coview.reports.records import Record, number, part

TITLES = {"knn": "kNN accuracy", "linear": "Linear accuracy"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One accuracy with what it has to beat; shares in [0, 1].

    ``chance`` is what naming the largest class every time reaches: with unbalanced classes more
    than an even guess.
    """

    title: str
    note: str
    trained: float
    untrained: float | None = None
    pixels: float | None = None
    chance_level: float | None = None


def headline_scores(record: Record) -> list[Score]:
    """kNN and linear on h at their standard setting, fixed beforehand: never the best of many.

    Without an evaluation the kNN accuracy that was measured while training stands in.
    """
    found = [score for name in TITLES if (score := _evaluated(record, name))]
    if not any(score.title == TITLES["knn"] for score in found):
        found = [*filter(None, [_online(record)]), *found]
    return found


def score_bars(score: Score) -> Markup:
    """The trained accuracy in large figures, above bars for what it has to beat."""
    rows = [
        ("trained", score.trained),
        ("untrained", score.untrained),
        ("pixels", score.pixels),
        ("chance_level", score.chance_level),
    ]
    bars = [_bar(name, share) for name, share in rows if share is not None]
    return tag(
        "div",
        tag("h2", score.title),
        tag("p", percent(score.trained), class_="big"),
        tag("div", bars, class_="bars"),
        tag("p", score.note, class_="note"),
        class_="score",
    )


def evaluation_tables(record: Record) -> list[Markup]:
    """One table per evaluation file, with its protocol card folded below."""
    return [_table(evaluation) for evaluation in record.evaluations]


def standard(results: list[dict[str, Any]]) -> dict[str, Any]:
    """The result that speaks for a protocol: h before z, 20 neighbors before other numbers."""
    return min(
        results,
        key=lambda row: (row.get("tap") != "h", part(row, "setting").get("k", 20) != 20),
    )


def setting_text(row: Mapping[str, Any]) -> str:
    """{"k": 20, "temperature": None, "k_used": 20} -> "k 20, plain vote".

    Of a linear probe, whose three probes have a setting each, that of the trained encoder.
    """
    setting = part(row, "setting")
    setting = part(setting, "trained") or setting
    return ", ".join(filter(None, (_said(key, setting) for key in setting))) or MISSING


def _said(key: str, setting: dict[str, Any]) -> str:
    found = setting[key]
    if key == "temperature" and found is None:
        return "plain vote"
    if key == "k_used":
        return "" if found == setting.get("k") else f"all {value(found)} images"
    if key == "validation_accuracy" and number(found) is not None:
        return f"validation {percent(found)}"
    return f"{key.replace('_', ' ')} {value(found)}"


def results_of(evaluation: dict[str, Any]) -> list[dict[str, Any]]:
    """The results that hold an accuracy."""
    rows = evaluation.get("results")
    rows = rows if isinstance(rows, list) else []
    return [r for r in rows if isinstance(r, dict) and number(r.get("accuracy")) is not None]


def _evaluated(record: Record, protocol: str) -> Score | None:
    for evaluation in record.evaluations:
        rows = results_of(evaluation)
        if evaluation.get("protocol") != protocol or not rows:
            continue
        row = standard(rows)
        data = part(evaluation, "data")
        classes = number(data.get("classes")) or len(record.class_names)
        even = 1 / classes if classes else None
        return Score(
            title=TITLES[protocol],
            note=f"on {row.get('tap', 'h')}, {setting_text(row)}{_tested(data)}",
            trained=float(row["accuracy"]),
            untrained=number(row.get("untrained")),
            pixels=number(row.get("pixels")),
            chance_level=number(data.get("largest_class_share")) or even,
        )
    return None


def _tested(data: dict[str, Any]) -> str:
    images = number(part(data, "test").get("images"))
    return "" if images is None else f"; {count(images)} test images"


def _online(record: Record) -> Score | None:
    lines = [line for line in record.knn if number(line.get("accuracy")) is not None]
    if not lines:
        return None
    last, first = lines[-1], lines[0]
    classes = len(record.class_names)
    return Score(
        title=TITLES["knn"],
        note=f"while training, {value(last.get('k'))} neighbors, on {last.get('tap', 'h')}",
        trained=float(last["accuracy"]),
        untrained=number(first["accuracy"]) if first.get("step") == 0 else None,
        chance_level=1 / classes if classes else None,
    )


def _bar(name: str, share: float) -> Markup:
    width = 100 * min(max(share, 0.0), 1.0)
    return tag(
        "div",
        tag("span", name, class_="bar-name"),
        tag("span", tag("i", style=f"width:{width:.1f}%"), class_="track", aria_hidden="true"),
        tag("span", percent(share), class_="bar-value"),
        class_=f"bar {name}",
    )


def _table(evaluation: dict[str, Any]) -> Markup:
    protocol = str(evaluation.get("protocol", "evaluation"))
    rows = results_of(evaluation)
    gains = [("trained", "accuracy"), ("untrained", "untrained"), ("pixels", "pixels")]
    shown = [
        (name, key) for name, key in gains if any(number(r.get(key)) is not None for r in rows)
    ]
    head = tag(
        "tr",
        tag("th", "tap", scope="col"),
        tag("th", "setting", scope="col"),
        [tag("th", name, scope="col", class_="num") for name, _ in shown],
        tag("th", "gain", scope="col", class_="num"),
    )
    best = standard(rows) if rows else None
    body = [
        tag(
            "tr",
            tag("th", str(row.get("tap", MISSING)), scope="row"),
            tag("td", setting_text(row)),
            [tag("td", _share(row.get(key)), class_=f"num {name}") for name, key in shown],
            tag("td", _gain(row), class_="num"),
            class_="standard" if row is best and len(rows) > 1 else None,
        )
        for row in rows
    ]
    title = TITLES.get(protocol, protocol.capitalize())
    table = tag("table", tag("thead", head), tag("tbody", body))
    return tag(
        "div",
        tag("h3", title),
        tag("div", table, class_="scroll") if rows else tag("p", "No results in this file."),
        _card(evaluation),
        class_="evaluation",
    )


def _share(item: Any) -> str:
    share = number(item)
    return MISSING if share is None else percent(share)


def _gain(row: dict[str, Any]) -> str:
    trained, untrained = number(row.get("accuracy")), number(row.get("untrained"))
    if trained is None or untrained is None:
        return MISSING
    points = 100 * (trained - untrained)
    return f"{'+' if points >= 0 else MINUS}{abs(points):.1f}"


def _card(evaluation: dict[str, Any]) -> Markup:
    entries = [*_entries("data", part(evaluation, "data")), *_entries("", part(evaluation, "card"))]
    if evaluation.get("created"):
        entries.append(("measured", value(evaluation["created"])))
    pairs: list[Child] = [(tag("dt", name), tag("dd", text)) for name, text in entries]
    return tag("details", tag("summary", "Protocol"), tag("dl", pairs, class_="facts"))


def _entries(prefix: str, found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for key, item in found.items():
        yield f"{prefix} {key}".strip().replace("_", " "), value(item)


def in_words(results: list[dict[str, Any]]) -> list[str]:
    """One sentence for each protocol: its standard result beside what it has to beat."""
    return [
        _sentence(str(found.get("protocol")), rows)
        for found in results
        if (rows := results_of(found))
    ]


def _sentence(protocol: str, rows: list[dict[str, Any]]) -> str:
    row = standard(rows)
    title = TITLES.get(protocol, protocol.capitalize())
    against = [
        f"{_distance(row['accuracy'] - other)} {name}"
        for key, name in (("untrained", "the untrained encoder"), ("pixels", "raw pixels"))
        if (other := number(row.get(key))) is not None
    ]
    beside = f", {' and '.join(against)}" if against else ""
    return f"{title} on {row['tap']} ({setting_text(row)}): {percent(row['accuracy'])}{beside}."


def _distance(share: float) -> str:
    return f"{abs(100 * share):.1f} points {'above' if share >= 0 else 'below'}"
