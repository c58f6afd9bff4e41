"""Copies among images: the same pixels, or re-encoded, resized, cropped, flipped, retouched.

Three steps: pairs of equal pixel hashes; candidates (:mod:`coview.embeddings.candidates`, or the
neighbors by an encoder); and for each candidate the alignment of the two images, which decides
(:mod:`coview.embeddings.alignment`). Two photographs of different things before one background
agree as thumbnails, but not in their details.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from coview.core.images import ImageStore
from coview.core.machine import cores
from coview.core.progress import progress, say_when_slow
from coview.embeddings.candidates import Candidates, find_candidates, window_grid
from coview.embeddings.signatures import Signatures

SIMILAR = 0.75
"""Of a copy, chosen on known copies of CIFAR-10 and photographs (docs/duplicates.md)."""
BLOCK = 256
MIN_CROP, MIN_BRIGHTER, MIN_CHANGED = 0.97, 6.0, 0.01
COLOR_TINT = 8.0
NEIGHBORS = 8

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two rows that show one image. ``similarity``: 1 for equal pixels, else :data:`SIMILAR` or
    more. ``kind``: what distinguishes them, in words."""

    first: int
    second: int
    similarity: float
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Two or more rows connected by pairs. ``similarity``: that of its most similar pair.

    ``contradicts``: two rows have different labels. ``leaks``: two rows are of different parts,
    such as train and test.
    """

    rows: tuple[int, ...]
    pairs: tuple[Pair, ...]
    similarity: float
    contradicts: bool
    leaks: bool

    def best_pairs(self) -> dict[int, Pair]:
        """The most similar pair that each row is in; of equal ones the first."""
        best: dict[int, Pair] = {}
        for pair in self.pairs:
            for row in (pair.first, pair.second):
                if row not in best or pair.similarity > best[row].similarity:
                    best[row] = pair
        return best


def exact_groups(store: ImageStore) -> list[list[int]]:
    """Groups of two or more rows with the same size and pixels, each in order of row.

    By the hashes of the pixels that a store has: nothing is decoded.

    >>> from coview.core.images import store_from_arrays
    >>> exact_groups(store_from_arrays(np.zeros((3, 4, 4, 3), np.uint8)))
    [[0, 1, 2]]
    """
    return equal_rows(store.content, store.heights, store.widths)


def equal_rows(*columns: npt.NDArray[np.int64] | npt.NDArray[np.int32]) -> list[list[int]]:
    """Groups of two or more rows that are equal in all columns.

    >>> equal_rows(np.array([5, 7, 5]))
    [[0, 2]]
    """
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for row, image in enumerate(zip(*(each.tolist() for each in columns), strict=True)):
        groups[image].append(row)
    return [rows for rows in groups.values() if len(rows) > 1]


def find_pairs(
    images: Signatures, *, exact: Sequence[Sequence[int]] = (),
    sizes: npt.NDArray[np.int32] | None = None, vectors: Floats | None = None,
    threshold: float = SIMILAR,
) -> list[Pair]:  # fmt: skip
    """The pairs of rows that show one image, most similar first.

    ``exact``: groups of equal pixels (:func:`exact_groups`); the first row of each is compared
    with the others. ``sizes``: int32 [N, 2], for the words only. ``vectors``: float32 [N, D] of an
    encoder, whose nearest neighbors are candidates too; pixels decide about them as well.
    ``threshold``: the least similarity.

    >>> from coview.core.images import store_from_arrays
    >>> from coview.embeddings.signatures import signatures
    >>> blocks = np.random.default_rng(0).integers(0, 255, (2, 16, 16, 3), dtype=np.uint8)
    >>> image, other = blocks.repeat(4, 1).repeat(4, 2)
    >>> store = store_from_arrays([image, other, image[:, ::-1]])
    >>> [(pair.first, pair.second, pair.kind) for pair in find_pairs(signatures(store))]
    [(0, 2, 'flipped')]
    """
    pairs = [
        Pair(first=rows[0], second=row, similarity=1.0, kind="identical pixels")
        for rows in exact
        for row in rows[1:]
    ]
    surplus = {row for rows in exact for row in rows[1:]}
    kept = np.array([row for row in range(len(images)) if row not in surplus], np.int64)
    if len(kept) < 2:
        return pairs
    distinct = images.subset(kept) if surplus else images
    with progress("Comparing images", len(distinct)) as advance:
        candidates = find_candidates(distinct.gray, advance=advance)
    found = _judge(distinct, candidates)
    if vectors is not None:
        own = vectors[kept] if surplus else vectors
        found = _more(distinct, found, _vector_candidates(own))
    good = np.flatnonzero(found.similarity >= threshold)
    near = [found.pair(int(place), kept, sizes) for place in good]
    return pairs + sorted(near, key=lambda pair: (-pair.similarity, pair.first, pair.second))


def group_pairs(
    images: int, pairs: Sequence[Pair], *, labels: Rows | None = None, parts: Rows | None = None
) -> list[Group]:
    """Connected pairs as groups: those of contradicting labels first, then those that are in more
    than one part, then the others; most similar first.

    Shapes: labels int64 [N] with -1 for unknown, parts int64 [N].

    >>> pair = Pair(first=0, second=2, similarity=0.9, kind="flipped")
    >>> [group.rows for group in group_pairs(3, [pair])]
    [(0, 2)]
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    first = np.array([pair.first for pair in pairs], np.int64)
    second = np.array([pair.second for pair in pairs], np.int64)
    edges = coo_array((np.ones(len(pairs), np.int8), (first, second)), shape=(images, images))
    component = connected_components(edges, directed=False)[1]
    members: dict[int, list[Pair]] = defaultdict(list)
    for pair in pairs:
        members[int(component[pair.first])].append(pair)
    groups = []
    for own in members.values():
        rows = sorted({row for pair in own for row in (pair.first, pair.second)})
        known = set() if labels is None else set(labels[rows].tolist()) - {-1}
        own = sorted(own, key=lambda pair: (-pair.similarity, pair.first, pair.second))
        groups.append(
            Group(
                rows=tuple(rows), pairs=tuple(own), similarity=own[0].similarity,
                contradicts=len(known) > 1,
                leaks=parts is not None and len(set(parts[rows].tolist())) > 1,
            )
        )  # fmt: skip
    return sorted(groups, key=lambda g: (not g.contradicts, not g.leaks, -g.similarity, g.rows))


def group_column(images: int, groups: Sequence[Group]) -> Rows:
    """The number of the group of each row, from 1 in the order of ``groups``; 0 for none.

    >>> pair = Pair(first=0, second=2, similarity=0.9, kind="flipped")
    >>> group_column(3, group_pairs(3, [pair])).tolist()
    [1, 0, 1]
    """
    column = np.zeros(images, np.int64)
    for number, group in enumerate(groups, 1):
        column[list(group.rows)] = number
    return column


@dataclass(frozen=True, slots=True)
class _Judged:
    """Candidates with what the alignment found."""

    candidates: Candidates
    windows: npt.NDArray[np.float64]
    figures: Floats

    @property
    def similarity(self) -> Floats:
        from coview.embeddings.alignment import SIMILARITY

        similarity: Floats = self.figures[:, SIMILARITY]
        return similarity

    def pair(self, place: int, rows: Rows, sizes: npt.NDArray[np.int32] | None) -> Pair:
        first, second = int(self.candidates.first[place]), int(self.candidates.second[place])
        one, two = int(rows[first]), int(rows[second])
        words = _kind(
            self.figures[place], self.windows[place], bool(self.candidates.flips[place]),
            None if sizes is None else (sizes[one], sizes[two]),
        )  # fmt: skip
        return Pair(
            first=min(one, two), second=max(one, two),
            similarity=float(self.figures[place, 0]), kind=words,
        )  # fmt: skip


def _judge(images: Signatures, candidates: Candidates) -> _Judged:
    """Align all candidates, in as many threads as there are cores."""
    from coview.embeddings.alignment import FIGURES, compare_pairs

    windows = candidates.windows.copy()
    figures = np.zeros((len(candidates), FIGURES), np.float32)

    def work(start: int, stop: int) -> int:
        part = slice(start, stop)
        compare_pairs(
            images.gray, images.tints, candidates.first[part], candidates.second[part],
            candidates.flips[part], windows[part], figures[part],
        )  # fmt: skip
        return len(windows[part])

    with say_when_slow("The first alignment of pairs on a machine compiles it (1 to 2 min)."):
        work(0, 0)
    starts = range(0, len(candidates), BLOCK)
    with (
        progress("Aligning pairs", len(candidates), "pairs") as advance,
        ThreadPoolExecutor(cores()) as pool,
    ):
        for count in pool.map(work, starts, (start + BLOCK for start in starts)):
            advance(count)
    return _Judged(candidates, windows, figures)


def _vector_candidates(vectors: Floats) -> Candidates:
    """The nearest neighbors of each row by cosine, each with every first guess of its window."""
    import torch

    from coview.embeddings.neighbors import neighbors

    bank = torch.from_numpy(np.ascontiguousarray(vectors, np.float32))
    cosines, rows = neighbors(bank, bank, NEIGHBORS, exclude=torch.arange(len(bank)))
    first = np.repeat(np.arange(len(bank)), rows.shape[1])
    grid = np.array([window_grid()[place] for place in (0, 5, 14)])  # whole, middle 90 %, 80 %
    guesses = [(flip, window) for flip in (False, True) for window in grid]
    return Candidates(
        first=np.tile(first, len(guesses)),
        second=np.tile(rows.numpy().ravel(), len(guesses)),
        cosines=np.tile(cosines.numpy().ravel(), len(guesses)),
        flips=np.repeat([flip for flip, _ in guesses], len(first)),
        windows=np.repeat(np.array([window for _, window in guesses]), len(first), axis=0),
    )


def _more(images: Signatures, judged: _Judged, candidates: Candidates) -> _Judged:
    """``judged`` and the candidates that it does not have; each pair by its best alignment."""
    other = _judge(images, candidates)
    one, two = judged.candidates, candidates
    both = Candidates(
        first=np.concatenate([one.first, two.first]),
        second=np.concatenate([one.second, two.second]),
        cosines=np.concatenate([one.cosines, two.cosines]),
        flips=np.concatenate([one.flips, two.flips]),
        windows=np.concatenate([one.windows, two.windows]),
    )
    figures = np.concatenate([judged.figures, other.figures])
    windows = np.concatenate([judged.windows, other.windows])
    low, high = np.minimum(both.first, both.second), np.maximum(both.first, both.second)
    order = np.lexsort((-figures[:, 0], high, low))
    new = np.ones(len(order), np.bool_)
    new[1:] = (np.diff(low[order]) != 0) | (np.diff(high[order]) != 0)
    keep = order[new]
    return _Judged(
        Candidates(
            first=both.first[keep], second=both.second[keep], cosines=both.cosines[keep],
            flips=both.flips[keep], windows=both.windows[keep],
        ),
        windows[keep], figures[keep],
    )  # fmt: skip


def _kind(
    figures: Floats, window: npt.NDArray[np.float64], flip: bool,
    sizes: tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]] | None,
) -> str:  # fmt: skip
    """What distinguishes the two images of a pair, in words."""
    from coview.embeddings.alignment import GRAY_TINT

    _, changed, gain, shift, color_first, color_second = figures.tolist()
    words = ["flipped"] if flip else []
    height, width = float(min(window[1], 1)), float(min(window[3], 1))
    if min(height, width) < MIN_CROP:
        words.append(f"cropped to {height * width:.0%} of the area")
    if sizes is not None:
        expected = sizes[0] * np.array([height, width])
        if (np.abs(sizes[1] - expected) > 0.1 * np.maximum(sizes[1], expected)).any():
            words.append("resized")
    if abs(shift) > MIN_BRIGHTER or abs(np.log(max(gain, 1e-3))) > 0.1:
        words.append("of another brightness")
    if min(color_first, color_second) < GRAY_TINT and max(color_first, color_second) > COLOR_TINT:
        words.append("without color")
    if changed > MIN_CHANGED:
        words.append(f"changed in {changed:.0%} of the area")
    return ", ".join(words) or "re-encoded"
