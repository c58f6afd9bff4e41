"""The network of a run after its last verified checkpoint."""

from __future__ import annotations

from coview.core.errors import RunError
from coview.core.progress import say
from coview.methods import Learner
from coview.recipes import build
from coview.runs.run import Run
from coview.training import Checkpoints
from coview.training.state import TASK


def trained(run: Run) -> Learner:
    """The learner of ``run`` after its last verified checkpoint. Raises RunError, DamagedFile."""
    checkpoint = Checkpoints(run.checkpoints_path).load_latest()
    if checkpoint is None:
        raise RunError(f"{run.path} has no checkpoint yet; go on with: coview resume {run.path}")
    for sentence in checkpoint.damaged:
        say(f"Passed over a damaged checkpoint: {sentence}")
    learner = build(run.recipe)
    state = {n.removeprefix(TASK): t for n, t in checkpoint.tensors.items() if n.startswith(TASK)}
    learner.load_state_dict(state)
    return learner
