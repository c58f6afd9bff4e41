"""Clustering: whether k-means finds the classes without a label."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.nn.functional import normalize

from coview.core.errors import DataError
from coview.evaluation.benchmark import Benchmark, labels_of
from coview.evaluation.protocol import Protocol
from coview.evaluation.result import Result
from coview.evaluation.statistics import normal_interval, with_width

STARTS = 10

Table = npt.NDArray[np.float64]
"""How many images each cluster (row) has of each class (column)."""


def evaluate_clustering(benchmark: Benchmark) -> list[Result]:
    """NMI, ARI and accuracy of k-means on the test images, for each subject and layer.

    There are as many clusters as the test part has classes: {"clusters"} in the setting. Raises
    DataError with fewer than 2 classes.

    >>> from coview.core.images import store_from_arrays
    >>> from coview.evaluation import make_benchmark, pixel_subject
    >>> colors = np.eye(3, dtype=np.uint8)[np.arange(40) % 2, None, None] * 255
    >>> store = store_from_arrays(np.tile(colors, (8, 8, 1)), labels=np.arange(40) % 2)
    >>> results = evaluate_clustering(make_benchmark([pixel_subject(8)], store))
    >>> [(result.metric, round(result.value, 6)) for result in results]
    [('cluster_accuracy', 1.0), ('nmi', 1.0), ('ari', 1.0)]
    """
    card = {
        **benchmark.card,
        "clusters": "k-means of scikit-learn on the test features at unit length, the best of "
        f"{STARTS} starts by its own objective; as many clusters as classes, which is knowledge "
        "of the labels",
        "accuracy": "clusters are matched with classes one to one, so that most images agree "
        "(Hungarian method)",
        "nmi": "normalized by the arithmetic mean of both entropies",
        "interval": "1.96 standard errors to each side, by a bootstrap over the test images of one "
        "clustering; it does not cover the starts",
    }
    results = []
    for subject in benchmark.subjects:
        features = benchmark.features_of(subject, benchmark.test)
        names, classes = np.unique(labels_of(features).numpy(), return_inverse=True)
        if len(names) < 2:
            raise DataError(f"Clustering needs at least 2 classes; the test part has {len(names)}.")
        for layer, vectors in features.layers.items():
            clusters = cluster(vectors, len(names), seed=benchmark.seed)
            for metric, value, interval in clustering_scores(clusters, classes, benchmark.seed):
                results.append(Result(
                    protocol="clustering", subject=subject.name, layer=layer, metric=metric,
                    value=value, interval=interval, test_images=len(classes),
                    setting={"clusters": len(names)}, card=card,
                ))  # fmt: skip
    return results


def cluster(vectors: Tensor, count: int, *, seed: int = 0) -> npt.NDArray[np.int64]:
    """The cluster of each row at unit length, int64 [N] in 0 .. count-1, by k-means.

    >>> import torch
    >>> len(set(cluster(torch.eye(3).repeat(5, 1), 3).tolist()))
    3
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    model = KMeans(n_clusters=count, n_init=STARTS, random_state=seed % 2**32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct rows than clusters
        found = model.fit_predict(normalize(vectors, dim=1).numpy())
    return np.asarray(found, np.int64)


def clustering_scores(
    clusters: npt.NDArray[np.int64], classes: npt.NDArray[np.int64], seed: int = 0
) -> list[tuple[str, float, tuple[float, float]]]:
    """(metric, value, 95 % interval) of accuracy, NMI and ARI. Shapes: int64 [N] from 0 each.

    >>> labels = np.arange(30) % 3
    >>> [(metric, value) for metric, value, _ in clustering_scores(2 - labels, labels)]
    [('cluster_accuracy', 1.0), ('nmi', 1.0), ('ari', 1.0)]
    """
    shape = int(clusters.max()) + 1, int(classes.max()) + 1
    cells = clusters * shape[1] + classes

    def resampled(score: Callable[[Table], float], rows: npt.NDArray[np.int64]) -> float:
        counts = np.bincount(cells[rows], minlength=shape[0] * shape[1])
        return score(counts.reshape(shape).astype(np.float64))

    scores: list[tuple[str, Callable[[Table], float], float]] = [
        ("cluster_accuracy", matched_share, 0.0), ("nmi", mutual_information, 0.0),
        ("ari", adjusted_rand, -0.5),
    ]  # fmt: skip
    results = []
    for metric, score, least in scores:
        statistic = partial(resampled, score)
        value = statistic(np.arange(len(cells)))
        drawn = normal_interval(statistic, value, len(cells), within=(least, 1.0), seed=seed)
        low, high = with_width(drawn, len(cells))
        results.append((metric, value, (min(low, value), max(high, value))))
    return results


def matched_share(table: Table) -> float:
    """The largest share of images that a one-to-one matching of clusters and classes agrees on.

    >>> matched_share(np.array([[0.0, 3.0], [1.0, 0.0]]))
    1.0
    """
    from scipy.optimize import linear_sum_assignment  # slow to import

    rows, columns = linear_sum_assignment(table, maximize=True)
    return float(table[rows, columns].sum() / table.sum())


def mutual_information(table: Table) -> float:
    """Mutual information of clusters and classes by the mean of their entropies, in 0 .. 1.

    1 where both are constant, as in scikit-learn.

    >>> mutual_information(np.ones((2, 2)))
    0.0
    """
    shares = table / table.sum()
    row, column = shares.sum(1), shares.sum(0)
    entropies = [-float((p[p > 0] * np.log(p[p > 0])).sum()) for p in (row, column)]
    if sum(entropies) == 0:
        return 1.0
    known = shares > 0
    ratio = shares[known] / np.outer(row, column)[known]
    mutual = float((shares[known] * np.log(ratio)).sum())
    return min(1.0, max(0.0, 2 * mutual / sum(entropies)))


def adjusted_rand(table: Table) -> float:
    """The Rand index of clusters and classes, adjusted for chance (Hubert and Arabie 1985).

    1 where both put every image alone or all together, as in scikit-learn.

    >>> adjusted_rand(np.array([[2.0, 0.0], [0.0, 2.0]]))
    1.0
    """
    pairs = [float((n * (n - 1)).sum()) / 2 for n in (table, table.sum(1), table.sum(0))]
    both, in_rows, in_columns = pairs
    count = float(table.sum())
    expected = in_rows * in_columns / (count * (count - 1) / 2) if count > 1 else 0.0
    mean = (in_rows + in_columns) / 2
    return (both - expected) / (mean - expected) if mean != expected else 1.0


CLUSTERING = Protocol(
    name="clustering", title="Clustering", evaluate=evaluate_clustering,
    question="Does k-means find the classes without a label?",
    headline={"metric": "cluster_accuracy"},
)  # fmt: skip
