"""Which images to label next: strategies that choose rows of vectors, each with its reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import normalize

from coview.core.errors import InvalidValue, UnknownName
from coview.core.progress import progress
from coview.core.text import plural
from coview.embeddings.clusters import kmeans
from coview.embeddings.neighbors import nearest_unit_rows

DEMAND = 20_000
"""Rows that facility location covers; of more rows so many are drawn."""
MAX_CLUSTERS = 500
"""Clusters of `typical`, as in TypiClust."""
TYPICAL_NEIGHBORS, MIN_CLUSTER = 20, 5
GAIN_CHUNK = 256
"""Candidates whose gains are computed at a time: 20 MB for 20,000 rows to cover."""

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Choice:
    """A chosen row, and in words why it was chosen; of coverage they are known at the end.

    ``mean_distance``: of all rows to their nearest chosen one from then on, by cosine; only
    coverage knows it.
    """

    row: int
    reason: str = ""
    mean_distance: float | None = None


Strategy = Callable[[Tensor, Rows, int, int], Iterator[Choice]]
"""(unit rows [N, D], labeled rows, number, seed) -> choices in their order, at least ``number``."""


def select_rows(
    rows: Tensor, number: int, strategy: str, *, labeled: Rows | None = None, seed: int = 0
) -> list[Choice]:
    """``number`` rows to label next, in the order in which to label them.

    ``labeled`` rows count as chosen: they are covered already and are not chosen again.

    coverage: facility location. Each choice lowers the mean cosine distance of all rows to their
    nearest chosen one most (greedy: Nemhauser et al., "An analysis of approximations for maximizing
    submodular set functions", 1978). Above 20,000 rows the mean is over that number of them, drawn
    by ``seed``.
    k-center: each choice is the row farthest from all chosen ones (Gonzalez 1985; Sener and
    Savarese, "Active learning for convolutional neural networks: a core-set approach", 2018).
    typical: k-means into as many clusters as labels, at most 500; the largest cluster with the
    fewest labels gives the row with the smallest mean distance to its 20 nearest within the cluster
    (TypiClust: Hacohen et al., "Active learning on a budget", 2022).
    diverse: k-means into sqrt(number) clusters, each of which gives a share by its size: its most
    central row first, then the row of the cluster farthest from the chosen ones.
    random: drawn by ``seed``.

    The clusters of typical and diverse depend on ``number``; of the others a longer selection
    begins with every shorter one. Memory grows as N. Shapes: rows float
    [N, D], labeled int64. Raises InvalidValue, UnknownName.

    >>> rows = torch.eye(3).repeat_interleave(torch.tensor([5, 3, 1]), 0)
    >>> [choice.row for choice in select_rows(rows, 3, "coverage")]
    [0, 5, 8]
    """
    require_strategy(strategy)
    labeled = np.unique(np.asarray([] if labeled is None else labeled, np.int64))
    left = len(rows) - len(labeled)
    if not 1 <= number <= left:
        rest = f", of which {len(labeled):,} are labeled" if len(labeled) else ""
        raise InvalidValue(
            f"`number` is {number:,}; there are {len(rows):,} images{rest}: expected 1 to {left:,}."
        )
    choices: list[Choice] = []
    found = STRATEGIES[strategy](normalize(rows.float(), dim=1), labeled, number, seed)
    with progress("Choosing", number) as advance:
        for choice in found:
            choices.append(choice)
            advance()
            if len(choices) == number:
                break
    return with_shares(choices, rows, labeled, seed) if strategy == "coverage" else choices


def with_shares(choices: list[Choice], rows: Tensor, labeled: Rows, seed: int) -> list[Choice]:
    """The choices, each with the share of the rows whose nearest chosen or labeled one it is: a
    later choice takes rows from an earlier one. Without labeled rows the shares add up to 1."""
    unit = normalize(rows.float(), dim=1)
    demand = rows_to_cover(unit, seed)
    bank = np.concatenate([labeled, [choice.row for choice in choices]]).astype(np.int64)
    nearest = nearest_unit_rows(unit[torch.from_numpy(bank)], demand, 1)[1][:, 0].numpy()
    shares = np.bincount(nearest, minlength=len(bank))[len(labeled) :] / len(demand)
    reasons = [f"stands for {_percent(share)} of the images" for share in shares.tolist()]
    if not len(labeled):
        reasons[0] = f"the most central of all images; {reasons[0]}"
    return [replace(choice, reason=reason) for choice, reason in zip(choices, reasons, strict=True)]


def rows_to_cover(unit: Tensor, seed: int) -> Tensor:
    """All rows, or of more than 20,000 that number of them, drawn by ``seed``."""
    if len(unit) <= DEMAND:
        return unit
    drawn = np.random.default_rng(seed).choice(len(unit), DEMAND, replace=False)
    return unit[torch.from_numpy(np.sort(drawn))]


def require_strategy(name: str) -> None:
    """Raise UnknownName where there is no such strategy."""
    if name not in STRATEGIES:
        raise UnknownName("strategy", name, STRATEGIES)


def nearest_cosines(unit: Tensor, bank: Tensor) -> Tensor:
    """The cosine of each row to its nearest row of ``bank``, float32 [N]; -1 where it is empty."""
    if not len(bank):
        return torch.full((len(unit),), -1.0)
    return nearest_unit_rows(bank, unit, 1)[0][:, 0]


def by_k_center(unit: Tensor, labeled: Rows, number: int, seed: int) -> Iterator[Choice]:
    """The row farthest from all chosen ones; without any, the one nearest to the mean first."""
    taken = torch.from_numpy(labeled)
    best = nearest_cosines(unit, unit[taken])
    best[taken] = torch.inf
    if not len(labeled):
        row = int((unit @ unit.mean(0)).numpy().argmax())
        yield Choice(row, "the most central of all images")
        best = unit @ unit[row]
        best[row] = torch.inf
    while True:
        row = int(best.numpy().argmin())
        yield Choice(row, f"farthest from all chosen before (cosine distance {1 - best[row]:.2f})")
        torch.maximum(best, unit @ unit[row], out=best)
        best[row] = torch.inf


def by_coverage(unit: Tensor, labeled: Rows, number: int, seed: int) -> Iterator[Choice]:
    """Greedy facility location; the gains are upper bounds, renewed only where they decide.

    A gain only falls as rows are chosen. So a row whose renewed gain is the highest of all bounds
    is the best (Minoux, "Accelerated greedy algorithms", 1978).
    """
    demand = rows_to_cover(unit, seed)
    covered = nearest_cosines(demand, unit[torch.from_numpy(labeled)])
    bounds = (len(demand) + unit @ demand.sum(0)).numpy()  # of the first: the sum of 1 + cosine
    bounds[labeled] = -np.inf
    while True:
        row = _best_gain(unit, demand, covered, bounds)
        torch.maximum(covered, demand @ unit[row], out=covered)
        yield Choice(row, mean_distance=1 - float(covered.mean()))
        bounds[row] = -np.inf


def _best_gain(unit: Tensor, demand: Tensor, covered: Tensor, bounds: Floats) -> int:
    """The row of the highest gain. Renews ``bounds`` in place, the highest ones first."""
    is_fresh = np.zeros(len(unit), bool)
    width = 32
    while not is_fresh[row := int(bounds.argmax())]:
        stale = np.where(is_fresh, -np.inf, bounds)
        block = np.argsort(-stale, kind="stable")[:width]
        block = block[np.isfinite(stale[block])]
        for start in range(0, len(block), GAIN_CHUNK):
            part = block[start : start + GAIN_CHUNK]
            cosines = demand @ unit[torch.from_numpy(part)].T
            gains = (cosines - covered[:, None]).clamp_min_(0).sum(0)
            bounds[part] = gains.numpy()
        is_fresh[block] = True
        width *= 2
    return row


def by_typicality(unit: Tensor, labeled: Rows, number: int, seed: int) -> Iterator[Choice]:
    """The most typical row of the largest cluster with the fewest labels."""
    clusters = kmeans(unit, min(len(labeled) + number, MAX_CLUSTERS, len(unit)), seed=seed)
    sizes = np.bincount(clusters)
    labels = np.bincount(clusters[labeled], minlength=len(sizes))
    queues: dict[int, list[int]] = {}
    left = set(range(len(sizes)))
    while left:
        cluster = min(left, key=lambda n: (sizes[n] < MIN_CLUSTER, labels[n], -sizes[n]))
        if cluster not in queues:
            queues[cluster] = _most_typical(unit, np.flatnonzero(clusters == cluster), labeled)
        if not queues[cluster]:
            left.remove(cluster)
            continue
        has = plural(int(labels[cluster]), "label") if labels[cluster] else "no label yet"
        size = plural(int(sizes[cluster]), "image")
        reason = f"the most typical without a label in a cluster of {size}, which has {has}"
        yield Choice(queues[cluster].pop(0), reason)
        labels[cluster] += 1


def _most_typical(unit: Tensor, members: Rows, labeled: Rows) -> list[int]:
    """The members without a label, by their mean cosine to their 20 nearest, the highest first."""
    free = np.setdiff1d(members, labeled)
    if len(members) < 2 or not len(free):
        return [int(row) for row in free]
    bank = unit[torch.from_numpy(members)]
    own = torch.from_numpy(np.searchsorted(members, free))
    cosines, _ = nearest_unit_rows(bank, bank[own], TYPICAL_NEIGHBORS, exclude=own)
    order = np.argsort(-cosines.mean(1).numpy(), kind="stable")
    return [int(row) for row in free[order]]


def by_diversity(unit: Tensor, labeled: Rows, number: int, seed: int) -> Iterator[Choice]:
    """From each cluster a share by its size: the most central row, then those farthest apart."""
    clusters = kmeans(unit, min(len(unit), max(2, round(number**0.5))), seed=seed)
    sizes = np.bincount(clusters)
    taken = np.bincount(clusters[labeled], minlength=len(sizes)).astype(np.float64)
    free = sizes - taken
    choices: dict[int, Iterator[Choice]] = {}
    members: dict[int, Rows] = {}
    while True:
        # The cluster whose share is filled least; (2 taken + 1) / size is Sainte-Lague's rule.
        share = np.where(free > 0, (2 * taken + 1) / sizes, np.inf)
        cluster = int(share.argmin())
        if cluster not in choices:
            members[cluster] = np.flatnonzero(clusters == cluster)
            own = np.searchsorted(members[cluster], labeled[clusters[labeled] == cluster])
            part = unit[torch.from_numpy(members[cluster])]
            choices[cluster] = by_k_center(part, own, number, seed)
        choice = next(choices[cluster])
        inside = f"in a cluster of {plural(int(sizes[cluster]), 'image')}: {choice.reason}"
        yield Choice(int(members[cluster][choice.row]), inside.replace("all images", "them"))
        taken[cluster] += 1
        free[cluster] -= 1


def by_chance(unit: Tensor, labeled: Rows, number: int, seed: int) -> Iterator[Choice]:
    """Rows in a random order."""
    order = np.random.default_rng(seed).permutation(len(unit))
    for row in order[~np.isin(order, labeled)].tolist():
        yield Choice(row, "drawn at random")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share >= 0.001 else "less than 0.1 %"


STRATEGIES: Mapping[str, Strategy] = {
    "coverage": by_coverage,
    "typical": by_typicality,
    "diverse": by_diversity,
    "k-center": by_k_center,
    "random": by_chance,
}
