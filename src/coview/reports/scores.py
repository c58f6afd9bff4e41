"""Accuracies of a run: every subject's beside those that it has to beat."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from coview.reports.formatting import MINUS, MISSING, count, percent, value
from coview.reports.html import Child, Markup, tag
from coview.reports.records import Record, number, part
from coview.reports.tables import definition_list

TITLES = {"knn": "kNN accuracy", "linear": "Linear accuracy"}
BASELINES = {"untrained": "the untrained encoder", "pixels": "raw pixels"}
CHANCE = "chance"

Row = dict[str, dict[str, Any]]
"""The results of one layer and setting by subject; the first subject is the one in question."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One accuracy and those that it has to beat, shares in [0, 1] by name.

    "chance" is the share of the largest class: the accuracy of a constant prediction.
    """

    title: str
    note: str
    value: float
    baselines: Mapping[str, float] = field(default_factory=dict)


def headline_scores(record: Record) -> list[Score]:
    """kNN and linear on h at their standard setting, never the best of several.

    Without an evaluation file the last kNN accuracy of the training stands in for it.
    """
    scores = [score for name in TITLES if (score := _evaluation_score(record, name))]
    if not any(score.title == TITLES["knn"] for score in scores):
        scores = [*filter(None, [_training_score(record)]), *scores]
    return scores


def score_bars(score: Score) -> Markup:
    """The accuracy in large figures, above bars for it and its baselines."""
    shares = {"trained": score.value, **score.baselines}
    bars = [bar(name, share, f"bar {name}") for name, share in shares.items()]
    return tag(
        "div", tag("h2", score.title), tag("p", percent(score.value), class_="big"),
        tag("div", bars, class_="bars"), tag("p", score.note, class_="note"), class_="score",
    )  # fmt: skip


def bar(name: str, share: float, class_: str) -> Markup:
    """A name, a bar of the length of ``share`` in [0, 1], and the share in per cent."""
    return tag(
        "div", tag("span", name, class_="bar-name"), track(share),
        tag("span", percent(share), class_="bar-value"), class_=class_,
    )  # fmt: skip


def track(share: float) -> Markup:
    width = 100 * min(max(share, 0.0), 1.0)
    return tag("span", tag("i", style=f"width:{width:.1f}%"), class_="track", aria_hidden="true")


def evaluation_tables(record: Record) -> list[Markup]:
    """One table for each evaluation file, with its protocol card folded below."""
    return [evaluation_section(evaluation) for evaluation in record.evaluations]


def comparison_rows(results: Any) -> list[Row]:
    """The results of a protocol, one row for each layer and setting of the first subject.

    The n-th result of a layer of one subject stands beside the n-th of that layer of the others. A
    subject that shares no layer with the first one, such as raw pixels, is beside all its layers.
    Entries that are no results are left out.

    >>> results = [{"subject": "trained", "layer": layer, "value": 0.9} for layer in ("h", "z")]
    >>> results.append({"subject": "pixels", "layer": "pixels", "value": 0.3})
    >>> [[result["value"] for result in row.values()] for row in comparison_rows(results)]
    [[0.9, 0.3], [0.9, 0.3]]
    """
    subjects: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for result in results if isinstance(results, list) else []:
        if isinstance(result, dict) and number(result.get("value")) is not None:
            layers = subjects.setdefault(str(result.get("subject")), {})
            layers.setdefault(str(result.get("layer", MISSING)), []).append(result)
    rows: list[Row] = []
    own = next(iter(subjects.values()), {})
    for layer, firsts in own.items():
        columns = {
            name: layers.get(layer, [] if own.keys() & layers else next(iter(layers.values())))
            for name, layers in subjects.items()
        }
        rows += [
            {name: column[place] for name, column in columns.items() if place < len(column)}
            for place in range(len(firsts))
        ]
    return rows


def headline_row(rows: Sequence[Row]) -> Row:
    """The row that represents a protocol: h before z, 20 neighbors before other numbers."""
    return min(
        rows,
        key=lambda row: (
            first(row).get("layer") != "h",
            part(first(row), "setting").get("k", 20) != 20,
        ),
    )


def first(row: Row) -> dict[str, Any]:
    """The result of the subject in question."""
    return next(iter(row.values()))


def setting_text(setting: Mapping[str, Any]) -> str:
    """A setting in words.

    >>> setting_text({"k": 20, "temperature": None, "k_used": 20})
    'k 20, plain vote'
    """
    return ", ".join(filter(None, (_setting_part(key, setting) for key in setting))) or MISSING


def _setting_part(key: str, setting: Mapping[str, Any]) -> str:
    item = setting[key]
    if key == "temperature" and item is None:
        return "plain vote"
    if key == "k_used":
        return "" if item == setting.get("k") else f"all {value(item)} images"
    if key == "validation_accuracy" and number(item) is not None:
        return f"validation {percent(item)}"
    return f"{key.replace('_', ' ')} {value(item)}"


def interval_text(result: Mapping[str, Any]) -> str:
    """The 95 % interval of a result.

    >>> interval_text({"interval": [0.711, 0.867]})
    '71.1–86.7'
    """
    interval = result.get("interval")
    ends = [number(end) for end in interval] if isinstance(interval, list | tuple) else []
    low, high = ends if len(ends) == 2 else (None, None)
    return MISSING if low is None or high is None else f"{100 * low:.1f}–{100 * high:.1f}"


def result_sentence(protocol: str, rows: Sequence[Row]) -> str:
    """The headline row of a protocol beside its baselines, in one sentence.

    >>> row = {"trained": {"layer": "h", "value": 0.5}, "pixels": {"value": 0.25}}
    >>> result_sentence("knn", [row]).replace("\\u202f", " ")
    'kNN accuracy on h (–): 50.0 %, 25.0 points above raw pixels.'
    >>> row["trained"]["interval"] = (0.41, 0.59)
    >>> result_sentence("knn", [row]).replace("\\u202f", " ")
    'kNN accuracy on h (–): 50.0 % (95 % interval 41.0–59.0), 25.0 points above raw pixels.'
    """
    row = headline_row(rows)
    result = first(row)
    differences = [
        f"{abs(points):.1f} points {'above' if points >= 0 else 'below'} {BASELINES[name]}"
        for name in row
        if name in BASELINES and row[name] is not result
        for points in [100 * (result["value"] - row[name]["value"])]
    ]
    comparison = f", {' and '.join(differences)}" if differences else ""
    text, interval = setting_text(part(result, "setting")), interval_text(result)
    spread = "" if interval == MISSING else f" (95 % interval {interval})"
    share = percent(result["value"])
    return f"{_title(protocol)} on {result['layer']} ({text}): {share}{spread}{comparison}."


def _evaluation_score(record: Record, protocol: str) -> Score | None:
    for evaluation in record.evaluations:
        rows = comparison_rows(evaluation.get("results"))
        if evaluation.get("protocol") != protocol or not rows:
            continue
        row = headline_row(rows)
        result, data = first(row), part(evaluation, "data")
        classes = number(data.get("classes")) or len(record.class_names)
        chance = number(data.get("largest_class_share")) or (1 / classes if classes else None)
        images = number(result.get("test_images"))
        tested = "" if images is None else f"; {count(images)} test images"
        baselines = {name: float(row[name]["value"]) for name in row if row[name] is not result}
        return Score(
            title=TITLES[protocol],
            note=f"on {result.get('layer')}, {setting_text(part(result, 'setting'))}{tested}",
            value=float(result["value"]),
            baselines=baselines if chance is None else {**baselines, CHANCE: chance},
        )
    return None


def _training_score(record: Record) -> Score | None:
    lines = [line for line in record.knn if number(line.get("accuracy")) is not None]
    if not lines:
        return None
    start, last = lines[0], lines[-1]
    baselines = {"untrained": float(start["accuracy"])} if start.get("step") == 0 else {}
    classes = len(record.class_names)
    return Score(
        title=TITLES["knn"],
        note=f"while training, {value(last.get('k'))} neighbors, on {last.get('layer', 'h')}",
        value=float(last["accuracy"]),
        baselines={**baselines, CHANCE: 1 / classes} if classes else baselines,
    )


def _title(protocol: str) -> str:
    return TITLES.get(protocol, protocol.capitalize())


def evaluation_section(evaluation: dict[str, Any]) -> Markup:
    """The table of one file of results, what is known against it, and its card, folded."""
    rows = comparison_rows(evaluation.get("results"))
    subjects = list(dict.fromkeys(name for row in rows for name in row))
    texts, figures = ("layer", "setting"), (*subjects, "gain", "95 % interval")
    head = [tag("th", name, scope="col") for name in texts]
    head += [tag("th", name, scope="col", class_="num") for name in figures]
    standard = headline_row(rows) if len(rows) > 1 else None
    body = [
        tag(
            "tr", tag("th", str(first(row).get("layer", MISSING)), scope="row"),
            tag("td", setting_text(part(first(row), "setting"))),
            [tag("td", _share(row.get(name)), class_=f"num {name}") for name in subjects],
            tag("td", _gain(row), class_="num"), tag("td", interval_text(first(row)), class_="num"),
            class_="standard" if row is standard else None,
        )
        for row in rows
    ]  # fmt: skip
    table = tag("table", tag("thead", tag("tr", head)), tag("tbody", body))
    return tag(
        "div", tag("h3", _title(str(evaluation.get("protocol", "evaluation")))),
        tag("div", table, class_="scroll") if rows else tag("p", "No results in this file."),
        [tag("p", str(sentence), class_="note") for sentence in _caveats(evaluation)],
        _card(evaluation), class_="evaluation",
    )  # fmt: skip


def _caveats(evaluation: dict[str, Any]) -> list[Any]:
    sentences = part(evaluation, "data").get("caveats")
    return sentences if isinstance(sentences, list) else []


def _share(result: dict[str, Any] | None) -> str:
    return MISSING if result is None else percent(result["value"])


def _gain(row: Row) -> str:
    """Points above the untrained encoder."""
    if "untrained" not in row or len(row) == 1:
        return MISSING
    points = 100 * (first(row)["value"] - row["untrained"]["value"])
    return f"{'+' if points >= 0 else MINUS}{abs(points):.1f}"


def _card(evaluation: dict[str, Any]) -> Markup:
    entries: list[tuple[str, Child]] = [
        *_entries("data", part(evaluation, "data")),
        *_entries("", part(evaluation, "card")),
    ]
    if evaluation.get("created"):
        entries.append(("measured", value(evaluation["created"])))
    return tag("details", tag("summary", "Protocol"), definition_list(entries))


def _entries(prefix: str, items: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for key, item in items.items():
        yield f"{prefix} {key}".strip().replace("_", " "), value(item)
