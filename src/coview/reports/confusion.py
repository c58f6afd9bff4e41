"""Which classes are taken for which: the largest confusions, the matrix, and each class."""

from __future__ import annotations

from typing import Any

from coview.reports.formatting import count, percent
from coview.reports.html import Child, Markup, tag
from coview.reports.scores import track
from coview.reports.tables import cut_table

MAX_CLASSES = 40  # of a confusion matrix that can still be read
MAX_CONFUSIONS = 10
DARKEST = 0.7  # opacity of a share of 1; the number on it stays readable

NOTE = (
    "Each row holds the test images of one class, each column one prediction. "
    "A stronger color is a larger share of the row. Blue is correct, orange is wrong."
)
Counts = list[list[int]]


def confusion_of(classes: Any, counts: Any) -> tuple[list[str], Counts]:
    """Names and the square matrix of counts, or two empty lists where they are no such thing."""
    names = [str(name) for name in classes] if isinstance(classes, list) else []
    if not isinstance(counts, list) or not names or len(counts) != len(names):
        return [], []
    square = all(
        isinstance(row, list) and len(row) == len(names)
        and all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in row)
        for row in counts
    )  # fmt: skip
    return (names, counts) if square else ([], [])


def largest_confusions(confusion: Counts) -> list[tuple[int, int, int]]:
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


def confusion_list(classes: list[str], confusion: Counts) -> Markup | None:
    """The largest confusions in words; None where there is no error."""
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


def confusion_matrix(classes: list[str], confusion: Counts) -> Markup | None:
    """The matrix as a table; a sentence where it has too many classes, None without one."""
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


def class_accuracies(classes: list[str], confusion: Counts) -> Markup | None:
    """The accuracy on the test images of each class, the worst first."""
    shares = [
        (row[place] / sum(row), sum(row), name)
        for place, (name, row) in enumerate(zip(classes, confusion, strict=True))
        if sum(row)
    ]
    rows: list[tuple[Child, ...]] = [
        (tag("bdi", name), count(images), [track(share), percent(share)])
        for share, images, name in sorted(shares)
    ]
    return cut_table(("class", "test images", "accuracy"), rows, numeric=(1, 2)) if rows else None


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
