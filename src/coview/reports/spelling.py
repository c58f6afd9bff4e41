"""The sentences of a run as its user types: fields as options, where a command has made the run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from coview.core.options import as_options
from coview.options import DetectOptions, DistillOptions, FinetuneOptions, PretrainOptions
from coview.reports.records import Record

KINDS: Mapping[str, type] = {
    "pretrain": PretrainOptions, "finetune": FinetuneOptions, "detect": DetectOptions,
    "distill": DistillOptions,
}  # fmt: skip
"""The options of the verb that makes a run of a kind."""


def as_typed(record: Record) -> Record:
    """``record`` with the fields in its sentences spelled as options, where its command is one of
    the command line; a notebook shows those of its own runs as they are."""
    if not str(record.description.get("command") or "").startswith("coview "):
        return record
    kinds = (PretrainOptions, KINDS.get(record.kind, PretrainOptions))

    def spelled(value: Any) -> Any:
        if isinstance(value, list):
            return [spelled(item) for item in value]
        if isinstance(value, str):
            return re.sub(
                r"`\w+`", lambda word: f"`{as_options(word[0], *kinds).strip('`')}`", value
            )
        return value

    def with_spelled(content: Mapping[str, Any], *keys: str) -> dict[str, Any]:
        return {key: spelled(item) if key in keys else item for key, item in content.items()}

    evaluations = [
        {**each, "data": with_spelled(each["data"], "caveats")}
        if isinstance(each.get("data"), dict)
        else each
        for each in record.evaluations
    ]
    return replace(
        record, verdict=with_spelled(record.verdict, "sentence", "causes", "remedy"),
        description=with_spelled(record.description, "plan", "caveats"), evaluations=evaluations,
        events=[with_spelled(event, "text") for event in record.events],
    )  # fmt: skip
