"""The results of any protocol as rows and words, by what its file says of itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from coview.core.metrics import (
    difference_in_words,
    headline_misfit,
    holm_of,
    metric_of,
    p_in_words,
    paired_in_words,
)
from coview.core.text import plural
from coview.reports.figures import FORMATS
from coview.reports.formatting import MINUS, MISSING, decimal, percent, value
from coview.reports.records import number, part

CHOSEN = "validation_accuracy"
"""In the setting of a result: the subject has chosen the setting by it."""
EACH_OWN = "each its own"
"""The setting of a row whose subjects share nothing of it."""
BASELINES = {"untrained": "the untrained encoder", "pixels": "raw pixels"}

INTEREST = (
    "linear", "logistic", "sgd-linear", "knn", "few-labels", "transfer", "retrieval", "clustering",
    "robustness", "ood", "invariance", "label-free", "contrastive",
)  # fmt: skip
"""The protocols in the order in which readers look for them; others follow by name."""

PARTS = ("train", "test", "val", "valid", "validation", "dev", "eval")
"""Names of folders that say nothing without the folder around them."""

Row = dict[str, dict[str, Any]]
"""The results of one layer, metric and setting by subject, the subject in question first."""


def by_interest(evaluations: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Files of results in the order in which readers look for them.

    >>> [each["protocol"] for each in by_interest([{"protocol": "mine"}, {"protocol": "knn"}])]
    ['knn', 'mine']
    """

    def place(evaluation: Mapping[str, Any]) -> tuple[int, str]:
        name = str(evaluation.get("protocol"))
        return INTEREST.index(name) if name in INTEREST else len(INTEREST), name

    return sorted(evaluations, key=place)


def title_of(evaluation: Mapping[str, Any]) -> str:
    """The title of a file of results.

    >>> title_of({"protocol": "knn", "title": "kNN accuracy"}), title_of({"protocol": "mine"})
    ('kNN accuracy', 'Mine')
    """
    name = str(evaluation.get("protocol") or "evaluation")
    return str(evaluation.get("title") or name.replace("-", " ").capitalize())


def headline_of(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Which figure represents the protocol: metric, layer, and perhaps a setting."""
    return {"metric": "accuracy", "layer": "h", **part(evaluation, "headline")}


def images_of(evaluation: Mapping[str, Any]) -> str:
    """The test images of a file of results, by their number and source; "" where it does not say.

    >>> images_of({"data": {"test": {"images": 2000, "source": "labeled/"}}})
    '2,000 images of labeled/'
    """
    test = part(part(evaluation, "data"), "test")
    images, source = number(test.get("images")), test.get("source")
    return f"{plural(int(images), 'image')} of {source}" if images and source else ""


def short_source(source: Any) -> str:
    """The last part of the path of images; of a file or a part such as test/ the last two.

    >>> short_source("/data/cifar-test"), short_source("/data/cifar10/test.parquet")
    ('cifar-test', 'cifar10/test.parquet')
    >>> short_source("photos/val"), short_source("scenes:test")
    ('photos/val', 'scenes:test')
    """
    parts = str(source).rstrip("/").split("/")
    is_part = "." in parts[-1] or parts[-1].lower() in PARTS
    return "/".join(filter(None, parts[-2:] if is_part else parts[-1:]))


def comparison_rows(results: Any) -> list[Row]:
    """The results of a protocol, one row for each layer, metric and setting.

    Results of one layer and metric stand beside each other where their settings are equal, and
    where each subject has chosen its own by a validation; where no setting is equal, in their
    order. A subject that shares no layer with another, such as raw pixels, is beside all layers.
    Entries that are no results are left out.

    >>> results = [{"subject": "trained", "layer": layer, "value": 0.9} for layer in ("h", "z")]
    >>> results.append({"subject": "pixels", "layer": "pixels", "value": 0.3})
    >>> [[result["value"] for result in row.values()] for row in comparison_rows(results)]
    [[0.9, 0.3], [0.9, 0.3]]
    """
    subjects: dict[str, dict[tuple[str, str], list[dict[str, Any]]]] = {}
    for result in results if isinstance(results, list) else []:
        if isinstance(result, dict) and number(result.get("value")) is not None:
            groups = subjects.setdefault(str(result.get("subject")), {})
            groups.setdefault((layer_of(result), metric_name(result)), []).append(result)
    alone = _alone(subjects)
    keys = [key for name, groups in subjects.items() if name not in alone for key in groups]
    rows: list[Row] = []
    for layer, metric in dict.fromkeys(keys):
        columns = {
            name: next((own for key, own in groups.items() if key[1] == metric), [])
            if name in alone
            else groups.get((layer, metric), [])
            for name, groups in subjects.items()
        }
        rows += _side_by_side(columns)
    return rows


def layer_of(result: Mapping[str, Any]) -> str:
    return str(result.get("layer", MISSING))


def metric_name(result: Mapping[str, Any]) -> str:
    return str(result.get("metric", "accuracy"))


def _alone(subjects: Mapping[str, Mapping[tuple[str, str], Any]]) -> set[str]:
    """The subjects none of whose layers another one has; never the first one."""
    layers = {name: {layer for layer, _ in groups} for name, groups in subjects.items()}
    return {
        name
        for place, (name, own) in enumerate(layers.items())
        if place > 0 and not any(own & other for key, other in layers.items() if key != name)
    }


def _side_by_side(columns: Mapping[str, list[dict[str, Any]]]) -> list[Row]:
    base = next((column for column in columns.values() if column), [])
    wanted = [part(result, "setting") for result in base]
    rows: list[Row] = [{} for _ in base]
    for name, column in columns.items():
        settings = [part(result, "setting") for result in column]
        by_setting = any(setting in settings for setting in wanted)
        own = [i for i, each in enumerate(settings) if CHOSEN in each and each not in wanted]
        for place, setting in enumerate(wanted):
            if by_setting:
                matches = [i for i, each in enumerate(settings) if each == setting]
                if not matches and CHOSEN in setting:
                    matches, own = own[:1], own[1:]
            else:
                matches = [place] if place < len(column) else []
            if matches:
                rows[place][name] = column[matches[0]]
    return rows


def headline_row(rows: Sequence[Row], headline: Mapping[str, Any]) -> Row:
    """The row that represents a protocol by its description, never the best."""

    def misfit(row: Row) -> tuple[bool, ...]:
        result = first(row)
        setting = part(result, "setting")
        return headline_misfit(headline, layer_of(result), metric_name(result), setting)

    return min(rows, key=misfit)


def first(row: Row) -> dict[str, Any]:
    """The result of the subject in question, or the first that there is."""
    return next(iter(row.values()))


def setting_text(setting: Mapping[str, Any]) -> str:
    """A setting in words.

    >>> setting_text({"k": 20, "temperature": None, "k_used": 20})
    'k 20, plain vote'
    >>> setting_text({"learning_rate": 333.3333, "chance": 0.273333}).replace("\\u202f", " ")
    'learning rate 333, chance 27.3 %'
    """
    return ", ".join(_setting_parts(setting, setting)) or MISSING


def row_setting(row: Row) -> tuple[str, dict[str, list[str]]]:
    """(the setting that the results of a row share, in words; what each subject chose itself).

    >>> results = {name: {"setting": {"layer": "h", "k": k}} for name, k in (("a", 5), ("b", 20))}
    >>> row_setting(results)
    ('layer h', {'a': ['k 5'], 'b': ['k 20']})
    """
    settings = {name: part(result, "setting") for name, result in row.items()}
    keys = dict.fromkeys(key for setting in settings.values() for key in setting)
    shared = [key for key in keys if len({repr(s.get(key)) for s in settings.values()}) == 1]
    own = {
        name: _setting_parts(setting, [key for key in setting if key not in shared])
        for name, setting in settings.items()
    }
    texts = _setting_parts(part(first(row), "setting"), shared)
    return ", ".join(texts) or (EACH_OWN if any(own.values()) else MISSING), own


def _setting_parts(setting: Mapping[str, Any], keys: Iterable[str]) -> list[str]:
    return [text for key in keys if (text := _setting_part(key, setting))]


def _setting_part(key: str, setting: Mapping[str, Any]) -> str:
    item = setting[key]
    if key == "temperature" and item is None:
        return "plain vote"
    if key == "k_used":
        return "" if item == setting.get("k") else f"all {value(item)} images"
    if key == CHOSEN and number(item) is not None:
        return f"validation {percent(item)}"
    if key == "chance" and number(item) is not None:
        return f"chance {percent(item)}"
    if isinstance(item, float) and abs(item) < 1000:  # a place on a grid, as 333.333
        item = float(f"{item:.3g}")
    return f"{key.replace('_', ' ')} {value(item)}"


def figure_text(result: Mapping[str, Any] | None) -> str:
    """The value of a result in the format of its metric.

    >>> figure_text({"value": 0.5}).replace("\\u202f", " ")
    '50.0 %'
    >>> figure_text({"metric": "rankme", "value": 33.31})
    '33.3'
    """
    if result is None:
        return MISSING
    return FORMATS[metric_of(metric_name(result)).format](result["value"])


def interval_text(result: Mapping[str, Any]) -> str:
    """The 95 % interval of a result.

    >>> interval_text({"interval": [0.711, 0.867]}), interval_text({"interval": [-0.02, 0.03]})
    ('71.1–86.7', '−2.0 to 3.0')
    """
    interval = result.get("interval")
    ends = [number(end) for end in interval] if isinstance(interval, list | tuple) else []
    low, high = ends if len(ends) == 2 else (None, None)
    if low is None or high is None:
        return MISSING
    if metric_of(metric_name(result)).format == "share":
        texts = [f"{100 * end + 0.0:.1f}".replace("-", MINUS) for end in (low, high)]
    else:
        texts = [decimal(low), decimal(high)]
    return (" to " if low < 0 else "–").join(texts)


def figure_and_interval(
    result: Mapping[str, Any] | None, between: str = " ", *, mark: str = ""
) -> str:
    """The value of a result, perhaps a ``mark``, and its 95 % interval in brackets.

    >>> figure_and_interval({"value": 0.5, "interval": [0.4, 0.6]}).replace("\\u202f", " ")
    '50.0 % (40.0–60.0)'
    """
    interval = MISSING if result is None else interval_text(result)
    return figure_text(result) + mark + ("" if interval == MISSING else f"{between}({interval})")


def gain_text(result: Mapping[str, Any], baseline: Mapping[str, Any]) -> str:
    """How much better than the baseline: points of a share, else the difference; minus is worse."""
    figure = metric_of(metric_name(result))
    gain = result["value"] - baseline["value"]
    gain = -gain if figure.better == "lower" else gain
    size = f"{abs(100 * gain):.1f}" if figure.format == "share" else decimal(abs(gain))
    return f"{'+' if gain >= 0 else MINUS}{size}"


def result_sentence(evaluation: Mapping[str, Any]) -> str:
    """The headline figure of the first subject, and by how much it differs from the baselines.

    >>> rows = [{"subject": "trained", "layer": "h", "value": 0.5, "interval": (0.41, 0.59)},
    ...     {"subject": "pixels", "layer": "pixels", "value": 0.25}]
    >>> result_sentence({"title": "kNN accuracy", "results": rows}).replace("\\u202f", " ")
    'kNN accuracy on h (–): 50.0 % (95 % interval 41.0–59.0), 25.0 points above raw pixels.'
    """
    row = headline_row(comparison_rows(evaluation.get("results")), headline_of(evaluation))
    result, metric = first(row), metric_name(first(row))
    differences = [
        f"{difference_in_words(metric, result['value'] - row[name]['value'])} {words}"
        f"{_p(evaluation, name)}"
        for name, words in BASELINES.items()
        if name in row and row[name] is not result
    ]
    comparison = f", {' and '.join(differences)}" if differences else ""
    over = next((holm_of(test)[1] for test in _paired(evaluation) if _is_tested(test)), "")
    comparison += f"; p values by {over}" if differences and over else ""
    text, interval = setting_text(part(result, "setting")), interval_text(result)
    spread = "" if interval == MISSING else f" (95 % interval {interval})"
    label = "" if metric == "accuracy" else f"{metric_of(metric).label} "
    where = f"{title_of(evaluation)} on {layer_of(result)} ({text}): {label}"
    return f"{where}{figure_text(result)}{spread}{comparison}."


def headline_sentences(contents: Iterable[Mapping[str, Any]]) -> list[str]:
    """On the headline figure of each protocol, and on the tests that it does not name.

    >>> rows = [{"subject": "trained", "layer": "h", "value": 0.5}]
    >>> headline_sentences([{"protocol": "knn", "results": rows}, {"results": []}])
    ['Knn on h (–): 50.0\u202f%.']
    """
    sentences = []
    for each in by_interest(dict(content) for content in contents):
        if comparison_rows(each.get("results")):
            tests = paired_sentences(each, without_baselines=True)
            sentences += [result_sentence(each), *(f"{title_of(each)}: {test}" for test in tests)]
    return sentences


def _p(evaluation: Mapping[str, Any], name: str) -> str:
    """The p value of the first subject against another one, in brackets."""
    test = next((test for test in _paired(evaluation) if test["second"] == name), {})
    return f" ({p_in_words(holm_of(test)[0])})" if _is_tested(test) else ""


def paired_sentences(
    evaluation: Mapping[str, Any], *, without_baselines: bool = False
) -> list[str]:
    """The first subject against each other one but the baselines of a single run.

    ``without_baselines``: those of several neither, which :func:`result_sentence` names.

    >>> test = {"first": "a", "second": "b", "metric": "accuracy", "difference": 0.021, "p": 0.003,
    ...     "images": 10_000}
    >>> paired_sentences({"paired": [test]})
    ['a is 2.1 points above b, p = 0.003 (paired permutation test on 10,000 images).']
    """
    sentences = []
    for test in _paired(evaluation):
        if test["second"] in BASELINES and (without_baselines or test["first"] == "trained"):
            continue
        difference = number(test.get("difference"))
        if difference is None:
            continue
        words = difference_in_words(str(test.get("metric")), difference)
        is_whole = _is_tested(test) and number(test.get("images")) is not None
        tested = f", {paired_in_words(test)}" if is_whole else ""
        sentences.append(f"{test['first']} is {words} {test['second']}{tested}.")
    return sentences


def _is_tested(test: Mapping[str, Any]) -> bool:
    """Whether a test has its p value; a corrected one with the number of tests."""
    keys = ("p", "p_holm", "tests") if "p_holm" in test else ("p",)
    return all(number(test.get(key)) is not None for key in keys)


def _paired(evaluation: Mapping[str, Any]) -> list[dict[str, Any]]:
    tests = evaluation.get("paired")
    return [
        test
        for test in (tests if isinstance(tests, list) else [])
        if isinstance(test, dict) and {"first", "second"} <= test.keys()
    ]
