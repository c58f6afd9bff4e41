"""Exact nearest neighbors by cosine: the one search of them that there is."""

from __future__ import annotations

import torch
from torch import Tensor

from coview.core.errors import InvalidValue

CHUNK_NUMBERS = 2**24  # similarities in memory at a time: 64 MB


def neighbors(
    bank: Tensor, queries: Tensor, k: int, *, exclude: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The k rows of ``bank`` with the highest cosine to each query, nearest first.

    ``exclude`` is one row of the bank for each query that is not its neighbor: the query itself,
    if the queries are rows of the bank.

    Shapes: bank [N, D], queries [M, D], exclude int64 [M] -> cosines float32 [M, k'], rows int64
    [M, k'] with k' = min(k, N), or min(k, N - 1) with ``exclude``. Exact; of equal cosines the
    lower row comes first. Raises InvalidValue.

    >>> bank = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> neighbors(bank, torch.tensor([[2.0, 0.1]]), 2)[1]
    tensor([[0, 2]])
    >>> neighbors(bank, bank, 1, exclude=torch.arange(3))[1].flatten()
    tensor([2, 2, 0])
    """
    return nearest_unit_rows(_unit(bank), _unit(queries), k, exclude=exclude)


def nearest_unit_rows(
    bank: Tensor, queries: Tensor, k: int, *, exclude: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """What :func:`neighbors` says, of rows that have length 1 already, float32.

    >>> nearest_unit_rows(torch.eye(3), torch.eye(3)[2:], 1)[1]
    tensor([[2]])
    """
    if k < 1 or bank.ndim != 2 or queries.ndim != 2 or bank.shape[1] != queries.shape[1]:
        raise InvalidValue(
            f"`k` is {k}, `bank` is {tuple(bank.shape)} and `queries` are {tuple(queries.shape)}; "
            "expected k >= 1 and two matrices of one width."
        )
    k = min(k, len(bank) - (exclude is not None))
    chunk = max(1, CHUNK_NUMBERS // len(bank))
    values, rows = [], []
    for start in range(0, len(queries), chunk):
        cosines = queries[start : start + chunk] @ bank.T
        if exclude is not None:
            cosines.scatter_(1, exclude[start : start + chunk, None], -torch.inf)
        nearest = _nearest(cosines, k)
        values.append(nearest[0])
        rows.append(nearest[1])
    return torch.cat(values), torch.cat(rows)


def _unit(rows: Tensor) -> Tensor:
    return torch.nn.functional.normalize(rows.float(), dim=1)


def _nearest(similarity: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of every row with their columns; equal values by ascending column."""
    # topk takes any of the equal values at its end: sort a row whose next value is equal as well.
    # One value more says so; comparing all of them would read the matrix again.
    values, columns = similarity.topk(min(k + 1, similarity.shape[1]), dim=1)
    tied = (values[:, k:] >= values[:, k - 1 : k]).any(1)
    values, columns = values[:, :k].contiguous(), columns[:, :k].contiguous()
    if bool(tied.any()):
        ordered = similarity[tied].sort(dim=1, descending=True, stable=True)
        values[tied], columns[tied] = ordered.values[:, :k], ordered.indices[:, :k]
    columns, by_column = columns.sort(dim=1)
    values, by_value = values.gather(1, by_column).sort(dim=1, descending=True, stable=True)
    return values, columns.gather(1, by_value)
