"""Exact cosine nearest neighbors, and classification by their vote."""

from __future__ import annotations

import torch
from torch import Tensor

from coview.core.errors import InvalidValue

CHUNK_NUMBERS = 2**24  # similarities held at a time: 64 MB


def neighbors(bank: Tensor, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k rows of ``bank`` with the highest cosine to each query, nearest first.

    Shapes: bank [N, D], queries [M, D] -> cosines float32 [M, k'], rows int64 [M, k'] with
    k' = min(k, N). Exact; equal cosines go to the lower row. Raises InvalidValue.
    """
    if k < 1 or bank.ndim != 2 or queries.ndim != 2 or bank.shape[1] != queries.shape[1]:
        raise InvalidValue(
            f"Neighbors were asked for k = {k}, bank {tuple(bank.shape)} and queries "
            f"{tuple(queries.shape)}; expected k >= 1 and two matrices of one width."
        )
    bank, queries = _unit(bank), _unit(queries)
    k = min(k, len(bank))
    chunk = max(1, CHUNK_NUMBERS // len(bank))
    found = [_nearest(part @ bank.T, k) for part in torch.split(queries, chunk)]
    return torch.cat([values for values, _ in found]), torch.cat([rows for _, rows in found])


def vote(cosines: Tensor, classes: Tensor, count: int, temperature: float | None) -> Tensor:
    """The class with most votes among each query's neighbors.

    A neighbor's vote weighs exp(cosine / temperature), or 1 where temperature is None. Of equally
    placed classes the one with the nearest neighbor wins.

    Shapes: cosines [M, k] nearest first, classes int64 [M, k] in 0 .. count-1 -> int64 [M].
    """
    if temperature is None:
        weights = torch.ones_like(cosines)
    elif temperature > 0:
        weights = ((cosines - cosines[:, :1]) / temperature).exp()  # the nearest weighs 1
    else:
        raise InvalidValue(f"The temperature of the vote is {temperature}; it must be above 0.")
    scores = cosines.new_zeros(len(cosines), count).scatter_add_(1, classes, weights)
    leading = scores == scores.amax(1, keepdim=True)
    nearest_leading = leading.gather(1, classes).int().argmax(1)
    return classes.gather(1, nearest_leading[:, None])[:, 0]


def knn_accuracies(
    bank: Tensor,
    bank_labels: Tensor,
    queries: Tensor,
    query_labels: Tensor,
    *,
    settings: tuple[tuple[int, float | None], ...],
) -> list[float]:
    """Share of queries whose label the vote finds, for each setting (k, temperature or None).

    Shapes: bank [N, D], queries [M, D], labels int64 [N], [M] of any values; a label that the bank
    does not hold is never found. A k above N uses all N. Neighbors are searched once.
    """
    names, classes = torch.unique(bank_labels, return_inverse=True)
    cosines, rows = neighbors(bank, queries, max(k for k, _ in settings))
    result = []
    for k, temperature in settings:
        chosen = vote(cosines[:, :k], classes[rows[:, :k]], len(names), temperature)
        result.append(float((names[chosen] == query_labels).double().mean()))
    return result


def knn_accuracy(
    bank: Tensor,
    bank_labels: Tensor,
    queries: Tensor,
    query_labels: Tensor,
    *,
    k: int = 20,
    temperature: float | None = 0.07,
) -> float:
    """As :func:`knn_accuracies` for one setting; temperature None counts every vote as one."""
    setting = ((k, temperature),)
    return knn_accuracies(bank, bank_labels, queries, query_labels, settings=setting)[0]


def _unit(rows: Tensor) -> Tensor:
    return torch.nn.functional.normalize(rows.float(), dim=1)


def _nearest(similarity: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of every row with their columns; equal values by ascending column."""
    values, columns = similarity.topk(k, dim=1)
    # topk takes any of the equal values at its end: where there are more, sort the whole row.
    crowded = (similarity >= values[:, -1:]).sum(1) > k
    if bool(crowded.any()):
        ordered = similarity[crowded].sort(dim=1, descending=True, stable=True)
        values[crowded], columns[crowded] = ordered.values[:, :k], ordered.indices[:, :k]
    columns, by_column = columns.sort(dim=1)
    values, by_value = values.gather(1, by_column).sort(dim=1, descending=True, stable=True)
    return values, columns.gather(1, by_value)
