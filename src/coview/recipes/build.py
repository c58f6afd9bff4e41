"""The network of a recipe before the first step, and the precision that it is trained in."""

from __future__ import annotations

from typing import cast

import torch

from coview.core.ranks import SINGLE_PROCESS, Ranks
from coview.encoders import Encoder
from coview.methods import Learner
from coview.recipes.recipe import Recipe
from coview.recipes.start import HeadedEncoder, Start, load_start, with_kept_head
from coview.training import Precision, choose_precision


def build(
    recipe: Recipe, start: Start | None = None, *, total_steps: int | None = None,
    ranks: Ranks = SINGLE_PROCESS,
) -> Learner:  # fmt: skip
    """The learner of ``recipe`` before the first step; the same seed gives the same bytes.

    ``start`` replaces the encoder's first values. Raises InvalidValue, RunError or DamagedFile
    where its weights do not fit or cannot be read.

    >>> from coview.recipes import change, recipe
    >>> build(change(recipe("simclr-cpu"), encoder="resnet10/8-medium")).head.widths
    (64, 256, 64)
    """
    encoder: Encoder | HeadedEncoder = recipe.encoder.build(seed=recipe.seed)
    if recipe.kept_head is not None:
        encoder = with_kept_head(cast(Encoder, encoder), recipe.kept_head, recipe.seed)
    if start is not None:
        load_start(encoder, start)
    return Learner(
        recipe.method, cast(Encoder, encoder), head_seed=recipe.seed, total_steps=total_steps,
        passes=recipe.passes, ranks=ranks,
    )  # fmt: skip


def precision_of(recipe: Recipe, learner: Learner, device: torch.device) -> Precision:
    """What the recipe's precision means on ``device``, for its network and the sizes of its views.

    ``learner`` is the recipe's, still on the CPU. Raises UnknownName, InvalidValue.
    """
    sizes = [view.size for view in recipe.method.views.views]
    return choose_precision(recipe.precision, device, network=learner.encoder, sizes=sizes)
