"""The accuracy of a trained classifier: beside other networks, per class, and its confusions."""

from __future__ import annotations

from typing import Any

from coview.reports.confusion import confusion_list, confusion_matrix, confusion_of
from coview.reports.evaluation import caveat_notes, images_note, tested_on
from coview.reports.formatting import MISSING, count, millions, percent
from coview.reports.html import Child, Markup, tag
from coview.reports.records import Record, number, part
from coview.reports.scores import bar, track
from coview.reports.tables import cut_table

MAIN = {"finetune": "fine-tuned", "distill": "student"}
"""The network that a run of each kind has trained, by its protocol."""
LEADS = {
    "finetune": "Accuracy on {}. Linear probe: a linear classifier on the frozen features. From "
    "scratch: the same network with random initial weights.",
    "distill": "Figures on {}. The teacher is the network that the student learns from. Labels "
    "alone: the same student trained on the labels without it.",
}


def accuracy_bars(record: Record) -> Markup | None:
    """The accuracy of the trained network above bars for all networks; None without results."""
    results = _accuracies(record)
    main = next((r for r in results if r.get("subject") == MAIN[_protocol(record)]), None)
    if main is None:
        return None
    bars = [
        bar(str(r["subject"]), r["value"], "bar trained" if r is main else "bar") for r in results
    ]
    return tag(
        "div", tag("h2", "Test accuracy"), tag("p", percent(main["value"]), class_="big"),
        tag("div", bars, class_="bars"),
        images_note(record.evaluation(_protocol(record)), main.get("test_images")), class_="score",
    )  # fmt: skip


def accuracy_section(record: Record) -> list[Markup] | None:
    """Table of accuracies, largest confusions, confusion matrix, classes; None without results."""
    evaluation = record.evaluation(_protocol(record))
    confusion = confusion_of(evaluation.get("classes"), evaluation.get("confusion"))
    blocks = [
        _agreement(record),
        _accuracy_table(_accuracies(record)),
        *caveat_notes(evaluation),
        _block("Largest confusions", confusion_list(*confusion)),
        _block("Confusion matrix", confusion_matrix(*confusion)),
        _block("Accuracy of each class", _class_table(evaluation)),
    ]
    return [block for block in blocks if block] or None


def lead(record: Record) -> str:
    """What the figures of the section are of."""
    return LEADS[_protocol(record)].format(tested_on(record.evaluation(_protocol(record))))


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


def _block(title: str, content: Markup | None) -> Markup | None:
    return tag("div", tag("h3", title), content, class_="accuracy-block") if content else None
