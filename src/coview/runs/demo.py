"""The first run: built-in images, no network, no GPU, a few minutes."""

from __future__ import annotations

from pathlib import Path

from coview.core.progress import say
from coview.runs.pretrain import pretrain
from coview.runs.run import Run
from coview.runs.use import evaluate

# So few that raw pixels seldom find a near copy among them.
NEIGHBORS = 4_000


def demo(*, out: str | Path = "runs/demo", seed: int = 0) -> Run:
    """Learn from the built-in scenes without labels, then judge with the labels of other scenes."""
    say("Coview learns from 10,000 small drawn scenes without looking at their labels.")
    run = pretrain("scenes", recipe="simclr-demo", out=out, seed=seed)
    assert run is not None
    if run.is_ended:
        evaluate(run.path, "scenes", test="scenes:test", limit=NEIGHBORS)
        say(f"Open the report: {run.report_path}")
    return run
