"""The InfoNCE loss: a query finds its own key among negatives."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from coview.core.errors import InvalidValue
from coview.core.ranks import SINGLE_PROCESS, Ranks
from coview.objectives.gathered import share_of_mean
from coview.objectives.inputs import (
    Temperature,
    check_rows,
    checked_temperature,
    integers,
    normalize_rows,
    working_dtype,
)
from coview.objectives.log_partition import PairLogWeights, log_partition

UNKNOWN = -1


def info_nce(
    query: Tensor,
    key: Tensor,
    *,
    negatives: Tensor | None = None,
    temperature: Temperature,
    ids: Tensor | None = None,
    negative_ids: Tensor | None = None,
    ranks: Ranks = SINGLE_PROCESS,
) -> Tensor:
    """InfoNCE: the mean over all queries q_i, with own key k_i and negatives n, of

        l_i = -log [ exp(q_i . k_i / tau) / (exp(q_i . k_i / tau) + sum_n exp(q_i . n / tau)) ]

    Without ``negatives`` these are the keys of the other queries, on all ranks. An image is never
    its own negative: ``ids`` are the images of the queries, and a negative with the same id (an
    image twice in the batch, or still in the queue) is left out; -1 is unknown and never left out.
    A query without remaining negatives gives 0 with zero gradient.

    Shapes: query and key [B, D], negatives [K, D] with K >= 0, any floating type; rows are
    normalized here; ids integer [B], negative_ids integer [K] -> scalar in float32 (float64 for
    float64). Equal embeddings give ln(K + 1). Gradient flows to all three that require it: detach
    keys that are not to learn. One direction only: for a symmetric loss average two calls. Memory
    O((B + K) D).

    With ``ranks`` query and key are this rank's images. ``negatives`` are not gathered, because a
    queue is the same on all ranks. The mean of the ranks' values is the loss of the whole batch.
    Raises InvalidValue.

    Source: van den Oord et al., "Representation learning with contrastive predictive coding", 2018,
    equation 4; with a queue He et al., "Momentum contrast for unsupervised visual representation
    learning", CVPR 2020, equation 1.

    >>> import torch
    >>> rows = torch.eye(4)
    >>> info_nce(rows[:2], rows[:2], negatives=rows[2:], temperature=0.5)  # -log(e^2 / (e^2 + 2))
    tensor(0.2395)
    """
    temperature = checked_temperature(temperature)
    _check(query, key, negatives, ids, negative_ids, may_be_empty=not ranks.is_single)
    ids = _checked_ids(ids, "ids", query)
    negative_ids = _checked_ids(negative_ids, "negative_ids", negatives)
    inputs = [query, key] if negatives is None else [query, key, negatives]
    dtype = working_dtype(*inputs)
    query, key, *rest = (normalize_rows(rows.to(dtype)) for rows in inputs)
    sizes = ranks.sizes(len(query))
    own = None
    if rest:
        candidates = rest[0]
    else:
        candidates, first = ranks.gather(key, sizes), sum(sizes[: ranks.rank])
        own = torch.arange(first, first + len(key), device=key.device)
        negative_ids = None if ids is None else ranks.gather(ids, sizes)
    with torch.autocast(query.device.type, enabled=False):
        logsumexp_neg = log_partition(
            query, temperature, candidates=candidates, own=own,
            log_weights=_other_images(ids, negative_ids, query),
        )  # fmt: skip
        logit_gap = logsumexp_neg - (query * key).sum(1) / temperature
        # log(1 + e^x) is x beyond the threshold; its default of 20 would lose 2e-9.
        return share_of_mean(F.softplus(logit_gap, threshold=40), sum(sizes), ranks)


def _other_images(
    ids: Tensor | None, negative_ids: Tensor | None, query: Tensor
) -> PairLogWeights | None:
    """-inf where a negative shows the query's image, 0 elsewhere."""
    if ids is None or negative_ids is None:
        return None
    zero = query.new_zeros(())

    def log_weights(anchors: slice, keys: slice) -> Tensor:
        assert negative_ids is not None
        same = ids[anchors, None] == negative_ids[keys]
        return zero.masked_fill(same & (negative_ids[keys] != UNKNOWN), -torch.inf)

    return log_weights


def _check(
    query: Tensor, key: Tensor, negatives: Tensor | None, ids: Tensor | None,
    negative_ids: Tensor | None, *, may_be_empty: bool,
) -> None:  # fmt: skip
    check_rows(query, "query", (None, None))
    if query.shape[1] == 0 or (len(query) == 0 and not may_be_empty):
        raise InvalidValue(f"`query` has shape {tuple(query.shape)}; it must not be empty.")
    check_rows(key, "key", (len(query), query.shape[1]))
    if negatives is not None:
        check_rows(negatives, "negatives", (None, query.shape[1]))
        if (ids is None) != (negative_ids is None):
            raise InvalidValue(
                "With `negatives`, pass both `ids` and `negative_ids`, or neither of them."
            )
    elif negative_ids is not None:
        raise InvalidValue("`negative_ids` are the images of `negatives`, and these are None.")


def _checked_ids(ids: Any, name: str, rows: Tensor | None) -> Tensor | None:
    if ids is None or rows is None:
        return None
    numbers = integers(ids, name, rows.device)
    if numbers.shape != (len(rows),):
        raise InvalidValue(
            f"`{name}` have the shape {tuple(numbers.shape)}; expected one integer for each of "
            f"{len(rows)} rows, -1 where unknown."
        )
    return numbers
