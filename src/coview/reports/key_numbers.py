"""The numbers of a run that specialists look for first: sizes, speed, time."""

from __future__ import annotations

import statistics
from typing import Any

from coview.reports.formatting import count, duration, millions, percent, value
from coview.reports.html import Child, Markup, tag
from coview.reports.records import Record, number, part
from coview.reports.run_state import budget_of, last_value, used_of


def key_numbers(record: Record) -> Markup:
    parameters = part(record.description, "parameters")
    speeds = [s for line in record.steps if (s := number(line.get("images_per_second")))]
    waits = [w for line in record.steps if (w := number(line.get("wait_share"))) is not None]
    seconds, epoch = last_value(record, "seconds"), last_value(record, "epoch")
    epochs = _planned_epochs(record)
    data = part(record.description, "data")
    images, held_out = number(data.get("images")), number(data.get("held_out"))
    beside = "held out" if record.kind == "pretrain" else "test images"
    size, head = number(parameters.get("encoder")), number(parameters.get("head"))
    encoder = encoder_name(part(record.description, "recipe")) or encoder_name(record.description)
    used, budget = used_of(record), budget_of(record)
    entries = [
        ("encoder", encoder, ""),
        ("parameters", millions(size) if size else None,
         f"and {millions(head)} in the head" if head else ""),
        ("images", count(images) if images else None,
         f"and {count(held_out)} {beside}" if held_out else ""),
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


def _planned_epochs(record: Record) -> float | None:
    """As the run began, or as its budget has allowed since."""
    description = record.description
    per_epoch = number(description.get("steps_per_epoch"))
    if not per_epoch or record.total_steps == description.get("total_steps"):
        return number(description.get("epochs"))
    return round(record.total_steps / per_epoch, 1)
