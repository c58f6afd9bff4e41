"""The accuracy of a trained classifier: beside other networks, per class, and its confusions."""

from __future__ import annotations

from typing import Any

from coview.reports.formatting import MISSING, count, millions, percent
from coview.reports.html import Child, Markup, tag
from coview.reports.records import Record, number, part
from coview.reports.scores import bar, track
from coview.reports.tables import cut_table

MAIN = {"finetune": "fine-tuned", "distill": "student"}
"""The network that a run of each kind has trained, by its protocol."""
MAX_CLASSES = 40  # of a confusion matrix that can still be read
MAX_CONFUSIONS = 10
DARKEST = 0.7  # opacity of a share of 1; the number on it stays readable

NOTE = (
    "Each row holds the test images of one class, each column one prediction. "
    "A stronger color is a larger share of the row. Blue is correct, orange is wrong."
)


def accuracy_bars(record: Record) -> Markup | None:
    """The accuracy of the trained network above bars for all networks; None without results."""
    results = _accuracies(record)
    main = next((r for r in results if r.get("subject") == MAIN[_protocol(record)]), None)
    if main is None:
        return None
    bars = [
        bar(str(r["subject"]), r["value"], "bar trained" if r is main else "bar") for r in results
    ]
    images = number(main.get("test_images"))
    return tag(
        "div", tag("h2", "Test accuracy"), tag("p", percent(main["value"]), class_="big"),
        tag("div", bars, class_="bars"),
        tag("p", f"{count(images)} test images", class_="note") if images else None, class_="score",
    )  # fmt: skip


def accuracy_section(record: Record) -> list[Markup] | None:
    """Table of accuracies, largest confusions, confusion matrix, classes; None without results."""
    evaluation = record.evaluation(_protocol(record))
    blocks = [
        _agreement(record),
        _accuracy_table(_accuracies(record)),
        _block("Largest confusions", _largest_confusions(evaluation)),
        _block("Confusion matrix", _confusion_matrix(evaluation)),
        _block("Accuracy of each class", _class_table(evaluation)),
    ]
    return [block for block in blocks if block] or None


def largest_confusions(confusion: list[list[int]]) -> list[tuple[int, int, int]]:
    """(true class, predicted class, images) of the most frequent errors, most frequent first.

    >>> largest_confusions([[8, 2, 0], [1, 9, 0], [0, 5, 5]])
    [(2, 1, 5), (0, 1, 2), (1, 0, 1)]
    """
    errors = [
        (true, predicted, images)
        for true, row in enumerate(confusion)
        for predicted, images in enumerate(row)
        if true != predicted and images > 0
    ]
    return sorted(errors, key=lambda error: -error[2])[:MAX_CONFUSIONS]


def _protocol(record: Record) -> str:
    return "distill" if record.kind == "distill" else "finetune"


def _accuracies(record: Record) -> list[dict[str, Any]]:
    return _results(record, "accuracy")


def _results(record: Record, metric: str) -> list[dict[str, Any]]:
    results = record.evaluation(_protocol(record)).get("results")
    return [
        result
        for result in (results if isinstance(results, list) else [])
        if isinstance(result, dict)
        and result.get("metric") == metric
        and number(result.get("value")) is not None
    ]


def _agreement(record: Record) -> Markup | None:
    """How often a student gives its teacher's class; None for other runs."""
    results = _results(record, "agreement")
    if not results:
        return None
    result = results[0]
    images = number(result.get("test_images"))
    of = f"of {count(images)} test images" if images else "of the test images"
    text = (
        f"The student gives the teacher's class for {percent(result['value'])} {of} "
        f"(95\N{NARROW NO-BREAK SPACE}% interval {_interval_text(result.get('interval'))})."
    )
    return tag("p", text)


def _accuracy_table(results: list[dict[str, Any]]) -> Markup | None:
    if not results:
        return None
    sizes = [number(part(result, "setting").get("parameters")) for result in results]
    sized = any(sizes)
    heads = (
        "network", *(("parameters",) if sized else ()), "accuracy",
        "95\N{NARROW NO-BREAK SPACE}% interval", "test images",
    )  # fmt: skip
    rows: list[tuple[Child, ...]] = [
        (
            str(result.get("subject", "?")),
            *((millions(size) if size else MISSING,) if sized else ()),
            percent(result["value"]),
            _interval_text(result.get("interval")),
            count(images) if (images := number(result.get("test_images"))) else MISSING,
        )
        for result, size in zip(results, sizes, strict=True)
    ]
    return cut_table(heads, rows, numeric=tuple(range(1, len(heads))))


def _interval_text(interval: Any) -> str:
    ends = [number(end) for end in interval] if isinstance(interval, list) else []
    if len(ends) != 2 or ends[0] is None or ends[1] is None:
        return MISSING
    return f"{percent(ends[0])} to {percent(ends[1])}"


def _class_table(evaluation: dict[str, Any]) -> Markup | None:
    classes = evaluation.get("per_class")
    rows: list[tuple[Child, ...]] = [
        (
            tag("bdi", str(item.get("name", "?"))),
            count(images),
            MISSING if accuracy is None else [track(accuracy), percent(accuracy)],
        )
        for item in (classes if isinstance(classes, list) else [])
        if isinstance(item, dict) and (images := number(item.get("images"))) is not None
        for accuracy in [number(item.get("accuracy"))]
    ]
    return cut_table(("class", "test images", "accuracy"), rows, numeric=(1, 2)) if rows else None


def _largest_confusions(evaluation: dict[str, Any]) -> Markup | None:
    confusion, classes = _confusion(evaluation), _class_names(evaluation)
    items = [
        tag(
            "li", f"{count(images)} of {count(sum(confusion[true]))} images of ",
            tag("bdi", classes[true], class_="class"), " are predicted as ",
            tag("bdi", classes[predicted], class_="class"),
            f" ({percent(images / sum(confusion[true]))})",
        )
        for true, predicted, images in largest_confusions(confusion)
    ]  # fmt: skip
    return tag("ol", items, class_="confusions") if items else None


def _confusion_matrix(evaluation: dict[str, Any]) -> Markup | None:
    confusion, classes = _confusion(evaluation), _class_names(evaluation)
    if not confusion:
        return None
    if len(classes) > MAX_CLASSES:
        text = f"{count(len(classes))} classes are too many to show; up to {MAX_CLASSES} are shown."
        return tag("p", text, class_="lead")
    head = tag(
        "tr",
        tag("th", "true \N{DOWNWARDS ARROW} predicted \N{RIGHTWARDS ARROW}", scope="col"),
        [tag("th", tag("span", tag("bdi", name)), scope="col", title=name) for name in classes],
    )
    rows = [
        tag(
            "tr",
            tag("th", tag("bdi", name), scope="row", title=name),
            [_cell(row, true, i, classes) for i in range(len(row))],
        )
        for true, (name, row) in enumerate(zip(classes, confusion, strict=True))
    ]
    caption = tag("caption", NOTE)
    table = tag("table", caption, tag("thead", head), tag("tbody", rows), class_="confusion")
    return tag(
        "div", table, class_="scroll", role="region", aria_label="Confusion matrix", tabindex=0
    )


def _cell(row: list[int], true: int, predicted: int, classes: list[str]) -> Markup:
    images = row[predicted]
    share = images / max(sum(row), 1)
    return tag(
        "td",
        count(images) if images else "0",
        # The root keeps a few per cent visible.
        style=f"--shade:{DARKEST * share**0.5:.2f}" if images else None,
        class_=("right" if true == predicted else "wrong") if images else "zero",
        title=f"{classes[true]} predicted as {classes[predicted]}: {percent(share)}",
    )


def _confusion(evaluation: dict[str, Any]) -> list[list[int]]:
    """The square matrix of counts, or [] where it is absent or has another form."""
    rows, classes = evaluation.get("confusion"), _class_names(evaluation)
    if not isinstance(rows, list) or not classes or len(rows) != len(classes):
        return []
    square = all(
        isinstance(row, list) and len(row) == len(classes)
        and all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in row)
        for row in rows
    )  # fmt: skip
    return rows if square else []


def _class_names(evaluation: dict[str, Any]) -> list[str]:
    names = evaluation.get("classes")
    return [str(name) for name in names] if isinstance(names, list) else []


def _block(title: str, content: Markup | None) -> Markup | None:
    return tag("div", tag("h3", title), content, class_="accuracy-block") if content else None
