"""Products of rows with rows, a tile at a time: what the set objectives never hold whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from coview.core.errors import InvalidValue

PairLogWeights = Callable[[slice, slice], Tensor]
"""(anchor rows, key rows) -> log w [anchors, keys]; -inf leaves a pair out."""

# 1024 x 1024 floats lie in a third-level cache. Smaller tiles are up to a tenth faster on an idle
# machine, but their many short operations wait for each other where loader threads want the cores.
# A GPU wants few large products instead.
CPU_TILE, DEVICE_TILE = 1024, 4096


def tile_size(rows: Tensor, asked: int | None = None) -> int:
    """The side of the tiles: what was asked for, or what suits the device of ``rows``."""
    return asked or (CPU_TILE if rows.device.type == "cpu" else DEVICE_TILE)


def slices(count: int, size: int) -> list[slice]:
    """0 .. count in pieces of ``size``, the last one shorter."""
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


class Rectangles:
    """Iterates over the tiles (a, c, scale A[a] C[c]^T), -inf at every anchor's own candidate.

    Shapes: anchors [A, D], candidates [C, D], own int64 [A] (an index into the candidates) or None.
    All tiles share one buffer: a tile is gone once the next is asked for.
    """

    def __init__(
        self, anchors: Tensor, candidates: Tensor, scale: float, own: Tensor | None, size: int
    ) -> None:
        self.anchors, self.candidates, self.scale = anchors, candidates, scale
        self.own, self.size = own, size

    def __iter__(self) -> Iterator[tuple[slice, slice, Tensor]]:
        rows, columns = (
            slices(len(self.anchors), self.size),
            slices(len(self.candidates), self.size),
        )
        buffer = self.anchors.new_empty(
            min(self.size, len(self.anchors)) * min(self.size, len(self.candidates))
        )
        for a in rows:
            for c in columns:
                height, width = a.stop - a.start, c.stop - c.start
                tile = buffer[: height * width].view(height, width)
                torch.addmm(
                    tile, self.anchors[a], self.candidates[c].T, beta=0, alpha=self.scale, out=tile
                )
                if self.own is not None:
                    _leave_out(tile, self.own[a] - c.start)
                yield a, c, tile


def _leave_out(tile: Tensor, columns: Tensor) -> None:
    """-inf into one column of every row, where the tile has that column; no wait for the device."""
    inside = (columns >= 0) & (columns < tile.shape[1])
    places = columns.clamp(0, tile.shape[1] - 1)[:, None]
    tile.scatter_(1, places, tile.gather(1, places).masked_fill_(inside[:, None], -torch.inf))


def refuse_second_derivative() -> None:
    """Raises InvalidValue inside a backward pass that itself is to be differentiated."""
    if torch.is_grad_enabled():
        raise InvalidValue(
            "The contrastive objectives have first derivatives only; "
            "call backward without create_graph=True."
        )
