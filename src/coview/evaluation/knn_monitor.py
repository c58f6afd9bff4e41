"""A cheap look during training. Never a result: a small sample, one setting, one tap."""

from __future__ import annotations

import torch
from torch import nn

from coview.core.images import ImageStore
from coview.core.rng import Stream, permutation
from coview.evaluation.features import extract, labeled
from coview.evaluation.knn import knn_accuracy
from coview.views import ViewSpec

ONLINE_K, BANK, QUERIES = 10, 5_000, 1_000
SAMPLE = 0
"""Word of the probe's keyed draws for this sample."""


def knn_monitor(
    encoder: nn.Module,
    bank: ImageStore,
    queries: ImageStore,
    view: ViewSpec,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    batch: int = 256,
    threads: int = 1,
) -> float:
    """Accuracy of the plain vote of 10 neighbors on h, for samples keyed by seed and image id.

    At most 1,000 labeled queries against 5,000 labeled images of the bank; the same at every
    call. The encoder's training flags and weights are as before. Raises DataError without labels.
    """
    seen, asked = (
        extract(encoder, None, sample(store, limit, seed), view,
                device=device, batch=batch, threads=threads)
        for store, limit in ((bank, BANK), (queries, QUERIES))
    )  # fmt: skip
    assert seen.labels is not None
    assert asked.labels is not None
    return knn_accuracy(
        seen.taps["h"], seen.labels, asked.taps["h"], asked.labels, k=ONLINE_K, temperature=None
    )


def sample(store: ImageStore, limit: int, seed: int) -> ImageStore:
    """At most ``limit`` labeled images, chosen by seed and id. Raises DataError without labels."""
    known = labeled(store, "The online kNN")
    return known.subset(permutation(seed, Stream.PROBE, known.ids, draw_index=SAMPLE)[:limit])
