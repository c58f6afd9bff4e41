"""The first screen of a report: what the run has learned, how good it is, and its key numbers."""

from __future__ import annotations

import re
import statistics
from datetime import datetime
from typing import Any

from coview.reports.curves import recent
from coview.reports.formatting import NARROW, count, decimal, duration, millions, percent, value
from coview.reports.html import Child, Markup, tag
from coview.reports.records import Record, number, part, series
from coview.reports.scores import headline_scores, score_bars

KINDS = {
    "learning": "good",
    "dimensional collapse": "warning",
    "shortcut": "warning",
    "chance_level": "bad",
    "collapsed": "bad",
    "unchanged": "bad",
}
GLYPHS = {"good": "\N{CHECK MARK}", "warning": "!", "bad": "\N{MULTIPLICATION X}", "open": "?"}


def first_screen(record: Record) -> Markup:
    """Name, state, verdict, scores and key numbers, and which files could not be read."""
    scores = headline_scores(record)
    return tag(
        "header",
        tag("h1", tag("bdi", record.name)),
        tag("p", _state(record), class_="state"),
        tag(
            "div",
            _verdict(record),
            tag("div", [score_bars(score) for score in scores], class_="scores")
            if scores
            else None,
            class_="answer",
        ),
        _key_numbers(record),
        [tag("p", sentence, class_="damaged") for sentence in record.damaged],
    )


def _verdict(record: Record) -> Markup:
    found = record.verdict
    kind = str(found.get("verdict", ""))
    color = KINDS.get(kind, "open")
    sentence = str(found.get("sentence", "")) or "No verdict was written before the run ended."
    headline, colon, rest = sentence.partition(": ")
    if not colon or len(headline) > 40:
        headline, rest = kind.capitalize() or "No verdict yet", sentence
    causes = found.get("causes") if kind != "learning" else None
    remedy = found.get("remedy") if kind != "learning" else None
    return tag(
        "div",
        tag("p", tag("span", GLYPHS[color], class_="glyph", aria_hidden="true"), headline,
            class_="headline"),
        tag("p", rest[:1].upper() + rest[1:], class_="sentence"),
        tag("p", _position(record), class_="position"),
        _causes(causes),
        _remedy(remedy),
        class_=f"verdict {color}",
    )  # fmt: skip


def _position(record: Record) -> str | None:
    _, losses = series(record.steps, "loss", axis="step")
    chance, lower_bound = (
        number(record.run.get("chance_level")),
        number(record.run.get("lower_bound")),
    )
    learned = any("temperature" in row for row in record.health)  # and the loss's scale with it
    if not losses or chance is None or lower_bound is None or chance <= lower_bound or learned:
        return None
    loss = recent(losses)
    share = 100 * max(0.0, (chance - loss) / (chance - lower_bound))
    return (
        f"Loss {decimal(loss)}: {share:.0f}{NARROW}% of the way "
        f"from chance ({decimal(chance)}) to the practical floor ({decimal(lower_bound)})."
    )


def _remedy(remedy: Any) -> Markup | None:
    if not remedy:
        return None
    return tag("p", tag("strong", "What to do. "), _with_flags(str(remedy)), class_="remedy")


def _with_flags(text: str) -> list[Child]:
    pieces = re.split(r"(--[a-z][\w-]*(?: [\d.]*\d)?)", text)
    return [tag("code", piece) if i % 2 else piece for i, piece in enumerate(pieces)]


def _causes(causes: Any) -> Markup | None:
    if not isinstance(causes, list) or not causes:
        return None
    items = [tag("li", _with_flags(str(cause))) for cause in causes]
    return tag("div", tag("p", "Likely causes"), tag("ul", items), class_="causes")


def _state(record: Record) -> str:
    created = _moment(record.run.get("created"))
    last, total = _last(record, "step"), number(record.run.get("total_steps"))
    if last is None:
        state = "no step reported yet"
    elif total and last < total:
        share = f"{100 * last / total:.0f}{NARROW}%"
        state = f"stopped or running: step {count(last)} of {count(total)} ({share})"
    else:
        state = f"finished after {count(last)} steps"
    recipe = record.run.get("name")
    made_by = f"Coview run of {recipe}" if recipe else "Coview run"
    return " · ".join(filter(None, [made_by, created, state]))


def _key_numbers(record: Record) -> Markup:
    parameters = part(record.run, "parameters")
    speeds = [s for line in record.steps if (s := number(line.get("images_per_second")))]
    waits = [w for line in record.steps if (w := number(line.get("wait_share"))) is not None]
    seconds, epoch = _last(record, "seconds"), _last(record, "epoch")
    epochs = number(record.run.get("epochs"))
    images = number(part(record.run, "data").get("images"))
    encoder, head = number(parameters.get("encoder")), number(parameters.get("head"))
    entries = [
        ("encoder", encoder_name(part(record.run, "recipe")), ""),
        ("parameters", millions(encoder) if encoder else None,
         f"and {millions(head)} in the head" if head else ""),
        ("images", count(images) if images else None, _held_out(record)),
        ("epochs", value(round(epoch, 1)) if epoch is not None else None,
         f"of {value(epochs)}" if epochs else ""),
        ("training time", duration(seconds) if seconds is not None else None, ""),
        ("images per second", count(statistics.median(speeds)) if speeds else None,
         f"{percent(statistics.median(waits))} waiting for data" if waits else "median"),
    ]  # fmt: skip
    cells: list[Child] = [
        tag("div", tag("dt", name), tag("dd", text, tag("small", note) if note else None))
        for name, text, note in entries
        if text
    ]
    return tag("dl", cells, class_="keys")


def encoder_name(recipe: dict[str, Any]) -> str | None:
    """{"kind": "resnet", "depth": 18, "width": 0.5} -> "ResNet-18, width 0.5"; None if unknown."""
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


def _held_out(record: Record) -> str:
    held_out = number(part(record.run, "data").get("held_out"))
    return f"and {count(held_out)} held out" if held_out else ""


def _last(record: Record, key: str) -> float | None:
    """The furthest point of any line: a run reports its last epoch's health, not every step."""
    lines = [*record.steps[-1:], *record.health[-1:], *record.knn[-1:]] if record.steps else []
    return max((x for line in lines if (x := number(line.get(key))) is not None), default=None)


def _moment(text: Any) -> str:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return ""
    return f"{moment.day} {moment:%B %Y, %H:%M}"
