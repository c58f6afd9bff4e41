"""The memory of keys: a queue as a value, and the module that holds its rows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from coview.core.errors import InvalidValue
from coview.core.rng import Stream, stream_seed

UNKNOWN_ID = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """The last ``length`` >= 1 keys are negatives of every query (MoCo, section 3.2).

    Raises InvalidValue.

    >>> Queue(length=4096)
    Queue(length=4096)
    """

    length: int

    def __post_init__(self) -> None:
        if self.length < 1:
            raise InvalidValue(f"The queue has `length` {self.length}; expected at least 1 key.")


class KeyQueue(nn.Module):
    """``length`` unit rows [K, D] with the ids of their images; new keys replace the oldest.

    Starts with random unit rows, as MoCo does; their ids are -1. Everything is a buffer, so it is
    saved with the run and restored by a resume.
    """

    rows: Tensor
    ids: Tensor
    pointer: Tensor

    def __init__(self, length: int, width: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(stream_seed(seed, Stream.INIT, "queue"))
        rows = torch.randn(length, width, generator=generator)
        self.register_buffer("rows", normalize(rows, dim=1))
        self.register_buffer("ids", torch.full((length,), UNKNOWN_ID, dtype=torch.int64))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def push(self, keys: Tensor, ids: Tensor) -> None:
        """Replace the oldest rows by the last K of ``keys`` [N, D], of images ``ids`` [N]."""
        length = len(self.rows)
        rows, row_ids = normalize(keys.to(self.rows.dtype), dim=1)[-length:], ids[-length:]
        places = (self.pointer + torch.arange(len(rows), device=self.pointer.device)) % length
        self.rows[places] = rows
        self.ids[places] = row_ids
        self.pointer.copy_((self.pointer + len(rows)) % length)
