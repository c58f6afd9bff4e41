"""A cheap kNN accuracy during training. Never a result: a small sample, one setting, one layer."""

from __future__ import annotations

import torch
from torch import nn

from coview.core.images import ImageStore
from coview.core.rng import Stream, permutation
from coview.evaluation.features import extract, labeled
from coview.evaluation.knn import knn_accuracy
from coview.evaluation.subject import Subject
from coview.views import ViewSpec

K, MAX_BANK, MAX_QUERIES = 10, 5_000, 1_000
SAMPLE = 0
"""The `epoch` of the keyed draw of the sample."""


def knn_monitor(
    encoder: nn.Module, bank: ImageStore, queries: ImageStore, view: ViewSpec, *, seed: int = 0,
    device: torch.device | str = "cpu",
) -> float:  # fmt: skip
    """Accuracy in [0, 1] of the unweighted vote of 10 neighbors on h.

    At most 1,000 labeled queries and 5,000 labeled images of the bank, chosen by seed and image
    id: the same at every call. Leaves weights and training flags as they were. Raises DataError
    without labels.

    >>> import numpy as np
    >>> from coview.core.images import store_from_arrays
    >>> from coview.views import eval_view
    >>> colors = np.eye(3, dtype=np.uint8)[np.arange(20) % 2, None, None] * 255
    >>> store = store_from_arrays(np.tile(colors, (8, 8, 1)), labels=np.arange(20) % 2)
    >>> knn_monitor(nn.Flatten(), store, store, eval_view(8))
    1.0
    """
    subject = Subject(name="knn", encoder=encoder, view=view)
    known, unknown = (
        extract(subject, sample(store, limit, seed), device=device)
        for store, limit in ((bank, MAX_BANK), (queries, MAX_QUERIES))
    )
    assert known.labels is not None
    assert unknown.labels is not None
    return knn_accuracy(
        known.layers["h"], known.labels, unknown.layers["h"], unknown.labels, k=K, temperature=None
    )


def sample(store: ImageStore, limit: int, seed: int) -> ImageStore:
    """At most ``limit`` labeled images, chosen by seed and id. Raises DataError without labels."""
    store = labeled(store, "The kNN monitor")
    return store.subset(permutation(seed, Stream.PROBE, store.ids, draw_index=SAMPLE)[:limit])
