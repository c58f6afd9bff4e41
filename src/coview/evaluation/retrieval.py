"""Retrieval: whether the images that are nearest to a query are of its class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from coview.core.errors import DataError
from coview.core.rng import RETRIEVAL_QUERIES, Stream, drawn_rows
from coview.embeddings.neighbors import CHUNK_NUMBERS
from coview.evaluation.benchmark import Benchmark, labels_of
from coview.evaluation.features import Subject
from coview.evaluation.protocol import Protocol
from coview.evaluation.result import Outcomes, Result
from coview.evaluation.statistics import bootstrap_interval, wilson_interval, with_width

KS = (1, 5, 10)
MAX_TRAIN_QUERIES = 2_000
"""Of a larger test part so many images are the queries among the training images."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ranking:
    """What the ranking of a gallery gave each query.

    hits: bool [M, K], an image of the query's class among the first k, for each of K numbers.
    precision: float64 [M], the average precision. known: bool [M], whether the gallery has another
    image of the class; the rows of other queries mean nothing.
    """

    hits: Tensor
    precision: Tensor
    known: Tensor


def evaluate_retrieval(benchmark: Benchmark) -> list[Result]:
    """Recall at 1, 5 and 10 and mean average precision for each subject, layer and gallery.

    A setting is {"gallery"} or {"gallery", "k"}: test images are ranked for every other test
    image, and training images for at most 2,000 test images. Raises DataError where no query has
    another image of its class.

    >>> from coview.core.images import store_from_arrays
    >>> from coview.evaluation import make_benchmark, pixel_subject
    >>> colors = np.eye(3, dtype=np.uint8)[np.arange(20) % 2, None, None] * 255
    >>> store = store_from_arrays(np.tile(colors, (8, 8, 1)), labels=np.arange(20) % 2)
    >>> results = evaluate_retrieval(make_benchmark([pixel_subject(8)], store))
    >>> [(result.metric, result.value) for result in results[:2]]
    [('mean_average_precision', 1.0), ('recall_at_k', 1.0)]
    """
    card = {
        **benchmark.card,
        "ranking": "all images of the gallery but the query itself, by cosine; of equal cosines an "
        "image of another class comes first",
        "queries": "all test images among the other test images; at most "
        f"{MAX_TRAIN_QUERIES:,} test images, chosen by seed and id, among the training images; "
        "those without another image of their class in the gallery are left out",
        "interval": "Wilson's of a recall; bootstrap over queries of the mean average precision",
    }
    chosen = _train_queries(benchmark)
    results = []
    for subject in benchmark.subjects:
        train, test = benchmark.features[subject.name]
        for layer, vectors in test.layers.items():
            truth = labels_of(test)
            among_test = rank_gallery(
                vectors, truth, vectors, truth, exclude=torch.arange(len(vectors))
            )
            among_train = rank_gallery(
                vectors[chosen], truth[chosen], train.layers[layer], labels_of(train)
            )
            for gallery, ranking in (("test", among_test), ("train", among_train)):
                results += _results(benchmark, subject, layer, gallery, ranking, card)
    return results


def rank_gallery(
    queries: Tensor, query_labels: Tensor, gallery: Tensor, gallery_labels: Tensor, *,
    exclude: Tensor | None = None,
) -> Ranking:  # fmt: skip
    """Rank the gallery for each query by cosine.

    ``exclude`` int64 [M]: one row of the gallery for each query that is left out, the query itself.
    Cosines count as equal below about 5e-7. Shapes: queries [M, D], gallery [N, D], labels int64.

    >>> rows, labels = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]), torch.tensor([0, 0, 1])
    >>> ranking = rank_gallery(rows, labels, rows, labels, exclude=torch.arange(3))
    >>> ranking.known, ranking.precision[:2]
    (tensor([ True,  True, False]), tensor([1., 1.], dtype=torch.float64))
    """
    queries, gallery = normalize(queries.float(), dim=1), normalize(gallery.float(), dim=1)
    chunk = max(1, CHUNK_NUMBERS // len(gallery))
    places = torch.arange(1, len(gallery) + 1, dtype=torch.float32)
    hits, precisions, known = [], [], []
    for start in range(0, len(queries), chunk):
        part = slice(start, start + chunk)
        cosines = queries[part] @ gallery.T
        relevant = query_labels[part, None] == gallery_labels
        if exclude is not None:
            cosines.scatter_(1, exclude[part, None], -1.5)  # behind all others
            relevant.scatter_(1, exclude[part, None], False)
        ordered = _by_rank(cosines, relevant)
        total = ordered.sum(1)
        precision = ordered.cumsum(1, dtype=torch.float32).div_(places).mul_(ordered)
        precisions.append(precision.sum(1, dtype=torch.float64) / total.clamp_min(1))
        hits.append(torch.stack([ordered[:, :k].any(1) for k in KS], dim=1))
        known.append(total > 0)
    return Ranking(hits=torch.cat(hits), precision=torch.cat(precisions), known=torch.cat(known))


def _by_rank(cosines: Tensor, relevant: Tensor) -> Tensor:
    """Relevance in the order of falling cosines: bool [M, N].

    Positive floats order as their bits do. The lowest bit of cosine + 2 gives way to the relevance,
    so that one sort of integers orders both.
    """
    keys = (cosines + 2).view(torch.int32).bitwise_and_(-2).bitwise_or_(~relevant)
    numbers = keys.numpy()
    numbers.sort(axis=1)
    return torch.from_numpy(np.ascontiguousarray(numbers[:, ::-1])).bitwise_and_(1) == 0


def _train_queries(benchmark: Benchmark) -> Tensor:
    ids = benchmark.test.ids
    rows = drawn_rows(
        benchmark.seed, Stream.PROBE, ids, MAX_TRAIN_QUERIES, draw_index=RETRIEVAL_QUERIES
    )
    return torch.from_numpy(rows)


def _results(
    benchmark: Benchmark, subject: Subject, layer: str, gallery: str, ranking: Ranking,
    card: dict[str, object],
) -> list[Result]:  # fmt: skip
    precision = ranking.precision[ranking.known].numpy()
    hits = ranking.hits[ranking.known].numpy()
    count = len(precision)
    if count == 0:
        raise DataError(
            f"No test image has another image of its class among the {gallery} images, so that "
            "there is nothing to retrieve; give two or more images of a class."
        )
    where: dict[str, Any] = {
        "subject": subject.name,
        "layer": layer,
        "protocol": "retrieval",
        "card": card,
    }
    value = float(precision.mean())
    interval = bootstrap_interval(
        lambda rows: float(precision[rows].mean()), count, seed=benchmark.seed
    )
    results = [
        Result(
            metric="mean_average_precision", value=value, test_images=count,
            interval=with_width(interval, count),
            setting={"gallery": gallery}, **where,
        )
    ]  # fmt: skip
    whole = count == len(benchmark.test)
    for column, k in enumerate(KS):
        share = float(hits[:, column].mean())
        results.append(
            Result(
                metric="recall_at_k", value=share, interval=wilson_interval(share, count),
                test_images=count, setting={"gallery": gallery, "k": k},
                outcomes=Outcomes.of(hits[:, column]) if whole else None, **where,
            )
        )  # fmt: skip
    return results


RETRIEVAL = Protocol(
    name="retrieval", title="Retrieval", evaluate=evaluate_retrieval,
    question="Are the images that are nearest to an image of its class?",
    headline={"metric": "mean_average_precision", "gallery": "test"},
)  # fmt: skip
