"""The part of the training images on which a protocol chooses its settings."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from coview.core.rng import VALIDATION_IMAGES, Stream, permutation

OFFICIAL = ":val#"
"""In the name of an image of a data set's own validation part, such as "dtd:val#17"."""


def split_validation(ids: Tensor, share: float = 0.2, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """(train, validation) rows of a training part, chosen by seed and image id.

    At least one image is in each. Shapes: ids int64 [N], N >= 2 -> int64 [N - V], [V].

    >>> train, validation = split_validation(torch.arange(10))
    >>> len(train), len(validation)
    (8, 2)
    """
    order = torch.from_numpy(
        permutation(seed, Stream.PROBE, ids.numpy(), draw_index=VALIDATION_IMAGES)
    )
    count = min(max(1, round(share * len(order))), len(order) - 1)
    return order[count:], order[:count]


def official_validation(names: Sequence[str]) -> tuple[Tensor, Tensor] | None:
    """(train, validation) rows where the training images come with a validation part of their own.

    >>> official_validation(["dtd:train#0", "dtd:train#1", "dtd:val#0"])
    (tensor([0, 1]), tensor([2]))
    """
    chosen = torch.tensor([OFFICIAL in name for name in names], dtype=torch.bool)
    if not chosen.any() or chosen.all():
        return None
    return (~chosen).nonzero()[:, 0], chosen.nonzero()[:, 0]
