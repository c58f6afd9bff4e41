"""The same network from scratch: a run of its own inside another, at equal settings."""

from __future__ import annotations

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
    if not run.description["baselines"]:
        return True
    scratch = Run(run.scratch_path)
    if session.ranks.is_main and not is_run(scratch.path):
        scratch.write_description(
            {
                **run.description,
                "start": None,
                "baselines": False,
                "nested": True,
                **of_scratch(run),
            }
        )
    session.ranks.barrier()
    if not scratch.is_ended:
        say(f"The same network from scratch, on the same {what}:", detail=True)
        train_run(job, scratch, Images(parts.training, parts.held_out), session, parts)
    return scratch.is_ended


def of_scratch(run: Run) -> dict[str, Any]:
    """The duration of the same network from scratch: the steps that ``run`` has made, or fewer
    where the budget ends before."""
    steps = run.total_steps
    last = replace(durations_of(run.description)[-1], step=0, total_steps=steps, most_steps=steps)
    return {"total_steps": steps, "durations": [encode(last)]}
