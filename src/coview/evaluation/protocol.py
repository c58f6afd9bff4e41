"""A protocol: one stated way to judge subjects, with its question in words."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from coview.core.errors import InvalidValue
from coview.evaluation.benchmark import Benchmark
from coview.evaluation.result import Result


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How subjects are judged: a function from a benchmark to results, and its words.

    ``name`` is the word of `--protocols` and names the JSON file; ``title`` heads its table;
    ``question`` is one sentence on what its figures answer. ``headline`` holds the metric, and
    where several are reported the layer and the setting, of the figure that represents it:
    {"metric": "auroc", "layer": "h", "score": "knn"}; it is fixed before any figure is there.
    ``axis`` is the number in the setting against which a curve is drawn, if there is one.
    ``needs``: fields of the benchmark that must not be empty ("outliers"); ``needs_labels``: False
    where it reads no label of the training and test images; ``default``: whether it is one of the
    protocols that are run unless others are named. Raises InvalidValue.

    >>> sharpest = Protocol(name="sharpest", title="Sharpest", question="Whose features are wide?",
    ...     evaluate=lambda benchmark: [], headline={"metric": "rankme"})
    >>> sharpest.description["headline"]
    {'metric': 'rankme', 'layer': 'h'}
    """

    name: str
    title: str
    question: str
    evaluate: Callable[[Benchmark], list[Result]]
    headline: Mapping[str, Any] = field(default_factory=lambda: {"metric": "accuracy"})
    axis: str = ""
    needs: tuple[str, ...] = ()
    needs_labels: bool = True
    default: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9-]*", self.name):
            raise InvalidValue(
                f"`name` is {self.name!r}; expected small letters, digits and hyphens."
            )

    @property
    def description(self) -> dict[str, Any]:
        """What a file of results says of its protocol: title, question, headline and axis."""
        headline = {"metric": "accuracy", "layer": "h", **self.headline}
        return {
            "title": self.title, "question": self.question, "headline": headline, "axis": self.axis,
        }  # fmt: skip
