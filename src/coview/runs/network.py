"""The networks of a run: as they were before the first step, and as they are now."""

from __future__ import annotations

import torch

from coview.core.errors import RunError
from coview.core.progress import say
from coview.core.ranks import ALONE, Ranks
from coview.encoders import load_weights
from coview.methods import Learner
from coview.recipes import Recipe
from coview.runs.run import Run
from coview.training import Checkpoints, Precision, choose_precision
from coview.training.state import TASK


def build(
    recipe: Recipe,
    weights: str | None = None,
    *,
    total_steps: int | None = None,
    ranks: Ranks = ALONE,
) -> Learner:
    """The learner of ``recipe`` before the first step; the same seed gives the same bytes.

    ``weights`` replace the encoder's first values: an encoder folder, a run, or safetensors.
    """
    encoder = recipe.encoder.build(seed=recipe.seed)
    if weights is not None:
        load_weights(encoder, weights)
    return Learner(
        recipe.method, encoder, head_seed=recipe.seed, total_steps=total_steps,
        passes=recipe.passes, ranks=ranks,
    )  # fmt: skip


def precision_of(recipe: Recipe, learner: Learner, device: torch.device) -> Precision:
    """What the recipe's precision means on ``device``, for its network and the sizes of its views.

    ``learner`` is the recipe's, still on the CPU. Raises UnknownName, InvalidValue.
    """
    sizes = [view.size for view in recipe.method.views.views]
    return choose_precision(recipe.precision, device, network=learner.encoder, sizes=sizes)


def trained(run: Run) -> Learner:
    """The learner of ``run`` after its last verified checkpoint. Raises RunError, DamagedFile."""
    checkpoint = Checkpoints(run.path / "checkpoints").load_latest()
    if checkpoint is None:
        raise RunError(f"{run.path} has no checkpoint yet; go on with: coview resume {run.path}")
    for sentence in checkpoint.damaged:
        say(f"Passed over a damaged checkpoint: {sentence}")
    learner = build(run.recipe)
    state = {n.removeprefix(TASK): t for n, t in checkpoint.tensors.items() if n.startswith(TASK)}
    learner.load_state_dict(state)
    return learner
