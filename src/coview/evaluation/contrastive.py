"""How often a network finds the other view of an image: the task that it was trained for."""

from __future__ import annotations

from itertools import product

from coview.core.errors import DataError
from coview.core.rng import CONTRASTIVE_IMAGES, Stream, drawn_rows
from coview.embeddings.geometry import instance_hits
from coview.evaluation.benchmark import Benchmark
from coview.evaluation.label_free import two_views
from coview.evaluation.protocol import Protocol
from coview.evaluation.result import Result
from coview.evaluation.statistics import wilson_interval

MAX_IMAGES = 4_096
"""The number of images in SimCLR's batch, among which it finds the other view (table 5)."""
SIMILARITIES = ("cosine", "dot product")


def evaluate_contrastive(benchmark: Benchmark) -> list[Result]:
    """The contrastive accuracy of each subject and layer, on at most 4,096 test images.

    It is the share of first views whose nearest second view is of the same image: by cosine, and by
    the dot product, which a loss without normalization compares. The
    views are the first two that the subject was trained with, drawn anew; SimCLR's, where they are
    not known or there is one. So it compares runs of one kind of views, or asks how well each has
    learned its own task. No label enters. A setting is {"images", "views", "similarity"}. Raises
    DataError for fewer than 2 images. Source: Chen et al., SimCLR, 2020, table 5 and section 3.1.

    >>> import numpy as np
    >>> from coview.core.images import store_from_arrays
    >>> from coview.evaluation import make_benchmark, pixel_subject
    >>> noise = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), np.uint8)
    >>> store = store_from_arrays(noise, labels=np.arange(20) % 2)
    >>> result, _ = evaluate_contrastive(make_benchmark([pixel_subject(8)], store))
    >>> result.metric, dict(result.setting)
    ('instance_accuracy', {'images': 4, 'views': "SimCLR's", 'similarity': 'cosine'})
    """
    test = benchmark.test
    rows = drawn_rows(
        benchmark.seed, Stream.PROBE, test.ids, MAX_IMAGES, draw_index=CONTRASTIVE_IMAGES
    )
    images = test.subset(rows)
    if len(images) < 2:
        raise DataError("The contrastive accuracy compares images, and the test part has one.")
    card = {
        **benchmark.card,
        "images": f"at most {MAX_IMAGES:,} test images, chosen by seed and id",
        "views": "the first two of the subject's training, or two of SimCLR's where it has none; "
        "drawn by seed and id",
        "contrastive accuracy": "share of first views whose nearest second view, by cosine or by "
        "the dot product, is of the same image; chance: 1 / images",
    }
    results = []
    for subject in benchmark.subjects:
        first, second = two_views(subject, images, benchmark, subject.views)
        setting = {
            "images": len(images), "views": "SimCLR's" if subject.views is None else "its own"
        }  # fmt: skip
        for layer, similarity in product(subject.layers, SIMILARITIES):
            hits = instance_hits(first[layer], second[layer], by_cosine=similarity == "cosine")
            value = float(hits.mean())
            results.append(
                Result(
                    protocol="contrastive", subject=subject.name, layer=layer,
                    metric="instance_accuracy", value=value,
                    interval=wilson_interval(value, len(images)), test_images=len(images),
                    setting={**setting, "similarity": similarity}, card=card,
                )
            )  # fmt: skip
    return results


CONTRASTIVE = Protocol(
    name="contrastive", title="Contrastive accuracy", evaluate=evaluate_contrastive,
    question="How often is the other view of an image the nearest of all?",
    headline={"metric": "instance_accuracy", "layer": "z", "similarity": "cosine"},
    needs_labels=False,
)  # fmt: skip
