"""Pairs of images that may be copies: whitened thumbnails of whole images and of windows in them.

A copy is a window of its original, perhaps flipped. So every image is compared as a whole with 19
windows of every other, and with their mirror images: a crop of up to 20 % is close to one of them.
Whitening takes away what the images of this data have in common, such as a background: without
it a cosine of 0.97 of two thumbnails is ordinary.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from coview.core.progress import Advance

FREQUENCIES = 8
"""Of the cosine transform along each axis: wavelengths down to a quarter of a side."""
CELLS = 16
DIMENSIONS = 48
PRIOR_IMAGES = 200
"""What the spectrum of natural images counts for beside that of the data."""
THRESHOLD = 0.7
BEST = 8
CHUNK = 1024
SCALES = (1.0, 0.9, 0.8)

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Window = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """Pairs: image ``second`` may be the given window of image ``first``.

    Shapes: first, second int64 [P]; cosines float32 [P]; flips bool [P]; windows float64 [P, 4]
    (top, height, left, width in sides, after the flip).
    """

    first: Rows
    second: Rows
    cosines: Floats
    flips: npt.NDArray[np.bool_]
    windows: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.first)


def window_grid() -> list[Window]:
    """The whole image, and 9 windows of 90 % and of 80 % of the sides."""
    grid: list[Window] = []
    for scale in SCALES:
        starts = (0.0, (1 - scale) / 2, 1 - scale) if scale < 1 else (0.0,)
        grid += [(top, scale, left, scale) for top in starts for left in starts]
    return grid


def find_candidates(
    gray: npt.NDArray[np.uint8], *, threshold: float = THRESHOLD, best: int = BEST,
    advance: Advance | None = None,
) -> Candidates:  # fmt: skip
    """The pairs of different images of which a window has a cosine above ``threshold``.

    Every ordered pair is compared. An image keeps its ``best`` candidates, each with the window of
    the highest cosine; of the two orders of a pair the one with the higher cosine stays.

    Shapes: gray uint8 [N, 64, 64]. ``advance`` is called with the number of images done.

    >>> images = np.random.default_rng(0).integers(0, 255, (3, 8, 8)).repeat(8, 1).repeat(8, 2)
    >>> images[2] = images[0, :, ::-1]
    >>> pairs = find_candidates(images.astype(np.uint8))
    >>> pairs.first.tolist(), pairs.second.tolist(), pairs.flips.tolist()
    ([0], [2], [True])
    """
    whitening = _Whitening.of(gray)
    bank = whitening.project(_spectrum(gray, (0.0, 1.0, 0.0, 1.0)))
    grid = window_grid()
    parts = []
    for start in range(0, len(gray), CHUNK):
        rows = np.arange(start, min(start + CHUNK, len(gray)))
        parts.append(_best_hits(gray[rows], rows, bank, whitening, grid, threshold, best))
        if advance is not None:
            advance(len(rows))
    first, second, cosines, variants = (np.concatenate(each) for each in zip(*parts, strict=True))
    keep = _highest_of_each(np.minimum(first, second), np.maximum(first, second), cosines)
    variants = variants[keep]
    flips = variants >= len(grid)
    windows = np.array(grid, np.float64).reshape(-1, 4)[variants % len(grid)]
    windows[flips, 2] = 1 - windows[flips, 2] - windows[flips, 3]
    return Candidates(
        first=first[keep], second=second[keep], cosines=cosines[keep], flips=flips, windows=windows
    )


Hits = tuple[Rows, Rows, Floats, Rows]


def _best_hits(
    gray: npt.NDArray[np.uint8], rows: Rows, bank: Floats, whitening: _Whitening,
    grid: list[Window], threshold: float, best: int,
) -> Hits:  # fmt: skip
    """The ``best`` hits of each of ``rows``, kept after every variant: of many copies of one image
    all hits would fill the memory."""
    none = np.zeros(0, np.int64)
    kept: Hits = (none, none, np.zeros(0, np.float32), none)
    # The least cosine of each row that can be among its best.
    least = np.full(len(rows), np.nextafter(np.float32(threshold), np.float32(2)))
    for place, window in enumerate(grid):
        spectrum = _spectrum(gray, window)
        for flip in (False, True):
            if flip:
                spectrum[:, :, 1::2] *= -1
            cosines = whitening.project(spectrum) @ bank.T
            cosines[np.arange(len(rows)), rows] = -1
            first, second = np.divmod(_places(cosines, least, best), len(bank))
            if not len(first):
                continue
            variant = np.full(len(first), place + flip * len(grid))
            kept = _best(
                (
                    np.concatenate([kept[0], rows[first]]),
                    np.concatenate([kept[1], second]),
                    np.concatenate([kept[2], cosines[first, second]]),
                    np.concatenate([kept[3], variant]),
                ),
                best,
            )
            full, starts = _full_rows(kept[0], best)
            least[full - rows[0]] = kept[2][starts + best - 1]
    return kept


def _places(cosines: Floats, least: Floats, best: int) -> Rows:
    """The places, in a flat matrix, of the cosines that are at least ``least`` of their row; where
    they are many, of each row the ``best`` alone (of equal ones those of the lower columns)."""
    good = cosines >= least[:, None]
    if np.count_nonzero(good) > best * len(good):
        for row in np.flatnonzero(good.sum(axis=1) > best).tolist():
            values = cosines[row]
            last = np.partition(values, -best)[-best]
            good[row] = values > last
            equal = np.flatnonzero(values == last)
            good[row, equal[: best - np.count_nonzero(good[row])]] = True
    # One pass over memory; the places are few.
    return np.flatnonzero(good)


def _full_rows(first: Rows, best: int) -> tuple[Rows, Rows]:
    """The images that have ``best`` hits, and the place of the first hit of each; ``first`` is
    ascending."""
    images, starts, counts = np.unique(first, return_index=True, return_counts=True)
    return images[counts == best], starts[counts == best]


def _best(hits: Hits, best: int) -> Hits:
    """The best variant of each ordered pair, and of those the ``best`` of each first image."""
    keep = _highest_of_each(hits[0], hits[1], hits[2])
    keep = keep[np.lexsort((-hits[2][keep], hits[0][keep]))]
    first = hits[0][keep]
    starts = np.flatnonzero(np.r_[True, first[1:] != first[:-1]]) if len(first) else first
    rank = np.arange(len(first)) - np.repeat(starts, np.diff(np.r_[starts, len(first)]))
    keep = keep[rank < best]
    return hits[0][keep], hits[1][keep], hits[2][keep], hits[3][keep]


def _highest_of_each(first: Rows, second: Rows, values: Floats) -> Rows:
    """The place of the highest value of every pair, in order of the pairs."""
    order = np.lexsort((-values, second, first))
    first, second = first[order], second[order]
    new = np.ones(len(order), np.bool_)
    new[1:] = (first[1:] != first[:-1]) | (second[1:] != second[:-1])
    return order[new]


def _spectrum(gray: npt.NDArray[np.uint8], window: Window) -> Floats:
    """Low frequencies of a window of each image, float32 [N, 8, 8]."""
    side = gray.shape[1]
    down, right = _transform(*window[:2], side), _transform(*window[2:], side)
    spectra = np.empty((len(gray), FREQUENCIES, FREQUENCIES), np.float32)
    for start in range(0, len(gray), CHUNK):
        part = gray[start : start + CHUNK].astype(np.float32)
        spectra[start : start + CHUNK] = down @ part @ right.T
    return spectra


def _transform(start: float, scale: float, side: int) -> Floats:
    """Pixels of an axis -> cosine transform of the means of 16 cells of a window, [8, side]."""
    edges = (start + scale * np.arange(CELLS + 1) / CELLS) * side
    pixels = np.arange(side)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    overlap = np.maximum(overlap, 0)
    cells = overlap / overlap.sum(axis=1, keepdims=True)
    angles = np.pi * np.arange(FREQUENCIES)[:, None] * (np.arange(CELLS) + 0.5) / CELLS
    transform = np.cos(angles) * np.sqrt(2 / CELLS)
    transform[0] /= np.sqrt(2)
    matrix: Floats = (transform @ cells).astype(np.float32)
    return matrix


@dataclass(frozen=True, slots=True)
class _Whitening:
    mean: Floats
    matrix: Floats

    @classmethod
    def of(cls, gray: npt.NDArray[np.uint8]) -> _Whitening:
        """The whitening of the principal directions of the images.

        The covariance is drawn towards the 1/f^2 spectrum of natural images, so that few images,
        or many copies of one, do not make their own noise into a direction.
        """
        units = _units(_spectrum(gray, (0.0, 1.0, 0.0, 1.0)))
        mean = units.mean(axis=0)
        frequencies = np.arange(FREQUENCIES)
        power = (frequencies[:, None] ** 2 + frequencies**2).ravel()[1:]
        prior = (1 / power) / (1 / power).sum()
        scatter = (units - mean).T @ (units - mean) + PRIOR_IMAGES * np.diag(prior)
        values, directions = np.linalg.eigh(scatter.astype(np.float64) / (len(gray) + PRIOR_IMAGES))
        chosen = np.argsort(-values)[:DIMENSIONS]
        matrix = directions[:, chosen] / np.sqrt(values[chosen])
        return cls(mean.astype(np.float32), matrix.astype(np.float32))

    def project(self, spectra: Floats) -> Floats:
        """Unit vectors float32 [N, 48]."""
        return _unit((_units(spectra) - self.mean) @ self.matrix)


def _units(spectra: Floats) -> Floats:
    """Without the mean gray level and with unit length: light and contrast do not count."""
    return _unit(spectra.reshape(len(spectra), -1)[:, 1:])


def _unit(rows: npt.NDArray[np.floating]) -> Floats:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Floats = (rows / np.maximum(lengths, 1e-6)).astype(np.float32, copy=False)
    return unit
