"""The first screen of a report: what was learned, how good it is, and what to do now."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from coview.core.figures import DIAGNOSES
from coview.core.metrics import FEW_TEST_IMAGES
from coview.reports.detection import detection_bars
from coview.reports.evaluation import caveat_notes
from coview.reports.finetune import accuracy_bars
from coview.reports.html import Child, Markup, tag, with_code
from coview.reports.next_steps import NextStep, next_steps
from coview.reports.plain_words import words_of
from coview.reports.records import Record, number, part
from coview.reports.run_state import is_ended, state_line
from coview.reports.scores import headline_scores, score_bars

GLYPHS = {"good": "\N{CHECK MARK}", "warning": "!", "bad": "\N{MULTIPLICATION X}", "open": "?"}


def page_header(record: Record) -> Markup:
    """Name, state, verdict, scores and commands, and which files could not be read."""
    accuracies = accuracy_bars(record) or detection_bars(record)
    scores = [*([accuracies] if accuracies else []), *map(score_bars, headline_scores(record))]
    state, written = state_line(record), None
    if record.running and not is_ended(record):
        now = datetime.now().astimezone()
        state += f" · as of {now.day} {now:%B %Y, %H:%M:%S}"
        written = now.isoformat(timespec="seconds")  # by which the script sees that none follows
    return tag(
        "header", tag("h1", tag("bdi", record.name)),
        tag("p", state, class_="state", data_written=written),
        _verdict(record), tag("div", scores, class_="scores") if scores else None,
        command_list(next_steps(record)),
        [tag("p", sentence, class_="damaged") for sentence in record.damaged],
    )  # fmt: skip


def command_list(steps: list[NextStep]) -> Markup | None:
    """Commands with what they are for; a button copies each."""
    if not steps:
        return None
    items = [
        tag(
            "li", tag("span", step.purpose, class_="purpose"),
            tag("code", words_apart(step.command)),
            tag("button", "Copy", type="button", class_="copy",
                aria_label=f"Copy: {step.command}"),
        )
        for step in steps
    ]  # fmt: skip
    return tag("div", tag("h2", "What to do now"), tag("ol", items), class_="steps")


def words_apart(command: str) -> Child:
    """A command that is broken between its words where space is short, and not behind "--"."""
    first, *others = command.split(" ")
    return [tag("span", first), [(" ", tag("span", word)) for word in others]]


def _verdict(record: Record) -> Markup:
    verdict = record.verdict
    label = str(verdict.get("label", ""))
    color = DIAGNOSES[label].kind if label in DIAGNOSES else "open"
    headline, plain = words_of(
        record.kind, label, running=record.running, is_compared=_is_compared(record),
        undecided=verdict.get("undecided") is True,
    )  # fmt: skip
    if not label and is_ended(record):
        headline, plain = "No verdict", "The training is over, and no verdict was written."
    return tag(
        "div",
        tag("p", tag("span", GLYPHS[color], class_="glyph", aria_hidden="true"),
            tag("span", headline), class_="headline"),
        tag("p", plain, class_="sentence") if plain else None,
        _measured(str(verdict.get("sentence", ""))),
        # Of another kind of run they stand beside its accuracies.
        caveat_notes({"data": record.description}) if record.kind == "pretrain" else None,
        None if label == "learning" else [_causes(verdict.get("causes")),
                                          _remedy(verdict.get("remedy"))],
        class_=f"verdict {color}",
    )  # fmt: skip


def _is_compared(record: Record) -> bool:
    """Whether the verdict rests on a baseline too, which takes enough test images of detection."""
    few = number(part(record.description, "data").get("held_out"))
    too_few = record.kind == "detect" and few is not None and few < FEW_TEST_IMAGES
    baseline = {"detect": "from scratch", "distill": "labels alone"}.get(record.kind)
    results = record.evaluation(record.kind).get("results")
    # A baseline that has diverged itself has no figures.
    is_lost = baseline is not None and isinstance(results, list) and not any(
        isinstance(row, dict) and row.get("subject") == baseline for row in results
    )  # fmt: skip
    return bool(record.description.get("baselines")) and not (too_few or is_lost)


def _measured(sentence: str) -> Markup | None:
    """The sentence of the verdict, without the label that begins it."""
    label, colon, rest = sentence.partition(": ")
    text = rest if colon and len(label) <= 40 else sentence
    return tag("p", with_code(text[:1].upper() + text[1:]), class_="measured") if text else None


def _remedy(remedy: Any) -> Markup | None:
    if not remedy:
        return None
    return tag("p", tag("strong", "What helps. "), with_code(str(remedy)), class_="remedy")


def _causes(causes: Any) -> Markup | None:
    if not isinstance(causes, list) or not causes:
        return None
    items: list[Child] = [tag("li", with_code(str(cause))) for cause in causes]
    return tag("div", tag("p", "Likely causes"), tag("ul", items), class_="causes")
