"""How far a run is: ended, going or stopped, its time and its budget."""

from __future__ import annotations

from datetime import datetime

from coview.reports.formatting import NARROW, count, duration
from coview.reports.records import Record, number, part

KINDS = {
    "finetune": "Fine-tuning run", "distill": "Distillation run", "detect": "Detection run",
}  # fmt: skip


def is_ended(record: Record) -> bool:
    """Whether there is nothing left to do: a verdict is there, or the last step is."""
    if record.verdict.get("label"):
        return True
    last = last_value(record, "step")
    return not record.running and bool(last and record.total_steps and last >= record.total_steps)


def state_line(record: Record) -> str:
    """Kind, recipe, begin, progress and time of the run in one line."""
    kind, recipe = KINDS.get(record.kind, "Coview run"), record.description.get("name")
    parts = (
        f"{kind} of {recipe}" if recipe else kind, _moment(record.description.get("created")),
        progress_text(record), time_text(record),
    )  # fmt: skip
    return " · ".join(filter(None, parts))


def progress_text(record: Record) -> str:
    """The steps done, and of a run that has not ended those that are planned."""
    last, total = last_value(record, "step"), record.total_steps
    if is_ended(record):
        return f"finished after {count(last)} steps" if last is not None else "finished"
    state = "running" if record.running else "stopped"
    if last is None:
        return f"{state}: no step reported yet"
    if not total:
        return f"{state}: step {count(last)}"
    share = f"{100 * last / total:.0f}{NARROW}%"
    return f"{state}: step {count(last)} of {count(total)} ({share})"


def time_text(record: Record) -> str:
    """The budget and what is used of it, or the time of training; what is left of a run."""
    seconds, budget, used = last_value(record, "seconds"), budget_of(record), used_of(record)
    words = []
    if budget:
        words.append(f"budget {duration(budget)}")
        words += [f"used {duration(used)}"] if used else []
    elif seconds:
        words.append(f"trained for {duration(seconds)}")
    left = seconds_left(record)
    return ", ".join([*words, *([] if left is None else [f"about {duration(left)} left"])])


def seconds_left(record: Record) -> float | None:
    """Of a run that is going, by the mean time of its steps so far; None where unknown."""
    last, seconds = last_value(record, "step"), last_value(record, "seconds")
    if not record.running or is_ended(record) or not last or not seconds:
        return None
    return max(0.0, (record.total_steps - last) * seconds / last)


def budget_of(record: Record) -> float | None:
    """The seconds that the run was given; None for a run of fixed length."""
    durations = record.description.get("durations")
    last = durations[-1] if isinstance(durations, list) and durations else None
    planned = number(last.get("budget")) if isinstance(last, dict) else None
    return number(part(record.verdict, "time").get("budget")) or planned


def used_of(record: Record) -> float | None:
    """The seconds that were used of a budget, all in all; before the end those of the training."""
    return number(part(record.verdict, "time").get("used")) or last_value(record, "seconds")


def last_value(record: Record, key: str) -> float | None:
    """The largest ``key`` in the last lines of each kind; None before the first step line."""
    kinds = (record.steps, record.health, record.knn, record.validation)
    lines = [row for rows in kinds for row in rows[-1:]] if record.steps else []
    return max((x for line in lines if (x := number(line.get(key))) is not None), default=None)


def _moment(text: object) -> str:
    try:
        moment = datetime.fromisoformat(str(text)).astimezone()  # the reader's time
    except ValueError:
        return ""
    return f"{moment.day} {moment:%B %Y, %H:%M}"
