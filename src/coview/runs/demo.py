"""The first run: built-in images, no network, no GPU, a few minutes."""

from __future__ import annotations

from coview.core.options import takes
from coview.core.progress import say
from coview.options import DemoOptions
from coview.runs.evaluate import evaluate
from coview.runs.pretrain import pretrain
from coview.runs.run import Run

# So few that raw pixels seldom find a near copy among them.
LABELED_IMAGES = 4_000


@takes(DemoOptions)
def demo(options: DemoOptions) -> Run:
    """Learn from the built-in scenes without labels, then judge with the labels of other scenes.

    >>> run = demo()  # doctest: +SKIP
    """
    say(
        "Coview learns from 10,000 small drawn scenes without looking at their labels.", detail=True
    )
    run = pretrain("scenes", recipe="simclr-demo", out=options.out, seed=options.seed)
    assert isinstance(run, Run)
    if run.is_ended:
        evaluate(run.path, "scenes", test="scenes:test", limit=LABELED_IMAGES)
        say(f"Open the report: {run.report_path}")
    return run
