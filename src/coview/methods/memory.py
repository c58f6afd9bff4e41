"""The memory of keys: a queue as a value, and the rows that it holds."""

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
    """The last ``length`` >= 1 keys are negatives of every query (MoCo, section 3.2)."""

    length: int

    def __post_init__(self) -> None:
        if self.length < 1:
            raise InvalidValue(f"The queue has length {self.length}; expected at least 1 key.")


class KeyQueue(nn.Module):
    """``length`` unit rows [K, D] with the ids of their images; the oldest are overwritten.

    Begins with random unit rows, as MoCo does, whose ids are -1. Everything is a buffer, so that
    it is saved with the run and the same after a resume.
    """

    rows: Tensor
    ids: Tensor
    place: Tensor

    def __init__(self, length: int, width: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(stream_seed(seed, Stream.INIT, "queue"))
        rows = torch.randn(length, width, generator=generator)
        self.register_buffer("rows", normalize(rows, dim=1))
        self.register_buffer("ids", torch.full((length,), UNKNOWN_ID, dtype=torch.int64))
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def push(self, keys: Tensor, ids: Tensor) -> None:
        """Replace the oldest rows by ``keys`` [N, D], of images ``ids`` [N]; the last K of them."""
        length = len(self.rows)
        new, owners = normalize(keys.to(self.rows.dtype), dim=1)[-length:], ids[-length:]
        places = (self.place + torch.arange(len(new), device=self.place.device)) % length
        self.rows[places] = new
        self.ids[places] = owners
        self.place.copy_((self.place + len(new)) % length)
