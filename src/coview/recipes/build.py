"""The network of a recipe before the first step, and the precision that it is trained in."""

from __future__ import annotations

import torch

from coview.core.ranks import SINGLE_PROCESS, Ranks
from coview.encoders import load_weights
from coview.methods import Learner
from coview.recipes.recipe import Recipe
from coview.training import Precision, choose_precision


def build(
    recipe: Recipe,
    weights: str | None = None,
    *,
    total_steps: int | None = None,
    ranks: Ranks = SINGLE_PROCESS,
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
