"""Search by cosine among arrays of numpy, by one or more examples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from coview.core.errors import InvalidValue
from coview.embeddings.neighbors import nearest_unit_rows

Vectors = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

NEGATIVE_WEIGHT = 0.5
"""Of the mean negative example. Rocchio (1971) weighs it less than the mean positive one too."""


def unit_vectors(vectors: Vectors) -> Vectors:
    """The rows scaled to length 1, float32 [N, D]; a zero row stays zero.

    >>> unit_vectors(np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    vectors = np.asarray(vectors, dtype=np.float32)
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    scaled: Vectors = vectors / np.maximum(lengths, np.float32(1e-12))
    return scaled


def nearest_rows(unit: Vectors, queries: Vectors, k: int) -> tuple[Vectors, Rows]:
    """The ``k`` rows of ``unit`` with the highest cosine to each query, the nearest first.

    :func:`coview.embeddings.neighbors.nearest_unit_rows` for arrays of numpy.

    Shapes: unit [N, D] and queries [M, D], both of rows of length 1 -> cosines float32 [M, k'],
    rows int64 [M, k'] with k' = min(k, N). Raises InvalidValue.

    >>> unit = unit_vectors(np.array([[1, 0], [0, 1], [1, 1]], np.float32))
    >>> nearest_rows(unit, unit[:1], 2)[1]
    array([[0, 2]])
    """
    cosines, rows = nearest_unit_rows(torch.from_numpy(unit), torch.from_numpy(queries), k)
    return cosines.numpy(), rows.numpy()


def example_direction(positive: Vectors, negative: Vectors | None = None) -> Vectors:
    """The query of several examples, float32 [D] of length 1.

    The unit vector of mean(p / |p|) - 0.5 mean(n / |n|) over the positive examples p and the
    negative ones n. Of one positive example it is the unit vector of it.

    Shapes: positive [P, D], P >= 1; negative [Q, D]. Raises InvalidValue where the examples cancel.
    Source: Rocchio, "Relevance feedback in information retrieval", 1971.

    >>> example_direction(np.array([[2.0, 0.0]], np.float32)).tolist()
    [1.0, 0.0]
    """
    if len(positive) == 0:
        raise InvalidValue("There is no positive example; expected one or more.")
    direction = unit_vectors(positive).mean(axis=0)
    if negative is not None and len(negative):
        direction = direction - NEGATIVE_WEIGHT * unit_vectors(negative).mean(axis=0)
    if float(np.linalg.norm(direction)) < 1e-6:
        raise InvalidValue("The positive and the negative examples cancel; take other examples.")
    found: Vectors = unit_vectors(direction[None])[0]
    return found


def directions_of(
    positive: Vectors, negative: Vectors | None, *, together: bool
) -> tuple[Vectors, Sequence[Sequence[int]]]:
    """(queries [M, D], the examples of each): one query of all examples, or one of each.

    >>> directions_of(np.eye(2, dtype=np.float32), None, together=False)[1]
    [[0], [1]]
    """
    if together or (negative is not None and len(negative)):
        return example_direction(positive, negative)[None], [list(range(len(positive)))]
    return unit_vectors(positive), [[number] for number in range(len(positive))]
