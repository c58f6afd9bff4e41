"""The same network from scratch: a run of its own inside another, at equal settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from coview.core.progress import say
from coview.core.run_folder import is_run
from coview.core.values import encode
from coview.runs.data import Images
from coview.runs.duration import durations_of
from coview.runs.job import Job, Parts, Session
from coview.runs.run import Run
from coview.runs.session import train_run


def train_from_scratch(job: Job, run: Run, parts: Parts, session: Session, what: str) -> bool:
    """Train the network of ``run`` from random weights on the same images; False where stopped.

    ``what`` completes the line that says so. All processes call this.
    """

    def describe() -> dict[str, Any]:
        nested = {
            "start": None, "caveats": [], "baselines": False, "nested": True, **of_scratch(run),
        }  # fmt: skip
        return {**run.description, **nested}

    sentence = f"The same network from scratch, on the same {what}:"
    return train_baseline(job, run, parts, session, describe, sentence)


def train_baseline(
    job: Job, run: Run, parts: Parts, session: Session, describe: Callable[[], dict[str, Any]],
    sentence: str,
) -> bool:  # fmt: skip
    """Train the baseline of ``run`` as a run inside it; False where stopped, True without one.

    ``describe`` gives its run.json where it has none yet. All processes call this.
    """
    if not run.description["baselines"]:
        return True
    baseline = Run(run.scratch_path)
    if session.ranks.is_main and not is_run(baseline.path):
        baseline.write_description(describe())
    session.ranks.barrier()
    if not baseline.is_ended:
        say(sentence, detail=True)
        train_run(job, baseline, Images(parts.training, parts.held_out), session, parts)
    return baseline.is_ended


def baseline_of(run: Run) -> Run | None:
    """The ended baseline of ``run``; None where it has none, or the baseline has diverged."""
    if not run.description["baselines"]:
        return None
    baseline = Run(run.scratch_path)
    verdict = baseline.verdict
    if verdict is None or verdict["label"] == "collapsed":
        say("The baseline has diverged, so that there is no figure of it to compare with.")
        return None
    return baseline


def of_scratch(run: Run) -> dict[str, Any]:
    """The duration of the same network from scratch: the steps that ``run`` has made, or fewer
    where the budget ends before."""
    steps = run.total_steps
    last = replace(durations_of(run.description)[-1], step=0, total_steps=steps, most_steps=steps)
    return {"total_steps": steps, "durations": [encode(last)]}
