"""What to do now: at most three commands that are right for this run, to be copied."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from shlex import join
from typing import Any

from coview.core.figures import DIAGNOSES
from coview.options import DataOptions
from coview.reports.records import Record, number, part
from coview.reports.run_state import is_ended

MOST = 3
ENOUGH_STEPS = 200
"""Steps that a longer run makes at least: those that a verdict needs (coview.planning.defaults,
which loads torch)."""
NOT_REPEATED = ("download", "memory_share", "cache", "short_side")
"""Options of images that change nothing about them; a short side is looked at by itself."""
DECODING = ("white", "max_pixels")
"""Options of images that one image to search for needs as well."""


@dataclass(frozen=True, slots=True)
class NextStep:
    """A command as it is typed, and what it is for."""

    purpose: str
    command: str


def next_steps(record: Record) -> list[NextStep]:
    """The first three commands for this run, by its kind, its state and its verdict."""
    return list(_steps(record))[:MOST]


def _steps(record: Record) -> Iterator[NextStep]:
    run = str(record.folder.resolve())
    data = data_words(record)
    if not is_ended(record):
        what = "If it stops, go on exactly there" if record.running else "Go on where it stopped"
        yield NextStep(what, typed("resume", run))
        yield NextStep("Ask whether it is learning so far", typed("doctor", run))
        return
    label = str(record.verdict.get("label", ""))
    good = label in DIAGNOSES and DIAGNOSES[label].exit_code == 0
    if record.kind != "pretrain":
        yield from _of_a_task(record, run, data)
    elif good and label != "too early":
        yield from _of_an_encoder(record, run, data)
    else:
        yield from _of_a_failure(record, run, data, label)


def _of_an_encoder(record: Record, run: str, data: list[str]) -> Iterator[NextStep]:
    labeled = bool(record.class_names)
    evaluated = bool(record.evaluations)
    if sources(record):  # without DATA both open the images of the run as the run did
        yield NextStep("Look through all images, the like ones side by side",
                       typed("browse", run))  # fmt: skip
        image, decoding = query_image(record), option_words(record, DECODING)
        if image is not None:
            yield NextStep("Find the images that are most like one of yours",
                           typed("search", run, image, *decoding))  # fmt: skip
    if data:
        if labeled and not evaluated:
            yield NextStep("Measure how well it tells the classes apart",
                           typed("evaluate", run, *data))  # fmt: skip
        if labeled:
            yield NextStep("Train a classifier from it with a tenth of the labels",
                           typed("finetune", run, *data, "--labels", "10%"))  # fmt: skip
        yield NextStep("Find images that are there twice or nearly so",
                       typed("duplicates", *data, "--with", run))  # fmt: skip
    # Not for torchvision: it has no narrow network, which is what a CPU trains by default.
    yield NextStep("Take the encoder along, for plain PyTorch", typed("export", run))
    yield from _longer(record, run)


def _of_a_failure(record: Record, run: str, data: list[str], label: str) -> Iterator[NextStep]:
    if label in ("too early", "no better than pixels", ""):
        yield from _longer(record, run)
    if data and label != "unusable data":
        yield NextStep("Look at what the network gets to see",
                       typed("views", *data, *_recipe_words(record)))  # fmt: skip
    if data:
        yield NextStep("Check whether these images can be learned from", typed("doctor", *data))
    yield NextStep("Read what was measured and what it says", typed("doctor", run))


def _of_a_task(record: Record, run: str, data: list[str]) -> Iterator[NextStep]:
    if record.kind != "detect" and data:
        yield NextStep("Let it name the class of images", typed("predict", run, *data))
    if record.kind == "detect":
        yield NextStep("Take its encoder along, for plain PyTorch", typed("export", run))
    else:
        yield NextStep("Use it in other programs", typed("export", run, "--to", "onnx"))
    yield from _longer(record, run)


def _longer(record: Record, run: str) -> Iterator[NextStep]:
    epochs = longer_epochs(record.description, record.total_steps)
    if epochs and sources(record):
        is_short = 2 * record.total_steps < ENOUGH_STEPS
        purpose = "Train on, long enough for a verdict" if is_short else "Train on, twice as long"
        yield NextStep(purpose, typed("resume", run, "--epochs", str(epochs)))


def longer_epochs(description: dict[str, Any], total_steps: float) -> int | None:
    """Twice the epochs of a run, or enough for a verdict.

    ``total_steps``: as last planned. A run with a budget plans again as it goes; the epochs that
    its description names are a first guess.

    >>> longer_epochs({"steps_per_epoch": 50}, 500)
    20
    """
    per_epoch = number(description.get("steps_per_epoch"))
    if not per_epoch or not total_steps:
        return None
    return math.ceil(max(2 * total_steps, ENOUGH_STEPS) / per_epoch)


def sources(record: Record) -> list[str]:
    """Where the images of the run lie; none where they were in memory."""
    source = _opened(record).get("source")
    words = [source] if isinstance(source, str) else list(source or [])
    return words if all(isinstance(word, str) for word in words) else []


def data_words(record: Record) -> list[str]:
    """The words that open the images of the run again; none where they are not one DATA."""
    words = sources(record)
    if len(words) != 1:
        return []
    names = [field.name for field in fields(DataOptions) if field.name not in NOT_REPEATED]
    short_side, size = _opened(record).get("short_side"), _size(record) or 0
    # The rule of coview.data.spec: 256 px or 1.15 times the views, and scenes at their size.
    usual = size if words[0].startswith("scenes") else max(256, round(1.15 * size))
    return words + option_words(record, [*names, *(["short_side"] if short_side != usual else [])])


def option_words(record: Record, names: Sequence[str]) -> list[str]:
    """Some options with which the run opened its images, where it was given another value."""
    opened, words = _opened(record), []
    for field in fields(DataOptions):
        value = opened.get(field.name)
        if field.name not in names or value is None or value == field.default:
            continue
        words.append(f"--{field.name.replace('_', '-')}")
        if value is not True:
            words.append(str(value))
    return words


def query_image(record: Record) -> str | None:
    """The path of an image that was held out, or of any of the data; None where they are no
    files of their own."""
    words = sources(record)
    names = record.gallery.get("near_names")
    if len(words) != 1 or names is None or not names.size:
        return None
    path = Path(words[0]) / str(names[0, 0])
    return str(path) if path.is_file() else None


def typed(verb: str, *words: str) -> str:
    """``coview VERB WORDS`` as it is typed, also where a name has spaces.

    >>> typed("doctor", "runs/my photos")
    "coview doctor 'runs/my photos'"
    """
    return join(["coview", verb, *words])


def _opened(record: Record) -> dict[str, Any]:
    return part(part(part(record.description, "data"), "opened"), "images")


def _recipe_words(record: Record) -> list[str]:
    size = _size(record)
    return ["--size", str(size)] if size else []


def _size(record: Record) -> int | None:
    """The side of the first view, in pixels."""
    views = part(part(record.description, "recipe"), "method").get("views")
    items = views.get("views") if isinstance(views, dict) else views
    first = items[0] if isinstance(items, list) and items else None
    size = first.get("size") if isinstance(first, dict) else None
    return size if isinstance(size, int) else None
