"""Figures of a representation that need no labels, on the test images."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import normalize

from coview.core.errors import DataError
from coview.core.eval_mode import eval_mode
from coview.core.images import ImageStore
from coview.core.rng import LABEL_FREE_IMAGES, Stream, drawn_rows
from coview.embeddings.geometry import (
    effective_rank,
    instance_hits,
    pair_distances,
    rank_me,
    uniformity,
)
from coview.evaluation.benchmark import Benchmark
from coview.evaluation.features import Subject, embed_views
from coview.evaluation.protocol import Protocol
from coview.evaluation.result import Result
from coview.evaluation.statistics import RESAMPLES, bootstrap_interval, wilson_interval
from coview.views import ViewPlan, simclr_views

MAX_IMAGES = 2_048

Scored = tuple[float, tuple[float, float]]
"""A figure and its 95 % interval."""


def evaluate_label_free(benchmark: Benchmark) -> list[Result]:
    """RankMe, alignment, uniformity and instance accuracy for each subject and layer.

    On at most 2,048 test images, and for alignment and instance accuracy on two views of each. No
    label enters. A setting is {"images"}. Raises DataError for fewer than 2 images.

    >>> from coview.core.images import store_from_arrays
    >>> from coview.evaluation import make_benchmark, pixel_subject
    >>> noise = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), np.uint8)
    >>> store = store_from_arrays(noise, labels=np.arange(20) % 2)
    >>> results = evaluate_label_free(make_benchmark([pixel_subject(8)], store))
    >>> [result.metric for result in results]
    ['rankme', 'alignment', 'uniformity', 'instance_accuracy']
    """
    test = benchmark.test
    rows = drawn_rows(
        benchmark.seed, Stream.PROBE, test.ids, MAX_IMAGES, draw_index=LABEL_FREE_IMAGES
    )
    images = test.subset(rows)
    if len(images) < 2:
        raise DataError("Figures without labels compare images, and the test part has one.")
    card = {
        **benchmark.card,
        "images": f"at most {MAX_IMAGES:,} test images, chosen by seed and id",
        "views": "two of SimCLR's augmentation at the size of the subject, the same for every "
        "subject of a size, drawn by seed and id",
        "normalization": "every vector to unit length; not centered",
        "rankme": "exp(entropy) of the singular values, of the images without augmentation "
        "(Garrido et al. 2023); at most the smaller of images and width",
        "alignment and uniformity": "Wang and Isola 2020, with exponents 2 and t = 2; uniformity "
        "of the images without augmentation",
        "instance accuracy": "share of first views whose nearest second view, by cosine, is of the "
        "same image; chance: 1 / images",
        "interval": "bootstrap over images, of RankMe with the singular vectors held fixed; "
        "Wilson's of the instance accuracy",
    }
    results = []
    for subject in benchmark.subjects:
        features = benchmark.features_of(subject, benchmark.test)
        first, second = two_views(subject, images, benchmark)
        for layer, vectors in features.layers.items():
            figures = label_free_figures(
                vectors[torch.from_numpy(rows)], first[layer], second[layer], seed=benchmark.seed
            )
            results += [
                Result(
                    protocol="label-free", subject=subject.name, layer=layer, metric=metric,
                    value=value, interval=interval, test_images=len(rows),
                    setting={"images": len(rows)}, card=card,
                )
                for metric, (value, interval) in figures.items()
            ]  # fmt: skip
    return results


def two_views(
    subject: Subject, images: ImageStore, benchmark: Benchmark, plan: ViewPlan | None = None
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The subject's layers of the two views of ``plan``, by default two of SimCLR's, of every
    image: float32 [N, D] by layer, twice."""
    view = subject.view
    plan = plan or simclr_views(view.size, mean=view.mean, std=view.std)
    modules = [subject.encoder] if subject.head is None else [subject.encoder, subject.head]
    with eval_mode(*modules):
        first, second = embed_views(
            lambda views: subject.outputs(views.to(benchmark.device), subject.layers), images,
            plan, seed=benchmark.seed, device=benchmark.device, batch_size=benchmark.batch_size,
            label=f"{subject.name} views",
        )  # fmt: skip
    one, two = (dict(zip(subject.layers, view, strict=True)) for view in (first, second))
    return one, two


def label_free_figures(
    images: Tensor, first: Tensor, second: Tensor, *, seed: int = 0
) -> dict[str, Scored]:
    """The four figures of one layer by metric, each with its interval. Shapes: [N, D], N >= 2.

    >>> rows = torch.eye(4)
    >>> value, (low, high) = label_free_figures(rows, rows, rows)["instance_accuracy"]
    >>> value, round(low, 2), high
    (1.0, 0.51, 1.0)
    """
    images = normalize(images, dim=1)
    distances, hits = pair_distances(first, second).numpy(), instance_hits(first, second).numpy()
    share = float(hits.mean())
    counts = _resampled_counts(len(images), seed)
    return {
        "rankme": _around(rank_me(images), resampled_ranks(images, counts)),
        "alignment": _mean(distances, seed),
        "uniformity": _around(uniformity(images), resampled_uniformity(images, counts)),
        "instance_accuracy": (share, wilson_interval(share, len(hits))),
    }


def resampled_ranks(rows: Tensor, counts: Tensor) -> Tensor:
    """RankMe of resamples: rows [N, D], how often each is drawn [N, R] -> float64 [R].

    The square of a singular value is the sum of the squares of the rows along its vector. With the
    vectors held fixed that of a resample is the sum over the drawn rows.
    """
    wide = rows.double()
    if rows.shape[0] >= rows.shape[1]:
        squares = (wide @ torch.linalg.eigh(wide.T @ wide).eigenvectors).square()
    else:
        values, vectors = torch.linalg.eigh(wide @ wide.T)
        squares = vectors.square() * values.clamp_min(0)
    return effective_rank(counts.double().T @ squares)


def resampled_uniformity(rows: Tensor, counts: Tensor) -> Tensor:
    """Uniformity of resamples, over pairs of two images: [N, D], [N, R] -> float64 [R]."""
    unit = normalize(rows.float(), dim=1)
    near = (4 * (unit @ unit.T) - 4).exp().fill_diagonal_(0)
    counts = counts.float()
    total = (counts * (near @ counts)).sum(0, dtype=torch.float64)
    pairs = len(rows) ** 2 - counts.double().square().sum(0)
    return (total / pairs).log()


def _resampled_counts(count: int, seed: int) -> Tensor:
    """How often each image is in each resample, [N, RESAMPLES]: that of bootstrap_interval."""
    generator = np.random.default_rng(seed)
    draws = [
        np.bincount(generator.integers(0, count, count), minlength=count) for _ in range(RESAMPLES)
    ]
    return torch.from_numpy(np.stack(draws, axis=1))


def _mean(values: npt.NDArray[np.float64], seed: int) -> Scored:
    value = float(values.mean())
    low, high = bootstrap_interval(lambda rows: float(values[rows].mean()), len(values), seed=seed)
    return value, (min(low, value), max(high, value))


def _around(value: float, resampled: Tensor) -> Scored:
    """A figure and the percentiles of its resamples, widened to hold it."""
    finite = resampled[resampled.isfinite()]
    if not math.isfinite(value) or len(finite) == 0:
        return value, (-math.inf, math.inf)
    low, high = (float(x) for x in np.percentile(finite.numpy(), [2.5, 97.5]))
    return value, (min(low, value), max(high, value))


LABEL_FREE = Protocol(
    name="label-free", title="Label-free figures", evaluate=evaluate_label_free,
    question="How many directions do the features use, and do two views of an image meet?",
    headline={"metric": "rankme"}, needs_labels=False,
)  # fmt: skip
