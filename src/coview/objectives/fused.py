"""The log partition as two Triton kernels for a GPU: tiles stay on the chip.

The equations of ``log_partition``, for anchors A [A, D] and candidates C [C, D]:

    lse_i = log sum_j exp(S_ij)        W_ij = exp(S_ij - lse_i) g_i        S = scale A C^T
    dL/dA = scale W C                  dL/dC = scale W^T A

and for one set of rows on both sides the sum of both gradients, with one exponential. A program
holds a block of rows, loops over all keys and writes its rows once. There are no atomic additions,
so every call gives the same bits. Products are in full float32, as in the tiles; a running maximum
makes every temperature safe.

Import it only where it is used: Triton exists for Linux only.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 64  # rows of a program, and keys of one of its steps
MIN_DOT_WIDTH = 16  # the smallest width of tl.dot


def partition(anchors: Tensor, candidates: Tensor, scale: float, own: Tensor | None) -> Tensor:
    """lse [A] over all candidates except ``own`` int64 [A]; -inf without candidates."""
    lse = anchors.new_empty(len(anchors))
    _launch(_partition_kernel, anchors, candidates, lse, scale, own)
    return lse


def to_anchors(
    anchors: Tensor, candidates: Tensor, scale: float, own: Tensor | None, lse: Tensor, g: Tensor
) -> Tensor:
    """dL/dA [A, D] from g = dL/dlse [A]; lse is inf, not -inf, for an anchor without candidates."""
    return _gradient(anchors, candidates, scale, own, lse, g, by_row=True, by_key=False)


def to_candidates(
    anchors: Tensor, candidates: Tensor, scale: float, own: Tensor | None, lse: Tensor, g: Tensor
) -> Tensor:
    """dL/dC [C, D]."""
    return _gradient(candidates, anchors, scale, own, lse, g, by_row=False, by_key=True)


def to_rows(rows: Tensor, scale: float, own: Tensor, lse: Tensor, g: Tensor) -> Tensor:
    """dL/dZ [M, D] where the rows Z are anchors and candidates, and own is 0 .. M - 1."""
    return _gradient(rows, rows, scale, own, lse, g, by_row=True, by_key=True)


def _gradient(
    rows: Tensor, keys: Tensor, scale: float, own: Tensor | None, lse: Tensor, g: Tensor, *,
    by_row: bool, by_key: bool,
) -> Tensor:  # fmt: skip
    gradient = rows.new_empty(rows.shape)
    _launch(
        _gradient_kernel, rows, keys, gradient, scale, own, lse, g.contiguous(),
        BY_ROW=by_row, BY_KEY=by_key,
    )  # fmt: skip
    return gradient


def _launch(
    kernel: Any, rows: Tensor, keys: Tensor, result: Tensor, scale: float, own: Tensor | None,
    *more: Tensor, **flags: bool,
) -> None:  # fmt: skip
    if len(rows) == 0:
        return
    width = rows.shape[1]
    # Triton launches on the current device, which may not be that of the rows.
    with torch.cuda.device_of(rows):  # type: ignore[no-untyped-call]
        kernel[(triton.cdiv(len(rows), BLOCK),)](
            rows.contiguous(), keys.contiguous(), result,
            result if own is None else own.contiguous(),
            *more, scale, len(rows), len(keys),
            WIDTH=width, PADDED=max(MIN_DOT_WIDTH, triton.next_power_of_2(width)),
            HAS_OWN=own is not None, BLOCK=BLOCK, **flags,
        )  # fmt: skip


@triton.jit
def _block(source, first, count, WIDTH: tl.constexpr, PADDED: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """Rows first .. first + BLOCK [BLOCK, PADDED], zero beyond the last row and column."""
    indices = first + tl.arange(0, BLOCK)
    columns = tl.arange(0, PADDED)
    at = source + indices.to(tl.int64)[:, None] * WIDTH + columns[None, :]
    return tl.load(at, mask=(indices < count)[:, None] & (columns < WIDTH)[None, :], other=0.0)


@triton.jit
def _logits(  # type: ignore[no-untyped-def]
    row_block, keys, start, num_keys, scale,
    WIDTH: tl.constexpr, PADDED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The keys from ``start`` on: indices, rows, and S, which is -inf beyond the last key."""
    key = start + tl.arange(0, BLOCK)
    key_block = _block(keys, start, num_keys, WIDTH, PADDED, BLOCK)
    logits = tl.dot(row_block, tl.trans(key_block), input_precision="ieee") * scale
    return key, key_block, tl.where((key < num_keys)[None, :], logits, -float("inf"))


@triton.jit
def _partition_kernel(  # type: ignore[no-untyped-def]
    rows, keys, lse, own, scale, num_rows, num_keys,
    WIDTH: tl.constexpr, PADDED: tl.constexpr, HAS_OWN: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    first = tl.program_id(0) * BLOCK
    row = first + tl.arange(0, BLOCK)
    row_block = _block(rows, first, num_rows, WIDTH, PADDED, BLOCK)
    highest = tl.full([BLOCK], -float("inf"), tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    if HAS_OWN:
        row_own = tl.load(own + row, mask=row < num_rows, other=-1)
    for start in range(0, num_keys, BLOCK):
        key, _, logits = _logits(row_block, keys, start, num_keys, scale, WIDTH, PADDED, BLOCK)
        if HAS_OWN:
            logits = tl.where(key[None, :] == row_own[:, None], -float("inf"), logits)
        top = tl.maximum(highest, tl.max(logits, 1))
        # Before the first key that counts, exp(-inf + inf) would be NaN.
        base = tl.where(top == -float("inf"), 0.0, top)
        total = total * tl.exp(highest - base) + tl.sum(tl.exp(logits - base[:, None]), 1)
        highest = top
    # Without keys highest is -inf and total 0: lse is -inf too.
    result = highest + tl.log(tl.where(total == 0.0, 1.0, total))
    tl.store(lse + row, result, mask=row < num_rows)


@triton.jit
def _gradient_kernel(  # type: ignore[no-untyped-def]
    rows, keys, gradient, own, lse, g, scale, num_rows, num_keys,
    WIDTH: tl.constexpr, PADDED: tl.constexpr, HAS_OWN: tl.constexpr, BLOCK: tl.constexpr,
    BY_ROW: tl.constexpr, BY_KEY: tl.constexpr,
):  # fmt: skip
    """gradient_r = scale sum_k [exp(S_rk - lse_r) g_r if BY_ROW + the same of k if BY_KEY] key_k.

    ``lse``, ``g`` and ``own`` belong to the anchors: the rows if BY_ROW, else the keys.
    """
    first = tl.program_id(0) * BLOCK
    row = first + tl.arange(0, BLOCK)
    row_block = _block(rows, first, num_rows, WIDTH, PADDED, BLOCK)
    if BY_ROW:
        row_lse = tl.load(lse + row, mask=row < num_rows, other=float("inf"))
        row_g = tl.load(g + row, mask=row < num_rows, other=0.0)
        if HAS_OWN:
            row_own = tl.load(own + row, mask=row < num_rows, other=-1)
    total = tl.zeros([BLOCK, PADDED], tl.float32)
    for start in range(0, num_keys, BLOCK):
        key, key_block, logits = _logits(
            row_block, keys, start, num_keys, scale, WIDTH, PADDED, BLOCK
        )
        if HAS_OWN:
            if BY_ROW:
                logits = tl.where(key[None, :] == row_own[:, None], -float("inf"), logits)
            else:
                key_own = tl.load(own + key, mask=key < num_keys, other=-1)
                logits = tl.where(row[:, None] == key_own[None, :], -float("inf"), logits)
        weights = tl.zeros([BLOCK, BLOCK], tl.float32)
        if BY_ROW:
            weights += tl.exp(logits - row_lse[:, None]) * row_g[:, None]
        if BY_KEY:
            key_lse = tl.load(lse + key, mask=key < num_keys, other=float("inf"))
            key_g = tl.load(g + key, mask=key < num_keys, other=0.0)
            weights += tl.exp(logits - key_lse[None, :]) * key_g[None, :]
        total += tl.dot(weights, key_block, input_precision="ieee")
    columns = tl.arange(0, PADDED)
    at = gradient + row.to(tl.int64)[:, None] * WIDTH + columns[None, :]
    inside = (row < num_rows)[:, None] & (columns < WIDTH)[None, :]
    tl.store(at, total * scale, mask=inside)
