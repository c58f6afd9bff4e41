"""Scores of how much an image belongs to the data: higher means more. Fitted on the data alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from coview.core.errors import InvalidValue

ROWS = 4096  # in float64 at a time


def knn_score(cosines: Tensor) -> Tensor:
    """Minus the distance of unit-length rows to the last of their neighbors: [M, k] -> [M].

    ``cosines`` to the k nearest images of the bank, nearest first. Source: Sun et al.,
    "Out-of-distribution detection with deep nearest neighbors", 2022, section 3 (all of the bank).

    >>> knn_score(torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
    tensor([-1.4142, -0.0000])
    """
    return -(2 - 2 * cosines[:, -1]).clamp(min=0).sqrt()


def cosine_norm(cosines: Tensor, rows: Tensor) -> Tensor:
    """The highest cosine to an image of the bank, times the length of the row: [M].

    Shapes: cosines [M, k], nearest first, rows [M, D]. Source: Tack et al., "CSI: novelty detection
    via contrastive learning on distributionally shifted instances", 2020, section 2.3 (there of z
    before it is scaled to unit length).

    >>> cosine_norm(torch.tensor([[0.8]]), torch.tensor([[3.0, 4.0]]))
    tensor([4.])
    """
    lengths: Tensor = torch.linalg.vector_norm(rows, dim=1)
    return cosines[:, 0] * lengths


def max_softmax(logits: Tensor) -> Tensor:
    """The largest probability: [M, C] -> [M].

    Source: Hendrycks and Gimpel, "A baseline for detecting misclassified and out-of-distribution
    examples in neural networks", 2017.

    >>> max_softmax(torch.zeros(1, 4))
    tensor([0.2500], dtype=torch.float64)
    """
    return torch.softmax(logits.double(), 1).amax(1)


def energy(logits: Tensor) -> Tensor:
    """Minus the energy at temperature 1, the log of the sum of exp(logits): [M, C] -> [M].

    Source: Liu et al., "Energy-based out-of-distribution detection", 2020, section 3.

    >>> energy(torch.zeros(1, 4))
    tensor([1.3863], dtype=torch.float64)
    """
    return torch.logsumexp(logits.double(), 1)


@dataclass(frozen=True, slots=True, eq=False)
class Scaling:
    """Rows to unit length, then each dimension to mean 0 and deviation 1 of the bank (float64).

    A dimension that is constant in the bank becomes 0.
    """

    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, bank: Tensor) -> Self:
        mean = sum_over(unit(part).sum(0) for part in torch.split(bank, ROWS)) / len(bank)
        variance = sum_over(((unit(part) - mean) ** 2).sum(0) for part in torch.split(bank, ROWS))
        deviation = (variance / len(bank)).sqrt()
        return cls(mean, deviation.masked_fill(deviation <= 1e-9, torch.inf))

    def parts(self, rows: Tensor) -> Iterator[Tensor]:
        """The scaled rows, ``ROWS`` at a time."""
        for part in torch.split(rows, ROWS):
            yield (unit(part) - self.mean) / self.deviation


@dataclass(frozen=True, slots=True, eq=False)
class Gaussians:
    """Normal distributions of scaled rows: means [C, D] and whitening maps [C, D, R], or [1, D, R]
    where all share one covariance. float64."""

    scaling: Scaling
    means: Tensor
    whitenings: Tensor

    @classmethod
    def fit(cls, bank: Tensor, groups: Tensor | None = None, *, shared: bool = True) -> Self:
        """The mean of each group and the covariance within the groups, or of each of them.

        The covariance is the biased one (divided by the number of rows); its inverse is the
        pseudo-inverse. Without ``groups`` all rows are one: SSD's score without labels. Source:
        Sehwag, Chiang and Mittal, "SSD: a unified framework for self-supervised outlier
        detection", 2021, section 3 and code (scale to unit length, standardize, then this);
        with ``groups`` and ``shared`` Lee et al., "A simple unified framework for detecting
        out-of-distribution samples and adversarial attacks", 2018, section 2.1.

        Shapes: bank [N, D], groups int64 [N] in 0 .. C-1, none empty. Raises InvalidValue for a
        group of its own covariance with fewer than D + 1 rows.

        >>> bank = torch.randn(500, 4, generator=torch.Generator().manual_seed(0))
        >>> near, far = Gaussians.fit(bank + 5).nearest(torch.tensor([[5.0] * 4, [-5.0] * 4]))
        >>> bool(near < far)
        True
        """
        groups = torch.zeros(len(bank), dtype=torch.int64) if groups is None else groups
        scaling, sizes = Scaling.of(bank), groups.bincount()
        width, count = bank.shape[1], len(sizes)
        if not shared and int(sizes.min()) <= width:
            raise InvalidValue(
                f"A cluster has {int(sizes.min())} images, and its covariance of {width} "
                f"dimensions needs more than {width}; take fewer `clusters` than {count}."
            )
        means = torch.zeros(count, width, dtype=torch.float64)
        for part, of in zip(scaling.parts(bank), torch.split(groups, ROWS), strict=True):
            means.index_add_(0, of, part)
        means /= sizes[:, None]
        if len(bank) < width and shared:
            centered = torch.cat(list(scaling.parts(bank))) - means[groups]
            return cls(scaling, means, whitening_of_rows(centered)[None])
        scatter = torch.zeros(1 if shared else count, width, width, dtype=torch.float64)
        for part, of in zip(scaling.parts(bank), torch.split(groups, ROWS), strict=True):
            centered = part - means[of]
            if shared:
                scatter[0].addmm_(centered.T, centered)
                continue
            for group in range(count):
                members = centered[of == group]
                scatter[group].addmm_(members.T, members)
        sizes = torch.tensor([len(bank)]) if shared else sizes
        return cls(scaling, means, whitening(scatter / sizes[:, None, None]))

    def distances(self, rows: Tensor) -> Tensor:
        """The squared Mahalanobis distance of each row to each mean: [M, D] -> [M, C]."""
        return torch.cat([self._distances(part) for part in self.scaling.parts(rows)])

    def nearest(self, rows: Tensor) -> Tensor:
        """The smallest of :meth:`distances`: [M, D] -> [M]."""
        return self.distances(rows).amin(1)

    def _distances(self, part: Tensor) -> Tensor:
        if len(self.whitenings) == 1:  # one map for all means: whiten the rows once
            rows, means = (values @ self.whitenings[0] for values in (part, self.means))
            mode = "donot_use_mm_for_euclid_dist"  # which would lose half of the digits
            return torch.cdist(rows, means, compute_mode=mode).square()
        pairs = zip(self.means, self.whitenings, strict=True)
        return torch.stack([((part - mean) @ own).square().sum(1) for mean, own in pairs], 1)


def kmeans_groups(bank: Tensor, clusters: int, *, seed: int = 0) -> Tensor:
    """The k-means cluster of each scaled row, int64 [N]. Raises InvalidValue unless 1 .. N."""
    if not 1 <= clusters <= len(bank):
        raise InvalidValue(
            f"`clusters` is {clusters}; expected 1 to the number of images, {len(bank)}."
        )
    from sklearn.cluster import KMeans  # slow to import

    scaled = torch.cat([part.float() for part in Scaling.of(bank).parts(bank)])
    # The best of 10 starts by the sum of distances within the bank, which no test image enters.
    found = KMeans(clusters, n_init=10, random_state=seed % 2**32).fit_predict(scaled.numpy())
    return torch.from_numpy(found).long()


def whitening(covariances: Tensor) -> Tensor:
    """W [C, D, D] with W W^T the pseudo-inverse of each covariance [C, D, D].

    Directions with an eigenvalue of at most D times the rounding error of the largest are left
    out, as by torch.linalg.pinv.
    """
    values: Tensor
    vectors: Tensor
    values, vectors = torch.linalg.eigh(covariances)
    floor = covariances.shape[1] * torch.finfo(values.dtype).eps * values[:, -1:]
    scales = torch.where(values > floor, values.clamp(min=1e-300).rsqrt(), torch.zeros_like(values))
    return vectors * scales[:, None, :]


def whitening_of_rows(rows: Tensor) -> Tensor:
    """The same map [D, N] of the covariance of ``rows`` [N, D], whose mean is 0; N < D.

    It has at most N directions, so that the eigenvectors of X X^T / N, an [N, N] matrix, do.
    """
    values: Tensor
    vectors: Tensor
    values, vectors = torch.linalg.eigh(rows @ rows.T / len(rows))
    floor = rows.shape[1] * torch.finfo(values.dtype).eps * values[-1]
    scales = torch.where(values > floor, 1 / values.clamp(min=1e-300), torch.zeros_like(values))
    whitening: Tensor = rows.T @ (vectors * scales) / len(rows) ** 0.5
    return whitening


def unit(rows: Tensor) -> Tensor:
    """Rows of unit length in float64; a row of zeros stays."""
    return torch.nn.functional.normalize(rows.double(), dim=1)


def sum_over(parts: Iterator[Tensor]) -> Tensor:
    """The sum of one or more tensors."""
    total = next(parts).clone()
    for part in parts:
        total += part
    return total
