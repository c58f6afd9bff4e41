"""The header of a report: the verdict, the scores and the key numbers."""

from __future__ import annotations

import statistics
from datetime import datetime
from typing import Any

from coview.core.figures import DIAGNOSES
from coview.reports.curves import recent_mean
from coview.reports.detection import detection_bars
from coview.reports.figures import CHANCE_LEVEL, LOWER_BOUND
from coview.reports.finetune import accuracy_bars
from coview.reports.formatting import NARROW, count, decimal, duration, millions, percent, value
from coview.reports.html import Child, Markup, tag, with_code
from coview.reports.records import Record, number, part, series
from coview.reports.scores import headline_scores, score_bars

KINDS = {
    "finetune": "Fine-tuning run", "distill": "Distillation run", "detect": "Detection run",
}  # fmt: skip
GLYPHS = {"good": "\N{CHECK MARK}", "warning": "!", "bad": "\N{MULTIPLICATION X}", "open": "?"}


def page_header(record: Record) -> Markup:
    """Name, state, verdict, scores and key numbers, and which files could not be read."""
    accuracies = accuracy_bars(record) or detection_bars(record)
    scores = [*([accuracies] if accuracies else []), *map(score_bars, headline_scores(record))]
    return tag(
        "header", tag("h1", tag("bdi", record.name)), tag("p", _state(record), class_="state"),
        tag(
            "div",
            _verdict(record),
            tag("div", scores, class_="scores") if scores else None,
            class_="summary",
        ),
        _key_numbers(record), [tag("p", sentence, class_="damaged") for sentence in record.damaged],
    )  # fmt: skip


def _verdict(record: Record) -> Markup:
    verdict = record.verdict
    label = str(verdict.get("label", ""))
    color = DIAGNOSES[label].kind if label in DIAGNOSES else "open"
    position, details = _position(record), str(verdict.get("details", ""))
    sentence = str(verdict.get("sentence", "")) or "The run has not written a verdict."
    headline, colon, rest = sentence.partition(": ")
    if not colon or len(headline) > 40:
        headline, rest = label.capitalize() or "No verdict yet", sentence
    return tag(
        "div",
        tag("p", tag("span", GLYPHS[color], class_="glyph", aria_hidden="true"),
            tag("span", with_code(headline)), class_="headline"),
        tag("p", with_code(rest[:1].upper() + rest[1:]), class_="sentence"),
        tag("p", details, class_="details") if details else None,
        tag("p", position, class_="position") if position else None,
        None if label == "learning" else [_causes(verdict.get("causes")),
                                          _remedy(verdict.get("remedy"))],
        class_=f"verdict {color}",
    )  # fmt: skip


def _position(record: Record) -> str | None:
    if record.kind == "detect":  # the loss of boxes has no chance level
        return None
    _, losses = series(record.steps, "loss", axis="step")
    chance = number(record.description.get("chance_level"))
    bound = number(record.description.get("lower_bound"))
    # A learned temperature changes the scale of the loss.
    rescaled = any("temperature" in row for row in record.health)
    if not losses or chance is None or bound is None or chance <= bound or rescaled:
        return None
    loss = recent_mean(losses)
    share = 100 * max(0.0, (chance - loss) / (chance - bound))
    return (
        f"Loss {decimal(loss)}: {share:.0f}{NARROW}% of the way from the {CHANCE_LEVEL} "
        f"({decimal(chance)}) to the {LOWER_BOUND}, {decimal(bound)}."
    )


def _remedy(remedy: Any) -> Markup | None:
    if not remedy:
        return None
    return tag("p", tag("strong", "What to do. "), with_code(str(remedy)), class_="remedy")


def _causes(causes: Any) -> Markup | None:
    if not isinstance(causes, list) or not causes:
        return None
    items = [tag("li", with_code(str(cause))) for cause in causes]
    return tag("div", tag("p", "Likely causes"), tag("ul", items), class_="causes")


def _state(record: Record) -> str:
    created = _moment(record.description.get("created"))
    last, total = _last(record, "step"), record.total_steps
    if last is None:
        state = "no step reported yet"
    elif total and last < total:
        share = f"{100 * last / total:.0f}{NARROW}%"
        state = f"stopped or running: step {count(last)} of {count(total)} ({share})"
    else:
        state = f"finished after {count(last)} steps"
    kind = KINDS.get(record.kind, "Coview run")
    recipe = record.description.get("name")
    return " · ".join(filter(None, [f"{kind} of {recipe}" if recipe else kind, created, state]))


def _key_numbers(record: Record) -> Markup:
    parameters = part(record.description, "parameters")
    speeds = [s for line in record.steps if (s := number(line.get("images_per_second")))]
    waits = [w for line in record.steps if (w := number(line.get("wait_share"))) is not None]
    seconds, epoch = _last(record, "seconds"), _last(record, "epoch")
    epochs = _planned_epochs(record)
    data = part(record.description, "data")
    images, held_out = number(data.get("images")), number(data.get("held_out"))
    size, head = number(parameters.get("encoder")), number(parameters.get("head"))
    encoder = encoder_name(part(record.description, "recipe")) or encoder_name(record.description)
    time = part(record.verdict, "time")
    used, budget = number(time.get("used")), number(time.get("budget"))
    entries = [
        ("encoder", encoder, ""),
        ("parameters", millions(size) if size else None,
         f"and {millions(head)} in the head" if head else ""),
        ("images", count(images) if images else None,
         f"and {count(held_out)} held out" if held_out else ""),
        ("epochs", value(round(epoch, 1)) if epoch is not None else None,
         f"of {value(epochs)}" if epochs else ""),
        ("training time", duration(seconds) if seconds is not None else None, ""),
        ("time used", duration(used) if used and budget else None,
         f"of the budget of {duration(budget)}" if budget else ""),
        ("images per second", count(statistics.median(speeds)) if speeds else None,
         f"{percent(statistics.median(waits))} waiting for data" if waits else "median"),
    ]  # fmt: skip
    cells: list[Child] = [
        tag("div", tag("dt", name), tag("dd", text, tag("small", note) if note else None))
        for name, text, note in entries
        if text
    ]
    return tag("dl", cells, class_="keys")


def _planned_epochs(record: Record) -> float | None:
    """As the run began, or as its budget has allowed since."""
    description = record.description
    per_epoch = number(description.get("steps_per_epoch"))
    if not per_epoch or record.total_steps == description.get("total_steps"):
        return number(description.get("epochs"))
    return round(record.total_steps / per_epoch, 1)


def encoder_name(recipe: dict[str, Any]) -> str | None:
    """The encoder of a recipe in a few words; None if unknown.

    >>> encoder_name({"encoder": {"kind": "resnet", "depth": 18, "width": 0.5}})
    'ResNet-18, width 0.5'
    """
    spec = recipe.get("encoder")
    if isinstance(spec, str):
        return spec
    if not isinstance(spec, dict):
        return None
    if "depth" not in spec:
        return str(spec.get("name") or spec.get("kind") or "") or None
    kind = "ResNet" if spec.get("kind", "resnet") == "resnet" else str(spec["kind"])
    extras = []
    if spec.get("width", 1) != 1:
        extras.append(f"width {value(spec['width'])}")
    if spec.get("selective_kernels"):
        extras.append("selective kernels")
    return ", ".join([f"{kind}-{spec['depth']}", *extras])


def _last(record: Record, key: str) -> float | None:
    """The largest ``key`` in the last lines of each kind; None before the first step line."""
    kinds = (record.steps, record.health, record.knn, record.validation)
    lines = [row for rows in kinds for row in rows[-1:]] if record.steps else []
    return max((x for line in lines if (x := number(line.get(key))) is not None), default=None)


def _moment(text: Any) -> str:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return ""
    return f"{moment.day} {moment:%B %Y, %H:%M}"
