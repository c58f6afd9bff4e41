"""Groups of vectors at several granularities, one within the other, each named by its images."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import normalize

from coview.core.errors import InvalidValue

GRANULARITIES = (8, 32, 128)
MIN_MEAN_SIZE = 20
"""Images of a cluster on average, below which a granularity of the default is left out."""
FIT_ROWS = 100_000
"""Rows that k-means is fitted to; further ones are assigned to the nearest center."""
CHUNK = 8192

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """One cluster: its number, its size, the rows of its most central images, and its classes.

    ``classes``: (label, share of the labeled images of the cluster), the most frequent first; ()
    where none has a label.
    """

    number: int
    size: int
    central: tuple[int, ...]
    classes: tuple[tuple[int, float], ...] = ()

    def class_sentence(self, class_names: Sequence[str]) -> str:
        """The classes in words; "" where no image has a label.

        >>> cluster = Cluster(number=0, size=6, central=(4,), classes=((1, 0.83), (0, 0.17)))
        >>> cluster.class_sentence(["shirt", "dress"])
        'mostly dress (83\\u202f%)'
        """
        if majority(self.classes) is None:
            return largest_classes(self.classes, class_names)
        return f"mostly {largest_classes(self.classes, class_names, number=1)}"


def granularities(count: int) -> tuple[int, ...]:
    """The numbers of clusters that fit ``count`` images: of 8, 32 and 128 those with 20 in each.

    Fewer than 160 images get one granularity of an eighth of the images, at least 1.

    >>> granularities(50), granularities(1000), granularities(100_000)
    ((6,), (8, 32), (8, 32, 128))
    """
    fitting = tuple(k for k in GRANULARITIES if k * MIN_MEAN_SIZE <= count)
    return fitting or (max(1, count // GRANULARITIES[0]),)


def nested_clusters(rows: Tensor, counts: Sequence[int], *, seed: int = 0) -> dict[int, Rows]:
    """Number of clusters -> the cluster of each row, int64 [N]; 0 is the largest cluster.

    The finest granularity is k-means of scikit-learn on the rows at unit length. Each coarser one
    joins clusters of the next finer by Ward's criterion, weighted by their sizes, so that a cluster
    lies within one cluster of every coarser granularity. Above 100,000 rows k-means is fitted to
    that number of them, drawn by ``seed``. Fewer distinct rows than clusters give fewer clusters.

    Shapes: rows float [N, D], each of ``counts`` in 1 .. N. Raises InvalidValue. Source: Ward,
    "Hierarchical grouping to optimize an objective function", 1963.

    >>> rows = torch.tensor([[1, 0, 0], [1, 0.1, 0], [0, 1, 0], [0, 0.5, 1]]).repeat(2, 1)
    >>> clusters = nested_clusters(rows, (2, 4))
    >>> clusters[4], clusters[2]
    (array([0, 1, 2, 3, 0, 1, 2, 3]), array([0, 0, 1, 1, 0, 0, 1, 1]))
    """
    wrong = [count for count in counts if not 1 <= count <= len(rows)]
    if wrong or not counts:
        raise InvalidValue(
            f"`clusters` is {', '.join(map(str, wrong)) or 'empty'}; expected numbers from 1 to "
            f"{len(rows):,}, the number of images."
        )
    unit = normalize(rows.float(), dim=1)
    finest = kmeans(unit, max(counts), seed=seed)
    sizes = np.bincount(finest).astype(np.float64)
    sums = torch.zeros(len(sizes), unit.shape[1], dtype=torch.float64)
    sums.index_add_(0, torch.from_numpy(finest), unit.double())
    joined = ward(sums.numpy() / sizes[:, None], sizes, counts)
    return {count: largest_first(joined[count][finest]) for count in sorted(joined)}


def kmeans(unit: Tensor, count: int, *, seed: int = 0) -> Rows:
    """The k-means cluster of each row, int64 [N], numbered from 0 without gaps. unit [N, D]."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    sample = unit
    if len(unit) > FIT_ROWS:
        drawn = np.random.default_rng(seed).choice(len(unit), FIT_ROWS, replace=False)
        sample = unit[torch.from_numpy(np.sort(drawn))]
    model = KMeans(n_clusters=min(count, len(sample)), n_init=1, random_state=seed % 2**32)
    # One thread: several would add in an order of their own, and the clusters would change.
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct rows than clusters
        model.fit(sample.numpy())
    centers = torch.from_numpy(np.asarray(model.cluster_centers_, np.float32))
    half = centers.square().sum(1) / 2
    nearest = [
        (unit[start : start + CHUNK] @ centers.T - half).argmax(1)
        for start in range(0, len(unit), CHUNK)
    ]
    return np.unique(torch.cat(nearest).numpy(), return_inverse=True)[1].astype(np.int64)


def ward(means: Floats, sizes: Floats, counts: Sequence[int]) -> dict[int, Rows]:
    """Number of groups -> the group of each mean, int64 [K], by weighted agglomeration.

    Two groups are joined whose union raises the sum of squared distances to the means least:
    n m / (n + m) |a - b|^2. Counts above K give K groups. Shapes: means [K, D], sizes [K].

    >>> ward(np.array([[0.0], [1.0], [9.0]]), np.ones(3), (2,))
    {2: array([0, 0, 1])}
    """
    means, sizes = means.copy(), sizes.astype(np.float64)
    group = np.arange(len(means), dtype=np.int64)
    squares = ((means[:, None] - means[None]) ** 2).sum(-1)
    costs = squares * (sizes[:, None] * sizes[None]) / (sizes[:, None] + sizes[None])
    np.fill_diagonal(costs, np.inf)
    results: dict[int, Rows] = {}
    for left in range(len(means), 0, -1):
        for count in counts:
            if count == left or (left == len(means) and count > left):
                results[count] = np.unique(group, return_inverse=True)[1].astype(np.int64)
        if left == min(counts):
            break
        first, second = sorted(divmod(int(costs.argmin()), len(means)))
        total = sizes[first] + sizes[second]
        means[first] = (sizes[first] * means[first] + sizes[second] * means[second]) / total
        sizes[first] = total
        group[group == second] = first
        costs[second], costs[:, second] = np.inf, np.inf
        alive = np.isfinite(costs[first])
        squares_of_first = ((means[alive] - means[first]) ** 2).sum(1)
        joined = squares_of_first * sizes[alive] * total / (sizes[alive] + total)
        costs[first, alive], costs[alive, first] = joined, joined
    return results


def largest_first(clusters: Rows) -> Rows:
    """The same clusters, numbered by size; of equal sizes the one of the first row comes first.

    >>> largest_first(np.array([5, 2, 2, 7]))
    array([1, 0, 0, 2])
    """
    _, first, inverse, sizes = np.unique(
        clusters, return_index=True, return_inverse=True, return_counts=True
    )
    rank = np.empty(len(sizes), np.int64)
    rank[np.lexsort((first, -sizes))] = np.arange(len(sizes))
    return rank[inverse]


def describe_clusters(
    rows: Tensor, clusters: Rows, labels: Rows | None = None, *, central: int = 5
) -> list[Cluster]:
    """Each cluster in the order of its number, with up to ``central`` of its most central images.

    Central: the highest cosine to the mean of the cluster's rows at unit length. Shapes: rows float
    [N, D], clusters int64 [N] from 0 without gaps, labels int64 [N] with -1 where unknown.

    >>> rows = torch.tensor([[1.0, 0.0], [1.0, 0.1], [1.0, 0.2], [0.0, 1.0]])
    >>> describe_clusters(rows, np.array([0, 0, 0, 1]), np.array([4, 4, -1, 2]), central=1)[0]
    Cluster(number=0, size=3, central=(1,), classes=((4, 1.0),))
    """
    unit = normalize(rows.float(), dim=1)
    order = np.argsort(clusters, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(clusters))[:-1])
    described = []
    for number, members in enumerate(parts):
        own = unit[torch.from_numpy(members)]
        cosines = (own @ own.mean(0)).numpy()
        best = members[np.argsort(-cosines, kind="stable")[:central]]
        described.append(Cluster(
            number=number, size=len(members), central=tuple(best.tolist()),
            classes=() if labels is None else class_shares(labels[members]),
        ))  # fmt: skip
    return described


def class_shares(labels: Rows) -> tuple[tuple[int, float], ...]:
    """(label, share among the labeled), the most frequent first, of equal ones the lower label.

    >>> class_shares(np.array([3, 1, 3, -1, 3]))
    ((3, 0.75), (1, 0.25))
    """
    known = labels[labels >= 0]
    values, counts = np.unique(known, return_counts=True)
    order = np.lexsort((values, -counts))
    return tuple((int(values[i]), float(counts[i] / len(known))) for i in order)


def largest_classes(
    classes: Sequence[tuple[int, float]], class_names: Sequence[str], *, number: int = 3
) -> str:
    """The first ``number`` of the classes with their shares.

    >>> largest_classes(((1, 0.5), (0, 0.3), (7, 0.2)), ["shirt", "dress"], number=2)
    'dress (50\\u202f%), shirt (30\\u202f%)'
    """
    return ", ".join(
        f"{class_names[label] if label < len(class_names) else label} ({100 * share:.0f}\u202f%)"
        for label, share in classes[:number]
    )


def majority(classes: Sequence[tuple[int, float]]) -> int | None:
    """The label of more than half of the labeled images; None where no class has so many.

    >>> majority(((3, 0.75), (1, 0.25))), majority(((0, 0.5), (2, 0.5))), majority(())
    (3, None, None)
    """
    return classes[0][0] if classes and classes[0][1] > 0.5 else None
