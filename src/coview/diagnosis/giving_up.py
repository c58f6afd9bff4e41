"""Whether a run goes on for nothing: it has collapsed, and its method does not leave that state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from coview.diagnosis.evidence import MATCHED
from coview.diagnosis.health import HealthFigures
from coview.diagnosis.rules import ALIKE, CONSTANT_STD
from coview.diagnosis.run_checks import diagnose_rows, has_negatives, health_history
from coview.diagnosis.state import Diagnosis

REPORTS = 2  # in a row


def lost_since(
    description: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], *, total_steps: int,
    after: int,
) -> list[int]:  # fmt: skip
    """The steps of the last reports, all of them after step ``after``, at which the run was lost.

    ``description`` is run.json, ``rows`` the lines of metrics.jsonl. At most two; empty where the
    last report says anything else. Which figures count, and the runs by which they were chosen:
    docs/decisions/0023.
    """
    history, found = health_history(rows), list[int]()
    for step in sorted((step for step in history if step > after), reverse=True)[:REPORTS]:
        if not is_one_point(history[step], negatives=has_negatives(description)):
            break
        so_far = [row for row in rows if int(row["step"]) <= step]
        if diagnose_rows(description, so_far, total_steps=total_steps).label != "collapsed":
            break
        found.insert(0, step)
    return found


def is_one_point(figures: HealthFigures, *, negatives: bool) -> bool:
    """Whether nothing will move the embeddings apart.

    A layer whose output is constant passes no gradient, whatever the objective. Embeddings that are
    nearly the same are driven apart by negatives: SimCLR starts so, and learns.
    """
    if figures.feature_std_z <= CONSTANT_STD:
        return True
    unmatched = figures.separation <= MATCHED and figures.mean_negative_similarity >= ALIKE
    return unmatched and not negatives


def given_up(diagnosis: Diagnosis, *, total_steps: int) -> Diagnosis:
    """``diagnosis`` of a run that was stopped before its last step."""
    words = f" The run was stopped at step {diagnosis.step:,} of {total_steps:,}."
    return replace(diagnosis, sentence=diagnosis.sentence + words)
