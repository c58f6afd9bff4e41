"""The log partition as two Triton kernels for a GPU: no tile ever reaches its memory.

The mathematics of ``log_partition_between``, for anchors A [A, D] and candidates C [C, D]:

    lse_i = log sum_j exp(S_ij)        W_ij = exp(S_ij - lse_i) g_i        S = scale A C^T
    dL/dA = scale W C                  dL/dC = scale W^T A

and for one set of rows on both sides the sum of both gradients, with one exponential. A program
holds a block of rows, walks along all keys and writes its rows once: nothing is added atomically,
so the result is the same bits every time. Products are of full float32, as on the other path; a
running maximum makes every temperature safe.

Import only where it is used: Triton exists for Linux alone.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 64  # rows of a program, and keys of one of its steps
LEAST_WIDTH = 16  # of a matrix product


def partition(anchors: Tensor, candidates: Tensor, scale: float, own: Tensor | None) -> Tensor:
    """lse [A] over all candidates but ``own`` int64 [A]; -inf for an anchor without any."""
    lse = anchors.new_empty(len(anchors))
    _launch(_partition, anchors, candidates, lse, scale, own)
    return lse


def to_anchors(
    anchors: Tensor, candidates: Tensor, scale: float, own: Tensor | None, lse: Tensor, g: Tensor
) -> Tensor:
    """dL/dA [A, D] from g = dL/dlse [A]; lse is inf, not -inf, for an anchor without candidate."""
    return _pulled(anchors, candidates, scale, own, lse, g, by_row=True, by_key=False)


def to_candidates(
    anchors: Tensor, candidates: Tensor, scale: float, own: Tensor | None, lse: Tensor, g: Tensor
) -> Tensor:
    """dL/dC [C, D]."""
    return _pulled(candidates, anchors, scale, own, lse, g, by_row=False, by_key=True)


def to_rows(rows: Tensor, scale: float, own: Tensor, lse: Tensor, g: Tensor) -> Tensor:
    """dL/dZ [M, D] where anchors and candidates are the rows Z, and own is 0 .. M - 1."""
    return _pulled(rows, rows, scale, own, lse, g, by_row=True, by_key=True)


def _pulled(
    rows: Tensor,
    keys: Tensor,
    scale: float,
    own: Tensor | None,
    lse: Tensor,
    g: Tensor,
    *,
    by_row: bool,
    by_key: bool,
) -> Tensor:
    gradient = rows.new_empty(rows.shape)
    say = (lse, g.contiguous())
    _launch(_pull, rows, keys, gradient, scale, own, *say, BY_ROW=by_row, BY_KEY=by_key)
    return gradient


def _launch(
    kernel: Any, rows: Tensor, keys: Tensor, into: Tensor, scale: float, own: Tensor | None,
    *more: Tensor, **flags: bool,
) -> None:  # fmt: skip
    if len(rows) == 0:
        return
    width = rows.shape[1]
    # Triton launches on the current device, wherever the rows are.
    with torch.cuda.device_of(rows):  # type: ignore[no-untyped-call]
        kernel[(triton.cdiv(len(rows), BLOCK),)](
            rows.contiguous(), keys.contiguous(), into, into if own is None else own.contiguous(),
            *more, scale, len(rows), len(keys),
            WIDTH=width, PADDED=max(LEAST_WIDTH, triton.next_power_of_2(width)),
            HAS_OWN=own is not None, BLOCK=BLOCK, **flags,
        )  # fmt: skip


@triton.jit
def _block(source, first, count, WIDTH: tl.constexpr, PADDED: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """Rows first .. first + BLOCK [BLOCK, PADDED], zero where there are none."""
    places = first + tl.arange(0, BLOCK)
    columns = tl.arange(0, PADDED)
    at = source + places.to(tl.int64)[:, None] * WIDTH + columns[None, :]
    return tl.load(at, mask=(places < count)[:, None] & (columns < WIDTH)[None, :], other=0.0)


@triton.jit
def _against(  # type: ignore[no-untyped-def]
    mine, keys, start, num_keys, scale,
    WIDTH: tl.constexpr, PADDED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The keys from ``start`` on: their places, their rows, and S, -inf beyond the last key."""
    key = start + tl.arange(0, BLOCK)
    theirs = _block(keys, start, num_keys, WIDTH, PADDED, BLOCK)
    logits = tl.dot(mine, tl.trans(theirs), input_precision="ieee") * scale
    return key, theirs, tl.where((key < num_keys)[None, :], logits, -float("inf"))


@triton.jit
def _partition(  # type: ignore[no-untyped-def]
    rows, keys, lse, own, scale, num_rows, num_keys,
    WIDTH: tl.constexpr, PADDED: tl.constexpr, HAS_OWN: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    first = tl.program_id(0) * BLOCK
    row = first + tl.arange(0, BLOCK)
    mine = _block(rows, first, num_rows, WIDTH, PADDED, BLOCK)
    highest = tl.full([BLOCK], -float("inf"), tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    if HAS_OWN:
        left_out = tl.load(own + row, mask=row < num_rows, other=-1)
    for start in range(0, num_keys, BLOCK):
        key, _, logits = _against(mine, keys, start, num_keys, scale, WIDTH, PADDED, BLOCK)
        if HAS_OWN:
            logits = tl.where(key[None, :] == left_out[:, None], -float("inf"), logits)
        top = tl.maximum(highest, tl.max(logits, 1))
        # Nothing seen so far: exp(-inf + inf) would be NaN.
        base = tl.where(top == -float("inf"), 0.0, top)
        total = total * tl.exp(highest - base) + tl.sum(tl.exp(logits - base[:, None]), 1)
        highest = top
    # Without a key highest is -inf and total 0: lse is -inf too.
    found = highest + tl.log(tl.where(total == 0.0, 1.0, total))
    tl.store(lse + row, found, mask=row < num_rows)


@triton.jit
def _pull(  # type: ignore[no-untyped-def]
    rows, keys, gradient, own, lse, g, scale, num_rows, num_keys,
    WIDTH: tl.constexpr, PADDED: tl.constexpr, HAS_OWN: tl.constexpr, BLOCK: tl.constexpr,
    BY_ROW: tl.constexpr, BY_KEY: tl.constexpr,
):  # fmt: skip
    """gradient_r = scale sum_k [exp(S_rk - lse_r) g_r if BY_ROW + the same of k if BY_KEY] key_k.

    ``lse``, ``g`` and ``own`` are of the anchors, which are the rows, or else the keys.
    """
    first = tl.program_id(0) * BLOCK
    row = first + tl.arange(0, BLOCK)
    mine = _block(rows, first, num_rows, WIDTH, PADDED, BLOCK)
    if BY_ROW:
        row_lse = tl.load(lse + row, mask=row < num_rows, other=float("inf"))
        row_g = tl.load(g + row, mask=row < num_rows, other=0.0)
        if HAS_OWN:
            left_out = tl.load(own + row, mask=row < num_rows, other=-1)
    found = tl.zeros([BLOCK, PADDED], tl.float32)
    for start in range(0, num_keys, BLOCK):
        key, theirs, logits = _against(mine, keys, start, num_keys, scale, WIDTH, PADDED, BLOCK)
        if HAS_OWN:
            if BY_ROW:
                logits = tl.where(key[None, :] == left_out[:, None], -float("inf"), logits)
            else:
                of_key = tl.load(own + key, mask=key < num_keys, other=-1)
                logits = tl.where(row[:, None] == of_key[None, :], -float("inf"), logits)
        weights = tl.zeros([BLOCK, BLOCK], tl.float32)
        if BY_ROW:
            weights += tl.exp(logits - row_lse[:, None]) * row_g[:, None]
        if BY_KEY:
            key_lse = tl.load(lse + key, mask=key < num_keys, other=float("inf"))
            key_g = tl.load(g + key, mask=key < num_keys, other=0.0)
            weights += tl.exp(logits - key_lse[None, :]) * key_g[None, :]
        found += tl.dot(weights, theirs, input_precision="ieee")
    columns = tl.arange(0, PADDED)
    at = gradient + row.to(tl.int64)[:, None] * WIDTH + columns[None, :]
    inside = (row < num_rows)[:, None] & (columns < WIDTH)[None, :]
    tl.store(at, found * scale, mask=inside)
